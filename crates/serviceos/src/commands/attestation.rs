//! `serviceos attestation`: what the authority says of each replica, and what is trusted no longer.

mod text;

use std::path::Path;

use anyhow::{Context, anyhow};
use control::{AdminClient, AttestationReport, RevocationAnswer, RevocationRequest, TicketRequest};
use mesh_protocol::{LaunchTicket, RevokedType};

use crate::cli::{AttestationCommand, PlaceArgs, Which};
use crate::commands::{block_on, percent_encoded};
use crate::failure::Failure;
use crate::output::{note, print, print_json};
use crate::replaced_file::replace;

pub(crate) fn run(command: AttestationCommand) -> Result<(), Failure> {
    match command {
        AttestationCommand::Show { place, which, json } => show(&place, which.as_ref(), json),
        AttestationCommand::Ticket { place, which, file } => ticket(&place, which, &file),
        AttestationCommand::Revoke { place, about, value, undo, json } => {
            revoke(&place, about.into(), value, undo, json)
        }
    }
}

fn show(place: &PlaceArgs, which: Option<&Which>, json: bool) -> Result<(), Failure> {
    let client = AdminClient::new(&place.data_dir());
    let mut report: AttestationReport = block_on(async { Ok(client.get("/v1/attestation").await?) })?;
    if let Some(which) = which {
        only(&mut report, which)?;
    }
    if json { print_json(&report) } else { print(text::report(&report)) }
}

/// Leaves out what was not asked about.
fn only(report: &mut AttestationReport, which: &Which) -> Result<(), Failure> {
    let (name, replica) = match which {
        Which::Service(name) => (name, None),
        Which::Replica(id) => (&id.service, Some(id.to_string())),
    };
    report.services.retain(|service| service.name == name.as_str());
    let service = report.services.first_mut();
    let service = service.ok_or_else(|| {
        anyhow!("there is no service {name}; `serviceos status` shows those that there are")
    })?;
    if let Some(id) = replica {
        service.replicas.retain(|replica| replica.id == id);
        if service.replicas.is_empty() {
            return Err(
                anyhow!("there is no replica {id}; `serviceos status` shows those that there are").into()
            );
        }
    }
    Ok(())
}

fn ticket(place: &PlaceArgs, which: Which, file: &Path) -> Result<(), Failure> {
    let client = AdminClient::new(&place.data_dir());
    let (service, ordinal) = match which {
        Which::Service(service) => (service, None),
        Which::Replica(id) => (id.service, Some(id.ordinal)),
    };
    let request = TicketRequest { service: service.to_string(), ordinal };
    let ticket: LaunchTicket = block_on(async { Ok(client.post("/v1/tickets", &request).await?) })?;
    let json = serde_json::to_vec(&ticket).map_err(anyhow::Error::from)?;
    replace(file, &json).with_context(|| format!("failed to write {}", file.display()))?;
    print(text::ticket(&ticket, file))
}

fn revoke(
    place: &PlaceArgs,
    about: RevokedType,
    value: String,
    undo: bool,
    json: bool,
) -> Result<(), Failure> {
    let client = AdminClient::new(&place.data_dir());
    let request = RevocationRequest { about, value };
    let answer: RevocationAnswer = block_on(async {
        Ok(if undo {
            client.delete(&restored(&request)?).await?
        } else {
            client.post("/v1/revocations", &request).await?
        })
    })?;
    if !answer.in_force {
        note(format_args!(
            "serviceos: a gateway worker has not confirmed within 5 s that it selects {} no more",
            answer.replicas.join(", ")
        ));
    }
    if json {
        return print_json(&answer);
    }
    print(if undo { text::restored(&answer) } else { text::revoked(&answer) })
}

/// The request that takes a revocation back.
fn restored(request: &RevocationRequest) -> anyhow::Result<String> {
    let about = serde_json::to_value(request.about)?;
    let about = about.as_str().unwrap_or_default();
    Ok(format!("/v1/revocations?type={about}&value={}", percent_encoded(&request.value)))
}
