//! Objects as the generic handlers would hand them to strategies, and what strategies say of them.

use serde_json::Value;

use crate::api::{FieldError, GroupVersionKind, Schemas};
use crate::server::auth::testing::Fake;
use crate::server::auth::user::User;
use crate::server::registry::strategy::{Context, Strategy};

/// What is to be changed where, by keys and indexes with dots between, and what that leads to.
pub type Row = (&'static str, Value, &'static [&'static str]);

/// Runs something in a context.
pub fn with<T>(run: impl FnOnce(&Context<'_>) -> T) -> T {
    let (user, reader) = (User::loopback(), Fake::default());
    run(&Context { user: &user, namespace: Some("a"), reader: &reader, dry_run: false })
}

/// The object with its kind's defaults.
pub fn defaulted(mut object: Value) -> Value {
    let id = GroupVersionKind::from_api_version(
        object["apiVersion"].as_str().unwrap(),
        object["kind"].as_str().unwrap(),
    );
    Schemas::builtin().get(&id).expect("a built-in kind").default(&mut object);
    object
}

/// The object with one value changed; null takes it out.
pub fn changed(object: &Value, place: &str, value: &Value) -> Value {
    let mut object = object.clone();
    let mut at = &mut object;
    let steps: Vec<&str> = place.split('/').collect();
    let (last, steps) = steps.split_last().unwrap();
    for step in steps {
        at = match step.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[*step],
        };
    }
    match last.parse::<usize>() {
        Ok(index) => at[index] = value.clone(),
        Err(_) if value.is_null() => drop(at.as_object_mut().unwrap().remove(*last)),
        Err(_) => at[*last] = value.clone(),
    }
    object
}

/// Errors as texts.
pub fn texts(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// What is wrong with a new object.
pub fn created(strategy: &dyn Strategy, object: &Value) -> Vec<String> {
    let mut object = defaulted(object.clone());
    with(|cx| {
        strategy.prepare_create(cx, &mut object).unwrap();
        texts(&strategy.validate_create(cx, &object))
    })
}

/// What is wrong with a changed object.
pub fn updated(strategy: &dyn Strategy, new: &Value, old: &Value) -> Vec<String> {
    let (mut new, old) = (defaulted(new.clone()), defaulted(old.clone()));
    with(|cx| {
        strategy.prepare_update(cx, &mut new, &old).unwrap();
        texts(&strategy.validate_update(cx, &new, &old))
    })
}

/// What is wrong with an object changed through a subresource.
pub fn part_updated(strategy: &dyn Strategy, part: &str, new: &Value, old: &Value) -> Vec<String> {
    let (mut new, old) = (defaulted(new.clone()), defaulted(old.clone()));
    with(|cx| {
        strategy.prepare_subresource(cx, part, &mut new, &old).unwrap();
        texts(&strategy.validate_subresource(cx, part, &new, &old))
    })
}

/// Checks that each change of a good object leads to these errors.
pub fn check_table(strategy: &dyn Strategy, good: &Value, rows: Vec<Row>) {
    assert_eq!(created(strategy, good), [] as [&str; 0], "the good one");
    for (place, value, wanted) in rows {
        let object = changed(good, place, &value);
        assert_eq!(created(strategy, &object), wanted, "{place}: {value}");
    }
}
