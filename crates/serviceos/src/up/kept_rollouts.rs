//! What each service runs, and the rollout that is on its way, in the store, so that both survive this process.
//!
//! ```text
//! nodes/NODE/rollouts/SERVICE     the version that runs, and while there is one its rollout: the target, the stage, the pace
//! ```
//!
//! A row is written when what it says changes, by a task of its own: nobody waits for it. The next `up` reads it before anything is
//! begun, takes the replicas over that run either version, each as what it runs, and goes on with the rollout.

mod beginning;
mod course;
mod row;
mod writing;

pub(super) use beginning::{Kept, Leaving, Resumed};
