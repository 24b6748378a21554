//! Tokens that are not good. Whatever is wrong with one, the client is told the very same; the operator is told what.

use serde_json::{Value, json};
use testkit::{Answer, KeyServer, Request, TokenIssuer, Upstream, eventually, hs256, now, unsigned};

use super::{ISSUER, get, mesh, remote};

/// Everything that a client sees of a refusal but what is its own.
fn shown(answer: &Answer) -> (u16, Value, Vec<(String, String)>) {
    let mut body = answer.json();
    assert!(body["requestId"].take().is_string());
    let own = ["date", "x-request-id"];
    let headers = answer.headers.iter().filter(|(name, _)| !own.contains(&name.as_str())).cloned();
    (answer.status, body, headers.collect())
}

fn header(issuer: &TokenIssuer, more: Value) -> Value {
    let mut header = json!({"kid": issuer.id, "typ": "JWT"});
    for (name, value) in more.as_object().unwrap() {
        header[name] = value.clone();
    }
    header
}

/// Tokens that are not good, each with what is wrong with it.
fn bad_tokens(supabase: &TokenIssuer, decoy: &KeyServer) -> Vec<(String, String)> {
    let stranger = TokenIssuer::new(ISSUER, &supabase.id);
    let (good, claims) = (supabase.es256(&json!({})), supabase.claims(&json!({})).to_string());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let public = supabase.jwk();
    let mut bad: Vec<(String, String)> = ["none", "None", "NONE", "nOnE"]
        .map(|name| {
            (format!("alg: {name}"), format!("{}.", unsigned(name, &header(supabase, json!({})), &claims)))
        })
        .into();
    let mut add = |what: &str, token: String| bad.push((what.to_owned(), token));
    add(
        "none with a signature",
        format!("{}.{signature}", unsigned("none", &header(supabase, json!({})), &claims)),
    );
    let point = public["x"].as_str().unwrap();
    for (form, secret) in [
        ("JWK", public.to_string()),
        ("set of keys", supabase.jwks()),
        ("x", point.to_owned()),
        ("id", supabase.id.clone()),
    ] {
        add(
            &format!("HS256 with the {form}"),
            hs256(secret.as_bytes(), &header(supabase, json!({})), &claims),
        );
    }
    add("HS256 with the secret of an issuer that has none here", supabase.hs256(&json!({})));
    for (what, more) in [
        ("jwk", json!({"jwk": stranger.jwk()})),
        ("jku", json!({"jku": decoy.url()})),
        ("x5u", json!({"x5u": decoy.url()})),
        ("jku with another id", json!({"jku": decoy.url(), "kid": "other"})),
        ("an id that is a path", json!({"kid": "../../../../../../dev/null"})),
        ("an id with quotes", json!({"kid": "key-1' OR '1'='1"})),
    ] {
        add(what, stranger.es256_with(&header(supabase, more), &claims));
    }
    for (what, more) in [
        ("crit", json!({"crit": ["exp"]})),
        ("b64", json!({"b64": false, "crit": ["b64"]})),
        ("typ", json!({"typ": "dpop+jwt"})),
    ] {
        add(what, supabase.es256_with(&header(supabase, more), &claims));
    }
    for (what, changes) in [
        ("no exp", json!({"exp": null})),
        ("no aud", json!({"aud": null})),
        ("no iss", json!({"iss": null})),
        ("no sub", json!({"sub": null})),
        ("another issuer", json!({"iss": "https://evil.example.org"})),
        ("another audience", json!({"aud": "others"})),
        ("expired", json!({"exp": now() - 61})),
        ("not yet", json!({"nbf": now() + 90})),
        ("from the future", json!({"iat": now() + 90})),
        ("the subject of a key", json!({"sub": "key_development"})),
        ("the subject of a certificate", json!({"sub": "spiffe://partner/feeds"})),
        ("a subject with a line end", json!({"sub": "a\r\nx-serviceos-scopes: admin"})),
    ] {
        add(what, supabase.es256(&changes));
    }
    add("r and s are zero", format!("{signed}.{}", "A".repeat(86)));
    add("all ones", format!("{signed}.{}", "_".repeat(85) + "w"));
    add("cut", good[..good.len() - 4].to_owned());
    add("padded", format!("{good}=="));
    add("a fourth part", format!("{good}.e30"));
    add("no signature", format!("{signed}."));
    add("two parts", signed.to_owned());
    let parts: Vec<&str> = good.split('.').collect();
    let json = json!({"protected": parts[0], "payload": parts[1], "signature": parts[2]});
    add("as JSON", json.to_string());
    let twice = claims.replacen('{', "{\"role\":\"service_role\",", 1);
    add("a claim twice", supabase.es256_with(&header(supabase, json!({})), &twice));
    let deep = claims.replacen('{', &format!("{{\"a\":{}1{},", "[".repeat(500), "]".repeat(500)), 1);
    add("deep", supabase.es256_with(&header(supabase, json!({})), &deep));
    let long = supabase.es256(&json!({"email": "a".repeat(8_000)}));
    add("long", long);
    add("nothing of the kind", "token".to_owned());
    bad
}

#[test]
fn every_refusal_looks_the_same_and_leads_to_no_connection() {
    let (upstream, supabase) = (Upstream::new(), TokenIssuer::new(ISSUER, "key-1"));
    let (server, decoy) = (KeyServer::new(&supabase.jwks()), KeyServer::new(&supabase.jwks()));
    let mesh = mesh(&upstream, &[remote(&server)]);
    assert_eq!(get(&mesh, &supabase.es256(&json!({}))).status, 200);
    let like = shown(&get(&mesh, "sk_test_unknown"));
    assert_eq!(like.0, 401);
    assert_eq!(like.1["code"], "AUTH_INVALID");
    assert_eq!(like.1["detail"], "the credential is not valid");
    let challenge = ("www-authenticate".to_owned(), "Bearer error=\"invalid_token\"".to_owned());
    assert!(like.2.contains(&challenge), "{:?}", like.2);
    let bad = bad_tokens(&supabase, &decoy);
    assert!(bad.len() > 40, "{}", bad.len());
    for (what, token) in &bad {
        assert_eq!(shown(&get(&mesh, token)), like, "{what}");
    }
    // A bad token is not forgiven for a good key beside it, nor the other way round.
    let beside = Request::new("GET", "/site/echo").key("token").header("x-api-key", &mesh.key);
    assert_eq!(shown(&beside.send(mesh.gateway)), like);
    assert_eq!((upstream.count(), decoy.connections()), (1, 0));
    assert!(server.connections() <= 2, "the first unknown id had it asked once");
    let log = mesh.folder().join(".serviceos/logs/access.jsonl");
    let reasons =
        ["of the token: it has expired", "of the token: its signature is not right", "that is not known"];
    eventually("the reasons in the access log", || {
        let lines = std::fs::read_to_string(&log).unwrap_or_default();
        let good = supabase.es256(&json!({}));
        assert!(!lines.contains(good.split('.').next().unwrap()), "a token is in the access log");
        reasons.iter().all(|reason| lines.contains(reason)).then_some(())
    });
}
