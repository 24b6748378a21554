//! What comes into force at a start: what the file says, or the revision of the command line that the file has not replaced.

use std::collections::BTreeSet;
use std::sync::Arc;

use configuration::{Document, LoadError, Meaning, meaning};
use control::ConfigRefused;
use store::{Availability, Store};
use tokio::sync::watch;
use trust::Authority;

use super::history::text;
use super::rows::{self, Head, Keys, Record};
use crate::up::node;
use crate::up::source::Source;

use super::{Candidate, InForce, Origin, Revisions, failed, told};

/// The number of the first revision.
const FIRST: u64 = 1;

/// The revisions that a store holds, and what the start goes by.
pub(crate) struct Beginning {
    store: Store,
    keys: Keys,
    known: Option<Known>,
    /// What is to be in force.
    document: Document,
    decision: Decision,
    /// What the file says, where only the store keeps it from being in force.
    waits: Option<Document>,
    /// What the store holds was read from a mirror, which may be older.
    is_stale: bool,
}

/// What the store holds.
struct Known {
    head: Head,
    head_row: u64,
    kept: BTreeSet<u64>,
    newest: Record,
    newest_text: String,
    /// What the newest means; nothing where this version of the program cannot read it.
    newest_meaning: Option<Meaning>,
    /// What the file meant last.
    file_meaning: Option<Meaning>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// The file becomes a revision.
    File,
    /// The newest revision means what the file means.
    Newest,
    /// The newest revision is in force, and the file is not: that is one of the command line, or the store is away.
    NewestStays,
}

/// What a start began with.
pub(crate) struct BegunWith {
    pub(crate) revisions: Revisions,
    /// What the file says, where only the store keeps it from being in force.
    pub(crate) waits: Option<Document>,
    /// What it goes by was read from a mirror, which may be older than the store.
    pub(crate) is_stale: bool,
}

impl Beginning {
    /// The same for whoever has the file's source.
    pub(crate) async fn of_start(
        store: &Store,
        file: Document,
        source: &Source,
    ) -> Result<Self, ConfigRefused> {
        let reader = source.reader();
        let read = move |text: &str, name: &str| reader.read(text.as_bytes(), name);
        let node = node::name(&file.settings);
        Self::decide(store.clone(), node.as_str(), file, read).await
    }

    /// Reads what the store holds, and decides. `read` makes what a text says of it, and is told what to call it.
    pub(crate) async fn decide(
        store: Store,
        node: &str,
        file: Document,
        read: impl FnOnce(&str, &str) -> Result<Document, LoadError>,
    ) -> Result<Self, ConfigRefused> {
        let keys = Keys::of(node);
        let is_stale = matches!(&*store.availability().borrow(), Availability::Away { stale: Some(_), .. });
        let known = Known::read(&store, &keys).await?;
        let mut begin =
            Self { store, keys, known, document: file, decision: Decision::File, waits: None, is_stale };
        let Some(known) = &begin.known else { return Ok(begin) };
        let number = known.newest.revision;
        let file_has_not_changed = known.file_meaning.as_ref() == Some(&begin.document.meaning);
        if known.newest.origin == Origin::Cli && file_has_not_changed {
            match read(&known.newest_text, &format!("revision {number}")) {
                Ok(document) => {
                    tracing::warn!(
                        "revision {number}, of the command line, stays in force: the file has not changed in meaning since; \
                         `serviceos config diff` shows in what they differ"
                    );
                    (begin.document, begin.decision) = (document, Decision::NewestStays);
                }
                Err(report) => tracing::error!(
                    "revision {number}, of the command line, is not valid for this version of serviceos, so the file is in \
                     force again:\n{report}"
                ),
            }
        } else if known.newest_meaning.as_ref() == Some(&begin.document.meaning) {
            begin.decision = Decision::Newest;
            if is_stale && !file_has_not_changed {
                // There is only to be noted that the file has caught up.
                (begin.decision, begin.waits) = (Decision::NewestStays, Some(begin.document.clone()));
            }
        } else if is_stale {
            // Where the revision is not valid any more, the refusal to write the file down says what is in the way.
            if let Ok(document) = read(&known.newest_text, &format!("revision {number}")) {
                tracing::warn!(
                    "the file means something else than revision {number}, which stays in force until the store answers"
                );
                let file = std::mem::replace(&mut begin.document, document);
                (begin.decision, begin.waits) = (Decision::NewestStays, Some(file));
            }
        }
        Ok(begin)
    }

