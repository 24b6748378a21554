//! Who calls: which credential of a request counts, and who it belongs to. Each kind of credential has a file of its own.

mod api_key;
mod certificate;
mod signature;
mod token;

use std::sync::Arc;
use std::time::Duration;

use access::Caller;
use http1::{Framing, Known, RequestHead};
use service_router::Timer;

use crate::FlowError;
use crate::exchange::{Exchange, Signed};
use crate::held::{Held, read_held};
use crate::plan::Authentication;
use crate::rate_limit::{failed, failed_at_cost};
use crate::request_flow::ClientBody;
pub(crate) use certificate::ClientCertificate;
pub(crate) use signature::use_nonce;
pub(crate) use token::{RememberedToken, Tokens};

/// A credential as it was presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Credential<'a> {
    /// What begins like an API key.
    ApiKey(&'a [u8]),
    /// Anything else that was sent as one.
    Token(&'a [u8]),
}

/// The caller of a request that needs one. Of refused credentials an address has only so many to present.
pub(crate) async fn authenticate(exchange: &mut Exchange) -> Result<Arc<Caller>, FlowError> {
    let caller = match presented(&exchange.head) {
        Ok(Some(Credential::ApiKey(_))) if !exchange.plan.plan.authentication.api_keys => Err(no_api_keys()),
        Ok(Some(Credential::ApiKey(key))) => api_key::caller(exchange, key),
        Ok(Some(Credential::Token(token))) => match token::remembered(exchange, token) {
            Some(caller) => Ok(caller),
            None => token::caller(exchange).await,
        },
        Ok(None) => match signature::max_age(exchange) {
            Some(max_age) => signature::caller(exchange, max_age),
            None => certificate::caller(exchange).unwrap_or(Err(FlowError::AuthRequired)),
        },
        Err(why) => Err(FlowError::AuthInvalid(why.into())),
    };
    caller.map_err(|error| match error {
        FlowError::AuthInvalid(_) | FlowError::AuthExpired => failed(exchange, error),
        other => other,
    })
}

/// How a request is refused whatever a credential is worth: it has none, or one that is not even looked at. That a connection has
/// shown a certificate is not known here.
pub(crate) fn refused_as_it_is(head: &RequestHead, taken: &Authentication) -> Option<FlowError> {
    let is_signed = || taken.signed_requests.is_some() && head.has(Known::SignatureInput);
    match presented(head) {
        Ok(Some(Credential::ApiKey(_))) if !taken.api_keys => Some(no_api_keys()),
        Ok(Some(_)) => None,
        Ok(None) => (!is_signed()).then_some(FlowError::AuthRequired),
        Err(why) => Some(FlowError::AuthInvalid(why.into())),
    }
}

fn no_api_keys() -> FlowError {
    FlowError::AuthInvalid("API keys are not taken here".into())
}

/// The largest body that is held against a signature, in bytes; as large as the largest that is held against a schema.
const MAX_SIGNED_BODY_BYTES: u64 = 4 << 20;

/// Whether the body is the one that the caller has signed, where it was signed. It is read whole for that.
pub(crate) async fn authenticate_body(
    exchange: &mut Exchange,
    body: &mut impl ClientBody,
    timer: &mut Timer,
    (limit, timeout): (u64, Duration),
) -> Result<(), FlowError> {
    let Signed::Yes { digest: Some(digest), .. } = &exchange.signed else { return Ok(()) };
    if matches!(exchange.head.framing(), Framing::Length(length) if length > MAX_SIGNED_BODY_BYTES) {
        return Err(FlowError::BodyTooLarge(MAX_SIGNED_BODY_BYTES));
    }
    body.set_limit(limit.min(MAX_SIGNED_BODY_BYTES));
    let share = exchange.worker.held_bytes.share_of(exchange.address());
    read_held(body, timer, timeout, share).await?;
    if digest.matches(body.held().as_deref().map_or(&[][..], Held::bytes)) {
        return Ok(());
    }
    failed_at_cost(exchange);
    Err(failed(exchange, FlowError::AuthInvalid("its body is not the one that was signed".into())))
}

/// Whether the caller has every scope of what it asks for; nothing is asked of anybody where there is none.
pub(crate) fn authorize(caller: Option<&Caller>, scopes: Option<&[String]>) -> Result<(), FlowError> {
    let (Some(caller), Some(scopes)) = (caller, scopes) else { return Ok(()) };
    match caller.missing_scope(scopes) {
        None => Ok(()),
        Some(scope) => Err(FlowError::ScopeMissing(scope.to_owned())),
    }
}

/// Where a credential may stand; with one of them present those after it are ignored.
const PLACES: [Known; 3] = [Known::Authorization, Known::XApiKey, Known::ApiKey];

/// The credential of a request. Two different credentials in one place are none.
fn presented(head: &RequestHead) -> Result<Option<Credential<'_>>, &'static str> {
    let Some(place) = PLACES.into_iter().find(|place| head.has(*place)) else { return Ok(None) };
    let value = head.only_value(place).ok_or("there are two credentials in one place")?;
    let text = match (place, value.split_at_checked(BEARER.len())) {
        (Known::Authorization, Some((scheme, credential))) if scheme.eq_ignore_ascii_case(BEARER) => {
            credential.trim_ascii()
        }
        (Known::Authorization, _) => return Err("it is no bearer credential"),
        _ => value,
    };
    let is_key = text.starts_with(API_KEY);
    Ok(Some(if is_key { Credential::ApiKey(text) } else { Credential::Token(text) }))
}

/// The one scheme that is understood, and the space behind it.
const BEARER: &[u8] = b"bearer ";
/// What every API key begins with, and no token does.
const API_KEY: &[u8] = b"sk_";

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_credential_is_found_in_its_three_places_and_never_guessed() {
        let mut shown = String::new();
        for headers in [
            &[][..],
            &[("authorization", "Bearer sk_1")],
            &[("authorization", "bearer  sk_1 ")],
            &[("x-api-key", "sk_2")],
            &[("apikey", "sk_3")],
            &[("authorization", "Bearer sk_1"), ("apikey", "sk_3")],
            &[("authorization", "Basic abc"), ("apikey", "sk_3")],
            &[("authorization", "sk_1")],
            &[("authorization", "Bearer sk_1"), ("authorization", "Bearer sk_2")],
            &[("x-api-key", "sk_1"), ("x-api-key", "sk_1")],
            &[("authorization", "Bearer ey.J.9"), ("x-api-key", "sk_1")],
            &[("apikey", "ey.J.9")],
        ] {
            let fields: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let text = format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
            let limits = http1::Limits { head_bytes: 1024, fields: 10, target_bytes: 10 };
            let mut head = RequestHead::default();
            http1::parse_request(text.as_bytes(), &limits, &mut head).unwrap();
            let shown_one = match presented(&head) {
                Ok(Some(Credential::ApiKey(key))) => format!("key {}", String::from_utf8_lossy(key)),
                Ok(Some(Credential::Token(token))) => format!("token {}", String::from_utf8_lossy(token)),
                Ok(None) => "none".to_owned(),
                Err(why) => why.to_owned(),
            };
            shown += &format!("{headers:?}: {shown_one}\n");
        }
        expect![[r#"
            []: none
            [("authorization", "Bearer sk_1")]: key sk_1
            [("authorization", "bearer  sk_1 ")]: key sk_1
            [("x-api-key", "sk_2")]: key sk_2
            [("apikey", "sk_3")]: key sk_3
            [("authorization", "Bearer sk_1"), ("apikey", "sk_3")]: key sk_1
            [("authorization", "Basic abc"), ("apikey", "sk_3")]: it is no bearer credential
            [("authorization", "sk_1")]: it is no bearer credential
            [("authorization", "Bearer sk_1"), ("authorization", "Bearer sk_2")]: there are two credentials in one place
            [("x-api-key", "sk_1"), ("x-api-key", "sk_1")]: there are two credentials in one place
            [("authorization", "Bearer ey.J.9"), ("x-api-key", "sk_1")]: token ey.J.9
            [("apikey", "ey.J.9")]: token ey.J.9
        "#]]
        .assert_eq(&shown);
    }
}
