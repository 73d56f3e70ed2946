//! What a node registers with: labels and taints of `--node-label` and `--node-taint`.

/// A taint as it is written on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeTaint {
    /// Its key.
    pub key: String,
    /// Its value; empty without one.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
/// Labels below Kubernetes' own domains that a node may give itself, as kubelet's `--node-labels`.
const OWN_LABELS: [&str; 11] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
const OWN_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// For administrators only: whoever schedules by labels below it trusts them.
const ADMINISTRATORS: &str = "node-restriction.kubernetes.io";

/// Whether a node may give itself a label of this key: kubelet refuses the others on its command line, and the
/// admission plugin NodeRestriction from whatever acts as a node
/// (<https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction>).
pub fn is_nodes_own(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else { return true };
    let of_kubernetes = is_below(domain, "kubernetes.io") || is_below(domain, "k8s.io");
    let of_kubelet = OWN_LABELS.contains(&key) || OWN_DOMAINS.iter().any(|d| is_below(domain, d));
    !is_below(domain, ADMINISTRATORS) && (of_kubelet || !of_kubernetes)
}

fn is_below(domain: &str, of: &str) -> bool {
    domain == of || domain.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'))
}

/// Key and value of `key=value`; what is wrong with it.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    let Some((key, value)) = text.split_once('=').filter(|(key, _)| !key.is_empty()) else {
        return Err(format!("expected key=value, not {text:?}"));
    };
    if !is_nodes_own(key) {
        return Err(format!(
            "{key:?} is in a domain of Kubernetes, in which a node may label itself only below {} or with {}; \
             set it with `kubectl label node`",
            OWN_DOMAINS.join(" and "),
            OWN_LABELS.join(", ")
        ));
    }
    check_key(key)?;
    check_value(value)?;
    Ok((key.to_owned(), value.to_owned()))
}

/// A name of at most 63 characters, after a DNS subdomain and `/` if it has one, as every label's key
/// (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>).
fn check_key(key: &str) -> Result<(), String> {
    let (domain, name) = key.rsplit_once('/').unwrap_or(("a", key));
    let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_domain = domain.len() <= 253
        && domain.split('.').all(|part| is_word(part.as_bytes(), lower, |b| lower(b) || b == b'-'));
    if is_domain && !name.is_empty() && is_name(name) {
        return Ok(());
    }
    Err(format!(
        "{key:?} is no key: expected up to 63 letters, digits, '-', '_' or '.', as in example.com/disk"
    ))
}

/// At most 63 characters, or nothing.
fn check_value(value: &str) -> Result<(), String> {
    if value.is_empty() || is_name(value) {
        return Ok(());
    }
    Err(format!("{value:?} is no value: expected up to 63 letters, digits, '-', '_' or '.', or nothing"))
}

fn is_name(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_alphanumeric();
    text.len() <= 63
        && is_word(text.as_bytes(), alphanumeric, |b| alphanumeric(b) || matches!(b, b'-' | b'_' | b'.'))
}

/// All bytes are `inner`, the first and the last `outer`.
fn is_word(bytes: &[u8], outer: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    let ends = [bytes.first(), bytes.last()];
    ends.iter().all(|end| end.is_some_and(|b| outer(*b))) && bytes.iter().all(|b| inner(*b))
}

/// The taint of `key[=value]:effect`; what is wrong with it.
pub(super) fn taint(text: &str) -> Result<NodeTaint, String> {
    let expected =
        || format!("expected key=value:effect with an effect of {}, not {text:?}", EFFECTS.join(", "));
    let (rest, effect) = text.rsplit_once(':').ok_or_else(expected)?;
    let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
    if key.is_empty() || !EFFECTS.contains(&effect) {
        return Err(expected());
    }
    check_key(key)?;
    check_value(value)?;
    Ok(NodeTaint { key: key.to_owned(), value: value.to_owned(), effect: effect.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_kubernetes_own_domains_are_refused_but_for_the_nodes() {
        for (text, good) in [
            ("a=b", true),
            ("a=", true),
            ("novalue", false),
            ("=b", false),
            ("example.com/a=b", true),
            ("node.kubernetes.io/a=b", true),
            ("x.node.kubernetes.io/a=b", true),
            ("topology.kubernetes.io/zone=z", true),
            ("node-role.kubernetes.io/worker=true", false),
            ("mykubernetes.io/a=b", true),
            ("k8s.io/a=b", false),
            ("a b=c", false),
            ("a=b c", false),
            ("a=-b", false),
            ("Example.com/a=b", false),
            ("a/b/c=d", false),
            ("example.com/=d", false),
        ] {
            assert_eq!(label(text).is_ok(), good, "{text}: {:?}", label(text));
        }
        assert!(label("k8s.io/a=b").expect_err("refused").contains("kubectl label node"));
    }

    #[test]
    fn taints_have_a_key_and_an_effect() {
        let taint_of =
            |k: &str, v: &str, e: &str| NodeTaint { key: k.into(), value: v.into(), effect: e.into() };
        assert_eq!(taint("a=b:NoSchedule"), Ok(taint_of("a", "b", "NoSchedule")));
        assert_eq!(taint("x.io/a:NoExecute"), Ok(taint_of("x.io/a", "", "NoExecute")));
        for bad in ["a=b", "a=b:Never", ":NoSchedule", "=b:NoSchedule"] {
            assert!(taint(bad).expect_err(bad).contains("key=value:effect"), "{bad}");
        }
        assert!(taint("a b=c:NoSchedule").expect_err("a space").contains("is no key"));
    }
}
