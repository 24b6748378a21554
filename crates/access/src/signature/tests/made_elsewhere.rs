//! Requests that another program has signed: `http-message-signatures` 3.0.0 of PyPI, with `requests`, one after the other for
//! each kind of key. The moment of all of them is [`NOW`].

use super::*;

#[derive(serde::Deserialize)]
struct Made {
    pem: String,
    algorithm: String,
    method: String,
    url: String,
    body: Option<String>,
    headers: std::collections::BTreeMap<String, String>,
}

impl Made {
    fn message(&self) -> Message {
        let (scheme, rest) = self.url.split_once("://").unwrap();
        let (authority, origin) = rest.split_at(rest.find('/').unwrap());
        let (path, query) = origin.split_at(origin.find('?').unwrap_or(origin.len()));
        Message {
            method: self.method.clone(),
            scheme: scheme.into(),
            authority: authority.into(),
            path: path.into(),
            query: query.into(),
            fields: self.headers.clone().into_iter().collect(),
            has_body: self.body.is_some(),
        }
    }
}

#[tokio::test]
async fn requests_that_another_program_has_signed_are_good() {
    let made: Vec<Made> = serde_json::from_str(include_str!("made_elsewhere.json")).unwrap();
    assert_eq!(made.len(), 12);
    for made in made {
        let table = table(&[(ID, &made.pem, "")]).await;
        let nonces = Nonces::new(at(NOW - 1));
        let ask = |message: &Message| used(&table, message, MAX_SIGNATURE_AGE, &nonces, at(NOW));
        let what = format!("{} {} {}", made.algorithm, made.method, made.url);
        let message = made.message();
        let changed = Message { path: format!("{}x", message.path), ..message.clone() };
        assert!(ask(&changed).is_err(), "{what}");
        let signed = ask(&message).unwrap_or_else(|refusal| panic!("{what}: {refusal:?}"));
        assert_eq!(signed.digest.is_some(), made.body.is_some(), "{what}");
        if let (Some(digest), Some(body)) = (&signed.digest, &made.body) {
            assert!(digest.matches(body.as_bytes()) && !digest.matches(b"other"), "{what}");
        }
        assert!(ask(&message).is_err(), "{what}");
    }
}
