//! Why something was refused or failed, as labels: each group of reasons is a small enum that chooses a counter.
//!
//! A new reason is one line here; where it is counted is the business of whoever knows that it happened.

use std::fmt::Debug;

use crate::Counter;

/// A group of reasons that are counted apart.
pub trait Reason: Copy + Debug + 'static {
    /// One counter for each.
    type Counters: AsRef<[Counter]> + Debug + Default + Send + Sync;
    /// Their label values, in the order of the enum.
    const LABELS: &'static [&'static str];

    /// The place of this one among them.
    fn place(self) -> usize;
}

/// A counter for each reason of a group. One thread writes them.
#[derive(Debug)]
pub struct CountersBy<R: Reason>(R::Counters);

impl<R: Reason> Default for CountersBy<R> {
    fn default() -> Self {
        Self(R::Counters::default())
    }
}

impl<R: Reason> CountersBy<R> {
    /// Adds one for this reason.
    pub fn add_one(&self, reason: R) {
        self.0.as_ref()[reason.place()].add_one();
    }

    /// The number of this reason.
    pub fn value(&self, reason: R) -> u64 {
        self.at(reason.place())
    }

    pub(crate) fn at(&self, place: usize) -> u64 {
        self.0.as_ref()[place].value()
    }
}

/// Makes the enum of a group: a line for each reason, with its label value.
macro_rules! reasons {
    ($(#[$docs:meta])* $group:ident { $($(#[$doc:meta])* $reason:ident = $label:literal,)+ }) => {
        $(#[$docs])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $group {
            $($(#[$doc])* $reason,)+
        }

        impl Reason for $group {
            type Counters = [Counter; [$($label),+].len()];
            const LABELS: &'static [&'static str] = &[$($label),+];

            fn place(self) -> usize {
                self as usize
            }
        }
    };
}

reasons! {
    /// Why the gateway refused a request, or ended a connection that waited for one.
    Refused {
        /// `limits.headerBytes`.
        HeaderBytes = "header_bytes",
        /// `limits.headers`.
        Headers = "headers",
        /// `limits.urlBytes`.
        UrlBytes = "url_bytes",
        /// `limits.bodyBytes`, or the limit of the route.
        BodyBytes = "body_bytes",
        /// The connection has to begin with a PROXY header and does not.
        ProxyHeader = "proxy_header",
        /// `limits.headerTimeout`.
        HeaderTimeout = "header_timeout",
        /// `limits.idleTimeout`.
        IdleTimeout = "idle_timeout",
        /// `limits.requestTimeout`, or the timeout of the route.
        RequestTimeout = "request_timeout",
        /// It cannot be read in one way only.
        Malformed = "malformed",
        /// The caller has used up its rate.
        RateLimited = "rate_limited",
        /// The caller has used up its day.
        DailyLimited = "daily_limited",
        /// The route was called as often as it may be.
        RouteLimited = "route_limited",
        /// The address of the client has used up its rate.
        AddressLimited = "address_limited",
        /// The address of the client has presented too many credentials that were refused.
        FailedAuthentication = "failed_authentication",
        /// The worker holds as many bodies as it may.
        HeldBytes = "held_bytes",
        /// No more nonces of signed requests can be remembered.
        Nonces = "nonces",
        /// It is not what the route's schema describes.
        Content = "content",
        /// Its content is of a type that the route does not take.
        MediaType = "media_type",
    }
}

reasons! {
    /// Why the gateway ended an HTTP/2 connection.
    Http2Refused {
        /// More resets (CVE-2023-44487), CONTINUATION frames (CVE-2024-27316), headers or tiny frames than an honest
        /// client sends.
        Flood = "flood",
        /// The client broke the protocol.
        Protocol = "protocol",
    }
}

reasons! {
    /// How a TLS handshake with a client ended.
    TlsHandshake {
        /// With a new session.
        Full = "full",
        /// With the session of an earlier one.
        Resumed = "resumed",
        /// Without a connection.
        Failed = "failed",
    }
}

reasons! {
    /// Why a failed call was not tried again.
    RetryDenied {
        /// The retries of the service have used up their share of its calls.
        Budget = "budget",
        /// The request may have been executed, or its body is not kept.
        NotReplayable = "not_replayable",
    }
}

reasons! {
    /// Which limit of a service's circuit was reached.
    CircuitLimit {
        /// Open connections to its replicas.
        Connections = "connections",
        /// Calls that wait for a connection.
        Pending = "pending",
        /// Calls at once.
        Requests = "requests",
    }
}

reasons! {
    /// How a try at a replica failed.
    UpstreamFailure {
        /// No connection was made.
        Refused = "refused",
        /// The connection ended before the answer did.
        Reset = "reset",
        /// It took too long.
        Timeout = "timeout",
        /// It was answered with a status that counts as a failure.
        Status = "status",
        /// What came is not HTTP.
        Protocol = "protocol",
        /// The TLS handshake failed.
        Tls = "tls",
        /// The replica did not begin to process it, and said so.
        Declined = "declined",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_reason_has_a_counter_of_its_own() {
        let refused = CountersBy::default();
        refused.add_one(Refused::HeaderBytes);
        refused.add_one(Refused::RateLimited);
        refused.add_one(Refused::RateLimited);
        let counted: Vec<_> = (0..Refused::LABELS.len()).map(|place| refused.at(place)).collect();
        assert_eq!(counted, [1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Refused::LABELS[Refused::RateLimited.place()], "rate_limited");
    }

    #[test]
    fn no_two_reasons_of_a_group_share_a_label() {
        fn check<R: Reason>() {
            let different: BTreeSet<_> = R::LABELS.iter().collect();
            assert_eq!(different.len(), R::LABELS.len(), "{:?}", R::LABELS);
        }
        check::<Refused>();
        check::<Http2Refused>();
        check::<TlsHandshake>();
        check::<RetryDenied>();
        check::<CircuitLimit>();
        check::<UpstreamFailure>();
    }
}
