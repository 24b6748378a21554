//! A line as people and programs read it in a log.

use std::fmt::Write as _;

use control::{LogLevel, LogLine};
use serde_json::{Map, Value};

/// For people: one line, whatever a replica has written, and nothing that a terminal would obey.
pub(crate) fn text(line: &LogLine) -> String {
    let (level, replica, version) = (word(line.level), &line.replica, &line.version);
    let mut text = format!("{:.3} {level:>5} {replica} {version}:", line.timestamp);
    if !line.message.is_empty() {
        text.push(' ');
        harmless(&line.message, &mut text);
    }
    for (key, value) in &line.fields {
        text.push(' ');
        harmless(key, &mut text);
        text.push('=');
        // JSON escapes the control characters of ASCII itself.
        harmless(&value.to_string(), &mut text);
    }
    text
}

/// For programs: like the lines of this process, with what the replica said as keys of the same object.
pub(super) fn json(line: &LogLine) -> String {
    let mut object = Map::new();
    let mut insert = |key: &str, value: String| object.insert(key.to_owned(), Value::String(value));
    insert("timestamp", line.timestamp.to_string());
    insert("level", word(line.level).to_owned());
    insert("message", line.message.clone());
    insert("service", line.service.to_string());
    insert("replica", line.replica.to_string());
    insert("version", line.version.clone());
    object.extend(line.fields.clone());
    object.insert("target".to_owned(), "replica".into());
    Value::Object(object).to_string()
}

fn word(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "TRACE",
        LogLevel::Debug => "DEBUG",
        LogLevel::Info => "INFO",
        LogLevel::Warn => "WARN",
        LogLevel::Error => "ERROR",
    }
}

fn harmless(said: &str, text: &mut String) {
    for character in said.chars() {
        if character == '\t' || !character.is_control() {
            text.push(character);
        } else {
            let _to_a_string = write!(text, "{}", character.escape_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use jiff::Timestamp;

    use super::*;

    fn line(message: &str, fields: Value) -> LogLine {
        LogLine {
            timestamp: Timestamp::from_millisecond(1_500).unwrap(),
            level: LogLevel::Warn,
            service: "app".parse().unwrap(),
            replica: "app/1".parse().unwrap(),
            version: "1.0.0".into(),
            message: message.to_owned(),
            fields: fields.as_object().unwrap().clone(),
        }
    }

    #[test]
    fn people_get_one_line_that_does_nothing_to_their_terminal() {
        let line =
            line("a\u{1b}[2Jb\nc\u{9b}d é\t.", serde_json::json!({"k\u{1b}": "v\u{1b}\u{9b}", "n": 1}));
        expect![[r#"1970-01-01T00:00:01.500Z  WARN app/1 1.0.0: a\u{1b}[2Jb\nc\u{9b}d é	. k\u{1b}="v\u001b\u{9b}" n=1"#]]
            .assert_eq(&text(&line));
    }

    #[test]
    fn programs_get_one_object() {
        let line = line("a \"b\"", serde_json::json!({"user": {"id": 7}, "line.target": "app"}));
        expect![[r#"{"timestamp":"1970-01-01T00:00:01.5Z","level":"WARN","message":"a \"b\"","service":"app","replica":"app/1","version":"1.0.0","user":{"id":7},"line.target":"app","target":"replica"}"#]]
            .assert_eq(&json(&line));
    }
}
