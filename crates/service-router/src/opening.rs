//! How a call gets a connection: one that is there, or a new one within the service's limits and the call's time.
//!
//! Nothing is sent here, so whatever goes wrong lets any call go on at another replica. Waiting for a limit is never held
//! against a replica.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use observability::CircuitLimit;

use crate::answer::Carrier;
use crate::call::{CallHead, Replay};
use crate::circuit::Permit;
use crate::connect::{ConnectError, connect};
use crate::endpoint::{Endpoint, MAX_SHARED};
use crate::execute::{Execution, WaitError, WaitsFor};
use crate::http1_call::Http1Call;
use crate::http1_connection::Http1Connection;
use crate::http2_connection::{BeginError, Http2Connection, Start};
use crate::policy::UpstreamProtocol;
use crate::request_body::{BodyError, RequestBody};
use crate::tries::Try;

/// Why a replica was waited for no longer.
enum Late {
    /// A try has taken its time, and there is another replica.
    ForTry,
    /// The call has.
    ForCall(WaitError),
}

/// The turn of a call to look for room. One is told of room at a time, and whoever finds some tells the next of what is left,
/// also when it goes without any.
struct Turn<'a> {
    endpoint: &'a Endpoint,
    may_be_left: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Without a connection there is no call either whose end would tell anybody.
        if self.may_be_left || !self.endpoint.is_connected() {
            self.endpoint.room.notify_one();
        }
    }
}

