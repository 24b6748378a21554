//! What etcd's errors mean: whether the same may be asked again, and what is said of it.
//!
//! They are told apart by their words, which are etcd's own constants (`api/v3rpc/rpctypes/error.go`): the codes beside them are
//! too coarse, and a watch that is refused has none.

use crate::StoreError;

/// What an error of etcd means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Nothing was done, and another member, or another moment, may do it.
    NotNow(String),
    /// It may have been done.
    Undecided(String),
    /// The token is not taken any more.
    Token,
    /// There are no users, so there is nothing to log in to.
    NoUsers,
    /// The lease has ended, or never was.
    LeaseEnded,
    /// The revision is not kept any more.
    Compacted,
    /// It is more than etcd takes in one request.
    TooLarge,
    /// etcd's own database has reached its limit.
    Full(String),
    /// The user may not do it.
    Forbidden(String),
    /// Anything else.
    Failed(String),
}

/// What an error of these words means; it is given all that was said.
type Meaning = fn(String) -> Refusal;

/// What stands in the error, and what it means. The first that fits counts.
const MEANINGS: &[(&str, Meaning)] = &[
    ("requested lease not found", |_| Refusal::LeaseEnded),
    ("required revision has been compacted", |_| Refusal::Compacted),
    ("authentication is not enabled", |_| Refusal::NoUsers),
    ("invalid auth token", |_| Refusal::Token),
    ("revision of auth store is old", |_| Refusal::Token),
    ("user name is empty", |_| Refusal::Token),
    ("permission denied", Refusal::Forbidden),
    ("authentication failed", Refusal::Forbidden),
    ("request is too large", |_| Refusal::TooLarge),
    ("too many operations in txn", |_| Refusal::TooLarge),
    ("message larger than max", |_| Refusal::TooLarge),
    ("database space exceeded", Refusal::Full),
    // With `hasleader`, a member without a leader says so before it begins.
    ("no leader", Refusal::NotNow),
    ("too many requests", Refusal::NotNow),
    ("proposal dropped", Refusal::NotNow),
];

impl Refusal {
    pub(super) fn of(status: http::StatusCode, said: String) -> Self {
        if let Some((_, meaning)) = MEANINGS.iter().find(|(words, _)| said.contains(words)) {
            return meaning(said);
        }
        // Time-outs, a leader that changed, a member that stops: the proposal may be on its way nevertheless.
        if status.is_server_error() || status == http::StatusCode::REQUEST_TIMEOUT {
            return Self::Undecided(said);
        }
        Self::Failed(said)
    }

    /// As whoever uses the store is told of it, where it says all that there is to say.
    pub(super) fn into_error(self) -> StoreError {
        match self {
            Self::NotNow(reason) => StoreError::Unreachable(reason),
            Self::Undecided(reason) => StoreError::Undecided(reason),
            Self::Token => StoreError::Refused("etcd takes nobody without a user and a password".to_owned()),
            Self::TooLarge => {
                StoreError::TooLarge("what etcd takes in one request (its --max-request-bytes)")
            }
            Self::Full(reason) => StoreError::Disk(format!(
                "{reason}; compact and defragment etcd or raise its --quota-backend-bytes, then disarm the alarm"
            )),
            Self::Forbidden(reason) => StoreError::Refused(reason),
            Self::LeaseEnded => StoreError::Failed("a lease has ended".to_owned()),
            Self::Compacted => StoreError::Failed("a revision is not kept any more".to_owned()),
            Self::NoUsers => StoreError::Failed("etcd has no users".to_owned()),
            Self::Failed(reason) => StoreError::Failed(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn an_error_is_known_by_its_words_and_what_is_not_known_is_undecided_where_the_server_failed() {
        let of =
            |status: u16, said: &str| Refusal::of(StatusCode::from_u16(status).unwrap(), said.to_owned());
        assert_eq!(of(404, "etcdserver: requested lease not found"), Refusal::LeaseEnded);
        assert_eq!(of(401, "etcdserver: invalid auth token"), Refusal::Token);
        let denied = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
        assert_eq!(of(200, denied), Refusal::Forbidden(denied.to_owned()));
        assert_eq!(of(503, "etcdserver: no leader"), Refusal::NotNow("etcdserver: no leader".to_owned()));
        for said in
            ["etcdserver: request timed out", "etcdserver: leader changed", "etcdserver: server stopped"]
        {
            assert_eq!(of(503, said), Refusal::Undecided(said.to_owned()));
        }
        assert_eq!(of(400, "etcdserver: strange"), Refusal::Failed("etcdserver: strange".to_owned()));
    }
}
