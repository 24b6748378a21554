use expect_test::expect;
use proptest::prelude::*;

use super::super::priority::shares;
use super::*;

const PICKS: usize = 20_000;

#[derive(Debug, Clone)]
struct World {
    targets: Vec<(u32, u32, u32, bool, u64, u32)>,
    eligible: Vec<bool>,
    load: Vec<f64>,
    pending: Vec<u32>,
    settings: Settings,
    request: Request,
    seed: u64,
}

fn settings_strategy() -> impl Strategy<Value = Settings> {
    let policy = proptest::sample::select(&POLICIES[..]);
    let weights = proptest::collection::vec(0..4_u32, 0..4);
    let apart = proptest::option::weighted(0.4, 0..=100_u8);
    (policy, 0..3_u64, 0..=100_u8, weights, apart).prop_map(
        |(policy, slow_start, percent, weights, apart)| Settings {
            policy,
            slow_start: Duration::from_secs(slow_start * 10),
            panic_threshold_percent: percent,
            version_weights: weights,
            apart,
        },
    )
}

fn request_strategy() -> impl Strategy<Value = Request> {
    let version = prop_oneof![
        2 => Just(Wanted::Any),
        1 => (0..10_u32).prop_map(Wanted::Only),
        1 => (0..10_u32).prop_map(Wanted::Rather),
    ];
    (any::<Option<u64>>(), version, any::<Option<u64>>()).prop_map(|(hash, version, sticky_hash)| Request {
        hash,
        version,
        sticky_hash,
    })
}

fn world() -> impl Strategy<Value = World> {
    (0..12_usize).prop_flat_map(|count| {
        let target = (0..4_u32, 0..3_u32, 0..4_u32, any::<bool>(), 0..30_u64, 4..7_u32);
        (
            proptest::collection::vec(target, count),
            proptest::collection::vec(any::<bool>(), count),
            proptest::collection::vec(0.0..10.0_f64, count),
            proptest::collection::vec(0..50_u32, count),
            settings_strategy(),
            request_strategy(),
            any::<u64>(),
        )
            .prop_map(|(targets, eligible, load, pending, settings, request, seed)| World {
                targets,
                eligible,
                load,
                pending,
                settings,
                request,
                seed,
            })
    })
}

/// The rule in its own words: which targets a request may get when they are eligible.
fn in_reach(targets: &[Target], settings: &Settings, request: &Request) -> Vec<bool> {
    let counted: Vec<_> = targets.iter().filter(|target| target.weight > 0).collect();
    let healthy = counted.iter().filter(|target| target.healthy).count();
    let panic = healthy * 100 < counted.len() * usize::from(settings.panic_threshold_percent);
    let weights = &settings.version_weights;
    let has_part = |target: &Target| match settings.apart {
        Some(0) => !target.apart,
        Some(_) => true,
        None => weights.is_empty() || weights.get(target.version as usize).is_some_and(|weight| *weight > 0),
    };
    let is_asked = |target: &Target, asked: u32| target.version == asked || target.id == asked;
    let counts = |target: &&Target| target.weight > 0 && (panic || target.healthy);
    let fits = |target: &Target| {
        counts(&target)
            && match request.version {
                Wanted::Any => has_part(target),
                Wanted::Only(asked) => is_asked(target, asked),
                Wanted::Rather(asked) => {
                    // Whoever is eligible of the one that it would rather have comes before all others.
                    is_asked(target, asked) || has_part(target)
                }
            }
    };
    targets.iter().map(fits).collect()
}

proptest! {
    // Each case with Maglev fills tables, which takes long without optimisation.
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn a_pick_is_eligible_and_in_reach_and_there_is_one_whenever_there_can_be(world in world()) {
        let start = Instant::now();
        let target = |(index, fields): (usize, &(u32, u32, u32, bool, u64, u32))| {
            let (weight, priority, version, healthy, age, build) = *fields;
            // Of each label there may be three that differ.
            let id = version * 3 + build;
            let since = start + Duration::from_secs(age);
            Target { key: index as u64, weight, priority, version, id, apart: id == 8, healthy, since }
        };
        let targets: Vec<Target> = world.targets.iter().enumerate().map(target).collect();
        let balancer = Balancer::new(&world.settings, &targets, None);
        let reach = in_reach(&targets, &world.settings, &world.request);
        let loads = Fixed { eligible: world.eligible, load: world.load, pending: world.pending };
        let mut random = fastrand::Rng::with_seed(world.seed);
        let may: Vec<bool> = reach.iter().zip(&loads.eligible).map(|(reach, eligible)| *reach && *eligible).collect();
        for _ in 0..20 {
            let picked = balancer.pick(&loads, &world.request, &mut random, start + Duration::from_secs(30));
            prop_assert_eq!(picked.is_some(), may.contains(&true));
            prop_assert!(picked.is_none_or(|index| may[index]));
        }
    }
}

