//! The store: a file of this machine's own, or etcd.

use std::collections::BTreeSet;
use std::path::Path;

use crate::scalar::Spanned;

use super::Checker;
use super::endpoints::{host_of, port_of, split_port};
use crate::raw::{RawStore, RawStoreTls};
use crate::report::Origin;
use crate::scalar::{Field, StoreWord, Text, WordOr, quoted};
use crate::settings::{CertificateFiles, ClientTlsFiles, EtcdLogin, EtcdStore, Line, StoreSettings};

/// The most end points; etcd itself has seven members at most.
const MAX_END_POINTS: usize = 16;
const ETCD_PORT: u16 = 2379;
const URL_HELP: &str = "write etcd://10.0.0.5:2379,10.0.0.6:2379, or etcds:// for TLS";

impl Checker {
    pub(super) fn store(
        &mut self,
        written: Option<Spanned<WordOr<StoreWord, RawStore>>>,
        base_dir: &Path,
    ) -> StoreSettings {
        let Some(written) = written else { return StoreSettings::Embedded };
        let origin = Origin::from(written.referenced);
        match written.value {
            WordOr::Word(value) => match self.value("store", Field { value, origin }) {
                Some(StoreWord::Url(value)) => {
                    let url = Some(Text { value, origin });
                    self.etcd("store", origin, RawStore { url, ..RawStore::default() }, base_dir)
                }
                Some(StoreWord::Embedded) | None => StoreSettings::Embedded,
            },
            WordOr::Larger(raw) => self.etcd("store.url", origin, raw, base_dir),
        }
    }

    fn etcd(&mut self, url_key: &str, origin: Origin, raw: RawStore, base_dir: &Path) -> StoreSettings {
        let Some(url) = raw.url else {
            let message = "store.url: a store that is a mapping needs a URL".to_owned();
            self.wrong(origin, message, Some(URL_HELP.to_owned()));
            return StoreSettings::Embedded;
        };
        let (is_tls, end_points) = match end_points(&url.value) {
            Ok(read) => read,
            Err(reason) => {
                let found = quoted(&url.value);
                self.wrong(
                    url.origin,
                    format!("{url_key}: {reason}, found {found}"),
                    Some(URL_HELP.to_owned()),
                );
                (raw.tls.is_some(), Vec::new())
            }
        };
        let login = self.login(origin, raw.user, raw.password_file, base_dir);
        let tls = match raw.tls {
            Some(tls) if !is_tls => {
                let help = "write etcds:// in the URL, or leave `tls` out";
                let message = "store.tls: the URL begins with etcd://, which is without TLS".to_owned();
                self.wrong(tls.referenced.into(), message, Some(help.to_owned()));
                None
            }
            Some(tls) => Some(self.client_tls_files("store", tls, base_dir)),
            None => is_tls.then(ClientTlsFiles::default),
        };
        StoreSettings::Etcd(EtcdStore { line: Line(origin.line()), end_points, tls, login })
    }

    /// The files under `tls` of what is reached as a client.
    pub(super) fn client_tls_files(
        &mut self,
        parent: &str,
        tls: Spanned<RawStoreTls>,
        base_dir: &Path,
    ) -> ClientTlsFiles {
        let key_of = |name: &str| format!("{parent}.tls.{name}");
        let RawStoreTls { ca, certificate, key } = tls.value;
        let own = match (certificate, key) {
            (Some(certificate), Some(key)) => Some(CertificateFiles {
                certificate: self.path(base_dir, &certificate, &key_of("certificate")),
                key: self.path(base_dir, &key, &key_of("key")),
            }),
            (None, None) => None,
            _ => {
                let help = "write both, `{certificate: client.pem, key: client.key}`, or neither";
                let message = format!("{parent}.tls: a certificate and its key belong together");
                self.wrong(tls.referenced.into(), message, Some(help.to_owned()));
                None
            }
        };
        ClientTlsFiles { ca: ca.map(|ca| self.path(base_dir, &ca, &key_of("ca"))), own }
    }

    fn login(
        &mut self,
        origin: Origin,
        user: Option<Text>,
        password_file: Option<Text>,
        base_dir: &Path,
    ) -> Option<EtcdLogin> {
        match (user, password_file) {
            (Some(user), Some(file)) => {
                if user.value.is_empty() {
                    self.wrong(user.origin, "store.user: expected a name, found nothing".to_owned(), None);
                }
                let password_file = self.path(base_dir, &file, "store.passwordFile");
                Some(EtcdLogin { user: user.value, password_file })
            }
            (None, None) => None,
            _ => {
                let help = "write both, `user: serviceos` and `passwordFile: etcd.password`, or neither";
                let message = "store: a user and the file with its password belong together".to_owned();
                self.wrong(origin, message, Some(help.to_owned()));
                None
            }
        }
    }
}

/// Whether the URL is one of TLS, and where it leads.
fn end_points(url: &str) -> Result<(bool, Vec<(String, u16)>), String> {
    let (is_tls, rest) = match (url.strip_prefix("etcd://"), url.strip_prefix("etcds://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        (None, None) => return Err("the URL of a store begins with etcd:// or etcds://".to_owned()),
    };
    if rest.contains('@') {
        return Err(
            "the URL of a store has no user and no password; they stand in `user` and `passwordFile`"
                .to_owned(),
        );
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#']) {
        return Err("the URL of a store has no path, no query and no fragment".to_owned());
    }
    let mut end_points = Vec::new();
    for authority in rest.split(',') {
        let (host, port) = split_port(authority);
        let host =
            host_of(host).ok_or("the URL of a store has IP addresses or DNS names, with commas between")?;
        let port = match port {
            Some(port) => port_of(port).ok_or("the port of a store is from 1 to 65535")?,
            None => ETCD_PORT,
        };
        end_points.push((host, port));
    }
    if end_points.len() > MAX_END_POINTS {
        return Err(format!("the URL of a store has at most {MAX_END_POINTS} hosts"));
    }
    if end_points.iter().collect::<BTreeSet<_>>().len() < end_points.len() {
        return Err("the URL of a store names each host once".to_owned());
    }
    Ok((is_tls, end_points))
}
