//! `serviceos launch`: the process that every replica begins as, started by `up`.

use crate::failure::Failure;

pub(crate) fn run() -> Result<(), Failure> {
    match launcher::launch() {
        Ok(never) => match never {},
        Err(failure) => Err(Failure::Failed(failure.into())),
    }
}
