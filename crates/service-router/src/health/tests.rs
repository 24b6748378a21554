use std::pin::Pin;
use std::sync::Mutex;

use expect_test::{Expect, expect};
use jiff::Timestamp;
use service_registry::{Attestation, Claim, Instance, LifecycleState, Replica, Service, Snapshot, Verdict};
use tokio::time::Instant;
use types::ReplicaId;

use super::check::CheckError;
use super::*;
use crate::policy::UpstreamProtocol;

mod follow;
mod success_rate;

/// One checked replica of a service.
struct Scene {
    /// What is known of it when its checker begins.
    known: Verdict,
    /// What the health of the service's other replicas is.
    others: Vec<Verdict>,
    max_ejected_percent: u8,
}

impl Scene {
    fn alone() -> Self {
        Self::among(&[], 100)
    }

    fn among(others: &[Verdict], max_ejected_percent: u8) -> Self {
        Self { known: Verdict::Unknown, others: others.to_vec(), max_ejected_percent }
    }

    fn policy(&self) -> Arc<CheckPolicy> {
        let probe = Probe::Http("/health".into());
        Arc::new(CheckPolicy {
            channel: CheckChannel { probe, protocol: UpstreamProtocol::Http1, tls: None },
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            healthy_threshold: 1,
            unhealthy_threshold: 3,
            ejection: Duration::from_secs(30),
            max_ejected_percent: self.max_ejected_percent,
        })
    }

    /// The checked replica is the first one.
    fn registry(&self) -> Registry {
        let verdicts = std::iter::once(self.known).chain(self.others.iter().copied());
        let replicas: Vec<_> =
            verdicts.zip(0_u32..).map(|(verdict, ordinal)| ready(ordinal, verdict)).collect();
        let name = replicas[0].id.service.clone();
        Registry::new(vec![Service {
            name,
            version: "1.0.0".into(),
            split: None,
            required: true,
            desired: replicas.len(),
            replicas,
        }])
    }

    /// Runs a checker whose checks end as `results` say (`+` passes, `-` fails, `l` cannot be made, `h` hangs; the last one
    /// repeats) and shows each published change with its time.
    async fn observe(
        self,
        results: &str,
        suspicions: &[(u64, SuspicionKind)],
        seconds: u64,
        expected: Expect,
    ) {
        let registry = self.registry();
        let instance = registry.snapshot().services[0].replicas[0].instance.clone().unwrap();
        let (suspect, received) = mpsc::channel(QUEUED_SUSPICIONS);
        let shard = Arc::clone(Metrics::new(1).service("vrf").health());
        let (_policy, policies) = watch::channel(self.policy());
        let random = fastrand::Rng::with_seed(1);
        let checked = Arc::clone(&instance);
        let subject = Subject::new(registry.clone(), checked, policies, received, shard, random);
        let began = Instant::now();
        let log = Arc::new(Mutex::new(String::new()));
        let watching = tokio::spawn(note(registry.subscribe(), instance, Arc::clone(&log)));
        let checking = tokio::spawn(subject.keep_checking(Instant::now(), scripted(results)));
        for (at, kind) in suspicions {
            tokio::time::sleep_until(began + Duration::from_secs(*at)).await;
            suspect.send(*kind).await.unwrap();
        }
        tokio::time::sleep_until(began + Duration::from_secs(seconds)).await;
        checking.abort();
        watching.abort();
        expected.assert_eq(&log.lock().unwrap());
    }
}

fn ready(ordinal: u32, verdict: Verdict) -> Replica {
    let id: ReplicaId = format!("vrf/{ordinal}").parse().unwrap();
    let mut replica = Replica::stopped(id.clone(), Timestamp::UNIX_EPOCH);
    replica.attestation = Attestation::exempt(Timestamp::UNIX_EPOCH);
    let instance = Instance::new(id, u64::from(ordinal) + 1, ([127, 0, 0, 1], 1).into(), "1.0.0".into());
    (replica.state, replica.instance) = (LifecycleState::Ready, Some(Arc::new(instance)));
    replica.health.verdict = verdict;
    replica
}

type Checked = Pin<Box<dyn Future<Output = Result<(), CheckError>> + Send>>;

fn scripted(results: &str) -> impl Fn(Arc<Instance>, CheckChannel) -> Checked + use<> {
    let script = Mutex::new(results.chars().rev().collect::<Vec<_>>());
    move |_, _| {
        let mut script = script.lock().unwrap();
        let result = if script.len() > 1 { script.pop().unwrap() } else { script[0] };
        Box::pin(async move {
            match result {
                '+' => Ok(()),
                '-' => Err(CheckError::Failed("answered 500".to_owned())),
                'l' => Err(CheckError::Local("too many open files".to_owned())),
                _ => std::future::pending().await,
            }
        })
    }
}

