//! The keys that an issuer publishes: exchanged, away, and in a file.

use serde_json::json;
use testkit::{Client, KeyServer, Mesh, Request, TokenIssuer, Upstream, eventually};

use super::{ISSUER, PATIENT, ROUTES, change, get, issuer, mesh, remote, with_issuers};

const IMPATIENT: &str = "rateLimits: {failedAuthentication: {rate: 1/d, burst: 1}}";

#[test]
fn a_new_key_is_taken_with_its_first_token_and_an_old_one_is_refused_even_where_it_was_remembered() {
    let (upstream, old, new) =
        (Upstream::new(), TokenIssuer::new(ISSUER, "key-1"), TokenIssuer::new(ISSUER, "key-2"));
    let server = KeyServer::new(&old.jwks());
    let mesh = mesh(&upstream, &[remote(&server)]);
    let (before, after) = (old.es256(&json!({})), new.es256(&json!({})));
    let mut client = Client::connect(mesh.gateway).unwrap();
    let mut ask = |token: &str| client.send(&Request::new("GET", "/site/echo").key(token)).unwrap().status;
    assert_eq!((ask(&before), ask(&before)), (200, 200));
    assert_eq!(server.connections(), 1);
    server.publish(&new.jwks());
    assert_eq!(ask(&before), 200, "nobody has reason to look again");
    assert_eq!(ask(&after), 200, "a key that nobody knows is looked for");
    assert_eq!(server.connections(), 2);
    assert_eq!(ask(&before), 401, "its key is gone");
    // Whatever ids are tried, keys are not fetched again so soon.
    for number in 0..20 {
        let stranger = TokenIssuer::new(ISSUER, &format!("stranger-{number}"));
        assert_eq!(ask(&stranger.es256(&json!({}))), 401);
    }
    assert_eq!(server.connections(), 2);
    assert_eq!(ask(&after), 200);
}

#[test]
fn keys_that_are_known_stay_good_while_their_server_is_away() {
    let (upstream, supabase) = (Upstream::new(), TokenIssuer::new(ISSUER, "key-1"));
    let server = KeyServer::new(&supabase.jwks());
    let mesh = mesh(&upstream, &[remote(&server)]);
    assert_eq!(get(&mesh, &supabase.es256(&json!({}))).status, 200);
    server.answer(Some(("500 Internal Server Error", "{}")));
    let stranger = TokenIssuer::new(ISSUER, "stranger");
    assert_eq!(get(&mesh, &stranger.es256(&json!({}))).status, 401);
    let log = mesh.until_logged(0, "the keys of an issuer cannot be fetched");
    assert!(
        log.contains(ISSUER) && log.contains(&server.url()) && log.contains("500 Internal Server Error"),
        "{log}"
    );
    assert_eq!(
        get(&mesh, &supabase.es256(&json!({"sub": "another"}))).status,
        200,
        "a token that nobody has seen"
    );
    // It is tried again by itself, and said once.
    let tried = server.connections();
    eventually("three more tries", || (server.connections() >= tried + 3).then_some(()));
    assert_eq!(mesh.log().matches("the keys of an issuer cannot be fetched").count(), 1);
    server.publish(&supabase.jwks());
    mesh.until_logged(0, "the keys of an issuer can be fetched again");
}

#[test]
fn a_start_waits_for_no_keys_and_takes_tokens_once_they_are_there() {
    let (upstream, supabase) = (Upstream::new(), TokenIssuer::new(ISSUER, "key-1"));
    let server = KeyServer::new("");
    server.answer(None);
    // A single refused credential would be one too many.
    let gateway = with_issuers(&[remote(&server)]).replace(PATIENT, IMPATIENT);
    let mesh = Mesh::new().gateway(&gateway).endpoints_with("site", &[upstream.address], ROUTES).up();
    let token = supabase.es256(&json!({}));
    for _ in 0..3 {
        let unknown = get(&mesh, &token);
        assert_eq!(unknown.problem(), (503, "AUTH_UNAVAILABLE".into()), "it may be good");
        assert_eq!((unknown.header("retry-after"), unknown.header("www-authenticate")), (Some("1"), None));
    }
    assert_eq!(mesh.get("/site/echo").status, 200, "everybody else is served");
    mesh.until_logged(0, "the keys of an issuer cannot be fetched");
    let expired = supabase.es256(&json!({"exp": 1_700_000_000}));
    assert_eq!(get(&mesh, &expired).problem(), (401, "AUTH_INVALID".into()), "whatever key has signed it");
    server.publish(&supabase.jwks());
    eventually("the keys to be fetched", || (get(&mesh, &token).status == 200).then_some(()));
}

