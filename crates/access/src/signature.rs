//! Signed requests: HTTP message signatures (RFC 9421) under the public key of one of our keys, each good once.
//!
//! It is handed the parts of a message and the time. Whatever is not exactly what is expected here is refused; why is for the
//! operator, never for the caller.

mod content_digest;
mod fields;
mod nonces;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

pub use content_digest::ContentDigest;
use fields::{Bare, Member, Value};
pub use nonces::{HandedNonces, Nonce, Nonces, UsedNonce};

use crate::{Caller, KeyTable, Refusal};

/// The field that says what is signed.
const SIGNATURE_INPUT: &str = "signature-input";
const SIGNATURE: &str = "signature";
const CONTENT_DIGEST: &str = "content-digest";

/// The longest that a signature may be good, and how long it may be where nobody says otherwise.
pub const MAX_SIGNATURE_AGE: Duration = Duration::from_secs(300);
/// How far ahead of ours the signer's clock may be, in seconds.
const MAX_AHEAD: i64 = 60;
/// The bytes of both fields, and of the digests, that are read.
const MAX_FIELD_BYTES: usize = 8192;
/// How long a nonce is, in characters.
const NONCE: std::ops::RangeInclusive<usize> = 16..=128;
/// What a signature that is meant for us may say of itself.
const TAG: &str = "serviceos";
/// What the ids of keys begin with; a signature of another one is somebody else's.
const KEY_ID: &str = "key_";

/// A message as its signature sees it.
pub trait SignedMessage {
    /// The method.
    fn method(&self) -> &[u8];
    /// `http` or `https`, as the client has called.
    fn scheme(&self) -> &[u8];
    /// Host and port, as the client has named them.
    fn authority(&self) -> &[u8];
    /// The path as it came, which begins with a slash.
    fn path(&self) -> &[u8];
    /// What stands behind the path: nothing, or a question mark and the query.
    fn query(&self) -> &[u8];
    /// The values of all fields of a name in lower case.
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]>;
    /// Whether it has a body, even an empty one whose length is not known before it was read.
    fn has_body(&self) -> bool;
}

/// A request whose signature is good.
#[derive(Debug)]
pub struct Signed {
    /// Whose it is.
    pub caller: Arc<Caller>,
    /// What its body has to be.
    pub digest: Option<ContentDigest>,
    /// What makes it come once: to be used up with [`Nonces::take`] before anything is done for it.
    pub nonce: Nonce,
}

/// Why a signed request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureRefusal {
    /// The signature is not good, which was seen without the key; why is for the operator.
    Invalid(&'static str),
    /// The same, and the key was tried on it.
    Costly(&'static str),
    /// The key, which was tried, was good until its expiry.
    Expired,
    /// No more nonces can be remembered now.
    Full {
        /// When there may be room again.
        retry_after: Duration,
    },
}

type Reason = SignatureRefusal;

fn invalid(why: &'static str) -> Reason {
    Reason::Invalid(why)
}

impl KeyTable {
    /// The caller that has signed a request, which is good for `max_age` at the most. Its nonce was not used before, and is not
    /// used up: who is refused for another reason after this need not be remembered.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn authenticate_signed(
        &self,
        message: &impl SignedMessage,
        max_age: Duration,
        nonces: &Nonces,
        now: Timestamp,
    ) -> Result<Signed, SignatureRefusal> {
        let input = combined(message, SIGNATURE_INPUT)?;
        let input = text(&input)?;
        let claim = Claim::of(chosen(fields::dictionary(input).map_err(invalid)?)?)?;
        claim.is_timely(max_age, now.as_second())?;
        claim.covers_enough(message)?;
        let base = claim.base(message)?;
        let signature = signature(message, claim.label)?;
        let digest = if claim.covers(CONTENT_DIGEST) {
            Some(ContentDigest::read(text(&combined(message, CONTENT_DIGEST)?)?).map_err(invalid)?)
        } else {
            None
        };
        let caller = self.signer(claim.key_id, claim.algorithm, &base, &signature, now);
        let caller = caller.map_err(|refusal| match refusal {
            Refusal::Expired => Reason::Expired,
            Refusal::Unknown | Refusal::OtherMode => invalid("the key of its signature is unknown here"),
            Refusal::Malformed => Reason::Costly("its signature is not that of the key"),
        })?;
        let nonce = Nonce::new(claim.key_id, claim.nonce, claim.created..claim.expires);
        nonces.look(&nonce, now.as_second()).map_err(|refusal| match refusal {
            Reason::Invalid(why) => Reason::Costly(why),
            other => other,
        })?;
        Ok(Signed { caller, digest, nonce })
    }
}

/// What a signature says of itself, before anything of it is believed.
struct Claim<'a> {
    label: &'a str,
    /// The covered components, in their order and each once.
    components: Vec<&'a str>,
    /// All of it as it is signed.
    raw: &'a str,
    created: i64,
    expires: i64,
    nonce: &'a str,
    key_id: &'a str,
    algorithm: Option<&'a str>,
}

