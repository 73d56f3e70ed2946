//! Any expression over any object: compiled or refused, evaluated within its budget.
#![no_main]

use kedge::server::cel::{OBJECT_BUDGET, PER_CALL_LIMIT, Program, Type, Variables};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use std::sync::LazyLock;

static OBJECT: LazyLock<Value> = LazyLock::new(|| {
    json!({"a": 1, "b": -2.5, "s": "kedge", "l": [1, 2, 3], "m": {"k": "v", "n": null}, "t": true,
        "names": ["x", "y"], "when": "2026-01-02T03:04:05Z", "ip": "10.0.0.1", "q": "1.5Gi"})
});

fuzz_target!(|text: &str| {
    let variables = [("self", Type::Dyn), ("oldSelf", Type::Dyn)];
    let Ok(program) = Program::compile(text, &variables) else { return };
    let scene = Variables::new().json("self", Some(&OBJECT)).json("oldSelf", None);
    let mut budget = OBJECT_BUDGET;
    let first = program.eval(&scene, &mut budget).map(|value| format!("{value:?}"));
    // What it costs is bounded, and the same each time.
    let spent = OBJECT_BUDGET - budget;
    assert!(spent <= OBJECT_BUDGET && (first.is_err() || spent <= PER_CALL_LIMIT), "{text}: {spent}");
    let mut again = OBJECT_BUDGET;
    let second = program.eval(&scene, &mut again).map(|value| format!("{value:?}"));
    assert_eq!((first.is_ok(), budget), (second.is_ok(), again), "{text}");
});
