//! The process's own log on standard error.

use std::io::IsTerminal;

use configuration::LogFormat;
use tracing_subscriber::EnvFilter;

/// Starts logging. `RUST_LOG` chooses what is logged, `default_level` where it is not set.
pub fn start_process_log(format: LogFormat, default_level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default_level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}
