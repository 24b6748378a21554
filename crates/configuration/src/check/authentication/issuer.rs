//! An issuer of tokens: who it is, where its keys are, and what its tokens are good for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::super::Checker;
use super::super::endpoints::{host_of, port_of, split_port};
use crate::raw::RawIssuer;
use crate::report::Origin;
use crate::scalar::{Field, Scalar, Spanned, Text, quoted};
use crate::settings::{IssuerSettings, JwksSource, Placed, TenantOf, TierSettings, TokenAlgorithm};

const KEY: &str = "gateway.authentication.jwt";
/// The most issuers.
const MAX_ISSUERS: usize = 16;
/// The longest issuer, audience, name of a claim and name of a role, in bytes.
const MAX_TEXT_BYTES: usize = 256;
/// The longest URL of a set of keys, in bytes: no longer one is fetched.
const MAX_URL_BYTES: usize = 2_048;
/// The most roles of an issuer.
const MAX_ROLES: usize = 256;

impl Checker {
    pub(super) fn issuers(
        &mut self,
        raw: Vec<Spanned<RawIssuer>>,
        tiers: &BTreeMap<String, TierSettings>,
        base_dir: &Path,
    ) -> Vec<IssuerSettings> {
        if let Some(issuer) = raw.get(MAX_ISSUERS) {
            let message = format!("{KEY}: there are at most {MAX_ISSUERS} issuers");
            self.wrong(issuer.referenced.into(), message, None);
        }
        let (mut known, mut tenants) = (BTreeSet::new(), BTreeMap::new());
        let mut issuers = Vec::new();
        for (place, raw) in raw.into_iter().enumerate() {
            let key = format!("{KEY}[{place}]");
            let issuer = raw.value.issuer.clone();
            let tenant = raw.value.tenant.as_ref().or(raw.value.tenant_claim.as_ref());
            let says_tenant = tenant.map_or(raw.referenced.into(), |tenant| tenant.origin);
            let settings = self.issuer(&key, raw, tiers, base_dir);
            match (issuer, &settings) {
                // The token's `iss` chooses, so there is nothing to choose between two.
                (Some(issuer), _) if !known.insert(issuer.value.clone()) => {
                    let message = format!("{key}.issuer: {} is written twice", quoted(&issuer.value));
                    self.wrong(issuer.origin, message, Some("keep one of the two".to_owned()));
                }
                (_, Some(settings)) => self.own_tenant(&key, says_tenant, &settings.tenant, &mut tenants),
                (_, None) => {}
            }
            issuers.extend(settings);
        }
        issuers
    }

    /// To replicas a caller is its tenant and its subject. Two issuers may give one subject to two callers, so they share no tenant;
    /// what a claim names is held against the tenants of the others when a token comes.
    fn own_tenant(
        &mut self,
        key: &str,
        origin: Origin,
        tenant: &TenantOf,
        tenants: &mut BTreeMap<Option<String>, String>,
    ) {
        let tenant = tenant.fixed().map(str::to_owned);
        let Some(first) = tenants.get(&tenant) else {
            tenants.insert(tenant, key.to_owned());
            return;
        };
        let (message, help) = match &tenant {
            Some(name) => (
                format!("{key}.tenant: {} is the tenant of {first} already", quoted(name)),
                "a caller is known by its tenant and its `sub`, so that each issuer needs another one: write `tenant: partner`",
            ),
            None => (
                format!("{key}.tenantClaim: {first} names its tenants by a claim already"),
                "both could name the same one, in which a `sub` could be two callers: write `tenant: partner` for one of them",
            ),
        };
        self.wrong(origin, message, Some(help.to_owned()));
    }

    fn issuer(
        &mut self,
        key: &str,
        raw: Spanned<RawIssuer>,
        tiers: &BTreeMap<String, TierSettings>,
        base_dir: &Path,
    ) -> Option<IssuerSettings> {
        let origin = Origin::from(raw.referenced);
        let raw = raw.value;
        let issuer = self.needed(key, "issuer", raw.issuer, origin, "https://project.supabase.co/auth/v1");
        let audience = self.needed(key, "audience", raw.audience, origin, "authenticated");
        let jwks = raw.jwks.map(|jwks| self.jwks(key, &jwks, base_dir));
        let secret = raw.secret.map(|name| {
            self.secret_name(&format!("{key}.secret"), &name);
            Placed { line: name.origin.line(), value: name.value }
        });
        let algorithms = self.algorithms(key, origin, raw.algorithms, (jwks.is_some(), secret.is_some()));
        let role_claim = raw.role_claim.map(|claim| self.claim(&format!("{key}.roleClaim"), claim));
        if let Some((role, _)) = raw.scopes.0.get(MAX_ROLES) {
            self.wrong(role.origin, format!("{key}.scopes: there are at most {MAX_ROLES} roles"), None);
        }
        let scopes = self.scopes_by_name(key, raw.scopes, |checker, role| {
            checker.short(&format!("{key}.scopes"), role, "the name of a role", MAX_TEXT_BYTES);
        });
        let tenant = self.tenant_of(key, raw.tenant, raw.tenant_claim);
        let tier = raw.tier.map(|tier| self.tier(key, tier, tiers));
        Some(IssuerSettings {
            issuer: issuer?,
            audience: audience?,
            jwks,
            secret,
            algorithms,
            role_claim,
            scopes,
            tenant,
            tier,
        })
    }

