//! The arithmetic of a rollout: how many pods each replica set may have. Pure functions.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::revision::MAX_REPLICAS;
use crate::server::controllers::kit::meta;

/// How many pods a replica set is asked for.
pub fn spec_replicas(rs: &ReplicaSet) -> i32 {
    rs.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

/// How many pods of a replica set are available.
pub fn available(rs: &ReplicaSet) -> i32 {
    rs.status.as_ref().and_then(|s| s.available_replicas).unwrap_or_default()
}

/// How many pods a deployment is asked for.
pub fn wanted(d: &Deployment) -> i32 {
    d.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

/// Whether the old pods go before the new ones come.
pub fn is_recreate(d: &Deployment) -> bool {
    let strategy = d.spec.as_ref().and_then(|s| s.strategy.as_ref());
    strategy.and_then(|s| s.type_.as_deref()) == Some("Recreate")
}

fn resolve(value: Option<&IntOrString>, of: i32, round_up: bool) -> i32 {
    match value {
        Some(IntOrString::Int(n)) => *n,
        Some(IntOrString::String(text)) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or_default();
            let scaled = percent * i64::from(of);
            let result = if round_up { (scaled + 99).div_euclid(100) } else { scaled.div_euclid(100) };
            i32::try_from(result).unwrap_or(i32::MAX)
        }
        None => 0,
    }
}

/// How many pods more than wanted there may be, and how many fewer available.
pub fn fenceposts(d: &Deployment) -> (i32, i32) {
    if is_recreate(d) {
        return (0, 0);
    }
    let strategy = d.spec.as_ref().and_then(|s| s.strategy.as_ref());
    let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
    let default = IntOrString::String("25%".into());
    let of = wanted(d);
    let surge =
        resolve(rolling.map_or(Some(&default), |r| r.max_surge.as_ref().or(Some(&default))), of, true);
    let unavailable =
        resolve(rolling.map_or(Some(&default), |r| r.max_unavailable.as_ref().or(Some(&default))), of, false);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable.min(of)) }
}

/// The sum of what replica sets are asked for.
pub fn sum<'r>(sets: impl IntoIterator<Item = &'r Arc<ReplicaSet>>) -> i32 {
    sets.into_iter().map(|rs| spec_replicas(rs)).sum()
}

/// How many pods the new replica set may have now.
pub fn new_replicas(d: &Deployment, all: &[Arc<ReplicaSet>], current: i32) -> i32 {
    let wanted = wanted(d);
    if is_recreate(d) {
        return wanted;
    }
    let room = wanted + fenceposts(d).0 - sum(all);
    if room <= 0 { current } else { current + room.min(wanted - current) }
}

/// Which old replica sets shrink to how many pods in this step of a rolling update: first unhealthy
/// pods, then as many as the new replica set can do without. `old` is ordered by age.
pub fn shrink_old(d: &Deployment, new: Option<&ReplicaSet>, old: &[Arc<ReplicaSet>]) -> Vec<(usize, i32)> {
    let mut sizes: Vec<i32> = old.iter().map(|rs| spec_replicas(rs)).collect();
    let min_available = wanted(d) - fenceposts(d).1;
    let all = sizes.iter().sum::<i32>() + new.map_or(0, spec_replicas);
    let new_unavailable = new.map_or(0, |rs| spec_replicas(rs) - available(rs));
    let mut budget = all - min_available - new_unavailable;
    if budget <= 0 {
        return Vec::new();
    }
    for (size, rs) in sizes.iter_mut().zip(old) {
        let unhealthy = (*size - available(rs)).max(0).min(budget);
        *size -= unhealthy;
        budget -= unhealthy;
    }
    let available_now = old.iter().map(|rs| available(rs)).sum::<i32>() + new.map_or(0, available);
    let mut spare = available_now - min_available;
    for size in &mut sizes {
        if spare <= 0 {
            break;
        }
        let fewer = (*size).min(spare);
        *size -= fewer;
        spare -= fewer;
    }
    let changed = sizes.into_iter().enumerate().filter(|(i, size)| *size != spec_replicas(&old[*i]));
    changed.collect()
}

/// New sizes of the active replica sets when a deployment in the middle of a rollout is scaled: each
/// grows or shrinks in proportion to its size, the largest taking the rest.
pub fn proportional(d: &Deployment, active: &[Arc<ReplicaSet>]) -> Vec<(Arc<ReplicaSet>, i32)> {
    let wanted = wanted(d);
    let allowed = if wanted > 0 { wanted + fenceposts(d).0 } else { 0 };
    let to_add = allowed - sum(active);
    let mut sets = active.to_vec();
    let created = |rs: &ReplicaSet| rs.metadata.creation_timestamp.clone();
    sets.sort_by(|a, b| {
        let by_size = spec_replicas(b).cmp(&spec_replicas(a));
        let by_age = if to_add > 0 { created(b).cmp(&created(a)) } else { created(a).cmp(&created(b)) };
        by_size.then(by_age)
    });
    let mut added = 0;
    let mut sizes: Vec<i32> = Vec::with_capacity(sets.len());
    for rs in &sets {
        let share = proportion(rs, d, to_add, added);
        added += share;
        sizes.push(spec_replicas(rs) + share);
    }
    if to_add != 0
        && let Some(first) = sizes.first_mut()
    {
        *first = (*first + to_add - added).max(0);
    }
    sets.into_iter().zip(sizes).collect()
}

