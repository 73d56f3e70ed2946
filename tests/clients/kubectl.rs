//! The matrix: every script of `kubectl/` with every kubectl at hand.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Suite;
use crate::harness::Cluster;
use crate::script;

/// A kubectl.
struct Version {
    executable: PathBuf,
    /// Such as `1.36`.
    name: String,
    minor: u32,
}

/// Every script with every version, the newest version first.
pub fn suites() -> Vec<Suite> {
    script::check_itself();
    let versions = versions();
    let names: Vec<&str> = versions.iter().map(|v| &*v.name).collect();
    println!("kubectl at hand: {}", names.join(", "));
    assert!(!versions.is_empty(), "no kubectl: tests/run.sh fetches one");
    let scripts = scripts();
    let newest = versions.iter().map(|v| v.minor).max().unwrap_or_default();
    let mut suites: Vec<Suite> = Vec::new();
    for Version { executable, name, minor } in versions {
        for script in &scripts {
            let (executable, script) = (executable.clone(), script.clone());
            let title = script.file_stem().expect("a script has a name").to_string_lossy().into_owned();
            let suite = format!("kubectl/{title} {name}");
            suites.push((
                suite,
                Box::new(move |cluster| play(cluster, &executable, (minor, newest), &title, &script)),
            ));
        }
    }
    suites
}

fn scripts() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/kubectl");
    let files = std::fs::read_dir(directory).expect("the scripts are there").flatten().map(|e| e.path());
    let mut scripts: Vec<_> = files.filter(|f| f.extension().is_some_and(|e| e == "txt")).collect();
    scripts.sort();
    scripts
}

/// The kubectl on PATH, those of other versions beside it, and the one tests/run.sh fetched.
fn versions() -> Vec<Version> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|dir| dir.join("kubectl")).find(|file| file.exists());
    let fetched = std::env::var_os("KEDGE_TEST_KUBECTL").map(PathBuf::from);
    let beside = on_path.iter().filter_map(|f| f.canonicalize().ok()?.parent().map(Path::to_owned));
    let others =
        beside.flat_map(|dir| std::fs::read_dir(dir).into_iter().flatten().flatten()).map(|e| e.path());
    let others = others
        .filter(|f| f.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with("kubectl.1.")));
    let mut versions: Vec<Version> =
        fetched.into_iter().chain(on_path.clone()).chain(others).filter_map(version).collect();
    versions.sort_by_key(|v| std::cmp::Reverse(v.minor));
    versions.dedup_by_key(|v| v.minor);
    versions
}

fn version(executable: PathBuf) -> Option<Version> {
    let output = Command::new(&executable).args(["version", "--client", "-o", "json"]).output().ok()?;
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    let minor = script::minor(value["clientVersion"]["gitVersion"].as_str()?);
    Some(Version { executable, name: format!("1.{minor}"), minor })
}

fn play(cluster: &Cluster, executable: &Path, (minor, newest): (u32, u32), title: &str, script: &Path) {
    let namespace = cluster.namespace(&format!("{title}-{minor}"));
    let stage = Stage::new(cluster, executable, &namespace);
    let text = std::fs::read_to_string(script).expect("the script can be read");
    let steps = script::parse(&text).into_iter().filter(|step| step.applies(minor, newest));
    let wrong: Vec<String> = steps.filter_map(|step| step.run(|| stage.shell()).err()).collect();
    assert!(wrong.is_empty(), "{} with kubectl 1.{minor}\n{}", script.display(), wrong.join("\n"));
    // What is left keeps nobody waiting.
    cluster.kubectl(&["delete", "namespace", &namespace, "--wait=false"]);
}

/// Where a script plays: a directory, a kubectl, a kubeconfig whose namespace is the script's.
struct Stage<'a> {
    cluster: &'a Cluster,
    directory: tempfile::TempDir,
    namespace: String,
}

impl<'a> Stage<'a> {
    fn new(cluster: &'a Cluster, executable: &Path, namespace: &str) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let at = directory.path();
        std::fs::create_dir(at.join(".bin")).expect("directory");
        let executable = executable.canonicalize().expect("kubectl is there");
        std::os::unix::fs::symlink(executable, at.join(".bin/kubectl")).expect("link");
        std::fs::write(at.join(".kubeconfig"), crate::kubeconfig(cluster)).expect("file is written");
        let stage = Self { cluster, directory, namespace: namespace.to_owned() };
        let set = format!("kubectl config set-context --current --namespace={namespace}");
        let output = stage.shell().args(["-c", &set]).output().expect("bash runs");
        assert!(output.status.success(), "{}", crate::harness::show(&output));
        stage
    }

    fn shell(&self) -> Command {
        let at = self.directory.path();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = self.cluster.host.command("env");
        command.arg("-C").arg(at).arg("bash");
        command
            .env("PATH", format!("{}:{path}", at.join(".bin").display()))
            .env("KUBECONFIG", at.join(".kubeconfig"))
            .env("KUBECACHEDIR", at.join(".cache"))
            .env("HOME", at)
            .env("NS", &self.namespace)
            .env_remove("KUBE_EDITOR");
        command
    }
}
