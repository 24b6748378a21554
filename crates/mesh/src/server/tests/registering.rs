//! Leases over real connections: who is refused with what, and what the end of a connection means.

use mesh_protocol::{EndOrder, LEASE_TTL, RENEWAL, RUN_BYTES, RegisterRequest};
use types::Description;

use super::*;
use crate::registrations::{Applicant, Registered};

/// A mesh API with a place for `vrf/0`.
struct Registering {
    authority: Authority,
    registrations: Registrations,
    address: SocketAddr,
    serving: JoinHandle<()>,
    _folder: TempDir,
}

impl Registering {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = authority(&folder).await;
        let own = OwnIdentity::new(authority.clone(), Subject::Authority("n1".into())).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let registrations = Registrations::of(["vrf/0".parse().unwrap()]);
        let api = MeshApi::new(listener, authority.clone(), own.identity(), own.spki()).unwrap();
        let api = api.with_registrations(registrations.clone());
        let serving = tokio::spawn(api.serve(std::future::pending()));
        Self { authority, registrations, address, serving, _folder: folder }
    }

    async fn connect(&self, subject: Subject) -> Member {
        let identity = OwnIdentity::new(self.authority.clone(), subject).unwrap().identity();
        Member::connect(&self.authority, self.address, identity).await
    }

    /// A process has the place of `vrf/0`, as if it had been admitted.
    fn registered(&self, token: u64) -> Registered {
        let address = ([10, 0, 0, 7], 7443).into();
        let applicant =
            Applicant { run: [7; RUN_BYTES], address, leaf: [7; 32], description: Description::default() };
        self.registrations.register(&"vrf/0".parse().unwrap(), applicant, token).unwrap()
    }
}

impl Drop for Registering {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Member {
    async fn posted(&mut self, path: &str, body: &Value) -> (u16, Value) {
        timeout(PATIENCE, self.post(path, body)).await.unwrap()
    }
}

fn lease(registered: &Registered) -> Value {
    let registration = &registered.registration;
    json!({"lease": registration.lease, "fencingToken": registration.fencing_token})
}

#[tokio::test]
async fn a_renewal_is_answered_at_a_third_of_the_lease_or_at_once_with_an_order() {
    let mesh = Registering::new().await;
    let (registered, mut member) = (mesh.registered(7), mesh.connect(replica("0")).await);
    let begun = std::time::Instant::now();
    assert_eq!(member.posted("/v1/renew", &lease(&registered)).await, (200, json!({})));
    assert!(begun.elapsed() >= RENEWAL && begun.elapsed() < LEASE_TTL, "{:?}", begun.elapsed());
    // That it leaves, it says over another connection.
    let mut leaving = mesh.connect(replica("0")).await;
    let drained = async {
        assert_eq!(leaving.posted("/v1/leave", &lease(&registered)).await, (200, Value::Null));
        timeout(PATIENCE, registered.leaves()).await.unwrap();
        registered.tell_to_end(&EndOrder::Wanted("drained".into()));
    };
    let held = lease(&registered);
    let (answer, ()) = tokio::join!(member.posted("/v1/renew", &held), drained);
    assert_eq!(answer, (200, json!({"end": {"wanted": "drained"}})));
}

#[tokio::test]
async fn the_end_of_a_connection_ends_the_lease_soon_after() {
    let mesh = Registering::new().await;
    let (registered, mut member) = (mesh.registered(7), mesh.connect(replica("0")).await);
    assert_eq!(member.posted("/v1/renew", &lease(&registered)).await.0, 200);
    // Also where no request waits on it.
    let begun = std::time::Instant::now();
    drop(member);
    let reason = timeout(PATIENCE, registered.gone()).await.unwrap();
    assert!(reason.contains("its connection to the mesh did"), "{reason}");
    assert!(begun.elapsed() < LEASE_TTL / 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn whoever_does_not_hold_the_lease_is_refused_with_a_code() {
    let mesh = Registering::new().await;
    let (first, mut member) = (mesh.registered(7), mesh.connect(replica("0")).await);
    let second = mesh.registered(8);
    let another = json!({"lease": "0123456789abcdef", "fencingToken": 8});
    for path in ["/v1/renew", "/v1/leave"] {
        let (status, refusal) = member.posted(path, &lease(&first)).await;
        assert_eq!((status, &refusal["code"]), (403, &json!("LEASE_FENCED")), "{path}");
        let (status, refusal) = member.posted(path, &another).await;
        assert_eq!((status, &refusal["code"]), (404, &json!("LEASE_ENDED")), "{path}");
        // The lease of one replica is nothing to others, nor to gateways.
        for (subject, code) in [
            (replica("1"), "REPLICA_NOT_EXPECTED"),
            (replica_of("oracle", "0"), "REPLICA_NOT_EXPECTED"),
            (Subject::Gateway("n1".into()), "REPLICA_NOT_EXPECTED"),
        ] {
            let (status, refusal) = mesh.connect(subject).await.posted(path, &lease(&second)).await;
            assert_eq!((status, &refusal["code"]), (403, &json!(code)), "{path}");
        }
    }
    // This authority has admitted nobody.
    let run = Bytes(vec![1; RUN_BYTES]);
    let request = RegisterRequest::new(run, ([10, 0, 0, 7], 7443).into(), Description::default());
    let (status, refusal) = member.posted("/v1/register", &json!(request)).await;
    assert_eq!((status, &refusal["code"]), (503, &json!("NOT_JOINED")));
    let (status, refusal) = member.posted("/v1/register", &json!({"address": "10.0.0.7:7443"})).await;
    assert_eq!((status, &refusal["code"]), (403, &json!("REGISTRATION_INVALID")));
}
