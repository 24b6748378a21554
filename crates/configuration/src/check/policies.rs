//! How the replicas of a service are checked, and what failures lead to.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use super::Checker;
use crate::raw::{RawCircuit, RawHealthCheck, RawOutlier, RawRetry};
use crate::report::Origin;
use crate::scalar::{CheckWord, RetryCause, Text, quoted};
use crate::settings::{Circuit, HealthCheck, Outlier, Probe, Protocol, Retry, RetryOn};

/// The most additional tries of a call.
const MAX_ATTEMPTS: i128 = 5;
/// Results in a row that change a replica's health, or take it out.
const MAX_THRESHOLD: i128 = 1_000;
/// The longest path of a health check, in bytes.
const MAX_PATH_BYTES: usize = 512;
/// The most of anything that goes to a service at the same time.
const MAX_CIRCUIT: i128 = 1_000_000;

impl Checker {
    /// `protocol` is what the service speaks, if that is known.
    pub(super) fn health_check(
        &mut self,
        key: &str,
        raw: RawHealthCheck,
        protocol: Option<Protocol>,
    ) -> HealthCheck {
        let by_default = if protocol == Some(Protocol::Grpc) { CheckWord::Grpc } else { CheckWord::Http };
        let word = match raw.protocol {
            Some(field) => {
                let origin = field.origin;
                let word = self.value(&format!("{key}.protocol"), field);
                if word == Some(CheckWord::Grpc) && protocol == Some(Protocol::Http1) {
                    let message =
                        format!("{key}.protocol: a service that speaks http1 cannot be asked over grpc");
                    let help = "write `protocol: http`, or `protocol: grpc` for the service itself";
                    self.wrong(origin, message, Some(help.to_owned()));
                }
                word
            }
            None => Some(by_default),
        };
        let written = raw.path.origin != Origin::Default;
        let path_origin = raw.path.origin;
        let path = self.check_path(&format!("{key}.path"), raw.path);
        let probe = match word {
            Some(CheckWord::Http) | None => Probe::Http { path },
            Some(CheckWord::Tcp) => Probe::Tcp,
            Some(CheckWord::Grpc) => Probe::Grpc,
        };
        if written && !matches!(probe, Probe::Http { .. }) {
            let message = format!("{key}.path: only a check over http asks for a path");
            self.wrong(
                path_origin,
                message,
                Some("leave it out, or write `protocol: http` beside it".to_owned()),
            );
        }
        let [timeout, interval] = self.ordered(key, ("timeout", raw.timeout), ("interval", raw.interval));
        let mut threshold =
            |name: &str, field| self.whole(&format!("{key}.{name}"), field, 1..=MAX_THRESHOLD);
        HealthCheck {
            probe,
            interval,
            timeout,
            healthy_threshold: threshold("healthyThreshold", raw.healthy_threshold),
            unhealthy_threshold: threshold("unhealthyThreshold", raw.unhealthy_threshold),
        }
    }

    fn check_path(&mut self, key: &str, path: Text) -> String {
        let visible = path.value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if !path.value.starts_with('/') || !visible || path.value.len() > MAX_PATH_BYTES {
            let message = format!("{key}: expected a path that begins with /, found {}", quoted(&path.value));
            self.wrong(path.origin, message, None);
        }
        path.value
    }

    pub(super) fn retry(&mut self, key: &str, raw: RawRetry) -> Retry {
        let causes = raw.on.into_iter().filter_map(|cause| self.value(&format!("{key}.on"), cause));
        let causes: Vec<RetryCause> = causes.collect();
        let status = |cause: &RetryCause| match cause {
            RetryCause::Status(status) => Some(*status),
            RetryCause::Connect | RetryCause::Reset => None,
        };
        let statuses: BTreeSet<u16> = causes.iter().filter_map(status).collect();
        Retry {
            attempts: self.whole(&format!("{key}.attempts"), raw.attempts, 0..=MAX_ATTEMPTS),
            per_try_timeout: self.duration(&format!("{key}.perTryTimeout"), raw.per_try_timeout),
            on: RetryOn {
                connect: causes.contains(&RetryCause::Connect),
                reset: causes.contains(&RetryCause::Reset),
                statuses: statuses.into_iter().collect(),
            },
            budget: self.percent(&format!("{key}.budget"), raw.budget),
        }
    }

    pub(super) fn circuit(&mut self, key: &str, raw: RawCircuit) -> Circuit {
        let mut limit = |name: &str, field| self.whole(&format!("{key}.{name}"), field, 1..=MAX_CIRCUIT);
        Circuit {
            connections: limit("connections", raw.connections),
            pending: limit("pending", raw.pending),
            requests: limit("requests", raw.requests),
        }
    }

    pub(super) fn outlier(&mut self, key: &str, raw: RawOutlier) -> Outlier {
        let failures =
            self.whole(&format!("{key}.consecutiveFailures"), raw.consecutive_failures, 0..=MAX_THRESHOLD);
        Outlier {
            consecutive_failures: NonZeroU32::new(failures),
            ejection: self.duration(&format!("{key}.ejection"), raw.ejection),
            max_ejected: self.percent(&format!("{key}.maxEjected"), raw.max_ejected),
        }
    }
}
