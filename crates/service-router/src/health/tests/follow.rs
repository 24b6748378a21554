use std::collections::BTreeMap;

use service_registry::Change;

use super::*;

/// How many instances of each service are checked.
fn checked(watched: &Watched) -> BTreeMap<&str, usize> {
    watched.services.iter().map(|(name, checkers)| (name.as_str(), checkers.len())).collect()
}

fn of(names: &[&str], policy: &Arc<CheckPolicy>) -> CheckPolicies {
    let checks = Arc::new(Checks { latest: Arc::clone(policy), former: Vec::new() });
    Arc::new(names.iter().map(|name| (name.parse().unwrap(), Arc::clone(&checks))).collect())
}

#[tokio::test(start_paused = true)]
async fn there_is_one_checker_for_each_instance_that_is_there() {
    let policy = Scene::alone().policy();
    let vrf = Service {
        name: "vrf".parse().unwrap(),
        version: "1.0.0".into(),
        split: None,
        required: true,
        desired: 2,
        replicas: vec![ready(0, Verdict::Unknown), ready(1, Verdict::Unknown)],
    };
    let mut other = ready(2, Verdict::Unknown);
    other.id = "oracle/0".parse().unwrap();
    let oracle = Service { name: "oracle".parse().unwrap(), replicas: vec![other], ..vrf.clone() };
    let registry = Registry::new(vec![vrf, oracle]);
    let (policies, follows) = watch::channel(of(&["vrf", "oracle"], &policy));
    let (_suspect, suspicions) = mpsc::channel(1);
    let (metrics, random) = (Arc::new(Metrics::new(1)), fastrand::Rng::with_seed(1));
    let mut owner = HealthOwner::new(registry.clone(), follows, suspicions, metrics, random);
    let (began, mut watched) = (Instant::now(), Watched::default());
    owner.follow(&mut watched);
    assert_eq!(checked(&watched), BTreeMap::from([("oracle", 1), ("vrf", 2)]));
    assert_eq!(watched.next_first, Some(began + 3 * FIRST_CHECKS), "one begins after the other");

    let begun = watched.tasks.len();
    registry.update(&"vrf/0".parse().unwrap(), |replica| {
        replica.instance = None;
        Change::Made
    });
    owner.follow(&mut watched);
    assert_eq!(checked(&watched), BTreeMap::from([("oracle", 1), ("vrf", 1)]));
    assert_eq!(watched.tasks.len(), begun, "no other one was begun anew");

    let mut another = CheckPolicy::clone(&policy);
    another.interval = Duration::from_secs(1);
    policies.send_replace(of(&["vrf", "oracle"], &Arc::new(another)));
    owner.follow(&mut watched);
    assert_eq!(watched.tasks.len(), begun, "a checker takes another policy over");
    let intervals = watched.services.values().flat_map(HashMap::values);
    assert!(intervals.into_iter().all(|checker| checker.policy.borrow().interval == Duration::from_secs(1)));

    let former = CheckPolicy { interval: Duration::from_secs(7), ..CheckPolicy::clone(&policy) };
    let of_both = Checks { latest: Arc::clone(&policy), former: vec![("1.0.0".into(), Arc::new(former))] };
    let names = ["vrf", "oracle"].map(|name| (name.parse().unwrap(), Arc::new(of_both.clone())));
    policies.send_replace(Arc::new(names.into()));
    registry.update(&"oracle/2".parse().unwrap(), |_| Change::Made);
    owner.follow(&mut watched);
    let mut intervals = watched.services.values().flat_map(HashMap::values);
    assert!(
        intervals.all(|checker| checker.policy.borrow().interval == Duration::from_secs(7)),
        "as it was before"
    );

    registry.replace_services(|known| known[1..].to_vec());
    owner.follow(&mut watched);
    assert_eq!(checked(&watched), BTreeMap::from([("oracle", 1)]));
    policies.send_replace(of(&[], &policy));
    owner.follow(&mut watched);
    assert_eq!(checked(&watched), BTreeMap::new(), "who has no policy is not checked");
}
