//! Arguments of the commands about rollouts.

use clap::{Args, Subcommand};
use types::ServiceName;

use super::PlaceArgs;

#[derive(Debug, Args)]
pub(crate) struct RolloutArgs {
    #[command(subcommand)]
    pub(crate) command: RolloutCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RolloutCommand {
    /// Measure again what a service runs, such as a program that was built anew, and roll it out if it is another.
    Start(RolloutOf),
    /// Show where a rollout is and what it waits for, or how the last one ended.
    Status {
        #[command(flatten)]
        of: RolloutOf,
        /// Go on until it is over; exit code 4 where the new version was given up.
        #[arg(short, long)]
        follow: bool,
    },
    /// Let a rollout wait until it is resumed. It is given up all the same where the new version fails.
    Pause(RolloutOf),
    /// Let a rollout that is paused go on.
    Resume(RolloutOf),
    /// Skip the steps and waits that are left: the new version gets all calls.
    Promote(RolloutOf),
    /// Give the new version up: the old one takes its place again.
    Undo(RolloutOf),
    /// List the last 20 rollouts that have ended, the newest first.
    History(RolloutOf),
}

#[derive(Debug, Args)]
pub(crate) struct RolloutOf {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Of which service.
    pub(crate) service: ServiceName,
    /// Print JSON, a stable contract; a line for each change with `--follow`.
    #[arg(long)]
    pub(crate) json: bool,
}
