//! The second half of a join: evidence, appraisal, identity and secrets.

mod steps;

use std::sync::Arc;

use appraisal::{Appraised, Checks, Code, Fault, Step};
use mesh_protocol::tls::Peer;
use mesh_protocol::{
    Bytes, Evidence, JoinAnswer, JoinBinding, JoinClaims, JoinRequest, Release, SealedSecret, SpiffeId,
    hpke_info, sha256, to_hex,
};
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256;
use rustls::crypto::hpke::{Hpke, HpkePublicKey};
use rustls::pki_types::CertificateDer;
use serde_json::json;
use store::{Outcome as Committed, Transaction};
use types::ServiceName;

use self::steps::{is_expected, read, steps};
use super::opening::{USED, watermark};
use super::overview::appraisals;
use super::undecided::Undecided;
use super::{Authority, ServicePolicy, admissions, evaluations, unavailable};
use crate::audit::{Entry, Outcome};
use crate::ca::{IssuingCa, LeafFacts, LeafRequest, SubjectKey, digest, requested_key};
use crate::nonces::{NonceContext, Used, check_ticket_age, expiry};
use crate::records::{Recorded, SignedRecord};
use crate::standing::LONGEST_DRAIN;
use crate::{Admission, Standing, TrustError, revocations};

/// Records of appraisals that are kept for each replica.
const MAX_RECORDS: usize = 8;

/// The connection that somebody joins over.
#[derive(Debug, Clone)]
pub struct Channel<'a> {
    /// What only its two ends know.
    pub binding: [u8; 32],
    /// The key that the authority showed, as DER SubjectPublicKeyInfo.
    pub authority_spki: &'a [u8],
    /// Who has shown a certificate of the mesh.
    pub peer: Option<Peer>,
}

/// A join of which all is read and nothing believed.
struct Join {
    evidence: Evidence,
    claims: JoinClaims,
    csr_key: Option<Vec<u8>>,
    hpke_public: [u8; 32],
    receipt_spki: Vec<u8>,
    report_data: [u8; 64],
    /// What it would be in the transition before.
    before: Option<[u8; 64]>,
    previous: Option<[u8; 32]>,
}

/// A join that came with a nonce of this authority: from here on, whatever it ends with is recorded.
struct Begun {
    join: Join,
    service: ServiceName,
    policy: Arc<ServicePolicy>,
    /// The label of the version that it is of.
    version: String,
    ca: Arc<IssuingCa>,
    id: SpiffeId,
    /// The digest of the configuration that its evidence must be bound to.
    config: [u8; 32],
    /// What must not be used again, with its expiry: the nonce, then the ticket where there is one.
    marks: Vec<([u8; 32], u64)>,
    now_ms: u64,
    checks: Checks,
}

impl Authority {
    /// Appraises evidence, and issues an identity for what it proves.
    ///
    /// # Errors
    /// The first step that fails; [`Fault::is_retryable`] says whether another try is worth it.
    pub async fn join(&self, channel: &Channel<'_>, request: &JoinRequest) -> Result<JoinAnswer, Fault> {
        let begun = self.begin(channel, request).inspect_err(|fault| self.count_refusal(fault))?;
        let marks = begun.marks.clone();
        let (service, instance) = (begun.service.clone(), begun.join.claims.instance.clone());
        let decided = self.decide(channel, begun).await;
        if let Err(fault) = &decided {
            let (code, detail) = (fault.code, &fault.detail);
            // What follows from it is said, louder, by whoever started the replica.
            tracing::info!(%code, detail, %service, instance, "a join was refused");
        }
        if let Err(fault) = &decided
            && fault.is_retryable()
        {
            self.count_refusal(fault);
            // Whoever is told to try again must be able to, and needs its ticket for that.
            let mut state = self.state();
            marks.iter().skip(1).for_each(|(ticket, expiry)| state.used.give_back(ticket, *expiry));
        }
        decided
    }

