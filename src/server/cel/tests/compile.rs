//! What is wrong with an expression, in upstream's words.

use super::super::*;

fn widget() -> Arc<Decl> {
    let string = || Decl { max_elements: 100, ..Decl::scalar(Shape::String, 2) };
    let list = Decl {
        shape: Shape::List { items: Arc::new(string()), kind: ListKind::Set },
        max_elements: 10,
        min_size: 2,
        nullable: false,
    };
    Arc::new(Decl::object(
        "selfType",
        [
            ("name", string()),
            ("count", Decl::scalar(Shape::Int, 1)),
            ("tags", list),
            ("mode", Decl::scalar(Shape::IntOrString, 1)),
            ("until", Decl { max_elements: 32, ..Decl::scalar(Shape::DateTime, 20) }),
            ("namespace", string()),
        ],
    ))
}

#[test]
fn mistakes_are_shown_where_they_are() {
    let expected = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";
    let table = [
        ("x == 1", "ERROR: <input>:1:1: undeclared reference to 'x' (in container '')\n | x == 1\n | ^".to_owned()),
        ("self.nope == 1", "ERROR: <input>:1:5: undefined field 'nope'\n | self.nope == 1\n | ....^".to_owned()),
        ("foo(self)", "ERROR: <input>:1:4: undeclared reference to 'foo' (in container '')\n | foo(self)\n | ...^".to_owned()),
        ("self.count == 'a'", "ERROR: <input>:1:12: found no matching overload for '_==_' applied to '(int, string)'\n | self.count == 'a'\n | ...........^".to_owned()),
        ("self.count.startsWith('a')", "ERROR: <input>:1:22: found no matching overload for 'startsWith' applied to 'int.(string)'\n | self.count.startsWith('a')\n | .....................^".to_owned()),
        ("self.name.x", "ERROR: <input>:1:10: type 'string' does not support field selection\n | self.name.x\n | .........^".to_owned()),
        ("self.count.all(x, true)", "ERROR: <input>:1:5: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)\n | self.count.all(x, true)\n | ....^".to_owned()),
        ("[1, 'a']", "ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a']\n | ....^".to_owned()),
        ("self.count ==", format!("ERROR: <input>:1:14: Syntax error: mismatched input '<EOF>' expecting {expected}\n | self.count ==\n | .............^")),
        ("self.count 1", "ERROR: <input>:1:12: Syntax error: extraneous input '1' expecting <EOF>\n | self.count 1\n | ...........^".to_owned()),
        ("namespace == 'a'", "ERROR: <input>:1:1: reserved identifier: namespace\n | namespace == 'a'\n | ^".to_owned()),
        ("has(self)", "ERROR: <input>:1:4: invalid argument to has() macro\n | has(self)\n | ...^".to_owned()),
        ("self.name.matches('(')", "ERROR: <input>:1:19: invalid matches argument\n | self.name.matches('(')\n | ..................^".to_owned()),
        ("duration('x') < duration('1h')", "ERROR: <input>:1:10: invalid duration argument\n | duration('x') < duration('1h')\n | .........^".to_owned()),
        ("self.tags.exists(t, t)", "ERROR: <input>:1:17: expected type 'bool' but found 'string'".to_owned()),
    ];
    let decl = widget();
    for (text, wanted) in table {
        let error = Program::compile(text, &[("self", decl.type_of())]).expect_err(text).0;
        if text.starts_with("self.tags") {
            assert!(
                error.contains("found no matching overload for '_||_' applied to '(bool, string)'"),
                "{error}"
            );
        } else {
            assert_eq!(error, wanted, "{text}");
        }
    }
}

#[test]
fn types_are_found() {
    let decl = widget();
    let table = [
        ("self.count + 1", "int"),
        ("self.tags", "list(string)"),
        ("self.tags.map(t, t.size())", "list(int)"),
        ("self.mode", "dyn"),
        ("self.mode == 1 || self.mode == 'a'", "bool"),
        ("self.until < timestamp('2020-01-01T00:00:00Z')", "bool"),
        ("self.__namespace__", "string"),
        ("self.?name", "optional_type(string)"),
        ("self.?name.orValue('x')", "string"),
        ("{'a': [1]}", "map(string, list(int))"),
        ("[]", "list(dyn)"),
        ("true ? [1] : []", "list(int)"),
        ("self", "selfType"),
        ("type(self.count)", "type(int)"),
        ("self.tags.filter(t, t != '').size() == 1", "bool"),
        ("[1, 2].sum()", "int"),
        ("self.count < 1.5", "bool"),
    ];
    for (text, wanted) in table {
        let program =
            Program::compile(text, &[("self", decl.type_of())]).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(program.result_type().to_string(), wanted, "{text}");
    }
    let both = [("self", decl.type_of()), ("oldSelf", decl.type_of())];
    let program = Program::compile("self.count >= oldSelf.count", &both).expect("compiles");
    assert!(program.uses("oldSelf") && program.uses("self"));
    let program = Program::compile("[1].all(oldSelf, oldSelf > 0)", &both[..1]).expect("compiles");
    assert!(program.uses("oldSelf"));
}

#[test]
fn declared_json_has_its_types() {
    let decl = widget();
    let object = serde_json::json!({
        "name": "a", "count": 2, "tags": ["x", "y"], "mode": "on", "until": "2020-01-02T03:04:05Z",
        "namespace": "ns", "unseen": true,
    });
    let table = [
        "self.until.getFullYear() == 2020",
        "self.tags == ['y', 'x']",
        "self.tags + ['x', 'z'] == ['x', 'y', 'z']",
        "self.mode == 'on'",
        "self.__namespace__ == 'ns'",
        "has(self.name)",
    ];
    for text in table {
        let program =
            Program::compile(text, &[("self", decl.type_of())]).unwrap_or_else(|e| panic!("{text}: {e}"));
        let value = Value::declared(&object, &decl).expect("an object");
        let variables = Variables::new().value("self", value);
        let mut budget = OBJECT_BUDGET;
        assert_eq!(program.eval(&variables, &mut budget).map(|v| v.as_bool()), Ok(Some(true)), "{text}");
    }
}
