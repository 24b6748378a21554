//! How the calls of a service are spread over its replicas and its versions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Checker;
use super::pattern::parameters;
use crate::nearest::{nearest, one_of};
use crate::raw::{Entries, RawLoadBalancing, RawTraffic};
use crate::report::Origin;
use crate::scalar::{Field, PolicyWord, Spanned, Text, Whole, quoted};
use crate::settings::{BalancingPolicy, CallerName, HashOn, LoadBalancing, RouteSettings, Traffic};

/// The longest time in which the share of a new replica grows.
const MAX_SLOW_START: Duration = Duration::from_secs(3_600);
/// The largest share of a version.
const MAX_SHARE: i128 = 1_000;
/// The most callers that get a version of their own.
const MAX_CALLERS: usize = 1_000;
/// The longest name of one, in bytes.
const MAX_CALLER_BYTES: usize = 256;
/// The longest text that a version is known by: a label, a hyphen and 8 digits.
const MAX_ID_BYTES: usize = 49;

/// Where the versions of a service come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Changes {
    /// The file says all that there are.
    InTheFile,
    /// One takes the place of the other while both run; or nobody knows.
    ByRollout,
}

fn caller_name(text: &str) -> Option<CallerName> {
    let (kind, name) = text.split_once(':')?;
    let name = Some(name).filter(|name| (1..=MAX_CALLER_BYTES).contains(&name.len()))?.to_owned();
    match kind {
        "subject" => Some(CallerName::Subject(name)),
        "tenant" => Some(CallerName::Tenant(name)),
        _ => None,
    }
}

impl Checker {
    /// `routes` is what a path parameter must stand in; `None` when they are not all known.
    pub(super) fn load_balancing(
        &mut self,
        key: &str,
        raw: RawLoadBalancing,
        routes: Option<&[RouteSettings]>,
    ) -> LoadBalancing {
        let policy_origin = raw.policy.origin;
        let policy = self.value(&format!("{key}.policy"), raw.policy);
        let hash_on = raw.hash_on.map(|hash_on| {
            let origin = hash_on.origin;
            (origin, self.hash_on(&format!("{key}.hashOn"), hash_on, routes))
        });
        match (policy, &hash_on) {
            (Some(PolicyWord::Maglev), None) => self.wrong(
                policy_origin,
                format!("{key}.policy: maglev needs to know what it hashes"),
                Some("write `hashOn: caller` beside it, or `hashOn: \"header:x-user\"`".to_owned()),
            ),
            (Some(PolicyWord::Maglev) | None, _) | (_, None) => {}
            (Some(_), Some((origin, _))) => self.wrong(
                *origin,
                format!("{key}.hashOn: only the policy maglev hashes anything"),
                Some("leave it out, or write `policy: maglev`".to_owned()),
            ),
        }
        let hash_on = hash_on.and_then(|(_, hash_on)| hash_on).unwrap_or(HashOn::Caller);
        let slow_start = Duration::ZERO..=MAX_SLOW_START;
        LoadBalancing {
            policy: match policy {
                Some(PolicyWord::PeakEwma) | None => BalancingPolicy::PeakEwma,
                Some(PolicyWord::RoundRobin) => BalancingPolicy::RoundRobin,
                Some(PolicyWord::LeastRequest) => BalancingPolicy::LeastRequest,
                Some(PolicyWord::Maglev) => BalancingPolicy::Maglev(hash_on),
                Some(PolicyWord::Random) => BalancingPolicy::Random,
            },
            slow_start: self.duration_within(&format!("{key}.slowStart"), raw.slow_start, slow_start),
            panic_threshold: self.percent(&format!("{key}.panicThreshold"), raw.panic_threshold),
        }
    }

    fn hash_on(
        &mut self,
        key: &str,
        written: Field<HashOn>,
        routes: Option<&[RouteSettings]>,
    ) -> Option<HashOn> {
        let origin = written.origin;
        let hash_on = self.value(key, written)?;
        if let (HashOn::PathParameter(name), Some(routes)) = (&hash_on, routes) {
            let known: BTreeSet<&str> = routes.iter().flat_map(|route| parameters(&route.path)).collect();
            if !known.contains(name.as_str()) {
                let message = format!("{key}: no route of the service has the parameter {}", quoted(name));
                self.wrong(origin, message, meant(name, &known));
            }
        }
        Some(hash_on)
    }

