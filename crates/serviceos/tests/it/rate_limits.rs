//! How often clients may call: by address, by caller, by day and by route, and what they are told of it.
//!
//! Where a test counts what is admitted, nothing comes back while it runs: the rates are those of a day.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{
    Answer, Client, Connection, Http2, KeyServer, Mesh, Request, Running, TokenIssuer, Upstream, eventually,
};

const PUBLIC: &str = "routes: [{match: {path: '/echo'}, public: true}]";

fn made(mesh: &Running, tier: &str) -> String {
    let tier = format!("--tier={tier}");
    let created = mesh.run(&["keys", "create", "--name=a", "--scopes=site", &tier, "--json"]);
    assert_eq!(created.code, 0, "{}", created.err);
    let created: Value = serde_json::from_str(&created.out).unwrap();
    created["key"].as_str().unwrap().to_owned()
}

fn limits(answer: &Answer) -> Vec<String> {
    let names = ["ratelimit-policy", "ratelimit", "retry-after"];
    let older = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
    let shown = |name: &&str| answer.header(name).map(|value| format!("{name}: {value}"));
    names.iter().chain(&older).filter_map(shown).collect()
}

/// Sends with these fields as the client says them, from behind these bytes.
fn ask(mesh: &Running, prefix: &str, fields: &str) -> u16 {
    let mut client = Connection::open(mesh.gateway);
    let request = format!("{prefix}GET /echo HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n{fields}\r\n");
    client.write(request).unwrap();
    client.answer().unwrap().status
}

/// How many of so many requests are admitted.
fn admitted(count: usize, mut ask: impl FnMut(usize) -> u16) -> usize {
    let answered = |number: &usize| match ask(*number) {
        200 => true,
        429 => false,
        other => panic!("{other}"),
    };
    (0..count).filter(answered).count()
}

#[test]
fn every_answer_under_a_limit_says_what_is_left_of_it() {
    let upstream = Upstream::new();
    let gateway =
        "rateLimits: {perAddress: {rate: 9/d, burst: 9}, tiers: {gold: {rate: 2/d, burst: 2, daily: 5}}}";
    let routes = "routes: [{match: {path: '/echo'}, scopes: [site], rateLimit: {rate: 4/d, burst: 4}}]";
    let mesh = Mesh::new().gateway(gateway).endpoints_with("site", &[upstream.address], routes).up();
    let key = made(&mesh, "gold");
    let request = || Request::new("GET", "/echo").key(&key);
    let first = request().send(mesh.gateway);
    let policy =
        "\"address\";q=9;w=86400, \"route\";q=4;w=86400, \"gold\";q=2;w=86400, \"daily\";q=5;w=86400";
    let shown = limits(&first);
    assert_eq!(first.status, 200, "{shown:?}");
    assert_eq!(shown[0], format!("ratelimit-policy: {policy}"));
    assert!(shown[1].starts_with(
        "ratelimit: \"address\";r=8;t=9600, \"route\";r=3;t=21600, \"gold\";r=1;t=43200, \"daily\";r=4;t="
    ));
    assert_eq!(shown[2..], ["x-ratelimit-limit: 2", "x-ratelimit-remaining: 1", "x-ratelimit-reset: 43200"]);

    let client = Http2::connect(mesh.gateway);
    let bearer = format!("Bearer {key}");
    let request2 = || Http2::request("GET", "/echo", &[("authorization", &bearer)]);
    let second = client.send(request2(), Vec::new());
    assert_eq!((second.status, second.header("x-ratelimit-remaining")), (200, Some("0")));
    for refused in [request().send(mesh.gateway), client.send(request2(), Vec::new())] {
        let shown = limits(&refused);
        assert_eq!(refused.problem(), (429, "RATE_LIMITED".into()), "{shown:?}");
        assert!(refused.text().contains("its tier gold allows"), "{}", refused.text());
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((43_100..=43_200).contains(&wait), "{wait}");
        assert_eq!(refused.header("x-ratelimit-remaining"), Some("0"));
    }
    // A path that is unknown, or a request without a key, is counted by the address alone.
    let unknown = Request::new("GET", "/nowhere").send(mesh.gateway);
    assert_eq!(unknown.problem(), (404, "ROUTE_NOT_FOUND".into()));
    assert_eq!(unknown.header("ratelimit").map(|value| &value[..14]), Some("\"address\";r=4;"));
    assert_eq!(upstream.count(), 2);
}

