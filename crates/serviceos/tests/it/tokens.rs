//! Tokens of issuers through the whole system: made as Supabase makes them, verified with its secret or with the keys that it
//! publishes, and with those of an independent library.

mod keys;
mod refusals;

use serde_json::{Value, json};
use testkit::{
    Answer, Client, Http2, JWT, KeyServer, Mesh, PYTHON, Request, Running, TokenIssuer, Upstream, has_program,
};

const ISSUER: &str = "https://project.supabase.co/auth/v1";
const SUBJECT: &str = "1b0e7a5c-3f4d-4a52-9d0c-6f1f0f2f9a11";
const ROUTES: &str = "routes: [{match: {path: '/site/{*rest}'}, stripPrefix: true, scopes: [site]}, {match: {path: '/status/{code}'}, scopes: [admin]}]";
const GRANTS: &str = "roleClaim: role, scopes: {authenticated: [site], service_role: [admin, site]}";
/// Refusals are counted by address, and a test has but one.
const PATIENT: &str = "rateLimits: {failedAuthentication: {rate: 1000000/s, burst: 1000000}}";

/// The keys of the file that name an issuer, with more of it.
fn issuer(more: &str) -> String {
    format!("{{issuer: \"{ISSUER}\", audience: authenticated, {GRANTS}, {more}}}")
}

fn with_issuers(issuers: &[String]) -> String {
    format!("{PATIENT}, authentication: {{jwt: [{}]}}", issuers.join(", "))
}

/// A mesh that takes the tokens of these issuers and has one service, `site`.
fn mesh(upstream: &Upstream, issuers: &[String]) -> Running {
    Mesh::new().gateway(&with_issuers(issuers)).endpoints_with("site", &[upstream.address], ROUTES).up()
}

fn remote(server: &KeyServer) -> String {
    issuer(&format!("algorithms: [ES256], jwks: \"{}\"", server.url()))
}

fn get(mesh: &Running, token: &str) -> Answer {
    Request::new("GET", "/site/echo").key(token).send(mesh.gateway)
}

/// Puts another file in the place of the configuration, as editors do.
fn change(mesh: &Running, upstream: &Upstream, issuers: &[String]) {
    let (new, file) = (mesh.folder().join("new.yaml"), mesh.folder().join("serviceos.yaml"));
    let site = format!("site: {{endpoints: [\"http://{}\"], attestation: none, {ROUTES}}}", upstream.address);
    let text = format!("gateway: {{{}}}\nservices:\n    {site}\n", with_issuers(issuers));
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, file).unwrap();
}

#[test]
fn a_session_of_supabase_is_a_caller_with_what_the_file_grants_to_its_role() {
    let (upstream, supabase) = (Upstream::new(), TokenIssuer::new(ISSUER, "key-1"));
    let server = KeyServer::new(&supabase.jwks());
    let mesh = mesh(&upstream, &[remote(&server)]);
    let token = supabase.es256(&json!({}));
    for header in ["authorization", "x-api-key", "apikey"] {
        let value = if header == "authorization" { format!("Bearer {token}") } else { token.clone() };
        let answer = Request::new("GET", "/site/echo").header(header, &value).send(mesh.gateway);
        assert_eq!(answer.status, 200, "{header}: {}", answer.text());
    }
    let client = Http2::connect(mesh.gateway);
    for _ in 0..2 {
        let fields = [("authorization", format!("Bearer {token}"))];
        let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
        let answer = client.send(Http2::request("GET", "/site/echo", &fields), Vec::new());
        assert_eq!(answer.status, 200, "HTTP/2");
    }
    let seen = upstream.seen();
    assert_eq!(seen.len(), 5);
    for seen in seen {
        let told = ["subject", "tenant", "scopes"].map(|name| seen.header(&format!("x-serviceos-{name}")));
        assert_eq!(told, [Some(SUBJECT), Some("default"), Some("site")]);
        let credentials = ["authorization", "x-api-key", "apikey"].map(|name| seen.header(name));
        assert_eq!(credentials, [None; 3], "the replica gets no credential");
    }
    let admin = |changes: Value| {
        let token = supabase.es256(&changes);
        Request::new("GET", "/status/200").key(&token).send(mesh.gateway).status
    };
    assert_eq!(admin(json!({})), 403, "a role may what the file grants it and no more");
    assert_eq!(admin(json!({"role": "service_role"})), 200);
    let nobody = get(&mesh, &supabase.es256(&json!({"role": "anon"})));
    assert_eq!(nobody.problem(), (403, "SCOPE_MISSING".into()), "a role that the file does not name");
    assert_eq!(server.connections(), 1, "keys are fetched once");
    assert_eq!(mesh.get("/site/echo").status, 200, "API keys are as good as before");
}

