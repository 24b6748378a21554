//! Certificates of clients as credentials, over HTTP/1.1 and HTTP/2, in full handshakes and in sessions that go on.

use testkit::{
    Authority, Certificate, Connection, Holder, Http2, Mesh, Running, Tls, TlsSide, TlsVersion, Upstream,
    eventually,
};

const HTTP1: &[&str] = &["http/1.1"];
const ROUTES: &str = "routes: [{match: {path: '/site/{*rest}'}, stripPrefix: true, scopes: [site]}]";
const RULES: &str = "clientCertificates: {tenant: partner, scopes: {\
     \"spiffe://partner/*\": [], \"spiffe://partner/feeds\": [site], \"spiffe://partner/team/*\": [site], \"CN=feeds,O=Partner\": [site]}}";

struct Lab {
    servers: Authority,
    clients: Authority,
    upstream: Upstream,
}

impl Lab {
    fn new() -> Self {
        Self {
            servers: Authority::new("servers"),
            clients: Authority::new("clients"),
            upstream: Upstream::new(),
        }
    }

    fn file(&self, rules: &str) -> String {
        let tls = "tls: {certificates: [{certificate: own.pem, key: own.key}], clientCa: clients.pem}";
        let patient = "rateLimits: {failedAuthentication: {rate: 1000000/s, burst: 1000000}}";
        let site = format!(
            "site: {{endpoints: [\"http://{}\"], attestation: none, {ROUTES}}}",
            self.upstream.address
        );
        format!("gateway: {{{tls}, {patient}, authentication: {{{rules}}}}}\nservices:\n    {site}\n")
    }

    fn up(&self, rules: &str) -> Running {
        let mesh = Mesh::new();
        self.servers.certificate(&["a.test"]).write(mesh.folder(), "own");
        self.clients.write(mesh.folder(), "clients.pem");
        mesh.write(&self.file(rules));
        mesh.up()
    }

    fn spiffe(&self, id: &str) -> Certificate {
        self.clients.certificate_of(&Holder { uris: &[id], ..Holder::default() })
    }

    fn connect(&self, mesh: &Running, own: &Certificate) -> Connection<TlsSide> {
        self.servers.clients_with(HTTP1, own).connect(mesh.gateway, "a.test").unwrap()
    }
}

fn ask(client: &mut Connection<TlsSide>, fields: &str) -> testkit::Answer {
    client.write(format!("GET /site/echo HTTP/1.1\r\nhost: a.test\r\n{fields}\r\n")).unwrap();
    client.answer().unwrap()
}

#[test]
fn the_holder_of_a_certificate_is_a_caller_if_the_file_names_it() {
    let lab = Lab::new();
    let mesh = lab.up(RULES);
    let told = |own: &Certificate| {
        let answer = ask(&mut lab.connect(&mesh, own), "");
        if answer.status == 200 { "200".to_owned() } else { answer.problem().1 }
    };
    let of = |uris: &[&str], subject: &[(&str, &str)]| {
        told(&lab.clients.certificate_of(&Holder { uris, subject }))
    };
    let partner = [("O", "Partner"), ("CN", "feeds")];
    assert_eq!(of(&["spiffe://partner/feeds"], &[]), "200");
    assert_eq!(of(&["spiffe://partner/team/a"], &[]), "200");
    assert_eq!(of(&["spiffe://partner/other"], &[]), "SCOPE_MISSING", "the wildcard grants nothing");
    assert_eq!(of(&["spiffe://partner"], &[]), "AUTH_INVALID");
    assert_eq!(of(&["spiffe://partner.evil/feeds"], &[]), "AUTH_INVALID");
    assert_eq!(
        of(&["spiffe://partner/feeds", "spiffe://partner/team/a"], &[]),
        "AUTH_INVALID",
        "two IDs are none"
    );
    assert_eq!(of(&[], &partner), "200");
    assert_eq!(of(&["spiffe://partner/other"], &partner), "SCOPE_MISSING", "the ID comes before the subject");
    assert_eq!(of(&[], &[("CN", "feeds")]), "AUTH_INVALID");
    let seen = lab.upstream.seen();
    let told = |place: usize| {
        ["subject", "tenant", "scopes"].map(|name| seen[place].header(&format!("x-serviceos-{name}")))
    };
    assert_eq!(told(0), [Some("spiffe://partner/feeds"), Some("partner"), Some("site")]);
    assert_eq!(told(2), [Some("CN=feeds,O=Partner"), Some("partner"), Some("site")]);
}

