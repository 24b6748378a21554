//! The connection of one worker: kept by a task, asked by requests. A request never waits for a connect, and for an answer so
//! long and no longer. An answer that is an error ends the connection, and so does it when nobody at all was answered for so long
//! while somebody waited: whoever asks next need not find out the same. One that is late among others is late for itself alone.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use access::{Allowance, Allowed, Denied, Exceeded, Left, Limit};
use redis::{RedisError, ServerErrorKind, Value};
use tokio::sync::Notify;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep, timeout};

use crate::connect::{self, Ready};
use crate::names::Names;
use crate::script::{self, Bound, Counted, Mode};
use crate::{SharedLimits, Uncounted};

/// How long a request waits for an answer.
pub const ANSWER_LIMIT: Duration = Duration::from_millis(100);
/// How many requests of a worker wait for answers at the same time.
pub const MAX_WAITING: usize = 1024;
/// How many turns others are given after that: to read what has come, and to hand it over.
const TURNS: usize = 3;
/// How long it may take until a connection has counted for the first time.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// How long whoever begins with a connection may wait for it.
const BEGIN_LIMIT: Duration = Duration::from_millis(500);
/// The pause before the next try: it doubles from the first to the last.
const PAUSE: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];
/// A connection that has lasted so long was a good one: after it the pause is the first again.
const GOOD: Duration = Duration::from_secs(10);

/// A worker's connection. Its task ends when it is dropped.
pub struct Link {
    state: Rc<State>,
    shared: Arc<SharedLimits>,
    _keeper: JoinSet<()>,
}

struct State {
    shared: Arc<SharedLimits>,
    ready: RefCell<Option<Rc<Usable>>>,
    waiting: Cell<usize>,
    standing: Cell<Standing>,
    tried: Notify,
}

/// Whether this worker reaches Redis, as far as the log was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Untried,
    Reached,
    Lost,
}

/// The connection that is used at present.
struct Usable {
    ready: Ready,
    /// When somebody was last given an answer on it.
    answered: Cell<Instant>,
    /// Said by whoever has found that it is none.
    broken: Notify,
}

impl Link {
    /// Begins to connect. It has to be called in a runtime whose tasks stay on their thread.
    pub fn begin(shared: Arc<SharedLimits>) -> Self {
        let state = Rc::new(State {
            shared: Arc::clone(&shared),
            ready: RefCell::default(),
            waiting: Cell::new(0),
            standing: Cell::new(Standing::Untried),
            tried: Notify::new(),
        });
        let mut keeper = JoinSet::new();
        keeper.spawn_local(keep(Rc::clone(&state)));
        Self { state, shared, _keeper: keeper }
    }

    /// Whose connection it is.
    pub fn shared(&self) -> &Arc<SharedLimits> {
        &self.shared
    }

    /// Returns when the first try to connect is over, or has taken too long to wait for it.
    pub async fn begun(&self) {
        let tried = async {
            while self.state.standing.get() == Standing::Untried {
                self.state.tried.notified().await;
            }
        };
        let _taken_too_long = timeout(BEGIN_LIMIT, tried).await.is_err();
    }

    /// Counts a request by the address of its client.
    ///
    /// # Errors
    /// Redis did not say whether it is allowed.
    pub async fn take_address(
        &self,
        address: IpAddr,
        limit: &Limit,
    ) -> Result<Result<Allowed, Denied>, Uncounted> {
        let bounds = [Bound::rate(self.shared.names.address(address), limit)];
        let counted = self.count(Mode::Take, &bounds).await?;
        Ok(counted.map(|left| left[0]).map_err(|(_, denied)| denied))
    }

