use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

fn route(template: &str, methods: &[Method]) -> Route {
    let counted = observability::Metrics::new(1).route("vrf", template);
    Route { methods: methods.to_vec(), ..Route::new(0, template, "vrf", counted) }
}

/// Where requests lead to; each is written `METHOD HOST PATH`, and perhaps a field.
fn check(routes: Vec<Route>, requests: &[&str], expected: Expect) {
    let own = OwnPage {
        path: "/health",
        scopes: None,
        asks: Asks::Nothing,
        answer: Arc::new(|_| PageAnswer { status: StatusCode::OK, content_type: "text/plain", body: vec![] }),
    };
    let table = RouteTable::new(routes, vec![own]).unwrap();
    let limits = http1::Limits { head_bytes: 1024, fields: 10, target_bytes: 100 };
    let mut shown = String::new();
    for request in requests {
        let words: Vec<&str> = request.splitn(4, ' ').collect();
        let field = words.get(3).map_or(String::new(), |field| format!("{field}\r\n"));
        let text = format!("{} {} HTTP/1.1\r\nhost: {}\r\n{field}\r\n", words[0], words[2], words[1]);
        let mut head = RequestHead::default();
        http1::parse_request(text.as_bytes(), &limits, &mut head).unwrap();
        shown += &match table.find(&head) {
            Ok(Target::Route { route, hash: None }) => format!("{request}: {}\n", route.number),
            Ok(Target::Route { route, hash: Some(hash) }) => {
                format!("{request}: {} with {}\n", route.number, hash == stable_hash(b"BTC-USD"))
            }
            Ok(Target::Own(page)) => format!("{request}: own {}\n", page.path),
            Err(error) => format!("{request}: {error}\n"),
        };
    }
    expected.assert_eq(&shown);
}

