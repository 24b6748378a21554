//! `serviceos config`: the file, without starting anything, and what became of it.

use anyhow::Context;
use configuration::{Overrides, ServiceSettings};

use super::config_status;
use crate::cli::{ConfigCommand, PlaceArgs};
use crate::failure::Failure;
use crate::output::print;
use crate::up::{check_service_config, counted};

pub(crate) fn run(command: ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Validate(place) => validate(place),
        ConfigCommand::Status(args) => config_status::run(&args),
    }
}

fn validate(place: PlaceArgs) -> Result<(), Failure> {
    let overrides = Overrides { data_dir: place.data_dir, ..Overrides::default() };
    let settings = configuration::load(&place.config, &overrides, check_service_config)?;
    let tls = settings.gateway.tls.as_ref().map(edge_gateway::server_config).transpose();
    tls.context("the files of gateway.tls cannot be used")?;
    let replicas = settings.services.iter().map(ServiceSettings::replicas).sum();
    let (services, replicas) = (counted(settings.services.len(), "service"), counted(replicas, "replica"));
    print(format_args!("{} is valid: {services}, {replicas}", place.config.display()))?;
    Ok(())
}
