use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::*;
use crate::{ApiKeys, KeyKind, PublicKey, Tiers};

mod made_elsewhere;
mod rfc;

/// A message of which every part is at hand.
#[derive(Clone)]
struct Message {
    method: String,
    scheme: String,
    authority: String,
    path: String,
    query: String,
    fields: Vec<(String, String)>,
    has_body: bool,
}

impl SignedMessage for Message {
    fn method(&self) -> &[u8] {
        self.method.as_bytes()
    }

    fn scheme(&self) -> &[u8] {
        self.scheme.as_bytes()
    }

    fn authority(&self) -> &[u8] {
        self.authority.as_bytes()
    }

    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }

    fn query(&self) -> &[u8] {
        self.query.as_bytes()
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_bytes())
    }

    fn has_body(&self) -> bool {
        self.has_body
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A table of these keys, as they are in a store: an id, PEM, and what else the record says.
async fn table(keys: &[(&str, &str, &str)]) -> Arc<KeyTable> {
    let folder = tempfile::tempdir().unwrap();
    let store = store::Store::open(&folder.path().join("store.redb")).unwrap();
    for (id, pem, more) in keys {
        let key = PublicKey::from_pem(pem).unwrap();
        let row = format!(
            r#"{{"publicKey":"{}","record":{{"id":"{id}","name":"n","scopes":["a"],"tenant":"default","createdAt":"2020-01-01T00:00:00Z"{more}}}}}"#,
            key.encoded()
        );
        let row = store::Transaction::new().put(format!("access/keys/{id}"), row);
        store.commit(row).await.unwrap();
    }
    let pepper = Zeroizing::new(vec![5; 32]);
    let keys = ApiKeys::open(store, &pepper, KeyKind::Test, Tiers::built_in()).await.unwrap();
    keys.subscribe().borrow().clone()
}

const ID: &str = "key_01JABCDEFGHJKMNPQRSTVWXYZ0";
const NONCE_16: &str = "0123456789abcdef";
/// When the requests of these tests come.
const NOW: i64 = 1_700_000_000;

fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

fn pem(pair: &Ed25519KeyPair) -> String {
    let mut der = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00".to_vec();
    der.extend_from_slice(pair.public_key().as_ref());
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
}

fn get() -> Message {
    Message {
        method: "GET".into(),
        scheme: "https".into(),
        authority: "api.example".into(),
        path: "/v1/random/keys".into(),
        query: "?n=1".into(),
        fields: vec![("x-note".into(), "a".into()), ("x-note".into(), " b ".into())],
        has_body: false,
    }
}

/// `{"hello": "world"}` and its digest.
fn post() -> Message {
    let digest = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
    let fields = vec![("content-digest".into(), digest.into())];
    Message { method: "POST".into(), query: String::new(), has_body: true, fields, ..get() }
}

/// What a client puts into the base for a component, from the message as it has it.
fn value(message: &Message, component: &str) -> String {
    match component {
        "@method" => message.method.clone(),
        "@scheme" => message.scheme.clone(),
        "@authority" => message.authority.clone(),
        "@path" => message.path.clone(),
        "@query" if message.query.is_empty() => "?".into(),
        "@query" => message.query.clone(),
        "@target-uri" => {
            format!("{}://{}{}{}", message.scheme, message.authority, message.path, message.query)
        }
        field => {
            let values = message.fields.iter().filter(|(name, _)| name == field);
            values.map(|(_, value)| value.trim()).collect::<Vec<_>>().join(", ")
        }
    }
}

/// Signs these components, with these parameters behind their list.
fn signed(message: &Message, components: &[&str], parameters: &str) -> Message {
    let quoted: Vec<_> = components.iter().map(|name| format!("\"{name}\"")).collect();
    signed_as(message, components, &format!("({}){parameters}", quoted.join(" ")))
}

/// The same with the list as it is to stand there.
fn signed_as(message: &Message, components: &[&str], input: &str) -> Message {
    let mut base = String::new();
    for name in components {
        base += &format!("\"{name}\": {}\n", value(message, name));
    }
    base += &format!("\"@signature-params\": {input}");
    let signature = STANDARD.encode(pair().sign(base.as_bytes()).as_ref());
    let mut message = message.clone();
    message.fields.push(("signature-input".into(), format!("sig={input}")));
    message.fields.push(("signature".into(), format!("sig=:{signature}:")));
    message
}

const WHOLE: &[&str] = &["@method", "@target-uri"];

fn parameters(nonce: &str) -> String {
    format!(";created={NOW};expires={};nonce=\"{nonce}\";keyid=\"{ID}\"", NOW + 300)
}

/// The caller who has signed a message, whose nonce is used up then.
fn used(
    table: &KeyTable,
    message: &Message,
    max_age: Duration,
    nonces: &Nonces,
    now: Timestamp,
) -> Result<Signed, SignatureRefusal> {
    let signed = table.authenticate_signed(message, max_age, nonces, now)?;
    nonces.take(&signed.nonce, now.as_second()).map(|()| signed)
}

/// How a message is answered by a process that has just begun and by a table of one key.
async fn judged(message: &Message, now: i64) -> Result<Signed, SignatureRefusal> {
    let table = table(&[(ID, &pem(&pair()), "")]).await;
    used(&table, message, MAX_SIGNATURE_AGE, &Nonces::new(at(NOW - 1)), at(now))
}

async fn refused(message: &Message, now: i64) -> &'static str {
    match judged(message, now).await {
        Err(SignatureRefusal::Invalid(why) | SignatureRefusal::Costly(why)) => why,
        Err(other) => panic!("{other:?}"),
        Ok(_) => "nothing",
    }
}