#[test]
fn issuers_and_files_of_keys_come_and_go_while_everything_runs() {
    let (upstream, one, two) =
        (Upstream::new(), TokenIssuer::new(ISSUER, "key-1"), TokenIssuer::new(ISSUER, "key-2"));
    let mesh = mesh(&upstream, &[]);
    let publish = |issuer: &TokenIssuer| {
        let (new, path) = (mesh.folder().join("new.json"), mesh.folder().join("keys.json"));
        std::fs::write(&new, issuer.jwks()).unwrap();
        std::fs::rename(new, path).unwrap();
    };
    let (first, second) = (one.es256(&json!({})), two.es256(&json!({})));
    let until = |what: &str, token: &str, status: u16| {
        eventually(what, || (get(&mesh, token).status == status).then_some(()));
    };
    publish(&one);
    let of_file = issuer("algorithms: [ES256], jwks: keys.json");
    change(&mesh, &upstream, std::slice::from_ref(&of_file));
    until("the issuer to be known", &first, 200);
    publish(&two);
    until("the other key", &second, 200);
    assert_eq!(get(&mesh, &first).status, 401);
    // What is no set of keys changes nothing, and says so.
    std::fs::write(mesh.folder().join("keys.json"), "{").unwrap();
    mesh.until_logged(0, "cannot be taken over");
    assert_eq!(get(&mesh, &second).status, 200);
    publish(&one);
    until("the first key again", &first, 200);
    change(&mesh, &upstream, &[]);
    until("the issuer to be gone", &first, 401);
}

#[test]
fn a_broken_file_of_another_kind_keeps_no_key_in_force() {
    let (upstream, one, two) =
        (Upstream::new(), TokenIssuer::new(ISSUER, "key-1"), TokenIssuer::new(ISSUER, "key-2"));
    // Nothing listens there, so every gateway counts by itself.
    let limits = "rateLimits: {failedAuthentication: {rate: 1000000/s, burst: 1000000}, shared: {url: \"redis://127.0.0.1:1\", passwordFile: password}}";
    let keys = issuer("algorithms: [ES256], jwks: keys.json");
    let mesh = Mesh::new().gateway(&format!("{limits}, authentication: {{jwt: [{keys}]}}"));
    let path = |name: &str| mesh.folder().join(name);
    std::fs::write(path("password"), "secret\n").unwrap();
    std::fs::write(path("keys.json"), one.jwks()).unwrap();
    let mesh = mesh.endpoints_with("site", &[upstream.address], ROUTES).up();
    let (first, second) = (one.es256(&json!({})), two.es256(&json!({})));
    assert_eq!([&first, &second].map(|token| get(&mesh, token).status), [200, 401]);
    std::fs::remove_file(mesh.folder().join("password")).unwrap();
    mesh.until_logged(0, "a file of gateway.rateLimits.shared has changed and cannot be taken over");
    let new = mesh.folder().join("new.json");
    std::fs::write(&new, two.jwks()).unwrap();
    std::fs::rename(new, mesh.folder().join("keys.json")).unwrap();
    mesh.until_logged(0, "a file of keys has changed and was taken over");
    let statuses = || [&first, &second].map(|token| get(&mesh, token).status);
    eventually("the other key alone", || (statuses() == [401, 200]).then_some(()));
}

#[test]
fn a_broken_file_of_one_issuer_keeps_no_key_of_another_in_force() {
    const OTHER: &str = "https://other.example";
    let upstream = Upstream::new();
    let [of_file, one, two] = [(ISSUER, "key-1"), (OTHER, "key-1"), (OTHER, "key-2")]
        .map(|(name, key)| TokenIssuer::new(name, key));
    let mesh = mesh(&upstream, &[]);
    let path = mesh.folder().join("keys.json");
    let set = |issuer: &TokenIssuer| {
        assert_eq!(mesh.run_with(&["secrets", "set", "other"], issuer.secret.as_bytes()).code, 0);
    };
    std::fs::write(&path, of_file.jwks()).unwrap();
    set(&one);
    let issuers = [
        issuer("algorithms: [ES256], jwks: keys.json"),
        issuer("secret: other, tenant: other").replace(ISSUER, OTHER),
    ];
    change(&mesh, &upstream, &issuers);
    let tokens = [of_file.es256(&json!({})), one.hs256(&json!({})), two.hs256(&json!({}))];
    let until = |what: &str, wanted: [u16; 3]| {
        let statuses = || tokens.each_ref().map(|token| get(&mesh, token).status);
        eventually(what, || (statuses() == wanted).then_some(()));
    };
    until("both issuers to be known", [200, 200, 401]);
    std::fs::write(&path, "{").unwrap();
    mesh.until_logged(0, "a file of keys has changed and cannot be taken over");
    until("the keys before to stay", [200, 200, 401]);
    set(&two);
    until("the other secret alone", [200, 401, 200]);
    assert_eq!(mesh.run(&["secrets", "rm", "other"]).code, 0);
    until("the secret to be gone", [200, 401, 401]);
    // What is mended is taken over, and brings nothing back.
    std::fs::write(&path, TokenIssuer::new(ISSUER, "key-3").jwks()).unwrap();
    mesh.until_logged(0, "a file of keys has changed and was taken over");
    until("the key to be gone", [401; 3]);
}
