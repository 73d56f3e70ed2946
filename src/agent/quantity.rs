//! Quantities of resource lists as numbers.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::api;

/// The value in thousandths, rounded up; `None` if it is no quantity.
pub(crate) fn milli(text: &str) -> Option<i128> {
    Some(text.parse::<api::Quantity>().ok()?.to_millis().into())
}

/// The value in whole units, rounded up.
pub(crate) fn units(text: &str) -> Option<i64> {
    Some(text.parse::<api::Quantity>().ok()?.to_units())
}

/// Thousandths of `name` in a resource list; 0 when absent.
pub(crate) fn milli_of(list: Option<&BTreeMap<String, Quantity>>, name: &str) -> i64 {
    parsed(list, name).map_or(0, api::Quantity::to_millis)
}

/// Whole units of `name` in a resource list; 0 when absent.
pub(crate) fn units_of(list: Option<&BTreeMap<String, Quantity>>, name: &str) -> i64 {
    parsed(list, name).map_or(0, api::Quantity::to_units)
}

fn parsed(list: Option<&BTreeMap<String, Quantity>>, name: &str) -> Option<api::Quantity> {
    list?.get(name)?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_rounded_up() {
        for (text, expected) in
            [("100m", Some(100)), ("0.5", Some(500)), ("100n", Some(1)), ("-1", Some(-1_000)), ("x", None)]
        {
            assert_eq!(milli(text), expected, "{text}");
        }
        assert_eq!(units("1500m"), Some(2));
        assert_eq!(units("64Mi"), Some(67_108_864));
        let list = BTreeMap::from([("cpu".to_owned(), Quantity("250m".into()))]);
        assert_eq!((milli_of(Some(&list), "cpu"), units_of(Some(&list), "cpu")), (250, 1));
        assert_eq!((milli_of(Some(&list), "memory"), milli_of(None, "cpu")), (0, 0));
    }
}
