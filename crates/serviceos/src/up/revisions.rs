//! Every configuration that was in force, as a numbered revision in the store: who made it, where it came from, when, what it
//! means and its text. A number is taken by compare-and-swap on the head, so that two never take the same.
//!
//! ```text
//! nodes/NODE/config/head                  which number is next, which is in force, which the file meant last
//! nodes/NODE/config/revisions/NUMBER      what is known of one
//! nodes/NODE/config/texts/NUMBER          its text
//! ```
//!
//! The file is the desired state: what it says holds, except that a revision of the command line stays in force until the file
//! means something else than it did then.

mod beginning;
mod history;
mod rows;

use std::collections::BTreeSet;
use std::sync::Arc;

use configuration::{Difference, Document, Meaning};
use control::ConfigRefused;
use jiff::Timestamp;
use mesh_protocol::to_hex;
use serde_json::json;
use service_registry::Actor;
use store::{Outcome, Store, StoreError, Transaction};
use tokio::sync::watch;
use trust::Authority;
use trust::audit::{self, Entry};

pub(crate) use beginning::{Beginning, BegunWith};
pub(crate) use history::{History, text_of};
pub(crate) use rows::Origin;
use rows::{Head, Keys, Record};

/// How many revisions are kept.
pub(crate) const KEPT_REVISIONS: usize = 1_000;
/// How many revisions that are kept no longer go with one that is made.
const MAX_REMOVED: usize = 16;
/// How many lines of its diff are kept with a revision.
const KEPT_CHANGES: usize = 20;
/// The most of a diff that the audit trail and the log take, in bytes.
const MAX_TOLD_BYTES: usize = 8 << 10;

/// Who makes the revisions that the file makes.
pub(crate) const CONFIGURATION_FILE: &str = "configuration file";

/// The revisions, as the one that makes them sees them.
pub(crate) struct Revisions {
    store: Store,
    keys: Keys,
    head: Head,
    /// The revision of the store in which the head was written; `None` before the first.
    head_row: Option<u64>,
    /// The numbers of those that are kept.
    kept: BTreeSet<u64>,
    in_force: watch::Sender<Arc<InForce>>,
    /// What the file meant when it was looked at last.
    file: Option<Meaning>,
}

/// The revision that everything goes by.
#[derive(Debug, Clone)]
pub(crate) struct InForce {
    pub(crate) record: Record,
    pub(crate) text: String,
    pub(crate) meaning: Meaning,
}

/// A configuration that is to be a revision.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) text: String,
    pub(crate) meaning: Meaning,
    pub(crate) origin: Origin,
    pub(crate) author: &'static str,
}

/// What a file is to the revision in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileMeans {
    /// What it meant before.
    TheSame,
    /// What is in force already, though it meant something else before.
    WhatIsInForce,
    /// Something else.
    Another,
}

/// A revision that is written down, and not in force yet.
#[must_use]
pub(crate) struct Committed {
    in_force: InForce,
    before: Head,
    /// What the audit trail says of it.
    entry: Entry,
}

impl InForce {
    /// The diff, for the log. What somebody asked for and the file takes back, nobody may miss.
    pub(crate) fn say_what_replaces(&self, before: &Self) {
        let (changes, more) = told(&before.meaning.differences(&self.meaning));
        let changes = changes.join("\n");
        let (old, new) = (before.record.revision, self.record.revision);
        if before.record.origin == Origin::Cli && self.record.origin == Origin::File {
            tracing::warn!(
                more,
                "revision {new}, the file, replaces revision {old} of the command line:\n{changes}"
            );
        } else {
            tracing::info!(more, "revision {new} replaces revision {old}:\n{changes}");
        }
    }
}

impl Committed {
    /// Its number.
    pub(crate) fn number(&self) -> u64 {
        self.in_force.record.revision
    }
}

impl Candidate {
    /// What the file says.
    pub(crate) fn of_file(document: &Document) -> Self {
        Self::of(document, Origin::File, CONFIGURATION_FILE)
    }

    /// Who wants it.
    pub(crate) fn actor(&self) -> Actor {
        match self.origin {
            Origin::File => Actor::Configuration,
            Origin::Cli => Actor::Operator,
        }
    }

