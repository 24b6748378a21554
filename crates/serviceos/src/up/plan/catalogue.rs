//! What the catalogue shows of the configuration.

use std::sync::Arc;

use configuration::{EndpointSettings, Program, Protocol, ServiceSettings, Settings};
use control::{Described, Descriptions, ServiceKind};
use service_registry::Labels;

/// What is said of each service.
pub(crate) fn descriptions(settings: &Settings) -> Descriptions {
    let described =
        |service: &ServiceSettings| Described { kind: kind(service), routes: service.routes.len() };
    Arc::new(settings.services.iter().map(|service| (service.name.clone(), described(service))).collect())
}

fn kind(service: &ServiceSettings) -> ServiceKind {
    match service.process().map(|process| &process.program) {
        Some(Program::Builtin(_)) => ServiceKind::Builtin,
        Some(Program::Command(_)) => ServiceKind::Command,
        Some(Program::Elsewhere) => ServiceKind::Elsewhere,
        None => ServiceKind::Endpoints,
    }
}

/// What is said of every replica of a service.
pub(crate) fn labels(service: &ServiceSettings) -> Arc<Labels> {
    Arc::new(Labels { protocol: protocol(service), zone: None, metadata: Default::default() })
}

/// What is said of an endpoint of a service.
pub(super) fn labels_of(service: &ServiceSettings, endpoint: &EndpointSettings) -> Arc<Labels> {
    let (zone, metadata) = (endpoint.zone.clone(), endpoint.metadata.clone());
    Arc::new(Labels { protocol: protocol(service), zone, metadata })
}

fn protocol(service: &ServiceSettings) -> &'static str {
    match service.protocol {
        Protocol::Http1 => "http1",
        Protocol::Http2 => "http2",
        Protocol::Grpc => "grpc",
    }
}
