//! The store that the settings name: the file in the data directory, or etcd with what its files hold.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use configuration::{ClientTlsFiles, EtcdLogin, EtcdStore, Settings, StoreSettings};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use store::{Availability, EndPoint, EtcdSettings, EtcdTls, Login, Store, StoreError};
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use super::data_dir::DataDir;
use super::files::patiently;
use super::unusable::Unusable;

/// In etcd, what the mesh is made of stands under this, beside what services keep under `state/`.
const MESH: &[u8] = b"mesh/";
/// The longest password, in bytes.
const MAX_PASSWORD_BYTES: u64 = 4096;

/// The name of the kind of store.
pub(super) fn kind(settings: &Settings) -> &'static str {
    match settings.store {
        StoreSettings::Embedded => "embedded",
        StoreSettings::Etcd(_) => "etcd",
    }
}

/// What is kept, by whom it is for.
#[derive(Clone)]
pub(super) struct Stores {
    /// What the mesh is made of. A start goes by it.
    pub(super) mesh: Store,
    /// What services keep, which may be gigabytes. Nothing here needs it at a start, so etcd's has no mirror.
    pub(super) services: Store,
}

/// How long its file may be another process's that is about to let go of it.
pub(super) const IN_USE: Duration = Duration::from_secs(5);
/// How soon it is tried again.
const TRIED_AGAIN: Duration = Duration::from_millis(5);

/// Opens it. Where etcd does not answer, its mirror in the data directory stands for it. Where another process has its file, that is
/// waited for so long.
///
/// # Errors
/// The file that cannot be used, and why; etcd is away, and there is no mirror.
pub(super) async fn open(data_dir: &DataDir, settings: &Settings, waits: Duration) -> Result<Stores> {
    match &settings.store {
        StoreSettings::Embedded => {
            let (path, began) = (data_dir.store()?, Instant::now());
            let one = loop {
                let path = path.clone();
                match tokio::task::spawn_blocking(move || Store::open(&path)).await? {
                    Err(StoreError::InUse(_)) if began.elapsed() < waits => sleep(TRIED_AGAIN).await,
                    opened => break opened?,
                }
            };
            Ok(Stores { mesh: one.clone(), services: one })
        }
        StoreSettings::Etcd(etcd) => {
            let (etcd, all) = (etcd.clone(), namespace(settings));
            let of_mesh = [&all[..], MESH].concat();
            let (of_mesh, all) =
                reading(move || anyhow::Ok((read(etcd.clone(), of_mesh)?, read(etcd, all)?))).await?;
            let mesh = Store::etcd_mirrored(of_mesh, &data_dir.mirror()).await?;
            if let Availability::Away { reason, stale: Some(at) } = &*mesh.availability().borrow() {
                let at = jiff::Timestamp::try_from(*at).unwrap_or_default();
                tracing::warn!(
                    reason,
                    "etcd does not answer, so this start goes by its mirror, which is of {at}; every change is refused until it does"
                );
            }
            Ok(Stores { mesh, services: Store::etcd(all)? })
        }
    }
}

/// Whether the files that the settings name hold what they should.
///
/// # Errors
/// The file that does not, and why.
pub(super) async fn try_files(settings: &Settings) -> Result<(), Unusable> {
    let StoreSettings::Etcd(etcd) = &settings.store else { return Ok(()) };
    let (etcd, all, line) = (etcd.clone(), namespace(settings), etcd.line.0);
    let read = reading(move || read(etcd, all)).await;
    read.map(drop).map_err(|error| Unusable::one(line, format!("store: {error:#}")))
}

/// Reads files, on a thread that may wait for the disk.
async fn reading<T: Send + 'static>(read: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let reading = tokio::task::spawn_blocking(read);
    let read = patiently(reading, |seconds| {
        tracing::error!("the files of `store` do not answer for {seconds} seconds; they are waited for");
    });
    read.await?
}

/// What stands in etcd is told apart by mesh, so that several can share one.
fn namespace(settings: &Settings) -> Vec<u8> {
    format!("/serviceos/{}/", settings.trust_domain).into_bytes()
}

fn read(etcd: EtcdStore, namespace: Vec<u8>) -> Result<EtcdSettings> {
    let EtcdStore { end_points, tls, login, .. } = etcd;
    let end_point = |(host, port): (String, u16)| {
        EndPoint::new(host.clone(), port).ok_or_else(|| anyhow!("{host} cannot be the host of etcd"))
    };
    Ok(EtcdSettings {
        end_points: end_points.into_iter().map(end_point).collect::<Result<_>>()?,
        namespace,
        tls: tls.as_ref().map(read_tls).transpose()?,
        login: login.map(read_login).transpose()?,
        random: fastrand::Rng::new(),
    })
}

fn read_tls(files: &ClientTlsFiles) -> Result<EtcdTls> {
    let (roots, client) = client_tls(files, "etcd in `store.tls.ca`")?;
    Ok(EtcdTls { roots, client })
}

/// A certificate with its chain, and its key.
type OwnCertificate = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Whom to believe, and what to show, of the files of somebody who is reached as a client; `whose` is for errors.
pub(super) fn client_tls(
    files: &ClientTlsFiles,
    whose: &str,
) -> Result<(RootCertStore, Option<OwnCertificate>)> {
    let mut roots = RootCertStore::empty();
    match &files.ca {
        Some(ca) => {
            for certificate in certificates(ca)? {
                roots.add(certificate).with_context(|| in_file(ca))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                bail!("this machine trusts no certificate authority; name that of {whose}");
            }
        }
    }
    let own = files.own.as_ref().map(|own| -> Result<_> {
        let key = PrivateKeyDer::from_pem_file(&own.key).with_context(|| in_file(&own.key))?;
        Ok((certificates(&own.certificate)?, key))
    });
    Ok((roots, own.transpose()?))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    let certificates = read().with_context(|| in_file(path))?;
    if certificates.is_empty() {
        bail!("{} holds no certificate", path.display());
    }
    Ok(certificates)
}

fn read_login(login: EtcdLogin) -> Result<Login> {
    Ok(Login { password: password(&login.password_file)?, user: login.user })
}

/// The password that a file holds.
pub(super) fn password(path: &Path) -> Result<Zeroizing<String>> {
    let length = std::fs::metadata(path).with_context(|| in_file(path))?.len();
    if length > MAX_PASSWORD_BYTES {
        bail!("{} is no password: it has more than {MAX_PASSWORD_BYTES} bytes", path.display());
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).with_context(|| in_file(path))?);
    let password = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
    if password.is_empty() {
        bail!("{} holds no password", path.display());
    }
    Ok(password)
}

fn in_file(path: &Path) -> String {
    format!("{} cannot be used", path.display())
}
