//! An issuer of tokens, and a server that its keys are fetched from.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::LIMIT;

/// Somebody who makes tokens as Supabase does, with a key of ES256 and a secret of HS256.
pub struct TokenIssuer {
    /// What `iss` says.
    pub name: String,
    /// What HS256 is signed with.
    pub secret: String,
    key: EcdsaKeyPair,
    /// The id of the key.
    pub id: String,
}

impl TokenIssuer {
    /// An issuer of that name with a fresh key, which has this id.
    ///
    /// # Panics
    /// When the machine has no randomness.
    pub fn new(name: &str, id: &str) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        let secret = encode(&key.public_key().as_ref()[1..41]);
        Self { name: name.to_owned(), secret, key, id: id.to_owned() }
    }

    /// The public key, as a set of keys has it.
    pub fn jwk(&self) -> Value {
        let point = self.key.public_key().as_ref();
        json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "key_ops": ["verify"], "ext": true,
            "kid": self.id, "x": encode(&point[1..33]), "y": encode(&point[33..]),
        })
    }

    /// The set of keys that it publishes.
    pub fn jwks(&self) -> String {
        json!({"keys": [self.jwk()]}).to_string()
    }

    /// What a session of somebody says, with these changes; what is null is left out.
    ///
    /// # Panics
    /// When the changes are no object.
    pub fn claims(&self, changes: &Value) -> Value {
        let now = now();
        let mut claims = json!({
            "iss": self.name, "sub": "1b0e7a5c-3f4d-4a52-9d0c-6f1f0f2f9a11", "aud": "authenticated",
            "exp": now + 3600, "iat": now, "email": "someone@example.org", "phone": "",
            "app_metadata": {"provider": "email", "providers": ["email"]}, "user_metadata": {"name": "Someone"},
            "role": "authenticated", "aal": "aal1", "amr": [{"method": "password", "timestamp": now}],
            "session_id": "9d5a1b3e-8f0e-4f5c-8a59-0f6c6f1d2b7a", "is_anonymous": false,
        });
        for (name, value) in changes.as_object().expect("changes by name") {
            claims[name] = value.clone();
        }
        claims.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
        claims
    }

    /// A token that its key signs.
    pub fn es256(&self, changes: &Value) -> String {
        self.es256_with(&json!({"kid": self.id, "typ": "JWT"}), &self.claims(changes).to_string())
    }

    /// The same of any header, beside the algorithm, and any text of claims.
    ///
    /// # Panics
    /// When the machine has no randomness.
    pub fn es256_with(&self, header: &Value, claims: &str) -> String {
        let signed = unsigned("ES256", header, claims);
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).expect("a signature");
        format!("{signed}.{}", encode(signature))
    }

    /// A token that its secret signs.
    pub fn hs256(&self, changes: &Value) -> String {
        hs256(self.secret.as_bytes(), &json!({"typ": "JWT"}), &self.claims(changes).to_string())
    }
}

/// A token that any secret signs.
pub fn hs256(secret: &[u8], header: &Value, claims: &str) -> String {
    let signed = unsigned("HS256", header, claims);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
    format!("{signed}.{}", encode(tag))
}

/// A token without its signature.
pub fn unsigned(algorithm: &str, header: &Value, claims: &str) -> String {
    let mut header = header.clone();
    header["alg"] = algorithm.into();
    format!("{}.{}", encode(header.to_string()), encode(claims))
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The time, in seconds since 1970.
///
/// # Panics
/// When it is before that.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs()
}

/// A server on loopback that answers every request in the same way, until it is told another one. It ends when it is dropped.
pub struct KeyServer {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// The status line behind the version, and the body; nothing to end connections without an answer.
    answer: Option<(String, String)>,
    connections: usize,
    stops: bool,
}

impl KeyServer {
    /// A server that answers with this set of keys.
    ///
    /// # Panics
    /// When there is no port.
    pub fn new(keys: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let answer = Some(("200 OK".to_owned(), keys.to_owned()));
        let shared = Arc::new(Mutex::new(Shared { answer, connections: 0, stops: false }));
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || serve(&listener, &of_thread));
        Self { address, shared, thread: Some(thread) }
    }

    /// Where the keys are.
    pub fn url(&self) -> String {
        format!("http://{}/.well-known/jwks.json", self.address)
    }

    /// Answers with this set of keys from now on.
    pub fn publish(&self, keys: &str) {
        self.answer(Some(("200 OK", keys)));
    }

    /// Answers so from now on; ends every connection without an answer if there is none.
    pub fn answer(&self, answer: Option<(&str, &str)>) {
        lock(&self.shared).answer = answer.map(|(status, body)| (status.to_owned(), body.to_owned()));
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        lock(&self.shared).connections
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        lock(&self.shared).stops = true;
        let _wakes_it = TcpStream::connect(self.address).is_ok();
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join().is_err();
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(listener: &TcpListener, shared: &Mutex<Shared>) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let answer = {
            let mut shared = lock(shared);
            if shared.stops {
                return;
            }
            shared.connections += 1;
            shared.answer.clone()
        };
        let Some((status, body)) = answer else { continue };
        let _limited = stream.set_read_timeout(Some(LIMIT)).is_ok();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
            head.extend_from_slice(&byte);
        }
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
        let _gone = stream.write_all(answer.as_bytes()).is_err();
    }
}
