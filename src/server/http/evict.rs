//! `pods/eviction`: a delete that disruption budgets may refuse for now.
//!
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/>; follows
//! `pkg/registry/core/pod/storage/eviction.go`. Who keeps `status.disruptionsAllowed` of budgets up to
//! date is a controller; here it is counted down.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::api::{Answer, Api, Cx};
use super::write::schema_of_kind;
use super::{decode, render};
use crate::api::meta::now;
use crate::api::{GroupResource, GroupVersionKind, LabelSelector, Meta, Object, Status};
use crate::server::admission::Shown;
use crate::server::auth::User;
use crate::server::objects::{Call, Change, DeleteOptions, WriteOptions};
use crate::server::reader::Reader;

const BUDGETS: &str = "poddisruptionbudgets.policy";
/// Evictions that the controller has not seen yet; with more of them something is wrong with it.
const DISRUPTED_MAX: usize = 2000;
/// How long a client is to wait for the controller, in seconds.
const WAIT: u32 = 10;
const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
const CAUSE: &str = "DisruptionBudget";

/// What a budget has to say about the eviction of a pod.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing.
    Free,
    /// Nothing, while the pod stays as it is: it is not ready, so nothing is disrupted.
    FreeAsItIs,
    /// It is counted.
    Counted,
}

/// Evicts a pod.
pub(super) async fn evict(api: &Api, cx: Cx) -> Answer {
    let mut write = cx.params.write_options("CreateOptions", &cx.parts.headers)?;
    let body = cx.read_body().await?;
    let schema = schema_of_kind("policy", "v1", "Eviction")?;
    let (mut eviction, mut warnings) =
        decode::checked(&schema, cx.content_type(), &body, write.field_validation)?;
    let name = cx.name()?;
    let given = Meta::of(&eviction).name();
    if !given.is_empty() && given != name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object").into());
    }
    let options_of = |eviction: &Value| {
        let options = eviction.get("deleteOptions").filter(|o| o.is_object());
        cx.params.delete_options(options)
    };
    write.dry_run |= options_of(&eviction)?.1;
    let kind = GroupVersionKind::new("policy", "v1", "Eviction");
    let asked = Call { shown: Shown::Whole(&kind), ..cx.call(&write) };
    warnings.extend(api.objects.ask(&asked, name, Some("eviction"), &mut eviction).await?);
    let mut options = options_of(&eviction)?.0;
    let pod = api.objects.get(&cx.stored, cx.namespace(), name)?;
    ask_budget(api, &cx, &pod, &mut options, write.dry_run).await?;
    let call = Call { shown: Shown::Nobody, ..cx.call(&write) };
    api.objects.delete(&call, name, &options).await?;
    let status =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    let mut response = render::value(&cx, StatusCode::CREATED, &status)?;
    render::add_warnings(&mut response, &warnings);
    Ok(response)
}

/// Counts the eviction in the pod's budget, if it has one.
async fn ask_budget(
    api: &Api,
    cx: &Cx,
    pod: &Object,
    options: &mut DeleteOptions,
    dry_run: bool,
) -> Result<(), Status> {
    let value = pod.value();
    if ends_anyway(&value) {
        return Ok(());
    }
    let Some(budget) = budget_of(&*api.objects.cache, cx.namespace(), &value)? else { return Ok(()) };
    match verdict(&value, &budget.value()) {
        Verdict::Free => return Ok(()),
        Verdict::FreeAsItIs => {
            options.resource_version.get_or_insert_with(|| pod.revision().to_string());
            return Ok(());
        }
        Verdict::Counted => {}
    }
    let resource = api.objects.registry.stored(BUDGETS).ok_or_else(Status::no_such_path)?;
    let (user, write) = (User::loopback(), WriteOptions { dry_run, ..WriteOptions::default() });
    let call = Call { shown: Shown::Itself, ..Call::own(&resource, cx.namespace(), &user, &write) };
    let change = Change { name: budget.name(), subresource: Some("status"), ..Change::default() };
    let mut count = |budget: Option<&Value>| counted(budget.unwrap_or(&Value::Null), pod.name());
    api.objects.update(&call, change, &mut count).await.map(drop)
}

