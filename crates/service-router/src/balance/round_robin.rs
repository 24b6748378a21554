//! Smooth weighted round robin, nginx's (`ngx_http_upstream_get_peer`): with each pick every member gets closer to its
//! turn by its weight; the closest has it, and is put back by the weights of all. Weights 5, 1, 1 give a a b a c a a.

use std::cell::Cell;

/// The position of the member whose turn it is. `members` are the positions, indices among `turns`, and weights of those
/// that may have it.
pub(super) fn next(members: impl Iterator<Item = (usize, usize, f64)>, turns: &[Cell<f64>]) -> Option<usize> {
    let mut total = 0.0;
    let mut best: Option<(usize, usize)> = None;
    for (position, index, weight) in members {
        let turn = turns[index].get() + weight;
        turns[index].set(turn);
        total += weight;
        if best.is_none_or(|(_, best)| turn > turns[best].get()) {
            best = Some((position, index));
        }
    }
    let (position, index) = best?;
    turns[index].set(turns[index].get() - total);
    Some(position)
}
