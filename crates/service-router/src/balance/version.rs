//! Which version gets a request: the one that it asks for, else by the weights of the split, or by the part of the version that
//! takes the place of the others.

use std::collections::BTreeSet;

use super::maglev::Tables;
use super::priority::Pool;
use super::{Loads, Pick, Settings, Target, mix};

/// The salt of the first draw, and of the second, for those whose version is gone.
const SALTS: [u64; 2] = [4, 5];
/// The salt of the draw of a side.
const SIDE_SALT: u64 = 7;

/// The targets by version.
pub(super) struct Versions {
    each: Vec<VersionPool>,
    /// All versions as one, when the traffic is not split and there are several.
    together: Option<Pool>,
    /// While one version takes the place of the others. Then no pool of [`Self::each`] has a weight, so that the other ways to pick
    /// never look here.
    sides: Option<Box<Sides>>,
}

/// The targets of one version, maybe none.
struct VersionPool {
    version: u32,
    /// What it is known by, where the label stands for one thing alone.
    id: u32,
    weight: u32,
    pool: Pool,
}

/// A version that has a part of its own, and all others.
struct Sides {
    percent: u8,
    apart: Pool,
    others: Pool,
}

impl Sides {
    /// Whoever has been on the side of the version stays there while its part grows.
    #[inline]
    fn pick<L: Loads>(
        &self,
        pick: &Pick<'_, L>,
        sticky_hash: Option<u64>,
        random: &mut fastrand::Rng,
    ) -> Option<usize> {
        if self.percent == 0 {
            return self.others.pick(pick, random);
        }
        let point = mix(sticky_hash.unwrap_or_else(|| random.u64(..)), SIDE_SALT);
        let drawn = ((u128::from(point) * 100) >> 64) as u8;
        let (first, second) =
            if drawn < self.percent { (&self.apart, &self.others) } else { (&self.others, &self.apart) };
        // None of the side may be eligible; then the other one is better than none.
        first.pick(pick, random).or_else(|| second.pick(pick, random))
    }

    fn reaches(&self, loads: &impl Loads) -> bool {
        self.others.reaches(loads) || self.percent > 0 && self.apart.reaches(loads)
    }
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
        let weight = |version: u32| match (settings.apart, weights.as_slice()) {
            (Some(_), _) => 0,
            (None, []) => 1,
            (None, weights) => weights.get(version as usize).copied().unwrap_or(0),
        };
        let mut each = Vec::new();
        for version in versions {
            let (weight, all) = (weight(version), pool(&|target| target.version == version));
            match ids(targets, version).as_slice() {
                [] => each.push(VersionPool { version, id: version, weight, pool: all }),
                [only] => each.push(VersionPool { version, id: *only, weight, pool: all }),
                several => {
                    each.push(VersionPool { version, id: version, weight, pool: all });
                    each.extend(several.iter().map(|id| VersionPool {
                        version: *id,
                        id: *id,
                        weight: 0,
                        pool: pool(&|target| target.version == version && target.id == *id),
                    }));
                }
            }
        }
        let is_divided = settings.apart.is_some() || !weights.is_empty();
        let together = (!is_divided && each.len() > 1).then(|| pool(&|_| true));
        let sides = settings.apart.map(|percent| {
            let (apart, others) = (pool(&|target| target.apart), pool(&|target| !target.apart));
            Box::new(Sides { percent, apart, others })
        });
        Self { each, together, sides }
    }

    /// A target of the version that was asked for, and of no other.
    pub(super) fn pick_asked<L: Loads>(
        &self,
        version: u32,
        pick: &Pick<'_, L>,
        random: &mut fastrand::Rng,
    ) -> Option<usize> {
        self.asked(version)?.pool.pick(pick, random)
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

    /// Whether there is an eligible target of the version that was asked for.
    pub(super) fn reaches_asked(&self, version: u32, loads: &impl Loads) -> bool {
        self.asked(version).is_some_and(|each| each.pool.reaches(loads))
    }

    /// Whether there is an eligible target of any version that has a part of the traffic.
    pub(super) fn reaches_any(&self, loads: &impl Loads) -> bool {
        match &self.sides {
            Some(sides) => sides.reaches(loads),
            None => self.each.iter().any(|each| each.weight > 0 && each.pool.reaches(loads)),
        }
    }

    fn asked(&self, version: u32) -> Option<&VersionPool> {
        self.each.iter().find(|each| each.version == version || each.id == version)
    }

    fn pick_split<L: Loads>(
        &self,
        pick: &Pick<'_, L>,
        sticky_hash: Option<u64>,
        random: &mut fastrand::Rng,
    ) -> Option<usize> {
        if let Some(sides) = &self.sides {
            return sides.pick(pick, sticky_hash, random);
        }
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

/// What the targets of a label are known by, each once.
fn ids(targets: &[Target], version: u32) -> Vec<u32> {
    let of_version = targets.iter().filter(|target| target.version == version);
    of_version.map(|target| target.id).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Whether so few targets are healthy that the rest is more likely to be overloaded by their share than to be in doubt.
fn in_panic(targets: &[Target], threshold_percent: u8) -> bool {
    let counted = || targets.iter().filter(|target| target.weight > 0);
    let healthy = counted().filter(|target| target.healthy).count();
    healthy * 100 < counted().count() * usize::from(threshold_percent)
}
