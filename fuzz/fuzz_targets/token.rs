//! Tokens: nothing is good that nobody has signed, and what is signed says what an independent reader finds in it.

#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use access::{Algorithm, IssuerRules, Jwks, Tenant, TokenTable, VerifyingKey};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const SECRET: [u8; 32] = [7; 32];
const ISSUER: &str = "i";
const NOW: i64 = 1_790_000_000;

static TABLE: LazyLock<TokenTable> = LazyLock::new(|| {
    let rules = IssuerRules {
        issuer: ISSUER.into(),
        audience: "a".to_owned(),
        algorithms: BTreeSet::from([Algorithm::Hs256, Algorithm::Es256, Algorithm::EdDsa]),
        role_claim: Some("r.s".to_owned()),
        scopes: BTreeMap::from([("x".to_owned(), vec!["y".to_owned()])]),
        tenant: Tenant::Fixed("default".to_owned()),
        tier: "free".into(),
    };
    TokenTable::new([(Arc::new(rules), vec![Arc::new(VerifyingKey::secret(&SECRET).unwrap())])])
});

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

/// The claims as anybody would read them. Of a name that stands there twice such a reader sees the last.
fn judge_as_others(claims: &[u8], subject: &str, scopes: &[String]) {
    let read: Value = serde_json::from_slice(claims).expect("what was taken is JSON");
    assert_eq!(read["iss"], ISSUER);
    assert!(read["aud"] == "a" || read["aud"].as_array().is_some_and(|items| items.iter().any(|item| item == "a")));
    assert_eq!(read["sub"], subject);
    assert!(!subject.is_empty() && subject.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    assert!(!subject.starts_with("key_") && !subject.starts_with("spiffe://"));
    let moment = |name: &str| read[name].as_f64();
    assert!(moment("exp").expect("it expires") > (NOW - 61) as f64);
    assert!(moment("nbf").is_none_or(|moment| moment < (NOW + 61) as f64));
    assert!(scopes.iter().all(|scope| scope == "y"));
}

fuzz_target!(|input: &[u8]| {
    let Some((&kind, rest)) = input.split_first() else { return };
    match kind % 3 {
        0 => assert!(TABLE.verify(rest, now()).is_err(), "nobody has signed it"),
        1 => {
            let middle = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            let (header, claims) = (&rest[..middle], rest.get(middle + 1..).unwrap_or_default());
            let header = if header.is_empty() { br#"{"alg":"HS256"}"# } else { header };
            let signed = [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part)).join(".");
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &SECRET), signed.as_bytes());
            let token = format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag));
            let Ok(verified) = TABLE.verify(token.as_bytes(), now()) else { return };
            let header: Value = serde_json::from_slice(header).expect("what was taken is JSON");
            assert!(header["alg"] == "HS256" && header.get("crit").is_none());
            judge_as_others(claims, &verified.identity.subject, &verified.identity.scopes);
        }
        _ => {
            let Ok(set) = Jwks::read(rest) else { return };
            let read: Value = serde_json::from_slice(rest).expect("what was taken is JSON");
            assert_eq!(read["keys"].as_array().expect("a list").len(), set.keys.len() + set.left_out);
            assert!(set.keys.iter().all(|key| !key.fits(Algorithm::Hs256)), "a secret in public");
        }
    }
});
