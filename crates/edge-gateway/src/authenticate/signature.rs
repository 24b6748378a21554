//! Signed requests, each good once.

use std::sync::Arc;
use std::time::Duration;

use access::{Caller, SignatureRefusal, SignedMessage};
use http1::{Framing, Known};
use jiff::Timestamp;

use crate::FlowError;
use crate::exchange::{Exchange, Signed};
use crate::rate_limit::may_fail;

/// The caller who has signed the request. What its body has to be is left to be looked at once there is a body.
pub(super) fn caller(exchange: &mut Exchange, max_age: Duration) -> Result<Arc<Caller>, FlowError> {
    may_fail(exchange)?;
    let now = Timestamp::try_from(exchange.time).unwrap_or_default();
    let worker = &exchange.worker;
    let signed = worker.keys.current().authenticate_signed(&AsSigned(exchange), max_age, &worker.nonces, now);
    let signed = signed.map_err(|refusal| match refusal {
        SignatureRefusal::Invalid(why) => FlowError::AuthInvalid(why.into()),
        SignatureRefusal::Expired => FlowError::AuthExpired,
        SignatureRefusal::Full { retry_after } => FlowError::NoncesFull(retry_after),
    })?;
    exchange.signed = Signed::Yes(signed.digest);
    Ok(signed.caller)
}

/// A request as its signature sees it: as the client has sent it, also where a trusted proxy has brought it on.
struct AsSigned<'a>(&'a Exchange);

impl AsSigned<'_> {
    fn as_forwarded(&self, known: Known) -> Option<&[u8]> {
        self.0.head.only_value(known).filter(|_| self.0.is_from_proxy())
    }
}

impl SignedMessage for AsSigned<'_> {
    fn method(&self) -> &[u8] {
        self.0.head.method().as_str().as_bytes()
    }

    fn scheme(&self) -> &[u8] {
        self.as_forwarded(Known::XForwardedProto).unwrap_or(self.0.client.scheme.as_str().as_bytes())
    }

    fn authority(&self) -> &[u8] {
        self.as_forwarded(Known::XForwardedHost).unwrap_or(self.0.head.host())
    }

    fn path(&self) -> &[u8] {
        self.0.head.path()
    }

    fn query(&self) -> &[u8] {
        self.0.head.origin().strip_prefix(self.0.head.path()).unwrap_or_default()
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.0.head.values_of(name)
    }

    fn has_body(&self) -> bool {
        self.0.head.framing() != Framing::Length(0)
    }
}
