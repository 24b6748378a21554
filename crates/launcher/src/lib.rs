//! Every replica starts through this crate: what is to be run is measured, and what was measured is what runs.
//!
//! An executable is opened once, copied into memory that nobody can change any more, hashed there, and executed from there. A
//! file that is exchanged at any moment is thus either what was measured or not what runs. What the program is given and what
//! is loaded into it when it starts is hashed into the same workload: arguments, environment, working directory, interpreters,
//! shared libraries and the files that its arguments name.
//!
//! A program that links the sdk takes the launcher's place. Beside a command that knows nothing of the mesh the launcher stays
//! and is the replica itself ([`Staying`]): it joins, ends TLS, and forwards.
//!
//! What this cannot do: shared libraries and the files that arguments name are hashed where they lie, and opened again by
//! the program. What a program loads later by itself (plug-ins, modules of a scripting language) is not seen at all.

mod command;
mod confine;
mod elf;
mod error;
mod expand;
mod files;
mod launch;
mod libraries;
mod locate;
mod measured;
mod measurer;
mod order;
mod output;
mod program;
mod script;
mod sealed;

pub use command::Staying;
pub use confine::confine;
pub use error::MeasureError;
pub use expand::{UnknownVariable, expand, expand_arguments, expand_environment};
pub use launch::{LaunchFailure, launch, launch_or_stay};
pub use measured::Measured;
pub use measurer::Measurer;
pub use order::{CommandOrder, LaunchOrder, Limits};
pub use program::{Directory, EnvironmentError, Program};
