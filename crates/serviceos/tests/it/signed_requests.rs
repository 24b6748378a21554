//! Requests that are signed (RFC 9421): by whom, and what is covered.

mod once;

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use testkit::{
    Answer, Connection, Http2, Mesh, Request, Running, Upstream, checksum, eventually, filler, has_program,
};

use crate::keys::keys;

const GATEWAY: &str = "workers: 2, limits: {bodyBytes: 1MiB}, authentication: {signedRequests: {}}, rateLimits: {failedAuthentication: {rate: 10000/s, burst: 10000}}";
const ROUTES: &str =
    "routes: [{match: {path: '/fixed/1'}, public: true}, {match: {path: '/{*rest}'}, scopes: [site]}]";

pub(crate) fn site(upstream: &Upstream) -> Running {
    Mesh::new().gateway(GATEWAY).endpoints_with("site", &[upstream.address], ROUTES).up()
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// A caller with a key pair, known to the mesh by its public key.
pub(crate) struct Caller {
    id: String,
    pair: Ed25519KeyPair,
    nonces: AtomicU64,
}

/// What is signed of a request, each part to be changed on the way.
#[derive(Clone)]
pub(crate) struct Signed {
    method: String,
    host: String,
    origin: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Caller {
    pub(crate) fn new(mesh: &Running, seed: u8) -> Self {
        Self::with_scope(mesh, seed, "site")
    }

    fn with_scope(mesh: &Running, seed: u8, scope: &str) -> Self {
        Self::in_tier(mesh, seed, scope, "unlimited")
    }

    fn in_tier(mesh: &Running, seed: u8, scope: &str, tier: &str) -> Self {
        let (file, pair) = written(mesh, seed);
        let (scopes, public, tier) =
            (format!("--scopes={scope}"), format!("--public-key={file}"), format!("--tier={tier}"));
        let made = keys(mesh, &["create", "--name=signer", &scopes, &public, &tier]);
        assert!(made.get("key").is_none(), "{made}");
        Self { id: made["id"].as_str().unwrap().to_owned(), pair, nonces: AtomicU64::new(0) }
    }

    /// A request to `localhost` that was created some seconds from now and is good for some.
    fn sign_at(&self, method: &str, origin: &str, body: &[u8], created: i64, good: i64) -> Signed {
        let number = self.nonces.fetch_add(1, Ordering::Relaxed);
        let created = now() + created;
        let mut components =
            vec![("@method", method.to_owned()), ("@target-uri", format!("http://localhost{origin}"))];
        let mut fields = Vec::new();
        if !body.is_empty() {
            let digest = STANDARD.encode(digest::digest(&digest::SHA256, body));
            components.push(("content-digest", format!("sha-256=:{digest}:")));
            fields.push(("content-digest".to_owned(), format!("sha-256=:{digest}:")));
        }
        let names: Vec<_> = components.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let input = format!(
            "({});created={created};expires={};nonce=\"nonce-{number:016}\";keyid=\"{}\";alg=\"ed25519\"",
            names.join(" "),
            created + good,
            self.id
        );
        let mut base: String =
            components.iter().map(|(name, value)| format!("\"{name}\": {value}\n")).collect();
        base += &format!("\"@signature-params\": {input}");
        let signature = STANDARD.encode(self.pair.sign(base.as_bytes()));
        fields.push(("signature-input".into(), format!("sig={input}")));
        fields.push(("signature".into(), format!("sig=:{signature}:")));
        let (method, host, origin) = (method.to_owned(), "localhost".to_owned(), origin.to_owned());
        Signed { method, host, origin, fields, body: body.to_vec() }
    }

    pub(crate) fn sign(&self, method: &str, origin: &str, body: &[u8]) -> Signed {
        self.sign_at(method, origin, body, 0, 60)
    }

    /// A process that has just begun takes nothing that may have been used before it did.
    pub(crate) fn until_taken(&self, mesh: &Running) {
        self.until_taken_for(mesh, "/echo");
    }

    fn until_taken_for(&self, mesh: &Running, path: &str) {
        eventually("a signed request to be taken", || {
            (self.sign("GET", path, b"").send(mesh).status == 200).then_some(())
        });
    }
}

/// A public key in a file of the mesh's folder.
fn written(mesh: &Running, seed: u8) -> (String, Ed25519KeyPair) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let mut der = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00".to_vec();
    der.extend_from_slice(pair.public_key().as_ref());
    let name = format!("signer-{seed}.pem");
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der));
    std::fs::write(mesh.folder().join(&name), pem).unwrap();
    (name, pair)
}

