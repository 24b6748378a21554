//! Rates of the last seconds, out of the counters of `/metrics`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

/// The looks that rates are made of: what happened since the oldest of them.
const KEPT_LOOKS: usize = 11;

/// What `/metrics` says of the services at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Counted(BTreeMap<String, OfService>);

#[derive(Debug, Clone, Default, PartialEq)]
struct OfService {
    requests: f64,
    /// Calls that were answered within so many milliseconds, of all routes; the bounds grow.
    within: Vec<(f64, f64)>,
    error_rate: f64,
    connections: f64,
}

/// How a service does.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) requests_per_second: f64,
    /// The part of failed requests of the last minute, 0 to 1.
    pub(super) error_rate: f64,
    /// Milliseconds; none where nobody called.
    pub(super) p50: Option<f64>,
    /// The same.
    pub(super) p99: Option<f64>,
    /// Open connections to its replicas.
    pub(super) connections: f64,
}

/// The last looks.
#[derive(Debug, Default)]
pub(super) struct Looks(VecDeque<(Instant, Counted)>);

impl Counted {
    /// What a page says. Lines that say something else are passed over.
    pub(super) fn of_page(page: &str) -> Self {
        let mut counted = Self::default();
        for line in page.lines() {
            let Some((name, rest)) = line.split_once('{') else { continue };
            let Some((labels, value)) = rest.rsplit_once("} ") else { continue };
            let (Some(service), Ok(value)) = (label(labels, "service"), value.parse::<f64>()) else {
                continue;
            };
            counted.add(name, service, label(labels, "le"), value);
        }
        counted
    }

    fn add(&mut self, name: &str, service: &str, bound: Option<&str>, value: f64) {
        let of_service = match name {
            "request_count" | "request_latency_ms_bucket" | "error_rate" | "active_connections" => {
                self.0.entry(service.to_owned()).or_default()
            }
            _ => return,
        };
        match (name, bound) {
            ("request_count", _) => of_service.requests += value,
            ("error_rate", _) => of_service.error_rate = value,
            ("active_connections", _) => of_service.connections = value,
            (_, Some(bound)) => of_service.add_within(bound, value),
            _ => {}
        }
    }
}

impl OfService {
    /// Rust reads `+Inf` too.
    fn add_within(&mut self, bound: &str, calls: f64) {
        let Ok(bound) = bound.parse::<f64>() else { return };
        match self.within.iter_mut().find(|(known, _)| *known == bound) {
            Some((_, sum)) => *sum += calls,
            None => self.within.push((bound, calls)),
        }
    }
}

impl Looks {
    /// Another `up` counts from the beginning.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    pub(super) fn add(&mut self, now: Instant, counted: Counted) {
        if self.0.len() == KEPT_LOOKS {
            self.0.pop_front();
        }
        self.0.push_back((now, counted));
    }

    /// How a service does, by what came since the oldest look; nothing of a single one.
    pub(super) fn rates(&self, service: &str) -> Rates {
        let (Some((first, before)), Some((last, now))) = (self.0.front(), self.0.back()) else {
            return Rates::default();
        };
        let Some(now) = now.0.get(service) else { return Rates::default() };
        let none = OfService::default();
        let before = before.0.get(service).unwrap_or(&none);
        let seconds = last.duration_since(*first).as_secs_f64();
        let requests = (now.requests - before.requests).max(0.0);
        let within: Vec<_> = now
            .within
            .iter()
            .map(|(bound, calls)| {
                let earlier = before.within.iter().find(|(known, _)| known == bound);
                (*bound, (calls - earlier.map_or(0.0, |(_, calls)| *calls)).max(0.0))
            })
            .collect();
        Rates {
            requests_per_second: if seconds > 0.0 { requests / seconds } else { 0.0 },
            error_rate: now.error_rate,
            p50: if seconds > 0.0 { percentile(&within, 0.5) } else { None },
            p99: if seconds > 0.0 { percentile(&within, 0.99) } else { None },
            connections: now.connections,
        }
    }
}

/// Within how many milliseconds such a part of the calls was answered, taken to be spread evenly within a bucket.
fn percentile(within: &[(f64, f64)], part: f64) -> Option<f64> {
    let mut sorted = within.to_vec();
    sorted.sort_by(|one, other| one.0.total_cmp(&other.0));
    let all = sorted.last()?.1;
    if all <= 0.0 {
        return None;
    }
    let wanted = all * part;
    let mut below = (0.0, 0.0);
    for (bound, calls) in sorted {
        if calls >= wanted {
            // Of those that took longer than the last bound, nothing more is known.
            let of_bucket = calls - below.1;
            let share = if of_bucket > 0.0 { (wanted - below.1) / of_bucket } else { 1.0 };
            return Some(if bound.is_finite() { below.0 + (bound - below.0) * share } else { below.0 });
        }
        below = (bound, calls);
    }
    Some(below.0)
}

/// A label of a sample. A quote within a value stands behind a backslash, so that no value looks like a label.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let begin = format!("{name}=\"");
    let place =
        labels.match_indices(&begin).find(|(place, _)| *place == 0 || labels[..*place].ends_with(','));
    let value = &labels[place?.0 + begin.len()..];
    value.find('"').map(|end| &value[..end])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn page(requests: u64, fast: u64, all: u64) -> String {
        format!(
            "# HELP request_count a\nrequest_count{{service=\"vrf\",route=\"/{{*rest}}\",method=\"GET\",status=\"200\"}} {requests}\n\
             request_count{{service=\"vrf\",route=\"/b\",method=\"GET\",status=\"500\"}} 1\n\
             request_latency_ms_bucket{{service=\"vrf\",route=\"/b\",le=\"10\"}} {fast}\n\
             request_latency_ms_bucket{{service=\"vrf\",route=\"/b\",le=\"100\"}} {all}\n\
             request_latency_ms_bucket{{service=\"vrf\",route=\"/b\",le=\"+Inf\"}} {all}\n\
             error_rate{{service=\"vrf\"}} 0.25\nactive_connections{{service=\"vrf\"}} 3\nserviceos_config_revision 7\n"
        )
    }

    #[test]
    fn rates_are_of_what_came_between_the_first_look_and_the_last() {
        let (mut looks, begin) = (Looks::default(), Instant::now());
        assert_eq!(looks.rates("vrf"), Rates::default());
        looks.add(begin, Counted::of_page(&page(100, 50, 60)));
        assert_eq!(looks.rates("vrf").p50, None, "one look says nothing of a rate");
        looks.add(begin + Duration::from_secs(2), Counted::of_page(&page(120, 60, 80)));
        let rates = looks.rates("vrf");
        assert_eq!((rates.requests_per_second, rates.error_rate, rates.connections), (10.0, 0.25, 3.0));
        assert_eq!((rates.p50, rates.p99.map(f64::round)), (Some(10.0), Some(98.0)));
        assert_eq!(looks.rates("oracle"), Rates::default());
        looks.forget();
        assert_eq!(looks.rates("vrf"), Rates::default());
    }
}
