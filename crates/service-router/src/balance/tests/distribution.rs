use super::*;

const PICKS: usize = 40_000;
/// Pearson's statistic for 3 degrees of freedom is above this once in a million.
const CHI_SQUARE: f64 = 30.7;

fn chi_square(counts: &[usize], weights: &[u32]) -> f64 {
    let total: f64 = weights.iter().copied().map(f64::from).sum();
    let expected = |weight: &u32| f64::from(*weight) / total * PICKS as f64;
    counts
        .iter()
        .zip(weights)
        .map(|(count, weight)| (*count as f64 - expected(weight)).powi(2) / expected(weight))
        .sum()
}

fn picked(policy: Policy, weights: &[u32]) -> Vec<usize> {
    let now = Instant::now();
    let balancer = Balancer::new(&settings(policy), &targets(weights, now), None);
    count(&balancer, &Fixed::alike(weights.len()), PICKS, Request::default(), now)
}

#[test]
fn every_policy_shares_evenly_among_equals() {
    for policy in POLICIES {
        let counts = picked(policy, &[1; 4]);
        // The slots of a table are no sample: each member has a quarter of them within a few.
        assert!(chi_square(&counts, &[1; 4]) < CHI_SQUARE, "{policy:?}: {counts:?}");
    }
}

#[test]
fn every_policy_honours_weights_when_costs_are_equal() {
    for weights in [[1, 2, 3, 4], [1, 1, 1, 20], [100, 1000, 100, 100]] {
        for policy in POLICIES {
            let counts = picked(policy, &weights);
            assert!(chi_square(&counts, &weights) < CHI_SQUARE, "{policy:?} {weights:?}: {counts:?}");
        }
    }
}

#[test]
fn a_target_without_weight_gets_nothing() {
    for policy in POLICIES {
        let counts = picked(policy, &[1, 0, 1, 2]);
        assert_eq!(counts[1], 0, "{policy:?}");
        assert_eq!(counts.iter().sum::<usize>(), PICKS, "{policy:?}");
    }
}

#[test]
fn the_dearest_of_equals_is_never_chosen_and_of_unequals_rarely() {
    let now = Instant::now();
    for policy in [Policy::PeakEwma, Policy::LeastRequest] {
        let loads = Fixed { load: vec![0.01, 0.02, 0.1], pending: vec![0, 1, 9], ..Fixed::alike(3) };
        let pick = |weights: &[u32]| {
            let balancer = Balancer::new(&settings(policy), &targets(weights, now), None);
            count(&balancer, &loads, PICKS, Request::default(), now)
        };
        assert_eq!(pick(&[1; 3])[2], 0, "{policy:?}");
        assert!(pick(&[1, 1, 2])[2] < PICKS / 50, "{policy:?}: {:?}", pick(&[1, 1, 2]));
    }
}

#[test]
fn a_heavier_target_may_have_more_in_flight_for_the_same_cost() {
    let now = Instant::now();
    let balancer = Balancer::new(&settings(Policy::LeastRequest), &targets(&[1, 3], now), None);
    let loads = Fixed { pending: vec![10, 30], ..Fixed::alike(2) };
    let counts = count(&balancer, &loads, PICKS, Request::default(), now);
    assert_near(&percents(&counts, PICKS), &[25, 75]);
}

#[test]
fn round_robin_spreads_the_turns_of_the_heavy_over_the_round() {
    let now = Instant::now();
    let balancer = Balancer::new(&settings(Policy::RoundRobin), &targets(&[5, 1, 1], now), None);
    let mut random = fastrand::Rng::with_seed(1);
    let mut next =
        || balancer.pick(&Fixed::alike(3), &Request::default(), &mut random, now).map(|index| b"abc"[index]);
    let round: Vec<u8> = (0..7).filter_map(|_| next()).collect();
    assert_eq!(round, b"aabacaa");
}

#[test]
fn turns_go_on_where_they_were_when_the_targets_change() {
    let now = Instant::now();
    let settings = settings(Policy::RoundRobin);
    let mut random = fastrand::Rng::with_seed(1);
    let mut pick = |balancer: &Balancer, count| {
        balancer.pick(&Fixed::alike(count), &Request::default(), &mut random, now)
    };
    let first = Balancer::new(&settings, &targets(&[1; 3], now), None);
    assert_eq!((pick(&first, 3), pick(&first, 3)), (Some(0), Some(1)));
    // Listed the other way round: the third target is the first now.
    let reversed: Vec<Target> = targets(&[1; 3], now).into_iter().rev().collect();
    let second = Balancer::new(&settings, &reversed, Some(&first));
    assert_eq!(pick(&second, 3), Some(0));
}

#[test]
fn a_new_target_gets_a_tenth_of_its_part_and_then_more_until_the_window_ends() {
    let start = Instant::now();
    let settings = |policy| Settings { slow_start: Duration::from_secs(100), ..settings(policy) };
    for policy in [Policy::PeakEwma, Policy::RoundRobin, Policy::LeastRequest, Policy::Random] {
        let mut targets = targets(&[1; 4], start);
        targets[3].since = start + Duration::from_secs(1000);
        let balancer = Balancer::new(&settings(policy), &targets, None);
        let part = |age: u64| {
            let now = start + Duration::from_secs(1000 + age);
            let counts = count(&balancer, &Fixed::alike(4), PICKS, Request::default(), now);
            counts[3] as f64 / (PICKS - counts[3]) as f64 * 3.0
        };
        for (age, expected) in [(0, 0.1), (5, 0.1), (25, 0.25), (50, 0.5), (75, 0.75), (100, 1.0), (200, 1.0)]
        {
            let part = part(age);
            assert!((part / expected - 1.0).abs() < 0.07, "{policy:?} after {age} s: {part}");
        }
    }
}

#[test]
fn while_all_are_new_none_holds_back() {
    let now = Instant::now();
    for policy in POLICIES {
        let settings = Settings { slow_start: Duration::from_secs(100), ..settings(policy) };
        let balancer = Balancer::new(&settings, &targets(&[1, 2, 3, 4], now), None);
        let counts = count(&balancer, &Fixed::alike(4), PICKS, Request::default(), now);
        assert!(chi_square(&counts, &[1, 2, 3, 4]) < CHI_SQUARE, "{policy:?}: {counts:?}");
    }
}