/// A pod that is not there for anybody: nobody misses it.
fn ends_anyway(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed" | "Pending"))
        || Meta::of(pod).deletion_timestamp().is_some()
}

/// The budget whose selector chooses the pod.
///
/// # Errors
/// 500 if there are several.
fn budget_of(
    reader: &dyn Reader,
    namespace: Option<&str>,
    pod: &Value,
) -> Result<Option<Arc<Object>>, Status> {
    let mut found = reader.list(BUDGETS, namespace).into_iter().filter(|b| selects(&b.value(), pod));
    let first = found.next();
    if found.next().is_some() {
        return Err(Status::internal(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        ));
    }
    Ok(first)
}

fn selects(budget: &Value, pod: &Value) -> bool {
    let selector = &budget["spec"]["selector"];
    let labels = &pod["metadata"]["labels"];
    selector.is_object()
        && LabelSelector::from_value(selector).is_ok_and(|s| s.matches(|key| labels[key].as_str()))
}

fn verdict(pod: &Value, budget: &Value) -> Verdict {
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    if conditions.any(|c| c["type"] == "Ready" && c["status"] == "True") {
        return Verdict::Counted;
    }
    let (healthy, desired) = (number(budget, "currentHealthy"), number(budget, "desiredHealthy"));
    match budget["spec"]["unhealthyPodEvictionPolicy"].as_str() {
        Some("AlwaysAllow") => Verdict::FreeAsItIs,
        _ if healthy >= desired && desired > 0 => Verdict::Free,
        _ => Verdict::Counted,
    }
}

fn number(budget: &Value, field: &str) -> i64 {
    budget["status"][field].as_i64().unwrap_or(0)
}

/// The budget with one disruption less to give.
fn counted(budget: &Value, pod: &str) -> Result<Value, Status> {
    let name = Meta::of(budget).name();
    if number(budget, "observedGeneration") < Meta::of(budget).generation() {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(Status::too_many_requests(REFUSED, WAIT).cause(CAUSE, why, ""));
    }
    let forbidden =
        |why| Err(Status::forbidden(&GroupResource::new("policy", "poddisruptionbudget"), name, why));
    let allowed = number(budget, "disruptionsAllowed");
    if allowed < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    if budget["status"]["disruptedPods"].as_object().is_some_and(|pods| pods.len() > DISRUPTED_MAX) {
        return forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
    }
    if allowed == 0 {
        return Err(Status::too_many_requests(REFUSED, 0).cause(CAUSE, why_none(budget, name), ""));
    }
    let mut budget = budget.clone();
    budget["status"]["disruptionsAllowed"] = json!(allowed - 1);
    budget["status"]["disruptedPods"][pod] = json!(now());
    if allowed == 1 {
        set_exhausted(&mut budget);
    }
    Ok(budget)
}

fn why_none(budget: &Value, name: &str) -> String {
    let mut conditions = budget["status"]["conditions"].as_array().into_iter().flatten();
    if let Some(failed) = conditions
        .find(|c| c["type"] == "DisruptionAllowed" && c["status"] == "False" && c["reason"] == "SyncFailed")
    {
        let why = failed["message"].as_str().unwrap_or_default();
        return format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed sync: {why}"
        );
    }
    let (desired, healthy) = (number(budget, "desiredHealthy"), number(budget, "currentHealthy"));
    format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently")
}

