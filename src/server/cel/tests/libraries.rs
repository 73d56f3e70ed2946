//! Each function of Kubernetes' libraries.

use std::sync::Arc;

use serde_json::json;

use super::super::authorizer::{Attributes, Authorizer, Decision};
use super::super::*;
use super::{failures, table};

#[test]
fn strings() {
    table(
        &[
            ("'hello'.charAt(1)", "'e'"),
            ("'hello'.charAt(5)", "''"),
            ("'hello'.indexOf('l')", "2"),
            ("'hello'.indexOf('l', 3)", "3"),
            ("'hello'.indexOf('x')", "-1"),
            ("'hello'.lastIndexOf('l')", "3"),
            ("'hello'.lastIndexOf('l', 2)", "2"),
            ("['a', 'b'].join(',')", "'a,b'"),
            ("['a', 'b'].join()", "'ab'"),
            ("'AbC'.lowerAscii() + 'AbC'.upperAscii()", "'abcABC'"),
            ("'a-b-c'.replace('-', '+')", "'a+b+c'"),
            ("'a-b-c'.replace('-', '+', 1)", "'a+b-c'"),
            ("'a,b,c'.split(',')", "['a', 'b', 'c']"),
            ("'a,b,c'.split(',', 2)", "['a', 'b,c']"),
            ("'abc'.split('')", "['a', 'b', 'c']"),
            ("'abc'.split(',', 0)", "[]"),
            ("'hello'.substring(2)", "'llo'"),
            ("'hello'.substring(1, 3)", "'el'"),
            ("' a '.trim()", "'a'"),
            ("'hello'.startsWith('he') && 'hello'.endsWith('lo') && 'hello'.contains('ll')", "true"),
            ("strings.quote('a\"b')", "'\"a\\\"b\"'"),
            ("'%s is %d of %.2f'.format(['a', 1, 2.5])", "'a is 1 of 2.50'"),
            ("'%x %X %o %b %e %%'.format([255, 255, 8, 5, 1234.5])", "'ff FF 10 101 1.234500×10⁰³ %'"),
            ("'%s'.format([[1, 'a', {'k': true}]])", "'[1, a, {k: true}]'"),
        ],
        &json!(null),
    );
    failures(
        &[
            ("'a'.charAt(5)", "index out of range: 5"),
            ("'abc'.substring(2, 1)", "invalid substring range. start: 2, end: 1"),
            ("'abc'.substring(9)", "invalid substring range. start: 9, end: 3"),
            (
                "'%d'.format(['a'])",
                "error during formatting: decimal clause can only be used on integers, was given string",
            ),
        ],
        &json!(null),
    );
}

#[test]
fn lists_sets_and_regexes() {
    table(
        &[
            ("[1, 2].isSorted() && !['b', 'a'].isSorted()", "true"),
            ("[1, 2].sum()", "3"),
            ("[1.5, 2.0].sum()", "3.5"),
            ("[3, 1, 2].min() + [3, 1, 2].max()", "4"),
            ("['a', 'b', 'a'].indexOf('a') + ['a', 'b', 'a'].lastIndexOf('a')", "2"),
            ("[1, 2, 3].slice(1, 3)", "[2, 3]"),
            ("[[1], [2, 3]].flatten()", "[1, 2, 3]"),
            ("lists.range(3)", "[0, 1, 2]"),
            ("[1, 2, 1].distinct()", "[1, 2]"),
            ("[1, 2].reverse()", "[2, 1]"),
            ("['b', 'a'].sort()", "['a', 'b']"),
            ("[1, 2].first().value() + [1, 2].last().value()", "3"),
            ("sets.contains([1, 2], [1]) && !sets.contains([1], [2])", "true"),
            ("sets.equivalent([1, 2], [2, 1, 1])", "true"),
            ("sets.intersects([1, 2], [2, 3])", "true"),
            ("'abc 123'.matches('[0-9]+')", "true"),
            ("matches('abc', '^b')", "false"),
            ("'abc 123'.find('[0-9]+')", "'123'"),
            ("'1 2 3'.findAll('[0-9]')", "['1', '2', '3']"),
            ("'1 2 3'.findAll('[0-9]', 2)", "['1', '2']"),
        ],
        &json!(null),
    );
    failures(
        &[
            ("[].min() == 1", "min called on empty list"),
            ("[1].slice(0, 2)", "cannot slice(0, 2), list is length 1"),
            ("'a'.matches('(' + '')", "error parsing regexp: missing closing ): `(`"),
        ],
        &json!(null),
    );
}

