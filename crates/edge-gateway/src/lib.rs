//! The Edge Gateway: listeners, connections, and the request flow with its steps, in the seed's order: authenticate,
//! validate, route, select, execute, response.
//!
//! One thread and one event loop per core; a request never leaves the thread that accepted it. Only this crate knows HTTP
//! statuses for clients. The flow is written once: `http1_client` and `http2_client` bring requests into the same form.

mod accept;
mod access_line;
mod answer;
mod authenticate;
mod broken;
mod client;
mod clock;
mod destination;
mod drain_signal;
mod error;
mod exchange;
mod explain;
mod followed;
mod forward;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod gateway;
mod held;
mod http1_answer;
mod http1_client;
mod http2_answer;
mod http2_client;
mod idle;
mod linger;
mod listener;
#[cfg(feature = "measuring")]
pub mod measuring;
mod path;
mod plan;
mod proxy_protocol;
mod rate_limit;
mod request_flow;
mod route;
mod tls;
mod tunnel;
mod validate;
mod websocket;
mod worker;

pub use destination::CallerVersions;
pub use error::{CODES, FlowError, LimitedBy};
pub use explain::{Asked, Explained, Leads, Refusal};
pub use gateway::{Gateway, GatewayParts, Opener, Phase, Plans, Shared};
pub use listener::{BindError, Given, GivenSockets, Listeners, Place};
pub use plan::{Authentication, Plan};
pub use rate_limit::{Ceiling, ClientBuckets, RateLimits, RouteLimit, nanoseconds_now};
pub use route::{Asks, Misfit, OwnPage, PageAnswer, PageRequest, Route, RouteTable};
pub use tls::{ServerTls, TlsError, server_config};
