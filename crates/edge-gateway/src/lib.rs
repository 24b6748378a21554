//! The Edge Gateway: listeners, connections, and the request flow with its steps, in the seed's order: authenticate,
//! validate, route, select, execute, response.
//!
//! One thread and one event loop per core; a request never leaves the thread that accepted it. Only this crate knows HTTP
//! statuses for clients. HTTP/1.1 itself is spoken in `connection`, and nowhere else.

mod access_line;
mod authenticate;
mod body;
mod client_io;
mod clock;
mod connection;
mod drain_signal;
mod error;
mod exchange;
mod forward;
mod gateway;
mod listener;
mod path;
mod request_flow;
mod route;
mod validate;
mod worker;

pub use error::{CODES, FlowError};
pub use gateway::{Gateway, GatewayParts, Phase};
pub use listener::{BindError, Listeners};
pub use route::{OwnPage, PageAnswer, Route, RouteTable};