    /// `versions` is what the service has; `None` when that is not known.
    pub(super) fn traffic(
        &mut self,
        key: &str,
        raw: RawTraffic,
        versions: Option<&BTreeSet<String>>,
        changes: Changes,
    ) -> Traffic {
        if let (None, Some(sticky), Changes::InTheFile) = (&raw.weights, &raw.sticky, changes) {
            self.wrong(
                sticky.origin,
                format!("{key}.sticky: without weights no version is chosen that a caller could be kept at"),
                Some(
                    "write `weights` beside it; `loadBalancing: {policy: maglev, hashOn: caller}` keeps a caller at a replica"
                        .to_owned(),
                ),
            );
        }
        let weights_key = format!("{key}.weights");
        let weights = raw.weights.map(|weights| self.weights(&weights_key, weights, versions));
        Traffic {
            weights: weights.unwrap_or_default(),
            header: self.header_name(&format!("{key}.header"), &raw.header).unwrap_or_default(),
            sticky: raw.sticky.and_then(|sticky| self.value(&format!("{key}.sticky"), sticky)),
            callers: match raw.callers {
                Some(callers) => self.callers(&format!("{key}.callers"), callers, versions, changes),
                None => BTreeMap::new(),
            },
        }
    }

    /// Of replicas that are rolled out, the version before and the next one may be named as well.
    fn callers(
        &mut self,
        key: &str,
        raw: Spanned<Entries<Text>>,
        versions: Option<&BTreeSet<String>>,
        changes: Changes,
    ) -> BTreeMap<CallerName, String> {
        if raw.value.0.len() > MAX_CALLERS {
            let message =
                format!("{key}: expected at most {MAX_CALLERS} callers, found {}", raw.value.0.len());
            self.wrong(raw.referenced.into(), message, None);
        }
        let mut callers = BTreeMap::new();
        for (name, version) in raw.value.0.into_iter().take(MAX_CALLERS) {
            let origin = version.origin;
            let version = self.label(&format!("{key}.{}", name.value), version, MAX_ID_BYTES, "1.1.0");
            let known = versions.filter(|_| changes == Changes::InTheFile);
            if let Some(versions) = known.filter(|versions| !versions.contains(&version)) {
                let known = versions.iter().map(String::as_str).collect();
                let message = format!("{key}: the service has no version {}", quoted(&version));
                self.wrong(origin, message, meant(&version, &known));
            }
            let Some(caller) = caller_name(&name.value) else {
                let message =
                    format!("{key}: expected `subject:NAME` or `tenant:NAME`, found {}", quoted(&name.value));
                let help = "a subject is the id of an API key as in `keys list`, the subject of a token, or the name in a certificate";
                self.wrong(name.origin, message, Some(help.to_owned()));
                continue;
            };
            callers.insert(caller, version);
        }
        callers
    }

    fn weights(
        &mut self,
        key: &str,
        raw: Spanned<Entries<Field<Whole>>>,
        versions: Option<&BTreeSet<String>>,
    ) -> BTreeMap<String, u32> {
        let origin = Origin::from(raw.referenced);
        let mut weights = BTreeMap::new();
        for (version, weight) in raw.value.0 {
            let weight = self.whole(&format!("{key}.{}", version.value), weight, 0..=MAX_SHARE);
            if let Some(versions) = versions.filter(|versions| !versions.contains(&version.value)) {
                let known = versions.iter().map(String::as_str).collect();
                let message = format!("{key}: the service has no version {}", quoted(&version.value));
                self.wrong(version.origin, message, meant(&version.value, &known));
            }
            if weights.insert(version.value.clone(), weight).is_some() {
                let message = format!("{key}: the version {} is written twice", quoted(&version.value));
                self.wrong(version.origin, message, Some("keep one of the two".to_owned()));
            }
        }
        for version in versions.into_iter().flatten().filter(|version| !weights.contains_key(*version)) {
            let message = format!("{key}: the version {} has no weight", quoted(version));
            let help = format!("write `\"{version}\": 0` if no calls are to go there");
            self.wrong(origin, message, Some(help));
        }
        if !weights.is_empty() && weights.values().all(|weight| *weight == 0) {
            let help = Some("give one version a weight above 0".to_owned());
            self.wrong(origin, format!("{key}: with these weights no calls go anywhere"), help);
        }
        weights
    }
}

/// The nearest of those that there are, or all of them.
fn meant(word: &str, known: &BTreeSet<&str>) -> Option<String> {
    match nearest(word, known.iter().copied()) {
        Some(near) => Some(format!("did you mean `{near}`?")),
        None if known.is_empty() => None,
        None => Some(format!("write {}", one_of(&known.iter().copied().collect::<Vec<_>>()))),
    }
}
