//! The header names that the gateway and the replicas agree on.

/// One id per request, a UUIDv7, set by the gateway and repeated in every answer.
pub const REQUEST_ID: &str = "x-request-id";
/// The tenant of the caller, set by the gateway; a client can never set it.
pub const TENANT: &str = "x-serviceos-tenant";
/// Who calls: the id of the API key. Set by the gateway.
pub const SUBJECT: &str = "x-serviceos-subject";
/// The scopes of the caller, separated by spaces. Set by the gateway.
pub const SCOPES: &str = "x-serviceos-scopes";
/// Who calls, as a JSON Web Token that the gateway has signed, for services that are programs of anybody's.
pub const CALLER: &str = "x-serviceos-caller";
/// Every header that begins so is the gateway's own and is stripped from what a client sends.
pub const RESERVED_PREFIX: &str = "x-serviceos-";
/// The tenant of a caller that has none.
pub const DEFAULT_TENANT: &str = "default";
