//! Asks the members in turn, until one answers or time is up.
//!
//! What was surely not done is tried again elsewhere. A request whose answer was lost is sent again only if doing it twice is the
//! same as doing it once; any other is undecided.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

use super::connection::Unanswered;
use super::login::{Logins, Token};
use super::member::{Answered, Member};
use super::messages::{Base64, Header, RangeAnswer, RangeRequest, error_text};
use super::presence::Presence;
use super::refusal::Refusal;
use super::{EndPoint, Login};
use crate::StoreError;

/// How long one member may take to answer what may be asked again.
pub(super) const TRY_LIMIT: Duration = Duration::from_secs(3);
/// How long one may take for a transaction. Afterwards it is undecided, so it is given the time of an election.
const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// How long a request may take with all of its tries: longer than a cluster needs to choose another leader.
const TOTAL_LIMIT: Duration = Duration::from_secs(10);
/// Rounds over all end points in which nobody is there, before that is said.
const ABSENT_ROUNDS: u32 = 3;
/// Rounds altogether while it is known that etcd is away.
const ROUNDS_AWAY: u32 = 1;
/// Between the first round and the second.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Between two rounds at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Tokens that one request tries.
const MAX_TOKENS: u32 = 3;

/// Whether a request may be sent again when its answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Twice is as good as once.
    Safe,
    /// Twice is another thing than once.
    Never,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum CallError {
    LeaseEnded,
    Compacted,
    /// The answer is over the limit.
    TooLong,
    Store(StoreError),
}

/// How the rounds over the members ended without an answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    Unreachable(String),
    Undecided(String),
    Refused(Refusal),
    TooLong,
}

/// What one try came to.
enum Tried {
    Answered(Bytes),
    TooLong,
    Refused(Refusal),
    /// Nobody was there.
    Absent(String),
    /// What is not known any more.
    Lost(String),
}

/// The members, and what is known of them.
pub(super) struct Client {
    members: Vec<Member>,
    namespace: Vec<u8>,
    /// The member to begin with: the one that answered last.
    good: AtomicUsize,
    presence: Arc<Presence>,
    logins: Logins,
    random: Mutex<fastrand::Rng>,
}

impl Client {
    /// Of at least one end point.
    pub(super) fn new(
        end_points: Vec<EndPoint>,
        tls: Option<Arc<ClientConfig>>,
        namespace: Vec<u8>,
        login: Option<Login>,
        random: fastrand::Rng,
    ) -> Self {
        let members = end_points.into_iter().map(|at| Member::new(at, tls.clone())).collect();
        Self {
            members,
            namespace,
            good: AtomicUsize::new(0),
            presence: Arc::new(Presence::new()),
            logins: Logins::new(login),
            random: Mutex::new(random),
        }
    }

    pub(super) fn namespace(&self) -> &[u8] {
        &self.namespace
    }

    pub(super) fn presence(&self) -> &Arc<Presence> {
        &self.presence
    }

    /// The member to begin with, and its place.
    pub(super) fn good(&self) -> (usize, &Member) {
        let index = self.good.load(Ordering::Relaxed);
        (index, &self.members[index])
    }

    pub(super) fn member(&self, index: usize) -> &Member {
        &self.members[index]
    }

    /// Begins with another than this one from now on.
    pub(super) fn bad(&self, index: usize) {
        let next = (index + 1) % self.members.len();
        let _moved_already = self.good.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.members.len()
    }

    /// How long to wait before the next round: twice as long each time, and not quite as long as somebody else.
    pub(super) fn pause(&self, round: u32) -> Duration {
        let longest = LONGEST_PAUSE.min(FIRST_PAUSE * 2_u32.saturating_pow(round.min(10)));
        let share = self.random.lock().unwrap_or_else(PoisonError::into_inner).f64();
        longest.mul_f64(0.5 + share / 2.0)
    }

    /// Asks for one key, which only a member with a majority behind it answers. Gives what stands above the answer.
    pub(super) async fn look(&self) -> Result<Header, CallError> {
        let key = if self.namespace.is_empty() { vec![0] } else { self.namespace.clone() };
        let request = RangeRequest { key: Base64(key), keys_only: true, ..RangeRequest::default() };
        let answer = self.call::<RangeAnswer>("/v3/kv/range", &request, Repeat::Safe).await?;
        Ok(answer.header)
    }

