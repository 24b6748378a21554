//! `serviceos config`: the file, without starting anything.

use anyhow::Context;
use configuration::{Overrides, ServiceSettings};

use crate::cli::ConfigCommand;
use crate::failure::Failure;
use crate::output::print;
use crate::up::{check_service_config, check_store_files, counted};

pub(crate) fn run(command: ConfigCommand) -> Result<(), Failure> {
    let ConfigCommand::Validate(place) = command;
    let overrides = Overrides { data_dir: place.data_dir, ..Overrides::default() };
    let settings = configuration::load(&place.config, &overrides, check_service_config)?;
    let tls = settings.gateway.tls.as_ref().map(edge_gateway::server_config).transpose();
    tls.context("the files of gateway.tls cannot be used")?;
    check_store_files(&settings).context("the files of `store` cannot be used")?;
    let replicas = settings.services.iter().map(ServiceSettings::replicas).sum();
    let (services, replicas) = (counted(settings.services.len(), "service"), counted(replicas, "replica"));
    print(format_args!("{} is valid: {services}, {replicas}", place.config.display()))?;
    Ok(())
}
