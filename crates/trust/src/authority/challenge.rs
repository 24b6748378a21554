//! The first half of a join: both sides learn what the other's evidence must be bound to.

use appraisal::{Code, Fault};
use mesh_protocol::tls::Peer;
use mesh_protocol::{AuthorityBinding, Bytes, ChallengeAnswer, ChallengeRequest, Subject};

use super::{Authority, Channel, unavailable};
use crate::Standing;
use crate::nonces::{NonceContext, Used, check_ticket_age};

impl Authority {
    /// A nonce for this connection, and the authority's own evidence over the replica's nonce. Costs no memory.
    ///
    /// # Errors
    /// Nobody is expected under that name, the ticket is not one, or the authority has no evidence now.
    pub async fn challenge(
        &self,
        channel: &Channel<'_>,
        request: &ChallengeRequest,
    ) -> Result<ChallengeAnswer, Fault> {
        let answer = self.answer(channel, request).await;
        answer.inspect_err(|fault| self.count_refusal(fault))
    }

    async fn answer(
        &self,
        channel: &Channel<'_>,
        request: &ChallengeRequest,
    ) -> Result<ChallengeAnswer, Fault> {
        let now = self.0.clock.checked()?;
        let replica_nonce: [u8; 32] = request
            .nonce
            .0
            .as_slice()
            .try_into()
            .map_err(|_| Fault::new(Code::EvidenceMalformed, "a nonce has 32 bytes"))?;
        self.may_try(channel, &request.ticket.0, &request.service, &request.instance)?;
        self.ticket_is_fresh(channel, &request.ticket.0, now)?;
        let context = NonceContext {
            channel: &channel.binding,
            replica_nonce: &replica_nonce,
            service: &request.service,
            instance: &request.instance,
        };
        let nonce = self.0.minter.nonce(now, context).map_err(unavailable)?;
        let (_, transition) = self.transition();
        let binding = AuthorityBinding {
            nonce: replica_nonce,
            authority_spki: channel.authority_spki,
            root_spki: self.root_spki(),
            trust_domain: &self.0.domain.trust_domain,
            transition,
            mode: self.0.domain.mode,
        };
        let evidence = (self.0.own.evidence)(binding.report_data()).await.map_err(unavailable)?;
        Ok(ChallengeAnswer { nonce: Bytes(nonce.to_vec()), evidence: Bytes(evidence.encode()) })
    }

    /// Whether somebody may try to join under a name: with the certificate of that name, or with a ticket for it.
    pub(super) fn may_try(
        &self,
        channel: &Channel<'_>,
        ticket: &[u8],
        service: &str,
        instance: &str,
    ) -> Result<(), Fault> {
        if let Some(peer) = &channel.peer {
            let is_same = matches!(&peer.id.subject, Subject::Service { service: own, instance: own_instance }
                if own.as_str() == service && own_instance == instance);
            let detail = format!("the certificate is that of {}, and renews no other", peer.id);
            return if is_same { Ok(()) } else { Err(Fault::new(Code::TicketInvalid, detail)) };
        }
        self.0.minter.check_ticket(ticket, service, instance)
    }

    /// Whether a ticket that lets somebody try is neither too old nor used, or a certificate was not renewed already.
    pub(super) fn ticket_is_fresh(
        &self,
        channel: &Channel<'_>,
        ticket: &[u8],
        now_ms: u64,
    ) -> Result<(), Fault> {
        if let Some(peer) = &channel.peer {
            return self.is_in_force(peer, now_ms);
        }
        check_ticket_age(ticket, now_ms)?;
        if self.state().used.contains(&Used::mark(ticket)) {
            return Err(Fault::new(Code::TicketInvalid, "the launch ticket was used before"));
        }
        Ok(())
    }

    /// Whether a certificate is the one that its replica has, as far as this authority knows, and has not ended with the
    /// transition that it was issued in.
    pub(super) fn is_in_force(&self, peer: &Peer, now_ms: u64) -> Result<(), Fault> {
        let Subject::Service { service, instance } = &peer.id.subject else { return Ok(()) };
        let key = (service.clone(), instance.clone());
        let over = |detail: &str| Err(Fault::new(Code::TicketInvalid, detail));
        match self.0.standings.borrow().get(&key) {
            // The answer with the newer one may have been lost on its way.
            Some(Standing::Valid(admission) | Standing::Expired(admission)) => {
                match admission.holds_until(&peer.leaf) {
                    Some(until) if now_ms < until * 1000 => Ok(()),
                    Some(_) => {
                        over("the identity ended with the manifest before, and is not renewed any more")
                    }
                    None => over("the certificate was renewed already, and is not renewed twice"),
                }
            }
            Some(Standing::Pending { .. }) => {
                over("the replica is being started again, and joins by its ticket")
            }
            // It is told again why; or this authority has given it before it was started again.
            Some(Standing::Refused { .. }) | None => Ok(()),
        }
    }

    /// Whether the identity of a member has ended, though its certificate is still valid: it belongs to a transition before.
    pub fn has_ended(&self, peer: &Peer) -> bool {
        let Subject::Service { service, instance } = &peer.id.subject else { return false };
        let admission = self.admission(service.as_str(), instance);
        let until = admission.and_then(|admission| admission.holds_until(&peer.leaf));
        until.is_some_and(|until| until * 1000 <= self.0.clock.latest())
    }
}
