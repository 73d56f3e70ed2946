use proptest::prelude::*;
use serde_json::json;

use super::*;

fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
    let selector = LabelSelector::parse(selector).unwrap_or_else(|e| panic!("{selector}: {e}"));
    let labels: Vec<(String, String)> = labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    selector.matches(|key| labels.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str()))
}

#[test]
fn selects_as_upstream() {
    let labels = [("x", "a"), ("y", "b"), ("n", "7")];
    let table = [
        ("", true),
        ("x=a", true),
        ("x==a,y=b", true),
        ("x=b", false),
        ("x!=b", true),
        ("z!=b", true),
        ("x!=a", false),
        ("z=", false),
        ("x in (a,b)", true),
        ("x in (b , c)", false),
        ("z in (a)", false),
        ("x notin (b,c)", true),
        ("z notin (a)", true),
        ("x", true),
        ("!x", false),
        ("!z", true),
        ("z", false),
        (" x = a , !z ", true),
        ("n>6,n<8", true),
        ("n>7", false),
        ("x>1", false),
        ("x in (in,notin,a)", true),
    ];
    for (selector, expected) in table {
        assert_eq!(matches(selector, &labels), expected, "{selector}");
    }
    assert!(matches("x=", &[("x", "")]));
    assert!(matches("x in (,a)", &[("x", "")]));
    assert!(matches("x in ()", &[("x", "")]));
}

#[test]
fn canonical_text_is_upstreams() {
    let table = [
        ("x=a,y=b,z=c", "x=a,y=b,z=c"),
        ("z=c,x=a", "x=a,z=c"),
        ("x!=a,y=b", "x!=a,y=b"),
        ("x notin (b,a)", "x notin (a,b)"),
        ("x in (c,b,a)", "x in (a,b,c)"),
        ("!x", "!x"),
        ("x>1", "x>1"),
        ("x in (,a)", "x in (,a)"),
        ("x in (a,,b)", "x in (,a,b)"),
    ];
    for (text, canonical) in table {
        assert_eq!(LabelSelector::parse(text).expect(text).to_string(), canonical);
    }
}

#[test]
fn errors_are_upstreams() {
    let table = [
        ("x=a||y=b", "found '||y=b'"),
        ("x==a==b", "found '==', expected: ',' or 'end of string'"),
        ("x in", "unable to parse requirement: found '' expected: '('"),
        ("x in (a", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("x a", "unable to parse requirement: found 'a', expected: in, notin, =, ==, !=, gt, lt"),
        (",x", "found ',', expected: !, identifier, or 'end of string'"),
        ("x,", "found '', expected: identifier after ','"),
        ("x in (a),", "found '', expected: identifier after ','"),
        ("!=x", "found '!=', expected: !, identifier, or 'end of string'"),
        ("-x=a", "unable to parse requirement: <nil>: Invalid value: \"-x\": name part must consist of"),
        ("x=a b", "found 'b', expected: ',' or 'end of string'"),
        (
            "x>a",
            "unable to parse requirement: values[0]: Invalid value: \"a\": for 'Gt', 'Lt' operators, the value must be an integer",
        ),
        ("x=-a", "unable to parse requirement: values[0][x]: Invalid value: \"-a\": a valid label must be"),
    ];
    for (text, error) in &table[1..] {
        let got = LabelSelector::parse(text).expect_err(text).to_string();
        assert!(got.starts_with(error), "{text}: {got}");
    }
    assert!(LabelSelector::parse(table[0].0).is_err());
}

#[test]
fn objects_become_selectors() {
    let selector = json!({"matchLabels": {"app": "web"}, "matchExpressions": [
        {"key": "tier", "operator": "In", "values": ["b", "a"]},
        {"key": "old", "operator": "DoesNotExist"}]});
    let selector = LabelSelector::from_value(&selector).expect("a selector");
    assert_eq!(selector.to_string(), "app=web,!old,tier in (a,b)");
    assert!(LabelSelector::from_value(&json!({})).expect("everything").is_everything());
    let nothing = LabelSelector::from_value(&Value::Null).expect("nothing");
    assert!(!nothing.matches(|_| Some("x")) && !nothing.is_everything());
    let bad = json!({"matchExpressions": [{"key": "a", "operator": "Near"}]});
    assert_eq!(
        LabelSelector::from_value(&bad).expect_err("no operator").to_string(),
        "\"Near\" is not a valid label selector operator"
    );
    let bad = json!({"matchExpressions": [{"key": "a", "operator": "In"}]});
    assert_eq!(
        LabelSelector::from_value(&bad).expect_err("no values").to_string(),
        "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
    );
    let plain = LabelSelector::from_labels([("b", "2"), ("a", "1")]);
    assert_eq!(plain.to_string(), "a=1,b=2");
}

proptest! {
    #[test]
    fn never_panics(text in "[a-z!=<>(), é]{0,24}") {
        let _ = LabelSelector::parse(&text);
    }

    #[test]
    fn text_form_is_read_back(text in "[a-c](=|==|!=)[a-c](,[a-c] (in|notin) \\([a-c],[a-c]\\))?(,![a-c])?") {
        let selector = LabelSelector::parse(&text).expect("well-formed");
        let again = LabelSelector::parse(&selector.to_string()).expect("its own text");
        prop_assert_eq!(selector, again);
    }
}