#[tokio::test]
async fn a_signed_request_is_its_callers_and_good_once() {
    let table = table(&[(ID, &pem(&pair()), "")]).await;
    let nonces = Nonces::new(at(NOW - 1));
    let ask = |message: &Message| used(&table, message, MAX_SIGNATURE_AGE, &nonces, at(NOW));
    let request = signed(&get(), WHOLE, &parameters(NONCE_16));
    let first = ask(&request).unwrap();
    assert_eq!((first.caller.subject().as_ref(), first.digest.is_none()), (ID.as_bytes(), true));
    assert_eq!(ask(&request).unwrap_err(), SignatureRefusal::Costly("its nonce was used before"));
    let other = signed(&get(), WHOLE, &parameters("0123456789abcdeg"));
    assert!(ask(&other).is_ok());
}

#[tokio::test]
async fn a_signature_that_is_not_good_uses_up_no_nonce() {
    let table = table(&[(ID, &pem(&pair()), "")]).await;
    let nonces = Nonces::new(at(NOW - 1));
    let ask = |message: &Message| used(&table, message, MAX_SIGNATURE_AGE, &nonces, at(NOW));
    let request = signed(&get(), WHOLE, &parameters(NONCE_16));
    let forged = Message { path: "/v1/random/other".into(), ..request.clone() };
    assert!(ask(&forged).is_err());
    assert!(ask(&request).is_ok());
}

#[tokio::test]
async fn every_accepted_set_of_components_is_good_and_covers_what_it_must() {
    let quarters = &["@method", "@authority", "@path", "@query"][..];
    for components in [WHOLE, quarters, &["@scheme", "x-note", "@query", "@path", "@authority", "@method"]] {
        let request = signed(&get(), components, &parameters(NONCE_16));
        assert!(judged(&request, NOW).await.is_ok(), "{components:?}");
        for changed in [
            Message { method: "HEAD".into(), ..request.clone() },
            Message { authority: "api.example.org".into(), ..request.clone() },
            Message { path: "/v1/random/key".into(), ..request.clone() },
            Message { query: "?n=2".into(), ..request.clone() },
            Message { query: String::new(), ..request.clone() },
        ] {
            let why = refused(&changed, NOW).await;
            assert_eq!(why, "its signature is not that of the key", "{components:?}");
        }
    }
    // A query that is not there need not be covered, and then none can be added.
    let plain = Message { query: String::new(), ..get() };
    for components in [&quarters[..3], quarters] {
        let request = signed(&plain, components, &parameters(NONCE_16));
        assert!(judged(&request, NOW).await.is_ok(), "{components:?}");
        assert_ne!(refused(&Message { query: "?n=1".into(), ..request }, NOW).await, "nothing");
    }
}

