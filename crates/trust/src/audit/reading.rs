//! Shows what a trail holds. Nothing is verified here, so that the end of a trail that does not verify can be looked at too.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Outcome;
use super::line::MAX_LINE_BYTES;

/// A record as it stands in the trail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// Its number, from 1.
    pub seq: u64,
    /// When it was made, Unix seconds.
    pub time: u64,
    /// What kind of thing happened.
    pub kind: String,
    /// Who did it.
    pub actor: String,
    /// To what.
    pub subject: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where it was refused or failed.
    pub reason: Option<String>,
    /// Whatever else belongs to it.
    pub data: Value,
}

#[derive(Deserialize)]
struct Line {
    record: Recorded,
}

/// The last records of a trail, at most `count`, the oldest first. Lines that are no record are passed over. It holds those
/// records and one line at a time.
///
/// # Errors
/// The machine's.
pub fn last_records(mut reader: impl BufRead, count: usize) -> io::Result<Vec<Recorded>> {
    let mut last = VecDeque::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        reader.by_ref().take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(last.into());
        }
        if let Ok(Line { record }) = serde_json::from_slice(&line) {
            if last.len() == count {
                last.pop_front();
            }
            last.push_back(record);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(seq: u64) -> String {
        format!(
            "{{\"hash\":\"AA\",\"record\":{{\"actor\":\"a\",\"data\":{{}},\"kind\":\"k\",\"outcome\":\"done\",\"prev\":\"AA\",\"reason\":null,\"seq\":{seq},\"subject\":\"s\",\"time\":7,\"v\":1}}}}\n"
        )
    }

    fn seqs(trail: &str, count: usize) -> Vec<u64> {
        let records = last_records(trail.as_bytes(), count).unwrap();
        records.iter().map(|record| record.seq).collect()
    }

    #[test]
    fn the_last_records_are_given_and_whatever_else_stands_there_is_passed_over() {
        let trail: String = (1..=5).map(line).collect();
        assert_eq!(seqs(&trail, 2), [4, 5]);
        assert_eq!(seqs(&trail, 9), [1, 2, 3, 4, 5]);
        assert_eq!(seqs("", 9), [0; 0]);
        let unfinished = line(7);
        let (long, cut) = ("x".repeat(3 * MAX_LINE_BYTES), &unfinished[..unfinished.len() / 2]);
        let mixed = format!("{}{{\"head\":{{}}}}\nnoise\n{long}\n{}{cut}", line(1), line(6));
        assert_eq!(seqs(&mixed, 9), [1, 6]);
    }
}
