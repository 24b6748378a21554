use super::*;

const PICKS: usize = 20_000;

/// Two targets of each version, of which the `gone` versions are unhealthy.
fn balancer(weights: &[u32], versions: u32, gone: &[u32]) -> (Balancer, Fixed) {
    let now = Instant::now();
    let mut all = targets(&vec![1; versions as usize * 2], now);
    for (target, index) in all.iter_mut().zip(0..) {
        target.version = index / 2;
        target.id = target.version;
        target.healthy = !gone.contains(&target.version);
    }
    let settings = Settings { version_weights: weights.to_vec(), ..settings(Policy::PeakEwma) };
    (Balancer::new(&settings, &all, None), Fixed::alike(all.len()))
}

/// The traffic that each version gets, in percents.
fn traffic((balancer, loads): &(Balancer, Fixed), request: Request) -> Vec<usize> {
    let counts = count(balancer, loads, PICKS, request, Instant::now());
    percents(&counts.chunks(2).map(|pair| pair.iter().sum()).collect::<Vec<usize>>(), PICKS)
}

fn asks(version: u32) -> Request {
    Request { version: Wanted::Only(version), ..Request::default() }
}

#[test]
fn versions_get_what_their_weights_say() {
    let any = Request::default();
    assert_near(&traffic(&balancer(&[90, 10], 2, &[]), any), &[90, 10]);
    assert_near(&traffic(&balancer(&[], 2, &[]), any), &[50, 50]);
    // The third is there for those that ask.
    assert_near(&traffic(&balancer(&[80, 20], 3, &[]), any), &[80, 20, 0]);
    assert_near(&traffic(&balancer(&[80, 20], 3, &[]), asks(2)), &[0, 0, 100]);
}

#[test]
fn a_version_without_a_healthy_target_gives_its_part_to_the_others() {
    let any = Request::default();
    assert_near(&traffic(&balancer(&[60, 30, 10], 3, &[0]), any), &[0, 75, 25]);
    assert_near(&traffic(&balancer(&[60, 30, 10], 3, &[0, 2]), any), &[0, 100, 0]);
    assert_near(&traffic(&balancer(&[60, 40, 0], 3, &[0, 1]), any), &[0, 0, 0]);
    // A version of the split of which there is no target at all.
    assert_near(&traffic(&balancer(&[50, 25, 25], 2, &[]), any), &[67, 33]);
}

#[test]
fn who_asks_for_a_version_gets_it_or_nothing() {
    assert_near(&traffic(&balancer(&[90, 10], 2, &[]), asks(1)), &[0, 100]);
    assert_near(&traffic(&balancer(&[], 2, &[]), asks(1)), &[0, 100]);
    assert_near(&traffic(&balancer(&[90, 10], 2, &[1]), asks(1)), &[0, 0]);
    assert_near(&traffic(&balancer(&[90, 10], 2, &[]), asks(7)), &[0, 0]);
}

#[test]
fn an_excluded_version_is_replaced_by_another_unless_it_was_asked_for() {
    let (balancer, mut loads) = balancer(&[90, 10], 2, &[]);
    loads.eligible[..2].fill(false);
    let world = (balancer, loads);
    assert_near(&traffic(&world, Request::default()), &[0, 100]);
    assert_near(&traffic(&world, asks(0)), &[0, 0]);
}

#[test]
fn the_same_sticky_hash_gets_the_same_version_and_keeps_it_when_another_goes() {
    let version = |world: &(Balancer, Fixed), hash: u64, seed: u64| {
        let request = Request { sticky_hash: Some(hash), ..Request::default() };
        let mut random = fastrand::Rng::with_seed(seed);
        world.0.pick(&world.1, &request, &mut random, Instant::now()).unwrap() / 2
    };
    let (all, less) = (balancer(&[60, 30, 10], 3, &[]), balancer(&[60, 30, 10], 3, &[1]));
    let (mut before, mut after) = (vec![0; 3], vec![0; 3]);
    for hash in 0..PICKS as u64 {
        let chosen = version(&all, hash, 1);
        assert_eq!(version(&all, hash, 2), chosen);
        let now = version(&less, hash, 3);
        assert!(chosen == now || chosen == 1, "{hash} moved from {chosen} to {now}");
        before[chosen] += 1;
        after[now] += 1;
    }
    assert_near(&percents(&before, PICKS), &[60, 30, 10]);
    assert_near(&percents(&after, PICKS), &[86, 0, 14]);
}

