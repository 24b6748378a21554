use expect_test::{Expect, expect};
use jiff::Timestamp;
use service_lifecycle::rollout::{Failure, Samples};

use super::*;

fn status(stage: Stage, waits: Vec<Waits>) -> (RolloutStatus, Progress) {
    let sample = |requests, errors, millis: Option<u64>| Sample {
        requests,
        errors,
        p99: millis.map(Duration::from_millis),
    };
    let status = RolloutStatus {
        from: "1.0.0".into(),
        to: "1.1.0".into(),
        stage,
        pace: Pace::Going,
        percent: Some(10),
        begun: 1,
        since: Timestamp::UNIX_EPOCH,
    };
    let progress = Progress {
        strategy: "canary",
        steps: 3,
        stable: Count { wanted: 3, there: 3, available: 3 },
        target: Count { wanted: 1, there: 1, available: 1 },
        samples: Samples { stable: sample(400, 4, Some(12)), target: sample(0, 0, None) },
        gate: Some(Gate { error_rate: 0.01, latency_ratio: 2.0, min_requests: 100 }),
        waits,
    };
    (status, progress)
}

fn check(on_its_way: Option<(RolloutStatus, Progress)>, ended: &[EndedRollout], expected: &Expect) {
    let ended = ended.iter().cloned().collect();
    let (on_its_way, progress) = on_its_way.unzip();
    let rollouts = Rollouts { wanted: "1.1.0".into(), on_its_way, ended };
    let document = ServiceRollout::of(&"vrf".parse().unwrap(), &rollouts, progress.as_ref());
    expected.assert_eq(&serde_json::to_string_pretty(&document).unwrap());
    let told = serde_json::to_string(&document).unwrap();
    assert_eq!(ServiceRollout::decode("rollout", &told), Ok(document));
}

#[test]
fn the_contract_of_a_rollout_on_its_way() {
    let waits = vec![Waits::Time(Duration::from_secs(12)), Waits::Samples(37)];
    check(
        Some(status(Stage::Step(0), waits)),
        &[],
        &expect![[r#"
        {
          "service": "vrf",
          "wanted": "1.1.0",
          "rollout": {
            "from": "1.0.0",
            "to": "1.1.0",
            "strategy": "canary",
            "stage": "step",
            "said": "step 1 of 3",
            "step": 1,
            "steps": 3,
            "reason": null,
            "percent": 10,
            "pace": "going",
            "since": "1970-01-01T00:00:00.000Z",
            "stable": {
              "wanted": 3,
              "there": 3,
              "available": 3,
              "requests": 400,
              "errors": 4,
              "errorRate": 0.01,
              "p99Ms": 12.0
            },
            "target": {
              "wanted": 1,
              "there": 1,
              "available": 1,
              "requests": 0,
              "errors": 0,
              "errorRate": null,
              "p99Ms": null
            },
            "gate": {
              "errorRate": 0.01,
              "latencyRatio": 2.0,
              "minRequests": 100
            },
            "waits": [
              {
                "for": "time",
                "seconds": 12,
                "said": "pause ends in 12 s"
              },
              {
                "for": "samples",
                "missing": 37,
                "said": "waits for 37 more samples"
              }
            ]
          },
          "last": null
        }"#]],
    );
}

#[test]
fn the_contract_of_what_has_ended() {
    let failure = Failure::Gate("5.0 % of 100 calls failed".into());
    let ended = EndedRollout {
        from: "1.0.0".into(),
        to: "1.1.0".into(),
        outcome: Outcome::Reverted(failure),
        times: (Timestamp::UNIX_EPOCH, Timestamp::from_second(60).unwrap()),
    };
    check(
        None,
        &[ended],
        &expect![[r#"
        {
          "service": "vrf",
          "wanted": "1.1.0",
          "rollout": null,
          "last": {
            "from": "1.0.0",
            "to": "1.1.0",
            "outcome": "reverted",
            "reason": "5.0 % of 100 calls failed",
            "since": "1970-01-01T00:00:00.000Z",
            "ended": "1970-01-01T00:01:00.000Z"
          }
        }"#]],
    );
}

#[test]
fn whoever_has_to_do_something_is_told_what() {
    let said = |waits| RolloutWait::of(&"vrf".parse().unwrap(), waits).said;
    let all = [
        Waits::Replicas,
        Waits::Samples(37),
        Waits::Time(Duration::from_secs(12)),
        Waits::Promotion,
        Waits::Resumption,
    ];
    expect![[r#"
        waits for replicas
        waits for 37 more samples
        pause ends in 12 s
        waits for somebody: serviceos rollout promote vrf
        waits for somebody: serviceos rollout resume vrf"#]]
    .assert_eq(&all.map(said).join("\n"));
}
