//! The gateway's word for who calls.

use mesh_protocol::{CALLER_TOKEN_SECONDS, CallerClaims, caller_token};

use crate::Signer;

/// Signs who calls, with the key of a gateway's certificate.
#[derive(Clone)]
pub struct CallerSigner {
    signer: Signer,
    /// The gateway, by its SPIFFE ID.
    issuer: String,
}

/// One call, and who makes it.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Who calls: the id of an API key, the subject of a token, or the name in a certificate.
    pub subject: &'a str,
    /// Whom the caller acts for.
    pub tenant: &'a str,
    /// The scopes, separated by spaces.
    pub scopes: &'a str,
    /// The service that is called.
    pub service: &'a str,
    /// The id of the request.
    pub request_id: &'a str,
    /// Unix seconds.
    pub now: u64,
}

impl CallerSigner {
    /// One for a gateway with this key.
    pub fn new(signer: Signer, issuer: String) -> Self {
        Self { signer, issuer }
    }

    /// A token for one call; `None` where the operating system gives no randomness.
    pub fn token(&self, call: Call<'_>) -> Option<String> {
        let claims = CallerClaims {
            iss: self.issuer.clone(),
            sub: call.subject.to_owned(),
            tenant: call.tenant.to_owned(),
            scope: call.scopes.to_owned(),
            aud: call.service.to_owned(),
            jti: call.request_id.to_owned(),
            iat: call.now,
            exp: call.now + CALLER_TOKEN_SECONDS,
        };
        let signed = claims.to_be_signed(self.signer.spki());
        let signature = self.signer.sign(signed.as_bytes()).ok()?;
        Some(caller_token(&signed, &signature))
    }
}

impl std::fmt::Debug for CallerSigner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "CallerSigner of {}", self.issuer)
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

    use super::*;

    fn signer() -> Signer {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Signer::new(pair.to_pkcs8v1().unwrap().as_ref()).unwrap()
    }

    #[test]
    fn a_token_is_good_for_one_service_and_30_seconds_under_the_gateways_key() {
        let (own, other) = (signer(), signer());
        let gateway = CallerSigner::new(own.clone(), "spiffe://test.dev.invalid/gateway/n1".into());
        let call = Call {
            subject: "key_1",
            tenant: "acme",
            scopes: "a b",
            service: "infer",
            request_id: "r-1",
            now: 1_000,
        };
        let token = gateway.token(call).unwrap();
        let verify = |token: &str, signer: &Signer, audience, now| {
            CallerClaims::verify(token, signer.spki(), audience, now)
        };
        let claims = verify(&token, &own, "infer", 1_030).unwrap();
        assert_eq!(
            (claims.sub.as_str(), claims.tenant.as_str(), claims.scope.as_str()),
            ("key_1", "acme", "a b")
        );
        assert_eq!(verify(&token, &own, "infer", 1_031), None);
        assert_eq!(verify(&token, &own, "vrf", 1_000), None);
        assert_eq!(verify(&token, &other, "infer", 1_000), None);
        for place in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            // The last character of an unpadded part may have bits that mean nothing; such a spelling is refused or the same.
            let read = verify(&changed, &own, "infer", 1_000);
            assert!(read.is_none() || read.as_ref() == Some(&claims), "byte {place}");
        }
    }
}
