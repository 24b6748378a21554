//! The request flow, step by step in the seed's order. This file is the order; each step has a file of its own.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use access::Left;
use http1::{Known, RequestHead};
use service_router::{Answer, CallOptions, Replay, RequestBody, Timer};
use tokio::time::Instant;

use crate::FlowError;
use crate::answer::{After, OwnAnswer};
use crate::authenticate::{authenticate, authenticate_body, authorize, use_nonce};
use crate::destination;
use crate::drain_signal::{Listening, Stage};
use crate::exchange::{Exchange, Signed};
use crate::forward::Forward;
use crate::held::Held;
use crate::plan::WorkerPlan;
use crate::rate_limit::{limit, limit_address, what_is_left};
use crate::route::{Asks, OwnPage, PageRequest, Route, Target};
use crate::validate::{upgrade, validate_content, validate_head, validate_length, validate_type};
use crate::websocket::is_taken_up;

/// A request body that knows how much of it is allowed.
pub(crate) trait ClientBody: RequestBody {
    /// More than this many bytes are an error.
    fn set_limit(&mut self, bytes: u64);

    /// Where it is kept once it was read whole; then all that is asked of it is answered from there.
    fn held(&mut self) -> &mut Option<Box<Held>>;
}

/// How a request is answered.
pub(crate) enum Flow {
    Upstream(Box<Answer>),
    Own(OwnAnswer),
    /// The client has gone away: nobody is answered.
    Gone,
}

/// What a request leads to: an answer, always.
pub(crate) async fn answer(
    exchange: &mut Exchange,
    body: &mut impl ClientBody,
    timer: &mut Timer,
    draining: &mut Listening,
) -> Flow {
    let answered = {
        let flow = pin!(request_flow(exchange, body, timer));
        until_over(flow, draining).await
    };
    match answered {
        Ok(Flow::Upstream(answer)) => {
            exchange.instance = Some(Arc::clone(answer.instance()));
            exchange.attempts = answer.attempts;
            (exchange.before, exchange.connect) = (Some(answer.before), answer.connect);
            exchange.first_byte = Some(answer.first_byte);
            exchange.answered(answer.head().status());
            Flow::Upstream(answer)
        }
        Ok(Flow::Own(answer)) => {
            exchange.answered(answer.status);
            Flow::Own(answer)
        }
        Ok(Flow::Gone) | Err(FlowError::Cancelled) => Flow::Gone,
        Err(error) => Flow::Own(refuse(exchange, &error)),
    }
}

/// What comes of a request before the time of a drain is over. After that whatever it waits for is given up, a call to a replica
/// with it, and none is begun.
async fn until_over(
    mut flow: Pin<&mut impl Future<Output = Result<Flow, FlowError>>>,
    draining: &mut Listening,
) -> Result<Flow, FlowError> {
    if draining.has_reached(Stage::Over) {
        return Err(FlowError::Draining);
    }
    poll_fn(|context| match flow.as_mut().poll(context) {
        Poll::Pending if draining.poll_reached(context, Stage::Over) => Poll::Ready(Err(FlowError::Draining)),
        polled => polled,
    })
    .await
}

/// The answer to a request that is refused, noted in every place where that shows.
pub(crate) fn refuse(exchange: &mut Exchange, error: &FlowError) -> OwnAnswer {
    exchange.code = Some(error.kind().1);
    exchange.error = error.internal_detail().map(str::to_owned);
    if let Some(refused) = error.refusal() {
        exchange.worker.shard.requests_refused.add_one(refused);
    }
    let answer = error.answer(exchange.request_id.as_str());
    exchange.answered(answer.status);
    answer
}

