//! The guarded HTTP client: the only way in which a service of ServiceOS calls a server that an operator or a caller named, and
//! in which the gateway's side fetches the keys of issuers.
//!
//! The checks stand in one order, which [`Client::fetch`] shows: the URL is parsed once, must be https without userinfo,
//! must be on the allow-list, is resolved once, every address must be global, and the connection goes to exactly that
//! address. Redirects are answers like any other, and proxy variables are not read. A whole URL of an operator
//! ([`AllowList::of_operator`]) may lead to any address, under TLS.
//!
//! It knows nothing of JSON, of prices or of the oracle's codes.

mod address;
mod allow;
mod client;
#[cfg(any(test, feature = "fakes"))]
mod fakes;
mod resolve;
mod target;
mod tls;

pub use address::is_global;
pub use allow::{Allow, AllowError, AllowList};
pub use client::{Client, FetchError, Request, Response};
pub use client::{MAX_REQUEST_BODY_BYTES, MAX_RESPONSE_BYTES, TOTAL_TIMEOUT};
#[cfg(any(test, feature = "fakes"))]
pub use fakes::{FakeResolver, FakeServer};
pub use resolve::{Resolve, Resolving, SystemResolver};
pub use target::MAX_URL_BYTES;
pub use tls::{Roots, TlsPeer};
