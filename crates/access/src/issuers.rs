//! The one owner of the keys of issuers: what the file gives, and what is fetched, again in time and out of turn when a token
//! names a key that nobody knows. The workers read a published table, and fetch nothing.
//!
//! ```text
//! due ──▶ fetching ──▶ known: due again after its age (10 min, or what the answer says between 1 min and 1 h)
//!             └──────▶ failed, if by a bug: what is known stays in force; due again after 1 s, 2 s, … 60 s
//! ```
//!
//! One fetch of a URL at a time. A token with an unknown key begins one at most every 30 s.

mod fetch;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::token::{Issuer, Known};
use crate::{IssuerRules, Jwks, TokenTable, VerifyingKey};

pub use fetch::{FetchKeys, Fetched, OverHttp};

/// How long fetched keys are as good as new, unless their answer says otherwise.
const AGE: Duration = Duration::from_secs(600);
/// The least and the most that an answer can say.
const AGES: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(3_600)];
/// How soon after a failure it is tried again at first; twice as long after each.
const RETRY: Duration = Duration::from_secs(1);
/// How long it is at the most.
const MAX_RETRY: Duration = Duration::from_secs(60);
/// How often a token with an unknown key has keys fetched out of turn.
const OUT_OF_TURN: Duration = Duration::from_secs(30);
/// Questions of workers on their way; whoever finds no room is refused.
const QUEUED_QUESTIONS: usize = 256;
/// Questions that wait for one fetch; more are answered at once.
const WAITING_QUESTIONS: usize = 1_024;

/// An issuer, and where its keys are.
#[derive(Clone)]
pub struct IssuerSource {
    /// What its tokens are good for.
    pub rules: Arc<IssuerRules>,
    /// The keys that need not be fetched.
    pub keys: Vec<Arc<VerifyingKey>>,
    /// Where the others are.
    pub url: Option<String>,
}

/// A worker's question for a key that it does not know. The answer is that it is dropped: then the table is as good as it gets.
pub struct Asked {
    issuer: Arc<str>,
    /// The number of the table that does not have it.
    table: u64,
    _answered: oneshot::Sender<()>,
}

/// What a worker has of the keys: the table in force with every later one, and whom to ask.
#[derive(Clone)]
pub struct KeysOfIssuers {
    /// The tables.
    pub tables: watch::Receiver<Arc<TokenTable>>,
    questions: mpsc::Sender<Asked>,
}

impl KeysOfIssuers {
    /// Asks for a key that is not in the table of this number; what resolves when the table is as good as it gets. `None` when
    /// too many ask already.
    pub fn ask(&self, issuer: Arc<str>, table: u64) -> Option<impl Future<Output = ()> + use<>> {
        let (answered, answer) = oneshot::channel();
        self.questions.try_send(Asked { issuer, table, _answered: answered }).ok()?;
        Some(async move {
            let _dropped = answer.await.is_err();
        })
    }
}

/// Who says which issuers there are.
pub struct Issuers {
    sources: watch::Sender<Vec<IssuerSource>>,
    keys: KeysOfIssuers,
}

impl Issuers {
    /// These issuers, whose owner has yet to run. What need not be fetched is in the table already.
    pub fn new(sources: Vec<IssuerSource>, fetch: impl FetchKeys) -> (Self, IssuerOwner) {
        let (table, tables) = watch::channel(Arc::new(table(&sources, &BTreeMap::new())));
        let (questions, asked) = mpsc::channel(QUEUED_QUESTIONS);
        let (sources, followed) = watch::channel(sources);
        let owner = IssuerOwner {
            sources: followed,
            asked,
            table,
            fetch: Arc::new(fetch),
            remotes: BTreeMap::new(),
            fetches: JoinSet::new(),
        };
        (Self { sources, keys: KeysOfIssuers { tables, questions } }, owner)
    }

    /// These issuers and no others from now on. Keys that were fetched stay where the URL does.
    pub fn set(&self, sources: Vec<IssuerSource>) {
        self.sources.send_replace(sources);
    }