impl Signed {
    pub(crate) fn send(&self, mesh: &Running) -> Answer {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", self.method, self.origin, self.host);
        for (name, value) in &self.fields {
            head += &format!("{name}: {value}\r\n");
        }
        if !self.body.is_empty() {
            head += &format!("content-length: {}\r\n", self.body.len());
        }
        let mut connection = Connection::open(mesh.gateway);
        connection.write(format!("{head}connection: close\r\n\r\n")).unwrap();
        connection.write(&self.body).unwrap();
        connection.answer().unwrap()
    }

    fn send_http2(&self, client: &Http2) -> Answer {
        let fields: Vec<_> =
            self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        client.send(Http2::request(&self.method, &self.origin, &fields), self.body.clone())
    }
}

#[test]
fn a_signed_request_is_answered_once_and_nothing_of_it_can_be_changed() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let caller = Caller::new(&mesh, 1);
    caller.until_taken(&mesh);
    let client = Http2::connect(mesh.gateway);
    let body = filler(200_000);
    for (method, origin, body) in [("GET", "/echo?n=1", &b""[..]), ("POST", "/echo?n=1", &body)] {
        let request = caller.sign(method, origin, body);
        let mut changed: Vec<Signed> = vec![
            Signed { method: "PUT".into(), ..request.clone() },
            Signed { host: "other".into(), ..request.clone() },
            Signed { origin: "/echo?n=2".into(), ..request.clone() },
            Signed { origin: "/echo".into(), ..request.clone() },
            Signed { origin: "/other?n=1".into(), ..request.clone() },
            Signed { body: b"other".into(), ..caller.sign(method, origin, body) },
        ];
        if !body.is_empty() {
            let shorter = body[1..].to_vec();
            changed.push(Signed { body: shorter, ..caller.sign(method, origin, body) });
            changed.push(Signed { body: Vec::new(), ..caller.sign(method, origin, body) });
            let mut undigested = request.clone();
            undigested.fields.remove(0);
            changed.push(undigested);
        }
        let before = upstream.count();
        for changed in changed {
            assert_eq!(changed.send(&mesh).problem(), (401, "AUTH_INVALID".into()), "{}", changed.origin);
            if changed.host == "localhost" {
                let answer = changed.send_http2(&client);
                assert_eq!(answer.problem(), (401, "AUTH_INVALID".into()), "{}", changed.origin);
            }
        }
        assert_eq!(upstream.count(), before, "nothing of a refused request reaches a replica");
        for over_http2 in [false, true] {
            let request = caller.sign(method, origin, body);
            let send = || if over_http2 { request.send_http2(&client) } else { request.send(&mesh) };
            let first = send();
            assert_eq!(first.status, 200, "{}", first.text());
            let seen = upstream.seen().pop().unwrap();
            assert_eq!((seen.body_bytes, seen.checksum), (body.len() as u64, checksum(body)), "{method}");
            assert_eq!(seen.header("x-serviceos-subject"), Some(caller.id.as_str()));
            assert_eq!((seen.header("signature"), seen.header("signature-input")), (None, None));
            assert_eq!(send().problem(), (401, "AUTH_INVALID".into()), "{method} again");
        }
    }
}

/// However a body comes, it is sent on when all of it is here and is what was signed, and as it came.
#[test]
fn a_body_in_chunks_and_one_that_waits_to_be_wanted_are_judged_whole() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let caller = Caller::new(&mesh, 1);
    caller.until_taken(&mesh);
    let body = filler(100_000);
    for is_right in [true, false] {
        let mut request = caller.sign("POST", "/echo", &body);
        let before = upstream.count();
        if !is_right {
            request.body[99_999] ^= 1;
        }
        let fields: String =
            request.fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let mut connection = Connection::open(mesh.gateway);
        let head = "POST /echo HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\ntrailer: x-sum\r\n";
        connection.write(format!("{head}{fields}\r\n")).unwrap();
        assert_eq!(connection.exactly(25).unwrap(), b"HTTP/1.1 100 Continue\r\n\r\n");
        for chunk in request.body.chunks(7_001) {
            connection.write(format!("{:x}\r\n", chunk.len())).unwrap();
            connection.write(chunk).unwrap();
            connection.write("\r\n").unwrap();
        }
        assert_eq!(upstream.count(), before, "before its end nobody knows what it is");
        connection.write("0\r\nx-sum: 1\r\n\r\n").unwrap();
        let answer = connection.answer().unwrap();
        if is_right {
            assert_eq!(answer.status, 200, "{}", answer.text());
            let seen = upstream.seen().pop().unwrap();
            assert_eq!((seen.body_bytes, seen.checksum), (100_000, checksum(&body)));
            assert_eq!(seen.trailers, [("x-sum".to_owned(), "1".to_owned())]);
        } else {
            assert_eq!(answer.problem(), (401, "AUTH_INVALID".into()));
            assert_eq!(upstream.count(), before);
        }
        // The connection goes on in either case.
        let next = caller.sign("GET", "/echo", b"");
        let fields: String = next.fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        connection.write(format!("GET /echo HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n")).unwrap();
        assert_eq!(connection.answer().unwrap().status, 200);
    }
    let large = caller.sign("POST", "/echo", &filler((1 << 20) + 1));
    assert_eq!(large.send(&mesh).problem(), (413, "BODY_TOO_LARGE".into()));
}