impl<'a> Claim<'a> {
    fn of(member: Member<'a>) -> Result<Self, Reason> {
        let Value::List(items) = &member.value else { return Err(invalid("its signature covers nothing")) };
        let mut components = Vec::with_capacity(items.len());
        for item in items {
            let Bare::Text(name) = item.bare else {
                return Err(invalid("its signature covers what is no name"));
            };
            if !item.parameters.is_empty() {
                return Err(invalid("its signature covers a component with a parameter"));
            }
            if components.contains(&name) {
                return Err(invalid("its signature covers a component twice"));
            }
            components.push(name);
        }
        for (name, _) in &member.parameters {
            if !["created", "expires", "nonce", "keyid", "alg", "tag"].contains(name) {
                return Err(invalid("its signature has a parameter that is not known here"));
            }
        }
        let number = |name, why| match member.parameter(name) {
            Some(Bare::Integer(number)) => Ok(*number),
            _ => Err(invalid(why)),
        };
        let word = |name, why| match member.parameter(name) {
            Some(Bare::Text(word)) => Ok(Some(*word)),
            None => Ok(None),
            Some(_) => Err(invalid(why)),
        };
        let nonce = word("nonce", "its nonce is no text")?.filter(|nonce| NONCE.contains(&nonce.len()));
        let key_id = word("keyid", "its keyid is no text")?;
        Ok(Self {
            created: number("created", "its signature does not say when it was created")?,
            expires: number("expires", "its signature does not say when it expires")?,
            nonce: nonce.ok_or(invalid("its signature has no nonce of 16 to 128 characters"))?,
            key_id: key_id.ok_or(invalid("its signature names no key"))?,
            algorithm: word("alg", "its alg is no text")?,
            label: member.label,
            raw: member.raw,
            components,
        })
    }

    fn is_timely(&self, max_age: Duration, now: i64) -> Result<(), Reason> {
        let max_age = i64::try_from(max_age.min(MAX_SIGNATURE_AGE).as_secs()).unwrap_or_default();
        if self.created > now + MAX_AHEAD {
            return Err(invalid("its signature is from the future"));
        }
        if self.expires <= now {
            return Err(invalid("its signature has expired"));
        }
        // Neither is further from the other than 15 digits are long.
        if self.expires <= self.created || self.expires - self.created > max_age {
            return Err(invalid("its signature is good for longer than is allowed, or not at all"));
        }
        Ok(())
    }

    fn covers(&self, name: &str) -> bool {
        self.components.contains(&name)
    }

    /// Whether anything that says where the request goes and what it brings could have been changed.
    fn covers_enough(&self, message: &impl SignedMessage) -> Result<(), Reason> {
        let needs = |name, why| if self.covers(name) { Ok(()) } else { Err(invalid(why)) };
        needs("@method", "its signature does not cover @method")?;
        if !self.covers("@target-uri") {
            needs("@authority", "its signature covers neither @target-uri nor @authority")?;
            needs("@path", "its signature covers neither @target-uri nor @path")?;
            if !message.query().is_empty() {
                needs("@query", "its signature covers neither @target-uri nor @query")?;
            }
        }
        if message.has_body() {
            needs(CONTENT_DIGEST, "its signature does not cover content-digest, and it has a body")?;
        }
        Ok(())
    }

    /// What is signed (RFC 9421 section 2.5).
    fn base(&self, message: &impl SignedMessage) -> Result<Vec<u8>, Reason> {
        let mut base = Vec::with_capacity(512);
        for name in &self.components {
            base.extend_from_slice(b"\"");
            base.extend_from_slice(name.as_bytes());
            base.extend_from_slice(b"\": ");
            put_component(message, name, &mut base)?;
            base.push(b'\n');
        }
        base.extend_from_slice(b"\"@signature-params\": ");
        base.extend_from_slice(self.raw.as_bytes());
        Ok(base)
    }
}

/// The value of a component (RFC 9421 sections 2.1 and 2.2).
fn put_component(message: &impl SignedMessage, name: &str, base: &mut Vec<u8>) -> Result<(), Reason> {
    match name {
        "@method" => base.extend_from_slice(message.method()),
        "@scheme" => base.extend_from_slice(message.scheme()),
        "@authority" => put_authority(message, base),
        "@path" => base.extend_from_slice(message.path()),
        // A query that is not there is an empty one.
        "@query" if message.query().is_empty() => base.push(b'?'),
        "@query" => base.extend_from_slice(message.query()),
        "@target-uri" => {
            base.extend_from_slice(message.scheme());
            base.extend_from_slice(b"://");
            put_authority(message, base);
            base.extend_from_slice(message.path());
            base.extend_from_slice(message.query());
        }
        _ if name.starts_with('@') => {
            return Err(invalid("its signature covers a derived component that is not known here"));
        }
        SIGNATURE | SIGNATURE_INPUT => return Err(invalid("its signature covers a signature")),
        _ if name.bytes().any(|byte| byte.is_ascii_uppercase()) => {
            return Err(invalid("its signature covers a field whose name is not in lower case"));
        }
        field => base.extend_from_slice(&combined(message, field)?),
    }
    Ok(())
}

