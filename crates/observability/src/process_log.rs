//! The process's own log on standard error.

use std::io::IsTerminal;

use configuration::LogFormat;
use tracing_subscriber::EnvFilter;

use crate::Lines;

/// Starts logging. `RUST_LOG` chooses what is logged, `default_level` where it is not set. The returned lines are where the
/// log goes; whoever ends the process flushes them.
pub fn start_process_log(format: LogFormat, default_level: &str) -> Lines {
    let lines = Lines::to_stderr();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default_level));
    let writer = lines.clone();
    // A failure to log is not logged: it would go to where logging just failed.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .log_internal_errors(false)
        .with_writer(move || writer.clone());
    match format {
        LogFormat::Text => builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    lines
}
