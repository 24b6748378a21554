//! From the quotes of several sources to one value and its confidence. Pure integer arithmetic.

use crate::price::Price;

/// With fewer quotes than this nobody can be called an outlier.
const OUTLIER_MIN_QUOTES: usize = 4;
/// A quote this near to the median is never an outlier, however well the others agree, in basis points.
const OUTLIER_FLOOR_BPS: i128 = 50;
/// The modified z-score of Iglewicz and Hoaglin (1993): an outlier has 0.6745 × |x − median| > 3.5 × MAD. Both numbers
/// times 2,000.
const OUTLIER_DISTANCE: i128 = 1_349;
const OUTLIER_MAD: i128 = 7_000;

/// What one source says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quote {
    pub(crate) price: Price,
    /// Half the width of the source's own interval; 0 for a source that gives none.
    pub(crate) confidence: Price,
    /// How many votes of each kind it has, from 1.
    pub(crate) weight: usize,
}

/// What the sources say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aggregate {
    pub(crate) price: Price,
    pub(crate) confidence: Price,
}

/// The weighted median of the votes p − c, p and p + c of every quote, and the larger distance from it to the votes at
/// one quarter and three quarters; `None` without quotes.
///
/// With weights of 1 it is the aggregation of Pyth's on-chain program (pyth-client, `program/rust`).
pub(crate) fn aggregate(quotes: &[Quote]) -> Option<Aggregate> {
    let mut votes = Vec::new();
    for Quote { price: Price(price), confidence: Price(confidence), weight } in quotes {
        for vote in [price - confidence, *price, price + confidence] {
            votes.extend(std::iter::repeat_n(vote, *weight));
        }
    }
    votes.sort_unstable();
    let price = median(&votes)?;
    let (low, high) = (votes[votes.len() / 4], votes[votes.len() - 1 - votes.len() / 4]);
    Some(Aggregate { price: Price(price), confidence: Price((price - low).max(high - price)) })
}

/// Which of the prices are not outliers, by their median absolute deviation.
pub(crate) fn plausible(prices: &[Price]) -> Vec<bool> {
    let sorted = |mut values: Vec<i128>| {
        values.sort_unstable();
        values
    };
    let median_price = median(&sorted(prices.iter().map(|price| price.0).collect()));
    let Some(center) = median_price.filter(|_| prices.len() >= OUTLIER_MIN_QUOTES) else {
        return vec![true; prices.len()];
    };
    let distances: Vec<i128> = prices.iter().map(|price| (price.0 - center).abs()).collect();
    let deviation = median(&sorted(distances.clone())).unwrap_or_default();
    let plausible = |distance: &i128| {
        distance * 10_000 <= center.abs() * OUTLIER_FLOOR_BPS
            || distance * OUTLIER_DISTANCE <= deviation * OUTLIER_MAD
    };
    distances.iter().map(plausible).collect()
}

/// The middle of sorted values; of two middle ones, the floor of their mean.
fn median(sorted: &[i128]) -> Option<i128> {
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Some((lower + upper).div_euclid(2))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Case {
        case: u32,
        quotes: Vec<PythQuote>,
        expect: PythExpect,
    }

    #[derive(Deserialize)]
    struct PythQuote {
        price: i64,
        conf: i64,
        status: u32,
        #[serde(default)]
        slot_diff: i64,
    }

    #[derive(Deserialize)]
    struct PythExpect {
        price: i64,
        conf: i64,
        status: String,
    }

    fn quote(price: i128, confidence: i128, weight: usize) -> Quote {
        Quote { price: Price(price), confidence: Price(confidence), weight }
    }

    fn prices(values: &[i128]) -> Vec<Price> {
        values.iter().map(|value| Price(value * 1_000_000)).collect()
    }

    #[test]
    fn all_recorded_aggregations_of_pyth_are_reproduced() {
        let path =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors/feeds/pyth_aggregation.json");
        let Ok(text) = std::fs::read_to_string(path) else {
            assert!(std::env::var_os("CI").is_none(), "the test vectors are missing at {path}");
            eprintln!("skipped: no test vectors at {path}");
            return;
        };
        let cases: Vec<Case> = serde_json::from_str(&text).unwrap();
        assert_eq!(cases.len(), 39);
        for Case { case, quotes, expect } in cases {
            let usable =
                quotes.iter().filter(|quote| quote.status == 1 && quote.conf != 0 && quote.slot_diff <= 25);
            let usable: Vec<_> = usable.map(|q| quote(q.price.into(), q.conf.into(), 1)).collect();
            let found = aggregate(&usable).map(|found| (found.price.0, found.confidence.0));
            let expected = (expect.status == "trading").then_some((expect.price.into(), expect.conf.into()));
            assert_eq!(found, expected, "case {case}");
        }
    }

    #[test]
    fn a_weight_counts_as_so_many_sources() {
        let weighted = aggregate(&[quote(100, 1, 3), quote(110, 2, 1), quote(90, 0, 2)]);
        let repeated: Vec<_> =
            [(100, 1), (100, 1), (100, 1), (110, 2), (90, 0), (90, 0)].map(|(p, c)| quote(p, c, 1)).into();
        assert_eq!(weighted, aggregate(&repeated));
    }

    #[test]
    fn one_source_without_an_interval_has_no_spread() {
        assert_eq!(aggregate(&[quote(7, 0, 1)]), Some(Aggregate { price: Price(7), confidence: Price(0) }));
        assert_eq!(aggregate(&[]), None);
    }

    #[test]
    fn outliers_are_dropped_from_four_sources_on() {
        assert_eq!(plausible(&prices(&[10_000, 10_001, 100])), [true; 3]);
        assert_eq!(plausible(&prices(&[10_000, 10_001, 9_999, 100])), [true, true, true, false]);
        assert_eq!(
            plausible(&prices(&[10_000, 10_000, 10_000, 10_000, 1_000_000_000_000])),
            [true, true, true, true, false]
        );
        assert_eq!(plausible(&[]), [true; 0]);
    }

    #[test]
    fn the_floor_keeps_a_quote_that_is_near_though_the_others_agree_exactly() {
        assert_eq!(plausible(&prices(&[10_000, 10_000, 10_000, 10_050])), [true; 4]);
        assert_eq!(plausible(&prices(&[10_000, 10_000, 10_000, 10_051])), [true, true, true, false]);
    }

    proptest! {
        #[test]
        fn the_value_lies_between_the_quotes(values in proptest::collection::vec((1..10_i128.pow(34), 1_usize..5), 1..20)) {
            let quotes: Vec<_> = values.iter().map(|(price, weight)| quote(*price, 0, *weight)).collect();
            let found = aggregate(&quotes).unwrap();
            let low = values.iter().map(|(price, _)| *price).min().unwrap();
            let high = values.iter().map(|(price, _)| *price).max().unwrap();
            prop_assert!((low..=high).contains(&found.price.0));
            prop_assert!((0..=high - low).contains(&found.confidence.0));
            let prices: Vec<_> = values.iter().map(|(price, _)| Price(*price)).collect();
            prop_assert!(plausible(&prices).iter().filter(|kept| **kept).count() * 2 >= prices.len());
        }
    }
}