#[test]
fn what_a_replica_says_of_limits_passes_where_the_gateway_has_none() {
    let upstream = Upstream::new();
    let routes = "routes: [{match: {path: '/limited'}, public: true}, {match: {path: '/limited/held'}, public: true, rateLimit: {rate: 9/d, burst: 9}}]";
    let mesh = Mesh::new().endpoints_with("site", &[upstream.address], routes).up();
    let own = limits(&Request::new("GET", "/limited").send(mesh.gateway));
    assert_eq!((own.len(), own[0].as_str()), (5, "ratelimit-policy: \"own\";q=1;w=1"));
    let held = Request::new("GET", "/limited/held").send(mesh.gateway);
    assert_eq!(limits(&held).len(), 5);
    assert!(limits(&held).iter().all(|field| !field.contains("own")), "{:?}", limits(&held));
    assert_eq!(held.header("x-ratelimit-limit"), Some("9"));
}

#[test]
fn a_client_that_is_no_proxy_changes_no_bucket_whatever_it_says() {
    let upstream = Upstream::new();
    let gateway = "trustedProxies: [192.0.2.0/24], rateLimits: {perAddress: {rate: 5/d, burst: 5}}";
    let mesh = Mesh::new().gateway(gateway).endpoints_with("site", &[upstream.address], PUBLIC).up();
    let claims = |number: usize| {
        format!(
            "x-forwarded-for: 198.51.100.{number}\r\nforwarded: for=198.51.100.{number}\r\nx-real-ip: 198.51.100.{number}\r\n"
        )
    };
    assert_eq!(admitted(20, |number| ask(&mesh, "", &claims(number))), 5);
    assert_eq!(upstream.count(), 5);
}

#[test]
fn behind_a_trusted_proxy_each_client_has_a_bucket_and_in_ipv6_each_network() {
    let upstream = Upstream::new();
    let gateway = "trustedProxies: [127.0.0.0/8], rateLimits: {perAddress: {rate: 3/d, burst: 3}}";
    let mesh = Mesh::new().gateway(gateway).endpoints_with("site", &[upstream.address], PUBLIC).up();
    let of = |address: &str| ask(&mesh, "", &format!("x-forwarded-for: 6.6.6.6, {address}\r\n"));
    assert_eq!(admitted(5, |_| of("198.51.100.1")), 3);
    assert_eq!(admitted(5, |_| of("198.51.100.2")), 3);
    assert_eq!(admitted(9, |number| of(&format!("2001:db8:0:7::{number:x}"))), 3, "one /64");
    assert_eq!(admitted(5, |_| of("2001:db8:0:8::1")), 3, "another one");
    assert_eq!(admitted(5, |_| of("::ffff:198.51.100.1")), 0, "the same client");
}

#[test]
fn the_proxy_protocol_says_whose_bucket_it_is() {
    let upstream = Upstream::new();
    let gateway = "proxyProtocol: [127.0.0.0/8], rateLimits: {perAddress: {rate: 2/d, burst: 2}}";
    let mesh = Mesh::new().gateway(gateway).endpoints_with("site", &[upstream.address], PUBLIC).up();
    let of = |address: &str| ask(&mesh, &format!("PROXY TCP4 {address} 10.0.0.1 56324 443\r\n"), "");
    assert_eq!(admitted(4, |_| of("198.51.100.1")), 2);
    assert_eq!(admitted(4, |_| of("198.51.100.2")), 2);
}

#[test]
fn an_address_that_presents_too_many_bad_credentials_is_told_to_wait_and_good_ones_are_not() {
    let upstream = Upstream::new();
    let gateway = "rateLimits: {failedAuthentication: {rate: 3/d, burst: 3}}";
    let mesh = Mesh::new().gateway(gateway).endpoints("site", &[upstream.address]).up();
    let with = |key: &str| Request::new("GET", "/site/echo").key(key).send(mesh.gateway);
    let wrong = format!("{}x", &mesh.key[..mesh.key.len() - 1]);
    for _ in 0..3 {
        assert_eq!(with(&wrong).problem(), (401, "AUTH_INVALID".into()));
    }
    let refused = with(&wrong);
    assert_eq!(refused.problem(), (429, "RATE_LIMITED".into()));
    assert!(refused.header("retry-after").is_some() && refused.header("www-authenticate").is_none());
    assert_eq!(refused.header("ratelimit-policy"), Some("\"failed-authentication\";q=3;w=86400"));
    assert_eq!(with("no.token.at-all").problem(), (429, "RATE_LIMITED".into()));
    assert_eq!(with(&mesh.key).status, 200, "whoever has a key is not kept out by a neighbour");
    let none = Request::new("GET", "/site/echo").send(mesh.gateway);
    assert_eq!(none.problem(), (401, "AUTH_REQUIRED".into()), "nothing was presented");
}

