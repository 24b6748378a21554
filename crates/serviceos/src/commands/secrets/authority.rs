//! Before a value is sealed, the authority proves that it is the one of this data directory, runs what it should, and holds the
//! key that is sealed to.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow, bail};
use appraisal::{Checks, Policy, Release, Roots};
use control::{AdminClient, SealKeyAnswer, SealKeyRequest};
use mesh_protocol::{Bytes, Evidence, MeshCoordinates};
use trust::SealKey;
use types::Mode;

use crate::coordinates;
use crate::failure::Failure;

/// The key of the authority, once it is proved.
pub(super) async fn verified_key(client: &AdminClient, data_dir: &Path) -> Result<SealKey, Failure> {
    let mut nonce = [0; 32];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| anyhow!("the operating system gave no randomness"))?;
    let request = SealKeyRequest { nonce: Bytes(nonce.to_vec()) };
    let answer: SealKeyAnswer = client.post("/v1/secrets/key", &request).await?;
    let known = coordinates::read(data_dir)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(verify(&answer, &nonce, &known, now)
        .context("the authority is not trusted, and no value was sent to it")?)
}

/// Whether what is answered is what the data directory knows of its authority, and whether evidence proves it.
fn verify(
    answer: &SealKeyAnswer,
    nonce: &[u8; 32],
    known: &MeshCoordinates,
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
    let workload = known.authority_workload.0.as_slice().try_into();
    let workload = workload.context("the data directory names no measurement of the authority")?;
    let policy = Policy::of_releases(vec![Release::simulated("authority", workload)]);
    let key = answer.key().context("its key has not 32 bytes")?;
    let evidence = Evidence::decode(&answer.evidence.0)?;
    let report_data = key.report_data(nonce);
    appraisal::appraise(&evidence, &report_data, &policy, &roots, now, &mut Checks::default())?;
    Ok(key)
}
