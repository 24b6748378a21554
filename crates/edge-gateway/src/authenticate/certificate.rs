//! Certificates of clients: read once for a connection, and judged anew whenever the configuration is another.

use std::cell::{OnceCell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use access::{Caller, CertificateRules, Holder, Nameless};
use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, UnixTime};

use crate::FlowError;
use crate::exchange::Exchange;
use crate::rate_limit::moment;

/// Who issues to callers that certificates are for, as far as allowances are concerned.
const ISSUER: &str = "client-certificate";

/// What a client has shown in its handshake, or in the one of the session that it goes on with.
pub(crate) struct ClientCertificate {
    /// The certificate first.
    chain: Vec<CertificateDer<'static>>,
    holder: OnceCell<Result<Holder, Nameless>>,
    known: RefCell<Option<Known>>,
}

/// Who the holder is under some configuration, or why it is nobody.
struct Known {
    rules: Arc<CertificateRules>,
    /// The number of the tiers.
    generation: u64,
    /// When a certificate of the chain ends that had not ended then: it may be the one that the verdict hangs on.
    until: Timestamp,
    verdict: Result<Arc<Caller>, String>,
}

impl ClientCertificate {
    /// `None` where there is no certificate.
    pub(crate) fn new(chain: Option<&[CertificateDer<'static>]>) -> Option<Box<Self>> {
        let chain = chain.filter(|chain| !chain.is_empty())?.to_vec();
        Some(Box::new(Self { chain, holder: OnceCell::new(), known: RefCell::default() }))
    }

    fn holder(&self) -> Result<&Holder, String> {
        let holder = self.holder.get_or_init(|| Holder::of(&self.chain[0]));
        holder.as_ref().map_err(ToString::to_string)
    }

    /// When the next certificate of the chain ends.
    fn next_end(&self, now: Timestamp) -> Timestamp {
        let ends = self.chain.iter().filter_map(|certificate| access::end_of_certificate(certificate));
        ends.filter(|end| *end >= now).min().unwrap_or(Timestamp::MAX)
    }
}

/// The caller who holds the certificate of the connection; `None` where there is none, or none is asked for.
pub(super) fn caller(exchange: &Exchange) -> Option<Result<Arc<Caller>, FlowError>> {
    let rules = exchange.plan.plan.authentication.certificates.as_ref()?;
    exchange.client.certificate.as_ref()?;
    Some(judge(exchange, rules))
}

fn judge(exchange: &Exchange, rules: &Arc<CertificateRules>) -> Result<Arc<Caller>, FlowError> {
    let generation = exchange.worker.tokens.users().generation();
    let certificate = exchange.client.certificate.as_ref().expect("whoever calls has looked");
    let refused = |why: String| FlowError::AuthInvalid(why.into());
    let holder = certificate.holder().map_err(refused)?;
    // A connection may live longer than its certificate.
    if exchange.now() > holder.until {
        return Err(refused("the certificate is over".to_owned()));
    }
    let mut known = certificate.known.borrow_mut();
    let now = exchange.now();
    let still_known = known.take().filter(|known| {
        Arc::ptr_eq(&known.rules, rules) && known.generation == generation && now <= known.until
    });
    let known = known.insert(still_known.unwrap_or_else(|| {
        let verdict = caller_of(exchange, rules, holder);
        Known { rules: Arc::clone(rules), generation, until: certificate.next_end(now), verdict }
    }));
    known.verdict.clone().map_err(refused)
}

/// Who the holder is, at the cost of as many operations with public keys as its chain is long. The handshake of the connection has
/// cost more, and it is done once for a connection, so that no limit of addresses is asked before.
fn caller_of(exchange: &Exchange, rules: &CertificateRules, holder: &Holder) -> Result<Arc<Caller>, String> {
    let scopes = rules.scopes_of(&holder.name);
    let scopes = scopes.ok_or("the file does not name the holder of the certificate")?;
    is_trusted(exchange)?;
    let users = exchange.worker.tokens.users();
    let allowance = users.allowance(ISSUER, &holder.name, &rules.tier, moment(exchange));
    let caller = Caller::new(&holder.name, rules.tenant.clone(), scopes.to_vec());
    Ok(Arc::new(caller.allowed(allowance)))
}

/// Whether the authorities in force vouch for it. Those of the handshake may have been others: a session goes on after they were
/// exchanged, and so does a connection.
fn is_trusted(exchange: &Exchange) -> Result<(), String> {
    let certificate = exchange.client.certificate.as_ref().expect("whoever calls has looked");
    let verifier = exchange.plan.plan.tls.as_ref().and_then(|tls| tls.clients.as_ref());
    let verifier = verifier.ok_or("no certificates are asked for any more")?;
    let (leaf, rest) = certificate.chain.split_first().ok_or("there is no certificate")?;
    let now = u64::try_from(exchange.now().as_second()).unwrap_or(u64::MAX);
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
    let verified = verifier.verify_client_cert(leaf, rest, now);
    verified.map(drop).map_err(|error| format!("the certificate is trusted no more: {error}"))
}