#[tokio::test]
async fn what_covers_too_little_is_refused() {
    for (components, why) in [
        (&["@target-uri"][..], "its signature does not cover @method"),
        (&["@method"], "its signature covers neither @target-uri nor @authority"),
        (&["@method", "@authority"], "its signature covers neither @target-uri nor @path"),
        (&["@method", "@path", "@query"], "its signature covers neither @target-uri nor @authority"),
        (&["@method", "@authority", "@path"], "its signature covers neither @target-uri nor @query"),
        (&["@method", "@target-uri", "@method"], "its signature covers a component twice"),
        (&["@method", "@target-uri", "x-none"], "a field that its signature needs or covers is not there"),
        (
            &["@method", "@target-uri", "X-Note"],
            "its signature covers a field whose name is not in lower case",
        ),
        (
            &["@method", "@target-uri", "@request-target"],
            "its signature covers a derived component that is not known here",
        ),
        (
            &["@method", "@target-uri", "@status"],
            "its signature covers a derived component that is not known here",
        ),
        (&["@method", "@target-uri", "signature"], "its signature covers a signature"),
    ] {
        assert_eq!(
            refused(&signed(&get(), components, &parameters(NONCE_16)), NOW).await,
            why,
            "{components:?}"
        );
    }
    let with_parameter = format!("(\"@method\" \"@target-uri\" \"x-note\";bs){}", parameters(NONCE_16));
    let with_parameter = signed_as(&get(), &["@method", "@target-uri", "x-note"], &with_parameter);
    assert_eq!(refused(&with_parameter, NOW).await, "its signature covers a component with a parameter");
    let uncovered = signed(&post(), WHOLE, &parameters(NONCE_16));
    assert_eq!(
        refused(&uncovered, NOW).await,
        "its signature does not cover content-digest, and it has a body"
    );
}

#[tokio::test]
async fn a_body_is_what_its_digest_says_also_where_there_is_none() {
    let components = &["@method", "@target-uri", "content-digest"];
    let request = signed(&post(), components, &parameters(NONCE_16));
    for message in [request.clone(), Message { has_body: false, ..request.clone() }] {
        let digest = judged(&message, NOW).await.unwrap().digest.expect("a digest");
        let matches =
            [&b"{\"hello\": \"world\"}"[..], b"{\"hello\": \"World\"}", b""].map(|body| digest.matches(body));
        assert_eq!(matches, [true, false, false]);
    }
    let mut changed = request;
    changed.fields[0].1 = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:".into();
    assert_eq!(refused(&changed, NOW).await, "its signature is not that of the key");
    let mut useless = post();
    useless.fields[0].1 = "md5=:AAAA:".into();
    let useless = signed(&useless, components, &parameters(NONCE_16));
    assert_eq!(refused(&useless, NOW).await, "its content-digest has neither sha-256 nor sha-512");
}

#[tokio::test]
async fn a_signature_is_good_in_its_time_alone() {
    let times = |created: i64, expires: i64| {
        let times = format!(";created={created};expires={expires};nonce=\"{NONCE_16}\";keyid=\"{ID}\"");
        signed(&get(), WHOLE, &times)
    };
    let (expired, future) = ("its signature has expired", "its signature is from the future");
    let long = "its signature is good for longer than is allowed, or not at all";
    for (created, expires, now, why) in [
        (NOW, NOW + 300, NOW, "nothing"),
        (NOW, NOW + 300, NOW + 299, "nothing"),
        (NOW, NOW + 300, NOW + 300, expired),
        (NOW + 60, NOW + 360, NOW, "nothing"),
        (NOW + 61, NOW + 361, NOW, future),
        (NOW, NOW + 301, NOW, long),
        (NOW + 1, NOW + 1, NOW, long),
        (NOW + 2, NOW + 1, NOW, long),
        (-999_999_999_999_999, 999_999_999_999_999, NOW, long),
        (NOW - 1, NOW + 10, NOW, "its signature is older than this process"),
    ] {
        assert_eq!(refused(&times(created, expires), now).await, why, "{created} {expires} {now}");
    }
    let table = table(&[(ID, &pem(&pair()), "")]).await;
    let nonces = Nonces::new(at(NOW - 1));
    let shorter =
        |expires| used(&table, &times(NOW, expires), Duration::from_secs(30), &nonces, at(NOW)).map(|_| ());
    assert_eq!(shorter(NOW + 31), Err(SignatureRefusal::Invalid(long)), "what the configuration allows");
    assert_eq!(shorter(NOW + 30), Ok(()));
}