/// Writes down each change; where one call decides about the replica, makes that call and lets it succeed.
async fn note(
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    instance: Arc<Instance>,
    log: Arc<Mutex<String>>,
) {
    let began = Instant::now();
    while snapshots.changed().await.is_ok() {
        let health = snapshots.borrow_and_update().replica(&instance.replica).unwrap().health.clone();
        let (verdict, mut reason) = (health.verdict.as_str(), health.reason.unwrap_or_default());
        if health.verdict == Verdict::Healthy && instance.outcomes.claim() == Claim::Probe {
            instance.outcomes.succeeded();
            reason = "on probation".into();
        }
        let line = format!("{}s {verdict} answered={} {reason}", began.elapsed().as_secs(), health.answered);
        *log.lock().unwrap() += &format!("{}\n", line.trim_end());
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_check_runs_at_once_and_a_replica_that_stays_healthy_is_published_once() {
    Scene::alone()
        .observe(
            "+",
            &[],
            100,
            expect![[r#"
        0s healthy answered=0
    "#]],
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn three_failed_checks_in_a_row_make_it_unhealthy_and_one_passed_check_healthy_again() {
    Scene::alone()
        .observe(
            "+--+---+",
            &[],
            60,
            expect![[r#"
        0s healthy answered=0
        24s unhealthy answered=0 answered 500
        25s healthy answered=0
    "#]],
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_never_passed_stays_unknown() {
    Scene::alone().observe("-", &[], 30, expect![""]).await;
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_counts_as_failed_after_its_timeout() {
    Scene::alone()
        .observe(
            "+h",
            &[],
            60,
            expect![[r#"
        0s healthy answered=0
        27s unhealthy answered=0 no answer within 5s
    "#]],
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_takes_it_out_at_once_until_a_check_passes() {
    Scene::alone()
        .observe(
            "+h",
            &[(3, SuspicionKind::Refused)],
            5,
            expect![[r#"
            0s healthy answered=0
            3s unhealthy answered=0 it refused a connection
            3s unhealthy answered=1 no answer within 50ms
        "#]],
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn after_a_reset_one_failed_check_is_enough() {
    Scene::alone()
        .observe(
            "+-+",
            &[(3, SuspicionKind::Reset)],
            8,
            expect![[r#"
        0s healthy answered=0
        3s unhealthy answered=1 answered 500
        4s healthy answered=1
    "#]],
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_check_that_decides_about_a_suspicion_is_short() {
    Scene::alone()
        .observe(
            "+h+",
            &[(3, SuspicionKind::Reset)],
            8,
            expect![[r#"
                0s healthy answered=0
                3s unhealthy answered=1 no answer within 50ms
                4s healthy answered=1
            "#]],
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_suspicion_does_not_wait_for_a_check_that_hangs() {
    Scene::alone()
        .observe(
            "+h-+",
            &[(12, SuspicionKind::Reset)],
            14,
            expect![[r#"
                0s healthy answered=0
                12s unhealthy answered=1 answered 500
                13s healthy answered=1
            "#]],
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn another_policy_ends_no_ejection() {
    let scene = Scene::among(&[Verdict::Healthy, Verdict::Healthy], 50);
    let registry = scene.registry();
    let instance = registry.snapshot().services[0].replicas[0].instance.clone().unwrap();
    let (suspect, received) = mpsc::channel(QUEUED_SUSPICIONS);
    let shard = Arc::clone(Metrics::new(1).service("vrf").health());
    let (policy, policies) = watch::channel(scene.policy());
    let random = fastrand::Rng::with_seed(1);
    let subject = Subject::new(registry.clone(), Arc::clone(&instance), policies, received, shard, random);
    let log = Arc::new(Mutex::new(String::new()));
    let noting = tokio::spawn(note(registry.subscribe(), instance, Arc::clone(&log)));
    let checking = tokio::spawn(subject.keep_checking(Instant::now(), scripted("+")));
    tokio::time::sleep(Duration::from_secs(3)).await;
    suspect.send(SuspicionKind::Failing).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    policy.send_replace(Scene { max_ejected_percent: 10, ..scene }.policy());
    tokio::time::sleep(Duration::from_secs(50)).await;
    checking.abort();
    noting.abort();
    expect![[r#"
        0s healthy answered=0
        3s ejected answered=1 its calls fail; left alone for 30s
        33s healthy answered=1 on probation
    "#]]
    .assert_eq(&log.lock().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_was_refused_is_made_again_once_checks_pass() {
    let scene = Scene::among(&[Verdict::Healthy], 100);
    let registry = scene.registry();
    let instance = registry.snapshot().services[0].replicas[0].instance.clone().unwrap();
    let (suspect, received) = mpsc::channel(QUEUED_SUSPICIONS);
    let shard = Arc::clone(Metrics::new(1).service("vrf").health());
    let (_policy, policies) = watch::channel(scene.policy());
    let random = fastrand::Rng::with_seed(1);
    let subject = Subject::new(registry.clone(), Arc::clone(&instance), policies, received, shard, random);
    let checking = tokio::spawn(subject.keep_checking(Instant::now(), scripted("+")));
    tokio::time::sleep(Duration::from_secs(1)).await;
    instance.outcomes.begin_probation();
    assert_eq!(instance.outcomes.claim(), Claim::Probe);
    suspect.send(SuspicionKind::Refused).await.unwrap();
    suspect.send(SuspicionKind::Failing).await.unwrap();
    assert_eq!(instance.outcomes.claim(), Claim::Refused);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(registry.snapshot().services[0].replicas[0].health.verdict, Verdict::Healthy);
    assert_eq!(instance.outcomes.claim(), Claim::Probe);
    checking.abort();
}

#[tokio::test(start_paused = true)]
async fn a_check_that_this_machine_had_no_room_for_says_nothing() {
    Scene::alone()
        .observe(
            "+lllll+",
            &[(3, SuspicionKind::Reset)],
            60,
            expect![[r#"
        0s healthy answered=0
        3s healthy answered=1
    "#]],
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_whose_calls_fail_is_left_alone_and_then_one_call_decides() {
    let scene = Scene::among(&[Verdict::Healthy, Verdict::Healthy], 50);
    scene
        .observe(
            "+",
            &[(3, SuspicionKind::Failing)],
            60,
            expect![[r#"
        0s healthy answered=0
        3s ejected answered=1 its calls fail; left alone for 30s
        33s healthy answered=1 on probation
    "#]],
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_was_left_alone_is_on_probation_under_another_version() {
    let scene = Scene::among(&[Verdict::Healthy, Verdict::Healthy], 50);
    Scene { known: Verdict::Ejected, ..scene }
        .observe(
            "--+",
            &[],
            60,
            expect![[r#"
        0s unhealthy answered=0 answered 500
        2s healthy answered=0 on probation
    "#]],
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_second_ejection_lasts_twice_as_long() {
    let scene = Scene::among(&[Verdict::Healthy, Verdict::Healthy], 50);
    let failing = [(3, SuspicionKind::Failing), (40, SuspicionKind::Failing)];
    scene
        .observe(
            "+",
            &failing,
            120,
            expect![[r#"
        0s healthy answered=0
        3s ejected answered=1 its calls fail; left alone for 30s
        33s healthy answered=1 on probation
        40s ejected answered=2 its calls fail; left alone for 60s
        100s healthy answered=2 on probation
    "#]],
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn more_failed_calls_do_not_prolong_an_ejection() {
    let scene = Scene::among(&[Verdict::Healthy, Verdict::Healthy], 50);
    let failing = [(3, SuspicionKind::Failing), (5, SuspicionKind::Failing), (31, SuspicionKind::Failing)];
    scene
        .observe(
            "+",
            &failing,
            60,
            expect![[r#"
        0s healthy answered=0
        3s ejected answered=1 its calls fail; left alone for 30s
        5s ejected answered=2 its calls fail; left alone for 30s
        31s ejected answered=3 its calls fail; left alone for 30s
        33s healthy answered=3 on probation
    "#]],
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn checks_that_fail_count_more_than_an_ejection() {
    let scene = Scene::among(&[Verdict::Healthy, Verdict::Healthy], 50);
    scene
        .observe(
            "+--+",
            &[(3, SuspicionKind::Failing)],
            60,
            expect![[r#"
        0s healthy answered=0
        3s unhealthy answered=1 answered 500
        5s ejected answered=1 answered 500
        33s healthy answered=1 on probation
    "#]],
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn the_last_replica_that_may_serve_is_never_left_alone() {
    let failing = [(3, SuspicionKind::Failing)];
    Scene::alone()
        .observe(
            "+",
            &failing,
            60,
            expect![[r#"
        0s healthy answered=0
        3s healthy answered=1
    "#]],
        )
        .await;
    let scene = Scene::among(&[Verdict::Unhealthy, Verdict::Unknown], 100);
    scene
        .observe(
            "+",
            &failing,
            60,
            expect![[r#"
        0s healthy answered=0
        3s healthy answered=1
    "#]],
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn no_more_replicas_are_left_alone_than_the_share_that_may_be() {
    let failing = [(3, SuspicionKind::Failing)];
    let scene = Scene::among(&[Verdict::Healthy, Verdict::Ejected], 50);
    scene
        .observe(
            "+",
            &failing,
            60,
            expect![[r#"
        0s healthy answered=0
        3s healthy answered=1
    "#]],
        )
        .await;
    let scene = Scene::among(&[Verdict::Healthy, Verdict::Healthy], 33);
    scene
        .observe(
            "+",
            &failing,
            60,
            expect![[r#"
        0s healthy answered=0
        3s healthy answered=1
    "#]],
        )
        .await;
    let scene = Scene::among(&[Verdict::Healthy, Verdict::Healthy], 34);
    scene
        .observe(
            "+",
            &failing,
            60,
            expect![[r#"
        0s healthy answered=0
        3s ejected answered=1 its calls fail; left alone for 30s
        33s healthy answered=1 on probation
    "#]],
        )
        .await;
}