/// In lower case, without the port that the scheme has anyway.
fn put_authority(message: &impl SignedMessage, base: &mut Vec<u8>) {
    let authority = message.authority();
    let port: &[u8] = if message.scheme() == b"https" { b":443" } else { b":80" };
    let authority = authority.strip_suffix(port).unwrap_or(authority);
    base.extend(authority.iter().map(u8::to_ascii_lowercase));
}

/// The value of all fields of a name as one.
fn combined(message: &impl SignedMessage, name: &str) -> Result<Vec<u8>, Reason> {
    let mut value: Option<Vec<u8>> = None;
    for line in message.values(name) {
        match &mut value {
            Some(value) => value.extend_from_slice(b", "),
            None => value = Some(Vec::new()),
        }
        value.get_or_insert_default().extend_from_slice(line.trim_ascii());
    }
    let value = value.ok_or(invalid("a field that its signature needs or covers is not there"))?;
    // The bytes that are signed have one line for each component.
    if value.iter().any(|byte| *byte == b'\n' || *byte == b'\r') {
        return Err(invalid("a field that its signature covers has more than one line"));
    }
    Ok(value)
}

fn text(value: &[u8]) -> Result<&str, Reason> {
    if value.len() > MAX_FIELD_BYTES {
        return Err(invalid("a field of its signature is longer than 8 KiB"));
    }
    // All that is read is ASCII, as the grammar of the fields has it.
    std::str::from_utf8(value).map_err(|_| invalid("a field of its signature is not ASCII"))
}

/// Whether a request, which has the field `Signature-Input`, has a signature that is meant for us: one with our tag, or one without
/// a tag by a key that is one of ours, as its id says. Others are somebody else's, and say nothing of who calls. Where what is there
/// cannot be read nobody knows, and it counts as one, so that a broken signature is never as if there were none.
pub fn is_signed(message: &impl SignedMessage) -> bool {
    let Ok(input) = combined(message, SIGNATURE_INPUT) else { return true };
    let members = text(&input).and_then(|input| fields::dictionary(input).map_err(invalid));
    members.map_or(true, |members| members.iter().any(is_meant_for_us))
}

fn is_meant_for_us(member: &Member<'_>) -> bool {
    match member.parameter("tag") {
        Some(Bare::Text(TAG)) => true,
        None => is_ours(member),
        Some(_) => false,
    }
}

/// Whether it names a key as they are called here.
fn is_ours(member: &Member<'_>) -> bool {
    matches!(member.parameter("keyid"), Some(Bare::Text(id)) if id.starts_with(KEY_ID))
}

/// The signature that counts: one that is meant for us, by a key as they are called here. One that has our tag goes before those that have
/// none, and two of the same rank are none.
fn chosen(members: Vec<Member<'_>>) -> Result<Member<'_>, Reason> {
    let (mut tagged, mut plain) = (Vec::new(), Vec::new());
    for member in members {
        match member.parameter("tag") {
            Some(Bare::Text(TAG)) if is_ours(&member) => tagged.push(member),
            None if is_ours(&member) => plain.push(member),
            _ => {}
        }
    }
    let mut ranked = if tagged.is_empty() { plain } else { tagged };
    match (ranked.pop(), ranked.is_empty()) {
        (Some(member), true) => Ok(member),
        (None, _) => Err(invalid("it has no signature by a key of this mesh")),
        (Some(_), false) => Err(invalid("it has several signatures by keys of this mesh")),
    }
}

/// The bytes of the signature of a label.
fn signature(message: &impl SignedMessage, label: &str) -> Result<Vec<u8>, Reason> {
    let field = combined(message, SIGNATURE)?;
    let members = fields::dictionary(text(&field)?).map_err(invalid)?;
    let member = members.into_iter().find(|member| member.label == label);
    match member.map(|member| member.value) {
        Some(Value::Item(Bare::Bytes(bytes))) => Ok(bytes),
        Some(_) => Err(invalid("its signature is no sequence of bytes")),
        None => Err(invalid("there is no signature of the label that says what is signed")),
    }
}

/// What a target of the fuzzer calls: all that is read of a signature, before anything is believed.
#[cfg(feature = "fuzzing")]
pub fn read_fields(input: &str) -> Option<String> {
    let members = fields::dictionary(input).ok()?;
    let lines = members.iter().map(|member| format!("{}={}", member.label, member.raw));
    Some(lines.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests;
