//! The Python and the JavaScript client: programs in `python/` and `javascript/`, which check what
//! they get and fail with what was wrong.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::Suite;
use crate::harness::{Cluster, show};

/// One suite a language.
pub fn suites() -> Vec<Suite> {
    vec![("python".to_owned(), Box::new(python)), ("javascript".to_owned(), Box::new(javascript))]
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// The directory the clients are installed in: made at the first run, by `install.sh`.
fn installed() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let cache = std::env::var_os("KEDGE_TEST_CACHE")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-cache"), PathBuf::from)
            .join("clients");
        let output = Command::new(here().join("install.sh")).arg(&cache).output().expect("install.sh runs");
        assert!(output.status.success(), "the clients cannot be installed: {}", show(&output));
        cache
    })
}

fn run(cluster: &Cluster, name: &str, mut command: Command) {
    let namespace = cluster.namespace(name);
    command.env("KUBECONFIG", cluster.kubeconfig()).env("NS", &namespace).stdin(Stdio::null());
    let output = command.output().expect("the program runs");
    assert!(output.status.success(), "{name}: {}", show(&output));
    cluster.kubectl(&["delete", "namespace", &namespace, "--wait=false"]);
}

fn python(cluster: &Cluster) {
    let mut command = cluster.host.command(installed().join("python/bin/python"));
    command.arg("-W").arg("ignore").arg(here().join("python/suite.py"));
    run(cluster, "python", command);
}

fn javascript(cluster: &Cluster) {
    // Modules are looked for beside the program.
    let program = installed().join("javascript/suite.mjs");
    std::fs::copy(here().join("javascript/suite.mjs"), &program).expect("the program is copied");
    let mut command = cluster.host.command("node");
    command.arg(program);
    run(cluster, "javascript", command);
}