#[test]
fn types_of_kubernetes() {
    table(
        &[
            ("url('https://example.com:80/p?k=v&k=w').getHostname()", "'example.com'"),
            (
                "url('https://example.com:80/p').getPort() + url('https://example.com/p').getScheme()",
                "'80https'",
            ),
            ("url('https://example.com/a?k=v&k=w').getQuery()['k']", "['v', 'w']"),
            ("isURL('https://example.com') && !isURL('x')", "true"),
            ("quantity('1Gi').isGreaterThan(quantity('1G'))", "true"),
            ("quantity('50k').add(quantity('20k')).compareTo(quantity('70k'))", "0"),
            ("quantity('50k').sub(20000).isLessThan(quantity('31k'))", "true"),
            ("quantity('50k').asInteger() + quantity('-5').sign()", "49999"),
            ("quantity('1.5').isInteger()", "false"),
            ("quantity('1500m').asApproximateFloat()", "1.5"),
            ("isQuantity('1Gi') && !isQuantity('1Xi')", "true"),
            ("quantity('1') == quantity('1000m')", "true"),
            ("ip('192.168.0.1').family() + ip('::1').family()", "10"),
            ("isIP('1.2.3.4') && !isIP('1.2.3') && !isIP('::ffff:1.2.3.4')", "true"),
            ("ip('127.0.0.1').isLoopback() && ip('0.0.0.0').isUnspecified()", "true"),
            ("ip('169.254.1.1').isLinkLocalUnicast() && ip('224.0.0.1').isLinkLocalMulticast()", "true"),
            ("ip('8.8.8.8').isGlobalUnicast()", "true"),
            ("ip.isCanonical('::1') && !ip.isCanonical('0:0::1')", "true"),
            ("string(ip('::1'))", "'::1'"),
            (
                "cidr('10.0.0.0/8').containsIP('10.1.2.3') && !cidr('10.0.0.0/8').containsIP(ip('11.0.0.1'))",
                "true",
            ),
            ("cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')", "true"),
            ("cidr('10.0.0.0/8').containsCIDR(cidr('10.0.0.0/7'))", "false"),
            ("string(cidr('10.1.2.3/8').masked()) + string(cidr('10.1.2.3/8').ip())", "'10.0.0.0/810.1.2.3'"),
            ("cidr('10.0.0.0/8').prefixLength()", "8"),
            ("isCIDR('10.0.0.0/8') && !isCIDR('10.0.0.0/33')", "true"),
            (
                "semver('1.2.3').isGreaterThan(semver('1.2.0')) && semver('1.2.3-rc.1').isLessThan(semver('1.2.3'))",
                "true",
            ),
            ("semver('1.2.3').major() + semver('1.2.3').minor() + semver('1.2.3').patch()", "6"),
            ("semver('v1.2', true).compareTo(semver('1.2.0'))", "0"),
            ("isSemver('1.2.3') && !isSemver('v1.2.3') && isSemver('v1.2.3', true)", "true"),
            ("!format.dns1123Label().validate('a-b').hasValue()", "true"),
            ("format.dns1123Label().validate('A').hasValue()", "true"),
            ("format.named('dns1123Subdomain').value().validate('a.b')", "none"),
            ("format.named('nothing')", "none"),
            ("type(quantity('1')) == kubernetes.Quantity && type(ip('::1')) == net.IP", "true"),
        ],
        &json!(null),
    );
    failures(
        &[
            (
                "quantity('x')",
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ),
            (
                "ip('x')",
                "IP Address \"x\" parse error during conversion from string: ParseAddr(\"x\"): unable to parse IP",
            ),
            ("semver('x')", "No Major.Minor.Patch elements found"),
        ],
        &json!(null),
    );
}

#[derive(Debug)]
struct OnlyPods;

impl Authorizer for OnlyPods {
    fn authorize(&self, attributes: &Attributes) -> Decision {
        let wanted = Attributes {
            verb: "get".into(),
            group: "apps".into(),
            resource: "pods".into(),
            subresource: "log".into(),
            namespace: "ns".into(),
            name: "p".into(),
            ..Attributes::default()
        };
        let healthy = attributes.path.as_deref() == Some("/healthz");
        let account = attributes.service_account == Some(("ns".into(), "sa".into()));
        Decision {
            allowed: *attributes == wanted || healthy || account,
            reason: "because".into(),
            error: None,
        }
    }
}

#[test]
fn authorization() {
    let table = [
        (
            "authorizer.group('apps').resource('pods').subresource('log').namespace('ns').name('p').check('get').allowed()",
            true,
        ),
        ("authorizer.group('apps').resource('pods').check('get').allowed()", false),
        ("authorizer.path('/healthz').check('get').allowed()", true),
        ("authorizer.serviceAccount('ns', 'sa').group('').resource('x').check('get').allowed()", true),
        ("authorizer.path('/x').check('get').reason() == 'because'", true),
        ("authorizer.path('/x').check('get').errored()", false),
    ];
    for (text, wanted) in table {
        let program =
            Program::compile(text, &[("authorizer", Type::AUTHORIZER)]).unwrap_or_else(|e| panic!("{e}"));
        let variables = Variables::new().value("authorizer", Value::authorizer(Arc::new(OnlyPods)));
        let mut budget = MATCH_CONDITIONS_BUDGET;
        assert_eq!(program.eval(&variables, &mut budget).map(|v| v.as_bool()), Ok(Some(wanted)), "{text}");
        assert!(MATCH_CONDITIONS_BUDGET - budget > 350_000, "{text}");
    }
}
