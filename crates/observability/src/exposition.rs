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
pub struct Exposition {
    page: String,
    /// The head of a family that has no sample yet: some parsers refuse a family without samples.
    head: String,
}

impl Exposition {
    /// The media type of the page.
    pub const MEDIA_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// Begins a metric family; its samples follow. One without samples does not appear.
    pub fn family(&mut self, name: &str, kind: MetricType, help: &str) {
        let kind = match kind {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram => "histogram",
        };
        self.head = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// Adds a sample of a labelled counter, unless nothing was counted.
    pub fn count(&mut self, name: &str, labels: &[(&str, &str)], count: u64) {
        if count > 0 {
            self.sample(name, labels, count);
        }
    }

    /// Adds a sample.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.page.push_str(&std::mem::take(&mut self.head));
        self.page.push_str(name);
        for (place, (label, text)) in labels.iter().enumerate() {
            self.page.push(if place == 0 { '{' } else { ',' });
            self.page.push_str(label);
            self.page.push_str("=\"");
            self.label_value(text);
            self.page.push('"');
        }
        self.page.push_str(if labels.is_empty() { " " } else { "} " });
        writeln!(self.page, "{value}").expect("writing to a string cannot fail");
    }

    fn label_value(&mut self, text: &str) {
        let mut rest = text;
        while let Some(place) = rest.find(['\\', '"', '\n']) {
            let (plain, special) = rest.split_at(place);
            self.page.push_str(plain);
            self.page.push_str(match special.as_bytes()[0] {
                b'\\' => "\\\\",
                b'"' => "\\\"",
                _ => "\\n",
            });
            rest = &special[1..];
        }
        self.page.push_str(rest);
    }

    /// The page.
    pub fn finish(self) -> String {
        self.page
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

    #[test]
    fn a_family_without_samples_does_not_appear() {
        let mut out = Exposition::default();
        out.family("nothing_total", MetricType::Counter, "Never counted");
        out.count("nothing_total", &[("a", "x")], 0);
        out.family("something", MetricType::Gauge, "Measured");
        out.sample("something", &[], 0);
        out.sample("something", &[("a", "x")], 1);
        out.family("nothing_at_the_end", MetricType::Gauge, "Never measured");
        let expected =
            "# HELP something Measured\n# TYPE something gauge\nsomething 0\nsomething{a=\"x\"} 1\n";
        assert_eq!(out.finish(), expected);
    }
}
