//! Makes tokens, good ones and others.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaKeyPair,
};
use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::super::{Jwks, VerifyingKey};

pub(super) const ISSUER: &str = "https://project.supabase.co/auth/v1";
pub(super) const AUDIENCE: &str = "authenticated";
/// The moment of all tests, in seconds.
pub(super) const NOW: i64 = 1_790_000_000;

/// An issuer with a key for each algorithm.
pub(super) struct Maker {
    secret: [u8; 40],
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

/// One for tests that try many inputs, as keys of RSA take long to make.
pub(super) fn shared() -> &'static Maker {
    static MAKER: OnceLock<Maker> = OnceLock::new();
    MAKER.get_or_init(Maker::new)
}

pub(super) fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn decode(text: &str) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// As careless readers decode.
pub(super) fn lenient(text: &str) -> Vec<u8> {
    let config = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&base64::alphabet::URL_SAFE, config).decode(text).unwrap()
}

pub(super) fn part(value: &Value) -> String {
    encode(value.to_string())
}

/// The other form of an ECDSA signature (SEC 1 section C.8).
pub(super) fn der(raw: &[u8]) -> Vec<u8> {
    let integer = |bytes: &[u8]| [&[2, 33, 0][..], bytes].concat();
    let both = [integer(&raw[..32]), integer(&raw[32..])].concat();
    [&[0x30, u8::try_from(both.len()).unwrap()][..], &both].concat()
}

impl Maker {
    pub(super) fn new() -> Self {
        let mut secret = [0; 40];
        rand::fill(&mut secret).unwrap();
        Self {
            secret,
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            ed: Ed25519KeyPair::generate().unwrap(),
        }
    }

    pub(super) fn jwk(&self, id: &str) -> Value {
        let point = self.ec.public_key().as_ref();
        let rsa = |algorithm: &str| {
            // RSAPublicKey (RFC 8017 appendix A.1.1): two integers, the first of 257 bytes, the second of three.
            let der = self.rsa.public_key().as_ref();
            let (n, e) = (&der[9..9 + 256], &der[der.len() - 3..]);
            json!({"kty": "RSA", "kid": id, "use": "sig", "alg": algorithm, "n": encode(n), "e": encode(e)})
        };
        match id {
            "rs" => rsa("RS256"),
            "ps" => rsa("PS256"),
            "es" => json!({
                "kty": "EC", "crv": "P-256", "kid": id, "alg": "ES256", "key_ops": ["verify"], "ext": true,
                "x": encode(&point[1..33]), "y": encode(&point[33..]),
            }),
            "ed" => json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": encode(self.ed.public_key())}),
            other => panic!("{other}"),
        }
    }

    pub(super) fn keys(&self) -> Vec<Arc<VerifyingKey>> {
        let keys = ["rs", "ps", "es", "ed"].map(|id| self.jwk(id));
        let set = json!({"keys": keys}).to_string();
        let set = Jwks::read(set.as_bytes()).unwrap();
        assert_eq!((set.keys.len(), set.left_out), (4, 0));
        set.keys.into_iter().chain([Arc::new(VerifyingKey::secret(&self.secret).unwrap())]).collect()
    }

    /// What Supabase says of somebody.
    pub(super) fn claims(&self) -> Value {
        json!({
            "iss": ISSUER, "sub": "1b0e7a5c-3f4d-4a52-9d0c-6f1f0f2f9a11", "aud": AUDIENCE, "exp": NOW + 3600, "iat": NOW,
            "email": "someone@example.org", "phone": "", "app_metadata": {"provider": "email", "providers": ["email"]},
            "user_metadata": {}, "role": "authenticated", "aal": "aal1", "amr": [{"method": "password", "timestamp": NOW}],
            "session_id": "9d5a1b3e-8f0e-4f5c-8a59-0f6c6f1d2b7a", "is_anonymous": false,
        })
    }

    pub(super) fn token(&self, algorithm: &str) -> String {
        let id = match algorithm {
            "RS256" => json!({"kid": "rs", "typ": "JWT"}),
            "PS256" => json!({"kid": "ps", "typ": "JWT"}),
            "ES256" => json!({"kid": "es", "typ": "JWT"}),
            "EdDSA" => json!({"kid": "ed", "typ": "JWT"}),
            _ => json!({"typ": "JWT"}),
        };
        self.signed(algorithm, id, self.claims())
    }

    /// A token of other claims; those that are null are left out.
    pub(super) fn with_claims(&self, algorithm: &str, changes: Value) -> String {
        let mut claims = self.claims();
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        self.signed(algorithm, json!({}), claims)
    }

    pub(super) fn signed(&self, algorithm: &str, mut header: Value, claims: Value) -> String {
        header["alg"] = algorithm.into();
        self.sign(algorithm, &format!("{}.{}", part(&header), part(&claims)))
    }

    pub(super) fn sign(&self, algorithm: &str, signed: &str) -> String {
        let (random, bytes) = (SystemRandom::new(), signed.as_bytes());
        let rsa = |padding| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(padding, &random, bytes, &mut signature).unwrap();
            signature
        };
        let signature = match algorithm {
            "HS256" => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.secret), bytes).as_ref().to_vec(),
            "RS256" => rsa(&RSA_PKCS1_SHA256),
            "PS256" => rsa(&RSA_PSS_SHA256),
            "ES256" => self.ec.sign(&random, bytes).unwrap().as_ref().to_vec(),
            "EdDSA" => self.ed.sign(bytes).as_ref().to_vec(),
            other => panic!("{other}"),
        };
        format!("{signed}.{}", encode(signature))
    }

    /// A token of HS256 whose secret somebody has chosen.
    pub(super) fn hs256_with(&self, secret: &[u8], mut header: Value) -> String {
        header["alg"] = "HS256".into();
        let signed = format!("{}.{}", part(&header), part(&self.claims()));
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
        format!("{signed}.{}", encode(signature))
    }

    /// The public keys in the forms that everybody can get.
    pub(super) fn public_forms(&self) -> Vec<(&'static str, Vec<u8>)> {
        let der = self.rsa.public_key().as_der().unwrap().as_ref().to_vec();
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            BASE64_STANDARD.encode(&der)
        );
        vec![
            ("PEM", pem.into_bytes()),
            ("DER", der),
            ("the JWK", self.jwk("rs").to_string().into_bytes()),
            ("the modulus", decode(self.jwk("rs")["n"].as_str().unwrap())),
            ("the point", self.ec.public_key().as_ref().to_vec()),
            ("the id", b"rs".to_vec()),
            ("nothing", Vec::new()),
        ]
    }
}
