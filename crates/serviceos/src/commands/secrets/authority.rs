//! Before a value is sealed, the authority proves that it is the one of this data directory, runs what it should, and holds the
//! key that is sealed to.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow, bail};
use appraisal::{Checks, Policy, Release, Roots};
use control::{AdminClient, SealKeyAnswer, SealKeyRequest};
use mesh_protocol::{Bytes, Evidence};
use trust::SealKey;
use types::Mode;

use crate::failure::Failure;
use crate::known_authority::KnownAuthority;

/// The key of the authority, once it is proved.
pub(super) async fn verified_key(client: &AdminClient, data_dir: &Path) -> Result<SealKey, Failure> {
    let mut nonce = [0; 32];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| anyhow!("the operating system gave no randomness"))?;
    let request = SealKeyRequest { nonce: Bytes(nonce.to_vec()) };
    let answer: SealKeyAnswer = client.post("/v1/secrets/key", &request).await?;
    let known = KnownAuthority::read(data_dir)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(verify(&answer, &nonce, &known, now)
        .context("the authority is not trusted, and no value was sent to it")?)
}

/// Whether what is answered is what the data directory knows of its authority, and whether evidence proves it.
fn verify(
    answer: &SealKeyAnswer,
    nonce: &[u8; 32],
    known: &KnownAuthority,
    now: u64,
) -> anyhow::Result<SealKey> {
    if (answer.mode, &answer.trust_domain, &answer.root_spki)
        != (known.mode, &known.trust_domain, &known.root_spki)
    {
        bail!("it is the authority of another mesh than the one of this data directory");
    }
    let roots = match (known.mode, &known.evidence_root) {
        (Mode::Production, _) => Roots::Vendors,
        (Mode::Development, Some(root)) => Roots::Development(root.0.clone()),
        (Mode::Development, None) => bail!("the data directory names no root for evidence of development"),
    };
    let workload = known.workload.0.as_slice().try_into();
    let workload = workload.context("the data directory names no measurement of the authority")?;
    let policy = Policy::of_releases(vec![Release::simulated("authority", workload)]);
    let key = answer.key().context("its key has not 32 bytes")?;
    let evidence = Evidence::decode(&answer.evidence.0)?;
    let report_data = key.report_data(nonce);
    appraisal::appraise(&evidence, &report_data, &policy, &roots, now, &mut Checks::default())?;
    Ok(key)
}

#[cfg(test)]
#[cfg(feature = "development")]
mod tests {
    use appraisal::{Code, Fault};
    use dev_quoter::Quoter;

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const W: [u8; 32] = [7; 32];

    fn key() -> SealKey {
        SealKey {
            mode: Mode::Development,
            trust_domain: "test.dev.invalid".into(),
            root_spki: vec![1; 91],
            hpke_public: [2; 32],
        }
    }

    fn known(quoter: &Quoter) -> KnownAuthority {
        KnownAuthority {
            root_spki: Bytes(key().root_spki),
            trust_domain: key().trust_domain,
            mode: Mode::Development,
            evidence_root: Some(Bytes(quoter.root().to_vec())),
            workload: Bytes(W.to_vec()),
        }
    }

    /// What is answered for a key, with evidence for another one perhaps, of what runs with this digest.
    fn answer(quoter: &mut Quoter, key: &SealKey, proved: &SealKey, workload: [u8; 32]) -> SealKeyAnswer {
        let evidence = quoter.evidence(proved.report_data(&[9; 32]), workload, NOW).unwrap();
        SealKeyAnswer {
            mode: key.mode,
            trust_domain: key.trust_domain.clone(),
            root_spki: Bytes(key.root_spki.clone()),
            hpke_public_key: Bytes(key.hpke_public.to_vec()),
            evidence: Bytes(evidence.encode()),
        }
    }

    fn refusal(answer: &SealKeyAnswer, nonce: [u8; 32], known: &KnownAuthority) -> String {
        let error = verify(answer, &nonce, known, NOW).unwrap_err();
        error
            .downcast_ref::<Fault>()
            .map_or_else(|| error.to_string(), |fault| fault.code.as_str().to_owned())
    }

    #[test]
    fn a_key_that_the_evidence_proves_is_taken() {
        let mut quoter = Quoter::generate(NOW).unwrap();
        let answer = answer(&mut quoter, &key(), &key(), W);
        assert_eq!(verify(&answer, &[9; 32], &known(&quoter), NOW).unwrap(), key());
    }

    #[test]
    fn evidence_for_another_key_mesh_or_nonce_of_other_code_or_under_another_root_is_not() {
        let mut quoter = Quoter::generate(NOW).unwrap();
        let known = known(&quoter);
        let of_somebody_else = SealKey { hpke_public: [8; 32], ..key() };
        let swapped = answer(&mut quoter, &of_somebody_else, &key(), W);
        let mismatch = Code::BindingMismatch.as_str();
        assert_eq!(refusal(&swapped, [9; 32], &known), mismatch);
        let honest = answer(&mut quoter, &key(), &key(), W);
        assert_eq!(refusal(&honest, [8; 32], &known), mismatch, "it was recorded");
        for proved in [
            SealKey { mode: Mode::Production, ..key() },
            SealKey { trust_domain: "other.dev.invalid".into(), ..key() },
            SealKey { root_spki: vec![8; 91], ..key() },
        ] {
            let moved = answer(&mut quoter, &key(), &proved, W);
            assert_eq!(refusal(&moved, [9; 32], &known), mismatch);
            let other = answer(&mut quoter, &proved, &proved, W);
            assert!(refusal(&other, [9; 32], &known).contains("another mesh"));
        }
        let replaced = answer(&mut quoter, &key(), &key(), [6; 32]);
        assert_eq!(refusal(&replaced, [9; 32], &known), Code::ReleaseNotAllowed.as_str());
        let mut another_root = Quoter::generate(NOW).unwrap();
        let made = answer(&mut another_root, &key(), &key(), W);
        assert_eq!(refusal(&made, [9; 32], &known), Code::ChainUntrusted.as_str());
    }

    #[test]
    fn development_proves_nothing_to_whoever_knows_the_mesh_as_one_of_production() {
        let mut quoter = Quoter::generate(NOW).unwrap();
        let key = SealKey { mode: Mode::Production, ..key() };
        let known = KnownAuthority { mode: Mode::Production, ..known(&quoter) };
        let answer = answer(&mut quoter, &key, &key, W);
        assert_eq!(refusal(&answer, [9; 32], &known), Code::EvidenceKindForbidden.as_str());
    }
}
