//! What members are told of the configuration of their own service, and what they say of it.

use std::collections::BTreeMap;

use mesh_protocol::{MAX_REASON_BYTES, canonical, sha256};
use service_registry::Taken;

use super::*;

/// A mesh API with configurations, as a reload changes them.
struct Configured {
    authority: Authority,
    configurations: Configurations,
    address: SocketAddr,
    serving: JoinHandle<()>,
    _folder: TempDir,
}

impl Configured {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = authority(&folder).await;
        let own = OwnIdentity::new(authority.clone(), Subject::Authority("n1".into())).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let api = MeshApi::new(listener, authority.clone(), own.identity(), own.spki()).unwrap();
        let configurations = Configurations::default();
        let api = api.with_configurations(configurations.clone());
        let serving = tokio::spawn(api.serve(std::future::pending()));
        let mesh = Self { authority, configurations, address, serving, _folder: folder };
        mesh.configure(1, json!({"depth": 1}), json!({})).await;
        mesh
    }

    /// Another configuration of vrf and of oracle, with a number.
    async fn configure(&self, revision: u64, vrf: Value, oracle: Value) {
        let (mut services, mut prepared) = (BTreeMap::new(), Vec::new());
        for (name, config) in [("vrf", vrf), ("oracle", oracle)] {
            let name: ServiceName = name.parse().unwrap();
            let config_digest = sha256(&canonical(&config).unwrap());
            let policy = ServicePolicy {
                policy: Policy::of_releases(Vec::new()),
                version: "1.0.0".into(),
                replicas: 2,
                config_digest,
                secrets: Vec::new(),
            };
            services.insert(name.clone(), policy);
            prepared.push((name, config_digest, Arc::new(config)));
        }
        self.configurations.prepare(revision, prepared);
        self.authority.apply(json!({"revision": revision}), services, "a test").await.unwrap();
        self.configurations.take_over(revision);
    }

    async fn connect(&self, subject: Subject) -> Member {
        let identity = OwnIdentity::new(self.authority.clone(), subject).unwrap().identity();
        Member::connect(&self.authority, self.address, identity).await
    }

    fn taken(&self, replica: &str) -> Taken {
        self.configurations.of_replica(&replica.parse().unwrap()).unwrap().taken
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Member {
    async fn get(&mut self, path: &str) -> (u16, Value) {
        self.ask(path).await.unwrap();
        self.answer().await.unwrap()
    }

    async fn say(&mut self, report: Value) -> (u16, Value) {
        let body = report.to_string();
        let head = "POST /v1/config HTTP/1.1\r\nhost: mesh\r\ncontent-type: application/json";
        let request = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        self.0.write_all(request.as_bytes()).await.unwrap();
        self.answer().await.unwrap()
    }
}

#[tokio::test]
async fn a_member_that_watches_is_told_of_another_configuration_and_fetches_that_of_its_own_service() {
    let mesh = Configured::new().await;
    let mut vrf = mesh.connect(replica("0")).await;
    let (_, first) = vrf.get("/v1/watch").await;
    let digest = |config: Value| json!(Bytes(sha256(&canonical(&config).unwrap()).to_vec()));
    assert_eq!(first["config"], json!({"revision": 1, "digest": digest(json!({"depth": 1}))}));
    let transition = first["revocations"]["revocations"]["tN"].as_str().unwrap().to_owned();
    vrf.ask(&format!("/v1/watch?epoch=0&tn={transition}&config=1")).await.unwrap();
    mesh.configure(2, json!({"depth": 2}), json!({})).await;
    let (_, next) = vrf.answer().await.unwrap();
    // Both at once, or it would join with what is not admitted any more.
    assert_ne!(next["revocations"]["revocations"]["tN"], transition);
    assert_eq!(next["config"], json!({"revision": 2, "digest": digest(json!({"depth": 2}))}));
    assert_eq!(vrf.get("/v1/config").await, (200, json!({"revision": 2, "config": {"depth": 2}})));
    let mut oracle = mesh.connect(replica_of("oracle", "1")).await;
    assert_eq!(oracle.get("/v1/config").await, (200, json!({"revision": 1, "config": {}})));
    // Whoever comes with a number that is over is told at once, though the transition is the one that it knows.
    let transition = next["revocations"]["revocations"]["tN"].as_str().unwrap();
    let late = timeout(PATIENCE, vrf.get(&format!("/v1/watch?epoch=0&tn={transition}&config=1"))).await;
    assert_eq!(late.unwrap().1["config"]["revision"], 2);
}

#[tokio::test]
async fn what_is_prepared_is_told_to_nobody_before_the_authority_has_decided() {
    let mesh = Configured::new().await;
    let mut vrf = mesh.connect(replica("0")).await;
    mesh.configurations.prepare(2, [("vrf".parse().unwrap(), [9; 32], Arc::new(json!({"depth": 9})))]);
    assert_eq!(vrf.get("/v1/config").await.1["revision"], 1);
    assert_eq!(vrf.get("/v1/watch").await.1["config"]["revision"], 1);
}

#[tokio::test]
async fn what_a_member_says_is_written_down_for_itself_and_only_of_what_is_wanted() {
    let mesh = Configured::new().await;
    let mut one = mesh.connect(replica("0")).await;
    assert_eq!(one.say(json!({"revision": 1, "outcome": "applied"})).await, (200, Value::Null));
    assert_eq!((mesh.taken("vrf/0"), mesh.taken("vrf/1")), (Taken::Applied, Taken::Pending));
    mesh.configure(2, json!({"depth": 2}), json!({})).await;
    // It is late.
    assert_eq!(one.say(json!({"revision": 1, "outcome": "applied"})).await.0, 200);
    assert_eq!(mesh.taken("vrf/0"), Taken::Pending);
    let reason = format!("line 1\n\u{1b}[31m{}", "x".repeat(9_000));
    assert_eq!(one.say(json!({"revision": 2, "outcome": "rejected", "reason": reason})).await.0, 200);
    let Taken::Rejected(said) = mesh.taken("vrf/0") else { panic!("{:?}", mesh.taken("vrf/0")) };
    assert!(said.len() == MAX_REASON_BYTES && said.starts_with("line 1  [31mx"), "{said}");
    one.say(json!({"revision": 2, "outcome": "rejected"})).await;
    assert_eq!(mesh.taken("vrf/0"), Taken::Rejected("it does not say why".into()));
}

#[tokio::test]
async fn nobody_but_a_replica_has_a_configuration_and_what_is_no_report_changes_nothing() {
    let mesh = Configured::new().await;
    let mut gateway = mesh.connect(Subject::Gateway("n1".into())).await;
    assert_eq!(gateway.get("/v1/watch").await.1.get("config"), None);
    let (status, refusal) = gateway.get("/v1/config").await;
    assert_eq!((status, &refusal["code"]), (403, &json!("REPLICA_NOT_EXPECTED")));
    let (status, refusal) = gateway.say(json!({"revision": 1, "outcome": "applied"})).await;
    assert_eq!((status, &refusal["code"]), (403, &json!("REPLICA_NOT_EXPECTED")));
    let mut stranger = Member::connect(&mesh.authority, mesh.address, Identity::default()).await;
    let (status, refusal) = stranger.get("/v1/config").await;
    assert_eq!((status, &refusal["code"]), (403, &json!("CERTIFICATE_REQUIRED")));
    let mut unknown = mesh.connect(replica_of("legacy", "0")).await;
    assert_eq!(unknown.get("/v1/config").await.0, 404);
    let mut one = mesh.connect(replica("0")).await;
    for report in [
        json!({"revision": 1}),
        json!({"revision": 1, "outcome": "taken"}),
        json!({"revision": 1, "outcome": "applied", "replica": "vrf/1"}),
    ] {
        assert_eq!(one.say(report.clone()).await.1["code"], "EVIDENCE_MALFORMED", "{report}");
    }
    let huge = "x".repeat(MAX_BODY_BYTES);
    let (status, _) = one.say(json!({"revision": 1, "outcome": "rejected", "reason": huge})).await;
    assert_eq!((status, mesh.taken("vrf/0")), (403, Taken::Pending));
}
