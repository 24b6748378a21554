//! The Prometheus text format, version 0.0.4.

use std::fmt::{Display, Write};

/// The kinds of metric that are used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricType {
    /// Only grows.
    Counter,
    /// Grows and shrinks.
    Gauge,
    /// Counts in buckets.
    Histogram,
}

/// A page of metrics in the making.
#[derive(Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// The media type of the page.
    pub const MEDIA_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// Begins a metric family; its samples follow.
    pub fn family(&mut self, name: &str, kind: MetricType, help: &str) {
        let kind = match kind {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram => "histogram",
        };
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// Adds a sample.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (place, (label, text)) in labels.iter().enumerate() {
            self.line(format_args!("{}{label}=\"", if place == 0 { '{' } else { ',' }));
            for character in text.chars() {
                match character {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    other => self.0.push(other),
                }
            }
            self.0.push('"');
        }
        self.line(format_args!("{} {value}\n", if labels.is_empty() { "" } else { "}" }));
    }

    /// The page.
    pub fn finish(self) -> String {
        self.0
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        self.0.write_fmt(text).expect("writing to a string cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut out = Exposition::default();
        out.sample("m", &[("a", "x\\\"\ny"), ("b", "")], 1);
        out.sample("m", &[], 0.5);
        assert_eq!(out.finish(), "m{a=\"x\\\\\\\"\\ny\",b=\"\"} 1\nm 0.5\n");
    }
}