#[test]
fn the_secret_of_supabase_is_enough_and_another_value_of_it_takes_its_place_at_once() {
    let (upstream, supabase) = (Upstream::new(), TokenIssuer::new(ISSUER, "key-1"));
    let mesh = mesh(&upstream, &[]);
    let token = supabase.hs256(&json!({}));
    assert_eq!(get(&mesh, &token).problem(), (401, "AUTH_INVALID".into()));
    // A secret that is not there is a mistake of the file, which names the line.
    change(&mesh, &upstream, &[issuer("secret: supabase-jwt, tenant: acme")]);
    mesh.until_logged(
        0,
        "cannot be applied: line 1: gateway.authentication.jwt[0].secret: there is no secret \"supabase-jwt\"",
    );
    // With the line end that `echo` adds.
    assert_eq!(
        mesh.run_with(&["secrets", "set", "supabase-jwt"], format!("{}\n", supabase.secret).as_bytes()).code,
        0
    );
    testkit::eventually("the issuer to be known", || (get(&mesh, &token).status == 200).then_some(()));
    let seen = upstream.seen().pop().unwrap();
    assert_eq!(seen.header("x-serviceos-tenant"), Some("acme"));

    let other = TokenIssuer::new(ISSUER, "key-2");
    let mut client = Client::connect(mesh.gateway).unwrap();
    let mut ask = |token: &str| client.send(&Request::new("GET", "/site/echo").key(token)).unwrap().status;
    assert_eq!(ask(&token), 200);
    assert_eq!(mesh.run_with(&["secrets", "set", "supabase-jwt"], other.secret.as_bytes()).code, 0);
    let renewed = other.hs256(&json!({}));
    testkit::eventually("the new secret", || (ask(&renewed) == 200).then_some(()));
    assert_eq!(ask(&token), 401, "what was remembered under the old one counts no more");
    assert_eq!(mesh.run(&["secrets", "rm", "supabase-jwt"]).code, 0);
    testkit::eventually("the secret to be gone", || (ask(&renewed) == 401).then_some(()));
    let log = mesh.log();
    assert!(!log.contains(&supabase.secret) && !log.contains(&other.secret), "a secret is in the log");
    assert!(!log.contains(&token), "a token is in the log");
}

#[test]
fn a_claim_names_no_tenant_of_another_issuer() {
    let (upstream, claiming) = (Upstream::new(), TokenIssuer::new(ISSUER, "key-1"));
    let server = KeyServer::new(&claiming.jwks());
    let keys = format!("algorithms: [ES256], jwks: \"{}\"", server.url());
    let partner = format!("{{issuer: \"https://partner.test\", audience: a, tenant: partner, {keys}}}");
    let mesh = mesh(&upstream, &[issuer(&format!("tenantClaim: org, {keys}")), partner]);
    let of = |org: &str| get(&mesh, &claiming.es256(&json!({"org": org})));
    assert_eq!(of("shop").status, 200);
    assert_eq!(upstream.seen().pop().unwrap().header("x-serviceos-tenant"), Some("shop"));
    assert_eq!(of("partner").problem(), (401, "AUTH_INVALID".into()));
}

#[test]
fn a_start_with_a_secret_or_a_file_that_is_not_there_is_refused_with_the_line() {
    let mesh = Mesh::new();
    let file = |more: &str| {
        format!("services: {{vrf: }}\ngateway: {{authentication: {{jwt: [\n  {}\n]}}}}\n", issuer(more))
    };
    let jwks = |text: &str| std::fs::write(mesh.folder().join("keys.json"), text).unwrap();
    let es256 = "algorithms: [ES256], jwks: keys.json";
    let rs256 = "algorithms: [RS256], jwks: keys.json";
    let refused = |more: &str, why: &str, validated: bool| {
        mesh.write(&file(more));
        let ended = mesh.up_and_fail();
        assert_eq!(ended.code, 2, "{}", ended.err);
        assert!(ended.err.contains("serviceos.yaml:3: gateway.authentication.jwt[0]."), "{}", ended.err);
        assert!(ended.err.contains(why), "{}", ended.err);
        assert_eq!(mesh.run(&["config", "validate"]).code, if validated { 2 } else { 0 });
    };
    refused(es256, "keys.json: No such file", true);
    jwks("<html>");
    refused(es256, "keys.json: it is not a set of keys", true);
    jwks(&TokenIssuer::new(ISSUER, "a").jwks());
    refused(rs256, "none of its keys is a public one for an algorithm of this issuer", true);
    refused("secret: supabase-jwt", "there is no secret \"supabase-jwt\"", false);
}

#[test]
fn tokens_of_another_maker_are_understood() {
    if !has_program(JWT) {
        return;
    }
    let script = format!("{}/tests/it/python/tokens.py", env!("CARGO_MANIFEST_DIR"));
    let made = std::process::Command::new(PYTHON).args([&script, ISSUER]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let upstream = Upstream::new();
    let mesh = Mesh::new();
    std::fs::write(mesh.folder().join("keys.json"), made["jwks"].to_string()).unwrap();
    let all = issuer("algorithms: [RS256, PS256, ES256, EdDSA], jwks: keys.json");
    let mesh = mesh.gateway(&with_issuers(&[all])).endpoints_with("site", &[upstream.address], ROUTES).up();
    for (algorithm, token) in made["good"].as_object().unwrap() {
        let answer = get(&mesh, token.as_str().unwrap());
        assert_eq!(answer.status, 200, "{algorithm}: {}", answer.text());
    }
    assert_eq!(upstream.count(), 4);
    for (what, token) in made["bad"].as_object().unwrap() {
        let answer = get(&mesh, token.as_str().unwrap());
        assert_eq!(answer.problem(), (401, "AUTH_INVALID".into()), "{what}");
    }
    assert_eq!(upstream.count(), 4);
}