    fn needed(
        &mut self,
        key: &str,
        name: &str,
        text: Option<Text>,
        parent: Origin,
        example: &str,
    ) -> Option<String> {
        let Some(text) = text else {
            let message = format!("{key}.{name}: an issuer of tokens needs it");
            self.wrong(parent, message, Some(format!("write `{name}: {example}`")));
            return None;
        };
        let expected = if name == "issuer" { "what `iss` says" } else { "what `aud` says" };
        self.short(&format!("{key}.{name}"), &text, expected, MAX_TEXT_BYTES);
        Some(text.value)
    }

    fn claim(&mut self, key: &str, claim: Text) -> String {
        self.short(key, &claim, "the name of a claim such as app_metadata.role", MAX_TEXT_BYTES);
        claim.value
    }

    fn tenant_of(&mut self, key: &str, tenant: Option<Text>, claim: Option<Text>) -> TenantOf {
        match (tenant, claim) {
            (None, None) => TenantOf::Default,
            (Some(tenant), None) => TenantOf::Fixed(self.tenant(key, tenant)),
            (None, Some(claim)) => TenantOf::Claim(self.claim(&format!("{key}.tenantClaim"), claim)),
            (Some(tenant), Some(_)) => {
                let message = format!("{key}.tenant: the tenant is already said by `tenantClaim`");
                self.wrong(tenant.origin, message, Some("keep one of the two".to_owned()));
                TenantOf::Fixed(tenant.value)
            }
        }
    }

    /// A URL begins with http:// or https://; anything else is a path.
    fn jwks(&mut self, key: &str, text: &Text, base_dir: &Path) -> Placed<JwksSource> {
        let key = format!("{key}.jwks");
        let line = text.origin.line();
        let is_url = text.value.contains("://");
        if !is_url {
            return Placed { value: JwksSource::File(self.path(base_dir, text, &key)), line };
        }
        if let Err(reason) = check_url(&text.value) {
            let message = format!("{key}: {reason}, found {}", quoted(&text.value));
            let help =
                "write https://project.supabase.co/auth/v1/.well-known/jwks.json, or the path of a file";
            self.wrong(text.origin, message, Some(help.to_owned()));
        }
        Placed { value: JwksSource::Url(text.value.clone()), line }
    }

    /// What is signed with a secret is verified with it, and with nothing that is public.
    fn algorithms(
        &mut self,
        key: &str,
        origin: Origin,
        raw: Vec<Field<TokenAlgorithm>>,
        (has_jwks, has_secret): (bool, bool),
    ) -> BTreeSet<TokenAlgorithm> {
        if !has_jwks && !has_secret {
            let message = format!("{key}: an issuer of tokens needs `jwks` or `secret`");
            let help =
                "`jwks` is where its public keys are, `secret` the name of the secret that it signs with";
            self.wrong(origin, message, Some(help.to_owned()));
        }
        let key = format!("{key}.algorithms");
        if raw.is_empty() && has_secret && !has_jwks {
            return BTreeSet::from([TokenAlgorithm::Hs256]);
        }
        let (mut algorithms, written) = (BTreeSet::new(), raw.len());
        for field in raw {
            let origin = field.origin;
            let Some(algorithm) = self.value(&key, field) else { continue };
            let word = algorithm.written();
            let word = word.as_str().unwrap_or_default();
            match algorithm {
                TokenAlgorithm::Hs256 if !has_secret => {
                    let message = format!("{key}: HS256 is verified with a secret, and there is none");
                    self.wrong(origin, message, Some("write `secret: supabase-jwt`".to_owned()));
                }
                TokenAlgorithm::Hs256 => {}
                _ if !has_jwks => {
                    let message =
                        format!("{key}: {word} is verified with a public key, and there is no `jwks`");
                    self.wrong(origin, message, Some("a secret is for HS256 alone".to_owned()));
                }
                _ => {}
            }
            algorithms.insert(algorithm);
        }
        if written == 0 && has_jwks {
            let message = format!("{key}: expected {}, found nothing", TokenAlgorithm::EXPECTED);
            self.wrong(
                origin,
                message,
                Some("write `algorithms: [ES256]`: what the issuer signs with".to_owned()),
            );
        } else if has_secret && algorithms.len() == written && !algorithms.contains(&TokenAlgorithm::Hs256) {
            let message = format!("{key}: a secret is for HS256, which is not among them");
            self.wrong(origin, message, Some("add HS256, or leave `secret` out".to_owned()));
        }
        algorithms
    }
}

/// Https anywhere; http to this machine alone, since whoever can change the answer on its way can make tokens.
fn check_url(url: &str) -> Result<(), &'static str> {
    let (is_https, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        (None, None) => return Err("the URL of a set of keys begins with https://"),
    };
    if url.len() > MAX_URL_BYTES || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the URL of a set of keys is visible ASCII of at most 2048 bytes");
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err("the URL of a set of keys has no user and no password");
    }
    if path.contains(['#', '\\']) {
        return Err("the URL of a set of keys has no fragment and no backslash");
    }
    let (host, port) = split_port(authority);
    let host = host_of(host).ok_or("the URL of a set of keys has an IP address or a DNS name")?;
    if port.is_some_and(|port| port_of(port).is_none()) {
        return Err("the port of a URL is from 1 to 65535");
    }
    let is_here =
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if is_https || is_here { Ok(()) } else { Err("only this machine is asked without TLS: write https://") }
}
