//! Whose tokens are taken: the issuers of the file, with the secrets and the files that it names. Keys behind a URL are not waited
//! for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use access::{
    Algorithm, CertificateRules, FREE, IssuerOwner, IssuerRules, IssuerSource, Issuers, Jwks, KeysOfIssuers,
    MAX_JWKS_BYTES, MIN_SECRET_BYTES, OverHttp, Tenant, Tiers, UNLIMITED, Users, VerifyingKey,
};
use anyhow::Context;
use configuration::{
    CertificateSettings, IssuerSettings, JwksSource, Placed, Settings, TenantOf, TokenAlgorithm,
};
use edge_gateway::Authentication;
use secrets::{Given, Vault};
use tokio::sync::{Mutex, watch};
use types::Mode;
use types::headers::DEFAULT_TENANT;

use super::files::patiently;
use super::made::Broken;

/// What the file says of an issuer cannot be used.
#[derive(Debug)]
pub(crate) struct UnusableKeys {
    file: String,
    line: usize,
    reason: String,
}

impl std::error::Error for UnusableKeys {}

impl fmt::Display for UnusableKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, reason } = self;
        write!(formatter, "{file}:{line}: {reason}")
    }
}

/// Whose tokens are taken, and what those whom they were made for may ask for.
pub(crate) struct Tokens {
    issuers: Issuers,
    users: Arc<Users>,
    vault: Arc<Mutex<Vault>>,
    /// Counts the changes of secrets.
    secrets: watch::Receiver<u64>,
    /// Which versions of secrets are in use.
    versions: Versions,
    /// Whether a file of keys is another than when it was read.
    has_changed: bool,
}

type Versions = BTreeMap<String, Vec<Given>>;

/// Issuers with their keys, ready to be put in force.
pub(crate) struct ReadIssuers {
    sources: Vec<IssuerSource>,
    versions: Versions,
}

/// What becomes of an issuer whose secret is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// The file is wrong.
    Refused,
    /// It was there and was removed: nothing is signed with it any more.
    Left,
}

impl Tokens {
    /// Those that were read, and the one who keeps their keys up to date.
    pub(super) fn begin(
        read: ReadIssuers,
        users: Arc<Users>,
        vault: Arc<Mutex<Vault>>,
        secrets: watch::Receiver<u64>,
    ) -> (Self, IssuerOwner) {
        let (issuers, owner) = Issuers::new(read.sources, OverHttp::default());
        (Self { issuers, users, vault, secrets, versions: read.versions, has_changed: false }, owner)
    }

    /// What the gateway needs of them.
    pub(super) fn for_gateway(&self) -> (KeysOfIssuers, Arc<Users>) {
        (self.issuers.keys(), Arc::clone(&self.users))
    }

    /// The issuers of these settings, which stand in `file`.
    ///
    /// # Errors
    /// The secret or the file that cannot be used, and why.
    pub(super) async fn read(&self, settings: &Settings, file: &str) -> anyhow::Result<ReadIssuers> {
        read(settings, &self.vault, file).await
    }

    /// These files hold something else, and some may be those of keys.
    pub(super) fn note_change(&mut self, settings: &Settings, changed: &BTreeSet<PathBuf>) {
        self.has_changed |= files(settings).any(|file| changed.contains(file));
    }

    /// The issuers of these settings, to be put in force; `None` where those before stay.
    ///
    /// # Errors
    /// The secret or the file that cannot be used, and why, where nothing may stay in its place.
    pub(super) async fn of(
        &mut self,
        settings: &Settings,
        file: &str,
        broken: Broken,
    ) -> anyhow::Result<Option<ReadIssuers>> {
        let has_changed = std::mem::take(&mut self.has_changed);
        match self.read(settings, file).await {
            Ok(issuers) => {
                if has_changed {
                    tracing::info!("a file of keys has changed and was taken over");
                }
                Ok(Some(issuers))
            }
            Err(error) if broken == Broken::Refuses => Err(error),
            Err(error) => {
                if has_changed {
                    tracing::error!(
                        "a file of keys has changed and cannot be taken over: {error:#}; the keys before stay in force"
                    );
                }
                Ok(None)
            }
        }
    }

    /// Puts them in force, if they are others, and these tiers.
    pub(super) fn set(&mut self, read: Option<ReadIssuers>, tiers: &Tiers, now_ns: u64) {
        if let Some(read) = read {
            self.versions = read.versions;
            self.issuers.set(read.sources);
        }
        self.users.set_tiers(tiers, now_ns);
    }

    /// Whether an issuer of these settings signs with a secret.
    pub(super) fn need_secrets(settings: &Settings) -> bool {
        settings.gateway.authentication.jwt.iter().any(|issuer| issuer.secret.is_some())
    }

