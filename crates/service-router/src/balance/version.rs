//! Which version gets a request: the one that it asks for, else by the weights of the split.

use std::collections::BTreeSet;

use super::maglev::Tables;
use super::priority::Pool;
use super::{Loads, Pick, Settings, Target, mix};

/// The salt of the first draw, and of the second, for those whose version is gone.
const SALTS: [u64; 2] = [4, 5];

/// The targets by version.
pub(super) struct Versions {
    each: Vec<VersionPool>,
    /// All versions as one, when the traffic is not split and there are several.
    together: Option<Pool>,
}

/// The targets of one version, maybe none.
struct VersionPool {
    version: u32,
    weight: u32,
    pool: Pool,
}

impl Versions {
    pub(super) fn new(settings: &Settings, targets: &[Target], tables: &mut Tables<'_>) -> Self {
        let panic = in_panic(targets, settings.panic_threshold_percent);
        let mut pool = |belongs: &dyn Fn(&Target) -> bool| {
            let indices = (0..targets.len()).filter(|index| {
                let target = &targets[*index];
                target.weight > 0 && belongs(target)
            });
            let counts = |index: usize| panic || targets[index].healthy;
            Pool::new(targets, &indices.collect::<Vec<_>>(), counts, settings.slow_start, tables)
        };
        let weights = &settings.version_weights;
        // A version of the split that has no targets stays in it, so that its callers come back when it does.
        let split = 0..u32::try_from(weights.len()).unwrap_or(u32::MAX);
        let versions: BTreeSet<u32> = split.chain(targets.iter().map(|target| target.version)).collect();
        let weight = |version: u32| match weights.as_slice() {
            [] => 1,
            weights => weights.get(version as usize).copied().unwrap_or(0),
        };
        let each: Vec<_> = versions
            .into_iter()
            .map(|version| VersionPool {
                version,
                weight: weight(version),
                pool: pool(&|target| target.version == version),
            })
            .collect();
        let together = (weights.is_empty() && each.len() > 1).then(|| pool(&|_| true));
        Self { each, together }
    }

    /// A target of the version that was asked for, and of no other.
    pub(super) fn pick_asked<L: Loads>(
        &self,
        version: u32,
        pick: &Pick<'_, L>,
        random: &mut fastrand::Rng,
    ) -> Option<usize> {
        self.each.iter().find(|each| each.version == version)?.pool.pick(pick, random)
    }

    /// A target of any version that has a part of the traffic.
    #[inline]
    pub(super) fn pick_any<L: Loads>(
        &self,
        pick: &Pick<'_, L>,
        sticky_hash: Option<u64>,
        random: &mut fastrand::Rng,
    ) -> Option<usize> {
        match (&self.together, self.each.as_slice()) {
            (Some(together), _) => together.pick(pick, random),
            (None, [only]) if only.weight > 0 => only.pool.pick(pick, random),
            _ => self.pick_split(pick, sticky_hash, random),
        }
    }

    /// Whether there is an eligible target, of the version that was asked for or else of any that has a part of the traffic.
    pub(super) fn reaches(&self, asked: Option<u32>, loads: &impl Loads) -> bool {
        let counts = |each: &VersionPool| asked.map_or(each.weight > 0, |version| each.version == version);
        self.each.iter().filter(|each| counts(each)).any(|each| each.pool.reaches(loads))
    }

    fn pick_split<L: Loads>(
        &self,
        pick: &Pick<'_, L>,
        sticky_hash: Option<u64>,
        random: &mut fastrand::Rng,
    ) -> Option<usize> {
        let hash = sticky_hash.unwrap_or_else(|| random.u64(..));
        let chosen = self.choose(hash)?;
        // None of the version may be eligible for this call; then another version is better than none.
        let others = self.each.iter().enumerate().filter(|(index, each)| *index != chosen && each.weight > 0);
        let first = self.each[chosen].pool.pick(pick, random);
        first.or_else(|| others.map(|(_, each)| each).find_map(|each| each.pool.pick(pick, random)))
    }

    /// The index of the version for a hash. One that has lost its version draws once more among those that are left, so that
    /// the others stay where they are.
    fn choose(&self, hash: u64) -> Option<usize> {
        self.owner(mix(hash, SALTS[0]), |_| true)
            .filter(|index| !self.each[*index].pool.is_empty())
            .or_else(|| self.owner(mix(hash, SALTS[1]), |each| !each.pool.is_empty()))
    }

    /// The version in whose part of all weights the point falls, among those that count.
    fn owner(&self, point: u64, counts: impl Fn(&VersionPool) -> bool) -> Option<usize> {
        let weights = || {
            let counted = self.each.iter().enumerate().filter(|(_, each)| counts(each));
            counted.map(|(index, each)| (index, u64::from(each.weight)))
        };
        let total: u64 = weights().map(|(_, weight)| weight).sum();
        let mut left = ((u128::from(point) * u128::from(total)) >> 64) as u64;
        weights().find_map(|(index, weight)| {
            let inside = left < weight;
            left = left.saturating_sub(weight);
            inside.then_some(index)
        })
    }
}

/// Whether so few targets are healthy that the rest is more likely to be overloaded by their share than to be in doubt.
fn in_panic(targets: &[Target], threshold_percent: u8) -> bool {
    let counted = || targets.iter().filter(|target| target.weight > 0);
    let healthy = counted().filter(|target| target.healthy).count();
    healthy * 100 < counted().count() * usize::from(threshold_percent)
}
