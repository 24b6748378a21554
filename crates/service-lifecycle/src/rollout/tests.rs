use expect_test::expect;
use proptest::prelude::{Just, TestCaseError, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as Any;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn plan(strategy: Strategy) -> Plan {
    Plan {
        replicas: 3,
        max_surge: 1,
        max_unavailable: 0,
        min_ready: 2 * SECOND,
        progress_deadline: 600 * SECOND,
        strategy,
    }
}

fn canary(steps: &[(u8, Option<u64>)]) -> Strategy {
    let step = |&(weight, pause): &(u8, Option<u64>)| Step { weight, pause: pause.map(Duration::from_secs) };
    let gate = Gate { error_rate: 0.01, latency_ratio: 2.0, min_requests: 100 };
    Strategy::Canary { steps: steps.iter().map(step).collect(), gate }
}

/// What a started replica of the new version does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It serves after so many seconds.
    Serves(u64),
    /// It fails after so many seconds.
    Fails(u64),
    /// It never comes to anything.
    Hangs,
}

/// Replicas that start, serve and drain as their fates say, a second at a time.
struct World {
    now: Duration,
    rollout: Rollout,
    members: Vec<(Member, Fate, Duration)>,
    fates: Vec<Fate>,
    /// What becomes of one of the old version that is started again.
    old: Fate,
    drains: u64,
    samples: Samples,
    log: String,
}

impl World {
    fn new(plan: Plan, fates: &[Fate]) -> Self {
        let now = 1_000 * SECOND;
        let stable = |ordinal| {
            let (id, standing) = (id(ordinal), Standing::Selectable(Duration::ZERO));
            (Member { id, side: Side::Stable, standing }, Fate::Serves(1), now)
        };
        Self {
            now,
            members: (0..plan.replicas).map(stable).collect(),
            rollout: Rollout::begin(plan, now),
            fates: fates.to_vec(),
            old: Fate::Serves(1),
            drains: 1,
            samples: Samples::default(),
            log: String::new(),
        }
    }

    fn count(&self, side: Side) -> usize {
        self.members.iter().filter(|(member, ..)| member.side == side).count()
    }

    fn selectable(&self) -> usize {
        self.members.iter().filter(|(member, ..)| matches!(member.standing, Standing::Selectable(_))).count()
    }

    fn step(&mut self) {
        let members: Vec<_> = self.members.iter().map(|(member, ..)| member.clone()).collect();
        let before = self.rollout.stage().clone();
        let actions = self.rollout.advance(&Seen { now: self.now, members: &members, samples: self.samples });
        if *self.rollout.stage() != before {
            self.samples = Samples::default();
        }
        for action in actions {
            self.log += &format!(
                "{} {action:?} at {:?}%\n",
                (self.now - 1_000 * SECOND).as_secs(),
                self.rollout.share()
            );
            match action {
                Action::Start(side) => {
                    let taken =
                        |ordinal: &u32| self.members.iter().any(|(member, ..)| member.id.ordinal == *ordinal);
                    let ordinal = (0..).find(|ordinal| !taken(ordinal)).unwrap();
                    let member = Member { id: id(ordinal), side, standing: Standing::Pending };
                    let fate = match side {
                        Side::Target if self.fates.len() > 1 => self.fates.remove(0),
                        Side::Target => self.fates[0],
                        Side::Stable | Side::Stray => self.old,
                    };
                    self.members.push((member, fate, self.now));
                }
                Action::Drain(id) => {
                    let (member, _, since) =
                        self.members.iter_mut().find(|(member, ..)| member.id == id).unwrap();
                    assert_ne!(member.standing, Standing::Draining, "{id} is told twice");
                    (member.standing, *since) = (Standing::Draining, self.now);
                }
            }
        }
        self.now += SECOND;
        let (now, drains) = (self.now, Duration::from_secs(self.drains));
        self.members
            .retain(|(member, _, since)| member.standing != Standing::Draining || now - *since < drains);
        for (member, fate, since) in &mut self.members {
            let age = now - *since;
            match (&member.standing, fate) {
                (Standing::Pending, Fate::Serves(after)) if age.as_secs() >= *after => {
                    member.standing = Standing::Selectable(now);
                }
                (Standing::Pending | Standing::Selectable(_), Fate::Fails(after))
                    if age.as_secs() >= *after =>
                {
                    member.standing = Standing::Failing("exited with code 3".into());
                }
                _ => {}
            }
        }
    }

