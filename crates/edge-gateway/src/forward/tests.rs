use std::num::NonZeroUsize;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use access::{ApiKeys, Caller, Issuers, KeyKind, OverHttp, Tiers, Users};
use configuration::{HashOn, Sticky};
use expect_test::{Expect, expect};
use http1::{Limits, RequestHead, parse_request};
use observability::Metrics;
use service_registry::Registry;
use service_router::RouterPlan;
use store::Store;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::*;
use crate::RateLimits;
use crate::client::{Client, Scheme};
use crate::clock::RequestId;
use crate::drain_signal::DrainSignal;
use crate::worker::{RequestCount, Worker, WorkerSeed};
use crate::{Authentication, ClientBuckets, Plan, RouteTable, Shared};

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A client, and what the gateway knows of it.
struct Sender {
    address: &'static str,
    scheme: Scheme,
    caller: Option<Caller>,
}

impl Default for Sender {
    fn default() -> Self {
        Self { address: "10.0.0.9", scheme: Scheme::Http, caller: None }
    }
}

impl Sender {
    /// Its request, whose lines are given. Proxies are trusted that connect from 192.0.2.0/24.
    async fn sends(self, lines: &[&str]) -> Exchange {
        let mut head = Box::<RequestHead>::default();
        let limits = Limits { head_bytes: 4096, fields: 100, target_bytes: 1000 };
        let text = format!("{}\r\n\r\n", lines.join("\r\n"));
        parse_request(text.as_bytes(), &limits, &mut head).unwrap();
        let client = Client::new(self.address.parse().unwrap(), self.scheme, None, DrainSignal::default());
        let mut exchange = Exchange::begin(&worker().await, &client, head);
        if !exchange.is_from_proxy() {
            exchange.request_id = RequestId::given(b"0192-id").unwrap();
        }
        exchange.traceparent = *b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        exchange.caller = self.caller.map(Arc::new);
        exchange
    }
}

/// What the replica gets of a request.
async fn check(sender: Sender, lines: &[&str], expected: Expect) {
    let (exchange, route) = (sender.sends(lines).await, route("/{*rest}"));
    let forward = Forward::new(&exchange, &route);
    let mut shown =
        format!("{} {} at {}\n", forward.method(), text(forward.target().0), text(forward.host()));
    forward.each_field(&mut |name, value| {
        shown += &format!("{}: {}\n", String::from_utf8_lossy(name), String::from_utf8_lossy(value));
    });
    expected.assert_eq(&shown);
}

fn route(template: &str) -> Route {
    Route::new(0, template, "vrf", Metrics::new(1).route("vrf", template))
}

async fn worker() -> Rc<Worker> {
    let (folder, cores) = (tempfile::tempdir().unwrap(), NonZeroUsize::MIN);
    let text = "services: {vrf: }\ngateway: {trustedProxies: [192.0.2.0/24]}";
    let settings = configuration::parse(text, "test.yaml", Path::new("/"), cores, configuration::any_config);
    let gateway = settings.unwrap().gateway;
    let plan = Plan {
        routes: RouteTable::new(Vec::new(), Vec::new()).unwrap(),
        limits: gateway.limits,
        authentication: Authentication { api_keys: true, certificates: None, signed_requests: None },
        rate_limits: RateLimits::new(
            None,
            access::Limit::new(access::Rate { count: 1, per: std::time::Duration::from_secs(1) }, 1),
        ),
        services: Arc::default(),
        unmatched: Metrics::new(1).unmatched(),
        tls: None,
        proxy_protocol: Vec::new(),
        trusted_proxies: gateway.trusted_proxies,
    };
    let (suspicions, _unread) = mpsc::channel(1);
    let store = Store::open(&folder.path().join("store.redb")).unwrap();
    let pepper = Zeroizing::new(vec![5; 32]);
    let keys = ApiKeys::open(store, &pepper, KeyKind::Test, Tiers::built_in()).await.unwrap();
    let (issuers, _owner) = Issuers::new(Vec::new(), OverHttp::default());
    let shared = Shared {
        router: RouterPlan { registry: Registry::default(), suspicions },
        keys: keys.subscribe(),
        tokens: issuers.keys(),
        users: Arc::new(Users::new(Tiers::built_in())),
        nonces: Arc::new(access::Nonces::new(jiff::Timestamp::UNIX_EPOCH)),
        client_buckets: Arc::new(ClientBuckets::new(&plan.rate_limits)),
        metrics: Arc::new(Metrics::new(1)),
        access_log: None,
    };
    let (plan, random) = (Arc::new(plan), fastrand::Rng::with_seed(1));
    let (worker, _following) =
        WorkerSeed { plan, shared, requests: RequestCount::default(), random, number: 0 }.worker();
    worker
}

