//! Label and field selectors and quantities: what is read is written so that it is read as the same.
#![no_main]

use kedge::api::{FieldSelector, LabelSelector, Quantity};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(selector) = LabelSelector::parse(text) {
        let written = selector.to_string();
        let again = LabelSelector::parse(&written).unwrap_or_else(|e| panic!("{written}: {e}"));
        assert_eq!(again, selector);
        selector.matches(|_| Some("a"));
    }
    if let Ok(selector) = FieldSelector::parse(text) {
        let written = selector.to_string();
        let again = FieldSelector::parse(&written).unwrap_or_else(|e| panic!("{written}: {e}"));
        let sorted = |selector: &FieldSelector| {
            let mut terms = selector.terms().to_vec();
            terms.sort_by(|a, b| (&a.field, a.equal, &a.value).cmp(&(&b.field, b.equal, &b.value)));
            terms
        };
        assert_eq!(sorted(&again), sorted(&selector));
        selector.matches(|_| Some("a"));
    }
    if let Ok(quantity) = text.parse::<Quantity>() {
        let written = quantity.to_string();
        let again: Quantity = written.parse().unwrap_or_else(|e| panic!("{written}: {e}"));
        assert_eq!(again.to_string(), written, "the canonical form is canonical");
    }
});
