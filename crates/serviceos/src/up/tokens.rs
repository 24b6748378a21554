//! Whose tokens are taken: the issuers of the file, with the secrets and the files that it names. Keys behind a URL are not waited
//! for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use access::{
    Algorithm, CertificateRules, FREE, IssuerOwner, IssuerRules, IssuerSource, Issuers, Jwks, KeysOfIssuers,
    MAX_JWKS_BYTES, MIN_SECRET_BYTES, OverHttp, Tenant, Tiers, UNLIMITED, Users, VerifyingKey,
};
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
use super::unusable::Unusable;

/// Whose tokens are taken, and what those whom they were made for may ask for.
pub(crate) struct Tokens {
    issuers: Issuers,
    users: Arc<Users>,
    vault: Arc<Mutex<Vault>>,
    /// Counts the changes of secrets.
    secrets: watch::Receiver<u64>,
    /// Which versions of secrets are in use.
    versions: Versions,
    /// The keys in force.
    known: Known,
    /// Whether a file of keys is another than when it was read.
    has_changed: bool,
}

type Versions = BTreeMap<String, Vec<Given>>;
type Keys = Vec<Arc<VerifyingKey>>;
/// Keys by their issuer and where it has them from, so that what becomes of one of them is nothing to the others.
type Known = BTreeMap<(String, KeysFrom), Keys>;

/// Where an issuer has keys from, beside a URL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum KeysFrom {
    File(PathBuf),
    Secret(String),
}

/// Issuers with their keys, ready to be put in force.
pub(crate) struct ReadIssuers {
    sources: Vec<IssuerSource>,
    versions: Versions,
    known: Known,
    /// Some keys could not be read, and are those before.
    some_stayed: bool,
}

/// What becomes of keys that cannot be read.
#[derive(Clone, Copy)]
enum Unread<'a> {
    Refused,
    /// These are in force, and stay. A secret of them that is gone was removed: nothing is signed with it any more.
    Stay(&'a Known),
}

impl Tokens {
    /// Those that were read, and the one who keeps their keys up to date.
    pub(super) fn begin(
        read: ReadIssuers,
        users: Arc<Users>,
        vault: Arc<Mutex<Vault>>,
        secrets: watch::Receiver<u64>,
    ) -> (Self, IssuerOwner) {
        let ReadIssuers { sources, versions, known, .. } = read;
        let (issuers, owner) = Issuers::new(sources, OverHttp::default());
        (Self { issuers, users, vault, secrets, versions, known, has_changed: false }, owner)
    }

    /// What the gateway needs of them.
    pub(super) fn for_gateway(&self) -> (KeysOfIssuers, Arc<Users>) {
        (self.issuers.keys(), Arc::clone(&self.users))
    }

    /// The issuers of these settings.
    ///
    /// # Errors
    /// The secret or the file that cannot be used, and why.
    pub(super) async fn read(&self, settings: &Settings) -> Result<ReadIssuers, Unusable> {
        read(settings, &self.vault).await
    }

    /// These files hold something else, and some may be those of keys.
    pub(super) fn note_change(&mut self, settings: &Settings, changed: &BTreeSet<PathBuf>) {
        self.has_changed |= files(settings).any(|file| changed.contains(file));
    }

    /// The issuers of these settings, to be put in force; `None` where those before stay, since no file of theirs is another.
    ///
    /// # Errors
    /// The secret or the file that cannot be used, and why, where nothing may stay in its place.
    pub(super) async fn of(
        &self,
        settings: &Settings,
        broken: Broken,
    ) -> Result<Option<ReadIssuers>, Unusable> {
        let unread = match broken {
            Broken::Refuses => Unread::Refused,
            Broken::Stays if self.has_changed => Unread::Stay(&self.known),
            Broken::Stays => return Ok(None),
        };
        let files = read_files(settings).await?;
        assemble(settings, files, &*self.vault.lock().await, unread).map(Some)
    }

    /// Puts them in force, if they are others, and these tiers.
    pub(super) fn set(&mut self, read: Option<ReadIssuers>, tiers: &Tiers, now_ns: u64) {
        if let Some(read) = read {
            if self.has_changed && !read.some_stayed {
                tracing::info!("a file of keys has changed and was taken over");
            }
            // What cannot be read now is tried again the next time.
            self.has_changed &= read.some_stayed;
            self.put_in_force(read);
        }
        self.users.set_tiers(tiers, now_ns);
    }