#[tokio::test]
async fn a_client_can_set_neither_the_gateways_headers_nor_hop_by_hop_ones() {
    let caller = Caller::new("key_1", "acme", vec!["randomness".into(), "oracle".into()]);
    check(
        Sender { caller: Some(caller), ..Sender::default() },
        &[
            "POST /v1/random?n=1 HTTP/1.1",
            "Host: api.example.org",
            "Accept: */*",
            "Authorization: Bearer sk_test_secret",
            "X-API-Key: sk_test_secret",
            "apikey: sk_test_secret",
            "X-ServiceOS-Tenant: victim",
            "x-serviceos-anything: 1",
            "x_serviceos_tenant: victim",
            "X_API_Key: sk_test_secret",
            "x-forwarded-for: 1.2.3.4",
            "x-forwarded-proto: https",
            "x-forwarded-host: other.example.org",
            "Forwarded: for=1.2.3.4",
            "X-Request-Id: mine",
            "X-Request-Timeout: 1ms",
            "Connection: x-drop",
            "x-drop: 1",
            "Content-Length: 5",
            "TE: trailers",
            "Keep-Alive: 1",
            "Expect: 100-continue",
            "Trailer: x-sum",
            "x_other: kept",
            "Cookie: a=b",
        ],
        expect![[r#"
            POST /v1/random?n=1 at api.example.org
            Accept: */*
            x_other: kept
            Cookie: a=b
            x-forwarded-for: 10.0.0.9
            x-forwarded-proto: http
            forwarded: for=10.0.0.9;proto=http
            x-forwarded-host: api.example.org
            via: 1.1 serviceos
            x-request-id: 0192-id
            traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
            x-serviceos-tenant: acme
            x-serviceos-subject: key_1
            x-serviceos-scopes: randomness oracle
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_signature_reaches_the_replica_unless_it_has_said_who_calls() {
    let lines = [
        "GET / HTTP/1.1",
        "host: a",
        "Signature-Input: s=()",
        "signature: s=:AA==:",
        "Signature_Input: s=()",
    ];
    let mut exchange = Sender::default().sends(&lines).await;
    let passed = |exchange: &Exchange| {
        let mut names = Vec::new();
        put_message(exchange, &mut |name, _| names.push(text(name).to_ascii_lowercase()));
        names
    };
    assert_eq!(passed(&exchange), ["signature-input", "signature"]);
    exchange.signed = Signed::Yes { digest: None, nonce: access::Nonce::new("key_1", "nonce", 0..1) };
    assert_eq!(passed(&exchange), [""; 0]);
}

#[tokio::test]
async fn without_a_caller_the_tenant_is_default_and_there_is_no_subject() {
    check(
        Sender { address: "::ffff:10.0.0.9", ..Sender::default() },
        &["GET / HTTP/1.1", "host: a", "x-serviceos-subject: forged"],
        expect![[r#"
            GET / at a
            x-forwarded-for: 10.0.0.9
            x-forwarded-proto: http
            forwarded: for=10.0.0.9;proto=http
            x-forwarded-host: a
            via: 1.1 serviceos
            x-request-id: 0192-id
            traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
            x-serviceos-tenant: default
        "#]],
    )
    .await;
}

#[tokio::test]
async fn the_address_of_an_ipv6_client_is_quoted_where_that_is_needed() {
    let sender = Sender { address: "2001:db8::1", scheme: Scheme::Https, ..Sender::default() };
    check(
        sender,
        &["GET / HTTP/1.1", "host: a:8443"],
        expect![[r#"
            GET / at a:8443
            x-forwarded-for: 2001:db8::1
            x-forwarded-proto: https
            forwarded: for="[2001:db8::1]";proto=https
            x-forwarded-host: a:8443
            via: 1.1 serviceos
            x-request-id: 0192-id
            traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
            x-serviceos-tenant: default
        "#]],
    )
    .await;
}

#[tokio::test]
async fn what_a_trusted_proxy_has_written_is_taken_over_and_added_to() {
    check(
        Sender { address: "192.0.2.7", ..Sender::default() },
        &[
            "GET / HTTP/1.1",
            "host: inner:8080",
            "x-forwarded-for: 198.51.100.1, 10.1.1.1",
            "x-forwarded-proto: https",
            "x-forwarded-host: api.example.org",
            "x-request-id: from-the-proxy",
            "forwarded: for=198.51.100.1",
        ],
        expect![[r#"
            GET / at inner:8080
            x-forwarded-for: 198.51.100.1, 10.1.1.1
            x-forwarded-for: 192.0.2.7
            x-forwarded-proto: https
            x-forwarded-host: api.example.org
            forwarded: for=198.51.100.1
            forwarded: for=192.0.2.7;proto=http
            via: 1.1 serviceos
            x-request-id: from-the-proxy
            traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
            x-serviceos-tenant: default
        "#]],
    )
    .await;
}

#[tokio::test]
async fn clients_behind_a_trusted_proxy_are_balanced_as_different_callers() {
    let hash = async |address: &'static str, forwarded_for: &str| {
        let lines = ["GET / HTTP/1.1", "host: a", &format!("x-forwarded-for: {forwarded_for}")];
        let exchange = Sender { address, ..Sender::default() }.sends(&lines).await;
        let caller = crate::destination::hash(Some(&HashOn::Caller), &exchange);
        assert_eq!(caller, crate::destination::sticky_hash(Some(&Sticky::Caller), &exchange));
        caller
    };
    let (proxy, stranger) = ("192.0.2.7", "10.0.0.9");
    assert_ne!(hash(proxy, "198.51.100.1").await, hash(proxy, "198.51.100.2").await);
    assert_eq!(hash(proxy, "198.51.100.1").await, hash(proxy, "9.9.9.9, 198.51.100.1").await);
    assert_eq!(hash(stranger, "198.51.100.1").await, hash(stranger, "198.51.100.2").await);
}

#[tokio::test]
async fn the_prefix_of_a_route_is_stripped_where_the_route_says_so() {
    let mut route = route("/dice/{*rest}");
    let mut shown = String::new();
    for strip_prefix in [None, Some("/dice".to_owned())] {
        route.strip_prefix = strip_prefix;
        for target in ["/dice/v1/random?n=1", "/dice/", "/dice", "/dice?n=1"] {
            let exchange = Sender::default().sends(&[&format!("GET {target} HTTP/1.1"), "host: a"]).await;
            let forward = Forward::new(&exchange, &route);
            let (path, query) = forward.target();
            shown += &format!("{target} {}{}\n", text(path), text(query));
        }
    }
    expect![[r#"
        /dice/v1/random?n=1 /dice/v1/random?n=1
        /dice/ /dice/
        /dice /dice
        /dice?n=1 /dice?n=1
        /dice/v1/random?n=1 /v1/random?n=1
        /dice/ /
        /dice /
        /dice?n=1 /?n=1
    "#]]
    .assert_eq(&shown);
}

#[test]
fn a_name_that_could_be_read_as_one_of_the_gateways_is_reserved() {
    let reserved =
        ["x-serviceos-tenant", "X-ServiceOS-x", "x_serviceos_tenant", "X_API-Key", "Content_Length"];
    assert_eq!(reserved.map(|name| is_reserved(name.as_bytes())), [true; 5]);
    let free = ["x-serviceos", "x-service-os", "x_other", "accept", "host"];
    assert_eq!(free.map(|name| is_reserved(name.as_bytes())), [false; 5]);
}
