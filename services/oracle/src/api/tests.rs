use axum::body::Body;
use axum::http::Request;
use expect_test::expect;
use http_body_util::BodyExt;
use outbound::{Allow, AllowList, Client, FakeResolver, FakeServer, Resolve, Roots};
use serde_json::json;
use sha2::{Digest, Sha256};
use tower::ServiceExt;

use super::*;

const PRICE: &str = r#"{"data":{"price":17912.9000000000000000001,"volume":1E3},"list":[1.10,2]}"#;

fn reply(status: &str, body: &str) -> Option<Vec<u8>> {
    Some(format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

fn app(
    entries: &[Allow],
    loopback: &[String],
    resolver: impl Resolve + 'static,
    roots: Roots,
) -> axum::Router {
    let client = Client::new(AllowList::new(entries, loopback).unwrap(), resolver, roots);
    sdk::router(router(Arc::new(Service::new(client))))
}

/// An oracle that may call one fake server.
fn app_of(server: &FakeServer) -> axum::Router {
    let roots = Roots::only([server.certificate()]);
    app(&[Allow::get(server.url("/"))], &[server.host_and_port()], FakeResolver::default(), roots)
}

/// An oracle that may call these prefixes of public servers, of which the resolver decides where they are.
fn app_for(prefixes: &[&str], resolver: FakeResolver) -> axum::Router {
    let entries: Vec<_> = prefixes.iter().map(|prefix| Allow::get(*prefix)).collect();
    app(&entries, &[], resolver, Roots::only([]))
}

async fn post_body(app: axum::Router, body: impl Into<Body>) -> Value {
    let request = Request::post("/v1/oracle/query").body(body.into()).unwrap();
    let response = app.oneshot(request).await.unwrap();
    let (status, body) = (response.status(), response.into_body().collect().await.unwrap().to_bytes());
    let body: Value = serde_json::from_slice(&body).unwrap();
    if !status.is_success() {
        assert_eq!(body["status"], status.as_u16());
    }
    body
}

async fn ask(app: axum::Router, query: Value) -> Value {
    post_body(app, query.to_string()).await
}

async fn code(app: axum::Router, query: Value) -> String {
    let body = ask(app, query).await;
    format!("{} {}", body["status"], body["code"].as_str().unwrap_or("no code"))
}

/// The code after asking a server that answers every request so.
async fn code_after(answer: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static, path: &str) -> String {
    let server = FakeServer::http(answer).await;
    code(app_of(&server), json!({"url": server.url("/"), "jsonPath": path})).await
}

#[tokio::test]
async fn a_query_answers_with_the_exact_value_and_the_peer() {
    let server = FakeServer::https(|_| reply("200 OK", PRICE)).await;
    let query =
        json!({"url": server.url("/v1?pair=BTC"), "jsonPath": "$.data.price", "headers": {"X-Client": "me"}});
    let mut answer = ask(app_of(&server), query).await;
    assert_eq!(answer["bodyHash"], hex(&Sha256::digest(PRICE)));
    for key in ["bodyHash", "requestHash"] {
        assert_eq!(answer[key].as_str().unwrap().len(), 64);
        answer[key] = json!("HASH");
    }
    assert_eq!(answer["tls"]["spkiSha256"].as_str().unwrap().len(), 64);
    answer["tls"]["spkiSha256"] = json!("HASH");
    let id = answer["id"].as_str().unwrap().strip_prefix("orc_").unwrap();
    assert!(ulid::Ulid::from_string(id).is_ok());
    answer["id"] = json!("orc_ULID");
    assert!(answer["fetchedAt"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    answer["fetchedAt"] = json!("TIME");
    expect![[r#"
        {
          "id": "orc_ULID",
          "status": "done",
          "result": 17912.9000000000000000001,
          "statusCode": 200,
          "fetchedAt": "TIME",
          "requestHash": "HASH",
          "bodyHash": "HASH",
          "tls": {
            "peer": "127.0.0.1",
            "spkiSha256": "HASH"
          }
        }"#]]
    .assert_eq(&format!("{answer:#}"));
    let head = server.heads().remove(0);
    assert!(
        head.starts_with("GET /v1?pair=BTC HTTP/1.1\r\n") && head.contains("\r\nx-client: me\r\n"),
        "{head}"
    );
}

#[tokio::test]
async fn several_nodes_are_an_array_and_no_path_is_the_whole_document() {
    let server = FakeServer::http(|_| reply("200 OK", PRICE)).await;
    let list = ask(app_of(&server), json!({"url": server.url("/"), "jsonPath": "$.list[*]"})).await;
    assert_eq!(list["result"].to_string(), "[1.10,2]");
    assert_eq!(list["tls"], Value::Null);
    let whole = ask(app_of(&server), json!({"url": server.url("/")})).await;
    assert_eq!(
        whole["result"].to_string(),
        r#"{"data":{"price":17912.9000000000000000001,"volume":1e+3},"list":[1.10,2]}"#
    );
}

#[tokio::test]
async fn an_empty_allow_list_allows_nothing() {
    for url in ["https://api.example.org/", "https://127.0.0.1/", "https://169.254.169.254/latest/meta-data"]
    {
        assert_eq!(
            code(app_for(&[], FakeResolver::default()), json!({"url": url})).await,
            "403 ORACLE_NOT_ALLOWED"
        );
    }
}

#[tokio::test]
async fn urls_that_lead_inside_are_refused_through_the_api() {
    let hosts = [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "2130706433",
        "0177.0.0.1",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "198.18.0.1",
        "192.0.0.192",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "[::]",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b:1::1]",
        "[2002:7f00:1::]",
        "[2001::1]",
        "[2001:db8::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[fec0::1]",
        "[ff02::1]",
    ];
    for host in hosts {
        let url = format!("https://{host}/v1");
        let app = app_for(&[&url], FakeResolver::default());
        assert_eq!(code(app, json!({"url": url})).await, "403 ORACLE_PRIVATE_ADDRESS", "{host}");
    }
}

#[tokio::test]
async fn what_the_prefix_does_not_cover_is_not_allowed() {
    let urls = [
        ("https://api.example.org/v10", "403 ORACLE_NOT_ALLOWED"),
        ("https://api.example.org:8443/v1", "403 ORACLE_NOT_ALLOWED"),
        ("https://api.example.org.evil.example/v1", "403 ORACLE_NOT_ALLOWED"),
        ("https://evil.example/v1?https://api.example.org/v1", "403 ORACLE_NOT_ALLOWED"),
        ("https://api.example.org/v1/../admin", "400 ORACLE_BAD_REQUEST"),
        ("https://api.example.org/v1/%2e%2e/admin", "400 ORACLE_BAD_REQUEST"),
        ("https://api.example.org/v1/%2fadmin", "400 ORACLE_BAD_REQUEST"),
        ("https://api.example.org/v1//admin", "400 ORACLE_BAD_REQUEST"),
        ("https://api.example.org@evil.example/v1", "400 ORACLE_BAD_REQUEST"),
        ("https://user:pass@api.example.org/v1", "400 ORACLE_BAD_REQUEST"),
        ("https://evil.example\\@api.example.org/v1", "400 ORACLE_BAD_REQUEST"),
        ("http://api.example.org/v1", "400 ORACLE_BAD_REQUEST"),
        ("file:///etc/passwd", "400 ORACLE_BAD_REQUEST"),
        ("not a url", "400 ORACLE_BAD_REQUEST"),
    ];
    for (url, expected) in urls {
        let app = app_for(&["https://api.example.org/v1/"], FakeResolver::default());
        assert_eq!(code(app, json!({"url": url})).await, expected, "{url}");
    }
    let post = json!({"url": "https://api.example.org/v1/x", "method": "POST"});
    let app = app_for(&["https://api.example.org/v1/"], FakeResolver::default());
    assert_eq!(code(app, post).await, "403 ORACLE_NOT_ALLOWED");
}

#[tokio::test]
async fn an_allowed_name_that_is_rebound_to_a_private_address_is_refused() {
    let server = FakeServer::https(|_| reply("200 OK", PRICE)).await;
    let url = format!("https://api.example.org:{}/", server.port());
    for answers in [&["127.0.0.1"][..], &["1.1.1.1", "127.0.0.1"], &["::ffff:127.0.0.1"]] {
        let resolver = FakeResolver::default().name("api.example.org", &[answers, &["1.1.1.1"]]);
        assert_eq!(code(app_for(&[&url], resolver), json!({"url": url})).await, "403 ORACLE_PRIVATE_ADDRESS");
    }
    assert!(server.heads().is_empty());
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let server = FakeServer::http(|_| reply("302 Found\r\nlocation: http://169.254.169.254/", "{}")).await;
    assert_eq!(code(app_of(&server), json!({"url": server.url("/")})).await, "502 ORACLE_UPSTREAM_STATUS");
    assert_eq!(server.heads().len(), 1);
}

#[tokio::test]
async fn what_goes_wrong_upstream_has_a_code() {
    assert_eq!(code_after(|_| reply("500 Oops", "{}"), "$").await, "502 ORACLE_UPSTREAM_STATUS");
    assert_eq!(code_after(|_| reply("200 OK", "<html>"), "$").await, "422 ORACLE_NOT_JSON");
    assert_eq!(code_after(|_| reply("200 OK", "{\"a\":"), "$").await, "422 ORACLE_NOT_JSON");
    assert_eq!(code_after(|_| reply("200 OK", "{}"), "$.price").await, "422 ORACLE_PATH");
    assert_eq!(code_after(|_| reply("200 OK", "{}"), "$..a..b").await, "422 ORACLE_PATH");
    let large = |_: &str| reply("200 OK", &format!("\"{}\"", "a".repeat(2_000_000)));
    assert_eq!(code_after(large, "$").await, "502 ORACLE_TOO_LARGE");
    let long = |_: &str| reply("200 OK", &format!("\"{}\"", "a".repeat(70_000)));
    assert_eq!(code_after(long, "$").await, "422 ORACLE_PATH");
    assert_eq!(code_after(|_| Some(Vec::new()), "$").await, "502 ORACLE_UNREACHABLE");
    assert_eq!(
        code_after(|_| reply("200 OK\r\ncontent-encoding: gzip", "{}"), "$").await,
        "502 ORACLE_UNREACHABLE"
    );
}

#[tokio::test]
async fn what_goes_wrong_on_the_way_has_a_code() {
    let url = "https://unknown.example/";
    assert_eq!(code(app_for(&[url], FakeResolver::default()), json!({"url": url})).await, "502 ORACLE_DNS");

    let server = FakeServer::https(|_| reply("200 OK", "{}")).await;
    let entries = [Allow::get(server.url("/"))];
    let strict = app(&entries, &[server.host_and_port()], FakeResolver::default(), Roots::only([]));
    assert_eq!(code(strict, json!({"url": server.url("/")})).await, "502 ORACLE_TLS");

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    drop(listener);
    let url = format!("http://{host}/");
    let closed = app(&[Allow::get(&url)], &[host], FakeResolver::default(), Roots::only([]));
    assert_eq!(code(closed, json!({"url": url})).await, "502 ORACLE_UNREACHABLE");
}

#[tokio::test]
async fn a_silent_source_is_a_timeout() {
    let server = FakeServer::http(|_| None).await;
    let asked = tokio::spawn(code(app_of(&server), json!({"url": server.url("/")})));
    server.seen(1).await;
    // From here nothing but the clock can make progress.
    tokio::time::pause();
    assert_eq!(asked.await.unwrap(), "504 ORACLE_TIMEOUT");
}

#[tokio::test]
async fn fields_of_later_versions_are_refused_by_name() {
    for field in ["secret", "quorum", "mode", "cache", "body"] {
        let mut query = json!({"url": "https://api.example.org/"});
        query[field] = json!("x");
        let refused = ask(app_for(&[], FakeResolver::default()), query).await;
        assert_eq!(refused["code"], "ORACLE_BAD_REQUEST");
        assert!(
            refused["detail"].as_str().unwrap().contains(&format!("unknown field `{field}`")),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_body_that_is_not_a_query_is_a_bad_request() {
    for body in [
        "",
        r#"["https://a/"]"#,
        "null",
        "{",
        "{\"url\":\"\"}",
        &format!("\"{}\"", "a".repeat(MAX_BODY_BYTES)),
    ] {
        let refused = post_body(app_for(&[], FakeResolver::default()), body.to_owned()).await;
        assert_eq!(refused["code"], "ORACLE_BAD_REQUEST", "{refused}");
    }
}

#[tokio::test]
async fn the_oracle_starts_without_any_configuration() {
    let start = sdk::Start {
        service: "oracle".parse().unwrap(),
        replica: "oracle/0".parse().unwrap(),
        version: "1".to_owned(),
        config: json!({}),
        configs: sdk::Configs::none(),
        secrets: Default::default(),
        changes: tokio::sync::watch::channel(Default::default()).1,
        state: sdk::FakeState::new().state(),
    };
    let app = sdk::router(crate::build(start.clone()).await.unwrap());
    assert_eq!(code(app, json!({"url": "https://api.example.org/"})).await, "403 ORACLE_NOT_ALLOWED");
    let misspelt = crate::build(sdk::Start { config: json!({"alow": []}), ..start }).await;
    assert!(misspelt.unwrap_err().to_string().contains("unknown field `alow`"));
}

#[tokio::test]
async fn another_allow_list_holds_for_the_next_query_and_the_one_in_flight_ends_by_its_own() {
    let server = FakeServer::https(|_| reply("200 OK", PRICE)).await;
    let roots = Roots::only([server.certificate()]);
    let list = |urls: &[String]| {
        let entries: Vec<_> = urls.iter().map(|url| Allow::get(url.as_str())).collect();
        AllowList::new(&entries, &[server.host_and_port()]).unwrap()
    };
    let client = Client::new(list(&[server.url("/one")]), FakeResolver::default(), roots);
    let service = Arc::new(Service::new(client));
    let app = sdk::router(router(Arc::clone(&service)));
    let query = |path: &str| json!({"url": server.url(path), "jsonPath": "$.data.price"});
    assert_eq!(code(app.clone(), query("/one")).await, "\"done\" no code");
    assert_eq!(code(app.clone(), query("/two")).await, "403 ORACLE_NOT_ALLOWED");
    // It has begun, and goes on after the list is another.
    let mut begun = std::pin::pin!(code(app.clone(), query("/one")));
    assert!(polled_once(begun.as_mut()).is_none());
    service.take(list(&[server.url("/two")]));
    assert_eq!(code(app.clone(), query("/one")).await, "403 ORACLE_NOT_ALLOWED");
    assert_eq!(code(app, query("/two")).await, "\"done\" no code");
    assert_eq!(begun.await, "\"done\" no code");
}

/// What a future gives when it is polled once.
fn polled_once<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}