#[test]
fn the_most_specific_pattern_wins_then_the_method() {
    check(
        vec![
            route("/v1/random", &[Method::POST]),
            route("/v1/random", &[Method::GET]),
            route("/v1/random/{*rest}", &[]),
            route("/v1/random/keys", &[Method::GET]),
            route("/{*rest}", &[]),
        ],
        &[
            "POST a /v1/random",
            "GET a /v1/random",
            "PUT a /v1/random",
            "GET a /v1/random/keys",
            "GET a /v1/random/keys/x",
            "TRACE a /v1/random/x",
            "GET a /health",
            "POST a /health",
            "GET a /healthy",
        ],
        expect![[r#"
            POST a /v1/random: 0
            GET a /v1/random: 1
            PUT a /v1/random: this path takes GET, POST
            GET a /v1/random/keys: 3
            GET a /v1/random/keys/x: 2
            TRACE a /v1/random/x: this path takes DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT
            GET a /health: own /health
            POST a /health: this path takes GET, HEAD
            GET a /healthy: 4
        "#]],
    );
}

#[test]
fn the_host_comes_before_the_path_and_headers_come_last() {
    let on = |host: HostPattern, route: Route| Route { host: Some(host), ..route };
    let beta = vec![("x-beta".to_owned(), "1".to_owned())];
    check(
        vec![
            route("/{*rest}", &[Method::GET]),
            on(HostPattern::Beneath("example.org".into()), route("/a", &[])),
            on(HostPattern::Beneath("eu.example.org".into()), route("/a", &[])),
            on(HostPattern::Exact("api.example.org".into()), route("/a", &[])),
            on(
                HostPattern::Exact("api.example.org".into()),
                Route { headers: beta.clone(), ..route("/a", &[]) },
            ),
            Route { headers: beta, ..route("/only-beta", &[]) },
        ],
        &[
            "GET api.example.org /a",
            "GET API.example.org:8080 /a X-Beta: 1",
            "GET api.example.org /a x-beta: 2",
            "GET x.example.org /a",
            "GET x.y.eu.example.org /a",
            "GET example.org /a",
            "GET notexample.org /a",
            "GET api.example.org.:80 /a",
            "GET .example.org /a",
            "GET [::1]:80 /a",
            "GET api.example.org /b",
            "GET a /only-beta x-beta: 1",
            "GET a /only-beta",
        ],
        expect![[r#"
            GET api.example.org /a: 3
            GET API.example.org:8080 /a X-Beta: 1: 4
            GET api.example.org /a x-beta: 2: 3
            GET x.example.org /a: 1
            GET x.y.eu.example.org /a: 2
            GET example.org /a: 0
            GET notexample.org /a: 0
            GET api.example.org.:80 /a: 3
            GET .example.org /a: 0
            GET [::1]:80 /a: 0
            GET api.example.org /b: 0
            GET a /only-beta x-beta: 1: 5
            GET a /only-beta: no route matches this path
        "#]],
    );
}

#[test]
fn a_request_that_lacks_a_header_goes_to_no_less_specific_pattern_of_its_host() {
    let beta = vec![("x-beta".to_owned(), "1".to_owned())];
    let host = Some(HostPattern::Exact("api.example.org".into()));
    check(
        vec![
            Route { host: host.clone(), headers: beta.clone(), ..route("/v1/feeds", &[]) },
            Route { host, ..route("/{*rest}", &[]) },
            route("/v1/feeds", &[]),
            route("/{*rest}", &[]),
        ],
        &[
            "GET api.example.org /v1/feeds x-beta: 1",
            "GET api.example.org /v1/feeds",
            "GET api.example.org /v1/other",
            "GET a /v1/feeds",
        ],
        expect![[r#"
            GET api.example.org /v1/feeds x-beta: 1: 0
            GET api.example.org /v1/feeds: 2
            GET api.example.org /v1/other: 1
            GET a /v1/feeds: 2
        "#]],
    );
    check(
        vec![Route { headers: beta, ..route("/v1/feeds", &[]) }, route("/{*rest}", &[])],
        &["GET a /v1/feeds x-beta: 1", "GET a /v1/feeds", "GET a /v1/other"],
        expect![[r#"
            GET a /v1/feeds x-beta: 1: 0
            GET a /v1/feeds: no route matches this path
            GET a /v1/other: 1
        "#]],
    );
}

#[test]
fn a_path_parameter_can_be_what_is_hashed() {
    let hash_on = Some(HashOn::PathParameter("pair".into()));
    check(
        vec![Route { hash_on, ..route("/v1/price/{pair}", &[]) }],
        &["GET a /v1/price/BTC-USD", "GET a /v1/price/ETH-USD"],
        expect![[r#"
            GET a /v1/price/BTC-USD: 0 with true
            GET a /v1/price/ETH-USD: 0 with false
        "#]],
    );
}

#[test]
fn a_path_is_found_by_what_it_means() {
    check(
        vec![
            route("/v1/feeds", &[]),
            route("/caf%C3%A9", &[]),
            Route { hash_on: Some(HashOn::PathParameter("pair".into())), ..route("/v1/price/{pair}", &[]) },
            route("/{*rest}", &[]),
        ],
        &[
            "GET a /v1/%66eeds",
            "GET a /%76%31/feed%73",
            "GET a /v1/feeds/",
            "GET a /caf%c3%a9",
            "GET a /v1/price/%42TC%2dUSD",
            "GET a /%68ealth",
        ],
        expect![[r#"
            GET a /v1/%66eeds: 0
            GET a /%76%31/feed%73: 0
            GET a /v1/feeds/: 3
            GET a /caf%c3%a9: 1
            GET a /v1/price/%42TC%2dUSD: 2 with true
            GET a /%68ealth: own /health
        "#]],
    );
}

fn found(table: &RouteTable, path: &str) -> String {
    let text = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    let limits = http1::Limits { head_bytes: 1024, fields: 10, target_bytes: 200 };
    let mut head = RequestHead::default();
    http1::parse_request(text.as_bytes(), &limits, &mut head).unwrap();
    match table.find(&head) {
        Ok(Target::Route { route, hash }) => format!("{} {hash:?}", route.number),
        Ok(Target::Own(page)) => page.path.to_owned(),
        Err(error) => error.to_string(),
    }
}

proptest! {
    #[test]
    fn no_spelling_of_a_path_leads_elsewhere(
        path in "/(v1|[a~])/(feeds|price)(/[a-c!$&'()*+,:@=~-]{1,4})?",
        escaped in proptest::collection::vec(0..3u8, 40),
    ) {
        let routes = ["/v1/feeds", "/v1/price/{pair}", "/v1/{*rest}", "/{*rest}"];
        let hashed = |template| Route {
            hash_on: Some(HashOn::PathParameter("pair".into())),
            ..route(template, &[])
        };
        let table = RouteTable::new(routes.map(hashed).into(), Vec::new()).unwrap();
        let spelled: String = path.chars().zip(escaped).map(|(letter, how)| match how {
            _ if letter == '/' => letter.to_string(),
            0 => letter.to_string(),
            1 => format!("%{:02x}", u32::from(letter)),
            _ => format!("%{:02X}", u32::from(letter)),
        }).collect();
        prop_assert_eq!(crate::path::ambiguity(spelled.as_bytes()), None);
        prop_assert_eq!(found(&table, &spelled), found(&table, &path), "{}", spelled);
    }
}

#[test]
fn every_other_route_says_by_what_a_request_misses_it_and_the_nearest_paths_are_found() {
    let on = |host: &str, route: Route| Route { host: Some(HostPattern::Exact(host.to_owned())), ..route };
    let wanting = |route: Route| Route { headers: vec![("x-a".to_owned(), "1".to_owned())], ..route };
    let routes = vec![
        route("/v1/random", &[Method::POST]),
        wanting(route("/v1/random", &[Method::POST])),
        route("/v1/random", &[Method::GET]),
        on("b", route("/v1/random", &[])),
        route("/v1/{*rest}", &[]),
        route("/v2", &[]),
    ];
    let table = RouteTable::new(routes, Vec::new()).unwrap();
    let limits = http1::Limits { head_bytes: 1024, fields: 10, target_bytes: 100 };
    let mut head = RequestHead::default();
    http1::parse_request(b"POST /v1/random HTTP/1.1\r\nhost: a\r\n\r\n", &limits, &mut head).unwrap();
    let Ok(Target::Route { route: taken, .. }) = table.find(&head) else { panic!("a route") };
    let misfits = table.misfits(&head, Some(taken));
    let shown: Vec<_> = misfits.iter().map(|(route, why)| format!("{} {why:?}", route.number)).collect();
    expect![[r#"
        4 Behind
        1 Field("x-a", "1")
        2 Method
        3 Host
        5 Path"#]]
    .assert_eq(&shown.join("\n"));
    let nearest =
        |path| table.nearest(path, 2).iter().map(|route| route.template.clone()).collect::<Vec<_>>();
    assert_eq!(nearest("/v1/randm?a=b"), ["/v1/random", "/v1/random"]);
    assert_eq!(nearest("/something/else"), Vec::<String>::new());
}
