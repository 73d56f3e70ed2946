//! Operators, macros, conversions.

use serde_json::json;

use super::{failures, table};

#[test]
fn operators() {
    table(
        &[
            ("1 + 2 * 3", "7"),
            ("(1 + 2) * 3", "9"),
            ("10 - 4 - 3", "3"),
            ("7 / 2", "3"),
            ("-7 % 3", "-1"),
            ("1.5 + 2.0", "3.5"),
            ("'a' + 'b'", "'ab'"),
            ("[1] + [2, 3]", "[1, 2, 3]"),
            ("b'a' + b'b'", "b'ab'"),
            ("-5", "-5"),
            ("--5", "5"),
            ("!true", "false"),
            ("!!true", "true"),
            ("1 < 2 && 2 <= 2 && 3 > 2 && 3 >= 3", "true"),
            ("1 < 1.5 && 2u > 1", "true"),
            ("'a' < 'b'", "true"),
            ("1 == 1 && 'a' != 'b'", "true"),
            ("dyn(1) == dyn(1.0) && dyn(1u) == dyn(1)", "true"),
            ("dyn(1) == dyn('1')", "false"),
            ("[1, 2] == [1, 2]", "true"),
            ("{'a': 1} == {'a': 1}", "true"),
            ("2 in [1, 2]", "true"),
            ("'a' in {'a': 1}", "true"),
            ("true ? 1 : 2", "1"),
            ("false ? 1 : true ? 2 : 3", "2"),
            ("[1, 2, 3][1]", "2"),
            ("{'a': 1}['a']", "1"),
            ("{'a': 1}.a", "1"),
            ("{1: 'x'}[1]", "'x'"),
            ("0x1F", "31"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("1e3", "1000.0"),
            ("true || 1 / 0 > 0", "true"),
            ("1 / 0 > 0 || true", "true"),
            ("1 / 0 > 0 && false", "false"),
            ("type(1) == int && type('') == string && type([]) == list", "true"),
            ("r'\\d' + \"\\u00e4\"", "'\\dä'"),
            ("'''a\nb'''.size()", "3"),
            ("1 < 2 // comment", "true"),
        ],
        &json!(null),
    );
    failures(
        &[
            ("1 / 0", "division by zero"),
            ("1 % 0", "modulus by zero"),
            ("9223372036854775807 + 1", "integer overflow"),
            ("0u - 1u", "unsigned integer overflow"),
            ("[1][1]", "index out of bounds: 1"),
            ("[1][-1]", "index out of bounds: -1"),
            ("{'a': 1}['b']", "no such key: b"),
            ("{'a': 1}.b", "no such key: b"),
            ("dyn(1) + dyn('a')", "no such overload"),
            ("dyn('a') < 1", "no such overload"),
            ("{'a': 1, 'a': 2}", "insert failed: key already exists"),
            ("1 / 0 > 0 && true", "division by zero"),
            ("int('x')", "strconv.ParseInt: parsing \"x\": invalid syntax"),
        ],
        &json!(null),
    );
}

#[test]
fn objects_are_seen_as_they_are() {
    let object = json!({"spec": {"replicas": 3, "ratio": 0.5, "names": ["a", "b"], "labels": {"a-b": "c"}, "none": null}});
    table(
        &[
            ("self.spec.replicas > 2", "true"),
            ("self.spec.ratio", "0.5"),
            ("self.spec.names[1]", "'b'"),
            ("self.spec.labels['a-b']", "'c'"),
            ("has(self.spec.replicas)", "true"),
            ("has(self.spec.other)", "false"),
            ("self.spec.none == null", "true"),
            ("size(self.spec.names) == self.spec.names.size()", "true"),
            ("'a-b' in self.spec.labels", "true"),
            ("self.spec.?other", "none"),
            ("self.spec.?replicas.orValue(1)", "3"),
            ("self.spec.?other.?deeper.orValue('x')", "'x'"),
            ("self.spec.names[?5].orValue('x')", "'x'"),
            ("self.?spec.names[?0]", "some('a')"),
            ("{?'a': self.?nothing, 'b': 1}", "{'b': 1}"),
            ("[?self.?nothing, 1]", "[1]"),
        ],
        &object,
    );
    failures(
        &[("self.spec.other == 1", "no such key: other"), ("self.spec.replicas.x", "no such overload")],
        &object,
    );
}

#[test]
fn macros() {
    table(
        &[
            ("[1, 2, 3].all(x, x > 0)", "true"),
            ("[1, 2, 3].all(x, x > 1)", "false"),
            ("[1, 2, 3].exists(x, x > 2)", "true"),
            ("[1, 2, 3].exists_one(x, x > 2)", "true"),
            ("[1, 2, 3].exists_one(x, x > 1)", "false"),
            ("[1, 2, 3].map(x, x * 2)", "[2, 4, 6]"),
            ("[1, 2, 3].map(x, x > 1, x * 2)", "[4, 6]"),
            ("[1, 2, 3].filter(x, x > 1)", "[2, 3]"),
            ("{'a': 1, 'b': 2}.all(k, k < 'c')", "true"),
            ("{'a': 1, 'b': 2}.map(k, k)", "['a', 'b']"),
            ("[[1], [2, 3]].map(l, l.map(x, x + 1))", "[[2], [3, 4]]"),
            ("[].all(x, x > 0)", "true"),
            ("[0, 1].exists(x, 1 / x == 1)", "true"),
            ("[1, 0].all(x, 1 / x == 2)", "false"),
            ("{'a': 1, 'b': 2}.all(k, v, k < 'c' && v > 0)", "true"),
            ("{'a': 1, 'b': 2}.exists(k, v, v == 2)", "true"),
            ("{'a': 1}.existsOne(k, v, v == 1)", "true"),
            ("[5, 6].all(i, v, v == i + 5)", "true"),
            ("[1, 2].transformList(i, v, i + v)", "[1, 3]"),
            ("[1, 2].transformList(i, v, i > 0, v)", "[2]"),
            ("{'a': 1}.transformMap(k, v, v + 1)", "{'a': 2}"),
            ("{'a': 1, 'b': 2}.transformMap(k, v, v > 1, v)", "{'b': 2}"),
            ("{'a': 1}.transformMapEntry(k, v, {v: k})", "{1: 'a'}"),
            ("optional.of(1).optMap(x, x + 1)", "some(2)"),
            ("optional.none().optMap(x, x)", "none"),
            ("optional.of(1).optFlatMap(x, optional.of(x + 1)).value()", "2"),
            ("optional.of(0).hasValue() && !optional.ofNonZeroValue(0).hasValue()", "true"),
            ("optional.none().or(optional.of(2)).value()", "2"),
            ("[3, 1, 2].sortBy(x, -x)", "[3, 2, 1]"),
        ],
        &json!(null),
    );
    failures(
        &[
            ("[0].map(x, 1 / x)", "division by zero"),
            ("optional.none().value()", "optional.none() dereference"),
        ],
        &json!(null),
    );
}

#[test]
fn conversions() {
    table(
        &[
            ("int('5') + int(2.9) + int(3u)", "10"),
            ("double('1.5') + double(1)", "2.5"),
            ("uint(5)", "5u"),
            ("string(5) + string(1.5) + string(true) + string(2u)", "'51.5true2'"),
            ("string(b'a')", "'a'"),
            ("bytes('ä').size()", "2"),
            ("bool('true')", "true"),
            ("duration('1h30m')", "duration('5400s')"),
            ("string(duration('90s'))", "'90s'"),
            ("duration('1h') + duration('1m') > duration('60m')", "true"),
            ("duration('3661s').getHours() + duration('3661s').getMinutes()", "62"),
            ("timestamp('2020-01-02T03:04:05Z').getFullYear()", "2020"),
            ("timestamp('2020-01-02T03:04:05Z').getMonth()", "0"),
            ("timestamp('2020-01-02T03:04:05Z').getDayOfMonth()", "1"),
            ("timestamp('2020-01-02T03:04:05Z').getHours('+02:00')", "5"),
            ("timestamp('2020-01-02T03:04:05Z') - timestamp('2020-01-02T03:04:00Z')", "duration('5s')"),
            ("timestamp('2020-01-02T03:04:05Z') + duration('1h')", "timestamp('2020-01-02T04:04:05Z')"),
            ("string(timestamp('2020-01-02T03:04:05.5Z'))", "'2020-01-02T03:04:05.5Z'"),
            ("int(timestamp('1970-01-01T00:00:05Z'))", "5"),
            ("size('äöü')", "3"),
        ],
        &json!(null),
    );
}