async fn request_flow(
    exchange: &mut Exchange,
    body: &mut impl ClientBody,
    timer: &mut Timer,
) -> Result<Flow, FlowError> {
    let (plan, worker) = (Rc::clone(&exchange.plan), Rc::clone(&exchange.worker));
    let Admitted { route, hash, timeout } = match admit(exchange, &plan, body, timer).await? {
        Admission::Route(admitted) => admitted,
        Admission::Own(page) => return own_page(exchange, page).await.map(Flow::Own),
    };
    // A body that was read before had its own time.
    let began = if body.held().is_some() { Instant::now() } else { exchange.began };
    let view = plan.view(route, &worker.router);
    let options = CallOptions {
        began,
        replay: replay(&exchange.head),
        timeout,
        allowed: route.timeout,
        hash: hash.or_else(|| destination::hash(route.hash_on.as_ref(), exchange)),
        version: destination::version(route, exchange, view),
        sticky: destination::sticky_hash(route.sticky.as_ref(), exchange),
    };
    let called = worker.router.execute(view, options, &Forward::new(exchange, route), body, timer).await;
    match called {
        Ok(answer) => switching_is_wanted(exchange, &answer).map(|()| Flow::Upstream(Box::new(answer))),
        Err(failure) => {
            (exchange.instance, exchange.attempts) = (failure.instance, failure.attempts);
            Err(failure.error.into())
        }
    }
}

/// What a request is let through to.
pub(crate) enum Admission<'a> {
    Route(Admitted<'a>),
    /// A page of the gateway's, which has yet to ask who wants it.
    Own(&'a OwnPage),
}

/// A request that may go to a replica.
pub(crate) struct Admitted<'a> {
    route: &'a Route,
    /// What its path says of how it is balanced.
    hash: Option<u64>,
    timeout: Duration,
}

/// Everything that is decided before a replica is chosen: address, route, caller, limits, scopes, content.
pub(crate) async fn admit<'a>(
    exchange: &mut Exchange,
    plan: &'a WorkerPlan,
    body: &mut impl ClientBody,
    timer: &mut Timer,
) -> Result<Admission<'a>, FlowError> {
    limit_address(exchange).await?;
    validate_head(&exchange.head)?;
    let (route, hash) = match plan.plan.routes.find(&exchange.head)? {
        Target::Route { route, hash } => (route, hash),
        Target::Own(page) => return Ok(Admission::Own(page)),
    };
    exchange.route = Some(route.number);
    exchange.worker.admit(plan)?;
    if route.scopes.is_some() {
        exchange.caller = Some(authenticate(exchange).await?);
    }
    limit(exchange, Some(route)).await?;
    use_nonce(exchange).await?;
    authorize(exchange.caller.as_deref(), route.scopes.as_deref())?;
    let wanted = match route.rule.as_deref() {
        Some(rule) => Some((rule, validate_type(&exchange.head, rule)?)),
        None => None,
    };
    validate_length(&exchange.head, route)?;
    body.set_limit(route.body_limit);
    let timeout = destination::timeout(&exchange.head, route);
    authenticate_body(exchange, body, timer, (route.body_limit, timeout)).await?;
    if let Some(wanted) = wanted {
        validate_content(exchange, wanted, body, timer, timeout).await?;
    }
    Ok(Admission::Route(Admitted { route, hash, timeout }))
}

/// Whether executing a call twice is harmless: the idempotent methods (RFC 9110 section 9.2.2), and any call whose client
/// says so with a key.
fn replay(head: &RequestHead) -> Replay {
    let idempotent = head.method().is_idempotent() || head.has(Known::IdempotencyKey);
    // What follows an upgrade is no request that could be sent again.
    if idempotent && upgrade(head).is_none() { Replay::Safe } else { Replay::Unsafe }
}

/// A replica may change the protocol only to the one that the client asked for.
fn switching_is_wanted(exchange: &Exchange, answer: &Answer) -> Result<(), FlowError> {
    if answer.head().status() != http::StatusCode::SWITCHING_PROTOCOLS {
        return Ok(());
    }
    match upgrade(&exchange.head) {
        Some(wanted) if is_taken_up(&exchange.head, answer.head(), wanted) => Ok(()),
        _ => Err(FlowError::Upstream("it changed to a protocol that it was not asked for".into())),
    }
}