#[test]
fn every_refused_credential_has_the_same_answer_and_the_log_says_why() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let caller = Caller::new(&mesh, 1);
    caller.until_taken(&mesh);
    let used = caller.sign("GET", "/echo", b"");
    assert_eq!(used.send(&mesh).status, 200);
    let mut bodies = Vec::new();
    let unsigned = Signed { fields: Vec::new(), ..used.clone() };
    let with = |name: &str, value: &str| Signed { fields: vec![(name.into(), value.into())], ..used.clone() };
    for (request, why) in [
        (used.clone(), "its nonce was used before"),
        (caller.sign_at("GET", "/echo", b"", -61, 60), "its signature has expired"),
        (caller.sign_at("GET", "/echo", b"", 120, 60), "its signature is from the future"),
        (caller.sign_at("GET", "/echo", b"", 0, 301), "its signature is good for longer"),
        (with("signature-input", "sig=("), "a field of its signature is malformed"),
        (with("x-api-key", "sk_test_none"), "it is not an API key"),
    ] {
        let answer = request.send(&mesh);
        assert_eq!(answer.problem(), (401, "AUTH_INVALID".into()), "{why}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer error=\"invalid_token\""));
        let mut body = answer.json();
        let id = body["requestId"].take();
        bodies.push(body);
        eventually(why, || {
            let log = std::fs::read_to_string(mesh.folder().join(".serviceos/logs/access.jsonl"))
                .unwrap_or_default();
            let line = log.lines().find(|line| line.contains(id.as_str().unwrap()))?;
            assert!(line.contains(why), "{line}");
            Some(())
        });
    }
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "{bodies:?}");
    assert_eq!(unsigned.send(&mesh).problem(), (401, "AUTH_REQUIRED".into()));
    // The id of a key that signs is no secret, and no bearer of it is let in.
    let bearer = with("authorization", &format!("Bearer {}", caller.id)).send(&mesh);
    assert_eq!(bearer.problem(), (401, "AUTH_INVALID".into()));
}

#[test]
fn another_credential_goes_before_and_a_signature_for_somebody_else_is_passed_on() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let caller = Caller::new(&mesh, 1);
    let signature = ("signature-input", "sig=(\"@method\");keyid=\"theirs\"");
    for (path, key) in [("/echo", Some(&mesh.key)), ("/fixed/1", None)] {
        let request =
            Request::new("GET", path).header(signature.0, signature.1).header("signature", "sig=:AAAA:");
        let request = if let Some(key) = key { request.key(key) } else { request };
        assert_eq!(request.send(mesh.gateway).status, 200);
        let seen = upstream.seen().pop().unwrap();
        assert_eq!(seen.header("signature-input"), Some(signature.1), "{path}");
        assert_eq!(seen.header("signature"), Some("sig=:AAAA:"), "{path}");
    }
    // A bad key is not saved by a good signature.
    caller.until_taken(&mesh);
    let mut request = caller.sign("GET", "/echo", b"");
    request.fields.push(("x-api-key".into(), "sk_test_none".into()));
    assert_eq!(request.send(&mesh).problem(), (401, "AUTH_INVALID".into()));
    request.fields.pop();
    assert_eq!(request.send(&mesh).status, 200, "and its nonce was not used up");
}

#[test]
fn behind_a_trusted_proxy_the_request_is_what_the_client_has_sent() {
    let upstream = Upstream::new();
    let gateway = format!("{GATEWAY}, trustedProxies: [127.0.0.0/8]");
    let mesh = Mesh::new().gateway(&gateway).endpoints_with("site", &[upstream.address], ROUTES).up();
    let caller = Caller::new(&mesh, 1);
    caller.until_taken(&mesh);
    let forwarded = |scheme: &str, host: &str| {
        let mut request = caller.sign("GET", "/echo?n=1", b"");
        request.host = "inner:8080".into();
        request.fields.push(("x-forwarded-proto".into(), scheme.into()));
        request.fields.push(("x-forwarded-host".into(), host.into()));
        request.send(&mesh).status
    };
    assert_eq!(forwarded("http", "localhost"), 200);
    assert_eq!([forwarded("https", "localhost"), forwarded("http", "other")], [401, 401]);
}

