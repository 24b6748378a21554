//! Signed requests, each good once.

use std::sync::Arc;
use std::time::Duration;

use access::{Caller, SignatureRefusal, SignedMessage, is_signed};
use http1::{Framing, Known};

use crate::FlowError;
use crate::exchange::{Exchange, Signed};
use crate::rate_limit::{failed, failed_at_cost, may_fail};

/// For how long its signature may be good, where signatures are taken and the request has one that is meant for us.
pub(super) fn max_age(exchange: &Exchange) -> Option<Duration> {
    let max_age = exchange.plan.plan.authentication.signed_requests?;
    let may_be_signed = exchange.head.has(Known::SignatureInput);
    (may_be_signed && is_signed(&AsSigned(exchange))).then_some(max_age)
}

/// The caller who has signed the request. What its body has to be is left to be looked at once there is a body.
pub(super) fn caller(exchange: &mut Exchange, max_age: Duration) -> Result<Arc<Caller>, FlowError> {
    may_fail(exchange)?;
    let now = exchange.now();
    let worker = &exchange.worker;
    let signed =
        worker.keys.current().authenticate_signed(&AsSigned(exchange), max_age, &worker.shared.nonces, now);
    let signed = signed.map_err(|refusal| {
        if matches!(refusal, SignatureRefusal::Costly(_) | SignatureRefusal::Expired) {
            failed_at_cost(exchange);
        }
        refused(refusal)
    })?;
    exchange.signed = Signed::Yes { digest: signed.digest, nonce: signed.nonce };
    Ok(signed.caller)
}

/// Uses up the nonce of a signed request, at every gateway where they count together. What Redis did not say is not known, so
/// the request is refused then.
pub(crate) async fn use_nonce(exchange: &mut Exchange) -> Result<(), FlowError> {
    let Signed::Yes { nonce, .. } = &exchange.signed else { return Ok(()) };
    let now = exchange.now().as_second();
    let taken = exchange.worker.shared.nonces.take(nonce, now).map_err(refused);
    let taken = match (taken, &exchange.plan.shared) {
        (Ok(()), Some(link)) => {
            // The clocks of gateways differ: one may take the signature for good when another does not any more.
            let ttl = nonce.time_left(now) + CLOCKS_DIFFER;
            match Box::pin(link.first_use(nonce.id(), ttl)).await {
                Ok(true) => Ok(()),
                Ok(false) => {
                    Err(FlowError::AuthInvalid("its nonce was used before, at another gateway".into()))
                }
                Err(uncounted) => {
                    exchange.worker.shard.shared_limits_failed.add_one();
                    Err(uncounted.into())
                }
            }
        }
        (taken, _) => taken,
    };
    taken.map_err(|error| match error {
        FlowError::AuthInvalid(_) => {
            failed_at_cost(exchange);
            failed(exchange, error)
        }
        other => other,
    })
}

/// How far the clocks of two gateways may lie apart.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

fn refused(refusal: SignatureRefusal) -> FlowError {
    match refusal {
        SignatureRefusal::Invalid(why) | SignatureRefusal::Costly(why) => FlowError::AuthInvalid(why.into()),
        SignatureRefusal::Expired => FlowError::AuthExpired,
        SignatureRefusal::Full { retry_after } => FlowError::NoncesFull(retry_after),
    }
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
