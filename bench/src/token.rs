//! A token as an issuer makes it: signed with ES256 (RFC 7518 section 3.4), and the key set that it is checked with.

use anyhow::anyhow;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

pub(crate) const ISSUER: &str = "https://issuer.bench.invalid/auth/v1";
pub(crate) const AUDIENCE: &str = "authenticated";
/// What `role` of the token says.
pub(crate) const ROLE: &str = "authenticated";
/// Longer than any run.
const LIFETIME_SECONDS: i64 = 24 * 3600;

/// A token with the claims that Supabase Auth gives a user, and its issuer's keys.
pub(crate) struct Token {
    pub(crate) token: String,
    /// A JWK Set (RFC 7517).
    pub(crate) keys: String,
}

impl Token {
    /// # Errors
    ///
    /// There is no randomness.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let failed = |_| anyhow!("failed to make a token");
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?;
        let now = jiff::Timestamp::now().as_second();
        let claims = json!({
            "iss": ISSUER,
            "sub": "6f1c2a0e-7d3b-4c55-9b0e-2f4f5c8d9e10",
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + LIFETIME_SECONDS,
            "email": "user@example.org",
            "phone": "",
            "app_metadata": {"provider": "email", "providers": ["email"]},
            "user_metadata": {"email_verified": true},
            "role": ROLE,
            "aal": "aal1",
            "amr": [{"method": "password", "timestamp": now}],
            "session_id": "0b8a2c51-5d34-4e1f-8f0e-6f3c1d2e4a5b",
            "is_anonymous": false,
        });
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed =
            format!("{}.{}", part(json!({"alg": "ES256", "kid": "bench", "typ": "JWT"})), part(claims));
        let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).map_err(failed)?;
        // An uncompressed point: a byte that says so, and both coordinates.
        let point = key.public_key().as_ref();
        let coordinate = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (x, y) = (coordinate(&point[1..33]), coordinate(&point[33..65]));
        let keys = json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "bench", "x": x, "y": y}]});
        Ok(Self {
            token: format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())),
            keys: keys.to_string(),
        })
    }
}
