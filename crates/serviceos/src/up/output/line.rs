//! What a line of a replica says: a JSON object says more than a text does.

use control::{LogLevel, LogLine};
use jiff::Timestamp;
use serde_json::{Map, Value};
use types::ReplicaId;

use super::splitter::Split;

/// Keys of ours. What a replica says under the same name is put behind `line.`, so that it cannot speak for another.
const OURS: [&str; 8] =
    ["timestamp", "level", "message", "service", "replica", "version", "target", "cutBytes"];

/// A line as it was written, by a run of this version.
pub(super) struct Written {
    pub(super) line: Split,
    pub(super) version: String,
}

impl Written {
    /// The line of the log; none of a blank one.
    pub(super) fn of(self, replica: &ReplicaId) -> Option<LogLine> {
        let Self { line: Split { text, cut }, version } = self;
        if text.iter().all(u8::is_ascii_whitespace) {
            return None;
        }
        let object = if text.trim_ascii_start().starts_with(b"{") {
            serde_json::from_slice::<Map<String, Value>>(&text).ok()
        } else {
            None
        };
        let mut line = LogLine {
            timestamp: now(),
            level: LogLevel::Info,
            service: replica.service.clone(),
            replica: replica.clone(),
            version,
            message: String::new(),
            fields: Map::new(),
        };
        match object {
            Some(object) => merge(object, &mut line),
            None => line.message = String::from_utf8_lossy(&text).trim_end().to_owned(),
        }
        if cut > 0 {
            line.fields.insert("cutBytes".to_owned(), cut.into());
        }
        Some(line)
    }
}

/// Milliseconds are what people compare.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

fn merge(object: Map<String, Value>, line: &mut LogLine) {
    let (mut has_level, mut has_message, mut has_time) = (false, false, false);
    for (key, value) in object {
        match (key.as_str(), &value) {
            ("level" | "severity" | "lvl", value) if !has_level && level(value).is_some() => {
                line.level = level(value).unwrap_or(LogLevel::Info);
                has_level = true;
            }
            ("message" | "msg", Value::String(text)) if !has_message => {
                line.message.clone_from(text);
                has_message = true;
            }
            ("timestamp" | "time" | "ts" | "@timestamp", Value::String(text))
                if !has_time && text.parse::<Timestamp>().is_ok() =>
            {
                line.timestamp = text.parse().unwrap_or(line.timestamp);
                has_time = true;
            }
            _ => {
                let key = if OURS.contains(&key.as_str()) { format!("line.{key}") } else { key };
                line.fields.insert(key, value);
            }
        }
    }
}

/// In words, as most libraries write it, or in the numbers of bunyan and pino.
fn level(value: &Value) -> Option<LogLevel> {
    if let Some(number) = value.as_u64() {
        return match number {
            10 => Some(LogLevel::Trace),
            20 => Some(LogLevel::Debug),
            30 => Some(LogLevel::Info),
            40 => Some(LogLevel::Warn),
            50 | 60 => Some(LogLevel::Error),
            _ => None,
        };
    }
    match value.as_str()?.to_ascii_lowercase().as_str() {
        "trace" => Some(LogLevel::Trace),
        "debug" => Some(LogLevel::Debug),
        "info" | "information" | "notice" => Some(LogLevel::Info),
        "warn" | "warning" => Some(LogLevel::Warn),
        "error" | "err" | "critical" | "fatal" | "alert" | "emergency" | "panic" => Some(LogLevel::Error),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn line(text: &str) -> Option<String> {
        let written = Written { line: Split { text: text.as_bytes().to_vec(), cut: 0 }, version: "2".into() };
        let line = written.of(&"app/1".parse().unwrap())?;
        let time = line.timestamp.as_second();
        let time = if time < 1_000_000_000 { time.to_string() } else { "now".into() };
        let fields = Value::Object(line.fields);
        Some(format!("{time} {:?} {} {} {:?} {fields}", line.level, line.replica, line.version, line.message))
    }

    #[test]
    fn a_text_is_the_message_and_a_json_object_is_taken_apart() {
        let lines = [
            "listening on 8080\r",
            r#"{"timestamp":"1970-01-01T00:00:07.5+00:00","level":"WARN","message":"slow","target":"app::db","ms":12}"#,
            r#"{"level":30,"time":1700000000000,"msg":"pino","pid":1,"big":123456789012345678901234567890}"#,
            r#"{"severity":"ERROR","message":{"text":"no string"},"msg":"m","level":"loud"}"#,
            r#"  {"a":1}  "#,
            r#"{"replica":"vrf/0","service":"vrf","version":"9","cutBytes":1,"level":"info","lvl":"debug"}"#,
            r#"{"a":1} and more"#,
            r#"["no object"]"#,
            "{\"cut",
        ];
        let told: Vec<_> = lines.iter().map(|text| line(text).unwrap()).collect();
        expect![[r#"
            now Info app/1 2 "listening on 8080" {}
            7 Warn app/1 2 "slow" {"line.target":"app::db","ms":12}
            now Info app/1 2 "pino" {"time":1700000000000,"pid":1,"big":123456789012345678901234567890}
            now Error app/1 2 "m" {"line.message":{"text":"no string"},"line.level":"loud"}
            now Info app/1 2 "" {"a":1}
            now Info app/1 2 "" {"line.replica":"vrf/0","line.service":"vrf","line.version":"9","line.cutBytes":1,"lvl":"debug"}
            now Info app/1 2 "{\"a\":1} and more" {}
            now Info app/1 2 "[\"no object\"]" {}
            now Info app/1 2 "{\"cut" {}"#]]
        .assert_eq(&told.join("\n"));
        assert_eq!(line(" \t\r"), None);
    }

    #[test]
    fn a_cut_line_says_how_much_is_missing_and_bytes_that_are_no_text_are_shown_as_such() {
        let text = b"caf\xff".to_vec();
        let written = Written { line: Split { text, cut: 7 }, version: "1".into() };
        let line = written.of(&"app/0".parse().unwrap()).unwrap();
        assert_eq!(line.message, "caf\u{fffd}");
        assert_eq!(Value::Object(line.fields).to_string(), r#"{"cutBytes":7}"#);
    }
}
