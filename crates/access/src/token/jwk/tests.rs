use expect_test::expect;
use serde_json::{Value, json};

use super::*;

const POINT: (&str, &str) =
    ("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM");
const ED25519: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

fn read(keys: &[Value]) -> Result<Jwks, JwksError> {
    Jwks::read(json!({"keys": keys}).to_string().as_bytes())
}

fn with(base: &Value, changes: Value) -> Value {
    let mut key = base.clone();
    for (name, value) in changes.as_object().unwrap() {
        key[name] = value.clone();
    }
    key.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    key
}

fn told(key: &Value) -> String {
    let Some(key) = read(std::slice::from_ref(key)).unwrap().keys.pop() else { return "left out".to_owned() };
    let fits = |algorithm: &Algorithm| key.fits(*algorithm);
    let all = [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa];
    format!("{:?} for {:?}", key.id(), all.into_iter().filter(fits).collect::<Vec<_>>())
}

#[test]
fn keys_that_are_no_public_keys_of_signatures_are_left_out() {
    let ec = json!({"kty": "EC", "crv": "P-256", "kid": "a", "x": POINT.0, "y": POINT.1});
    let ed = json!({"kty": "OKP", "crv": "Ed25519", "kid": "b", "x": ED25519});
    let rsa = json!({"kty": "RSA", "kid": "c", "n": BASE64_URL_SAFE_NO_PAD.encode([0xb1; 256]), "e": "AQAB"});
    let modulus = |bytes: usize| BASE64_URL_SAFE_NO_PAD.encode(vec![0xb1; bytes]);
    let mut shown = String::new();
    for (what, key) in [
        ("P-256", ec.clone()),
        ("Ed25519", ed.clone()),
        ("RSA", rsa.clone()),
        ("RSA for one of the two", with(&rsa, json!({"alg": "PS256"}))),
        ("no id", with(&ec, json!({"kid": null}))),
        ("an id that is no text", with(&ec, json!({"kid": 1}))),
        ("for signatures", with(&ec, json!({"use": "sig", "key_ops": ["verify"]}))),
        ("for encryption", with(&ec, json!({"use": "enc"}))),
        ("for signing alone", with(&ec, json!({"key_ops": ["sign"]}))),
        ("operations that are no list", with(&ec, json!({"key_ops": "verify"}))),
        ("an algorithm of another key", with(&ec, json!({"alg": "RS256"}))),
        ("an algorithm that is not ours", with(&rsa, json!({"alg": "RS512"}))),
        ("HS256 with a public key", with(&rsa, json!({"alg": "HS256"}))),
        ("a secret", json!({"kty": "oct", "kid": "d", "alg": "HS256", "k": ED25519})),
        ("a private key", with(&ec, json!({"d": POINT.0}))),
        ("another curve", with(&ec, json!({"crv": "P-384"}))),
        ("no curve", with(&ec, json!({"crv": null}))),
        ("a point off the curve", with(&ec, json!({"y": POINT.0}))),
        ("a short coordinate", with(&ec, json!({"x": "AQAB"}))),
        ("a padded coordinate", with(&ec, json!({"x": format!("{}=", POINT.0)}))),
        ("a short key of Ed25519", with(&ed, json!({"x": "AQAB"}))),
        ("2040 bits", with(&rsa, json!({"n": modulus(255)}))),
        ("8192 bits", with(&rsa, json!({"n": modulus(1024)}))),
        ("8200 bits", with(&rsa, json!({"n": modulus(1025)}))),
        ("an exponent of 1", with(&rsa, json!({"e": "AQ"}))),
        ("an exponent of 3", with(&rsa, json!({"e": "Aw"}))),
        ("an even exponent", with(&rsa, json!({"e": "BA"}))),
        ("no exponent", with(&rsa, json!({"e": ""}))),
        ("a zero before the modulus", with(&rsa, json!({"n": format!("AAAA{}", modulus(256))}))),
        ("another kind", json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"})),
        ("no kind", json!({})),
        ("no object", json!("key")),
    ] {
        shown += &format!("{what}: {}\n", told(&key));
    }
    expect![[r#"
        P-256: Some("a") for [Es256]
        Ed25519: Some("b") for [EdDsa]
        RSA: Some("c") for [Rs256, Ps256]
        RSA for one of the two: Some("c") for [Ps256]
        no id: None for [Es256]
        an id that is no text: left out
        for signatures: Some("a") for [Es256]
        for encryption: left out
        for signing alone: left out
        operations that are no list: left out
        an algorithm of another key: left out
        an algorithm that is not ours: left out
        HS256 with a public key: left out
        a secret: left out
        a private key: left out
        another curve: left out
        no curve: left out
        a point off the curve: left out
        a short coordinate: left out
        a padded coordinate: left out
        a short key of Ed25519: left out
        2040 bits: left out
        8192 bits: Some("c") for [Rs256, Ps256]
        8200 bits: left out
        an exponent of 1: left out
        an exponent of 3: Some("c") for [Rs256, Ps256]
        an even exponent: left out
        no exponent: left out
        a zero before the modulus: left out
        another kind: left out
        no kind: left out
        no object: left out
    "#]]
    .assert_eq(&shown);
}

#[test]
fn a_set_has_its_limits_and_one_reading() {
    let key = json!({"kty": "EC", "crv": "P-256", "x": POINT.0, "y": POINT.1});
    let full = read(&vec![key.clone(); MAX_JWKS_KEYS]).unwrap();
    assert_eq!((full.keys.len(), full.left_out), (MAX_JWKS_KEYS, 0));
    assert_eq!(read(&vec![key.clone(); MAX_JWKS_KEYS + 1]).err(), Some(JwksError::TooMany));
    let some = read(&[key, json!({"kty": "oct", "k": "AA"})]).unwrap();
    assert_eq!((some.keys.len(), some.left_out), (1, 1));
    assert_eq!(read(&[]).unwrap().keys.len(), 0);
    let refused = |text: &str| Jwks::read(text.as_bytes()).err().map(|error| error.to_string());
    for bad in
        ["", "[]", "{}", "{\"keys\": {}}", "{\"keys\": []}{}", "{\"keys\": [], \"keys\": []}", "<html>"]
    {
        assert!(refused(bad).unwrap().starts_with("it is not a set of keys: "), "{bad}");
    }
    let large = format!("{{\"keys\": []{}}}", " ".repeat(MAX_JWKS_BYTES));
    assert_eq!(refused(&large).unwrap(), "it is larger than 256 KiB");
}