/// Two targets of each of two builds of one label, of which the second has this part.
fn rolled(percent: u8, gone: &[u32]) -> (Balancer, Fixed) {
    let now = Instant::now();
    let mut all = targets(&[1; 4], now);
    for (target, index) in all.iter_mut().zip(0..) {
        target.id = 1 + index / 2;
        (target.apart, target.healthy) = (target.id == 2, !gone.contains(&target.id));
    }
    let settings = Settings { apart: Some(percent), ..settings(Policy::PeakEwma) };
    (Balancer::new(&settings, &all, None), Fixed::alike(all.len()))
}

#[test]
fn a_version_that_takes_the_place_of_the_others_gets_its_part() {
    let any = Request::default();
    for percent in [0, 1, 5, 50, 99, 100] {
        let others = 100 - usize::from(percent);
        assert_near(&traffic(&rolled(percent, &[]), any), &[others, usize::from(percent)]);
        // With nobody on one side the other one has everything, but for what nobody is to call who does not name it.
        assert_near(&traffic(&rolled(percent, &[2]), any), &[100, 0]);
        assert_near(&traffic(&rolled(percent, &[1]), any), &[0, if percent == 0 { 0 } else { 100 }]);
    }
}

#[test]
fn a_label_names_all_that_have_it_and_what_a_version_is_known_by_one_of_them() {
    let world = rolled(0, &[]);
    assert_near(&traffic(&world, asks(0)), &[50, 50]);
    assert_near(&traffic(&world, asks(1)), &[100, 0]);
    assert_near(&traffic(&world, asks(2)), &[0, 100]);
    assert_near(&traffic(&rolled(100, &[2]), asks(2)), &[0, 0]);
    let rather = |version| Request { version: Wanted::Rather(version), ..Request::default() };
    assert_near(&traffic(&world, rather(2)), &[0, 100]);
    assert_near(&traffic(&rolled(0, &[2]), rather(2)), &[100, 0]);
    assert_near(&traffic(&world, rather(7)), &[100, 0]);
    let (balancer, mut loads) = world;
    assert!(balancer.reaches(&loads, &asks(2)) && !balancer.reaches(&loads, &asks(7)));
    loads.eligible[..2].fill(false);
    assert!(!balancer.reaches(&loads, &Request::default()) && balancer.reaches(&loads, &rather(2)));
}

#[test]
fn whoever_is_with_the_version_that_comes_stays_there_while_its_part_grows() {
    let worlds = [0, 5, 20, 50, 100].map(|percent| rolled(percent, &[]));
    let side = |world: &(Balancer, Fixed), hash: u64, seed: u64| {
        let request = Request { sticky_hash: Some(hash), ..Request::default() };
        let mut random = fastrand::Rng::with_seed(seed);
        world.0.pick(&world.1, &request, &mut random, Instant::now()).unwrap() / 2
    };
    let mut moved = vec![0; worlds.len()];
    for hash in 0..PICKS as u64 {
        let sides: Vec<_> = worlds.iter().map(|world| side(world, hash, 1)).collect();
        assert!(sides.is_sorted(), "{hash} goes back: {sides:?}");
        assert_eq!(sides, worlds.iter().map(|world| side(world, hash, 2)).collect::<Vec<_>>());
        moved.iter_mut().zip(sides).for_each(|(moved, side)| *moved += side);
    }
    assert_near(&percents(&moved, PICKS), &[0, 5, 20, 50, 100]);
}
