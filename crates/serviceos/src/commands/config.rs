//! `serviceos config`: the file, without starting anything.

use configuration::Overrides;

use crate::cli::ConfigCommand;
use crate::failure::Failure;
use crate::up::check_service_configs;

pub(crate) fn run(command: ConfigCommand) -> Result<(), Failure> {
    let ConfigCommand::Validate(place) = command;
    let overrides = Overrides { data_dir: place.data_dir, ..Overrides::default() };
    let settings = configuration::load(&place.config, &overrides)?;
    check_service_configs(&settings, &place.config)?;
    let replicas: u32 = settings.services.iter().map(|service| service.replicas).sum();
    println!(
        "{} is valid: {} services, {replicas} replicas",
        place.config.display(),
        settings.services.len()
    );
    Ok(())
}
