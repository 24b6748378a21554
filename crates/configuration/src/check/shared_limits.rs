//! The Redis in which several gateways count together.

use std::path::Path;

use super::Checker;
use super::endpoints::{host_of, port_of, split_port};
use crate::raw::RawStore;
use crate::report::Origin;
use crate::scalar::{Field, RedisUrl, Spanned, Text, WordOr, quoted};
use crate::settings::{ClientTlsFiles, Line, OnSharedFailure, SharedLimitSettings};

const KEY: &str = "gateway.rateLimits.shared";
const PORT: u16 = 6379;
const URL_HELP: &str =
    "write redis://10.0.0.5:6379, or rediss:// for TLS; a database may follow, as in redis://10.0.0.5/1";

impl Checker {
    pub(super) fn shared_limits(
        &mut self,
        written: Option<Spanned<WordOr<RedisUrl, RawStore>>>,
        on_failure: Field<OnSharedFailure>,
        base_dir: &Path,
    ) -> Option<SharedLimitSettings> {
        let failure_key = "gateway.rateLimits.onSharedFailure";
        let failure_origin = on_failure.origin;
        let on_failure = self.value(failure_key, on_failure).unwrap_or(OnSharedFailure::Open);
        let Some(written) = written else {
            if failure_origin != Origin::Default {
                let message = format!("{failure_key}: nothing is shared here");
                let help = "write `shared: redis://10.0.0.5:6379` as well, or leave it out";
                self.wrong(failure_origin, message, Some(help.to_owned()));
            }
            return None;
        };
        let origin = Origin::from(written.referenced);
        let (url_key, raw) = match written.value {
            WordOr::Word(value) => {
                let RedisUrl(value) = self.value(KEY, Field { value, origin })?;
                (KEY.to_owned(), RawStore { url: Some(Text { value, origin }), ..RawStore::default() })
            }
            WordOr::Larger(raw) => (format!("{KEY}.url"), raw),
        };
        let RawStore { url, tls, user, password_file } = raw;
        let Some(url) = url else {
            let message = format!("{KEY}.url: what is shared needs a URL");
            self.wrong(origin, message, Some(URL_HELP.to_owned()));
            return None;
        };
        let at = match at(&url.value) {
            Ok(at) => at,
            Err(reason) => {
                let message = format!("{url_key}: {reason}, found {}", quoted(&url.value));
                self.wrong(url.origin, message, Some(URL_HELP.to_owned()));
                At { is_tls: tls.is_some(), host: String::new(), port: PORT, database: 0 }
            }
        };
        let tls = match tls {
            Some(tls) if !at.is_tls => {
                let help = "write rediss:// in the URL, or leave `tls` out";
                let message = format!("{KEY}.tls: the URL begins with redis://, which is without TLS");
                self.wrong(tls.referenced.into(), message, Some(help.to_owned()));
                None
            }
            Some(tls) => Some(self.client_tls_files(KEY, tls, base_dir)),
            None => at.is_tls.then(ClientTlsFiles::default),
        };
        if let Some(user) = &user {
            if password_file.is_none() {
                let help = "write `passwordFile: redis.password` as well";
                self.wrong(user.origin, format!("{KEY}.user: a user has a password"), Some(help.to_owned()));
            } else if user.value.is_empty() {
                self.wrong(user.origin, format!("{KEY}.user: expected a name, found nothing"), None);
            }
        }
        let password_file =
            password_file.map(|file| self.path(base_dir, &file, &format!("{KEY}.passwordFile")));
        let At { host, port, database, .. } = at;
        let user = user.map(|user| user.value);
        let line = Line(origin.line());
        Some(SharedLimitSettings { line, host, port, database, tls, user, password_file, on_failure })
    }
}

/// Where a URL leads.
struct At {
    is_tls: bool,
    host: String,
    port: u16,
    database: u32,
}

fn at(url: &str) -> Result<At, &'static str> {
    let (is_tls, rest) = match (url.strip_prefix("redis://"), url.strip_prefix("rediss://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        (None, None) => return Err("the URL of Redis begins with redis:// or rediss://"),
    };
    if rest.contains('@') {
        return Err("the URL of Redis has no user and no password; they stand in `user` and `passwordFile`");
    }
    if rest.contains(['?', '#']) {
        return Err("the URL of Redis has no query and no fragment");
    }
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let database = match database {
        "" => 0,
        number if number.bytes().all(|byte| byte.is_ascii_digit()) => {
            let number = number.parse().ok().filter(|number| *number <= MAX_DATABASE);
            number.ok_or("the database of Redis is a number of at most 65535")?
        }
        _ => return Err("after the host of Redis stands the number of a database, or nothing"),
    };
    let (host, port) = split_port(authority);
    let host = host_of(host).ok_or("the URL of Redis has one IP address or one DNS name")?;
    let port = match port {
        Some(port) => port_of(port).ok_or("the port of Redis is from 1 to 65535")?,
        None => PORT,
    };
    Ok(At { is_tls, host, port, database })
}

/// More than any Redis is set up with.
const MAX_DATABASE: u32 = 65_535;
