//! `serviceos up`.

use configuration::Overrides;

use crate::cli::UpArgs;
use crate::commands::block_on;
use crate::failure::Failure;
use crate::up::{Given, HandedOver, Source, Whose, start_and_serve};

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
    let place = match args.takeover {
        false => Whose::Nobodys(sockets),
        true if sockets.is_something() => {
            return Err(Failure::Configuration(
                "serviceos: with --takeover the sockets are those of the serviceos that runs, and others were handed over by \
                 LISTEN_FDS: leave one of both out"
                    .into(),
            ));
        }
        true => Whose::Anothers,
    };
    block_on(start_and_serve(Given { document, source, place }))
}
