//! How many replicas of which version there are, and how many of them may go.

use std::cmp::Reverse;
use std::time::Duration;

use types::ReplicaId;

use super::{Action, Seen};

/// A replica, as far as a rollout is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Which one.
    pub id: ReplicaId,
    /// What it runs.
    pub side: Side,
    /// What of it can be counted on.
    pub standing: Standing,
}

/// What a replica runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The version that was there before, and is there again after a revert.
    Stable,
    /// The version that the rollout leads to.
    Target,
    /// A version of a rollout that was replaced by this one. It serves, and goes first.
    Stray,
}

/// What of a replica can be counted on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing yet, or nothing at present: it starts, or it cannot be selected.
    Pending,
    /// It is selectable, since this moment.
    Selectable(Duration),
    /// It does not come to serve, for this reason.
    Failing(String),
    /// An operator has drained it: it stays stopped, is not counted on, and none comes in its place.
    Held,
    /// It is on its way out.
    Draining,
}

impl Member {
    pub(super) fn is_available(&self, now: Duration, min_ready: Duration) -> bool {
        match self.standing {
            Standing::Selectable(since) => now.saturating_sub(since) >= min_ready,
            Standing::Pending | Standing::Failing(_) | Standing::Held | Standing::Draining => false,
        }
    }

    pub(super) fn stays(&self) -> bool {
        self.standing != Standing::Draining
    }

    fn serves(&self) -> bool {
        matches!(self.standing, Standing::Selectable(_))
    }

    /// What goes first comes first: what does not serve, and of those that do the one of the highest number.
    fn use_of_it(&self) -> (bool, Reverse<u32>) {
        (self.serves(), Reverse(self.id.ordinal))
    }
}

/// Between what a rollout may move.
pub(super) struct Bounds {
    pub(super) replicas: u32,
    pub(super) max_surge: u32,
    pub(super) max_unavailable: u32,
    pub(super) min_ready: Duration,
}

/// Keeps so many replicas of the new version, or of all others together, and touches nothing else.
pub(super) fn keep(members: &[Member], side: Side, wanted: u32) -> Vec<Action> {
    let wanted = wanted as usize;
    let staying = || members.iter().filter(|member| member.stays());
    let mut own: Vec<_> = staying().filter(|member| member.side == side).collect();
    own.sort_by_key(|member| member.use_of_it());
    let mut leaving: Vec<_> = own.drain(..own.len().saturating_sub(wanted)).collect();

    let is_stray = |member: &&Member| side != Side::Target && member.side == Side::Stray;
    let mut strays: Vec<_> = staying().filter(is_stray).collect();
    strays.sort_by_key(|member| member.use_of_it());
    // What an unfinished rollout has left stays only where it is missed, and no other goes in its place.
    let serving = own.iter().chain(&strays).filter(|member| member.serves()).count();
    let mut spare = serving.saturating_sub(wanted);
    strays.retain(|stray| {
        let stays = stray.serves() && spare == 0;
        if !stays {
            spare -= usize::from(stray.serves());
            leaving.push(*stray);
        }
        stays
    });

    let missing = wanted.saturating_sub(own.len() + strays.len());
    let starts = std::iter::repeat_n(Action::Start(side), missing);
    starts.chain(leaving.into_iter().map(|member| Action::Drain(member.id.clone()))).collect()
}

/// Has the stable version take the places of what an unfinished rollout has left and nothing else moves any more: one replica after the
/// other, each once all before it serve, so that nobody goes for one that does not come.
pub(super) fn give_way(members: &[Member], replicas: u32, max_surge: u32) -> Vec<Action> {
    let staying = || members.iter().filter(|member| member.stays());
    let (own, strays): (Vec<_>, Vec<_>) = staying().partition(|member| member.side == Side::Stable);
    let is_settled = own.iter().all(|member| member.serves() || member.standing == Standing::Held);
    if !is_settled || own.len() >= replicas as usize {
        return Vec::new();
    }
    let first = strays.into_iter().min_by_key(|stray| stray.use_of_it());
    let has_room = members.len() < replicas as usize + max_surge as usize;
    let action =
        |stray: &Member| if has_room { Action::Start(Side::Stable) } else { Action::Drain(stray.id.clone()) };
    first.map(action).into_iter().collect()
}

