//! Drawing positions by weight in constant time: the alias method (Vose: A Linear Algorithm For Generating Random Numbers
//! With a Given Distribution, 1991).

/// What a coin can show, one more than its greatest value.
const COIN: f64 = (1_u64 << 32) as f64;

/// One column for each position, all drawn equally often. A column belongs to its own position, and above the threshold to
/// that of another, which is heavier than the average.
#[derive(Debug)]
pub(super) struct Alias {
    columns: Vec<Column>,
}

#[derive(Debug, Clone, Copy)]
struct Column {
    /// Coins below this are for the position itself.
    threshold: u64,
    other: usize,
}

impl Alias {
    /// For these weights; `None` when they are all equal, and any position is as good as another.
    pub(super) fn new(weights: &[u32]) -> Option<Self> {
        if weights.windows(2).all(|pair| pair[0] == pair[1]) {
            return None;
        }
        let total: f64 = weights.iter().copied().map(f64::from).sum();
        // 1 is what fits into a column.
        let mut left: Vec<f64> =
            weights.iter().map(|weight| f64::from(*weight) * weights.len() as f64 / total).collect();
        let full = |position| Column { threshold: 1 << 32, other: position };
        let mut columns: Vec<_> = (0..weights.len()).map(full).collect();
        let (mut light, mut heavy): (Vec<_>, Vec<_>) =
            (0..weights.len()).partition(|position| left[*position] < 1.0);
        while let (Some(small), Some(large)) = (light.pop(), heavy.last().copied()) {
            columns[small] = Column { threshold: (left[small] * COIN) as u64, other: large };
            left[large] -= 1.0 - left[small];
            if left[large] < 1.0 {
                heavy.pop();
                light.push(large);
            }
        }
        Some(Self { columns })
    }

    /// A position, as often as its weight says.
    pub(super) fn draw(&self, random: &mut fastrand::Rng) -> usize {
        let bits = random.u64(..);
        let position = (((bits >> 32) * self.columns.len() as u64) >> 32) as usize;
        let Column { threshold, other } = self.columns[position];
        if bits & u64::from(u32::MAX) < threshold { position } else { other }
    }
}
