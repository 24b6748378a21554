//! What became of a case: what its client saw, and what reached the replica.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::Seen;
use super::client::Answers;
use super::corpus::{Case, Ending, Expected, Meaning, shown};
use super::recorder::Stream;
use super::strict;

/// Everything that reached the replica, by the words of the cases.
#[derive(Debug, Default)]
pub(super) struct Received {
    requests: BTreeMap<String, Vec<Meaning>>,
    /// Whose request was the last of a connection and was never finished.
    unfinished: BTreeSet<String>,
    /// Every word that occurs anywhere.
    mentioned: BTreeSet<String>,
    unexplained: Vec<String>,
}

impl Received {
    pub(super) fn of(streams: &[Stream]) -> Self {
        let mut received = Self::default();
        for stream in streams {
            received.read(&stream.bytes);
        }
        received
    }

    /// Reads a connection from its first byte to its last.
    fn read(&mut self, mut bytes: &[u8]) {
        self.mentioned.extend(words(bytes));
        while !bytes.is_empty() {
            match strict::request(bytes) {
                Ok(Some(request)) => {
                    let (own, rest) = bytes.split_at(request.length);
                    bytes = rest;
                    match words(own).into_iter().next() {
                        Some(id) => self.requests.entry(id).or_default().push(request.meaning),
                        None => {
                            self.unexplained.push(format!("a request of nobody's: {}", own.escape_ascii()));
                        }
                    }
                }
                Ok(None) => {
                    match words(bytes).into_iter().next() {
                        Some(id) => drop(self.unfinished.insert(id)),
                        None => self.unexplained.push(format!("left over: {}", bytes.escape_ascii())),
                    }
                    return;
                }
                Err(why) => {
                    self.unexplained.push(format!("{why} in {}", shown(bytes)));
                    return;
                }
            }
        }
    }

    /// What is no request, or nobody's.
    pub(super) fn unexplained(&self) -> Vec<String> {
        self.unexplained.clone()
    }

    /// Why a case went wrong, if it did.
    pub(super) fn judge(&self, case: &Case, id: &str, seen: &Seen, http2: bool) -> Result<(), String> {
        let answers = seen.as_ref().map_err(Clone::clone)?;
        let tail = Meaning::new("GET", "/r/{id}-tail").of(id);
        let mut received = self.requests.get(id).cloned().unwrap_or_default();
        let unfinished = self.unfinished.contains(id);
        if http2 {
            // What follows is a stream of its own, and comes through unless the connection was ended before.
            received.retain(|meaning| *meaning != tail);
            if !answers.reset && answers.tail != Some(200) {
                return Err(format!("what followed was answered with {:?}", answers.tail));
            }
        }
        let nothing = |but: &str| match (&received[..], unfinished) {
            ([], false) => Ok(()),
            (all, unfinished) => Err(format!("the replica got {all:?}, unfinished: {unfinished}{but}")),
        };
        match &case.expected {
            Expected::Refused => {
                refused(answers, http2)?;
                nothing("")?;
                if !http2 && self.mentioned.contains(id) {
                    Err("its word reached the replica".into())
                } else {
                    Ok(())
                }
            }
            Expected::Denied(status) => {
                received.retain(|meaning| *meaning != tail);
                if !received.is_empty() || unfinished || answers.statuses != [*status, 200] {
                    return Err(format!(
                        "answered with {:?}, the replica got {received:?}",
                        answers.statuses
                    ));
                }
                Ok(())
            }
            Expected::CutOff => {
                // A client that ends in the middle is gone, and is owed no answer.
                if case.ending != Ending::Closed || !answers.statuses.is_empty() {
                    refused(answers, http2)?;
                }
                if received.is_empty() { Ok(()) } else { Err(format!("the replica got {received:?}")) }
            }
            Expected::Neutralised(meanings) => {
                let mut wanted: Vec<Meaning> = meanings.iter().map(|meaning| meaning.of(id)).collect();
                if !http2 && case.ending == Ending::Tail {
                    wanted.push(tail);
                }
                same(wanted, received, unfinished, answers)
            }
            Expected::Flood(most) if received.len() <= *most && answers.reset => Ok(()),
            Expected::Flood(_) => Err(format!("the replica got {} requests; {answers:?}", received.len())),
        }
    }
}

/// A 4xx and the end; in HTTP/2 the end of the stream is enough, with or without an answer.
fn refused(answers: &Answers, http2: bool) -> Result<(), String> {
    let is_refusal = |status: &u16| (400..500).contains(status);
    let right = match &answers.statuses[..] {
        [] => http2 && answers.reset,
        [status] => is_refusal(status) && (http2 || answers.code.is_some()),
        _ => false,
    };
    if right { Ok(()) } else { Err(format!("answered with {answers:?}")) }
}

/// The replica got what it should, whatever connections it came over, and the client was told so.
fn same(
    mut wanted: Vec<Meaning>,
    mut received: Vec<Meaning>,
    unfinished: bool,
    answers: &Answers,
) -> Result<(), String> {
    let order = |meaning: &Meaning| (meaning.target.clone(), meaning.method.clone());
    wanted.sort_by_key(order);
    received.sort_by_key(order);
    if received != wanted || unfinished {
        return Err(format!("the replica got {received:?} instead of {wanted:?}, answered with {answers:?}"));
    }
    if answers.statuses.len() == wanted.len() && answers.statuses.iter().all(|status| *status == 200) {
        Ok(())
    } else {
        Err(format!("answered with {answers:?}"))
    }
}

/// All words of cases: `q` and three hexadecimal digits. No `q` is written that way by anybody else.
fn words(bytes: &[u8]) -> Vec<String> {
    let is_word = |word: &&[u8]| {
        let digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
        word[0] == b'q' && word[1..].iter().all(digit)
    };
    bytes.windows(4).filter(is_word).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// How many cases of each class went as they should.
#[derive(Debug, Default)]
pub(super) struct Table {
    classes: Vec<(&'static str, [usize; 3])>,
    failures: Vec<String>,
}

impl Table {
    pub(super) fn add(&mut self, case: &Case, verdict: Result<(), String>) {
        if self.classes.last().is_none_or(|(class, _)| *class != case.class) {
            self.classes.push((case.class, [0; 3]));
        }
        let column = match case.expected {
            Expected::Refused | Expected::Denied(_) => 0,
            Expected::CutOff | Expected::Flood(_) => 1,
            Expected::Neutralised(_) => 2,
        };
        if let Some((_, counts)) = self.classes.last_mut() {
            counts[column] += 1;
        }
        if let Err(why) = verdict {
            self.failures.push(format!("{}: {}: {why}", case.class, case.name));
        }
    }

    /// All cases that went wrong, a line each.
    pub(super) fn failures(&self) -> String {
        self.failures.join("\n")
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{:<34}{:>9}{:>9}{:>13}", "class", "refused", "cut off", "neutralised")?;
        for (class, [refused, cut_off, neutralised]) in &self.classes {
            writeln!(out, "{class:<34}{refused:>9}{cut_off:>9}{neutralised:>13}")?;
        }
        let sum = |column: usize| self.classes.iter().map(|(_, counts)| counts[column]).sum::<usize>();
        writeln!(out, "{:<34}{:>9}{:>9}{:>13}", "all", sum(0), sum(1), sum(2))
    }
}
