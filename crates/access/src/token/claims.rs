//! What a token says, once it is known who says it: whether it is for us and good now, and whom it was made for.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::TokenRefusal::{self, Refused};
use super::json::{self, Object};
use super::{Identity, IssuerRules, SKEW_MS, Tenant, Verified};

/// The latest moment that is one, the end of the year 9999, in seconds.
const LATEST: f64 = 253_402_300_799.0;
/// The longest subject, in bytes, as OpenID Connect Core has it (section 2).
const MAX_SUBJECT_BYTES: usize = 255;
/// The longest name of a tenant, in bytes.
const MAX_TENANT_BYTES: usize = 64;
/// The most roles of a token that are looked at.
const MAX_ROLES: usize = 64;
/// What the subjects of other kinds of callers begin with.
const OTHERS_SUBJECTS: [&str; 2] = ["key_", "spiffe://"];

pub(super) fn judge(claims: &Object, rules: &IssuerRules, now: Timestamp) -> Result<Verified, TokenRefusal> {
    let until = judge_times(claims, now)?;
    if !is_for(claims, &rules.audience)? {
        return Err(Refused("it is for another audience"));
    }
    let identity = Identity {
        issuer: Arc::clone(&rules.issuer),
        subject: subject(claims)?,
        tenant: tenant(claims, &rules.tenant)?,
        tier: Arc::clone(&rules.tier),
        scopes: scopes(claims, rules)?,
    };
    Ok(Verified { identity, until })
}

/// Until when it is good.
fn judge_times(claims: &Object, now: Timestamp) -> Result<Timestamp, TokenRefusal> {
    let now = now.as_millisecond();
    let Some(expires) = moment(claims, "exp")? else { return Err(Refused("it never expires")) };
    let until = expires + SKEW_MS;
    if now >= until {
        return Err(Refused("it has expired"));
    }
    if moment(claims, "nbf")?.is_some_and(|not_before| now + SKEW_MS < not_before) {
        return Err(Refused("it is not good yet"));
    }
    if moment(claims, "iat")?.is_some_and(|issued| now + SKEW_MS < issued) {
        return Err(Refused("it was issued in the future"));
    }
    Timestamp::from_millisecond(until).map_err(|_| Refused("a moment of it is none"))
}

/// A `NumericDate` (RFC 7519 section 2), in milliseconds.
fn moment(claims: &Object, name: &str) -> Result<Option<i64>, TokenRefusal> {
    let Some(moment) = claims.get(name) else { return Ok(None) };
    match json::number(moment) {
        #[expect(clippy::cast_possible_truncation, reason = "the range is that of four-digit years")]
        Some(seconds) if (0.0..=LATEST).contains(&seconds) => Ok(Some((seconds * 1e3) as i64)),
        _ => Err(Refused("a moment of it is none")),
    }
}

fn is_for(claims: &Object, audience: &str) -> Result<bool, TokenRefusal> {
    let is_wanted = |item: &Value| item == audience;
    match claims.get("aud") {
        None => Err(Refused("it names no audience")),
        Some(Value::Array(items)) if items.iter().all(Value::is_string) => Ok(items.iter().any(is_wanted)),
        Some(one @ Value::String(_)) => Ok(is_wanted(one)),
        Some(_) => Err(Refused("its audience is none")),
    }
}

/// It is sent to replicas in a header, so it is visible ASCII.
fn subject(claims: &Object) -> Result<String, TokenRefusal> {
    let Some(subject) = json::text(claims, "sub") else { return Err(Refused("it has no subject")) };
    let is_visible = subject.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && subject.trim() == subject;
    if !is_visible || !(1..=MAX_SUBJECT_BYTES).contains(&subject.len()) {
        return Err(Refused("its subject is not 1 to 255 visible characters of ASCII"));
    }
    let begins = |begin: &&str| subject.get(..begin.len()).is_some_and(|own| own.eq_ignore_ascii_case(begin));
    if OTHERS_SUBJECTS.iter().any(begins) || is_distinguished_name(subject) {
        return Err(Refused("its subject looks like a caller of another kind"));
    }
    Ok(subject.to_owned())
}

/// Whether it reads like the subject of a certificate, `CN=ann,O=Example` (RFC 4514): the name of an attribute, and a value.
fn is_distinguished_name(subject: &str) -> bool {
    let Some((attribute, value)) = subject.split_once('=') else { return false };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    // Base64 ends with the sign.
    !attribute.is_empty() && attribute.bytes().all(is_name) && !value.trim_matches('=').is_empty()
}

fn tenant(claims: &Object, tenant: &Tenant) -> Result<String, TokenRefusal> {
    let (path, others) = match tenant {
        Tenant::Fixed(name) => return Ok(name.clone()),
        Tenant::Claim { path, others } => (path, others),
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match json::at(claims, path) {
        Some(Value::String(name)) if others.contains(name) => {
            Err(Refused("its claim names the tenant of another issuer"))
        }
        Some(Value::String(name))
            if (1..=MAX_TENANT_BYTES).contains(&name.len()) && name.bytes().all(allowed) =>
        {
            Ok(name.clone())
        }
        _ => Err(Refused("its claim of the tenant names none")),
    }
}

/// What the file grants to the roles that the token names, and nothing else.
fn scopes(claims: &Object, rules: &IssuerRules) -> Result<Vec<String>, TokenRefusal> {
    let roles: Vec<&str> = match &rules.role_claim {
        Some(path) => match json::at(claims, path) {
            None => Vec::new(),
            Some(Value::String(role)) => vec![role],
            Some(Value::Array(roles)) => roles
                .iter()
                .map(|role| role.as_str().ok_or(Refused("a role of it is not text")))
                .collect::<Result<_, _>>()?,
            Some(_) => return Err(Refused("its claim of the roles is neither text nor a list")),
        },
        None => match claims.get("scope") {
            None => Vec::new(),
            Some(Value::String(words)) => words.split(' ').filter(|word| !word.is_empty()).collect(),
            Some(_) => return Err(Refused("its claim `scope` is not text")),
        },
    };
    if roles.len() > MAX_ROLES {
        return Err(Refused("it names more than 64 roles"));
    }
    let mut scopes: Vec<String> = Vec::new();
    for scope in roles.into_iter().filter_map(|role| rules.scopes.get(role)).flatten() {
        if !scopes.contains(scope) {
            scopes.push(scope.clone());
        }
    }
    Ok(scopes)
}