    async fn decide(&self, channel: &Channel<'_>, begun: Begun) -> Result<JoinAnswer, Fault> {
        let quota = if channel.peer.is_some() { &self.0.renewals } else { &self.0.first_joins };
        let undecided = Undecided::of(self, &begun.marks[1..]);
        let _turn = quota.turn().await?;
        let (mut begun, appraised) = self.appraise(begun).await?;
        undecided.decided();
        match appraised {
            Ok(appraised) => self.admit(begun, appraised).await,
            Err(fault) if fault.is_retryable() => Err(fault),
            Err(fault) => {
                self.refuse(&mut begun, &fault).await?;
                Err(fault)
            }
        }
    }

    /// Size, kind and nonce: what can be refused without work, and without a word about it anywhere.
    fn begin(&self, channel: &Channel<'_>, request: &JoinRequest) -> Result<Begun, Fault> {
        let mut checks = Checks::default();
        let (evidence, claims, hpke_public) = checks.add(Step::Size, read(request))?;
        checks.add(Step::Kind, self.0.roots.of(evidence.kind).map(|_root| ()))?;
        let now_ms = self.0.clock.checked()?;
        let marks = checks.add(Step::Nonce, self.consume(channel, &claims, now_ms))?;
        if let Some(peer) = &channel.peer {
            self.is_in_force(peer, now_ms)?;
        }
        let unexpected = || {
            let name = format!("{}/{}", claims.service, claims.instance);
            Fault::new(Code::ReplicaNotExpected, format!("the manifest has no {name}"))
        };
        let (service, policy) = self.service(&claims.service).ok_or_else(unexpected)?;
        let id = SpiffeId::of_replica(&self.0.domain.trust_domain, &service, &claims.instance);
        let whose = (service.clone(), claims.instance.clone());
        let kept = channel.peer.as_ref().and_then(|_| self.kept_config(&whose, claims.config_digest));
        let (ca, config, before, behind, version) = {
            let state = self.state();
            let config = state.config_of(&whose, &policy, kept);
            let before = state.before.as_ref().map(|before| {
                let policy = before.services.get(&service).unwrap_or(&policy);
                (before.transition, state.config_of(&whose, policy, kept))
            });
            let version = state.versions.get(&whose).unwrap_or(&policy.version).clone();
            (Arc::clone(&state.ca), config, before, state.behind, version)
        };
        if let Some(behind) = behind {
            // Its ticket is as good as before.
            drop(Undecided::of(self, &marks[1..]));
            return Err(behind_the_mesh(behind.n));
        }
        let binding = JoinBinding {
            authority_nonce: claims.authority_nonce,
            replica_nonce: claims.replica_nonce,
            kind: evidence.kind,
            identity_spki: &claims.identity_spki,
            hpke_public,
            receipt_spki: &request.receipt_spki.0,
            service: &claims.service,
            // What the service is to be here, not what the replica says.
            version: &version,
            instance: &claims.instance,
            trust_domain: &self.0.domain.trust_domain,
            authority_spki: channel.authority_spki,
            root_spki: self.root_spki(),
            transition: ca.transition,
            mode: self.0.domain.mode,
            workload: claims.workload,
            config_digest: config,
            previous_leaf: channel.peer.as_ref().map(|peer| peer.leaf),
        };
        let report_data = binding.report_data();
        let before = before.map(|(transition, config_digest)| {
            JoinBinding { transition, config_digest, ..binding }.report_data()
        });
        let join = Join {
            csr_key: requested_key(&request.csr.0),
            receipt_spki: request.receipt_spki.0.clone(),
            previous: channel.peer.as_ref().map(|peer| peer.leaf),
            evidence,
            claims,
            hpke_public,
            report_data,
            before,
        };
        Ok(Begun { join, service, policy, version, ca, id, config, marks, now_ms, checks })
    }

