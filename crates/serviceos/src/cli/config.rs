//! `serviceos config`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{PlaceArgs, lifetime};

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say whether the file is valid, and every mistake in it if not; exit code 2 then.
    Validate(PlaceArgs),
    /// Show in what the file differs from what is in force; or two revisions, or a revision and what is in force.
    Diff {
        #[command(flatten)]
        place: PlaceArgs,
        /// The revision before, instead of what is in force.
        before: Option<u64>,
        /// The revision after; what is in force when there is only one.
        #[arg(requires = "before")]
        after: Option<u64>,
        /// Exit with 4 when there is a difference.
        #[arg(long)]
        exit_code: bool,
        /// Print JSON, a stable contract.
        #[arg(long)]
        json: bool,
    },
    /// Put a configuration in force as a revision of its own. It stays until the file of `up` means something else.
    Apply {
        #[command(flatten)]
        place: PlaceArgs,
        /// The YAML, `-` for standard input; the file of `--config` when left out. Its paths are relative to the folder of the
        /// file that `up` was started with.
        file: Option<PathBuf>,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Print the configuration that is in force, or that of a revision.
    Show {
        #[command(flatten)]
        place: PlaceArgs,
        /// Its number, as listed.
        revision: Option<u64>,
        /// Print JSON, a stable contract.
        #[arg(long)]
        json: bool,
    },
    /// Show which `config` each replica is to work with, and what it has made of it.
    Status(ConfigStatusArgs),
    /// List the revisions, the newest first.
    History {
        #[command(flatten)]
        place: PlaceArgs,
        /// Print JSON, a stable contract.
        #[arg(long)]
        json: bool,
    },
    /// Put the configuration of an earlier revision in force again, as a revision of its own.
    Rollback {
        #[command(flatten)]
        place: PlaceArgs,
        /// Its number, as listed.
        revision: u64,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Print the JSON Schema of the file.
    Schema,
}

/// How something is put in force.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct ChangeArgs {
    /// Only show what would change.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Only while this revision is in force.
    #[arg(long, value_name = "REVISION")]
    pub(crate) if_revision: Option<u64>,
    /// Print JSON, a stable contract.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigStatusArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Print JSON, a stable contract.
    #[arg(long)]
    pub(crate) json: bool,
    /// Wait until every replica has answered; exit code 4 where one has not by then, or has rejected it.
    #[arg(long, value_name = "DURATION", value_parser = lifetime)]
    pub(crate) wait: Option<Duration>,
}
