//! What `vrf` has answered is there for every replica, and stays when any of them, or all of them, are gone.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{Mesh, Request, Running, eventually, kill};

/// A POST with an `Idempotency-Key`.
fn post_with_key(mesh: &Running, key: &str, body: &Value) -> Request {
    Request::new("POST", "/v1/random").key(&mesh.key).header("idempotency-key", key).json(body)
}

fn path(answer: &Value) -> String {
    format!("/v1/random/{}", answer["id"].as_str().expect("an id"))
}

fn again(answer: &Value) -> Value {
    let mut answer = answer.clone();
    answer["replayed"] = json!(true);
    answer
}

#[test]
fn answers_outlive_the_replica_that_gave_them_and_a_restart_of_everything() {
    let mesh = Mesh::new().service("vrf", 3).up();
    let seeded = json!({"min": 1, "max": 6, "count": 3, "seed": "lottery-7"});
    let (first, plain) = (
        mesh.post("/v1/random", &seeded).json(),
        mesh.post("/v1/random", &json!({"min": 1, "max": 6})).json(),
    );
    assert_eq!((&first["replayed"], &plain["replayed"]), (&json!(false), &json!(false)));
    // More requests than replicas: whoever is asked, the answer is the same.
    for _ in 0..6 {
        assert_eq!(mesh.post("/v1/random", &seeded).json(), again(&first));
        assert_eq!(mesh.get(&path(&plain)).json(), again(&plain));
    }
    for (place, pid) in mesh.pids("vrf").into_iter().enumerate() {
        kill(pid, Signal::KILL);
        eventually("the replacement", || {
            (mesh.replicas("vrf")[place]["restarts"].as_u64() >= Some(1)).then_some(())
        });
        mesh.until_selectable();
        assert_eq!(mesh.get(&path(&plain)).json(), again(&plain));
    }
    mesh.signal(Signal::KILL);
    let mesh = mesh.up_again();
    assert_eq!(mesh.get(&path(&first)).json(), again(&first));
    assert_eq!(mesh.get(&path(&plain)).json(), again(&plain));
    assert_eq!(mesh.post("/v1/random", &seeded).json(), again(&first));
    let other_range = json!({"min": 1, "max": 7, "count": 3, "seed": "lottery-7"});
    assert_eq!(mesh.post("/v1/random", &other_range).problem(), (409, "VRF_SEED_REUSED".into()));
}

#[test]
fn one_idempotency_key_has_one_answer_however_many_ask_at_once() {
    const CALLERS: usize = 32;
    let mesh = Mesh::new().service("vrf", 3).up();
    let body = json!({"min": 1, "max": 1_000_000});
    let answers: Vec<Value> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                scope.spawn(|| {
                    let answer = post_with_key(&mesh, "order-1", &body).send(mesh.gateway);
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    answer.json()
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().expect("a caller with an answer")).collect()
    });
    let ids: BTreeSet<_> = answers.iter().map(|answer| answer["id"].as_str().expect("an id")).collect();
    assert_eq!(ids.len(), 1);
    assert!(answers.iter().filter(|answer| answer["replayed"] == false).count() <= 1);
    let other = post_with_key(&mesh, "order-1", &json!({"min": 1, "max": 2})).send(mesh.gateway);
    assert_eq!(other.problem(), (409, "IDEMPOTENCY_MISMATCH".into()));
    let next = post_with_key(&mesh, "order-2", &body).send(mesh.gateway).json();
    assert!(!ids.contains(next["id"].as_str().expect("an id")));
    let batch = json!({"requests": vec![body; 100]});
    let batch = mesh.post("/v1/random/batch", &batch).json();
    assert_eq!(batch["answers"].as_array().map(Vec::len), Some(100));
    assert_eq!(mesh.get(&path(&batch["answers"][99])).json(), again(&batch["answers"][99]));
}

#[test]
fn an_answer_is_nobody_elses() {
    let mesh = Mesh::new().service("vrf", 2).yaml("    dice: {builtin: vrf}\n").up();
    let answer = mesh.post("/v1/random", &json!({"min": 1, "max": 6, "seed": "s"})).json();
    let made =
        mesh.run(&["keys", "create", "--name", "t", "--scopes", "randomness", "--tenant", "acme", "--json"]);
    let made: Value = serde_json::from_str(&made.out).unwrap_or_else(|_| panic!("{made:?}"));
    let foreign =
        |path: &str| Request::new("GET", path).key(made["key"].as_str().expect("a key")).send(mesh.gateway);
    assert_eq!(foreign(&path(&answer)).problem(), (404, "VRF_UNKNOWN_ID".into()));
    assert_eq!(foreign("/v1/random/keys").status, 200);
    let of_other_service = mesh.get(&format!("/dice{}", path(&answer)));
    assert_eq!(of_other_service.problem(), (404, "VRF_UNKNOWN_ID".into()), "services share nothing");
}
