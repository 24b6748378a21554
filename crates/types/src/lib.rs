//! The vocabulary that every crate of ServiceOS shares: names, sizes, durations, media types, what is said of replicas, wire headers, the
//! problem document, the places in which two documents differ, and the length-prefixed encoding of signed bytes.
//!
//! Only words live here. Whatever does something belongs to the crate whose duty it is.

pub mod description;
pub mod difference;
pub mod duration;
pub mod headers;
pub mod media;
mod mode;
mod name;
mod problem;
mod size;
mod version_requirement;
pub mod wire;

pub use description::{Description, DescriptionError};
pub use mode::Mode;
pub use name::{NameError, NodeName, ReplicaId, ServiceName};
pub use problem::Problem;
pub use size::{ByteSize, SizeError};
pub use version_requirement::VersionRequirement;