    pub(crate) fn of(document: &Document, origin: Origin, author: &'static str) -> Self {
        Self { text: document.text.clone(), meaning: document.meaning.clone(), origin, author }
    }
}

impl Revisions {
    /// Whoever only reads.
    pub(crate) fn history(&self) -> History {
        History::new(self.store.clone(), self.keys.clone(), self.in_force.subscribe())
    }

    /// What is in force.
    pub(crate) fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.borrow())
    }

    /// What a file that has changed is to what is in force.
    pub(crate) fn file_means(&self, meaning: &Meaning) -> FileMeans {
        if self.file.as_ref() == Some(meaning) {
            FileMeans::TheSame
        } else if self.in_force.borrow().meaning == *meaning {
            FileMeans::WhatIsInForce
        } else {
            FileMeans::Another
        }
    }

    /// What the file said last, of which what is in force may be another revision.
    pub(crate) async fn file_text(&self) -> Result<String, ConfigRefused> {
        let in_force = self.in_force();
        match self.head.file == in_force.record.revision {
            true => Ok(in_force.text.clone()),
            false => history::text(&self.store, &self.keys, self.head.file).await,
        }
    }

    /// In what a configuration differs from what is in force.
    pub(crate) fn differences(&self, after: &Meaning) -> Vec<Difference> {
        self.in_force.borrow().meaning.differences(after)
    }

    /// Notes that the file means what is in force: whatever it means next replaces that.
    pub(crate) async fn file_has_caught_up(&mut self) -> Result<(), ConfigRefused> {
        let in_force = self.in_force();
        let head = Head { file: in_force.record.revision, ..self.head.clone() };
        if head != self.head {
            self.write(head, Transaction::new()).await?;
        }
        self.file = Some(in_force.meaning.clone());
        Ok(())
    }

    /// Writes a revision down, first in the audit trail. It is in force once that is said.
    ///
    /// # Errors
    /// Nothing is written down then, and the audit trail says so.
    pub(crate) async fn commit(
        &mut self,
        candidate: Candidate,
        authority: &Authority,
    ) -> Result<Committed, ConfigRefused> {
        let changes = match self.head_row {
            Some(_) => self.differences(&candidate.meaning),
            None => Vec::new(),
        };
        let record = self.record(&candidate, &changes);
        let entry = entry(&record, &changes);
        authority.put_on_record(entry.clone()).await?;
        match self.add(&record, &candidate).await {
            Ok(before) => {
                let Candidate { text, meaning, .. } = candidate;
                Ok(Committed { in_force: InForce { record, text, meaning }, before, entry })
            }
            Err(refused) => {
                authority.put_on_record(failed_entry(entry, &refused)).await?;
                Err(refused)
            }
        }
    }

    /// From now on everything goes by it.
    pub(crate) fn put_in_force(&mut self, committed: Committed) {
        let Committed { in_force, .. } = committed;
        if in_force.record.origin == Origin::File {
            self.file = Some(in_force.meaning.clone());
        }
        self.in_force.send_replace(Arc::new(in_force));
    }

    /// Takes a revision back that could not come into force after all, as the audit trail says then. Its number is not given a
    /// second time.
    pub(crate) async fn take_back(
        &mut self,
        committed: Committed,
        refused: &ConfigRefused,
        authority: &Authority,
    ) {
        let entry = failed_entry(committed.entry.clone(), refused);
        self.take_out(committed).await;
        if let Err(error) = authority.put_on_record(entry).await {
            tracing::error!(%error, "the audit trail does not say that a revision was taken back");
        }
    }

    async fn take_out(&mut self, committed: Committed) {
        let Committed { in_force: InForce { record, .. }, before, .. } = committed;
        let number = record.revision;
        let head = Head { next: self.head.next, ..before };
        let gone = Transaction::new().delete(self.keys.record(number)).delete(self.keys.text(number));
        match self.write(head, gone).await {
            Ok(()) => _ = self.kept.remove(&number),
            Err(refused) => tracing::error!(
                "revision {number} of the configuration is written down and not in force ({refused}); it comes into force at \
                 the next start, unless another one is made before"
            ),
        }
    }

    fn record(&self, candidate: &Candidate, changes: &[Difference]) -> Record {
        Record {
            format: rows::FORMAT,
            revision: self.head.next,
            author: candidate.author.to_owned(),
            origin: candidate.origin,
            time: format!("{:.3}", Timestamp::now()),
            digest: to_hex(&candidate.meaning.digest()),
            changes: changes.iter().take(KEPT_CHANGES).map(ToString::to_string).collect(),
            changed_keys: changes.len(),
        }
    }

    /// Adds a revision, and gives the head that was before.
    async fn add(&mut self, record: &Record, candidate: &Candidate) -> Result<Head, ConfigRefused> {
        let number = record.revision;
        let file = if record.origin == Origin::File { number } else { self.head.file };
        let head = Head { format: rows::FORMAT, next: number + 1, in_force: number, file };
        let mut rows = Transaction::new()
            .put(self.keys.record(number), rows::encode(record))
            .put(self.keys.text(number), candidate.text.as_bytes());
        let many = (self.kept.len() + 1).saturating_sub(KEPT_REVISIONS).min(MAX_REMOVED);
        // What the file meant before stays as well: this one may be taken back.
        let stays = [file, self.head.file];
        let old: Vec<u64> = self.kept.iter().copied().filter(|old| !stays.contains(old)).take(many).collect();
        for old in &old {
            rows = rows.delete(self.keys.record(*old)).delete(self.keys.text(*old));
        }
        let before = self.head.clone();
        self.write(head, rows).await?;
        old.iter().for_each(|old| _ = self.kept.remove(old));
        self.kept.insert(number);
        Ok(before)
    }

    /// Writes another head with whatever belongs to it, if the head is still the one that is known.
    async fn write(&mut self, head: Head, rows: Transaction) -> Result<(), ConfigRefused> {
        let key = self.keys.head();
        let rows = match self.head_row {
            Some(revision) => rows.if_revision(key.clone(), revision),
            None => rows.if_absent(key.clone()),
        };
        let row = rows::encode(&head);
        match self.store.commit(rows.put(key, row.clone())).await {
            Ok(Outcome::Committed { revision }) => {
                (self.head, self.head_row) = (head, Some(revision));
                Ok(())
            }
            Ok(Outcome::Conflict { .. }) => {
                self.read_head().await?;
                Err(ConfigRefused::Conflict { in_force: self.head.in_force })
            }
            // Whether it is there, the store says itself once it answers.
            Err(error @ StoreError::Undecided(_)) => {
                self.read_head().await?;
                if self.head == head { Ok(()) } else { Err(failed(error)) }
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// The revision that the store has in force, where that is another one: a start from an older mirror did not know of it.
    pub(crate) async fn unknown(&mut self) -> Result<Option<u64>, ConfigRefused> {
        self.read_head().await?;
        let known = self.in_force().record.revision;
        Ok(Some(self.head.in_force).filter(|number| *number != known))
    }

    async fn read_head(&mut self) -> Result<(), ConfigRefused> {
        if let Some(row) = self.store.get(self.keys.head()).await.map_err(failed)? {
            (self.head, self.head_row) = (rows::decode(&row)?, Some(row.mod_revision));
        }
        Ok(())
    }
}

fn failed(error: StoreError) -> ConfigRefused {
    ConfigRefused::Store(error)
}

/// What the audit trail says of a revision.
fn entry(record: &Record, changes: &[Difference]) -> Entry {
    let (told, more) = told(changes);
    Entry {
        kind: "config-change".into(),
        actor: record.author.clone(),
        subject: format!("revision {}", record.revision),
        outcome: audit::Outcome::Done,
        reason: None,
        data: json!({"origin": record.origin, "digest": record.digest, "changes": told, "more": more}),
    }
}

/// The same of one that is not in force after all.
fn failed_entry(entry: Entry, refused: &ConfigRefused) -> Entry {
    Entry { outcome: audit::Outcome::Failed, reason: Some(refused.to_string()), ..entry }
}

/// As many lines of a diff as the audit trail and the log take, and how many more there are.
pub(crate) fn told(changes: &[Difference]) -> (Vec<String>, usize) {
    let mut bytes = 0;
    let lines = changes.iter().map(ToString::to_string);
    let told: Vec<String> = lines
        .take_while(|line| {
            bytes += line.len();
            bytes <= MAX_TOLD_BYTES
        })
        .collect();
    let more = changes.len() - told.len();
    (told, more)
}

#[cfg(test)]
mod tests;