fn proportion(rs: &ReplicaSet, d: &Deployment, to_add: i32, added: i32) -> i32 {
    let size = spec_replicas(rs);
    if size == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let fraction = if wanted(d) == 0 {
        -size
    } else {
        let recorded = meta::annotation(&rs.metadata, MAX_REPLICAS).and_then(|n| n.parse::<i32>().ok());
        let before = recorded.filter(|n| *n > 0).or_else(|| d.status.as_ref()?.replicas).unwrap_or_default();
        if before == 0 {
            return 0;
        }
        let max = f64::from(wanted(d) + fenceposts(d).0);
        (f64::from(size) * max / f64::from(before)).round() as i32 - size
    };
    let left = to_add - added;
    if to_add > 0 { fraction.min(left) } else { fraction.max(left) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment(replicas: i32, surge: serde_json::Value, unavailable: serde_json::Value) -> Deployment {
        serde_json::from_value(
            json!({"metadata": {"name": "d"}, "spec": {"replicas": replicas, "selector": {},
            "template": {}, "strategy": {"type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}}}),
        )
        .expect("a deployment")
    }

    fn set(replicas: i32, available: i32) -> Arc<ReplicaSet> {
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": "rs"},
                "spec": {"replicas": replicas, "selector": {}},
                "status": {"replicas": replicas, "availableReplicas": available}}))
            .expect("a replica set"),
        )
    }

    #[test]
    fn surge_rounds_up_and_unavailable_down() {
        for (replicas, surge, unavailable, expected) in [
            (4, json!("25%"), json!("25%"), (1, 1)),
            (3, json!("25%"), json!("25%"), (1, 0)),
            (10, json!(3), json!("15%"), (3, 1)),
            (2, json!(0), json!("10%"), (0, 1)),
            (0, json!("25%"), json!("25%"), (0, 1)),
            (2, json!(1), json!(5), (1, 2)),
        ] {
            assert_eq!(fenceposts(&deployment(replicas, surge, unavailable)), expected);
        }
    }

    #[test]
    fn the_new_set_grows_into_the_surge() {
        let d = deployment(10, json!(3), json!(2));
        assert_eq!(new_replicas(&d, &[set(10, 10)], 0), 3);
        assert_eq!(new_replicas(&d, &[set(8, 8), set(5, 0)], 5), 5);
        assert_eq!(new_replicas(&d, &[set(0, 0), set(8, 8)], 8), 10);
        assert_eq!(new_replicas(&d, &[], 0), 10);
    }

    #[test]
    fn old_sets_shrink_only_as_far_as_availability_allows() {
        let d = deployment(10, json!(3), json!(2));
        // Nothing of the new is ready: 2 may go.
        assert_eq!(shrink_old(&d, Some(&set(3, 0)), &[set(10, 10)]), [(0, 8)]);
        assert_eq!(shrink_old(&d, Some(&set(5, 0)), &[set(8, 8)]), []);
        assert_eq!(shrink_old(&d, Some(&set(5, 3)), &[set(8, 8)]), [(0, 5)]);
        // Unhealthy old pods go first, in all sets.
        assert_eq!(shrink_old(&d, Some(&set(3, 3)), &[set(2, 0), set(8, 8)]), [(0, 0), (1, 5)]);
        assert_eq!(shrink_old(&d, Some(&set(10, 10)), &[set(0, 0)]), []);
    }

    #[test]
    fn scaling_in_the_middle_of_a_rollout_is_proportional() {
        let d = deployment(20, json!(0), json!(2));
        let with = |n, max: &str| {
            let mut rs = ReplicaSet::clone(&set(n, n));
            rs.metadata.annotations = Some([(MAX_REPLICAS.to_owned(), max.to_owned())].into());
            Arc::new(rs)
        };
        let sizes: Vec<i32> =
            proportional(&d, &[with(2, "10"), with(8, "10")]).into_iter().map(|(_, n)| n).collect();
        assert_eq!(sizes, [16, 4]);
        let none = deployment(0, json!(1), json!(1));
        let sizes: Vec<i32> =
            proportional(&none, &[with(2, "10"), with(8, "10")]).into_iter().map(|(_, n)| n).collect();
        assert_eq!(sizes, [0, 0]);
    }
}
