//! `serviceos up`.

use configuration::Overrides;

use crate::cli::UpArgs;
use crate::commands::block_on;
use crate::failure::Failure;
use crate::up::{HandedOver, Source, start_and_serve};

pub(crate) fn run(args: UpArgs) -> Result<(), Failure> {
    let overrides = Overrides {
        data_dir: args.place.data_dir,
        gateway: args.gateway,
        admin: args.admin,
        mesh: args.mesh,
        mode: args.mode,
    };
    // Before anything is opened, and before there is a second thread.
    let sockets = HandedOver::take()?;
    // Before anything else runs: a pipe that nobody writes can be given up with Ctrl-C.
    let (source, document) = Source::open(args.place.config, overrides)?;
    block_on(start_and_serve(document, source, sockets))
}