#[test]
fn bad_credentials_that_cost_nothing_keep_no_good_token_out_and_those_that_cost_do() {
    let (upstream, issuer) = (Upstream::new(), TokenIssuer::new("https://idp.test", "key-1"));
    let keys = KeyServer::new(&issuer.jwks());
    let gateway = format!(
        "workers: 1, rateLimits: {{failedAuthentication: {{rate: 3/d, burst: 3}}}}, authentication: {{jwt: [{{issuer: \"https://idp.test\", audience: authenticated, roleClaim: role, scopes: {{authenticated: [site]}}, algorithms: [ES256], jwks: \"{}\"}}]}}",
        keys.url()
    );
    let mesh = Mesh::new().gateway(&gateway).endpoints("site", &[upstream.address]).up();
    let with = |key: &str| Request::new("GET", "/site/echo").key(key).send(mesh.gateway).status;
    let good = |subject: &str| issuer.es256(&json!({"sub": subject}));
    let wrong = format!("{}x", &mesh.key[..mesh.key.len() - 1]);
    let expired = issuer.es256(&json!({"exp": 1_700_000_000}));
    assert_eq!([&wrong, "no.token.at-all", &expired].map(&with), [401; 3]);
    assert_eq!([&wrong, "no.token.at-all", &expired].map(&with), [429; 3], "so many refusals are told apart");
    let known = good("ann");
    assert_eq!(with(&known), 200, "a token that nobody has seen");

    let stranger = TokenIssuer::new("https://idp.test", "key-1").es256(&json!({}));
    assert_eq!([(); 3].map(|()| with(&stranger)), [429; 3]);
    assert_eq!(with(&good("bob")), 429, "no more signatures are verified for this address");
    assert_eq!(with(&good("ann")), 429, "another token of a known caller, whose signature is another");
    assert_eq!(with(&mesh.key), 200);

    let (file, new) = (mesh.folder().join("serviceos.yaml"), mesh.folder().join("new.yaml"));
    let text = std::fs::read_to_string(&file).unwrap();
    let other = text.replacen("rateLimits: {", "rateLimits: {tiers: {wide: {rate: 9/s, burst: 9}}, ", 1);
    std::fs::write(&new, other).unwrap();
    std::fs::rename(new, file).unwrap();
    mesh.until_logged(0, "the configuration was applied");
    assert_eq!(with(&known), 200, "it has to be verified anew, and was good before");
    assert_eq!(with(&good("bob")), 429);
}

#[test]
fn a_quota_is_for_the_day_and_a_caller_may_ask_where_it_stands() {
    let upstream = Upstream::new();
    let gateway = "rateLimits: {tiers: {gold: {rate: 600/s, burst: 600, daily: 3}}}";
    let mesh = Mesh::new().gateway(gateway).endpoints("site", &[upstream.address]).up();
    let key = made(&mesh, "gold");
    let quota = || Request::new("GET", "/v1/quota").key(&key).send(mesh.gateway).json();
    let begun = quota();
    assert_eq!(begun["tier"], "gold");
    assert_eq!(begun["scopes"], json!(["site"]));
    assert_eq!((&begun["rate"]["limit"], &begun["rate"]["burst"]), (&json!(600), &json!(600)));
    assert_eq!((&begun["daily"]["limit"], &begun["daily"]["used"]), (&json!(3), &json!(0)));
    let call = || Request::new("GET", "/site/echo").key(&key).send(mesh.gateway);
    assert_eq!(admitted(5, |_| call().status), 3);
    let refused = call();
    assert!(refused.text().contains("for today"), "{}", refused.text());
    let day: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=86_400).contains(&day), "{day}");
    let quota = quota();
    assert_eq!((&quota["daily"]["used"], &quota["daily"]["remaining"]), (&json!(3), &json!(0)), "{quota}");

    let unlimited = Request::new("GET", "/v1/quota").key(&mesh.key).send(mesh.gateway).json();
    assert_eq!(
        (&unlimited["tier"], &unlimited["rate"], &unlimited["daily"]),
        (&json!("unlimited"), &Value::Null, &Value::Null)
    );
    for (request, code) in [
        (Request::new("GET", "/v1/quota"), (401, "AUTH_REQUIRED".into())),
        (Request::new("GET", "/v1/quota").key("sk_test_no"), (401, "AUTH_INVALID".into())),
        (Request::new("POST", "/v1/quota").key(&mesh.key), (405, "METHOD_NOT_ALLOWED".into())),
    ] {
        assert_eq!(request.send(mesh.gateway).problem(), code);
    }
}