#[tokio::test]
async fn every_parameter_is_there_once_and_of_its_kind() {
    let (created, expires) = (format!(";created={NOW}"), format!(";expires={}", NOW + 300));
    let (nonce, key) = (format!(";nonce=\"{NONCE_16}\""), format!(";keyid=\"{ID}\""));
    let longest = format!(";nonce=\"{}\"", "n".repeat(128));
    let no_nonce = "its signature has no nonce of 16 to 128 characters";
    for (parts, why) in [
        ([&created[..], &expires, &nonce, &key, ";alg=\"ed25519\";tag=\"serviceos\""], "nothing"),
        ([&key, &nonce, &expires, &created, ""], "nothing"),
        ([&created, &expires, &longest, &key, ""], "nothing"),
        ([&expires, &nonce, &key, "", ""], "its signature does not say when it was created"),
        ([&created, &nonce, &key, "", ""], "its signature does not say when it expires"),
        ([";created=\"1\"", &expires, &nonce, &key, ""], "its signature does not say when it was created"),
        ([&created, &expires, &key, "", ""], no_nonce),
        ([&created, &expires, ";nonce=\"0123456789abcde\"", &key, ""], no_nonce),
        (
            [&created, &expires, &longest.replacen('n', "nnnnnnn", 2), &key, ""],
            "its signature has a parameter that is not known here",
        ),
        ([&created, &expires, &format!(";nonce=\"{}\"", "n".repeat(129)), &key, ""], no_nonce),
        ([&created, &expires, ";nonce=1", &key, ""], "its nonce is no text"),
        ([&created, &expires, &nonce, "", ""], "it has no signature by a key of this mesh"),
        ([&created, &expires, &nonce, ";keyid=\"other\"", ""], "it has no signature by a key of this mesh"),
        ([&created, &expires, &nonce, &key, ";tag=\"else\""], "it has no signature by a key of this mesh"),
        ([&created, &expires, &nonce, ";keyid=\"key_none\"", ""], "the key of its signature is unknown here"),
        (
            [&created, &expires, &nonce, &key, ";alg=\"rsa-pss-sha512\""],
            "its signature is not that of the key",
        ),
        ([&created, &expires, &nonce, &key, ";alg=ed25519"], "its alg is no text"),
        ([&created, &expires, &nonce, &key, ";x=1"], "its signature has a parameter that is not known here"),
        (
            [&created, &expires, &nonce, &key, &nonce],
            "a field of its signature has a parameter twice, or too many of them",
        ),
    ] {
        assert_eq!(refused(&signed(&get(), WHOLE, &parts.concat()), NOW).await, why, "{parts:?}");
    }
}