    /// Asks until one answers.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        path: &str,
        request: &impl Serialize,
        repeat: Repeat,
    ) -> Result<T, CallError> {
        let answer = self.ask(path, body_of(request), repeat).await?;
        serde_json::from_slice(&answer).map_err(|error| {
            let reason = format!("etcd's answer is not understood: {error}");
            CallError::Store(match repeat {
                Repeat::Safe => StoreError::Failed(reason),
                Repeat::Never => StoreError::Undecided(reason),
            })
        })
    }

    async fn ask(&self, path: &str, body: Bytes, repeat: Repeat) -> Result<Bytes, CallError> {
        let deadline = Instant::now() + TOTAL_LIMIT;
        let mut token = self.token(0, deadline).await?;
        for _try in 1..MAX_TOKENS {
            match self.rounds(path, token.header.clone(), body.clone(), repeat, deadline).await {
                // Who comes is judged before what is asked for: nothing was done.
                Err(NoAnswer::Refused(Refusal::Token)) if self.has_login() => {
                    token = self.token(token.number, deadline).await?;
                }
                asked => return asked.map_err(CallError::from),
            }
        }
        Ok(self.rounds(path, token.header, body, repeat, deadline).await?)
    }

    /// Asks one member once.
    pub(super) async fn call_at<T: DeserializeOwned>(
        &self,
        index: usize,
        path: &str,
        request: &impl Serialize,
    ) -> Result<T, NoAnswer> {
        let (body, deadline) = (body_of(request), Instant::now() + TRY_LIMIT);
        let mut token = self.token(0, deadline).await?;
        for _try in 0..MAX_TOKENS {
            match one_try(self.member(index), path, token.header, body.clone(), deadline).await {
                Tried::Answered(bytes) => {
                    let failed = |error| format!("etcd's answer is not understood: {error}");
                    return serde_json::from_slice(&bytes)
                        .map_err(|error| NoAnswer::Refused(Refusal::Failed(failed(error))));
                }
                Tried::TooLong => return Err(NoAnswer::TooLong),
                Tried::Absent(reason) | Tried::Lost(reason) => return Err(NoAnswer::Unreachable(reason)),
                Tried::Refused(Refusal::Token) if self.has_login() => {
                    token = self.token(token.number, deadline).await?;
                }
                Tried::Refused(refusal) => return Err(NoAnswer::Refused(refusal)),
            }
        }
        Err(NoAnswer::Refused(Refusal::Token))
    }

    /// A token later than the one of that number.
    pub(super) async fn token(&self, after: u64, deadline: Instant) -> Result<Token, NoAnswer> {
        let log_in = |body| self.rounds("/v3/auth/authenticate", None, body, Repeat::Safe, deadline);
        self.logins.token(after, log_in).await
    }

    pub(super) fn has_login(&self) -> bool {
        self.logins.has_login()
    }

    /// Round after round over the members, until one answers.
    async fn rounds(
        &self,
        path: &str,
        token: Option<HeaderValue>,
        body: Bytes,
        repeat: Repeat,
        deadline: Instant,
    ) -> Result<Bytes, NoAnswer> {
        let most = if self.presence.is_away() { ROUNDS_AWAY } else { u32::MAX };
        let mut round = 0;
        loop {
            let (mut absent, mut last) = (0, String::new());
            for _member in 0..self.count() {
                let (index, member) = self.good();
                let limit = if repeat == Repeat::Never { WRITE_LIMIT } else { TRY_LIMIT };
                let limit = deadline.min(Instant::now() + limit);
                match one_try(member, path, token.clone(), body.clone(), limit).await {
                    Tried::Answered(bytes) => return Ok(self.answered(bytes)),
                    Tried::TooLong => return Err(self.answered(NoAnswer::TooLong)),
                    Tried::Absent(reason) => (absent, last) = (absent + 1, reason),
                    Tried::Refused(Refusal::NotNow(reason)) => last = reason,
                    Tried::Refused(Refusal::Undecided(reason)) | Tried::Lost(reason) => {
                        self.presence.doubted();
                        if repeat == Repeat::Never {
                            self.bad(index);
                            return Err(NoAnswer::Undecided(reason));
                        }
                        last = reason;
                    }
                    Tried::Refused(refusal) => return Err(self.answered(NoAnswer::Refused(refusal))),
                }
                self.bad(index);
                if Instant::now() >= deadline {
                    break;
                }
            }
            round += 1;
            let is_deserted = absent == self.count() && round >= ABSENT_ROUNDS;
            if is_deserted || round >= most || Instant::now() >= deadline {
                self.presence.silent(&last);
                return Err(NoAnswer::Unreachable(last));
            }
            sleep(self.pause(round)).await;
        }
    }

    fn answered<T>(&self, what: T) -> T {
        self.presence.answered();
        what
    }
}

pub(super) fn body_of(request: &impl Serialize) -> Bytes {
    Bytes::from(serde_json::to_vec(request).expect("a message has plain fields"))
}

async fn one_try(
    member: &Member,
    path: &str,
    token: Option<HeaderValue>,
    body: Bytes,
    limit: Instant,
) -> Tried {
    match member.ask(path, token, body, limit).await {
        // A stream that fails before its first message says so with the status of one that does not.
        Ok(Answered::Whole(status, bytes)) if status.is_success() && !bytes.starts_with(b"{\"error\"") => {
            Tried::Answered(bytes)
        }
        Ok(Answered::Whole(status, bytes)) => {
            let said = serde_json::from_slice(&bytes).map(|error| error_text(&error));
            let said = said.unwrap_or_else(|_no_json| format!("HTTP status {status}"));
            let status = if status.is_success() { http::StatusCode::SERVICE_UNAVAILABLE } else { status };
            Tried::Refused(Refusal::of(status, said))
        }
        Ok(Answered::TooLong) => Tried::TooLong,
        Err(Unanswered::NotSent(reason)) => Tried::Absent(reason),
        Err(Unanswered::Lost(reason)) => Tried::Lost(reason),
    }
}

impl From<NoAnswer> for CallError {
    fn from(none: NoAnswer) -> Self {
        let refusal = match none {
            NoAnswer::Unreachable(reason) => return Self::Store(StoreError::Unreachable(reason)),
            NoAnswer::Undecided(reason) => return Self::Store(StoreError::Undecided(reason)),
            NoAnswer::TooLong => return Self::TooLong,
            NoAnswer::Refused(refusal) => refusal,
        };
        match refusal {
            Refusal::LeaseEnded => Self::LeaseEnded,
            Refusal::Compacted => Self::Compacted,
            other => Self::Store(other.into_error()),
        }
    }
}
