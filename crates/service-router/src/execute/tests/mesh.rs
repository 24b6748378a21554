//! Replicas that are reached under TLS with their identity pinned, and what becomes of calls when that ends.

use std::sync::Arc;

use expect_test::expect;
use jiff::Timestamp;
use service_registry::{Attestation, Channel, Instance, MeshPeer, Refusal, Verdict};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use super::bench::Bench;
use crate::connect::tests::{MeshAuthority, SPIFFE_ID};

impl Bench {
    /// From now on a replica is reached under TLS: in front of it stands somebody with a certificate of its identity.
    async fn put_into_mesh(&mut self, authority: &MeshAuthority, id: &str) -> Arc<MeshPeer> {
        let (leaf, client) = (authority.leaf(), authority.client());
        self.change_policy(|policy| policy.tls = Some(client));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let front = listener.local_addr().unwrap();
        let peer = Arc::new(MeshPeer::new(SPIFFE_ID.to_owned(), leaf.sha256));
        let mut behind = front;
        self.change_replica(id, |replica| {
            let known = replica.instance.take().unwrap();
            behind = known.address;
            let run = known.incarnation + 100;
            let instance = Instance::new(replica.id.clone(), run, front, known.version.clone());
            let instance = Instance { channel: Channel::Mesh(Arc::clone(&peer)), ..instance };
            replica.instance = Some(Arc::new(instance));
        });
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = leaf.acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut replica = TcpStream::connect(behind).await.unwrap();
                    let _either_side_has_ended = copy_bidirectional(&mut stream, &mut replica).await.is_err();
                });
            }
        });
        peer
    }
}

#[tokio::test]
async fn an_answer_that_never_ends_breaks_off_when_the_identity_of_the_replica_does() {
    let authority = MeshAuthority::new();
    let mut bench = Bench::new("vrf/0: stall");
    let peer = bench.put_into_mesh(&authority, "vrf/0").await;
    let answer = bench.begin("GET").await.unwrap();
    assert_eq!(bench.open_connections().await, 1);
    peer.end();
    bench.finish(answer).await;
    assert_eq!(bench.open_connections().await, 0);
    bench.shows(expect![[r#"
        GET
          vrf/0 has GET 0: stall
          200 by vrf/0, tries: 1, breaks off
    "#]]);
}

#[tokio::test]
async fn a_call_that_waits_for_its_answer_goes_on_at_another_replica_where_it_may_be_repeated() {
    for (call, expected) in [
        (
            "GET",
            expect![[r#"
                GET
                  vrf/0 has GET 0: hang
                  vrf/1 has GET 0: 200
                  200 by vrf/1, tries: 2
                suspected: vrf/0 Reset
                left alone: vrf/0
            "#]],
        ),
        (
            "POST 9",
            expect![[r#"
                POST 9
                  vrf/0 has POST 9: hang
                  failed, tries: 1: the replica failed: its identity has ended
                suspected: vrf/0 Reset
                left alone: vrf/0
            "#]],
        ),
    ] {
        let authority = MeshAuthority::new();
        let mut bench = Bench::new("vrf/0: hang; vrf/1: 200");
        let peer = bench.put_into_mesh(&authority, "vrf/0").await;
        let ends = async {
            bench.until_logged(1, "hang").await;
            peer.end();
        };
        tokio::join!(bench.call(call), ends);
        bench.shows(expected);
    }
}

#[tokio::test]
async fn the_same_holds_over_http2_for_all_calls_of_a_connection() {
    let trying = async {
        let authority = MeshAuthority::new();
        let mut bench = Bench::http2("vrf/0: 200 hang hang; vrf/1: 200 200");
        let peer = bench.put_into_mesh(&authority, "vrf/0").await;
        bench.call("GET").await;
        let ends = async {
            bench.until_logged(2, "hang").await;
            peer.end();
        };
        let (answered, ()) = tokio::join!(bench.together(2, "GET"), ends);
        assert_eq!((answered.as_str(), bench.open_connections().await), ("2 by vrf/1", 1));
    };
    LocalSet::new().run_until(trying).await;
}

#[tokio::test]
async fn a_connection_that_idles_is_not_used_once_the_identity_has_ended() {
    let authority = MeshAuthority::new();
    let mut bench = Bench::new("vrf/0: 200 200 200; vrf/1: 200");
    let peer = bench.put_into_mesh(&authority, "vrf/0").await;
    bench.call("GET").await;
    bench.call("POST 9").await;
    assert_eq!(bench.connects(), 1);
    peer.end();
    bench.call("POST 9").await;
    bench.shows(expect![[r#"
        GET
          vrf/0 has GET 0: 200
          200 by vrf/0, tries: 1
        POST 9
          vrf/0 has POST 9: 200
          200 by vrf/0, tries: 1
        POST 9
          vrf/1 has POST 9: 200
          200 by vrf/1, tries: 2
        suspected: vrf/0 Reset
        left alone: vrf/0
    "#]]);
}

#[tokio::test]
async fn a_panic_threshold_overrules_health_and_never_attestation() {
    let mut bench = Bench::new("vrf/0: 200 200, vrf/1: 200 200, vrf/2: 200 200");
    bench.change_policy(|policy| policy.balancing.panic_threshold_percent = 100);
    bench.check_says("vrf/0", Verdict::Unhealthy);
    bench.check_says("vrf/1", Verdict::Unhealthy);
    let refusal = Refusal { code: "REVOKED".into(), detail: "its measurement".into() };
    let now = Timestamp::UNIX_EPOCH;
    bench.change_replica("vrf/1", |replica| {
        replica.attestation = replica.attestation.refused(refusal, now);
    });
    bench.change_replica("vrf/2", |replica| replica.attestation = Attestation::pending(now));
    assert_eq!(bench.together(2, "GET").await, "2 by vrf/0");
    bench.change_replica("vrf/0", |replica| {
        replica.attestation = Attestation::pending(now).expired(now);
    });
    bench.call("GET").await;
    let none = "vrf/0 is not attested (expired), vrf/1 is not attested (refused), vrf/2 is not attested yet";
    assert!(bench.logged("no replica can be selected").ends_with(none), "{}", bench.logged("failed"));
}