#[test]
fn a_route_has_one_limit_for_everybody_that_outlives_a_reload() {
    let upstream = Upstream::new();
    let routes = |limit: &str, timeout: &str| {
        format!(
            "routes: [{{match: {{path: '/echo'}}, public: true, timeout: {timeout}, rateLimit: {{{limit}}}}}]"
        )
    };
    let of = |keys: &str| Mesh::new().endpoints_with("site", &[upstream.address], keys);
    let mesh = of(&routes("rate: 4/d, burst: 4", "5s")).up();
    let call = || Request::new("GET", "/echo").send(mesh.gateway);
    assert_eq!(admitted(3, |_| call().status), 3);
    let reload = |keys: &str| {
        let file = mesh.folder().join("serviceos.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        let at = text.find("routes:").unwrap();
        std::fs::write(mesh.folder().join("new.yaml"), format!("{}{keys}}}\n", &text[..at])).unwrap();
        std::fs::rename(mesh.folder().join("new.yaml"), file).unwrap();
    };
    let revision = || {
        let shown = mesh.run(&["config", "history", "--json"]).out;
        serde_json::from_str::<Value>(&shown).unwrap()[0]["revision"].as_u64()
    };
    let before = revision();
    reload(&routes("rate: 4/d, burst: 4", "6s"));
    eventually("the reload", || (revision() > before).then_some(()));
    assert_eq!(admitted(3, |_| call().status), 1, "the same limit, of which three are used");
    let before = revision();
    reload(&routes("rate: 6/d, burst: 6", "6s"));
    eventually("the reload", || (revision() > before).then_some(()));
    assert_eq!(admitted(4, |_| call().status), 2, "what was used stays used");
}

#[test]
fn clients_that_hurry_never_get_more_than_the_burst_and_the_rate_in_any_window() {
    const RATE: f64 = 100.0;
    const BURST: f64 = 20.0;
    let upstream = Upstream::new();
    let gateway = "workers: 2, rateLimits: {tiers: {gold: {rate: 100/s, burst: 20}}}";
    let mesh = Mesh::new().gateway(gateway).endpoints("site", &[upstream.address]).up();
    let key = made(&mesh, "gold");
    let end = Instant::now() + Duration::from_secs(2);
    let ask = || {
        let (mut client, mut admitted) = (Client::connect(mesh.gateway).unwrap(), Vec::new());
        let request = Request::new("GET", "/site/echo").key(&key);
        while Instant::now() < end {
            let sent = Instant::now();
            if client.send(&request).unwrap().status == 200 {
                admitted.push((sent, Instant::now()));
            }
        }
        admitted
    };
    let mut admitted: Vec<(Instant, Instant)> = std::thread::scope(|scope| {
        let clients = [(); 8].map(|()| scope.spawn(ask));
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    admitted.sort_unstable();
    // Whatever was admitted within a window was sent and answered within it, so no clock of the gateway's is needed.
    for (first, (from, _)) in admitted.iter().enumerate() {
        let mut answered: Vec<Instant> = admitted[first..].iter().map(|(_, answered)| *answered).collect();
        answered.sort_unstable();
        for (count, to) in answered.iter().enumerate() {
            let most = BURST + RATE * (*to - *from).as_secs_f64();
            assert!((count + 1) as f64 <= most, "{} in {:?}", count + 1, *to - *from);
        }
    }
    assert!(admitted.len() as f64 >= BURST, "{} were admitted", admitted.len());
}
