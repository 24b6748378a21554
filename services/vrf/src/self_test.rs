//! The known-answer test that a replica passes before it serves: a broken build or processor must not hand out proofs.

use thiserror::Error;

use crate::ecvrf::{BETA_BYTES, PROOF_BYTES, SecretKey};
use crate::hex;
use crate::keys::Keys;

/// RFC 9381, Appendix B.3, Example 16; its alpha is empty.
const SECRET: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
const ALPHA: &[u8] = b"";
const PROOF: &str = "8657106690b5526245a92b003bb079ccd1a92130477671f6fc01ad16f26f723f26f8a57ccaed74ee1b190bed1f479d97\
                     27d2d0f9b005a6e456a35d4fb0daab1268a1b0db10836d9826a528ca76567805";
const BETA: &str = "90cf1df3b703cce59e2a35b925d411164068269d7b2d29f3301c03dd757876ff66b71dda49d2de59d03450451af026798e\
                    8f81cd2e333de5cdf4f3e140fdd8ae";

/// What does not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum SelfTestError {
    /// The proof or the output is not that of the RFC.
    #[error(
        "the self-test failed: Example 16 of RFC 9381 does not come out; do not trust this build on this machine"
    )]
    KnownAnswer,
    /// The RFC's proof is refused, or a spoilt one is accepted.
    #[error(
        "the self-test failed: Example 16 of RFC 9381 is not verified; do not trust this build on this machine"
    )]
    Verification,
    /// The key in use does not verify its own proof.
    #[error("the self-test failed: the current vrf-key does not verify its own proof")]
    Key,
}

/// Proves and verifies the RFC's example, then makes and verifies a proof with the key in use.
pub(crate) fn run(keys: &Keys) -> Result<(), SelfTestError> {
    let secret: [u8; 32] = constant(SECRET);
    let proof: [u8; PROOF_BYTES] = constant(PROOF);
    let beta: [u8; BETA_BYTES] = constant(BETA);
    let example = SecretKey::from_seed(&secret);
    let output = example.prove(ALPHA);
    if output.proof != proof || output.beta != beta {
        return Err(SelfTestError::KnownAnswer);
    }
    let mut spoilt = proof;
    spoilt[PROOF_BYTES - 1] ^= 1;
    if example.public().verify(ALPHA, &proof) != Ok(beta) || example.public().verify(ALPHA, &spoilt).is_ok() {
        return Err(SelfTestError::Verification);
    }
    let output = keys.proving.prove(ALPHA);
    let verified = keys.current().public.verify(ALPHA, &output.proof);
    if verified == Ok(output.beta) { Ok(()) } else { Err(SelfTestError::Key) }
}

fn constant<const N: usize>(text: &str) -> [u8; N] {
    hex::decode(text)
        .and_then(|bytes| bytes.try_into().ok())
        .expect("the constants of this file have their lengths")
}