#[test]
fn a_public_key_is_rotated_with_an_overlap_and_revoked_at_once() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let mut caller = Caller::new(&mesh, 1);
    caller.until_taken(&mesh);
    let listed = mesh.run(&["keys", "list"]).out;
    assert!(listed.contains("ed25519 "), "{listed}");
    let (file, new) = written(&mesh, 2);
    assert_eq!(mesh.run(&["keys", "rotate", &caller.id]).code, 1, "there is no secret to be made");
    keys(&mesh, &["rotate", &caller.id, &format!("--public-key={file}")]);
    let old = std::mem::replace(&mut caller.pair, new);
    assert_eq!(caller.sign("GET", "/echo", b"").send(&mesh).status, 200);
    let new = std::mem::replace(&mut caller.pair, old);
    assert_eq!(caller.sign("GET", "/echo", b"").send(&mesh).status, 200, "the old one, for a day");
    assert_eq!(mesh.run(&["keys", "revoke", &caller.id]).code, 0);
    assert_eq!(caller.sign("GET", "/echo", b"").send(&mesh).status, 401);
    caller.pair = new;
    assert_eq!(caller.sign("GET", "/echo", b"").send(&mesh).status, 401);

    std::fs::write(
        mesh.folder().join("private.pem"),
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    )
    .unwrap();
    let wrong = mesh.run(&["keys", "create", "--name=n", "--scopes=site", "--public-key=private.pem"]);
    assert!(wrong.code == 2 && wrong.err.contains("private key"), "{}", wrong.err);
    let none = mesh.run(&["keys", "create", "--name=n", "--scopes=site", "--public-key=none.pem"]);
    assert!(none.code == 2 && none.err.contains("none.pem"), "{}", none.err);
}

/// The clients of others sign as `openssl` does: an independent maker of signatures, with the two other kinds of keys.
#[test]
fn keys_of_p256_and_rsa_sign_as_openssl_makes_them() {
    if !has_program("openssl") {
        return;
    }
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let signer = Caller::new(&mesh, 1);
    signer.until_taken(&mesh);
    let folder = mesh.folder();
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(folder).output().expect("openssl");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let rsa_options =
        ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:64", "-sigopt", "rsa_mgf1_md:sha512"];
    for (name, make, hash, options) in [
        ("p256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"][..], "-sha256", &[][..]),
        ("rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "-sha512", &rsa_options),
    ] {
        let (private, public) = (format!("{name}.key"), format!("{name}.pem"));
        openssl(&[&["genpkey", "-out", &private][..], make].concat());
        openssl(&["pkey", "-in", &private, "-pubout", "-out", &public]);
        let made = keys(&mesh, &["create", "--name=n", "--scopes=site", &format!("--public-key={public}")]);
        let created = now();
        let input = format!(
            "(\"@method\" \"@authority\" \"@path\");created={created};expires={};nonce=\"0123456789abcdef\";keyid={}",
            created + 60,
            made["id"]
        );
        let base = format!(
            "\"@method\": GET\n\"@authority\": localhost\n\"@path\": /echo\n\"@signature-params\": {input}"
        );
        std::fs::write(folder.join("base"), base).unwrap();
        openssl(&[&["dgst", hash, "-sign", &private, "-out", "signature"][..], options, &["base"]].concat());
        let mut signature = std::fs::read(folder.join("signature")).unwrap();
        if name == "p256" {
            signature = fixed(&signature);
        }
        let request = Request::new("GET", "/echo").header("signature-input", &format!("a={input}"));
        let request = request.header("signature", &format!("a=:{}:", STANDARD.encode(signature)));
        let answer = request.send(mesh.gateway);
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    }
}

/// `r` and `s` of a DER signature, 32 bytes each (RFC 9421 section 3.3.4).
fn fixed(der: &[u8]) -> Vec<u8> {
    let number = |at: usize| {
        let length = usize::from(der[at + 1]);
        let value = &der[at + 2..at + 2 + length];
        let value = &value[value.iter().position(|byte| *byte != 0).unwrap()..];
        ([&vec![0; 32 - value.len()][..], value].concat(), at + 2 + length)
    };
    let (r, next) = number(2);
    [r, number(next).0].concat()
}
