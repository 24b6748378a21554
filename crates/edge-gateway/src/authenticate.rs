//! Who calls: the API key that a request carries, looked up in the published table.

use std::sync::Arc;

use access::{Caller, KeyTable, Refusal};
use http::{HeaderMap, HeaderName, header};
use jiff::Timestamp;

use crate::FlowError;
use crate::connection::Client;
use crate::route::Route;

/// The header of clients that cannot set `Authorization`.
pub(crate) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Supabase's header for the same.
pub(crate) const SUPABASE_API_KEY: HeaderName = HeaderName::from_static("apikey");

/// The caller; `None` on a route that anybody may call.
pub(crate) fn authenticate(
    headers: &HeaderMap,
    route: &Route,
    keys: &KeyTable,
    client: &Client,
    now: Timestamp,
) -> Result<Option<Arc<Caller>>, FlowError> {
    if route.scopes.is_none() {
        return Ok(None);
    }
    let presented = presented(headers)?.ok_or(FlowError::AuthRequired)?;
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

/// The credential of a request. With `Authorization` present the other headers are ignored; two different credentials in
/// one header are none.
fn presented(headers: &HeaderMap) -> Result<Option<&str>, FlowError> {
    for name in [header::AUTHORIZATION, API_KEY, SUPABASE_API_KEY] {
        let mut values = headers.get_all(&name).iter();
        let Some(value) = values.next() else { continue };
        if values.next().is_some() {
            return Err(FlowError::AuthInvalid);
        }
        let text = value.to_str().map_err(|_| FlowError::AuthInvalid)?;
        if name != header::AUTHORIZATION {
            return Ok(Some(text));
        }
        let (scheme, credential) = text.split_once(' ').ok_or(FlowError::AuthInvalid)?;
        return if scheme.eq_ignore_ascii_case("bearer") {
            Ok(Some(credential.trim_matches(' ')))
        } else {
            Err(FlowError::AuthInvalid)
        };
    }
    Ok(None)
}

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
            let mut all = HeaderMap::new();
            for (name, value) in headers.iter() {
                all.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
            }
            shown += &format!("{headers:?}: {:?}\n", presented(&all).map_err(|error| error.to_string()));
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