/// The condition `DisruptionAllowed` says that this was the last one.
fn set_exhausted(budget: &mut Value) {
    let generation = Meta::of(budget).generation();
    if !budget["status"]["conditions"].is_array() {
        budget["status"]["conditions"] = json!([]);
    }
    let Some(list) = budget["status"]["conditions"].as_array_mut() else { return };
    let old = list.iter().position(|c| c["type"] == "DisruptionAllowed").map(|at| list.remove(at));
    let since = old.filter(|c| c["status"] == "False").map(|c| c["lastTransitionTime"].clone());
    list.push(json!({
        "type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
        "observedGeneration": generation, "lastTransitionTime": since.unwrap_or_else(|| json!(now())),
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(status: Value) -> Value {
        json!({"metadata": {"name": "b", "generation": 1}, "spec": {"selector": {"matchLabels": {"a": "x"}}},
            "status": status})
    }

    #[test]
    fn a_budget_gives_what_it_has() {
        let two = budget(json!({"observedGeneration": 1, "disruptionsAllowed": 2}));
        let one = counted(&two, "p").unwrap();
        assert_eq!(one["status"]["disruptionsAllowed"], 1);
        assert!(one["status"]["disruptedPods"]["p"].is_string() && one["status"].get("conditions").is_none());
        let none = counted(&one, "q").unwrap();
        assert_eq!(none["status"]["conditions"][0]["reason"], "InsufficientPods");
        let refused = counted(&none, "r").unwrap_err();
        assert_eq!((refused.code, &*refused.message), (429, REFUSED));
        let why = "The disruption budget b needs 0 healthy pods and has 0 currently";
        assert_eq!((&*refused.causes()[0].reason, &*refused.causes()[0].message), (CAUSE, why));
        let negative = budget(json!({"observedGeneration": 1, "disruptionsAllowed": -1}));
        assert_eq!(counted(&negative, "p").unwrap_err().code, 403);
    }

    #[test]
    fn a_budget_nobody_has_looked_at_gives_nothing() {
        let refused = counted(&budget(json!({"disruptionsAllowed": 2})), "p").unwrap_err();
        assert_eq!(refused.details.as_ref().map(|d| d.retry_after_seconds), Some(WAIT));
        assert!(refused.causes()[0].message.ends_with("is still being processed by the server."));
        let failed =
            json!({"type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed", "message": "m"});
        let failed = budget(json!({"observedGeneration": 1, "conditions": [failed]}));
        assert!(counted(&failed, "p").unwrap_err().causes()[0].message.ends_with("it failed sync: m"));
    }

    #[test]
    fn pods_that_are_not_ready_disrupt_nothing() {
        let pod = |ready: &str| json!({"status": {"conditions": [{"type": "Ready", "status": ready}]}});
        let healthy = budget(json!({"currentHealthy": 2, "desiredHealthy": 2}));
        assert_eq!(verdict(&pod("True"), &healthy), Verdict::Counted);
        assert_eq!(verdict(&pod("False"), &healthy), Verdict::Free);
        let mut short = budget(json!({"currentHealthy": 1, "desiredHealthy": 2}));
        assert_eq!(verdict(&pod("False"), &short), Verdict::Counted);
        short["spec"]["unhealthyPodEvictionPolicy"] = json!("AlwaysAllow");
        assert_eq!(verdict(&pod("False"), &short), Verdict::FreeAsItIs);
        for phase in ["Pending", "Failed", "Succeeded"] {
            assert!(ends_anyway(&json!({"status": {"phase": phase}})));
        }
        assert!(!ends_anyway(&json!({"status": {"phase": "Running"}})));
    }

    #[test]
    fn a_selector_chooses_an_empty_one_all_and_none_nothing() {
        let pod = json!({"metadata": {"labels": {"a": "x"}}});
        assert!(selects(&budget(json!({})), &pod));
        assert!(!selects(&budget(json!({})), &json!({"metadata": {}})));
        assert!(selects(&json!({"spec": {"selector": {}}}), &json!({"metadata": {}})));
        assert!(!selects(&json!({"spec": {}}), &pod));
    }
}
