//! `serviceos service`: one backend service, as a replica that `up` started.

use std::time::Duration;

use configuration::LogFormat;

use crate::cli::BuiltinService;
use crate::failure::Failure;

/// How long the last lines may take.
const LAST_LINES: Duration = Duration::from_secs(1);

pub(crate) fn run(service: BuiltinService) -> Result<(), Failure> {
    // It was executed through a link in /proc, whose name it would bear in `ps` and `pgrep` otherwise.
    let _only_a_name = rustix::thread::set_name(c"serviceos").is_err();
    let log = observability::start_process_log(LogFormat::Json, "info");
    let ended = match service {
        BuiltinService::Vrf => vrf::run(),
        BuiltinService::Datafeed => datafeed::run(),
        BuiltinService::Oracle => oracle::run(),
    };
    log.flush(LAST_LINES);
    ended.map_err(|error| Failure::Failed(error.into()))
}
