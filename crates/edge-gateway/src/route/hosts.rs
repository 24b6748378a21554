//! The routes by the host that they are for. However many hosts there are, a request costs one look-up, and one more for each
//! label of its host where there are routes beneath a host.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use configuration::HostPattern;

use super::Route;

/// The routes under each pattern of a path.
pub(super) type Patterns = matchit::Router<Numbers>;

/// The numbers of some routes, those that want most of a request first.
pub(super) enum Numbers {
    /// As under most patterns. It stands in the table itself, so that no other memory is read for it.
    One(usize),
    Several(Vec<usize>),
}

impl Numbers {
    pub(super) fn as_slice(&self) -> &[usize] {
        match self {
            Self::One(number) => std::slice::from_ref(number),
            Self::Several(numbers) => numbers,
        }
    }
}

/// The patterns by host.
#[derive(Default)]
pub(super) struct Hosts {
    exact: HashMap<String, Patterns>,
    beneath: HashMap<String, Patterns>,
    any: Patterns,
}

impl Hosts {
    /// # Errors
    /// The pattern that could not be added.
    pub(super) fn new(routes: &[Route]) -> Result<Self, String> {
        let mut by_host: BTreeMap<Option<&HostPattern>, BTreeMap<&str, Vec<usize>>> = BTreeMap::new();
        for route in routes {
            let of_host = by_host.entry(route.host.as_ref()).or_default();
            of_host.entry(&route.template).or_default().push(route.number);
        }
        let mut hosts = Self::default();
        for (host, by_pattern) in by_host {
            let patterns = match host {
                Some(HostPattern::Exact(name)) => hosts.exact.entry(name.clone()).or_default(),
                Some(HostPattern::Beneath(name)) => hosts.beneath.entry(name.clone()).or_default(),
                None => &mut hosts.any,
            };
            for (pattern, mut numbers) in by_pattern {
                numbers.sort_by_key(|number| std::cmp::Reverse(routes[*number].headers.len()));
                let numbers =
                    if let [one] = *numbers { Numbers::One(one) } else { Numbers::Several(numbers) };
                patterns.insert(pattern, numbers).map_err(|error| format!("{pattern}: {error}"))?;
            }
        }
        Ok(hosts)
    }

    /// The patterns for a host as the client wrote it: those of that host first, then those beneath a host, the longest
    /// first, then those of any host.
    pub(super) fn of(&self, host: &[u8]) -> impl Iterator<Item = &Patterns> {
        let name = if self.exact.is_empty() && self.beneath.is_empty() { "".into() } else { name_of(host) };
        let exact = self.exact.get(&*name);
        exact.into_iter().chain(self.beneath(name)).chain([&self.any])
    }

    /// Those of the routes that are for this host, as the configuration has it.
    pub(super) fn patterns(&self, host: Option<&HostPattern>) -> Option<&Patterns> {
        match host {
            Some(HostPattern::Exact(name)) => self.exact.get(name),
            Some(HostPattern::Beneath(name)) => self.beneath.get(name),
            None => Some(&self.any),
        }
    }

    fn beneath(&self, name: Cow<'_, str>) -> impl Iterator<Item = &Patterns> {
        let mut rest = if self.beneath.is_empty() { None } else { Some(0) };
        std::iter::from_fn(move || {
            loop {
                let begins = rest?;
                let label = name[begins..].find('.');
                rest = label.map(|label| begins + label + 1);
                let below = rest.filter(|below| *below > 1)?;
                if let Some(patterns) = self.beneath.get(&name[below..]) {
                    return Some(patterns);
                }
            }
        })
    }
}

/// The name without a port and without the dot of the root, in lower case.
fn name_of(host: &[u8]) -> Cow<'_, str> {
    let host = std::str::from_utf8(host).unwrap_or_default();
    let name = if host.ends_with(']') { host } else { host.rsplit_once(':').map_or(host, |(name, _)| name) };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        name.to_ascii_lowercase().into()
    } else {
        name.into()
    }
}
