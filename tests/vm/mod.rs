//! The test kernel with pure cgroup v2, and other integration tests' executables inside it.
//!
//! `run.sh` beside this file boots a guest on this machine's own root file system in half a second, so what
//! cargo built here runs there as it is.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// Runs a shell script in a guest of its own; its status and what it printed. A guest that has not ended after
/// `patience` is ended, status 97.
pub fn run(script: &str, patience: Duration) -> Output {
    let job = tempfile::NamedTempFile::new().expect("file is made");
    std::fs::write(job.path(), script).expect("file is written");
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm");
    // The kernel may have to be built first, which is not the guest's time.
    let kernel =
        Command::new(here.join("kernel.sh")).stderr(Stdio::inherit()).output().expect("kernel.sh runs");
    assert!(kernel.status.success(), "there is no test kernel");
    let kernel = String::from_utf8(kernel.stdout).expect("a path");
    let mut command = Command::new(here.join("run.sh"));
    command.args(["-t", &patience.as_secs().to_string()]);
    if let Some(shared) = shared() {
        command.arg("-s").arg(shared);
    }
    command.arg(job.path()).env("KEDGE_TEST_KERNEL", kernel.trim());
    command.stdin(Stdio::null()).output().expect("run.sh runs")
}

/// This directory of sources and what was built, if it lies where the guest has a file system of its own.
fn shared() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.starts_with("/tmp").then(|| root.to_owned())
}

/// What an integration test's executable says of some of its tests, run one after the other in a guest.
pub fn run_test(executable: &Path, filters: &[&str], patience: Duration) -> Output {
    run_test_with(executable, filters, &[], patience)
}

/// As [`run_test`], with further variables in its environment.
pub fn run_test_with(
    executable: &Path,
    filters: &[&str],
    variables: &[(&str, &str)],
    patience: Duration,
) -> Output {
    let mut script = String::new();
    for (name, value) in variables {
        script += &format!("export {name}='{value}'\n");
    }
    for name in ["KEDGE_BIN", "RUST_LOG", "PATH"] {
        if let Ok(value) = std::env::var(name) {
            script += &format!("export {name}='{value}'\n");
        }
    }
    let manifest = env!("CARGO_MANIFEST_DIR");
    script += &format!("export RUST_BACKTRACE=1 CARGO_MANIFEST_DIR='{manifest}'\ncd '{manifest}'\n");
    script += &format!(
        "exec '{}' --test-threads=1 --color never {} 2>&1\n",
        executable.display(),
        filters.join(" ")
    );
    run(&script, patience)
}

/// The executables of integration tests as cargo builds them, in the order of `names`.
pub fn executables(names: &[&str]) -> Vec<PathBuf> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["test", "--quiet", "--locked", "--no-run", "--message-format=json"]);
    // What cargo told this test would have it build crates anew whose build scripts look at such variables.
    let told = |name: &str| name.starts_with("CARGO_") && !["CARGO_HOME", "CARGO_TARGET_DIR"].contains(&name);
    for (name, _) in std::env::vars().filter(|(name, _)| name == "OUT_DIR" || told(name)) {
        command.env_remove(name);
    }
    for name in names {
        command.args(["--test", name]);
    }
    let output = command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "the tests are built");
    let messages = String::from_utf8(output.stdout).expect("text");
    let artifacts: Vec<serde_json::Value> =
        messages.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |name: &&str| {
        let artifact =
            artifacts.iter().find(|a| a["target"]["name"] == **name && a["executable"].is_string());
        PathBuf::from(artifact.expect("cargo names it")["executable"].as_str().expect("a path"))
    };
    names.iter().map(of).collect()
}

/// How many tests a libtest output says passed; panics with the output unless some did, none failed and none
/// was left out.
pub fn passed(output: &Output) -> usize {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().rev().find(|l| l.starts_with("test result: ok."));
    let count = |what: &str| -> Option<usize> {
        line?.split([';', '.']).find_map(|part| part.trim().strip_suffix(what)?.trim().parse().ok())
    };
    let passed = count("passed").unwrap_or(0);
    let clean = output.status.success() && passed > 0 && count("ignored") == Some(0);
    assert!(clean, "{}\n{text}\n{errors}", output.status);
    passed
}
