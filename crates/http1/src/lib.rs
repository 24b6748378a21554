//! HTTP/1.1 messages, strictly (RFC 9112): bytes in, heads and bodies out. No IO, no clock, no waiting; both sides of the
//! gateway use it, and HTTP/2 heads are brought into the same form.
//!
//! Whatever two readers could understand in two ways is an error here, never a guess: what passes has one meaning, and the
//! bytes that are sent on are written anew from that meaning, never copied through.

mod body;
mod buffer;
mod chunked;
mod error;
mod fields;
mod judge;
mod known;
mod request;
mod response;
mod scan;
mod target;
mod trailers;
mod write;

pub use body::{BodyDecoder, Framing, Step};
pub use buffer::{Buffer, BufferPool};
pub use chunked::{LAST_CHUNK, MAX_CHUNK_LINE_BYTES, write_chunk_size};
pub use error::{BodyFault, Malformed, RequestFault, ResponseFault};
pub use fields::{Field, Fields};
pub use known::Known;
pub use request::{Limits, RequestHead, Version, parse_request};
pub use response::{ResponseHead, parse_response};
pub use scan::HeadScan;
pub use trailers::{MAX_TRAILER_BYTES, Trailers, is_grpc, may_pass_as_grpc_metadata, may_pass_as_trailer};
pub use write::{write_decimal, write_field, write_status_line};
