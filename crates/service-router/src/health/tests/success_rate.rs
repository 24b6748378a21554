use super::*;

/// What becomes of a replica that gets `own` calls after its first check, while the service's others together get `others`;
/// both as calls and failures.
async fn after(own: (u64, u64), others: (u64, u64)) -> String {
    let scene = Scene::among(&[Verdict::Healthy, Verdict::Healthy], 50);
    let registry = scene.registry();
    let instances: Vec<_> = registry.snapshot().services[0]
        .replicas
        .iter()
        .map(|replica| replica.instance.clone().unwrap())
        .collect();
    // What came before is never looked at.
    instances.iter().for_each(|instance| count(instance, (500, 250)));
    let (_suspect, received) = mpsc::channel(QUEUED_SUSPICIONS);
    let (series, random) = (Metrics::new(1).service("vrf"), fastrand::Rng::with_seed(1));
    let shard = Arc::clone(series.health());
    let (_policy, policies) = watch::channel(scene.policy());
    let checked = Arc::clone(&instances[0]);
    let subject = Subject::new(registry.clone(), checked, policies, received, Arc::clone(&shard), random);
    let checking = tokio::spawn(subject.keep_checking(Instant::now(), scripted("+")));
    tokio::time::sleep(Duration::from_secs(1)).await;
    count(&instances[0], own);
    count(&instances[1], (others.0 / 2, others.1 / 2));
    count(&instances[2], (others.0 - others.0 / 2, others.1 - others.1 / 2));
    tokio::time::sleep(Duration::from_secs(12)).await;
    checking.abort();
    let health = registry.snapshot().services[0].replicas[0].health.clone();
    assert_eq!(shard.ejections.value(), u64::from(health.verdict == Verdict::Ejected));
    let reason = health.reason.unwrap_or_default();
    let line = format!("{own:?} beside {others:?}: {} {reason}", health.verdict.as_str());
    format!("{}\n", line.trim_end())
}

fn count(instance: &Instance, (calls, failures): (u64, u64)) {
    let count = instance.calls.begin();
    (0..calls).for_each(|_| count.add_call());
    (0..failures).for_each(|_| count.add_failure());
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_fails_often_while_the_others_do_not_is_left_alone() {
    let mut shown = String::new();
    for (own, others) in [
        ((100, 16), (100, 0)),
        ((100, 15), (100, 0)),
        ((99, 99), (100, 0)),
        ((1000, 500), (1000, 49)),
        ((1000, 500), (1000, 50)),
        ((1000, 1000), (99, 0)),
        ((1000, 1000), (1000, 1000)),
    ] {
        shown += &after(own, others).await;
    }
    expect![[r#"
        (100, 16) beside (100, 0): ejected only 84 % of its calls succeed; left alone for 30s
        (100, 15) beside (100, 0): healthy
        (99, 99) beside (100, 0): healthy
        (1000, 500) beside (1000, 49): ejected only 50 % of its calls succeed; left alone for 30s
        (1000, 500) beside (1000, 50): healthy
        (1000, 1000) beside (99, 0): healthy
        (1000, 1000) beside (1000, 1000): healthy
    "#]]
    .assert_eq(&shown);
}

#[test]
fn every_look_begins_anew_once_there_were_enough_calls() {
    let registry = Scene::among(&[Verdict::Healthy], 50).registry();
    let service = Arc::clone(&registry.snapshot().services[0]);
    let instance = |place: usize| Arc::clone(service.replicas[place].instance.as_ref().unwrap());
    let (own, other) = (instance(0), instance(1));
    let mut rate = crate::health::success_rate::SuccessRate::new(Some(&service));
    let mut look = |own_calls, other_calls| {
        count(&own, own_calls);
        count(&other, other_calls);
        rate.too_low(&service, &own)
    };
    assert_eq!(look((60, 60), (200, 0)), None, "too few");
    assert_eq!(look((60, 0), (0, 0)), Some(50), "60 and 60 are enough");
    assert_eq!(look((100, 10), (100, 0)), None, "those before count no more");
    assert_eq!(look((100, 90), (0, 0)), None, "nor do the others'");
    assert_eq!(look((100, 90), (100, 0)), Some(10));
}