/// The places of so many replicas while one side takes the place of the others.
pub(super) struct Places<'a> {
    /// Those who are held and keep a place.
    held: Vec<&'a Member>,
    /// How many of the side are to run.
    pub(super) to_run: usize,
}

impl<'a> Places<'a> {
    /// Who is held of the side keeps its place. So does one of the others where the new version takes over, which it runs once it is
    /// restarted, but only where none of the new version has that place already. A new version that is given up keeps none.
    pub(super) fn of(replicas: u32, members: &'a [Member], side: Side) -> Self {
        let replicas = replicas as usize;
        let is_held = |member: &&Member| member.standing == Standing::Held;
        let (own, others): (Vec<_>, Vec<_>) =
            members.iter().filter(is_held).partition(|member| member.side == side);
        let runs = |member: &&Member| member.side == side && member.stays() && !is_held(member);
        let run = members.iter().filter(runs).count();
        let free = replicas.saturating_sub(own.len() + run);
        let free = if side == Side::Target { free } else { 0 };
        let held: Vec<_> = own.into_iter().chain(others.into_iter().take(free)).collect();
        let to_run = replicas.saturating_sub(held.len());
        Self { held, to_run }
    }

    /// Whether it is one of those who are held and keep a place.
    pub(super) fn keep(&self, member: &Member) -> bool {
        self.held.iter().any(|held| held.id == member.id)
    }
}

/// What keeps so many replicas of all versions together, and at most so many more, where no version is to come forward. Who does not
/// serve goes first, and of the others whoever is not of the old version, which is known to serve.
pub(super) fn hold(members: &[Member], replicas: u32, more: u32) -> Vec<Action> {
    let mut staying: Vec<_> = members.iter().filter(|member| member.stays()).collect();
    let missing = (replicas as usize).saturating_sub(staying.len());
    let surplus = staying.len().saturating_sub(replicas as usize + more as usize);
    staying.sort_by_key(|member| (member.serves(), member.side == Side::Stable, Reverse(member.id.ordinal)));
    let starts = std::iter::repeat_n(Action::Start(Side::Stable), missing);
    starts.chain(staying.into_iter().take(surplus).map(|member| Action::Drain(member.id.clone()))).collect()
}

/// Has one version take the place of all others: as many are started as there may be more, and as many go as may be missed. Who is
/// held is left alone.
pub(super) fn fill(seen: &Seen<'_>, side: Side, bounds: &Bounds) -> Vec<Action> {
    let places = Places::of(bounds.replicas, seen.members, side);
    let replicas = places.to_run;
    let running = || seen.members.iter().filter(|member| !places.keep(member));
    let staying = || running().filter(|member| member.stays());
    let of_side = staying().filter(|member| member.side == side).count();
    // Those that drain take room and memory until they are gone.
    let room = (replicas + bounds.max_surge as usize).saturating_sub(running().count());
    let starts = replicas.saturating_sub(of_side).min(room);
    let mut actions = vec![Action::Start(side); starts];

    let mut leaving: Vec<_> = staying().filter(|member| member.side != side).collect();
    // The lowest number first: the next one that starts takes it, so that numbers stay low.
    leaving.sort_by_key(|member| (member.serves(), member.side != Side::Stray, member.id.ordinal));
    // Of this side only what is too much, since fewer are wanted than before.
    let mut extra: Vec<_> = staying().filter(|member| member.side == side).collect();
    extra.sort_by_key(|member| member.use_of_it());
    leaving.extend(extra.into_iter().take(of_side.saturating_sub(replicas)));

    let available = staying().filter(|member| member.is_available(seen.now, bounds.min_ready)).count();
    let mut spare = available.saturating_sub(replicas.saturating_sub(bounds.max_unavailable as usize));
    for member in leaving {
        // What serves nobody is missed by nobody. What serves since a moment ago is missed, though it is not counted on yet.
        if member.serves() {
            let Some(fewer) = spare.checked_sub(1) else { continue };
            spare = fewer;
        }
        actions.push(Action::Drain(member.id.clone()));
    }
    actions
}
