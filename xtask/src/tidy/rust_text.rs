//! Tells Rust code from comments and literals, without a parser: enough to look for words in the one or the other.

/// A stretch of Rust text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stretch {
    Code,
    Comment,
    /// The quotes and prefixes of a string are part of it.
    String,
}

/// The text with comments and literals blanked out; every line stays where it is.
pub(crate) fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    for (stretch, part) in stretches(text) {
        if stretch == Stretch::Code {
            code.push_str(part);
        } else {
            code.extend(part.chars().map(|letter| if letter == '\n' { '\n' } else { ' ' }));
        }
    }
    code
}

/// The strings of the text with the number of the line where each begins, those in test modules left out.
pub(crate) fn strings_outside_tests(text: &str) -> Vec<(usize, &str)> {
    let tests = test_modules(&code(text));
    let mut line = 1;
    let mut strings = Vec::new();
    for (stretch, part) in stretches(text) {
        if stretch == Stretch::String && !tests.iter().any(|(first, last)| (*first..=*last).contains(&line)) {
            strings.push((line, content(part)));
        }
        line += part.matches('\n').count();
    }
    strings
}

/// First and last lines, counted from 1, of what `#[cfg(test)]` stands before and that has a body.
fn test_modules(code: &str) -> Vec<(usize, usize)> {
    let mut modules = Vec::new();
    for (at, _) in code.match_indices("#[cfg(test)]") {
        let rest = &code[at..];
        let Some(open) = rest.find(['{', ';']).filter(|open| rest.as_bytes()[*open] == b'{') else {
            continue;
        };
        let mut depth = 0_usize;
        let close = rest[open..].char_indices().find_map(|(offset, letter)| {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            (depth == 0).then_some(open + offset)
        });
        let line_of = |offset: usize| code[..offset].matches('\n').count() + 1;
        modules.push((line_of(at), line_of(at + close.unwrap_or(rest.len()))));
    }
    modules
}

fn stretches(text: &str) -> Vec<(Stretch, &str)> {
    let mut stretches = Vec::new();
    let (mut start, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text[at..];
        let in_name =
            text[..at].chars().next_back().is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
        if let Some((stretch, length)) = literal_or_comment(rest, in_name) {
            stretches.push((Stretch::Code, &text[start..at]));
            stretches.push((stretch, &text[at..at + length]));
            at += length;
            start = at;
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    stretches.push((Stretch::Code, &text[start..]));
    stretches
}

/// The comment or literal that `text` begins with, and its length in bytes.
fn literal_or_comment(text: &str, in_name: bool) -> Option<(Stretch, usize)> {
    if text.starts_with("//") {
        return Some((Stretch::Comment, text.find('\n').unwrap_or(text.len())));
    }
    if text.starts_with("/*") {
        return Some((Stretch::Comment, block_comment(text)));
    }
    if text.starts_with('"') {
        return Some((Stretch::String, quoted(text, '"')));
    }
    if text.starts_with('\'') {
        return character(text).map(|length| (Stretch::String, length));
    }
    if in_name {
        return None;
    }
    raw_string(text).map(|length| (Stretch::String, length))
}

/// Block comments nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if letter == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A character literal; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let mut letters = text.char_indices().skip(1);
    let (_, first) = letters.next()?;
    if first == '\\' {
        return Some(quoted(text, '\''));
    }
    letters.next().filter(|(_, second)| *second == '\'').map(|(at, _)| at + 1)
}

/// `r"…"`, `br#"…"#` and so on: no escapes, and as many `#` behind as before.
fn raw_string(text: &str) -> Option<usize> {
    let prefix = ["r", "br", "cr"].into_iter().find(|prefix| {
        text.strip_prefix(prefix).is_some_and(|rest| rest.trim_start_matches('#').starts_with('"'))
    })?;
    let hashes = text[prefix.len()..].bytes().take_while(|byte| *byte == b'#').count();
    let body = prefix.len() + hashes + 1;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(text[body..].find(&end).map_or(text.len(), |at| body + at + end.len()))
}

/// What stands between a string's quotes.
fn content(literal: &str) -> &str {
    let inner = literal.trim_start_matches(['b', 'c', 'r']).trim_matches('#');
    let inner = inner.strip_prefix('"').unwrap_or(inner);
    inner.strip_suffix('"').unwrap_or(inner)
}

#[cfg(test)]
mod tests;
