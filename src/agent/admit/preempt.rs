//! Which pods have to make room for a critical one (`pkg/kubelet/preemption`): as few as possible of the
//! better classes of service, and of each class those whose requests are nearest to what is missing.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::Lack;
use super::predicates::requested;
use crate::agent::qos::{Class, class_of};
use crate::agent::spec::{is_critical, priority};

/// What is missing even without these pods.
pub(crate) fn still_lacking<'p>(
    lacking: &[Lack],
    without: impl IntoIterator<Item = &'p Arc<Pod>> + Clone,
) -> Vec<Lack> {
    let left = |lack: &Lack| {
        let given: i64 = without.clone().into_iter().map(|pod| requested(pod, &lack.name)).sum();
        let amount = lack.amount - given;
        (amount > 0).then(|| Lack { name: lack.name.clone(), amount })
    };
    lacking.iter().filter_map(left).collect()
}

/// The pods to end so that `pod` finds what is `lacking`; the error is upstream's.
pub(crate) fn victims(pod: &Pod, others: &[Arc<Pod>], lacking: &[Lack]) -> Result<Vec<Arc<Pod>>, String> {
    let of = |class: Class| -> Vec<Arc<Pod>> {
        let may_go = |other: &&Arc<Pod>| preemptable(pod, other) && class_of(other) == class;
        others.iter().filter(may_go).cloned().collect()
    };
    let (best_effort, burstable, guaranteed) =
        (of(Class::BestEffort), of(Class::Burstable), of(Class::Guaranteed));
    let all = best_effort.iter().chain(&burstable).chain(&guaranteed);
    let unmet = still_lacking(lacking, all);
    if !unmet.is_empty() {
        return Err(none_found(&unmet));
    }
    let from_guaranteed = nearest(guaranteed, still_lacking(lacking, best_effort.iter().chain(&burstable)))?;
    let from_burstable =
        nearest(burstable, still_lacking(lacking, best_effort.iter().chain(&from_guaranteed)))?;
    let better = from_burstable.iter().chain(&from_guaranteed);
    let mut chosen = nearest(best_effort, still_lacking(lacking, better))?;
    chosen.extend(from_burstable);
    chosen.extend(from_guaranteed);
    Ok(chosen)
}

fn none_found(lacking: &[Lack]) -> String {
    let list: String = lacking.iter().map(|l| format!("(res: {}, q: {}), ", l.name, l.amount)).collect();
    format!("no set of running pods found to reclaim resources: [{list}]")
}

fn preemptable(pod: &Pod, other: &Pod) -> bool {
    (is_critical(pod) && !is_critical(other)) || priority(pod) > priority(other)
}

/// One after the other the pod that leaves least missing, the smaller one of two that leave the same.
fn nearest(mut pods: Vec<Arc<Pod>>, mut lacking: Vec<Lack>) -> Result<Vec<Arc<Pod>>, String> {
    let mut chosen = Vec::new();
    while !lacking.is_empty() {
        let best = pods.iter().enumerate().min_by(|(_, a), (_, b)| {
            distance(&lacking, a).total_cmp(&distance(&lacking, b)).then_with(|| size(a).cmp(&size(b)))
        });
        let Some((at, _)) = best else { return Err(none_found(&lacking)) };
        let pod = pods.swap_remove(at);
        lacking = still_lacking(&lacking, [&pod]);
        chosen.push(pod);
    }
    Ok(chosen)
}

/// The sum of the squares of the missing parts, each between 0 (all is given) and 1.
fn distance(lacking: &[Lack], pod: &Pod) -> f64 {
    let part = |lack: &Lack| {
        let left = (lack.amount - requested(pod, &lack.name)).max(0);
        (left as f64 / lack.amount as f64).powi(2)
    };
    lacking.iter().map(part).sum()
}

fn size(pod: &Pod) -> [i64; 2] {
    ["memory", "cpu"].map(|name| requested(pod, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::spec::name;
    use serde_json::json;

    /// Memory requested in MiB and CPU in thousandths; `limits`: the same.
    fn pod(name: &str, cpu: i64, memory: i64, limits: bool, priority: i32) -> Arc<Pod> {
        let amounts = json!({"cpu": format!("{cpu}m"), "memory": format!("{memory}Mi")});
        let resources = match (cpu + memory, limits) {
            (0, _) => json!({}),
            (_, true) => json!({"requests": amounts, "limits": amounts}),
            (_, false) => json!({"requests": amounts}),
        };
        let spec = json!({"priority": priority, "containers": [{"name": "c", "resources": resources}]});
        let pod = json!({"metadata": {"name": name}, "spec": spec});
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    fn chosen(others: &[&Arc<Pod>], lacking: &[(&str, i64)]) -> Result<Vec<String>, String> {
        let critical = pod("critical", 100, 100, false, 2_000_000_000);
        let others: Vec<Arc<Pod>> = others.iter().map(|p| Arc::clone(p)).collect();
        let lacking: Vec<Lack> =
            lacking.iter().map(|(name, amount)| Lack { name: (*name).into(), amount: *amount }).collect();
        victims(&critical, &others, &lacking).map(|v| v.iter().map(|p| name(p).to_owned()).collect())
    }

    #[test]
    fn as_upstream_chooses() {
        let mib = 1 << 20;
        let best_effort = pod("best-effort", 0, 0, false, 0);
        let (burstable, large_burstable) =
            (pod("burstable", 100, 100, false, 0), pod("large-burstable", 300, 300, false, 0));
        let (guaranteed, large_guaranteed) =
            (pod("guaranteed", 100, 100, true, 0), pod("large-guaranteed", 300, 300, true, 0));
        let other = pod("other-critical", 500, 500, false, 2_000_000_000);
        let all = [&best_effort, &burstable, &large_burstable, &guaranteed, &large_guaranteed, &other];
        for (others, lacking, expected) in [
            (&all[..], &[("pods", 1)][..], &["best-effort"][..]),
            (&all[1..], &[("pods", 1)], &["burstable"]),
            (&all[..], &[("memory", 100 * mib)], &["burstable"]),
            (&all[..], &[("memory", 200 * mib)], &["large-burstable"]),
            (&all[..], &[("memory", 400 * mib)], &["large-burstable", "burstable"]),
            (&all[..], &[("memory", 550 * mib)], &["large-burstable", "large-guaranteed"]),
            (&all[..], &[("cpu", 500), ("pods", 1)], &["large-burstable", "burstable", "guaranteed"]),
        ] {
            let told = chosen(others, lacking).expect("there are enough");
            assert_eq!(told, expected, "{lacking:?}");
        }
        assert_eq!(
            chosen(&all, &[("cpu", 900), ("pods", 1)]),
            Err("no set of running pods found to reclaim resources: [(res: cpu, q: 100), ]".into()),
            "a critical pod makes no room for another"
        );
    }
}
