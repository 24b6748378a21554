use std::sync::Mutex;

use expect_test::{Expect, expect};
use service_registry::{LastCheck, LifecycleState, Replica, Service, Snapshot};
use tokio::sync::watch;
use types::ReplicaId;

use super::*;

/// Runs a checker whose checks end as `results` say (`+` passes, `-` fails, `l` cannot be made, `h` hangs; the last one repeats) and
/// shows each published change with its time.
async fn observe(results: &str, suspicions: &[(u64, SuspicionKind)], seconds: u64, expected: Expect) {
    let id: ReplicaId = "vrf/0".parse().unwrap();
    let mut replica = Replica::stopped(id.clone(), Timestamp::UNIX_EPOCH);
    let instance = Arc::new(Instance {
        replica: id.clone(),
        incarnation: 1,
        address: ([127, 0, 0, 1], 1).into(),
        version: "1.0.0".into(),
        in_flight: Arc::default(),
        last_check: LastCheck::default(),
    });
    (replica.state, replica.instance) = (LifecycleState::Ready, Some(Arc::clone(&instance)));
    let service = Service {
        name: id.service.clone(),
        version: "1.0.0".into(),
        required: true,
        replicas: vec![replica],
    };
    let registry = Registry::new(vec![service]);
    let (suspect, received) = mpsc::channel(QUEUED_SUSPICIONS);
    let policy = CheckPolicy {
        path: "/health".into(),
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(5),
        healthy_threshold: 1,
        unhealthy_threshold: 3,
    };
    let random = fastrand::Rng::with_seed(1);
    let subject = Subject { registry: registry.clone(), instance, policy, suspicions: received, random };
    let script = Arc::new(Mutex::new(results.chars().rev().collect::<Vec<_>>()));
    let probe = move |_, _| {
        let mut script = script.lock().unwrap();
        let result = if script.len() > 1 { script.pop().unwrap() } else { script[0] };
        async move {
            match result {
                '+' => Ok(()),
                '-' => Err(CheckError::Failed("answered 500".to_owned())),
                'l' => Err(CheckError::Local("too many open files".to_owned())),
                _ => std::future::pending().await,
            }
        }
    };
    let began = Instant::now();
    let log = Arc::new(Mutex::new(String::new()));
    let watching = tokio::spawn(watch(registry.subscribe(), id, Arc::clone(&log)));
    let checking = tokio::spawn(subject.keep_checking(probe));
    for (at, kind) in suspicions {
        tokio::time::sleep_until(began + Duration::from_secs(*at)).await;
        suspect.send(*kind).await.unwrap();
    }
    tokio::time::sleep_until(began + Duration::from_secs(seconds)).await;
    checking.abort();
    watching.abort();
    expected.assert_eq(&log.lock().unwrap());
}

async fn watch(mut snapshots: watch::Receiver<Arc<Snapshot>>, id: ReplicaId, log: Arc<Mutex<String>>) {
    let began = Instant::now();
    while snapshots.changed().await.is_ok() {
        let health = snapshots.borrow_and_update().replica(&id).unwrap().health.clone();
        let (verdict, reason) = (health.verdict.as_str(), health.reason.unwrap_or_default());
        let line = format!("{}s {verdict} answered={} {reason}", began.elapsed().as_secs(), health.answered);
        *log.lock().unwrap() += &format!("{}\n", line.trim_end());
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_check_runs_at_once_and_a_replica_that_stays_healthy_is_published_once() {
    observe(
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
    observe(
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
    observe("-", &[], 30, expect![""]).await;
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_counts_as_failed_after_its_timeout() {
    observe(
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
    observe(
        "+h",
        &[(3, SuspicionKind::Refused)],
        5,
        expect![[r#"
            0s healthy answered=0
            3s unhealthy answered=0 it refused a connection
        "#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn after_a_reset_one_failed_check_is_enough() {
    observe(
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
async fn a_check_that_this_machine_had_no_room_for_says_nothing() {
    observe(
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
