//! How a service's configuration reaches replicas that run, and what they say of it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Bytes;

/// The most that a service's configuration may be, in bytes of JSON: with what stands around it, it fits into one frame and into
/// one answer of the mesh API.
pub const MAX_CONFIG_BYTES: usize = 960 << 10;
/// The longest reason of a rejection, in bytes.
pub const MAX_REASON_BYTES: usize = 1024;

/// Which configuration the replicas of a service are to work with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedConfig {
    /// Its number. Another number is another configuration, or the same once more; nothing else is to be read out of it.
    pub revision: u64,
    /// SHA-256 of its canonical JSON.
    pub digest: Bytes,
}

/// The answer to `GET /v1/config`: the newest configuration of the caller's service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigAnswer {
    /// Its number.
    pub revision: u64,
    /// An object.
    pub config: Value,
}

/// `POST /v1/config`: what the caller has made of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigReport {
    /// Of which one.
    pub revision: u64,
    /// What.
    pub outcome: ConfigOutcome,
    /// Why it was rejected, in at most [`MAX_REASON_BYTES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a replica has made of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConfigOutcome {
    /// It works with it.
    Applied,
    /// It cannot, and goes on with the one before.
    Rejected,
}

/// A reason as it is told and shown: one line, of at most [`MAX_REASON_BYTES`]. Whoever writes it may not decide what a terminal
/// does that shows it.
pub fn told_reason(reason: &str) -> String {
    let mut told = String::new();
    for letter in reason.chars().map(|letter| if letter.is_control() { ' ' } else { letter }) {
        if told.len() + letter.len_utf8() > MAX_REASON_BYTES {
            break;
        }
        told.push(letter);
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_are_what_both_ends_agree_on() {
        let applied = ConfigReport { revision: 7, outcome: ConfigOutcome::Applied, reason: None };
        let rejected = ConfigReport {
            outcome: ConfigOutcome::Rejected,
            reason: Some("the disk is full".into()),
            ..applied.clone()
        };
        expect_test::expect![[r#"
            {"revision":7,"outcome":"applied"}
            {"revision":7,"outcome":"rejected","reason":"the disk is full"}
            {"revision":7,"digest":"AQI"}"#]]
        .assert_eq(
            &[
                serde_json::to_string(&applied).unwrap(),
                serde_json::to_string(&rejected).unwrap(),
                serde_json::to_string(&WantedConfig { revision: 7, digest: Bytes(vec![1, 2]) }).unwrap(),
            ]
            .join("\n"),
        );
        for other in [
            r#"{"revision":7}"#,
            r#"{"revision":-1,"outcome":"applied"}"#,
            r#"{"revision":7,"outcome":"Applied"}"#,
            r#"{"revision":7,"outcome":"applied","more":1}"#,
        ] {
            assert!(serde_json::from_str::<ConfigReport>(other).is_err(), "{other}");
        }
    }

    #[test]
    fn a_reason_is_one_line_that_moves_no_cursor_and_is_cut_between_letters() {
        assert_eq!(told_reason("line 3:\n\u{1b}[2Jno such feed"), "line 3:  [2Jno such feed");
        let long = told_reason(&"ä".repeat(MAX_REASON_BYTES));
        assert_eq!((long.len(), long.chars().count()), (MAX_REASON_BYTES, MAX_REASON_BYTES / 2));
        assert_eq!(told_reason(&format!("a{}", "ä".repeat(MAX_REASON_BYTES))).len(), MAX_REASON_BYTES - 1);
    }
}
