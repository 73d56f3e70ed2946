//! Costs: what cel-go counts.

use serde_json::json;

use super::super::*;

fn counted(text: &str, object: &serde_json::Value) -> u64 {
    let program = Program::compile(text, &[("self", Type::Dyn)]).unwrap_or_else(|e| panic!("{text}: {e}"));
    let mut budget = OBJECT_BUDGET;
    let variables = Variables::new().json("self", Some(object));
    program.eval(&variables, &mut budget).unwrap_or_else(|e| panic!("{text}: {e}"));
    OBJECT_BUDGET - budget
}

#[test]
fn costs_are_counted_as_upstream_counts_them() {
    let object = json!({"a": 1, "s": "0123456789", "l": [1, 2, 3]});
    let table = [
        ("true", 0),
        ("self.a", 2),
        ("self.a == 1", 3),
        ("self.a + 1 > 1", 4),
        ("self.s == '0123456789'", 3),
        ("self.s.startsWith('0')", 3),
        ("self.s.contains('345')", 3),
        ("self.s.matches('^0')", 4),
        ("self.l[0]", 3),
        ("1 in self.l", 5),
        ("size(self.l)", 3),
        ("{'a': self.a}", 32),
        // Constants are made once, when the program is.
        ("{'a': 1}", 0),
        ("{'a': 1} == {'a': 1}", 1),
        ("double(5) < 10.0", 1),
    ];
    for (text, cost) in table {
        assert_eq!(counted(text, &object), cost, "{text}");
    }
}

#[test]
fn what_costs_too_much_is_stopped() {
    let object = json!({"l": vec![1; 1100]});
    let text = "self.l.all(x, self.l.all(y, x == y))";
    let program = Program::compile(text, &[("self", Type::Dyn)]).expect("compiles");
    let variables = Variables::new().json("self", Some(&object));
    let mut budget = OBJECT_BUDGET;
    assert_eq!(program.eval(&variables, &mut budget), Err(EvalError::CostExceeded));
    let mut budget = 10;
    let program = Program::compile("self.l.all(x, x == 1)", &[("self", Type::Dyn)]).expect("compiles");
    assert_eq!(program.eval(&variables, &mut budget), Err(EvalError::BudgetExceeded));
    assert_eq!(budget, 0);
}

fn estimated(text: &str, field: Decl) -> u64 {
    let root = Arc::new(Decl::object("selfType", [("f", field)]));
    let result = Program::compile_estimated(text, &[("self", root.type_of())], &root);
    result.unwrap_or_else(|e| panic!("{text}: {e}")).1
}

fn string(max: u64) -> Decl {
    Decl { max_elements: max, ..Decl::scalar(Shape::String, 2) }
}

fn list(item: Decl, max: u64) -> Decl {
    let shape = Shape::List { items: Arc::new(item), kind: ListKind::Atomic };
    Decl { shape, max_elements: max, min_size: 2, nullable: false }
}

#[test]
fn costs_are_estimated_from_the_schema() {
    assert_eq!(estimated("self.f == 'abc'", string(1000)), 3);
    assert_eq!(estimated("self.f.startsWith('abc')", string(1000)), 3);
    assert_eq!(estimated("self.f.matches('^a+$')", string(1000)), 2 + 101);
    assert_eq!(estimated("self.f.contains(self.f)", string(1000)), 4 + 100 * 100);
    assert_eq!(estimated("self.f.all(x, x == 'a')", list(string(10), 5)), 2 + 5 * 5 + 1);
    assert_eq!(
        estimated("self.f.all(x, self.f.all(y, x == y))", list(string(10), 5)),
        2 + 5 * (2 + 2 + 1 + 5 * 6 + 1) + 1
    );
    let unbounded = list(string(MOST_REQUEST_BYTES), MOST_REQUEST_BYTES / 3);
    assert!(estimated("self.f.all(x, self.f.exists(y, x == y))", unbounded) > 10_000_000_000);
    assert!(estimated("self.f.map(x, x.size()).sum() > 1", list(string(10), 5)) > 0);
}