#[tokio::test]
async fn of_several_signatures_the_one_that_is_meant_for_us_counts() {
    let ours = signed(&get(), WHOLE, &parameters(NONCE_16));
    let beside = |message: &Message, input: &str, signature: &str| {
        let mut message = message.clone();
        for (name, value) in &mut message.fields {
            match name.as_str() {
                "signature-input" => *value = format!("{input}, {value}"),
                "signature" => *value = format!("{signature}, {value}"),
                _ => {}
            }
        }
        message
    };
    let theirs = beside(&ours, r#"proxy=("@method");keyid="proxy";created=1"#, "proxy=:AAAA:");
    assert_eq!(refused(&theirs, NOW).await, "nothing");
    let second = format!(r#"b=("@method");keyid="{ID}""#);
    let twice = beside(&ours, &second, "b=:AAAA:");
    assert_eq!(refused(&twice, NOW).await, "it has several signatures by keys of this mesh");
    let tagged = signed(&get(), WHOLE, &format!("{};tag=\"serviceos\"", parameters(NONCE_16)));
    assert_eq!(refused(&beside(&tagged, &second, "b=:AAAA:"), NOW).await, "nothing", "our tag goes first");
    let elsewhere = beside(&ours, r#"sig=("@method");keyid="proxy""#, "b=:AAAA:");
    assert_eq!(refused(&elsewhere, NOW).await, "a field of its signature has a label twice");
    // Two lines are one field.
    let mut lines = ours.clone();
    lines.fields.push(("signature-input".into(), r#"proxy=("@method");keyid="proxy""#.into()));
    assert_eq!(refused(&lines, NOW).await, "nothing");
}

#[test]
fn a_signature_of_somebody_else_is_none_and_one_that_cannot_be_read_is_not_nothing() {
    let of = |inputs: &[&str]| {
        let fields = inputs.iter().map(|input| ("signature-input".to_owned(), (*input).to_owned()));
        is_signed(&Message { fields: fields.collect(), ..get() })
    };
    for theirs in [
        r#"sig=("@method");keyid="theirs""#,
        r#"sig=("@method");created=1"#,
        r#"sig=("@method");keyid="key_1";tag="web-bot-auth""#,
        r#"a=("@method");keyid="theirs", b=("@authority");keyid="others";tag="x""#,
    ] {
        assert!(!of(&[theirs]), "{theirs}");
    }
    for ours in [
        r#"sig=("@method");keyid="key_1""#,
        r#"sig=("@method");tag="serviceos""#,
        r#"sig=("@method");keyid="theirs";tag="serviceos""#,
        r#"a=("@method");keyid="theirs", b=("@method");keyid="key_1""#,
        "sig=(",
        "",
    ] {
        assert!(of(&[ours]), "{ours}");
    }
    assert!(
        of(&[r#"a=("@method");keyid="theirs""#, r#"b=("@method");keyid="key_1""#]),
        "two lines are one field"
    );
}

#[tokio::test]
async fn a_signature_must_be_there_and_be_one() {
    let ours = signed(&get(), WHOLE, &parameters(NONCE_16));
    let with = |signature: Option<&str>| {
        let mut message = ours.clone();
        message.fields.retain(|(name, _)| name != "signature");
        message.fields.extend(signature.map(|signature| ("signature".to_owned(), signature.to_owned())));
        message
    };
    for (signature, why) in [
        (None, "a field that its signature needs or covers is not there"),
        (Some("other=:AAAA:"), "there is no signature of the label that says what is signed"),
        (Some("sig=\"AAAA\""), "its signature is no sequence of bytes"),
        (Some("sig=:AAAA"), "a field of its signature is malformed"),
        (Some("sig=::"), "its signature is not that of the key"),
        (Some("sig=:AAAA:"), "its signature is not that of the key"),
    ] {
        assert_eq!(refused(&with(signature), NOW).await, why, "{signature:?}");
    }
    let mut long = ours.clone();
    long.fields.push(("signature-input".into(), format!("x=\"{}\"", "x".repeat(MAX_FIELD_BYTES))));
    assert_eq!(refused(&long, NOW).await, "a field of its signature is longer than 8 KiB");
}

#[tokio::test]
async fn host_and_port_are_brought_into_one_form() {
    for (scheme, authority, sent) in [
        ("https", "api.example", "API.example:443"),
        ("http", "api.example", "api.example:80"),
        ("http", "api.example:443", "api.example:443"),
        ("https", "[::1]:8443", "[::1]:8443"),
    ] {
        let message = Message { scheme: scheme.into(), authority: authority.into(), ..get() };
        let request = signed(&message, WHOLE, &parameters(NONCE_16));
        let sent = Message { authority: sent.into(), ..request };
        assert_eq!(refused(&sent, NOW).await, "nothing", "{scheme} {authority}");
    }
}

#[tokio::test]
async fn only_what_the_key_itself_refuses_is_called_costly() {
    let request = signed(&get(), WHOLE, &parameters(NONCE_16));
    let other_path = judged(&Message { path: "/other".into(), ..request.clone() }, NOW).await.map(|_| ());
    assert_eq!(other_path, Err(SignatureRefusal::Costly("its signature is not that of the key")));
    let late = judged(&request, NOW + 301).await.map(|_| ());
    assert_eq!(late, Err(SignatureRefusal::Invalid("its signature has expired")));
    let nobody = table(&[]).await;
    let unknown = used(&nobody, &request, MAX_SIGNATURE_AGE, &Nonces::new(at(NOW - 1)), at(NOW)).map(|_| ());
    assert_eq!(unknown, Err(SignatureRefusal::Invalid("the key of its signature is unknown here")));
}

#[tokio::test]
async fn keys_that_have_ended_and_keys_with_a_secret_sign_nothing() {
    let request = signed(&get(), WHOLE, &parameters(NONCE_16));
    let nonces = Nonces::new(at(NOW - 1));
    let ask = async |more: &str| {
        let table = table(&[(ID, &pem(&pair()), more)]).await;
        used(&table, &request, MAX_SIGNATURE_AGE, &nonces, at(NOW)).map(|_| ())
    };
    assert_eq!(ask(r#","expiresAt":"2023-11-14T22:13:20Z""#).await, Err(SignatureRefusal::Expired));
    let revoked = ask(r#","revokedAt":"2023-01-01T00:00:00Z""#).await;
    assert_eq!(revoked, Err(SignatureRefusal::Invalid("the key of its signature is unknown here")));
    assert_eq!(ask(r#","expiresAt":"2023-11-14T22:13:21Z""#).await, Ok(()), "and its nonce was not used up");
}
