//! One file for each command.

mod attestation;
mod audit;
mod config;
mod config_status;
#[cfg(feature = "development")]
mod dev_quoter;
mod down;
mod events;
mod exec;
mod explain;
mod following;
mod instances;
mod keys;
mod launch;
mod lifecycle;
pub(crate) mod logs;
mod rollout;
mod secrets;
mod service;
mod services;
mod status;
mod top;
mod up;
mod why;

use std::path::PathBuf;
use std::time::Duration;

use configuration::Overrides;

use crate::cli::{Cli, Command, PlaceArgs};
use crate::failure::Failure;
use crate::output::note;

/// How long blocking work that nobody waits for any more may take at the end.
const LAST_WORK: Duration = Duration::from_secs(1);

/// Carries a command out.
pub(crate) fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Up(args) => up::run(args),
        Command::Down(place) => down::run(&place),
        Command::Status(args) => status::run(&args),
        Command::Services(args) => services::run(&args),
        Command::Instances(args) => instances::run(&args),
        Command::Scale(args) => lifecycle::scale(&args),
        Command::Drain(args) => lifecycle::drain(&args),
        Command::Restart(args) => lifecycle::restart(&args),
        Command::Top(args) => top::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Rollout(args) => rollout::run(&args.command),
        Command::Events(args) => events::run(&args),
        Command::Logs(args) => logs::run(&args),
        Command::Why(args) => why::run(&args),
        Command::Keys(args) => keys::run(args.command),
        Command::Attestation(args) => attestation::run(args.command),
        Command::Secrets(args) => secrets::run(args.command),
        Command::Audit(args) => audit::run(args.command),
        Command::Config(args) => config::run(args.command),
        Command::Exec(args) => exec::run(args),
        Command::Service(args) => service::run(args.service),
        Command::Launch => launch::run(),
        #[cfg(feature = "development")]
        Command::DevQuoter(args) => dev_quoter::run(args),
    }
}

impl PlaceArgs {
    /// The data directory of commands that only talk to a running serviceos. A file that is broken right now must not
    /// keep anyone from asking how things are, so then the folder beside it is taken, and that is said: the file may name
    /// another.
    fn data_dir(&self) -> PathBuf {
        let overrides = Overrides { data_dir: self.data_dir.clone(), ..Overrides::default() };
        match (configuration::load(&self.config, &overrides, configuration::any_config), &self.data_dir) {
            (Ok(settings), _) => settings.data_dir,
            (Err(_), Some(given)) => given.clone(),
            (Err(_), None) => {
                let (file, beside) = (self.config.display(), self.config.with_file_name(".serviceos"));
                note(format_args!(
                    "serviceos: {file} cannot be used (`serviceos config validate` says why), so the data directory \
                     is taken to be {}; --data-dir names another",
                    beside.display()
                ));
                beside
            }
        }
    }
}

/// Runs a command's conversation, or everything that `up` runs.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Failure::Failed(anyhow::Error::new(error).context("failed to start the event loop"))
    })?;
    let done = runtime.block_on(work);
    // A disk or a pipe that never answers must not keep the process from ending.
    runtime.shutdown_timeout(LAST_WORK);
    done
}

/// An argument as one path segment or one value of a query, whatever was typed.
fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || byte == b'_' {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}
