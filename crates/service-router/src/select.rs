//! Power of two choices: of two random endpoints the one with the lower load. Needs no order over all endpoints, and does
//! not herd as always taking the lowest would.

/// Draws before every endpoint is looked at: enough while few are out.
const DRAWS: usize = 8;

/// The index of the chosen endpoint of `count`; `None` when none is eligible.
pub(crate) fn two_choices(
    count: usize,
    random: &mut fastrand::Rng,
    eligible: impl Fn(usize) -> bool,
    load: impl Fn(usize) -> f64,
) -> Option<usize> {
    let first = draw(count, random, &eligible, None)?;
    let second = draw(count, random, &eligible, Some(first));
    Some(second.filter(|second| load(*second) < load(first)).unwrap_or(first))
}

fn draw(
    count: usize,
    random: &mut fastrand::Rng,
    eligible: impl Fn(usize) -> bool,
    except: Option<usize>,
) -> Option<usize> {
    let fits = |index: &usize| Some(*index) != except && eligible(*index);
    if count == 0 || (count == 1 && except.is_some()) {
        return None;
    }
    let drawn = (0..DRAWS).map(|_| random.usize(0..count)).find(fits);
    drawn.or_else(|| {
        let left: Vec<usize> = (0..count).filter(fits).collect();
        (!left.is_empty()).then(|| left[random.usize(0..left.len())])
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_choice_is_always_eligible_and_there_is_one_whenever_one_is_eligible(
            eligible in proptest::collection::vec(any::<bool>(), 0..40), seed: u64,
        ) {
            let mut random = fastrand::Rng::with_seed(seed);
            let chosen = two_choices(eligible.len(), &mut random, |index| eligible[index], |index| index as f64);
            prop_assert_eq!(chosen.is_some(), eligible.contains(&true));
            prop_assert!(chosen.is_none_or(|index| eligible[index]));
        }
    }

    #[test]
    fn equal_loads_are_shared_evenly_and_the_heaviest_of_three_is_never_chosen() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut counts = [0; 4];
        for _ in 0..40_000 {
            counts[two_choices(4, &mut random, |_| true, |_| 1.0).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (9_000..11_000).contains(count)), "{counts:?}");
        for _ in 0..1_000 {
            assert_ne!(two_choices(3, &mut random, |_| true, |index| index as f64), Some(2));
        }
    }
}
