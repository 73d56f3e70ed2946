//! `$(NAME)` references in commands, arguments, environment values and sub-paths.

/// Replaces each `$(NAME)` by what `lookup` has for it; unknown ones stay as they are, `$$` is `$`.
pub(crate) fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|a| a.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// Names referenced by `$(NAME)` in `text` for which `lookup` has nothing.
pub(crate) fn missing(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let names = std::cell::RefCell::new(Vec::new());
    expand(text, &|name| {
        let value = lookup(name);
        if value.is_none() {
            names.borrow_mut().push(name.to_owned());
        }
        value
    });
    names.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_cases() {
        let lookup = |name: &str| match name {
            "A" => Some("1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (text, expected) in [
            ("$(A)", "1"),
            ("x$(A)y$(A)z", "x1y1z"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$(B)", "$(B)"),
            ("$(EMPTY)", ""),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
            ("$()", "$()"),
            ("ü$(A)", "ü1"),
        ] {
            assert_eq!(expand(text, &lookup), expected, "{text}");
        }
        assert_eq!(missing("$(A)/$(B)", &lookup), ["B"]);
    }
}
