//! API keys, looked up in the published table.

use std::sync::Arc;

use access::{Caller, Refusal};

use crate::FlowError;
use crate::exchange::Exchange;

/// The caller whose key this is.
pub(super) fn caller(exchange: &Exchange, presented: &[u8]) -> Result<Arc<Caller>, FlowError> {
    let mut remembered = exchange.client.remembered_key.borrow_mut();
    let keys = exchange.worker.keys.current();
    keys.authenticate_again(&mut remembered, presented, exchange.now()).map_err(|refusal| match refusal {
        Refusal::Malformed => FlowError::AuthInvalid("it is not an API key as they are made here".into()),
        Refusal::OtherMode => FlowError::AuthInvalid("it is an API key of the other mode".into()),
        Refusal::Unknown => FlowError::AuthInvalid("there is no such API key, or it was revoked".into()),
        Refusal::Expired => FlowError::AuthExpired,
    })
}
