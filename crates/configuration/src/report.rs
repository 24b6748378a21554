//! What was found wrong with a file, shown to people: place, message, the line with a marker, and what to do.
//!
//! Plain text without colours, the same on every terminal and in every log.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_saphyr::Location;

/// A report names so many findings in full and only counts the rest.
const MAX_SHOWN: usize = 50;
/// Longer messages are cut, in characters: they repeat names of the file, which may be of any length.
const MAX_MESSAGE_CHARS: usize = 600;
/// Longer lines are cut around the marker, in characters.
const MAX_LINE_CHARS: usize = 120;
/// What stays visible before the marker of a cut line, in characters.
const CUT_LEAD_CHARS: usize = 40;

/// The configuration cannot be used. Its text is a complete report of one or more findings, several lines long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError {
    report: String,
    mistakes: Vec<Mistake>,
    count: usize,
}

/// One thing that is wrong, for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mistake {
    /// From 1; nothing where it stands nowhere in the file.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub line: Option<usize>,
    /// From 1, in characters.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub column: Option<usize>,
    /// What was expected, and what was found.
    pub message: String,
    /// What to write instead.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub help: Option<String>,
    /// The key or word that was most likely meant.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub nearest: Option<String>,
}

impl LoadError {
    /// The exit code of a process that refuses its configuration.
    pub const EXIT_CODE: u8 = 2;

    /// The first 50 things that are wrong, in the order of the file.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }

    /// How many things are wrong; at least 1.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Renders findings in the order of the file; those without a line come first.
    pub(crate) fn new(source_name: &str, text: &str, mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| match finding.origin {
            Origin::File(place) => (place.line, place.column),
            Origin::Flag(_) | Origin::Default => (0, 0),
        });
        let shown = findings.iter().take(MAX_SHOWN).map(|finding| finding.render(source_name, text));
        let mut report = shown.collect::<Vec<_>>().join("\n");
        if let Some(more @ 1..) = findings.len().checked_sub(MAX_SHOWN) {
            report.push_str(&format!("\nand {more} more\n"));
        }
        report.truncate(report.trim_end().len());
        let mistakes = findings.iter().take(MAX_SHOWN).map(Finding::mistake).collect();
        Self { report, mistakes, count: findings.len() }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.report)
    }
}

impl std::error::Error for LoadError {}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) origin: Origin,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody wrote it.
    Default,
    /// This command-line option.
    Flag(&'static str),
    /// The file.
    File(Place),
}

/// A place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// From 1.
    pub(crate) line: usize,
    /// From 1, in characters.
    pub(crate) column: usize,
    /// How many characters the marker covers; 0 counts as 1.
    pub(crate) length: usize,
}

impl Origin {
    /// The line of the file; 0 where it stands in none.
    pub(crate) fn line(self) -> usize {
        match self {
            Self::File(place) => place.line,
            Self::Default | Self::Flag(_) => 0,
        }
    }
}

impl From<Location> for Origin {
    fn from(location: Location) -> Self {
        let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        let place = Place {
            line: number(location.line()),
            column: number(location.column()),
            length: number(location.span().len()),
        };
        if place.line == 0 { Self::Default } else { Self::File(place) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("by default"),
            Self::Flag(flag) => formatter.write_str(flag),
            Self::File(place) => write!(formatter, "line {}", place.line),
        }
    }
}

impl Finding {
    fn mistake(&self) -> Mistake {
        let place = match self.origin {
            Origin::File(place) => Some(place),
            Origin::Flag(_) | Origin::Default => None,
        };
        let help = self.help.as_deref();
        let nearest = help.and_then(|help| help.strip_prefix("did you mean `")?.strip_suffix("`?"));
        Mistake {
            line: place.map(|place| place.line),
            column: place.map(|place| place.column),
            message: self.shown_message(),
            help: help.map(str::to_owned),
            nearest: nearest.map(str::to_owned),
        }
    }

    fn shown_message(&self) -> String {
        let mut message = printable(&self.message);
        if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE_CHARS) {
            message.truncate(end);
            message.push('…');
        }
        message
    }

    fn render(&self, source_name: &str, text: &str) -> String {
        let message = self.shown_message();
        let mut out = match self.origin {
            Origin::Default => format!("{source_name}: {message}\n"),
            Origin::Flag(flag) => format!("{flag}: {message}\n"),
            Origin::File(place) => {
                let head = format!("{source_name}:{}:{}: {message}\n", place.line, place.column);
                head + &excerpt(text, place)
            }
        };
        for line in self.help.iter().flat_map(|help| help.lines()).enumerate() {
            match line {
                (0, line) => out.push_str(&format!("help: {}\n", printable(line))),
                (_, line) => out.push_str(&format!("    {}\n", printable(line))),
            }
        }
        out
    }
}

