//! Who calls: the API key that a request carries, looked up in the published table.

use std::sync::Arc;

use access::{Caller, KeyTable, Refusal};
use http1::{Known, RequestHead};
use jiff::Timestamp;

use crate::FlowError;
use crate::client::Client;
use crate::route::Route;

/// The caller; `None` on a route that anybody may call.
pub(crate) fn authenticate(
    head: &RequestHead,
    route: &Route,
    keys: &KeyTable,
    client: &Client,
    now: Timestamp,
) -> Result<Option<Arc<Caller>>, FlowError> {
    if route.scopes.is_none() {
        return Ok(None);
    }
    let presented = presented(head)?.ok_or(FlowError::AuthRequired)?;
    let mut remembered = client.remembered_key.borrow_mut();
    let caller =
        keys.authenticate_again(&mut remembered, presented, now).map_err(|refusal| match refusal {
            Refusal::Malformed | Refusal::Unknown => FlowError::AuthInvalid,
            Refusal::Expired => FlowError::AuthExpired,
        })?;
    Ok(Some(caller))
}

/// Whether the caller has every scope of the route.
pub(crate) fn authorize(caller: Option<&Caller>, route: &Route) -> Result<(), FlowError> {
    let (Some(caller), Some(scopes)) = (caller, &route.scopes) else { return Ok(()) };
    match caller.missing_scope(scopes) {
        None => Ok(()),
        Some(scope) => Err(FlowError::ScopeMissing(scope.to_owned())),
    }
}

/// Where a credential may stand; with one of them present those after it are ignored.
const PLACES: [Known; 3] = [Known::Authorization, Known::XApiKey, Known::ApiKey];

/// The credential of a request. Two different credentials in one place are none.
fn presented(head: &RequestHead) -> Result<Option<&[u8]>, FlowError> {
    let Some(place) = PLACES.into_iter().find(|place| head.has(*place)) else { return Ok(None) };
    let value = head.only_value(place).ok_or(FlowError::AuthInvalid)?;
    if place != Known::Authorization {
        return Ok(Some(value));
    }
    match value.split_at_checked(BEARER.len()) {
        Some((scheme, credential)) if scheme.eq_ignore_ascii_case(BEARER) => {
            Ok(Some(credential.trim_ascii()))
        }
        _ => Err(FlowError::AuthInvalid),
    }
}

/// The one scheme that is understood, and the space behind it.
const BEARER: &[u8] = b"bearer ";

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
        ] {
            let fields: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let text = format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
            let limits = http1::Limits { head_bytes: 1024, fields: 10, target_bytes: 10 };
            let mut head = RequestHead::default();
            http1::parse_request(text.as_bytes(), &limits, &mut head).unwrap();
            shown += &format!(
                "{headers:?}: {:?}\n",
                presented(&head)
                    .map(|found| found.map(String::from_utf8_lossy))
                    .map_err(|error| error.to_string())
            );
        }
        expect![[r#"
            []: Ok(None)
            [("authorization", "Bearer sk_1")]: Ok(Some("sk_1"))
            [("authorization", "bearer  sk_1 ")]: Ok(Some("sk_1"))
            [("x-api-key", "sk_2")]: Ok(Some("sk_2"))
            [("apikey", "sk_3")]: Ok(Some("sk_3"))
            [("authorization", "Bearer sk_1"), ("apikey", "sk_3")]: Ok(Some("sk_1"))
            [("authorization", "Basic abc"), ("apikey", "sk_3")]: Err("the API key is not valid")
            [("authorization", "sk_1")]: Err("the API key is not valid")
            [("authorization", "Bearer sk_1"), ("authorization", "Bearer sk_2")]: Err("the API key is not valid")
            [("x-api-key", "sk_1"), ("x-api-key", "sk_1")]: Err("the API key is not valid")
        "#]]
        .assert_eq(&shown);
    }
}
