use std::sync::Arc;

use expect_test::expect;
use sha2::Digest;

use super::*;
use crate::{Allow, FakeResolver, FakeServer, SystemResolver};

fn answer(head: &str, body: &str) -> Option<Vec<u8>> {
    Some(format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

/// A client that may call anything on one port of loopback.
fn client_of(server: &FakeServer) -> Client {
    let hosts = [server.host_and_port(), format!("localhost:{}", server.port())];
    let entries = hosts
        .iter()
        .flat_map(|host| ["http", "https"].map(|scheme| Allow::get(format!("{scheme}://{host}/"))));
    let allow = AllowList::new(&entries.collect::<Vec<_>>(), &hosts).unwrap();
    let resolver = FakeResolver::default().name("localhost", &[&["127.0.0.1"]]);
    Client::new(allow, resolver, Roots::only([server.certificate()]))
}

fn client_for(prefixes: &[&str], resolver: impl Resolve + 'static) -> Client {
    let entries: Vec<_> = prefixes.iter().map(|prefix| Allow::get(*prefix)).collect();
    Client::new(AllowList::new(&entries, &[]).unwrap(), resolver, Roots::only([]))
}

async fn fetch_raw(bytes: &'static [u8]) -> Result<Response, FetchError> {
    let server = FakeServer::http(|_| Some(bytes.to_vec())).await;
    client_of(&server).fetch(Request::get(&server.url("/"))).await
}

#[tokio::test]
async fn an_https_answer_names_the_peer_and_its_key() {
    let server = FakeServer::https(|_| answer("200 OK", "{}")).await;
    let url = format!("https://localhost:{}/v1/price?pair=BTC-USD", server.port());
    let response = client_of(&server).fetch(Request::get(&url)).await.unwrap();
    assert_eq!((response.status, response.body.as_ref()), (StatusCode::OK, b"{}".as_slice()));
    let peer = response.tls.unwrap();
    let certificate = server.certificate().into();
    let spki = webpki::EndEntityCert::try_from(&certificate).unwrap().subject_public_key_info();
    assert_eq!(peer.name, "localhost");
    assert_eq!(peer.spki_sha256, <[u8; 32]>::from(sha2::Sha256::digest(spki)));
    let head = server.heads().remove(0).replace(&server.port().to_string(), "PORT");
    expect![[r#"
        GET /v1/price?pair=BTC-USD HTTP/1.1
        host: localhost:PORT
        accept-encoding: identity
        connection: close
        user-agent: serviceos

    "#]]
    .assert_eq(&head.replace('\r', ""));
}

#[tokio::test]
async fn a_literal_is_the_name_of_the_certificate_too() {
    let server = FakeServer::https(|_| answer("200 OK", "")).await;
    let response = client_of(&server).fetch(Request::get(&server.url("/"))).await.unwrap();
    assert_eq!(response.tls.unwrap().name, "127.0.0.1");
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused_before_the_request_is_sent() {
    let (server, other) =
        (FakeServer::https(|_| answer("200 OK", "")).await, FakeServer::https(|_| None).await);
    let mut client = client_of(&server);
    client.tls = tls::config(Roots::only([other.certificate()]));
    let refused = client.fetch(Request::get(&server.url("/"))).await;
    assert!(matches!(refused, Err(FetchError::Tls(_))), "{refused:?}");
    assert!(server.heads().is_empty());
}

#[tokio::test]
async fn https_to_a_server_without_tls_is_a_tls_error() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let closing = tokio::spawn(async move { listener.accept().await.map(drop) });
    let url = format!("https://127.0.0.1:{port}/");
    let host = format!("127.0.0.1:{port}");
    let allow = AllowList::new(&[Allow::get(&url)], &[host]).unwrap();
    let client = Client::new(allow, SystemResolver, Roots::only([]));
    let refused = client.fetch(Request::get(&url)).await;
    assert!(matches!(refused, Err(FetchError::Tls(_))), "{refused:?}");
    closing.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_the_list_does_not_name_is_never_resolved() {
    let resolver = Arc::new(FakeResolver::default().name("evil.example", &[&["1.1.1.1"], &["1.1.1.1"]]));
    let client = client_for(&["https://api.example.org/v1"], Arc::clone(&resolver));
    for url in ["https://evil.example/v1", "https://evil.example:444/"] {
        assert_eq!(client.fetch(Request::get(url)).await.unwrap_err(), FetchError::NotAllowed, "{url}");
    }
    assert_eq!(resolver.left("evil.example"), 2);
    let post = Request { method: Method::POST, ..Request::get("https://api.example.org/v1") };
    assert_eq!(client.fetch(post).await.unwrap_err(), FetchError::NotAllowed);
    let plain = client.fetch(Request::get("http://api.example.org/v1")).await.unwrap_err();
    assert!(matches!(plain, FetchError::BadUrl(_)));
}

#[tokio::test]
async fn one_private_address_among_public_ones_refuses_the_name() {
    let answers: [&[&str]; 5] = [
        &["10.0.0.1"],
        &["1.1.1.1", "127.0.0.1"],
        &["::1"],
        &["2606:4700::1", "::ffff:10.0.0.1"],
        &["169.254.169.254"],
    ];
    for addresses in answers {
        let resolver = FakeResolver::default().name("api.example.org", &[addresses]);
        let client = client_for(&["https://api.example.org/"], resolver);
        let refused = client.fetch(Request::get("https://api.example.org/")).await.unwrap_err();
        assert_eq!(refused, FetchError::PrivateAddress, "{addresses:?}");
    }
}

#[tokio::test]
async fn an_allowed_name_that_is_rebound_to_a_private_address_is_refused() {
    let server = FakeServer::http(|_| answer("200 OK", "inside")).await;
    let prefix = format!("https://api.example.org:{}/", server.port());
    let resolver = Arc::new(FakeResolver::default().name("api.example.org", &[&["127.0.0.1"], &["1.1.1.1"]]));
    let client = client_for(&[&prefix], Arc::clone(&resolver));
    assert_eq!(client.fetch(Request::get(&prefix)).await.unwrap_err(), FetchError::PrivateAddress);
    assert_eq!(
        resolver.left("api.example.org"),
        1,
        "one fetch resolves once, so there is no second answer to trust"
    );
    assert!(server.heads().is_empty());
}

#[tokio::test]
async fn literals_in_every_spelling_go_through_the_address_rule() {
    let hosts = [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "2130706433",
        "0177.0.0.1",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "10.0.0.1",
        "169.254.169.254",
        "0xa9fea9fe",
        "100.64.0.1",
        "[64:ff9b::a00:1]",
        "[2002:7f00:1::]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "255.255.255.255",
    ];
    for host in hosts {
        let url = format!("https://{host}/");
        let client = client_for(&[&url], FakeResolver::default());
        assert_eq!(client.fetch(Request::get(&url)).await.unwrap_err(), FetchError::PrivateAddress, "{host}");
    }
}

#[tokio::test]
async fn a_loopback_exception_reaches_nothing_but_loopback() {
    let allow =
        || AllowList::new(&[Allow::get("http://localhost:80/")], &["localhost:80".to_owned()]).unwrap();
    for addresses in [&["10.0.0.1"], &["1.1.1.1"]] {
        let resolver = FakeResolver::default().name("localhost", &[addresses]);
        let client = Client::new(allow(), resolver, Roots::only([]));
        assert_eq!(
            client.fetch(Request::get("http://localhost/")).await.unwrap_err(),
            FetchError::PrivateAddress
        );
    }
}

#[tokio::test]
async fn a_loopback_exception_still_needs_an_entry() {
    let server = FakeServer::http(|_| answer("200 OK", "")).await;
    let allow = AllowList::new(&[], &[server.host_and_port()]).unwrap();
    let client = Client::new(allow, FakeResolver::default(), Roots::only([]));
    assert_eq!(client.fetch(Request::get(&server.url("/"))).await.unwrap_err(), FetchError::NotAllowed);
}

#[tokio::test]
async fn a_name_without_an_address_is_a_dns_error() {
    let resolver = FakeResolver::default().name("empty.example", &[&[]]);
    let client = client_for(&["https://empty.example/", "https://unknown.example/"], resolver);
    for url in ["https://empty.example/", "https://unknown.example/"] {
        assert_eq!(client.fetch(Request::get(url)).await.unwrap_err(), FetchError::Dns, "{url}");
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let server = FakeServer::http(|_| answer("302 Found\r\nlocation: http://127.0.0.1:1/", "")).await;
    let response = client_of(&server).fetch(Request::get(&server.url("/"))).await.unwrap();
    assert_eq!(response.status, StatusCode::FOUND);
    assert_eq!(server.heads().len(), 1);
}

#[tokio::test]
async fn answers_are_read_whole_in_every_framing() {
    let framings: [&'static [u8]; 3] = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: identity\r\n\r\n{}",
    ];
    for framing in framings {
        assert_eq!(fetch_raw(framing).await.unwrap().body.as_ref(), b"{}");
    }
}

#[tokio::test]
async fn a_broken_answer_is_a_protocol_error() {
    let broken: [&'static [u8]; 5] = [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
    ];
    for bytes in broken {
        let refused = fetch_raw(bytes).await;
        assert!(
            matches!(refused, Err(FetchError::Protocol(_))),
            "{:?} {refused:?}",
            String::from_utf8_lossy(bytes)
        );
    }
}

#[tokio::test]
async fn an_answer_with_too_many_headers_is_a_protocol_error() {
    let server = FakeServer::http(|_| {
        let headers: String = (0..65).map(|n| format!("x-{n}: 1\r\n")).collect();
        Some(format!("HTTP/1.1 200 OK\r\n{headers}\r\n").into_bytes())
    });
    let server = server.await;
    let refused = client_of(&server).fetch(Request::get(&server.url("/"))).await;
    assert!(matches!(refused, Err(FetchError::Protocol(_))), "{refused:?}");
}

#[tokio::test]
async fn an_answer_over_two_megabytes_is_too_large_whether_announced_or_not() {
    let fits = FakeServer::http(|_| answer("200 OK", &"a".repeat(MAX_RESPONSE_BYTES))).await;
    let response = client_of(&fits).fetch(Request::get(&fits.url("/"))).await.unwrap();
    assert_eq!(response.body.len(), MAX_RESPONSE_BYTES);
    let announced = FakeServer::http(|_| answer("200 OK", &"a".repeat(MAX_RESPONSE_BYTES + 1))).await;
    let unannounced = FakeServer::http(|_| {
        Some(format!("HTTP/1.1 200 OK\r\n\r\n{}", "a".repeat(MAX_RESPONSE_BYTES + 1)).into())
    })
    .await;
    for server in [announced, unannounced] {
        let refused = client_of(&server).fetch(Request::get(&server.url("/"))).await;
        assert_eq!(refused.unwrap_err(), FetchError::TooLarge);
    }
}

#[tokio::test]
async fn a_silent_server_is_given_up_after_the_total_time() {
    let server = FakeServer::http(|_| None).await;
    let (client, url) = (client_of(&server), server.url("/"));
    let fetch = tokio::spawn(async move { client.fetch(Request::get(&url)).await });
    server.seen(1).await;
    // From here nothing but the clock can make progress.
    tokio::time::pause();
    assert_eq!(fetch.await.unwrap().unwrap_err(), FetchError::Timeout);
}

#[tokio::test]
async fn a_closed_port_is_a_connect_error() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    drop(listener);
    let url = format!("http://{host}/");
    let allow = AllowList::new(&[Allow::get(&url)], &[host]).unwrap();
    let refused =
        Client::new(allow, SystemResolver, Roots::only([])).fetch(Request::get(&url)).await.unwrap_err();
    assert_eq!(refused, FetchError::Connect("connection refused".to_owned()));
}

#[tokio::test]
async fn requests_are_bounded_and_cannot_set_what_belongs_to_the_connection() {
    let url = "https://api.example.org/";
    let client = client_for(&[url], FakeResolver::default());
    let with = |name: &'static str, value: String| {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        Request { headers, ..Request::get(url) }
    };
    let mut many = HeaderMap::new();
    for _ in 0..65 {
        many.append("x-a", HeaderValue::from_static("1"));
    }
    let refused = [
        Request { body: vec![0; MAX_REQUEST_BODY_BYTES + 1].into(), ..Request::get(url) },
        Request { headers: many, ..Request::get(url) },
        with("x-long", "a".repeat(MAX_REQUEST_HEADER_BYTES)),
        with("host", "evil.example".to_owned()),
        with("connection", "keep-alive".to_owned()),
        with("transfer-encoding", "chunked".to_owned()),
        with("content-length", "1".to_owned()),
        with("accept-encoding", "gzip".to_owned()),
    ];
    for request in refused {
        let error = client.fetch(request).await.unwrap_err();
        assert!(matches!(error, FetchError::BadRequest(_)), "{error}");
    }
}

#[tokio::test]
async fn the_url_that_an_operator_wrote_leads_anywhere_under_tls_and_nowhere_else() {
    let server = FakeServer::https(|_| answer("200 OK", "{}")).await;
    let (url, other) = (server.url("/jwks?v=1"), server.url("/jwks?v=2"));
    let list = AllowList::of_operator(&url).unwrap();
    let client = Client::new(list, SystemResolver, Roots::only([server.certificate()]));
    assert_eq!(client.fetch(Request::get(&url)).await.unwrap().status, StatusCode::OK);
    assert_eq!(client.fetch(Request::get(&other)).await.unwrap_err(), FetchError::NotAllowed);
    let post = Request { method: Method::POST, ..Request::get(&url) };
    assert_eq!(client.fetch(post).await.unwrap_err(), FetchError::NotAllowed);
    assert_eq!(server.heads().len(), 1, "what is refused opens no request");
}

#[tokio::test]
async fn without_tls_the_url_of_an_operator_leads_to_this_machine_alone() {
    let server = FakeServer::http(|_| answer("302 Found\r\nlocation: http://127.0.0.1:1/", "")).await;
    let fetch = async |host: &str, resolver: FakeResolver| {
        let url = format!("http://{host}:{}/jwks", server.port());
        let client = Client::new(AllowList::of_operator(&url).unwrap(), resolver, Roots::only([]));
        client.fetch(Request::get(&url)).await.map(|response| response.status)
    };
    let names = |address: &str| FakeResolver::default().name("idp.test", &[&[address]]);
    assert_eq!(
        fetch("127.0.0.1", FakeResolver::default()).await,
        Ok(StatusCode::FOUND),
        "and follows nothing"
    );
    assert_eq!(fetch("idp.test", names("127.0.0.1")).await, Ok(StatusCode::FOUND));
    assert_eq!(fetch("idp.test", names("10.0.0.5")).await, Err(FetchError::PrivateAddress));
    assert_eq!(fetch("10.0.0.5", FakeResolver::default()).await, Err(FetchError::PrivateAddress));
    assert!(AllowList::of_operator("https://user@idp.test/").is_err());
}
