use super::*;

const HASHES: u64 = 20_000;

/// The key that each hash gets, with nothing in flight.
fn owners(targets: &[Target]) -> Vec<u64> {
    let now = Instant::now();
    let balancer = Balancer::new(&settings(Policy::Maglev), targets, None);
    let (loads, mut random) = (Fixed::alike(targets.len()), fastrand::Rng::with_seed(1));
    let mut owner = |hash| {
        let request = Request { hash: Some(hash), ..Request::default() };
        targets[balancer.pick(&loads, &request, &mut random, now).unwrap()].key
    };
    (0..HASHES).map(&mut owner).collect()
}

#[test]
fn the_same_hash_gets_the_same_target_in_whatever_order_they_are_listed() {
    let targets = targets(&[1, 2, 3, 4, 5], Instant::now());
    let reversed: Vec<Target> = targets.iter().rev().cloned().collect();
    assert_eq!(owners(&targets), owners(&reversed));
}

#[test]
fn when_a_target_goes_its_hashes_move_and_few_others() {
    let now = Instant::now();
    for count in [5, 20, 100] {
        let mut targets = targets(&vec![1; count], now);
        let before = owners(&targets);
        let gone = targets.remove(count / 2).key;
        let after = owners(&targets);
        let had = before.iter().filter(|key| **key == gone).count() as f64 / HASHES as f64;
        let moved = before.iter().zip(&after).filter(|(before, after)| **before != gone && before != after);
        let moved = moved.count() as f64 / HASHES as f64;
        assert!((had * count as f64 - 1.0).abs() < 0.15, "{had} of {count}");
        assert!(moved < 0.04, "{moved} of {count} moved for no reason");
    }
}

#[test]
fn health_that_returns_brings_the_hashes_back() {
    let mut targets = targets(&[1; 5], Instant::now());
    let before = owners(&targets);
    targets[2].healthy = false;
    assert!(!owners(&targets).contains(&targets[2].key));
    targets[2].healthy = true;
    assert_eq!(owners(&targets), before);
}

#[test]
fn a_table_is_built_again_only_when_the_healthy_targets_or_their_weights_change() {
    let now = Instant::now();
    let settings = settings(Policy::Maglev);
    let mut targets = targets(&[1; 5], now);
    let mut last = Balancer::new(&settings, &targets, None);
    let mut kept = |targets: &[Target]| {
        let next = Balancer::new(&settings, targets, Some(&last));
        let kept = Rc::ptr_eq(&next.tables[0], &last.tables[0]);
        last = next;
        kept
    };
    assert!(kept(&targets));
    targets.reverse();
    targets[0].since = now + Duration::from_secs(1);
    assert!(kept(&targets));
    targets[1].healthy = false;
    assert!(!kept(&targets));
    targets.remove(1);
    assert!(kept(&targets));
    targets[1].weight = 2;
    assert!(!kept(&targets));
}

#[test]
fn a_target_with_too_much_to_do_is_passed_over_and_has_never_more_than_a_quarter_above_its_part() {
    let now = Instant::now();
    let weights = [1, 1, 2, 4];
    let balancer = Balancer::new(&settings(Policy::Maglev), &targets(&weights, now), None);
    let mut loads = Fixed::alike(4);
    let mut random = fastrand::Rng::with_seed(5);
    for calls in 0..2_000_u32 {
        // Half of all calls are for the same hash.
        let hash = if calls % 2 == 0 { 1 } else { random.u64(..) };
        let request = Request { hash: Some(hash), ..Request::default() };
        let picked = balancer.pick(&loads, &request, &mut random, now).unwrap();
        let part = f64::from(calls) * f64::from(weights[picked]) / 8.0;
        assert!(f64::from(loads.pending[picked]) <= 1.25 * part + 1.0, "{:?} after {calls}", loads.pending);
        loads.pending[picked] += 1;
    }
}

#[test]
fn what_is_passed_over_goes_to_the_same_target_each_time() {
    let now = Instant::now();
    let balancer = Balancer::new(&settings(Policy::Maglev), &targets(&[1; 5], now), None);
    let request = Request { hash: Some(42), ..Request::default() };
    let mut loads = Fixed::alike(5);
    let pick = |loads: &Fixed, seed| {
        balancer.pick(loads, &request, &mut fastrand::Rng::with_seed(seed), now).unwrap()
    };
    let owner = pick(&loads, 1);
    loads.pending[owner] = 10;
    let second = pick(&loads, 1);
    assert_ne!(second, owner);
    assert!((2..100).all(|seed| pick(&loads, seed) == second));
}

#[test]
fn of_more_targets_than_slots_each_can_still_be_picked() {
    let now = Instant::now();
    let count = 65_600;
    let balancer = Balancer::new(&settings(Policy::Maglev), &targets(&vec![1; count], now), None);
    let mut loads = Fixed::alike(count);
    loads.eligible.fill(false);
    loads.eligible[count - 1] = true;
    let mut random = fastrand::Rng::with_seed(1);
    assert_eq!(balancer.pick(&loads, &Request::default(), &mut random, now), Some(count - 1));
}

#[test]
fn where_nobody_is_eligible_the_members_are_looked_at_and_not_the_slots() {
    struct Looked(Cell<usize>);
    impl Loads for Looked {
        fn eligible(&self, _index: usize) -> bool {
            self.0.set(self.0.get() + 1);
            false
        }
        fn load(&self, _index: usize) -> f64 {
            0.0
        }
        fn pending(&self, _index: usize) -> u32 {
            0
        }
    }
    let now = Instant::now();
    let balancer = Balancer::new(&settings(Policy::Maglev), &targets(&[1, 1, 1], now), None);
    let (looked, mut random) = (Looked(Cell::new(0)), fastrand::Rng::with_seed(1));
    assert_eq!(balancer.pick(&looked, &Request::default(), &mut random, now), None);
    assert!(looked.0.get() < 100, "{}", looked.0.get());
}
