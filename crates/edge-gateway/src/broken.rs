//! Answers that break off after they have begun: the client sees that something is missing, the operator sees why.

use observability::Refused;
use service_router::{Answer, BodyError};

use crate::FlowError;
use crate::exchange::Exchange;

/// Why an answer broke off.
#[derive(Debug)]
pub(crate) enum Broken {
    /// Its own body failed, or that of the request.
    Body(BodyError),
    /// Nothing moved for the idle timeout.
    Idle(Waiting),
}

/// Who keeps an exchange waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// More of the answer has to come.
    ForReplica,
    /// It does not take the answer, or does not send the rest of its request.
    ForClient,
}

impl Waiting {
    /// Who is waited for where there is nothing of an answer to pass on.
    pub(crate) fn for_more_of(answer: &Answer) -> Self {
        if answer.waits_for_client() { Self::ForClient } else { Self::ForReplica }
    }
}

impl From<BodyError> for Broken {
    fn from(error: BodyError) -> Self {
        Self::Body(error)
    }
}

/// Notes it in every place where that shows.
pub(crate) fn note(exchange: &mut Exchange, answer: &mut Answer, broken: Broken) {
    if matches!(broken, Broken::Idle(Waiting::ForReplica)) {
        answer.stalled();
    }
    exchange.passed(answer);
    let (error, code, refused) = match broken {
        Broken::Body(error) => {
            let (text, error) = (error.to_string(), FlowError::from(error));
            let code = if matches!(error, FlowError::Cancelled) { None } else { Some(error.kind().1) };
            (text, code, error.refusal())
        }
        Broken::Idle(Waiting::ForReplica) => {
            let text = "the replica sent nothing for the idle timeout";
            (text.to_owned(), Some("UPSTREAM_TIMEOUT"), None)
        }
        Broken::Idle(Waiting::ForClient) => {
            let text = "the client took and sent nothing for the idle timeout";
            (text.to_owned(), None, Some(Refused::IdleTimeout))
        }
    };
    (exchange.error, exchange.code) = (Some(error), code);
    if let Some(refused) = refused {
        exchange.worker.shard.requests_refused.add_one(refused);
    }
}
