//! Nothing a user writes makes it panic or run away.

use proptest::prelude::*;
use serde_json::json;

use super::super::*;

fn run(text: &str) {
    if let Ok(program) = Program::compile(text, &[("self", Type::Dyn)]) {
        let object = json!({"a": [1, "x", {"b": null}], "s": "text"});
        let variables = Variables::new().json("self", Some(&object));
        let mut budget = OBJECT_BUDGET;
        let _ = program.eval(&variables, &mut budget);
    }
}

#[test]
fn deep_nesting_is_refused() {
    for (open, close) in
        [("(", ")"), ("[", "]"), ("{1:", "}"), ("f(", ")"), ("self[", "]"), ("[1].map(x, ", ")")]
    {
        let text = format!("{}1{}", open.repeat(5000), close.repeat(5000));
        assert!(Program::compile(&text, &[("self", Type::Dyn)]).is_err(), "{open}");
        run(&format!("{}1{}", open.repeat(150), close.repeat(150)));
    }
    for operator in ["+ 1 ", "== 1 ", ".a", "[0]", "? 1 : 1"] {
        run(&format!("1 {}", operator.repeat(3000)));
    }
    let many = vec!["self.s == 'text'"; 3000].join(" && ");
    assert!(Program::compile(&many, &[("self", Type::Dyn)]).is_ok());
    run(&many);
    run(&format!("{}true", "!".repeat(9999)));
    run(&"-".repeat(9999));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_text(text in "\\PC{0,60}") {
        run(&text);
    }

    #[test]
    fn any_tokens(tokens in prop::collection::vec(prop::sample::select(vec![
        "self", ".", "a", "s", "(", ")", "[", "]", "{", "}", ",", ":", "?", "1", "2u", "1.5", "'x'", "b'y'", "true",
        "null", "+", "-", "*", "/", "%", "==", "!=", "<", ">=", "&&", "||", "!", "in", "has(self.a)", ".map(x, x)",
        ".all(x, x == 1)", ".size()", "x", ".filter(x, true)", "optional.of(1)", ".?a", "type(1)", "duration('1s')",
        "quantity('1')", ".matches('a')", ".split('')", ".join(',')", "lists.range(5)", ".sort()", "'%s'.format([1])",
        ".transformList(i, v, v)", ".orValue(1)", "ip('::1')", ".substring(1)", ".exists(x, x)",
    ]), 0..14)) {
        run(&tokens.concat());
        run(&tokens.join(" "));
    }
}
