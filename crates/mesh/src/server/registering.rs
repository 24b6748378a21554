//! Replicas that somebody else has started register themselves, renew their leases, and ask to be drained.

use std::net::{IpAddr, SocketAddr};

use axum::Router;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::Json;
use axum::routing::post;
use mesh_protocol::tls::Peer;
use mesh_protocol::{
    Bytes, LEASE_TTL, LeaseRequest, RENEWAL, RUN_BYTES, RegisterAnswer, RegisterRequest, RenewAnswer,
};
use tokio::time::timeout;
use types::ReplicaId;

use super::{Api, Connection, Refused, read, replica};
use crate::registrations::{Applicant, LeaseError, Registered, Run, next_token};

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/register", post(register))
        .route("/v1/renew", post(renew))
        .route("/v1/leave", post(leave))
}

async fn register(
    State(api): State<Api>,
    Extension(connection): Extension<Connection>,
    body: Result<Json<RegisterRequest>, JsonRejection>,
) -> Result<Json<RegisterAnswer>, Refused> {
    let request = body.map(|Json(request)| request).map_err(|error| invalid(&error.body_text()))?;
    let (replica, peer) = replica(&connection)?;
    if !api.authority.has_admitted(peer) {
        // It was started before this authority was, or is being admitted as another: a renewal makes it known.
        let detail = format!("this authority does not know the certificate of {}: renew it", peer.id);
        return Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, "NOT_JOINED", detail));
    }
    let applicant = applicant(&request, peer, connection.is_local)?;
    let registered = match api.registrations.known(&replica, &applicant)? {
        Some(known) => known,
        None => api.registered(&replica, applicant).await?,
    };
    connection.held.hold(&registered);
    let registration = &registered.registration;
    Ok(Json(RegisterAnswer {
        lease: registration.lease.clone(),
        ttl_millis: u64::try_from(LEASE_TTL.as_millis()).unwrap_or(u64::MAX),
        fencing_token: registration.fencing_token,
    }))
}

impl Api {
    async fn registered(&self, replica: &ReplicaId, applicant: Applicant) -> Result<Registered, Refused> {
        let store = self.store.as_ref().ok_or_else(|| unavailable("this mesh API has no store"))?;
        let token = next_token(store, replica, &applicant).await;
        let token = token.map_err(|error| unavailable(&error.to_string()))?;
        // The same process may have asked again meanwhile.
        if let Some(known) = self.registrations.known(replica, &applicant)? {
            return Ok(known);
        }
        let registered = self.registrations.register(replica, applicant, token)?;
        let (lease, address) = (&registered.registration.lease, registered.address);
        tracing::info!(%replica, %address, lease, fencing_token = token, "a replica has registered itself");
        Ok(registered)
    }
}

/// Is answered when there is an order, or after a third of the lease's time, so that the replica asks again.
async fn renew(
    State(api): State<Api>,
    Extension(connection): Extension<Connection>,
    body: Result<Json<LeaseRequest>, JsonRejection>,
) -> Result<Json<RenewAnswer>, Refused> {
    let (request, (replica, _)) = (read(body)?, replica(&connection)?);
    let registered = api.registrations.renew(&replica, &request)?;
    connection.held.hold(&registered);
    Ok(Json(RenewAnswer { end: timeout(RENEWAL, registered.ordered()).await.ok() }))
}

async fn leave(
    State(api): State<Api>,
    Extension(connection): Extension<Connection>,
    body: Result<Json<LeaseRequest>, JsonRejection>,
) -> Result<Json<()>, Refused> {
    let (request, (replica, _)) = (read(body)?, replica(&connection)?);
    Ok(Json(api.registrations.leave(&replica, &request)?))
}

fn applicant(request: &RegisterRequest, peer: &Peer, is_local: bool) -> Result<Applicant, Refused> {
    let run = run(&request.run)?;
    let address = reachable(request.address, is_local).map_err(|reason| invalid(&reason))?;
    let description = request.description();
    description.check().map_err(|error| invalid(&error.to_string()))?;
    Ok(Applicant { run, address, leaf: peer.leaf, description })
}

fn run(bytes: &Bytes) -> Result<Run, Refused> {
    let run = bytes.0.as_slice().try_into();
    run.map_err(|_| invalid(&format!("a run is {RUN_BYTES} bytes")))
}

/// The address as one that gateways can connect to. Who is there shows its certificate, and no other is spoken with, so it need
/// not be one that the request came from.
fn reachable(address: SocketAddr, is_local: bool) -> Result<SocketAddr, String> {
    let ip = address.ip().to_canonical();
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    let is_link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    if ip.is_unspecified() || ip.is_multicast() || is_broadcast || is_link_local || address.port() == 0 {
        return Err(format!(
            "nobody can connect to {address}: say the address and port of this machine that the gateway reaches"
        ));
    }
    if ip.is_loopback() && !is_local {
        return Err(format!(
            "{address} is the gateway's own machine, and the request comes from another: say an address of that which the gateway reaches"
        ));
    }
    Ok(SocketAddr::new(ip, address.port()))
}

fn invalid(detail: &str) -> Refused {
    Refused::new(StatusCode::FORBIDDEN, "REGISTRATION_INVALID", detail)
}

fn unavailable(detail: &str) -> Refused {
    let detail = format!("registrations are written down first: {detail}");
    Refused::new(StatusCode::SERVICE_UNAVAILABLE, "STORE_UNAVAILABLE", detail)
}

impl From<LeaseError> for Refused {
    fn from(error: LeaseError) -> Self {
        let (status, code) = match &error {
            LeaseError::NotExpected(_) => (StatusCode::FORBIDDEN, "REPLICA_NOT_EXPECTED"),
            // Whoever may register does so again.
            LeaseError::Ended(_) => (StatusCode::NOT_FOUND, "LEASE_ENDED"),
            LeaseError::Fenced(_) => (StatusCode::FORBIDDEN, "LEASE_FENCED"),
        };
        Self::new(status, code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_that_the_gateway_can_connect_to() {
        let reachable = |address: &str, is_local| reachable(address.parse().unwrap(), is_local);
        for good in ["10.0.0.7:7443", "[2001:db8::7]:7443", "[fd00::7]:1"] {
            assert_eq!(reachable(good, false), Ok(good.parse().unwrap()), "{good}");
        }
        for own in ["127.0.0.1:1", "127.9.8.7:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(reachable(own, false).unwrap_err().contains("gateway's own machine"), "{own}");
            assert!(reachable(own, true).is_ok(), "{own}");
        }
        for bad in [
            "0.0.0.0:1",
            "[::]:1",
            "[::ffff:0.0.0.0]:1",
            "224.0.0.1:1",
            "169.254.169.254:80",
            "[fe80::1]:1",
            "[ff02::1]:1",
            "255.255.255.255:1",
            "10.0.0.7:0",
        ] {
            assert!(reachable(bad, true).unwrap_err().contains("nobody can connect"), "{bad}");
        }
        assert_eq!(reachable("[::ffff:10.0.0.7]:1", false), Ok("10.0.0.7:1".parse().unwrap()));
    }
}