impl<H: CallHead, B: RequestBody> Execution<'_, H, B> {
    /// A connection that has the call in front of it, and whether another call made it.
    pub(crate) async fn open(&mut self, endpoint: &Rc<Endpoint>) -> Result<(Carrier, bool), Try> {
        match self.policy.protocol {
            UpstreamProtocol::Http1 => self.http1(endpoint).await,
            UpstreamProtocol::Http2 => self.http2(endpoint).await,
        }
    }

    async fn http1(&mut self, endpoint: &Rc<Endpoint>) -> Result<(Carrier, bool), Try> {
        let idle = if self.tries.fresh_only { None } else { endpoint.take_idle() };
        let connection = match idle {
            Some(connection) => connection,
            // Boxed: connecting is rare, and its state would make every call's larger.
            None => Box::pin(self.new_http1(endpoint)).await?,
        };
        let reused = connection.reused;
        let (messages, framing) = (&self.router.messages, self.upload.framing());
        let call = Http1Call::new(connection, messages, self.head, framing, self.time_left_ms());
        Ok((Carrier::Http1(call), reused))
    }

    async fn new_http1(&mut self, endpoint: &Rc<Endpoint>) -> Result<Box<Http1Connection>, Try> {
        let permit = self.permit().await?;
        let (router, policy, instance) = (self.router, Rc::clone(&self.policy), &endpoint.instance);
        let made = connect(instance, policy.tls.as_ref(), Rc::clone(&router.buffers));
        let made = async { made.await.map_err(Try::not_connected) };
        let wire = self.connected(endpoint, WaitsFor::Replica, made).await?;
        Ok(Box::new(Http1Connection::new(wire, permit, &self.view.shard)))
    }

    async fn http2(&mut self, endpoint: &Rc<Endpoint>) -> Result<(Carrier, bool), Try> {
        let mut turn = Turn { endpoint, may_be_left: false };
        let since = if self.tries.fresh_only { endpoint.connections().0 } else { 0 };
        if self.options.replay == Replay::Unsafe
            && endpoint.shared_connection(since).is_some_and(|idle| idle.calls() == 0)
        {
            // The connection gets a turn to see that the replica has closed it meanwhile. That is cheaper than a call that must
            // fail, since it may have been executed.
            tokio::task::yield_now().await;
        }
        // Whoever waits for room already comes first.
        if since == 0 && endpoint.awaited_by() > 0 && endpoint.shared_connection(since).is_some() {
            Box::pin(self.room(endpoint)).await?;
        }
        loop {
            let (connection, reused) = match endpoint.shared_connection(since) {
                Some(connection) => (connection, true),
                None => {
                    turn.may_be_left = false;
                    match Box::pin(self.new_http2(endpoint, since)).await? {
                        Some(connection) => (connection, false),
                        None => continue,
                    }
                }
            };
            turn.may_be_left = true;
            let time_left_ms = self.time_left_ms();
            let call = connection.begin(self.head, &self.upload, time_left_ms, endpoint.prunes());
            match call {
                Ok(call) => {
                    // One word of room may stand for that on several connections.
                    let elsewhere = || endpoint.awaited_by() > 0 && endpoint.shared_connection(0).is_some();
                    turn.may_be_left = connection.has_room() || elsewhere();
                    return Ok((Carrier::Http2(Box::new(call)), reused));
                }
                // It is among those that are shared no longer.
                Err(BeginError::Retired(_)) if reused => {}
                Err(BeginError::Retired(reason)) => return Err(Try::NotConnected(reason)),
                Err(BeginError::Request(reason)) => return Err(Try::Body(BodyError::Upstream(reason))),
            }
        }
    }

    /// Another connection to share, made by one call at a time, so that calls that come together share it. `None` when one
    /// that is there may have room by now.
    async fn new_http2(
        &mut self,
        endpoint: &Rc<Endpoint>,
        since: u64,
    ) -> Result<Option<Http2Connection>, Try> {
        let (_, failures) = endpoint.connections();
        let deadline = self.deadline();
        let alone = match self.wait(deadline, WaitsFor::Turn, endpoint.connecting.lock()).await {
            Ok(alone) => alone,
            // Whoever makes one may itself wait for the service's limit, or for the replica.
            Err(WaitError::Late) if self.view.circuit.borrow().is_awaited() => {
                return Err(Try::Shed("calls that wait for a connection"));
            }
            Err(WaitError::Late) => return Err(Try::TimedOut),
            Err(WaitError::Gone) => return Err(Try::Cancelled),
        };
        if endpoint.connections().1 != failures {
            return Err(Try::NotConnected("the attempt before this one has failed".into()));
        }
        if endpoint.shared_connection(since).is_some() {
            return Ok(None);
        }
        let full = endpoint.shared_connections() >= MAX_SHARED;
        if full && since > 0 {
            endpoint.retire_shared();
        }
        let permit = if full && since == 0 { None } else { self.permit_soon().await };
        let permit = match permit {
            Some(permit) => permit,
            // The calls on those that are there end, while a place for another may never come.
            None if since == 0 && endpoint.shared_connections() > 0 => {
                drop(alone);
                self.room(endpoint).await?;
                return Ok(None);
            }
            None => self.wait_for_permit().await?,
        };
        let made = self.make_http2(endpoint, permit).await;
        if let Err(Try::NotConnected(_) | Try::NotTrusted(_)) = &made {
            endpoint.not_connected();
        }
        made.map(Some)
    }

    async fn make_http2(&mut self, endpoint: &Rc<Endpoint>, permit: Permit) -> Result<Http2Connection, Try> {
        let (router, view, policy) = (self.router, self.view, Rc::clone(&self.policy));
        let start = Start { permit, calls: endpoint.calls_expected(), room: Rc::clone(&endpoint.room) };
        let made = async {
            let wire = connect(&endpoint.instance, policy.tls.as_ref(), Rc::clone(&router.buffers)).await;
            let wire = wire.map_err(Try::not_connected)?;
            Http2Connection::new(wire, start, &view.shard).await.map_err(Try::NotConnected)
        };
        let (connection, driver) = self.connected(endpoint, WaitsFor::ReplicaForAll, made).await?;
        endpoint.share(connection.clone(), driver);
        if self.client_is_gone().await {
            // It was made for the others too; but nothing is sent for nobody.
            endpoint.room.notify_one();
            return Err(Try::Cancelled);
        }
        Ok(connection)
    }

    /// Waits until a call may have ended on a connection to the endpoint.
    async fn room(&mut self, endpoint: &Rc<Endpoint>) -> Result<(), Try> {
        let (room, _waiting) = (Rc::clone(&endpoint.room), endpoint.begin_waiting());
        match self.in_time(endpoint, WaitsFor::Turn, room.notified()).await {
            Ok(()) => Ok(()),
            Err(Late::ForTry) => Err(Try::Full),
            Err(Late::ForCall(WaitError::Late)) => Err(Try::Shed("calls on its connections to a replica")),
            Err(Late::ForCall(WaitError::Gone)) => Err(Try::Cancelled),
        }
    }

    /// Waits for a connection to be made. Where another replica is in reach it has as long as a try, else as long as the call,
    /// but for the limit of connecting itself.
    async fn connected<T>(
        &mut self,
        endpoint: &Rc<Endpoint>,
        what: WaitsFor,
        made: impl Future<Output = Result<T, Try>>,
    ) -> Result<T, Try> {
        match self.in_time(endpoint, what, made).await {
            Ok(made) => {
                self.view.shard.connects.add(u64::from(made.is_ok()));
                made
            }
            Err(Late::ForTry) => {
                let (address, limit) = (endpoint.instance.address, self.policy.per_try_timeout);
                Err(Try::NotConnected(format!("connecting to {address}: no connection within {limit:?}")))
            }
            Err(Late::ForCall(WaitError::Late)) => Err(Try::TimedOut),
            Err(Late::ForCall(WaitError::Gone)) => Err(Try::Cancelled),
        }
    }

    async fn in_time<T>(
        &mut self,
        endpoint: &Rc<Endpoint>,
        what: WaitsFor,
        work: impl Future<Output = T>,
    ) -> Result<T, Late> {
        let mut work = pin!(work);
        let deadline = self.deadline();
        let first = deadline.min(self.now + self.policy.per_try_timeout);
        let mut done = self.wait(first, what, work.as_mut()).await;
        if matches!(done, Err(WaitError::Late)) && first < deadline {
            if self.policy.retry_on.connect && self.has_another(endpoint, self.now) {
                return Err(Late::ForTry);
            }
            done = self.wait(deadline, what, work).await;
        }
        done.map_err(Late::ForCall)
    }

    async fn permit(&mut self) -> Result<Permit, Try> {
        match self.permit_at_once() {
            Some(permit) => Ok(permit),
            None => {
                self.meet_limit();
                self.wait_for_permit().await
            }
        }
    }

    /// The same as [`Self::permit_at_once`]. What drives an idle connection over HTTP/2 that was closed for this gives its place
    /// back in its next turn.
    async fn permit_soon(&mut self) -> Option<Permit> {
        let mut permit = self.permit_at_once();
        if permit.is_none() {
            tokio::task::yield_now().await;
            permit = self.view.circuit.borrow().connection();
        }
        if permit.is_none() {
            self.meet_limit();
        }
        permit
    }

    /// A place among the service's connections. Where there is none, an idle connection of this worker makes room: another
    /// replica has no use for it.
    fn permit_at_once(&self) -> Option<Permit> {
        let circuit = self.view.circuit.borrow();
        let permit = circuit.connection();
        permit.or_else(|| if self.view.close_idle() { circuit.connection() } else { None })
    }

    /// Counts that the call has to wait, once.
    fn meet_limit(&mut self) {
        if !std::mem::replace(&mut self.met_limit, true) {
            self.view.shard.circuit_open.add_one(CircuitLimit::Connections);
        }
    }

    /// Waits for such a place as long as the call may take.
    async fn wait_for_permit(&mut self) -> Result<Permit, Try> {
        let (circuit, deadline) = (Arc::clone(&self.view.circuit.borrow()), self.deadline());
        let waited = self.wait(deadline, WaitsFor::Turn, circuit.wait_for_connection()).await;
        if let Ok(Err(limit)) = waited {
            self.view.shard.circuit_open.add_one(limit);
        }
        match waited {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(WaitError::Late) => Err(Try::Shed("calls that wait for a connection")),
            Err(WaitError::Gone) => Err(Try::Cancelled),
        }
    }
}

impl Try {
    fn not_connected(error: ConnectError) -> Self {
        match error {
            ConnectError::Refused(reason) => Self::NotConnected(reason),
            ConnectError::Tls(reason) => Self::NotTrusted(reason),
            ConnectError::Local(reason) => Self::Exhausted(reason),
        }
    }
}