#[test]
fn a_certificate_counts_where_there_is_no_other_credential_and_never_instead_of_a_bad_one() {
    let lab = Lab::new();
    let mesh = lab.up(RULES);
    let feeds = lab.spiffe("spiffe://partner/feeds");
    let mut client = lab.connect(&mesh, &feeds);
    assert_eq!(ask(&mut client, "").status, 200);
    for bad in [
        "authorization: Bearer nobody",
        "x-api-key: sk_test_no",
        "apikey: sk_test_no",
        "authorization: Basic YTpi",
    ] {
        assert_eq!(ask(&mut client, &format!("{bad}\r\n")).problem(), (401, "AUTH_INVALID".into()), "{bad}");
    }
    assert_eq!(ask(&mut client, &format!("x-api-key: {}\r\n", mesh.key)).status, 200);
    let subjects: Vec<_> = lab
        .upstream
        .seen()
        .iter()
        .map(|seen| seen.header("x-serviceos-subject").unwrap().to_owned())
        .collect();
    assert_eq!(subjects, ["spiffe://partner/feeds", "key_development"]);
    let mut nobody = lab.servers.clients(HTTP1).connect(mesh.gateway, "a.test").unwrap();
    assert_eq!(ask(&mut nobody, "").problem(), (401, "AUTH_REQUIRED".into()));
    let http2 = Http2::connect_tls(mesh.gateway, &lab.servers.clients_with(&["h2"], &feeds), "a.test");
    for _ in 0..2 {
        assert_eq!(http2.send(Http2::request("GET", "/site/echo", &[]), Vec::new()).status, 200);
    }
    let stranger = Http2::connect_tls(
        mesh.gateway,
        &lab.servers.clients_with(&["h2"], &lab.spiffe("spiffe://x/y")),
        "a.test",
    );
    let answer = stranger.send(Http2::request("GET", "/site/echo", &[]), Vec::new());
    assert_eq!(answer.problem(), (401, "AUTH_INVALID".into()));
}

#[test]
fn a_signature_of_somebody_else_keeps_no_certificate_from_counting_and_one_for_us_does() {
    let lab = Lab::new();
    let mesh = lab.up(&format!("signedRequests: , {RULES}"));
    let mut client = lab.connect(&mesh, &lab.spiffe("spiffe://partner/feeds"));
    let theirs = "signature-input: sig=(\"@method\");created=1;keyid=\"cdn\"\r\nsignature: sig=:AAAA:\r\n";
    assert_eq!(ask(&mut client, theirs).status, 200);
    let seen = lab.upstream.seen().pop().unwrap();
    assert_eq!(seen.header("x-serviceos-subject"), Some("spiffe://partner/feeds"));
    assert_eq!(seen.header("signature"), Some("sig=:AAAA:"), "it is the replica's to look at");
    for ours in [";keyid=\"key_1\"", ";keyid=\"cdn\";tag=\"serviceos\"", ";keyid=\"key"] {
        let fields = format!("signature-input: sig=(\"@method\"){ours}\r\nsignature: sig=:AAAA:\r\n");
        assert_eq!(ask(&mut client, &fields).problem(), (401, "AUTH_INVALID".into()), "{ours}");
    }
    let mut nobody = lab.servers.clients(HTTP1).connect(mesh.gateway, "a.test").unwrap();
    assert_eq!(ask(&mut nobody, theirs).problem(), (401, "AUTH_REQUIRED".into()));
}

/// Connects until a session goes on, as the first connections have none to go on with.
fn resumed(tls: &Tls, mesh: &Running) -> Connection<TlsSide> {
    eventually("a session that goes on", || {
        let mut client = tls.connect(mesh.gateway, "a.test").unwrap();
        // The ticket comes with the first answer at the latest.
        ask(&mut client, "");
        let mut client = tls.connect(mesh.gateway, "a.test").unwrap();
        client.is_resumed().then_some(client)
    })
}

#[test]
fn the_certificate_of_a_session_that_goes_on_counts_only_as_long_as_it_is_trusted() {
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let lab = Lab::new();
        let mesh = lab.up(RULES);
        let tls = lab.servers.clients_of_version_with(HTTP1, version, &lab.spiffe("spiffe://partner/feeds"));
        let mut client = resumed(&tls, &mesh);
        assert_eq!(ask(&mut client, "").status, 200, "{version:?}");
        // The authority is another now: neither the open connection nor a session has what it vouched for.
        let others = Authority::new("others");
        others.write(mesh.folder(), "new.pem");
        std::fs::rename(mesh.folder().join("new.pem"), mesh.folder().join("clients.pem")).unwrap();
        eventually("the certificate to be trusted no more", || {
            (ask(&mut client, "").status == 401).then_some(())
        });
        let mut again = tls.connect(mesh.gateway, "a.test").unwrap();
        assert!(again.is_resumed(), "{version:?}");
        assert_eq!(ask(&mut again, "").problem(), (401, "AUTH_INVALID".into()), "{version:?}");
    }
}

#[test]
fn what_the_file_says_of_certificates_changes_while_connections_are_open() {
    let lab = Lab::new();
    let mesh = lab.up(RULES);
    let mut client = lab.connect(&mesh, &lab.spiffe("spiffe://partner/feeds"));
    assert_eq!(ask(&mut client, "").status, 200);
    let change = |rules: &str| {
        std::fs::write(mesh.folder().join("new.yaml"), lab.file(rules)).unwrap();
        std::fs::rename(mesh.folder().join("new.yaml"), mesh.folder().join("serviceos.yaml")).unwrap();
    };
    change("clientCertificates: {scopes: {\"spiffe://partner/*\": []}}");
    eventually("the scope to be gone", || (ask(&mut client, "").status == 403).then_some(()));
    change("apiKeys: false");
    eventually("certificates to be none", || {
        (ask(&mut client, "").problem().1 == "AUTH_REQUIRED").then_some(())
    });
    let key = format!("x-api-key: {}\r\n", mesh.key);
    assert_eq!(ask(&mut client, &key).problem(), (401, "AUTH_INVALID".into()), "nor are API keys taken");
    change(RULES);
    eventually("all of it again", || (ask(&mut client, "").status == 200).then_some(()));
}