/// The line, and beneath it a marker.
fn excerpt(text: &str, place: Place) -> String {
    let line: Vec<char> = line(text, place.line).chars().map(visible).collect();
    let start = place.column.saturating_sub(1).min(line.len());
    let cut = line.len() > MAX_LINE_CHARS;
    let from = if cut { start.saturating_sub(CUT_LEAD_CHARS) } else { 0 };
    let to = if cut { from.saturating_add(MAX_LINE_CHARS).min(line.len()) } else { line.len() };
    let length = place.length.clamp(1, to.saturating_sub(start).max(1));
    let (lead, trail) = (if from > 0 { "…" } else { "" }, if to < line.len() { "…" } else { "" });

    let number = place.line.to_string();
    let shown: String = line[from..to].iter().collect();
    // A tab takes as many columns in the padding as it does in the line.
    let padding: String =
        line[from..start].iter().map(|&char| if char == '\t' { '\t' } else { ' ' }).collect();
    format!(
        "  {number} | {lead}{}{trail}\n  {:width$} | {:lead_width$}{padding}{}\n",
        shown.trim_end(),
        "",
        "",
        "^".repeat(length),
        width = number.len(),
        lead_width = lead.chars().count(),
    )
}

/// That line without its end; YAML ends lines with LF, CR LF or CR (YAML 1.2.2, section 5.4).
fn line(text: &str, number: usize) -> &str {
    let mut rest = text;
    for _ in 1..number {
        let Some(end) = rest.find(['\n', '\r']) else { return "" };
        let width = if rest[end..].starts_with("\r\n") { 2 } else { 1 };
        rest = &rest[end + width..];
    }
    &rest[..rest.find(['\n', '\r']).unwrap_or(rest.len())]
}

/// A file may carry escape sequences; a terminal must never see them.
fn printable(text: &str) -> String {
    text.chars().map(visible).collect()
}

fn visible(char: char) -> char {
    if char.is_control() && char != '\t' { '\u{fffd}' } else { char }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Plain strings, since the indentation of an excerpt is what is tested.
    fn check(text: &str, line: usize, column: usize, length: usize, expected: &str) {
        assert_eq!(excerpt(text, Place { line, column, length }), expected);
    }

    #[test]
    fn the_marker_stands_under_the_text() {
        check("a: 1\r\n\tb: é: x\r\n", 2, 5, 1, "  2 | \tb: é: x\n    | \t   ^\n");
        check("a: 1\rb: 2\r", 2, 4, 9, "  2 | b: 2\n    |    ^\n");
    }

    #[test]
    fn a_place_outside_the_text_is_shown_as_far_as_it_goes() {
        check("a: 1\n", 9, 9, 0, "  9 | \n    | ^\n");
        check("a: 1", 1, 99, 99, "  1 | a: 1\n    |     ^\n");
        check("", 0, 0, 0, "  0 | \n    | ^\n");
    }

    #[test]
    fn a_long_line_is_cut_around_the_marker() {
        let text = format!("{}HERE{}", "a".repeat(500), "b".repeat(500));
        let shown = excerpt(&text, Place { line: 1, column: 501, length: 4 });
        let lines: Vec<&str> = shown.lines().collect();
        let position = lines[0].chars().position(|char| char == 'H');
        assert_eq!(position, lines[1].chars().position(|char| char == '^'));
        assert!(lines[0].chars().count() < 140 && lines[1].ends_with(" ^^^^"), "{shown}");
    }

    #[test]
    fn escape_sequences_never_reach_the_terminal() {
        check("a: \u{1b}[31m", 1, 4, 1, "  1 | a: \u{fffd}[31m\n    |    ^\n");
    }

    #[test]
    fn only_the_first_findings_are_shown_in_full() {
        let finding = Finding { origin: Origin::Default, message: "wrong".into(), help: None };
        let error = LoadError::new("f", "", vec![finding; 60]);
        assert_eq!(error.count(), 60);
        assert!(error.to_string().ends_with("and 10 more"), "{error}");
    }
}
