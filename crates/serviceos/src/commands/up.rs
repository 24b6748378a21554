//! `serviceos up`.

use configuration::Overrides;

use crate::cli::UpArgs;
use crate::commands::block_on;
use crate::failure::Failure;
use crate::up::{Source, start_and_serve};

pub(crate) fn run(args: UpArgs) -> Result<(), Failure> {
    let overrides = Overrides {
        data_dir: args.place.data_dir,
        gateway: args.gateway,
        admin: args.admin,
        mode: args.mode,
    };
    let source = Source::new(args.place.config, overrides);
    let settings = source.load()?;
    block_on(start_and_serve(settings, source))
}