    /// The ticket and the nonce are used up by this, whatever is decided then. That a ticket is too old or was used is said last:
    /// it is no younger than the nonce, and used by whoever uses the nonce.
    fn consume(
        &self,
        channel: &Channel<'_>,
        claims: &JoinClaims,
        now_ms: u64,
    ) -> Result<Vec<([u8; 32], u64)>, Fault> {
        self.may_try(channel, &claims.ticket, &claims.service, &claims.instance)?;
        let context = NonceContext {
            channel: &channel.binding,
            replica_nonce: &claims.replica_nonce,
            service: &claims.service,
            instance: &claims.instance,
        };
        self.0.minter.check_nonce(&claims.authority_nonce, now_ms, context)?;
        let whose = format!("{}/{}", claims.service, claims.instance);
        let nonce = (Used::mark(&claims.authority_nonce), expiry(&claims.authority_nonce));
        let ticket = (Used::mark(&claims.ticket), expiry(&claims.ticket));
        let used = &mut self.state().used;
        if channel.peer.is_some() {
            used.add(nonce, &whose, now_ms, Code::NonceReplayed)?;
            return Ok(vec![nonce]);
        }
        if !used.contains(&nonce.0) {
            check_ticket_age(&claims.ticket, now_ms)?;
            // Nothing is remembered of what one who has a used ticket tries.
            if used.contains(&ticket.0) {
                return Err(Fault::new(Code::TicketInvalid, "the launch ticket was used before"));
            }
        }
        used.add(nonce, &whose, now_ms, Code::NonceReplayed)?;
        used.add(ticket, &whose, now_ms, Code::TicketInvalid)?;
        Ok(vec![nonce, ticket])
    }

    /// The steps that cost something, on a thread that may take its time. Gives the checks back in either case.
    async fn appraise(&self, mut begun: Begun) -> Result<(Begun, Result<Appraised, Fault>), Fault> {
        let kind = begun.join.evidence.kind;
        let root = self.0.roots.of(kind)?.to_vec();
        let seen = self.0.evaluations.seen(kind).await;
        let (list, node) = (Arc::clone(&self.0.revocations.borrow()), self.0.node.clone());
        let key = (begun.service.clone(), begun.join.claims.instance.clone());
        let is_asked_for = self.0.standings.borrow().contains_key(&key);
        let work = tokio::task::spawn_blocking(move || {
            let outcome = steps(&mut begun, &root).and_then(|appraised| {
                let leaf = begun.join.previous;
                let allowed = revocations::allow(&list.revocations, &begun.id, leaf, &appraised);
                begun.checks.add(Step::Release, allowed)?;
                let expected = is_expected(&begun, node.as_ref(), is_asked_for);
                begun.checks.add(Step::Budget, expected)?;
                // Last, so that whoever may try again has nothing else against it.
                let current = evaluations::is_current(&appraised, seen, begun.join.previous.as_ref());
                begun.checks.add(Step::Evaluation, current)?;
                Ok(appraised)
            });
            (begun, outcome)
        });
        work.await.map_err(|_| unavailable(TrustError::Failed))
    }

    async fn admit(&self, begun: Begun, appraised: Appraised) -> Result<JoinAnswer, Fault> {
        let now = begun.now_ms / 1000;
        let ttl = begun.policy.policy.identity_ttl.as_secs();
        let not_after = (now + ttl).min(appraised.expires);
        let record = self.record(&begun, not_after).map_err(unavailable)?;
        let leaf = self.leaf(&begun, &record, not_after).map_err(unavailable)?;
        let leaf_digest = digest(&leaf);
        let (secrets, set_signature) = self.release(&begun, leaf_digest).await.map_err(unavailable)?;
        let released: Vec<_> = secrets
            .iter()
            .map(|secret| json!({"name": secret.name, "version": secret.version, "epoch": secret.epoch}))
            .collect();
        let mut data = json!({
            "leaf": to_hex(&leaf_digest),
            "record": record.record.id,
            "release": appraised.release,
            "measurement": appraised.measurement,
            "notAfter": not_after,
            "secrets": released,
        });
        if begun.config != begun.policy.config_digest {
            data["configKept"] = json!(to_hex(&begun.config));
        }
        let known = self.admission(begun.service.as_str(), &begun.join.claims.instance);
        let previous_until = known.map(|admission| admission.not_after);
        let admission = Arc::new(Admission {
            id: begun.id.clone(),
            leaf: leaf_digest,
            renewed: begun.join.previous.map(|previous| (previous, previous_until.unwrap_or(not_after))),
            appraised,
            record: record.record.id.clone(),
            appraised_at: now,
            config: begun.config,
            n: begun.ca.n,
            not_after,
            drains_at: not_after - (not_after.saturating_sub(now) / 5).min(LONGEST_DRAIN),
        });
        // Before the admission is kept: none may be known of which the vendor's word is not.
        self.remember_evaluation(&begun.id, &admission.appraised).await.map_err(unavailable)?;
        self.write(&begun, &record, Some(&admission), None, data).await?;
        self.stand_admitted(&begun, &admission)?;
        let chain = begun.ca.chain.iter().map(|certificate| Bytes(certificate.to_vec())).collect();
        Ok(JoinAnswer { leaf: Bytes(leaf.to_vec()), chain, secrets, set_signature: Bytes(set_signature) })
    }

