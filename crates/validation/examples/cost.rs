//! What it costs to judge a small body: `cargo run --release -p validation --example cost`.

use std::hint::black_box;
use std::time::Instant;

use serde_json::json;
use validation::{RequestRule, Schema, read_json};

/// The rounds of one measurement.
const ROUNDS: u32 = 500_000;

fn main() {
    let document = json!({
        "type": "object",
        "properties": {
            "min": {"type": "integer", "minimum": 0}, "max": {"type": "integer", "maximum": 1_000_000},
            "count": {"type": "integer", "minimum": 1, "maximum": 100}, "label": {"type": "string", "maxLength": 64, "pattern": "^[a-z-]+$"}
        },
        "required": ["min", "max"],
        "additionalProperties": false
    });
    let body = br#"{"min": 1, "max": 100, "count": 5, "label": "coin-flip"}"#;
    let schema = Schema::compile(&document).expect("it is one");
    let value = read_json(body).expect("it is JSON");
    measure("read", || read_json(black_box(body)).is_ok());
    measure("judge", || schema.is_valid(black_box(&value)));
    let rule = RequestRule::of_schema("application/json", Some(schema));
    let content = rule.content("application/json").expect("it is taken");
    measure("both", || content.judge(black_box(body)) == validation::Judged::Valid);
    let wrong = br#"{"min": -1, "max": "100", "label": "Coin"}"#;
    measure("refuse", || content.judge(black_box(wrong)) != validation::Judged::Valid);
    for (name, document, body) in [
        ("1 MiB of numbers", json!({"items": {"type": "integer"}}), format!("[0{}]", ",0".repeat(524_286))),
        (
            "1 MiB of numbers that are none",
            json!({"items": {"type": "string"}}),
            format!("[0{}]", ",0".repeat(524_286)),
        ),
        (
            "1 MiB of unique numbers",
            json!({"uniqueItems": true}),
            format!(
                "[{}]",
                (0..130_000).map(|number| (number + 1_000_000).to_string()).collect::<Vec<_>>().join(",")
            ),
        ),
    ] {
        let rule = RequestRule::of_schema("application/json", Schema::compile(&document).ok());
        let content = rule.content("application/json").expect("it is taken");
        let began = Instant::now();
        black_box(content.judge(black_box(body.as_bytes())));
        println!("{name}: {} ms", began.elapsed().as_millis());
    }
}

fn measure(name: &str, mut work: impl FnMut() -> bool) {
    (0..ROUNDS / 10).for_each(|_| assert!(work()));
    let began = Instant::now();
    (0..ROUNDS).for_each(|_| assert!(work()));
    println!("{name}: {} ns", began.elapsed().as_nanos() / u128::from(ROUNDS));
}
