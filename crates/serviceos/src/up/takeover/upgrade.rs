//! Whoever runs starts the next one by itself, with its own arguments, where it is told to by a signal: so it is among the processes of
//! the service manager that this one belongs to, and within the same walls.

use std::process::{Command, Stdio};

const TAKEOVER: &str = "--takeover";

/// Starts whichever program is at the path by which this one was started. It takes over from this one, or ends.
pub(in super::super) fn start_the_next() {
    let mut arguments = std::env::args_os();
    let Some(program) = arguments.next() else { return };
    let mut command = Command::new(&program);
    command.args(arguments.filter(|argument| argument != TAKEOVER)).arg(TAKEOVER);
    // Signs of life are asked of whichever process is the main one, and the sockets that this one was given it hands on itself.
    for variable in ["WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
        command.env_remove(variable);
    }
    match command.stdin(Stdio::null()).spawn() {
        Ok(mut child) => {
            let (pid, program) = (child.id(), program.display());
            tracing::info!(pid, "SIGUSR2: {program} was started, and is to take over");
            // One that fails is reaped; one that takes over outlives this process.
            let reaping = std::thread::Builder::new().name("next".into()).spawn(move || child.wait());
            if let Err(error) = reaping {
                tracing::warn!(%error, "nobody looks after the process that was started");
            }
        }
        Err(error) => {
            let program = program.display();
            tracing::error!(%error, "SIGUSR2: {program} cannot be started, so nothing takes over");
        }
    }
}