    /// What a worker needs.
    pub fn keys(&self) -> KeysOfIssuers {
        self.keys.clone()
    }
}

/// Keeps the table up to date.
pub struct IssuerOwner {
    sources: watch::Receiver<Vec<IssuerSource>>,
    asked: mpsc::Receiver<Asked>,
    table: watch::Sender<Arc<TokenTable>>,
    fetch: Arc<dyn FetchKeys>,
    /// By URL.
    remotes: BTreeMap<String, Remote>,
    /// Which URL each is for, [`Remote::progress`] says.
    fetches: JoinSet<Result<Fetched, String>>,
}

/// What is known of the keys behind a URL.
struct Remote {
    keys: Vec<Arc<VerifyingKey>>,
    /// What the keys were read from.
    body: Option<Bytes>,
    /// The number of the first table that has these keys.
    published: u64,
    due: Instant,
    progress: Progress,
    /// How often in a row it has failed.
    failures: u32,
    out_of_turn: Option<Instant>,
    waiting: Vec<Asked>,
}

enum Progress {
    Idle,
    Fetching(AbortHandle),
}

impl Remote {
    fn new(now: Instant) -> Self {
        Self {
            keys: Vec::new(),
            body: None,
            published: 0,
            due: now,
            progress: Progress::Idle,
            failures: 0,
            out_of_turn: None,
            waiting: Vec::new(),
        }
    }

    fn is_idle(&self) -> bool {
        matches!(self.progress, Progress::Idle)
    }

    fn is_fetched_by(&self, id: Id) -> bool {
        matches!(&self.progress, Progress::Fetching(fetch) if fetch.id() == id)
    }
}