    /// Counts a request by its caller and by the route of this name, by all of their limits or by none, as [`access::admit`]
    /// does. There has to be one.
    ///
    /// # Errors
    /// Redis did not say whether it is allowed.
    pub async fn admit(
        &self,
        allowance: Option<&Allowance>,
        route: Option<(&str, &Limit)>,
    ) -> Result<Result<Left, (Exceeded, Denied)>, Uncounted> {
        let (bounds, kinds) = bounds(&self.shared.names, allowance, route);
        let counted = self.count(Mode::Take, &bounds).await?;
        Ok(counted.map(|left| left_of(&kinds, &left)).map_err(|(place, denied)| (kinds[place], denied)))
    }

    /// What is left of a caller's limits. Changes nothing.
    ///
    /// # Errors
    /// Redis did not say.
    pub async fn left(&self, allowance: &Allowance) -> Result<Left, Uncounted> {
        let (bounds, kinds) = bounds(&self.shared.names, Some(allowance), None);
        if bounds.is_empty() {
            return Ok(Left::default());
        }
        let counted = self.count(Mode::Look, &bounds).await?;
        Ok(counted.map(|left| left_of(&kinds, &left)).unwrap_or_default())
    }

    /// Whether nobody has used this nonce in the time before, at any of the gateways; from now on somebody has, for `ttl`.
    ///
    /// # Errors
    /// Redis did not say, and may have noted it. Whatever is to happen once must not happen then.
    pub async fn first_use(&self, nonce: &[u8], ttl: Duration) -> Result<bool, Uncounted> {
        let mut command = redis::cmd("SET");
        let milliseconds = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        command.arg(self.shared.names.nonce(nonce)).arg(1).arg("NX").arg("PX").arg(milliseconds);
        let asked = self.ask(async |ready| connect::ask(&ready.connection, &command).await);
        match asked.await? {
            Value::Okay => Ok(true),
            Value::Nil => Ok(false),
            _ => Err(Uncounted::Unavailable),
        }
    }

    async fn count(&self, mode: Mode, bounds: &[Bound]) -> Result<Counted, Uncounted> {
        let asked = self.ask(async |ready| {
            match connect::ask(&ready.connection, &script::command(&ready.script, mode, bounds)).await {
                Err(error) if is_no_script(&error) => {
                    // Somebody has had Redis forget all scripts, or it is another one than before.
                    let script = connect::load(&ready.connection).await?;
                    connect::ask(&ready.connection, &script::command(&script, mode, bounds)).await
                }
                answered => answered,
            }
        });
        script::answer(&asked.await?, bounds.len()).ok_or(Uncounted::Unavailable)
    }

    async fn ask(
        &self,
        question: impl AsyncFnOnce(&Ready) -> Result<Value, RedisError>,
    ) -> Result<Value, Uncounted> {
        let usable = self.state.ready.borrow().clone().ok_or(Uncounted::Unavailable)?;
        let _waiting = Waiting::begin(&self.state.waiting).ok_or(Uncounted::Overloaded)?;
        let failed = match in_time(question(&usable.ready)).await {
            Some(Ok(value)) => {
                usable.answered.set(Instant::now());
                return Ok(value);
            }
            Some(Err(error)) => error.to_string(),
            None if usable.answered.get().elapsed() < ANSWER_LIMIT => return Err(Uncounted::Unavailable),
            None => format!("it did not answer within {} ms", ANSWER_LIMIT.as_millis()),
        };
        self.state.break_off(&usable, &failed);
        Err(Uncounted::Unavailable)
    }
}

/// The limits in the order in which [`access::admit`] asks them, and which each of them is.
pub(crate) fn bounds(
    names: &Names,
    allowance: Option<&Allowance>,
    route: Option<(&str, &Limit)>,
) -> (Vec<Bound>, Vec<Exceeded>) {
    let (mut bounds, mut kinds) = (Vec::with_capacity(3), Vec::with_capacity(3));
    if let Some((allowance, daily)) = allowance.and_then(|allowance| Some((allowance, allowance.daily()?))) {
        bounds.push(Bound::daily(names.day(allowance.holder()), daily.quota()));
        kinds.push(Exceeded::Daily);
    }
    if let Some((name, limit)) = route {
        bounds.push(Bound::rate(names.route(name), limit));
        kinds.push(Exceeded::Route);
    }
    if let Some((allowance, bucket)) = allowance.and_then(|allowance| Some((allowance, allowance.bucket()?)))
    {
        bounds.push(Bound::rate(names.rate(allowance.holder()), bucket.limit()));
        kinds.push(Exceeded::Rate);
    }
    (bounds, kinds)
}