    /// Publishes an admission, unless what it rests on was revoked since it was appraised. Whoever revokes publishes the list
    /// first and then looks at every standing, so one of the two sees the other; the same goes for another transition.
    fn stand_admitted(&self, begun: &Begun, admission: &Arc<Admission>) -> Result<(), Fault> {
        let mut allowed = Ok(());
        self.stand(&begun.service, &begun.join.claims.instance, |_| {
            let list = Arc::clone(&self.0.revocations.borrow());
            let leaf = begun.join.previous;
            allowed = revocations::allow(&list.revocations, &begun.id, leaf, &admission.appraised);
            Some(match &allowed {
                Ok(()) => {
                    let state = self.state();
                    let admission = admission.in_transition(state.ca.n, state.in_force_since);
                    Standing::Valid(match state.behind {
                        Some(behind) => admission.in_transition(behind.n, behind.since),
                        None => admission,
                    })
                }
                Err(fault) => Standing::Refused { fault: fault.clone(), since: admission.appraised_at },
            })
        });
        allowed
    }

    async fn refuse(&self, begun: &mut Begun, fault: &Fault) -> Result<(), Fault> {
        let now = begun.now_ms / 1000;
        let record = self.record(begun, now).map_err(unavailable)?;
        let data = json!({"record": record.record.id, "detail": fault.detail});
        self.write(begun, &record, None, Some(fault.code.as_str()), data).await?;
        let instance = &begun.join.claims.instance;
        self.stand(&begun.service, instance, |_| {
            Some(Standing::Refused { fault: fault.clone(), since: now })
        });
        Ok(())
    }