impl IssuerOwner {
    /// Fetches, answers and publishes until it is told to end.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        self.take_over_sources();
        loop {
            self.begin_what_is_due();
            let due = self.next_due();
            tokio::select! {
                () = &mut shutdown => return,
                Ok(()) = self.sources.changed() => self.take_over_sources(),
                Some(asked) = self.asked.recv() => self.answer(asked),
                Some(ended) = self.fetches.join_next_with_id() => self.ended(ended),
                () = until(due) => {}
            }
        }
    }

    fn take_over_sources(&mut self) {
        let sources = self.sources.borrow_and_update().clone();
        let wanted = |url: &String| sources.iter().any(|source| source.url.as_ref() == Some(url));
        self.remotes.retain(|url, remote| {
            let stays = wanted(url);
            if let Progress::Fetching(fetch) = &remote.progress
                && !stays
            {
                // If it comes back, it is as new: this answer is not for it.
                fetch.abort();
            }
            stays
        });
        for url in sources.iter().filter_map(|source| source.url.clone()) {
            self.remotes.entry(url).or_insert_with(|| Remote::new(Instant::now()));
        }
        self.publish();
    }

    /// The number of the table that is in force now.
    fn publish(&self) -> u64 {
        let table = table(&self.sources.borrow(), &self.remotes);
        let number = table.number();
        self.table.send_replace(Arc::new(table));
        number
    }

    fn begin_what_is_due(&mut self) {
        let now = Instant::now();
        for (url, remote) in &mut self.remotes {
            if remote.is_idle() && remote.due <= now {
                let (url, fetch) = (url.clone(), Arc::clone(&self.fetch));
                remote.progress =
                    Progress::Fetching(self.fetches.spawn(async move { fetch.fetch(&url).await }));
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let idle = self.remotes.values().filter(|remote| remote.is_idle());
        idle.map(|remote| remote.due).min()
    }

    /// Whoever asks with a table from before these keys looks at the newest one first.
    fn answer(&mut self, asked: Asked) {
        let sources = self.sources.borrow();
        let url = sources.iter().find(|source| source.rules.issuer == asked.issuer);
        let url = url.and_then(|source| source.url.as_ref());
        let Some(remote) = url.and_then(|url| self.remotes.get_mut(url)) else { return };
        if asked.table < remote.published || remote.waiting.len() >= WAITING_QUESTIONS {
            return;
        }
        let now = Instant::now();
        if remote.is_idle() {
            if remote.out_of_turn.is_some_and(|last| now < last + OUT_OF_TURN) {
                return;
            }
            (remote.out_of_turn, remote.due) = (Some(now), now);
        }
        remote.waiting.push(asked);
    }

    /// A fetch is over, if only by a bug. One whose URL was taken away is nobody's.
    fn ended(&mut self, ended: Result<(Id, Result<Fetched, String>), JoinError>) {
        let (id, fetched) = match ended {
            Ok(ended) => ended,
            Err(error) => (error.id(), Err(format!("it was broken off: {error}"))),
        };
        let url =
            self.remotes.iter().find(|(_, remote)| remote.is_fetched_by(id)).map(|(url, _)| url.clone());
        if let Some(url) = url {
            self.fetched(&url, fetched);
        }
    }

    fn fetched(&mut self, url: &str, fetched: Result<Fetched, String>) {
        let issuer = self.name_of(url);
        let Some(remote) = self.remotes.get_mut(url) else { return };
        remote.progress = Progress::Idle;
        let read = fetched.and_then(|fetched| {
            let set = Jwks::read(&fetched.body).map_err(|error| error.to_string())?;
            Ok((fetched, set))
        });
        let shown = shown(url);
        let is_new = match read {
            Ok((Fetched { body, max_age }, set)) => {
                if remote.failures > 0 {
                    tracing::info!(issuer, url = shown, "the keys of an issuer can be fetched again");
                }
                remote.failures = 0;
                remote.due = Instant::now() + max_age.map_or(AGE, |age| age.clamp(AGES[0], AGES[1]));
                let is_new = remote.body.as_ref() != Some(&body);
                if is_new && set.keys.is_empty() {
                    let left_out = set.left_out;
                    tracing::warn!(
                        issuer,
                        url = shown,
                        left_out,
                        "an issuer has no key that can be used here"
                    );
                }
                if is_new {
                    (remote.keys, remote.body) = (set.keys, Some(body));
                }
                is_new
            }
            Err(reason) => {
                if remote.failures == 0 {
                    let known = remote.keys.len();
                    tracing::warn!(
                        issuer,
                        url = shown,
                        reason,
                        known,
                        "the keys of an issuer cannot be fetched; those that are known stay in force, and it is tried again"
                    );
                }
                let wait = RETRY.saturating_mul(1_u32.checked_shl(remote.failures).unwrap_or(u32::MAX));
                remote.failures = remote.failures.saturating_add(1);
                remote.due = Instant::now() + wait.min(MAX_RETRY);
                false
            }
        };
        let waiting = std::mem::take(&mut remote.waiting);
        if is_new {
            let number = self.publish();
            self.remotes.get_mut(url).expect("it was there above").published = number;
        }
        // Who waits finds the newest table.
        drop(waiting);
    }

    /// The first issuer whose keys are there, for the log.
    fn name_of(&self, url: &str) -> String {
        let sources = self.sources.borrow();
        let found = sources.iter().find(|source| source.url.as_deref() == Some(url));
        found.map(|source| source.rules.issuer.to_string()).unwrap_or_default()
    }
}

fn table(sources: &[IssuerSource], remotes: &BTreeMap<String, Remote>) -> TokenTable {
    TokenTable::of(sources.iter().map(|source| {
        let remote = source.url.as_ref().and_then(|url| remotes.get(url));
        let was_fetched = remote.is_some_and(|remote| remote.body.is_some());
        let fetched = remote.into_iter().flat_map(|remote| &remote.keys);
        Issuer {
            rules: Arc::clone(&source.rules),
            keys: source.keys.iter().chain(fetched).cloned().collect(),
            known: if source.url.is_none() || was_fetched { Known::All } else { Known::NotAll },
        }
    }))
}

/// A query may hold what is nobody's business.
fn shown(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