    /// Goes on until it is over, or for so many seconds.
    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            if matches!(self.rollout.stage(), Stage::Over(_)) {
                return;
            }
            self.step();
        }
    }
}

fn id(ordinal: u32) -> ReplicaId {
    ReplicaId::new("vrf".parse().unwrap(), ordinal)
}

fn check(world: &World, expected: expect_test::Expect) {
    expected.assert_eq(&format!("{}{:?}\n", world.log, world.rollout.stage()));
}

#[test]
fn a_rolling_update_starts_one_more_and_lets_one_go_when_that_serves() {
    let mut world = World::new(plan(Strategy::Rolling), &[Fate::Serves(1)]);
    world.run(100);
    check(
        &world,
        expect![[r#"
            0 Start(Target) at None%
            3 Drain(vrf/0) at None%
            4 Start(Target) at None%
            7 Drain(vrf/1) at None%
            8 Start(Target) at None%
            11 Drain(vrf/2) at None%
            Over(Done)
        "#]],
    );
}

#[test]
fn a_version_that_cannot_serve_is_given_up_and_what_it_replaced_comes_back() {
    let mut world = World::new(plan(Strategy::Rolling), &[Fate::Serves(1), Fate::Fails(5)]);
    world.run(100);
    check(
        &world,
        expect![[r#"
            0 Start(Target) at None%
            3 Drain(vrf/0) at None%
            4 Start(Target) at None%
            9 Drain(vrf/0) at None%
            10 Start(Stable) at None%
            13 Drain(vrf/3) at Some(0)%
            Over(Reverted(Replica(vrf/0, "exited with code 3")))
        "#]],
    );
    assert_eq!((world.count(Side::Stable), world.selectable()), (3, 3));
}

#[test]
fn a_canary_that_answers_worse_is_given_up_and_no_replica_of_the_old_version_was_touched() {
    let mut world = World::new(plan(canary(&[(10, Some(60)), (50, Some(60))])), &[Fate::Serves(1)]);
    world.run(10);
    world.samples.stable = Sample { requests: 1_000, errors: 0, p99: Some(SECOND) };
    world.samples.target = Sample { requests: 99, errors: 5, p99: Some(SECOND) };
    world.run(100);
    assert_eq!(*world.rollout.stage(), Stage::Step(0), "too few calls say nothing");
    world.samples.target.requests = 100;
    world.run(100);
    check(
        &world,
        expect![[r#"
        0 Start(Target) at Some(0)%
        110 Drain(vrf/3) at Some(0)%
        Over(Reverted(Gate("5.0 % of 100 calls failed, and 0.0 % of the old version's 1000")))
    "#]],
    );
}

#[test]
fn a_canary_whose_calls_are_too_few_waits() {
    let mut world = World::new(plan(canary(&[(10, Some(60))])), &[Fate::Serves(1)]);
    world.run(5_000);
    assert_eq!(*world.rollout.stage(), Stage::Step(0));
    world.samples.target = Sample { requests: 100, errors: 0, p99: Some(SECOND) };
    world.run(100);
    check(
        &world,
        expect![[r#"
            0 Start(Target) at Some(0)%
            5000 Drain(vrf/0) at None%
            5001 Start(Target) at None%
            5004 Drain(vrf/1) at None%
            5005 Start(Target) at None%
            5008 Drain(vrf/2) at None%
            Over(Done)
        "#]],
    );
}

#[test]
fn blue_and_green_stand_beside_each_other_until_the_old_one_is_not_needed_any_more() {
    let strategy = Strategy::BlueGreen { promotion: Promotion::ByHand, keep: 30 * SECOND };
    let mut world = World::new(plan(strategy), &[Fate::Serves(1)]);
    world.run(1_000);
    assert_eq!((world.rollout.stage(), world.rollout.share()), (&Stage::Preview, Some(0)));
    world.rollout.promote();
    world.run(10);
    assert_eq!((world.rollout.stage(), world.rollout.share()), (&Stage::Switched, Some(100)));
    world.run(100);
    check(
        &world,
        expect![[r#"
            0 Start(Target) at Some(0)%
            0 Start(Target) at Some(0)%
            0 Start(Target) at Some(0)%
            1030 Drain(vrf/0) at None%
            1030 Drain(vrf/1) at None%
            1030 Drain(vrf/2) at None%
            Over(Done)
        "#]],
    );
}

#[test]
fn what_is_paused_starts_and_ends_nothing_and_is_not_late_afterwards() {
    let mut world = World::new(plan(Strategy::Rolling), &[Fate::Serves(1)]);
    world.run(2);
    world.rollout.pause();
    let before = world.log.clone();
    world.run(5_000);
    assert_eq!((world.log.as_str(), world.rollout.stage()), (before.as_str(), &Stage::Filling));
    world.rollout.resume(world.now);
    world.run(100);
    assert_eq!(*world.rollout.stage(), Stage::Over(Outcome::Done));
}

#[test]
fn a_version_that_hangs_is_given_up_after_the_deadline() {
    let mut world = World::new(plan(Strategy::Rolling), &[Fate::Hangs]);
    world.run(700);
    check(
        &world,
        expect![[r#"
        0 Start(Target) at None%
        600 Drain(vrf/3) at Some(0)%
        Over(Reverted(Late(600s)))
    "#]],
    );
}

#[test]
fn a_version_that_is_there_by_turns_is_late_and_one_that_waits_for_who_drains_is_not() {
    let mut world = World::new(plan(canary(&[(10, Some(60))])), &[Fate::Serves(1)]);
    world.run(5);
    // Its calls fail: it is left alone for half a minute, and then tried for some seconds.
    for _ in 0..30 {
        for turn in 0..36 {
            let standing = if turn < 30 { Standing::Pending } else { Standing::Selectable(world.now) };
            let is_target = |member: &&mut (Member, Fate, Duration)| member.0.side == Side::Target;
            if turn == 0 || turn == 30 {
                world.members.iter_mut().filter(is_target).for_each(|(member, fate, _)| {
                    (member.standing, *fate) = (standing.clone(), Fate::Hangs);
                });
            }
            world.step();
        }
    }
    assert!(
        matches!(
            world.rollout.stage(),
            Stage::Reverting(Failure::Late(_)) | Stage::Over(Outcome::Reverted(Failure::Late(_)))
        ),
        "{:?}",
        world.rollout.stage()
    );

    let mut slow = World::new(plan(Strategy::Rolling), &[Fate::Serves(1)]);
    slow.drains = 700;
    slow.run(3_000);
    assert_eq!(*slow.rollout.stage(), Stage::Over(Outcome::Done));
}

/// The same replicas and a rollout that somebody else has begun.
fn resumed(world: World, percent: Option<u8>) -> World {
    let (plan, now) = (world.rollout.plan.clone(), world.now + 100 * SECOND);
    let at = Reached { stage: world.rollout.stage().clone(), pace: world.rollout.pace(), percent };
    World { rollout: Rollout::resume_at(plan, &at, now), now, log: String::new(), ..world }
}

#[test]
fn a_rollout_that_is_gone_on_with_ends_as_it_would_have_and_repeats_no_step() {
    let mut world = World::new(plan(canary(&[(10, Some(60)), (50, Some(60))])), &[Fate::Serves(1)]);
    world.run(5);
    let passed = Sample { requests: 100, errors: 0, p99: Some(SECOND) };
    world.samples.target = passed;
    while *world.rollout.stage() == Stage::Step(0) {
        world.step();
    }
    world.run(10);
    assert_eq!((world.rollout.stage(), world.rollout.share()), (&Stage::Step(1), Some(50)));
    let mut world = resumed(world, Some(50));
    assert_eq!((world.rollout.stage(), world.rollout.share()), (&Stage::Step(1), Some(50)), "at once");
    world.samples.target = passed;
    world.run(59);
    assert_eq!(*world.rollout.stage(), Stage::Step(1), "its pause begins anew");
    world.run(100);
    check(
        &world,
        expect![[r#"
        234 Drain(vrf/0) at None%
        234 Drain(vrf/1) at None%
        235 Start(Target) at None%
        238 Drain(vrf/2) at None%
        Over(Done)
    "#]],
    );
}

#[test]
fn a_step_whose_replicas_were_not_there_yet_has_what_the_one_before_had() {
    let strategy = canary(&[(10, Some(60)), (50, None)]);
    let resumed = |stage: Stage, percent| {
        let at = Reached { stage, pace: Pace::Paused, percent };
        Rollout::resume_at(plan(strategy.clone()), &at, SECOND)
    };
    assert_eq!(resumed(Stage::Step(1), Some(10)).share(), Some(10));
    assert_eq!(resumed(Stage::Step(1), Some(50)).share(), Some(50));
    assert_eq!(resumed(Stage::Step(0), Some(0)).share(), Some(0));
    // What the file says meanwhile of the steps holds.
    assert_eq!(*resumed(Stage::Step(7), Some(90)).stage(), Stage::Step(1));
    assert_eq!(*resumed(Stage::Preview, Some(0)).stage(), Stage::Step(0));
    assert_eq!(*resumed(Stage::Switched, Some(100)).stage(), Stage::Filling);
    let at = Reached { stage: Stage::Step(1), pace: Pace::Going, percent: Some(50) };
    assert_eq!(*Rollout::resume_at(plan(Strategy::Rolling), &at, SECOND).stage(), Stage::Filling);
}

#[test]
fn one_that_was_paused_stays_paused_with_its_part_of_the_calls() {
    let mut world = World::new(plan(canary(&[(50, Some(60))])), &[Fate::Serves(1)]);
    world.run(5);
    world.rollout.pause();
    let mut world = resumed(world, Some(50));
    world.samples.target = Sample { requests: 1_000, errors: 0, p99: Some(SECOND) };
    world.run(1_000);
    assert_eq!(
        (world.log.as_str(), world.rollout.pace(), world.rollout.share()),
        ("", Pace::Paused, Some(50))
    );
    world.rollout.resume(world.now);
    world.run(200);
    assert_eq!(*world.rollout.stage(), Stage::Over(Outcome::Done));
}

#[test]
fn one_that_was_reverting_goes_on_reverting() {
    let mut world = World::new(plan(Strategy::Rolling), &[Fate::Serves(1), Fate::Fails(5)]);
    while !matches!(world.rollout.stage(), Stage::Reverting(_)) {
        world.step();
    }
    let mut world = resumed(world, None);
    world.run(100);
    let Stage::Over(Outcome::Reverted(Failure::Replica(..))) = world.rollout.stage() else {
        panic!("{:?}", world.rollout.stage());
    };
    assert_eq!((world.count(Side::Stable), world.selectable()), (3, 3));
}

#[test]
fn until_those_that_were_left_are_taken_over_none_goes_and_what_is_missing_is_started() {
    let at = |stage| Reached { stage, pace: Pace::Going, percent: None };
    let member = |ordinal, side| Member { id: id(ordinal), side, standing: Standing::Pending };
    let members = [member(0, Side::Stable), member(1, Side::Stable), member(3, Side::Target)];
    let missing = |strategy, stage| {
        let rollout = Rollout::resume_at(plan(strategy), &at(stage), SECOND);
        rollout.missing(&Seen { now: SECOND, members: &members, samples: Samples::default() })
    };
    assert_eq!(missing(Strategy::Rolling, Stage::Filling), [Action::Start(Side::Target)]);
    let reverting = Stage::Reverting(Failure::Undone);
    assert_eq!(missing(Strategy::Rolling, reverting), [Action::Start(Side::Stable)]);
    assert_eq!(missing(canary(&[(10, None)]), Stage::Step(0)), [Action::Start(Side::Stable)]);
}

#[test]
fn a_replica_that_an_operator_has_drained_is_left_alone_and_holds_nothing_up() {
    for revert in [false, true] {
        let mut world = World::new(plan(Strategy::Rolling), &[Fate::Serves(1)]);
        world.members[1].0.standing = Standing::Held;
        world.run(3);
        if revert {
            world.rollout.undo();
        }
        world.run(100);
        let (outcome, side) = match revert {
            false => (Outcome::Done, Side::Target),
            true => (Outcome::Reverted(Failure::Undone), Side::Stable),
        };
        assert_eq!(*world.rollout.stage(), Stage::Over(outcome), "{}", world.log);
        let held = world.members.iter().find(|(member, ..)| member.id == id(1)).unwrap();
        assert_eq!((&held.0.standing, held.0.side), (&Standing::Held, Side::Stable));
        assert_eq!((world.members.len(), world.selectable()), (3, 2));
        assert_eq!(world.count(side), if revert { 3 } else { 2 });
    }
}

#[test]
fn who_serves_makes_no_room_for_who_is_held() {
    let mut alone = World::new(Plan { replicas: 1, ..plan(canary(&[(10, Some(6))])) }, &[Fate::Serves(1)]);
    alone.run(4);
    let mut green = World::new(
        plan(Strategy::BlueGreen { promotion: Promotion::After(6 * SECOND), keep: SECOND }),
        &[Fate::Serves(1)],
    );
    green.run(4);
    for (mut world, replicas) in [(alone, 1), (green, 3)] {
        let stable = world.members.iter_mut().filter(|(member, ..)| member.side == Side::Stable);
        stable.for_each(|(member, ..)| member.standing = Standing::Held);
        let passed = Sample { requests: 100, errors: 0, p99: Some(SECOND) };
        for _ in 0..100 {
            world.samples.target = passed;
            world.run(1);
        }
        assert_eq!(*world.rollout.stage(), Stage::Over(Outcome::Done), "{}", world.log);
        assert_eq!((world.count(Side::Target), world.selectable()), (replicas, replicas), "{}", world.log);
        assert_eq!(world.members.len(), replicas, "who was held has no place left: {}", world.log);
    }
}

#[test]
fn one_of_the_new_version_that_is_held_does_not_make_it_late() {
    let switched = Strategy::BlueGreen { promotion: Promotion::After(SECOND), keep: 1_000 * SECOND };
    let mut world = World::new(plan(switched), &[Fate::Serves(1)]);
    world.run(20);
    assert_eq!(*world.rollout.stage(), Stage::Switched);
    let (target, ..) = world.members.iter_mut().find(|(member, ..)| member.side == Side::Target).unwrap();
    target.standing = Standing::Held;
    world.run(2_000);
    assert_eq!(*world.rollout.stage(), Stage::Over(Outcome::Done), "{}", world.log);
}

#[test]
fn what_is_paused_has_as_many_replicas_as_are_wanted() {
    let all_at_once = Plan { max_surge: 0, max_unavailable: 3, ..plan(Strategy::Rolling) };
    let mut world = World::new(all_at_once, &[Fate::Serves(1)]);
    world.run(1);
    world.rollout.pause();
    world.run(10);
    assert_eq!((world.count(Side::Stable), world.selectable()), (3, 3), "{}", world.log);
    world.rollout.scale(4);
    world.run(10);
    assert_eq!((world.count(Side::Stable), world.selectable()), (4, 4), "{}", world.log);
    world.rollout.scale(2);
    world.run(10);
    assert_eq!((world.count(Side::Stable), world.selectable()), (2, 2), "{}", world.log);
    let mut canary = World::new(plan(canary(&[(10, None)])), &[Fate::Serves(1)]);
    canary.run(5);
    canary.rollout.pause();
    canary.rollout.scale(5);
    canary.run(10);
    assert_eq!((canary.count(Side::Stable), canary.count(Side::Target)), (5, 1), "{}", canary.log);
}

#[test]
fn what_is_paused_and_scaled_down_keeps_no_more_and_loses_nobody_who_serves_before_who_does_not() {
    let paused = || {
        let mut world = World::new(plan(Strategy::Rolling), &[Fate::Serves(1)]);
        world.run(1);
        world.rollout.pause();
        world.run(10);
        assert_eq!((world.count(Side::Stable), world.count(Side::Target), world.selectable()), (3, 1, 4));
        world
    };
    let mut world = paused();
    world.rollout.scale(2);
    world.run(10);
    assert_eq!((world.count(Side::Stable), world.members.len()), (2, 2), "the old one: {}", world.log);
    world.rollout.scale(0);
    world.run(10);
    assert_eq!(world.members.len(), 0, "{}", world.log);
    let mut world = paused();
    for (member, fate, _) in &mut world.members[..2] {
        (member.standing, *fate) = (Standing::Pending, Fate::Hangs);
    }
    world.rollout.scale(2);
    world.run(10);
    assert_eq!((world.count(Side::Target), world.selectable()), (1, 2), "{}", world.log);
    world.rollout.resume(world.now);
    world.run(100);
    assert_eq!((world.count(Side::Target), world.members.len()), (2, 2), "{}", world.log);
}

#[test]
fn one_of_a_version_that_is_given_up_keeps_no_place_for_having_been_drained() {
    let mut world = World::new(plan(canary(&[(50, None)])), &[Fate::Serves(1)]);
    world.run(5);
    let (canary, ..) = world.members.iter_mut().find(|(member, ..)| member.side == Side::Target).unwrap();
    canary.standing = Standing::Held;
    world.rollout.undo();
    world.run(100);
    assert_eq!(*world.rollout.stage(), Stage::Over(Outcome::Reverted(Failure::Undone)));
    assert_eq!((world.count(Side::Stable), world.members.len()), (3, 3));
    assert!(!world.log.contains("Drain(vrf/0)"), "{}", world.log);
}

#[test]
fn a_revert_of_what_cannot_come_back_is_over_after_the_deadline_and_says_so() {
    let mut world = World::new(plan(Strategy::Rolling), &[Fate::Serves(1)]);
    world.run(6);
    world.rollout.undo();
    // What it replaced cannot be started any more.
    world.old = Fate::Hangs;
    world.run(1_000);
    check(
        &world,
        expect![[r#"
        0 Start(Target) at None%
        3 Drain(vrf/0) at None%
        4 Start(Target) at None%
        7 Drain(vrf/0) at None%
        8 Start(Stable) at None%
        Over(Incomplete(Undone))
    "#]],
    );
    assert_eq!(world.selectable(), 3, "nobody goes who is missed");
}

fn any_fate() -> impl Any<Value = Fate> {
    prop_oneof![8 => (0_u64..20).prop_map(Fate::Serves), 1 => (0_u64..20).prop_map(Fate::Fails), 1 => Just(Fate::Hangs)]
}

fn any_plan() -> impl Any<Value = Plan> {
    let strategy = prop_oneof![
        Just(Strategy::Rolling),
        Just(canary(&[(10, Some(5)), (50, Some(5))])),
        Just(Strategy::BlueGreen { promotion: Promotion::After(5 * SECOND), keep: 5 * SECOND }),
    ];
    (1_u32..8, 0_u32..4, 0_u32..4, strategy).prop_map(|(replicas, max_surge, max_unavailable, strategy)| {
        Plan {
            replicas,
            max_surge: if max_unavailable == 0 { max_surge.max(1) } else { max_surge },
            max_unavailable,
            ..plan(strategy)
        }
    })
}

#[test]
fn what_an_unfinished_rollout_has_left_goes_before_the_old_version() {
    let mut rollout = Rollout::begin(Plan { replicas: 1, ..plan(canary(&[(50, None)])) }, SECOND);
    let serves = Standing::Selectable(Duration::ZERO);
    let stray = Member { id: id(0), side: Side::Stray, standing: serves.clone() };
    let mut advance = |standing: &Standing| {
        let stable = Member { id: id(1), side: Side::Stable, standing: standing.clone() };
        let members = [stray.clone(), stable];
        rollout.advance(&Seen { now: SECOND, members: &members, samples: Samples::default() })
    };
    assert_eq!(advance(&Standing::Pending), [Action::Start(Side::Target)], "it is missed");
    assert_eq!(advance(&serves), [Action::Start(Side::Target), Action::Drain(id(0))]);
}

#[test]
fn what_an_unfinished_rollout_has_left_gives_way_where_the_old_version_comes_back_and_stays_where_not() {
    let serves = Standing::Selectable(Duration::ZERO);
    let steady = |max_surge, members: &[(Side, &Standing)]| {
        let member = |(ordinal, (side, standing)): (usize, &(Side, &Standing))| Member {
            id: id(u32::try_from(ordinal).unwrap()),
            side: *side,
            standing: (*standing).clone(),
        };
        let members: Vec<_> = members.iter().enumerate().map(member).collect();
        steady(&members, &Plan { max_surge, ..plan(Strategy::Rolling) })
    };
    let (own, stray) = ((Side::Stable, &serves), (Side::Stray, &serves));
    let comes = (Side::Stable, &Standing::Pending);
    assert_eq!(steady(1, &[own, stray, stray]), [Action::Start(Side::Stable)]);
    assert_eq!(steady(1, &[own, stray, stray, comes]), [], "nobody goes for one that does not come");
    assert_eq!(steady(1, &[own, stray, stray, own]), [Action::Drain(id(2))]);
    assert_eq!(steady(1, &[own, own, own]), []);
    assert_eq!(steady(0, &[own, stray, stray]), [Action::Drain(id(2))], "there may be no more");
    assert_eq!(steady(0, &[own, stray, comes]), []);
}

proptest! {
    #[test]
    fn whatever_happens_it_ends_with_one_version_and_never_with_fewer_or_more_than_allowed(
        plan in any_plan(), fates in prop::collection::vec(any_fate(), 1..12), drains in 1_u64..20,
    ) {
        let mut world = World::new(plan.clone(), &fates);
        world.drains = drains;
        let gated = Sample { requests: 1_000, errors: 0, p99: Some(SECOND) };
        for _ in 0..5_000 {
            if matches!(world.rollout.stage(), Stage::Over(_)) {
                break;
            }
            world.samples = Samples { stable: gated, target: gated };
            let before = world.selectable();
            world.step();
            let least = plan.replicas.saturating_sub(plan.max_unavailable) as usize;
            // A replica that fails by itself is nobody's decision.
            let fails = fates.iter().any(|fate| matches!(fate, Fate::Fails(_)));
            prop_assert!(fails || world.selectable() >= least.min(before), "{}", world.log);
            let most = match plan.strategy {
                Strategy::Rolling => plan.replicas + plan.max_surge,
                _ => 2 * plan.replicas + plan.max_surge,
            };
            prop_assert!(world.members.len() <= most as usize, "{}", world.log);
        }
        let Stage::Over(outcome) = world.rollout.stage() else {
            return Err(TestCaseError::fail(format!("it does not end: {:?}\n{}", world.rollout, world.log)));
        };
        let side = if *outcome == Outcome::Done { Side::Target } else { Side::Stable };
        prop_assert_eq!(world.count(side), plan.replicas as usize);
        prop_assert_eq!(world.members.len(), plan.replicas as usize);
    }
}