/// What anybody may ask for is asked for often, by whoever watches, and appears nowhere.
async fn own_page(exchange: &mut Exchange, page: &OwnPage) -> Result<OwnAnswer, FlowError> {
    if page.scopes.is_some() {
        exchange.caller = Some(authenticate(exchange).await?);
        // Its nonce takes room for a while, and how much of that a caller gets, its limits say.
        if matches!(exchange.signed, Signed::Yes { .. }) {
            limit(exchange, None).await?;
            use_nonce(exchange).await?;
        }
        authorize(exchange.caller.as_deref(), page.scopes.as_deref())?;
    } else {
        exchange.own_page();
    }
    let left = match page.asks {
        Asks::Nothing => Left::default(),
        Asks::WhatIsLeft => what_is_left(exchange).await?,
    };
    let answer = (page.answer)(PageRequest { caller: exchange.caller.as_deref(), left });
    Ok(OwnAnswer {
        status: answer.status,
        content_type: answer.content_type,
        fields: vec![("cache-control", "no-store".to_owned())],
        body: answer.body,
        grpc: None,
        connection: After::Open,
    })
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::task::{LocalSet, yield_now};

    use super::*;
    use crate::drain_signal::DrainSignal;

    /// A request that waits, or is answered, while a drain goes on; what it came to at which stage.
    async fn came_to(
        signal: &DrainSignal,
        stages: &[Stage],
        flow: impl Future<Output = Result<Flow, FlowError>> + 'static,
    ) -> (&'static str, usize) {
        let mut listening = signal.listen();
        let flow = tokio::task::spawn_local(async move {
            let flow = pin!(flow);
            until_over(flow, &mut listening).await
        });
        let mut said = 0;
        yield_now().await;
        for stage in stages {
            if flow.is_finished() {
                break;
            }
            signal.say(*stage);
            said += 1;
            yield_now().await;
        }
        let outcome = match flow.await.unwrap() {
            Err(FlowError::Draining) => "draining",
            Ok(Flow::Gone) => "answered",
            _ => "something else",
        };
        (outcome, said)
    }

    #[tokio::test]
    async fn whoever_has_no_answer_when_the_time_of_a_drain_is_over_is_told_so() {
        let both = [Stage::Draining, Stage::Over];
        let work = async {
            let signal = DrainSignal::default();
            assert_eq!(came_to(&signal, &both, ready(Ok(Flow::Gone))).await, ("answered", 0));
            assert_eq!(came_to(&signal, &both, pending()).await, ("draining", 2));
            let signal = DrainSignal::default();
            let heard = signal.clone();
            let answered_while_draining = async move {
                heard.listen().reached(Stage::Draining).await;
                Ok(Flow::Gone)
            };
            assert_eq!(came_to(&signal, &both, answered_while_draining).await, ("answered", 1));
            assert_eq!(came_to(&signal, &[], ready(Ok(Flow::Gone))).await, ("answered", 0), "as before");
            signal.say(Stage::Over);
            let begun = async { panic!("it came too late to be begun") };
            assert_eq!(came_to(&signal, &[], begun).await, ("draining", 0));
        };
        LocalSet::new().run_until(work).await;
    }

    #[test]
    fn it_is_told_that_it_may_try_again_and_that_the_connection_ends() {
        let answer = FlowError::Draining.answer("an id");
        assert_eq!((answer.status, answer.connection), (http::StatusCode::SERVICE_UNAVAILABLE, After::Close));
        assert_eq!(answer.fields, [("retry-after", "1".to_owned())]);
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((&body["code"], &body["requestId"]), (&"DRAINING".into(), &"an id".into()));
        assert_eq!(answer.grpc.unwrap().0, 14, "UNAVAILABLE");
    }
}
