//! Manifests users apply, on servers they run: each behaves as the comment at its head says. Real images,
//! made of Debian's packages and pulled from a registry under the names people type. Needs root.

#[path = "cluster/harness.rs"]
#[allow(dead_code, reason = "the harness serves other tests too")]
mod harness;
#[path = "cluster/images.rs"]
mod images;
#[path = "cluster/packages.rs"]
mod packages;
#[path = "cluster/registry.rs"]
mod registry;
#[path = "manifests/servers.rs"]
mod servers;
#[path = "manifests/users.rs"]
mod users;

use std::panic::{AssertUnwindSafe, catch_unwind};

use harness::{Cluster, NODE_IP};
use packages::{NGINX, NGINX_NEXT, POSTGRES, REDIS, Recipe};

type Scenario = fn(&Cluster, &str);

/// What is asserted, each in a namespace of its own and all at once: some wait for minutes.
const SCENARIOS: &[(&str, Scenario)] = &[
    ("probes", users::probes),
    ("redis", users::redis),
    ("web", users::web_deployment),
    ("hooks", users::init_and_hooks),
    ("restarts", users::restart_policies),
    ("preset", users::pod_preset),
    ("nginx", servers::nginx_follows_its_configuration),
    ("rediskeeps", servers::redis_keeps_its_keys_over_a_restart),
    ("postgres", servers::postgres_keeps_its_tables_over_its_pod),
];

#[test]
fn users_manifests_behave_as_their_heads_say() {
    let archives =
        [&REDIS, &NGINX, &NGINX_NEXT, &POSTGRES].map(|recipe| (recipe.name, Recipe::archive(recipe)));
    let mirror = format!("mirrors:\n  docker.io:\n    endpoint: [\"http://{NODE_IP}:5000\"]\n");
    let cluster = Cluster::start_with_registries("manifests", &[], &mirror);
    let registry = registry::Registry::start(&cluster, 5000);
    for (name, archive) in &archives {
        registry.push(&cluster, archive, name, &format!("library/{name}"));
    }
    cluster.import_test_images();
    let wanted = std::env::var("KEDGE_TEST_SCENARIO").unwrap_or_default();
    let run = |(name, scenario): &(&'static str, fn(&Cluster, &str))| {
        let started = std::time::Instant::now();
        let ok = catch_unwind(AssertUnwindSafe(|| scenario(&cluster, &cluster.namespace(name)))).is_ok();
        println!(
            "{name}: {} after {:.0} s",
            if ok { "ok" } else { "FAILED" },
            started.elapsed().as_secs_f32()
        );
        (!ok).then_some(*name)
    };
    let failed: Vec<_> = std::thread::scope(|scope| {
        let wanted = SCENARIOS.iter().filter(|(name, _)| name.contains(&wanted));
        let threads: Vec<_> = wanted.map(|scenario| scope.spawn(move || run(scenario))).collect();
        threads.into_iter().filter_map(|t| t.join().expect("panics are caught")).collect()
    });
    assert!(failed.is_empty(), "{failed:?}");
}