/// Levels of so many healthy targets of a hundred.
fn levels(healthy: &[usize]) -> Vec<Target> {
    let now = Instant::now();
    let mut all = Vec::new();
    for (priority, healthy) in (0..).zip(healthy) {
        for index in 0..100 {
            all.push(Target { priority, healthy: index < *healthy, ..targets(&[1], now)[0].clone() });
        }
    }
    all
}

/// The traffic that each level gets, in percents.
fn traffic(targets: &[Target], settings: &Settings, loads: &Fixed) -> Vec<usize> {
    let balancer = Balancer::new(settings, targets, None);
    let counts = count(&balancer, loads, PICKS, Request::default(), Instant::now());
    let mut by_level = vec![0; targets.last().map_or(0, |target| target.priority as usize + 1)];
    for (target, count) in targets.iter().zip(counts) {
        by_level[target.priority as usize] += count;
    }
    percents(&by_level, PICKS)
}

#[test]
fn levels_share_as_envoys_published_tables_say() {
    let table = [
        vec![100, 100],
        vec![72, 100],
        vec![71, 100],
        vec![50, 100],
        vec![25, 100],
        vec![0, 100],
        vec![72, 72],
        vec![71, 71],
        vec![50, 50],
        vec![25, 25],
        vec![0, 0],
        vec![100, 100, 100],
        vec![72, 72, 100],
        vec![71, 71, 100],
        vec![50, 50, 100],
        vec![25, 100, 100],
        vec![25, 25, 100],
        vec![25, 25, 20],
    ];
    let line = |healthy: &Vec<usize>| {
        let levels: Vec<_> = healthy.iter().map(|healthy| (*healthy, 100)).collect();
        let shares: Vec<String> =
            shares(&levels).iter().map(|share| format!("{:.1}", share.abs() * 100.0)).collect();
        format!("{healthy:?}: {}\n", shares.join(" "))
    };
    expect![[r#"
        [100, 100]: 100.0 0.0
        [72, 100]: 100.0 0.0
        [71, 100]: 99.4 0.6
        [50, 100]: 70.0 30.0
        [25, 100]: 35.0 65.0
        [0, 100]: 0.0 100.0
        [72, 72]: 100.0 0.0
        [71, 71]: 99.4 0.6
        [50, 50]: 70.0 30.0
        [25, 25]: 50.0 50.0
        [0, 0]: 0.0 0.0
        [100, 100, 100]: 100.0 0.0 0.0
        [72, 72, 100]: 100.0 0.0 0.0
        [71, 71, 100]: 99.4 0.6 0.0
        [50, 50, 100]: 70.0 30.0 0.0
        [25, 100, 100]: 35.0 65.0 0.0
        [25, 25, 100]: 35.0 35.0 30.0
        [25, 25, 20]: 35.7 35.7 28.6
    "#]]
    .assert_eq(&table.iter().map(line).collect::<String>());
}

#[test]
fn traffic_follows_the_shares_with_every_policy() {
    for policy in POLICIES {
        let settings = settings(policy);
        let check = |healthy: &[usize], expected: &[usize]| {
            let targets = levels(healthy);
            let traffic = traffic(&targets, &settings, &Fixed::alike(targets.len()));
            assert_near(&traffic, expected);
        };
        check(&[100, 100], &[100, 0]);
        check(&[71, 100], &[99, 1]);
        check(&[50, 100], &[70, 30]);
        check(&[0, 100], &[0, 100]);
        check(&[0, 0], &[0, 0]);
        check(&[25, 25, 100], &[35, 35, 30]);
    }
}

#[test]
fn a_level_of_which_none_is_eligible_gives_its_traffic_to_the_next() {
    let targets = levels(&[100, 100]);
    let mut loads = Fixed::alike(200);
    loads.eligible[..100].fill(false);
    assert_near(&traffic(&targets, &settings(Policy::PeakEwma), &loads), &[0, 100]);
}

#[test]
fn below_the_panic_threshold_health_is_ignored_and_eligibility_is_not() {
    let now = Instant::now();
    let picked = |healthy: usize, percent: u8, eligible: [bool; 4]| {
        let mut targets = targets(&[1; 4], now);
        targets.iter_mut().skip(healthy).for_each(|target| target.healthy = false);
        let settings = Settings { panic_threshold_percent: percent, ..settings(Policy::Random) };
        let balancer = Balancer::new(&settings, &targets, None);
        let loads = Fixed { eligible: eligible.to_vec(), ..Fixed::alike(4) };
        percents(&count(&balancer, &loads, PICKS, Request::default(), now), PICKS)
    };
    let all = [true; 4];
    assert_near(&picked(2, 50, all), &[50, 50, 0, 0]);
    assert_near(&picked(1, 50, all), &[25, 25, 25, 25]);
    assert_near(&picked(0, 1, all), &[25, 25, 25, 25]);
    assert_near(&picked(1, 50, [true, false, true, false]), &[50, 0, 50, 0]);
    assert_near(&picked(1, 0, all), &[100, 0, 0, 0]);
    assert_near(&picked(0, 0, all), &[0, 0, 0, 0]);
}