    fn record(&self, begun: &Begun, expires_at: u64) -> Result<SignedRecord, TrustError> {
        let mut random = [0; 16];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| TrustError::Randomness)?;
        let recorded = Recorded {
            id: format!("apr_{:012x}{}", begun.now_ms, to_hex(&random[..10])),
            evidence: &begun.join.evidence,
            policy: &begun.policy.policy,
            report_data: &begun.join.report_data,
            checks: &begun.checks,
            appraised_at: begun.now_ms / 1000,
            expires_at,
        };
        recorded.sign(&self.0.signer)
    }

    fn leaf(
        &self,
        begun: &Begun,
        record: &SignedRecord,
        not_after: u64,
    ) -> Result<CertificateDer<'static>, TrustError> {
        let unreadable = || TrustError::Certificate("the requested key is no P-256 key".into());
        let facts = LeafFacts {
            mode: self.0.domain.mode,
            n: begun.ca.n,
            transition: begun.ca.transition,
            appraisal: record.digest,
            version: begun.version.clone(),
            receipt: sha256(&begun.join.receipt_spki),
            workload: begun.join.claims.workload,
        };
        let key = SubjectKey::of(&begun.join.claims.identity_spki).ok_or_else(unreadable)?;
        let wanted = LeafRequest { id: &begun.id, key, not_after, facts: Some(&facts) };
        begun.ca.issue(&wanted, self.0.clock.holds_from() / 1000)
    }

    /// The secrets that the manifest names, each sealed to the replica's key, and the signature over all of them.
    async fn release(
        &self,
        begun: &Begun,
        leaf: [u8; 32],
    ) -> Result<(Vec<SealedSecret>, Vec<u8>), TrustError> {
        let spiffe_id = begun.id.to_string();
        let release = Release {
            mode: self.0.domain.mode,
            trust_domain: &self.0.domain.trust_domain,
            transition: begun.ca.transition,
            spiffe_id: &spiffe_id,
            leaf,
        };
        let info = hpke_info(&begun.join.report_data);
        let key = HpkePublicKey(begun.join.hpke_public.to_vec());
        let mut sealed = Vec::new();
        let vault = self.0.vault.lock().await;
        for grant in &begun.policy.secrets {
            let released = vault.release(&grant.record)?.ok_or_else(|| {
                TrustError::Record(format!(
                    "the secret {} is named in the manifest and not there",
                    grant.record
                ))
            })?;
            for secret in released {
                let aad = release.associated_data(&grant.name, secret.version, secret.epoch);
                let (enc, ct) = DH_KEM_X25519_HKDF_SHA256_AES_256
                    .seal(&info, &aad, &secret.value, &key)
                    .map_err(|error| TrustError::Record(format!("sealing a secret: {error}")))?;
                sealed.push(SealedSecret {
                    name: grant.name.clone(),
                    version: secret.version,
                    epoch: secret.epoch,
                    enc: Bytes(enc.0),
                    ct: Bytes(ct),
                });
            }
        }
        sealed.sort_by(|a, b| (&a.name, a.epoch).cmp(&(&b.name, b.epoch)));
        let message = release.set_message(&begun.join.report_data, &sealed);
        let signature = begun.ca.signer.sign(&message)?;
        Ok((sealed, signature))
    }

    /// First the audit trail, then the store: whatever is answered is on disk. One who is refused has no admission.
    async fn write(
        &self,
        begun: &Begun,
        record: &SignedRecord,
        admission: Option<&Admission>,
        reason: Option<&str>,
        data: serde_json::Value,
    ) -> Result<(), Fault> {
        let is_first = begun.join.previous.is_none();
        self.try_to_write(begun, record, admission, reason, data).await.map_err(|error| match error {
            // To come again with it would be in vain; with another ticket it is not.
            TrustError::Overtaken if is_first => {
                let detail =
                    "the launch ticket was used before, at another node or by a join whose end was not heard of";
                Fault::new(Code::TicketInvalid, detail)
            }
            other => unavailable(other),
        })
    }

    async fn try_to_write(
        &self,
        begun: &Begun,
        record: &SignedRecord,
        admission: Option<&Admission>,
        reason: Option<&str>,
        data: serde_json::Value,
    ) -> Result<(), TrustError> {
        let subject = begun.id.to_string();
        let entry = Entry {
            kind: if begun.join.previous.is_some() { "renewal" } else { "join" }.into(),
            actor: subject.clone(),
            subject,
            outcome: if admission.is_some() { Outcome::Done } else { Outcome::Refused },
            reason: reason.map(str::to_owned),
            data,
        };
        self.audit(entry, begun.now_ms / 1000).await?;
        let folder = appraisals(&begun.service, &begun.join.claims.instance);
        let json = serde_json::to_vec(record).map_err(|error| TrustError::Record(error.to_string()))?;
        let mut transaction = Transaction::new()
            .put(format!("{folder}{}", record.record.id), json)
            .put(watermark(self.0.node.as_ref()), self.0.clock.watermark().to_be_bytes());
        let kept = admissions::key(&begun.service, &begun.join.claims.instance);
        transaction = match admission {
            Some(admission) => transaction.put(kept, admissions::row(admission, &self.0.signer)?),
            None => transaction.delete(kept),
        };
        for (mark, expiry) in &begun.marks {
            let key = [USED.as_bytes(), mark].concat();
            transaction = transaction.if_absent(key.clone()).put(key, expiry.to_be_bytes());
        }
        // Ids begin with their time, so the oldest come first.
        let kept = self.0.store.range(folder.as_str()).await?.rows;
        for row in kept.iter().take((kept.len() + 1).saturating_sub(MAX_RECORDS)) {
            transaction = transaction.delete(row.key.clone());
        }
        match self.0.store.commit(transaction).await? {
            Committed::Committed { .. } => Ok(()),
            Committed::Conflict { .. } => Err(TrustError::Overtaken),
        }
    }
}

/// What this node cannot decide before its configuration says what that of the others does.
pub(super) fn behind_the_mesh(n: u64) -> Fault {
    let detail = format!(
        "other nodes have brought another manifest into force (transition {n}), and this one's configuration does not say the same; \
         its log has the differences"
    );
    Fault::new(Code::ManifestChanged, detail)
}