    fn put_in_force(&mut self, read: ReadIssuers) {
        let ReadIssuers { sources, versions, known, .. } = read;
        self.issuers.set(sources);
        (self.versions, self.known) = (versions, known);
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
    pub(super) async fn renew_secrets(&mut self, settings: &Settings) {
        let now = versions(settings, &*self.vault.lock().await);
        if now == self.versions {
            return;
        }
        // No disk is asked: the files are as they were.
        let read = {
            let vault = self.vault.lock().await;
            assemble(settings, self.files_in_force(settings), &vault, Unread::Stay(&self.known))
        };
        match read {
            Ok(read) => {
                if !read.some_stayed {
                    tracing::info!("a changed secret of an issuer of tokens was taken over");
                }
                self.put_in_force(read);
            }
            Err(error) => tracing::error!("the secrets of issuers of tokens cannot be taken over: {error}"),
        }
    }

    fn files_in_force(&self, settings: &Settings) -> KeysOfFiles {
        let issuers = settings.gateway.authentication.jwt.iter().enumerate();
        let own = issuers.filter_map(|(place, issuer)| {
            let from = KeysFrom::File(file_of(issuer)?.0.clone());
            let known = self.known.get(&(issuer.issuer.clone(), from))?;
            Some((place, Ok(known.clone())))
        });
        own.collect()
    }
}

/// The issuers of these settings.
///
/// # Errors
/// The secret or the file that cannot be used, and why.
pub(super) async fn read(settings: &Settings, vault: &Mutex<Vault>) -> Result<ReadIssuers, Unusable> {
    let files = read_files(settings).await?;
    assemble(settings, files, &*vault.lock().await, Unread::Refused)
}

/// The same of the files alone, for a start that has made nothing yet.
pub(super) async fn try_files(settings: &Settings) -> Result<(), Unusable> {
    let mut unusable = Unusable::default();
    for keys in read_files(settings).await?.into_values() {
        unusable.note(keys);
    }
    unusable.or(())
}

/// The files of keys that the settings name, which are read again when they change.
pub(super) fn files(settings: &Settings) -> impl Iterator<Item = &PathBuf> {
    settings.gateway.authentication.jwt.iter().filter_map(|issuer| Some(file_of(issuer)?.0))
}

/// The file that an issuer has its keys from, and the line that names it.
fn file_of(issuer: &IssuerSettings) -> Option<(&PathBuf, usize)> {
    match issuer.jwks.as_ref()? {
        Placed { value: JwksSource::File(path), line } => Some((path, *line)),
        Placed { value: JwksSource::Url(_), .. } => None,
    }
}

/// By the place of their issuer.
type KeysOfFiles = BTreeMap<usize, Result<Keys, Unusable>>;

async fn read_files(settings: &Settings) -> Result<KeysOfFiles, Unusable> {
    let issuers = settings.gateway.authentication.jwt.clone();
    let reading = tokio::task::spawn_blocking(move || read_now(&issuers));
    let read = patiently(reading, |seconds| {
        tracing::error!(
            "the files of gateway.authentication.jwt do not answer for {seconds} seconds; they are waited for"
        );
    });
    read.await.map_err(|error| Unusable::one(0, format!("the keys of issuers could not be read: {error}")))
}

fn read_now(issuers: &[IssuerSettings]) -> KeysOfFiles {
    let named = issuers.iter().enumerate().filter_map(|(place, issuer)| {
        let (path, line) = file_of(issuer)?;
        let keys = read_keys(path, &algorithms(issuer));
        Some((place, keys.map_err(|reason| unusable(line, place, "jwks", &reason))))
    });
    named.collect()
}

/// The issuers with what their files hold, and with their secrets.
fn assemble(
    settings: &Settings,
    mut files: KeysOfFiles,
    vault: &Vault,
    unread: Unread<'_>,
) -> Result<ReadIssuers, Unusable> {
    let (mut sources, mut known, mut some_stayed) = (Vec::new(), Known::new(), false);
    let mut wrong = Unusable::default();
    for (place, issuer) in settings.gateway.authentication.jwt.iter().enumerate() {
        let of_file = files.remove(&place).zip(file_of(issuer));
        let of_file = of_file.map(|(read, (path, _))| (KeysFrom::File(path.clone()), read));
        let of_secret = issuer.secret.as_ref().map(|secret| {
            let Placed { value: name, line } = secret;
            let before = match unread {
                Unread::Refused => None,
                Unread::Stay(known) => known.get(&(issuer.issuer.clone(), KeysFrom::Secret(name.clone()))),
            };
            let read = secret_of(vault, name, issuer, before);
            (KeysFrom::Secret(name.clone()), read.map_err(|reason| unusable(*line, place, "secret", &reason)))
        });
        let mut keys = Vec::new();
        for (from, read) in of_file.into_iter().chain(of_secret) {
            let from = (issuer.issuer.clone(), from);
            let own = match (read, unread) {
                (Ok(read), _) => read,
                (Err(refused), Unread::Refused) => {
                    wrong.note::<()>(Err(refused));
                    continue;
                }
                (Err(refused), Unread::Stay(before)) => {
                    some_stayed = true;
                    say_what_stays(&from.1, &refused);
                    before.get(&from).cloned().unwrap_or_default()
                }
            };
            keys.extend(own.iter().cloned());
            known.insert(from, own);
        }
        let url = issuer.jwks.as_ref().and_then(|jwks| match &jwks.value {
            JwksSource::Url(url) => Some(url.clone()),
            JwksSource::File(_) => None,
        });
        sources.push(IssuerSource { rules: Arc::new(rules(issuer, settings)), keys, url });
    }
    wrong.or(ReadIssuers { sources, versions: versions(settings, vault), known, some_stayed })
}

fn say_what_stays(from: &KeysFrom, refused: &Unusable) {
    match from {
        KeysFrom::File(_) => tracing::error!(
            "a file of keys has changed and cannot be taken over: {refused}; the keys before stay in force"
        ),
        KeysFrom::Secret(_) => tracing::error!(
            "a secret of an issuer of tokens has changed and cannot be taken over: {refused}; the one before stays in force"
        ),
    }
}

/// The keys of a secret. Where there were some `before` and it is gone, there are none.
fn secret_of(
    vault: &Vault,
    name: &str,
    issuer: &IssuerSettings,
    before: Option<&Keys>,
) -> Result<Keys, String> {
    let found = secret_keys(vault, name)?;
    match before {
        None if found.is_empty() => Err(format!(
            "there is no secret {name:?}; start without this issuer, run `serviceos secrets set {name}`, and add it then"
        )),
        Some(before) if found.is_empty() && !before.is_empty() => {
            tracing::error!(
                "the secret {name} of the issuer {} is gone: what is signed with it is refused",
                issuer.issuer
            );
            Ok(found)
        }
        _ => Ok(found),
    }
}

fn unusable(line: usize, place: usize, key: &str, reason: &str) -> Unusable {
    Unusable::one(line, format!("gateway.authentication.jwt[{place}].{key}: {reason}"))
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
