//! `serviceos up`.

use configuration::Overrides;

use crate::cli::UpArgs;
use crate::commands::block_on;
use crate::failure::Failure;
use crate::up::{Source, check_service_config, start_and_serve};

pub(crate) fn run(args: UpArgs) -> Result<(), Failure> {
    let overrides = Overrides {
        data_dir: args.place.data_dir,
        gateway: args.gateway,
        admin: args.admin,
        mode: args.mode,
    };
    let settings = configuration::load(&args.place.config, &overrides, check_service_config)?;
    block_on(start_and_serve(settings, Source { path: args.place.config, overrides }))
}
