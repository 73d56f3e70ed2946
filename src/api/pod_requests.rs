//! What a pod's containers ask for together: `AggregateContainerRequests` of `k8s.io/component-helpers`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Quantity;

type Amounts = BTreeMap<String, Quantity>;

/// The quantity a JSON value says, as text or number.
pub fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        other => other.to_string().parse().ok(),
    }
}

fn add(into: &mut Amounts, from: &Amounts) {
    for (name, amount) in from {
        let sum = into.get(name).map_or(*amount, |before| before.plus(*amount));
        into.insert(name.clone(), sum);
    }
}

fn raise(into: &mut Amounts, from: &Amounts) {
    for (name, amount) in from {
        let highest = into.get(name).map_or(*amount, |before| *before.max(amount));
        into.insert(name.clone(), highest);
    }
}

fn requests(container: &Value) -> Amounts {
    let given = container["resources"]["requests"].as_object().into_iter().flatten();
    given.filter_map(|(name, value)| Some((name.clone(), quantity(value)?))).collect()
}

fn containers<'s>(spec: &'s Value, list: &str) -> impl Iterator<Item = &'s Value> + use<'s> {
    spec[list].as_array().into_iter().flatten()
}

/// What the containers of a pod's spec need at the same time at most, by resource.
pub fn aggregate(spec: &Value) -> BTreeMap<String, Quantity> {
    let (mut running, mut sidecars, mut starting) = (Amounts::new(), Amounts::new(), Amounts::new());
    containers(spec, "containers").for_each(|c| add(&mut running, &requests(c)));
    for container in containers(spec, "initContainers") {
        let mut at_once = requests(container);
        if container["restartPolicy"] == "Always" {
            add(&mut running, &at_once);
            add(&mut sidecars, &at_once);
            at_once.clone_from(&sidecars);
        } else {
            add(&mut at_once, &sidecars);
        }
        raise(&mut starting, &at_once);
    }
    raise(&mut running, &starting);
    running
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_of_containers_add_up_as_they_run() {
        let asks = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let sidecar = json!({"restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}});
        let spec = json!({"containers": [asks("1"), asks("500m")], "initContainers": [sidecar, asks("4")]});
        assert_eq!(aggregate(&spec)["cpu"].to_string(), "5");
        let spec = json!({"containers": [asks("1"), asks("500m")], "initContainers": [asks("1"), sidecar]});
        assert_eq!(aggregate(&spec)["cpu"].to_string(), "2500m");
    }
}