    /// What is to be in force.
    pub(crate) fn document(&self) -> &Document {
        &self.document
    }

    /// The number that it has, or gets when it is written down.
    pub(crate) fn number(&self) -> u64 {
        match (&self.known, self.decision) {
            (None, _) => FIRST,
            (Some(known), Decision::File) => known.head.next,
            (Some(known), Decision::Newest | Decision::NewestStays) => known.newest.revision,
        }
    }

    /// Writes the revision down that the start makes, if it makes one. From now on it is in force.
    pub(crate) async fn commit(self, authority: &Authority) -> Result<BegunWith, ConfigRefused> {
        let Self { store, keys, known, document, decision, waits, is_stale } = self;
        let candidate = Candidate::of_file(&document);
        let Some(known) = known else {
            let revisions = Revisions::first(store, keys, candidate, authority).await?;
            return Ok(BegunWith { revisions, waits, is_stale });
        };
        let number = known.newest.revision;
        let newest_meaning = known.newest_meaning.unwrap_or_else(|| document.meaning.clone());
        let newest = InForce { record: known.newest, text: known.newest_text, meaning: newest_meaning };
        let mut revisions = Revisions {
            store,
            keys,
            head: known.head,
            head_row: Some(known.head_row),
            kept: known.kept,
            in_force: watch::Sender::new(Arc::new(newest)),
            file: known.file_meaning,
        };
        match decision {
            Decision::NewestStays => {}
            Decision::Newest => revisions.file_has_caught_up().await?,
            Decision::File => {
                let (changes, more) = told(&revisions.differences(&candidate.meaning));
                let committed = revisions.commit(candidate, authority).await?;
                revisions.put_in_force(committed);
                let revision = revisions.in_force().record.revision;
                tracing::info!(
                    revision,
                    more,
                    "the file means something else than revision {number}, which it replaces:\n{}",
                    changes.join("\n")
                );
            }
        }
        Ok(BegunWith { revisions, waits, is_stale })
    }
}

impl Known {
    async fn read(store: &Store, keys: &Keys) -> Result<Option<Self>, ConfigRefused> {
        let Some(row) = store.get(keys.head()).await.map_err(failed)? else { return Ok(None) };
        let head: Head = rows::decode(&row)?;
        let records = store.range(keys.records()).await.map_err(failed)?.rows;
        let records: Vec<Record> = records.iter().map(rows::decode).collect::<Result<_, _>>()?;
        let kept = records.iter().map(|record| record.revision).collect();
        let newest = records.into_iter().find(|record| record.revision == head.in_force);
        let newest = newest.ok_or(ConfigRefused::Unknown(head.in_force))?;
        let newest_text = text(store, keys, head.in_force).await?;
        let file_text = match head.file == head.in_force {
            true => newest_text.clone(),
            false => text(store, keys, head.file).await?,
        };
        Ok(Some(Self {
            newest_meaning: meaning(&newest_text, "").ok(),
            file_meaning: meaning(&file_text, "").ok(),
            head,
            head_row: row.mod_revision,
            kept,
            newest,
            newest_text,
        }))
    }
}

impl Revisions {
    async fn first(
        store: Store,
        keys: Keys,
        candidate: Candidate,
        authority: &Authority,
    ) -> Result<Self, ConfigRefused> {
        let Candidate { text, meaning, .. } = candidate.clone();
        let head = Head { format: rows::FORMAT, next: FIRST, in_force: 0, file: 0 };
        let mut revisions = Self {
            store,
            keys,
            head,
            head_row: None,
            kept: BTreeSet::new(),
            in_force: watch::Sender::new(Arc::new(InForce {
                record: Record::before_the_first(),
                text,
                meaning,
            })),
            file: None,
        };
        let committed = revisions.commit(candidate, authority).await?;
        revisions.put_in_force(committed);
        Ok(revisions)
    }
}
