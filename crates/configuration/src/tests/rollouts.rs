//! How a service is brought from one version to another.

use std::time::Duration;

use expect_test::expect;

use super::{check, read};
use crate::{CanaryStep, Percent, Rollout, RolloutStrategy};

fn rollout(text: &str) -> Rollout {
    let settings = read(&format!("services: {{vrf: {{rollout: {text}}}}}")).unwrap();
    settings.services[0].process().unwrap().rollout.clone()
}

#[test]
fn what_is_left_out_of_a_canary_has_its_documented_default() {
    assert_eq!(rollout(""), rollout("{strategy: rolling, maxSurge: 1, maxUnavailable: 0, minReady: 2s}"));
    let step = |percent, pause| CanaryStep { weight: Percent::new(percent).unwrap(), pause };
    let RolloutStrategy::Canary { steps, gate } = rollout("{strategy: canary}").strategy else { panic!() };
    let pause = Some(Duration::from_secs(300));
    assert_eq!(steps, [step(10, pause), step(50, pause)]);
    assert_eq!((gate.error_rate.get(), gate.latency_ratio, gate.min_requests), (1, 2.0, 100));
    let written = "{strategy: canary, steps: [{weight: 5%}], gate: {latencyRatio: 1.5}}";
    let RolloutStrategy::Canary { steps, gate } = rollout(written).strategy else { panic!() };
    assert_eq!(steps, [step(5, None)], "without a pause it waits for somebody");
    assert_eq!((gate.latency_ratio, gate.min_requests), (1.5, 100));
}

#[test]
fn a_blue_green_rollout_goes_on_by_itself_or_waits_for_somebody() {
    let promoted = |text: &str| match rollout(&format!("{{strategy: blueGreen{text}}}")).strategy {
        RolloutStrategy::BlueGreen { auto_promote, keep } => (auto_promote, keep.as_secs()),
        other => panic!("{other:?}"),
    };
    assert_eq!(promoted(""), (Some(Duration::ZERO), 300));
    assert_eq!(promoted(", autoPromote: 30s, keep: 0s"), (Some(Duration::from_secs(30)), 0));
    assert_eq!(promoted(", autoPromote: never"), (None, 300));
}

