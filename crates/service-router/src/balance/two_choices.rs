//! Power of two choices (Mitzenmacher 2001): of two random members the cheaper one. Needs no order over all members, and
//! does not herd as always taking the cheapest would.
//!
//! Among equals two different members are drawn, and the cheaper one is taken. With weights that would be wrong in one of two
//! ways: taken as divisors of the cost, they give everything to the heavier of two that have nothing to do; taken for the
//! draw alone, they are evened out again by the comparison. So there the first is drawn by weight, the second is any other,
//! and of costs a and b the first stays with the odds `weight·b⁴ : weight·a⁴`. At equal costs everyone gets exactly what
//! its weight says; at twice the cost a sixteenth of that; at ten times next to nothing. In the cost a heavier member's
//! requests in flight count less, so that costs are equal when all have as much to do as their weight says.

/// What the odds of a pair go by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) position: usize,
    pub(super) weight: f64,
    pub(super) cost: f64,
}

/// The position of the one of the two that is chosen. The odds are those of the pair, in whatever order it was drawn.
pub(super) fn weigh(first: Candidate, second: Candidate, random: &mut fastrand::Rng) -> usize {
    let ratio = first.cost / second.cost;
    // Costs that decayed to nothing are equal.
    let ratio = if ratio.is_nan() { 1.0 } else { ratio };
    let against = second.weight * (ratio * ratio) * (ratio * ratio);
    let stays = random.f64() * (first.weight + against) < first.weight;
    if stays { first.position } else { second.position }
}

/// How much one request in flight counts of a member with this weight, for members with this mean weight.
pub(super) fn crowding(weight: f64, mean: f64) -> f64 {
    mean / weight
}