pub(crate) fn left_of(kinds: &[Exceeded], left: &[Allowed]) -> Left {
    let of = |kind| kinds.iter().position(|known| *known == kind).map(|place| left[place]);
    Left { rate: of(Exceeded::Rate), daily: of(Exceeded::Daily), route: of(Exceeded::Route) }
}

/// The answer that comes within the limit. What has come while this thread itself was held up counts as well: it is read in the
/// turns that others are given here.
async fn in_time<T>(asked: impl Future<Output = T>) -> Option<T> {
    let mut asked = pin!(asked);
    if let Ok(answered) = timeout(ANSWER_LIMIT, &mut asked).await {
        return Some(answered);
    }
    for _ in 0..TURNS {
        yield_now().await;
        let answered = tokio::select! {
            biased;
            answered = &mut asked => Some(answered),
            () = std::future::ready(()) => None,
        };
        if answered.is_some() {
            return answered;
        }
    }
    None
}

fn is_no_script(error: &RedisError) -> bool {
    error.kind() == redis::ErrorKind::Server(ServerErrorKind::NoScript)
}

/// One of the requests that wait.
struct Waiting<'a>(&'a Cell<usize>);

impl<'a> Waiting<'a> {
    fn begin(waiting: &'a Cell<usize>) -> Option<Self> {
        if waiting.get() >= MAX_WAITING {
            return None;
        }
        waiting.set(waiting.get() + 1);
        Some(Self(waiting))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl State {
    fn reached(&self, ready: Ready) -> Rc<Usable> {
        let usable = Rc::new(Usable { ready, answered: Cell::new(Instant::now()), broken: Notify::new() });
        *self.ready.borrow_mut() = Some(Rc::clone(&usable));
        match self.standing.replace(Standing::Reached) {
            Standing::Untried => self.shared.presence.reached(),
            Standing::Lost => self.shared.presence.found(),
            Standing::Reached => {}
        }
        self.tried.notify_waiters();
        usable
    }

    fn lost(&self, reason: &str) {
        *self.ready.borrow_mut() = None;
        if self.standing.replace(Standing::Lost) != Standing::Lost {
            self.shared.presence.lost(reason);
        }
        self.tried.notify_waiters();
    }

    /// Ends this connection, where it is still the one that is used.
    fn break_off(&self, usable: &Rc<Usable>, reason: &str) {
        let is_used = self.ready.borrow().as_ref().is_some_and(|used| Rc::ptr_eq(used, usable));
        if is_used {
            self.lost(reason);
            usable.broken.notify_one();
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if self.standing.get() == Standing::Lost {
            self.shared.presence.left();
        }
    }
}

/// Connects again and again, and moves the bytes of each connection until it ends.
async fn keep(state: Rc<State>) {
    let [first, last] = PAUSE;
    let mut pause = first;
    loop {
        let connecting = connect::connect(&state.shared.server, &state.shared.names);
        let connected = timeout(CONNECT_LIMIT, connecting).await;
        match connected.unwrap_or_else(|_| Err("it did not answer in time".to_owned())) {
            Ok((ready, driver)) => {
                let (began, usable) = (Instant::now(), state.reached(ready));
                tokio::select! {
                    () = driver => state.lost("it ended the connection"),
                    () = usable.broken.notified() => {}
                }
                if began.elapsed() >= GOOD {
                    pause = first;
                }
            }
            Err(reason) => state.lost(&reason),
        }
        // Gateways and workers that have lost it together do not come back together.
        sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(last);
    }
}