#[test]
fn a_rollout_that_could_not_go_as_it_is_written_is_refused() {
    check(
        "services:
  vrf: {rollout: {strategy: canari, maxSurg: 2}}
  a: {builtin: vrf, rollout: {maxSurge: 0, minReady: 10m}}
  b: {builtin: vrf, rollout: {steps: [{weight: 5%}], gate: }}
  c: {builtin: vrf, rollout: {strategy: canary, keep: 1m, autoPromote: never}}
  d: {builtin: vrf, rollout: {strategy: blueGreen, autoPromote: nevr, gate: {minRequests: 1}}}
  e: {builtin: vrf, rollout: {strategy: canary, steps: []}}
  f: {builtin: vrf, rollout: {strategy: canary, steps: [{weight: 0%}, {pause: 1m}, {weight: 50%}, {weight: 50%}, {weight: 5}]}}
  g: {builtin: vrf, rollout: {strategy: canary, gate: {errorRate: 0.01, latencyRatio: 0.5, minRequests: 0}}}
  h: {builtin: vrf, rollout: {strategy: blueGreen, autoPromote: 25h, maxSurge: 25%}}
",
        expect![[r#"
            serviceos.yaml:2:29: services.vrf.rollout.strategy: expected `rolling`, `canary` or `blueGreen`, found `canari`
              2 |   vrf: {rollout: {strategy: canari, maxSurg: 2}}
                |                             ^^^^^^
            help: did you mean `canary`?

            serviceos.yaml:2:37: unknown key `maxSurg`
              2 |   vrf: {rollout: {strategy: canari, maxSurg: 2}}
                |                                     ^^^^^^^
            help: did you mean `maxSurge`?

            serviceos.yaml:3:30: services.a.rollout: with `maxSurge: 0` and `maxUnavailable: 0` no replica could ever take another one's place
              3 |   a: {builtin: vrf, rollout: {maxSurge: 0, minReady: 10m}}
                |                              ^
            help: write `maxSurge: 1` to start one more meanwhile, or `maxUnavailable: 1` to go with one fewer

            serviceos.yaml:3:54: services.a.rollout: with minReady (`10m`) no shorter than progressDeadline (`10m`) every rollout would be late
              3 |   a: {builtin: vrf, rollout: {maxSurge: 0, minReady: 10m}}
                |                                                      ^^^
            help: write a shorter minReady, or a longer progressDeadline

            serviceos.yaml:4:38: services.b.rollout.steps: only the strategy canary has this, and this one is rolling
              4 |   b: {builtin: vrf, rollout: {steps: [{weight: 5%}], gate: }}
                |                                      ^
            help: leave `steps` out, or write `strategy: canary` beside it

            serviceos.yaml:4:58: services.b.rollout.gate: only the strategy canary has this, and this one is rolling
              4 |   b: {builtin: vrf, rollout: {steps: [{weight: 5%}], gate: }}
                |                                                          ^
            help: leave `gate` out, or write `strategy: canary` beside it

            serviceos.yaml:5:55: services.c.rollout.keep: only the strategy blueGreen has this, and this one is canary
              5 |   c: {builtin: vrf, rollout: {strategy: canary, keep: 1m, autoPromote: never}}
                |                                                       ^^
            help: leave `keep` out, or write `strategy: blueGreen` beside it

            serviceos.yaml:5:72: services.c.rollout.autoPromote: only the strategy blueGreen has this, and this one is canary
              5 |   c: {builtin: vrf, rollout: {strategy: canary, keep: 1m, autoPromote: never}}
                |                                                                        ^^^^^
            help: leave `autoPromote` out, or write `strategy: blueGreen` beside it

            serviceos.yaml:6:65: services.d.rollout.autoPromote: expected `never` or a duration such as 0s, 30s or 5m, found `nevr`
              6 |   d: {builtin: vrf, rollout: {strategy: blueGreen, autoPromote: nevr, gate: {minRequests: 1}}}
                |                                                                 ^^^^
            help: did you mean `never`?

            serviceos.yaml:6:77: services.d.rollout.gate: only the strategy canary has this, and this one is blueGreen
              6 |   d: {builtin: vrf, rollout: {strategy: blueGreen, autoPromote: nevr, gate: {minRequests: 1}}}
                |                                                                             ^
            help: leave `gate` out, or write `strategy: canary` beside it

            serviceos.yaml:7:56: services.e.rollout.steps: expected 1 to 20 steps, found 0
              7 |   e: {builtin: vrf, rollout: {strategy: canary, steps: []}}
                |                                                        ^
            help: write `steps: [{weight: 10%, pause: 5m}]`, or leave `steps` out for those of the documentation

            serviceos.yaml:8:66: services.f.rollout.steps[0].weight: a step takes some of the calls, found `0%`
              8 | …ut: {strategy: canary, steps: [{weight: 0%}, {pause: 1m}, {weight: 50%}, {weight: 50%}, {weight: 5}]}}
                |                                          ^^
            help: write 1% or more

            serviceos.yaml:8:71: services.f.rollout.steps[1].weight: missing: nothing says how many of the calls it takes
              8 | …strategy: canary, steps: [{weight: 0%}, {pause: 1m}, {weight: 50%}, {weight: 50%}, {weight: 5}]}}
                |                                          ^
            help: write `weight: 10%`

            serviceos.yaml:8:99: services.f.rollout.steps[3].weight: a step takes more of the calls than the one before (50%), found `50%`
              8 | …eight: 0%}, {pause: 1m}, {weight: 50%}, {weight: 50%}, {weight: 5}]}}
                |                                          ^
            help: put the steps in the order of their weights

            serviceos.yaml:8:123: services.f.rollout.steps[4].weight: expected a whole percentage from 0% to 100%, found `5`
              8 | … {weight: 50%}, {weight: 50%}, {weight: 5}]}}
                |                                          ^
            help: add the sign: 5%

            serviceos.yaml:9:67: services.g.rollout.gate.errorRate: expected a whole percentage from 0% to 100%, found `0.01`
              9 |   g: {builtin: vrf, rollout: {strategy: canary, gate: {errorRate: 0.01, latencyRatio: 0.5, minRequests: 0}}}
                |                                                                   ^^^^
            help: write 1% for that part of the whole

            serviceos.yaml:9:87: services.g.rollout.gate.latencyRatio: expected a number from 1 to 100 such as 1.5, found `0.5`
              9 |   g: {builtin: vrf, rollout: {strategy: canary, gate: {errorRate: 0.01, latencyRatio: 0.5, minRequests: 0}}}
                |                                                                                       ^^^

            serviceos.yaml:9:105: services.g.rollout.gate.minRequests: expected a whole number from 1 to 1000000, found `0`
              9 |   g: {builtin: vrf, rollout: {strategy: canary, gate: {errorRate: 0.01, latencyRatio: 0.5, minRequests: 0}}}
                |                                                                                                         ^

            serviceos.yaml:10:65: services.h.rollout.autoPromote: expected `never` or a duration up to 1d, found `1d1h`
              10 |   h: {builtin: vrf, rollout: {strategy: blueGreen, autoPromote: 25h, maxSurge: 25%}}
                 |                                                                 ^^^

            serviceos.yaml:10:80: services.h.rollout.maxSurge: expected a whole number from 0 to 1000, found `25%`
              10 |   h: {builtin: vrf, rollout: {strategy: blueGreen, autoPromote: 25h, maxSurge: 25%}}
                 |                                                                                ^^^"#]],
    );
}

#[test]
fn a_rollout_is_of_replicas_that_are_started_here() {
    check(
        "services:
  a: {endpoints: [\"http://a\"], attestation: none, rollout: {maxSurge: 2}}
  b: {attestation: {releases: [{version: \"1\", simulated: {w: \"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\"}}]}, rollout: }
",
        expect![[r#"
            serviceos.yaml:2:60: services.a.rollout: endpoints are not started here; `traffic.weights` moves calls from one version to another
              2 |   a: {endpoints: ["http://a"], attestation: none, rollout: {maxSurge: 2}}
                |                                                            ^
            help: leave `rollout` out

            serviceos.yaml:3:141: services.b.rollout: its replicas are started and stopped elsewhere, by `serviceos exec`
              3 | …131415161718191a1b1c1d1e1f"}}]}, rollout: }
                |                                          ^
            help: leave `rollout` out, or write `command` to have them started here"#]],
    );
}