    /// Returns when a secret may be another.
    pub(super) async fn secret_changed(&mut self) {
        if self.secrets.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Takes over secrets that are others now.
    pub(super) async fn renew_secrets(&mut self, settings: &Settings, file: &str) {
        let now = versions(settings, &*self.vault.lock().await);
        if now == self.versions {
            return;
        }
        let files = read_files(settings, file).await;
        let read = match files {
            Ok(files) => with_secrets(settings, &files, &*self.vault.lock().await, file, Missing::Left),
            Err(error) => Err(error),
        };
        match read {
            Ok(read) => {
                self.versions = read.versions;
                self.issuers.set(read.sources);
                tracing::info!("a changed secret of an issuer of tokens was taken over");
            }
            Err(error) => tracing::error!(
                "a secret of an issuer of tokens has changed and cannot be taken over: {error:#}; the one before stays in force"
            ),
        }
    }
}

/// The issuers of these settings.
///
/// # Errors
/// The secret or the file that cannot be used, and why.
pub(super) async fn read(
    settings: &Settings,
    vault: &Mutex<Vault>,
    file: &str,
) -> anyhow::Result<ReadIssuers> {
    let files = read_files(settings, file).await?;
    with_secrets(settings, &files, &*vault.lock().await, file, Missing::Refused)
}

/// The same of the files alone, for a start that has made nothing yet.
pub(super) async fn try_files(settings: &Settings, file: &str) -> anyhow::Result<()> {
    read_files(settings, file).await.map(drop)
}

/// Reads the files of keys that the settings name, and nothing else. Blocks, for as long as their disk does not answer.
///
/// # Errors
/// The one that cannot be used, and why.
pub(crate) fn check_files(settings: &Settings, file: &str) -> anyhow::Result<()> {
    for (place, issuer) in settings.gateway.authentication.jwt.iter().enumerate() {
        if let Some(Placed { value: JwksSource::File(path), line }) = &issuer.jwks {
            let keys = read_keys(path, &algorithms(issuer));
            keys.map_err(|reason| unusable(file, *line, place, "jwks", &reason))?;
        }
    }
    Ok(())
}

/// The files of keys that the settings name, which are read again when they change.
pub(super) fn files(settings: &Settings) -> impl Iterator<Item = &PathBuf> {
    let issuers = settings.gateway.authentication.jwt.iter().filter_map(|issuer| issuer.jwks.as_ref());
    issuers.filter_map(|jwks| match &jwks.value {
        JwksSource::File(path) => Some(path),
        JwksSource::Url(_) => None,
    })
}

/// By the place of their issuer.
type KeysOfFiles = BTreeMap<usize, Vec<Arc<VerifyingKey>>>;

async fn read_files(settings: &Settings, file: &str) -> anyhow::Result<KeysOfFiles> {
    let (issuers, file) = (settings.gateway.authentication.jwt.clone(), file.to_owned());
    let reading = tokio::task::spawn_blocking(move || {
        let mut files = KeysOfFiles::new();
        for (place, issuer) in issuers.iter().enumerate() {
            let Some(Placed { value: JwksSource::File(path), line }) = &issuer.jwks else { continue };
            let keys = read_keys(path, &algorithms(issuer));
            files.insert(place, keys.map_err(|reason| unusable(&file, *line, place, "jwks", &reason))?);
        }
        Ok::<_, UnusableKeys>(files)
    });
    let read = patiently(reading, |seconds| {
        tracing::error!(
            "the files of gateway.authentication.jwt do not answer for {seconds} seconds; they are waited for"
        );
    });
    Ok(read.await.context("failed to read keys of issuers")??)
}

fn with_secrets(
    settings: &Settings,
    files: &KeysOfFiles,
    vault: &Vault,
    file: &str,
    missing: Missing,
) -> anyhow::Result<ReadIssuers> {
    let mut sources = Vec::new();
    for (place, issuer) in settings.gateway.authentication.jwt.iter().enumerate() {
        let mut keys = files.get(&place).cloned().unwrap_or_default();
        if let Some(Placed { value: name, line }) = &issuer.secret {
            match secret_keys(vault, name) {
                Ok(found) if found.is_empty() && missing == Missing::Left => tracing::error!(
                    "the secret {name} of the issuer {} is gone: what is signed with it is refused",
                    issuer.issuer
                ),
                Ok(found) if found.is_empty() => {
                    let reason = format!(
                        "there is no secret {name:?}; start without this issuer, run `serviceos secrets set {name}`, and add it then"
                    );
                    return Err(unusable(file, *line, place, "secret", &reason).into());
                }
                Ok(found) => keys.extend(found),
                Err(reason) => return Err(unusable(file, *line, place, "secret", &reason).into()),
            }
        }
        let url = issuer.jwks.as_ref().and_then(|jwks| match &jwks.value {
            JwksSource::Url(url) => Some(url.clone()),
            JwksSource::File(_) => None,
        });
        sources.push(IssuerSource { rules: Arc::new(rules(issuer, settings)), keys, url });
    }
    Ok(ReadIssuers { sources, versions: versions(settings, vault) })
}

fn unusable(file: &str, line: usize, place: usize, key: &str, reason: &str) -> UnusableKeys {
    let reason = format!("gateway.authentication.jwt[{place}].{key}: {reason}");
    UnusableKeys { file: file.to_owned(), line, reason }
}

fn versions(settings: &Settings, vault: &Vault) -> Versions {
    let names = settings.gateway.authentication.jwt.iter().filter_map(|issuer| issuer.secret.as_ref());
    names.map(|name| (name.value.clone(), vault.given(&name.value))).collect()
}

/// The newest value of a secret. What was written with an editor or `echo` ends with a line end that is most likely not meant, so
/// it is tried with and without.
fn secret_keys(vault: &Vault, name: &str) -> Result<Vec<Arc<VerifyingKey>>, String> {
    let released = vault.release(name).map_err(|error| error.to_string())?.unwrap_or_default();
    let Some(newest) = released.last() else { return Ok(Vec::new()) };
    let value = newest.value.as_slice();
    let bare = value.strip_suffix(b"\n").map(|bare| bare.strip_suffix(b"\r").unwrap_or(bare));
    let keys = [bare, Some(value)].into_iter().flatten().map(VerifyingKey::secret);
    let keys: Option<Vec<_>> = keys.map(|key| key.map(Arc::new)).collect();
    keys.ok_or_else(|| {
        format!("the secret {name:?} has less than {MIN_SECRET_BYTES} bytes, which HS256 needs at least")
    })
}

/// At least one key of the file has to be good for something.
fn read_keys(path: &Path, algorithms: &[Algorithm]) -> Result<Vec<Arc<VerifyingKey>>, String> {
    let failed = |reason: String| format!("{}: {reason}", path.display());
    let bytes = read_file(path).map_err(|error| failed(error.to_string()))?;
    let set = Jwks::read(&bytes).map_err(|error| failed(error.to_string()))?;
    if !set.keys.iter().any(|key| algorithms.iter().any(|algorithm| key.fits(*algorithm))) {
        return Err(failed("none of its keys is a public one for an algorithm of this issuer".to_owned()));
    }
    Ok(set.keys)
}

fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    if !path.metadata()?.is_file() {
        return Err(std::io::Error::other("this is a directory, a pipe or a device; name a file"));
    }
    let mut bytes = Vec::new();
    // One byte more than there may be shows that there are more.
    let most = u64::try_from(MAX_JWKS_BYTES).unwrap_or(u64::MAX) + 1;
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn algorithms(issuer: &IssuerSettings) -> Vec<Algorithm> {
    let algorithm = |algorithm: &TokenAlgorithm| match algorithm {
        TokenAlgorithm::Hs256 => Algorithm::Hs256,
        TokenAlgorithm::Rs256 => Algorithm::Rs256,
        TokenAlgorithm::Ps256 => Algorithm::Ps256,
        TokenAlgorithm::Es256 => Algorithm::Es256,
        TokenAlgorithm::EdDsa => Algorithm::EdDsa,
    };
    issuer.algorithms.iter().map(algorithm).collect()
}

/// The tier of callers of whom the file says none.
fn tier(written: Option<&String>, mode: Mode) -> Arc<str> {
    let by_mode = match mode {
        Mode::Development => UNLIMITED,
        Mode::Production => FREE,
    };
    written.map_or(by_mode, String::as_str).into()
}

fn rules(issuer: &IssuerSettings, settings: &Settings) -> IssuerRules {
    let all = &settings.gateway.authentication.jwt;
    let others = all.iter().filter(|other| other.issuer != issuer.issuer);
    IssuerRules {
        issuer: issuer.issuer.as_str().into(),
        audience: issuer.audience.clone(),
        algorithms: algorithms(issuer).into_iter().collect(),
        role_claim: issuer.role_claim.clone(),
        scopes: issuer.scopes.clone(),
        tenant: match &issuer.tenant {
            TenantOf::Default => Tenant::Fixed(DEFAULT_TENANT.to_owned()),
            TenantOf::Fixed(name) => Tenant::Fixed(name.clone()),
            TenantOf::Claim(claim) => Tenant::Claim {
                path: claim.clone(),
                others: others.filter_map(|other| other.tenant.fixed()).map(str::to_owned).collect(),
            },
        },
        tier: tier(issuer.tier.as_ref(), settings.mode),
    }
}

/// Which credentials are taken, beside tokens.
pub(super) fn authentication(settings: &Settings) -> Authentication {
    let authentication = &settings.gateway.authentication;
    let certificates = authentication.client_certificates.as_ref().map(|certificates| {
        let CertificateSettings { scopes, tenant, tier: written } = certificates;
        let tenant = tenant.clone().unwrap_or_else(|| DEFAULT_TENANT.to_owned());
        Arc::new(CertificateRules::new(scopes.clone(), tenant, tier(written.as_ref(), settings.mode)))
    });
    let signed_requests = authentication.signed_requests.as_ref().map(|signed| signed.max_age);
    Authentication { api_keys: authentication.api_keys, certificates, signed_requests }
}
