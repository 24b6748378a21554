//! `serviceos launch`: the process that every replica begins as, started by `up`.

use std::time::Duration;

use configuration::LogFormat;

use crate::failure::Failure;

/// How long the last lines may take.
const LAST_LINES: Duration = Duration::from_secs(1);

pub(crate) fn run() -> Result<(), Failure> {
    let staying = launcher::launch_or_stay().map_err(|failure| Failure::Failed(failure.into()))?;
    let log = observability::start_process_log(LogFormat::Json, "info");
    let ended = staying.run();
    log.flush(LAST_LINES);
    match ended {
        Ok(0) => Ok(()),
        Ok(code) => std::process::exit(code.into()),
        Err(error) => Err(Failure::Failed(error.into())),
    }
}
