//! README's first command, and the way back.

use std::path::Path;

use crate::Alone;
use crate::harness::{Host, executable, show, wait_for};

pub const ALONE: &[(&str, Alone)] = &[("install_demo_killall_uninstall", install)];

/// The demonstration's Service, by its name, from inside the cluster.
fn answers_from_a_pod(host: &Host, data: &Path, kedge: &dyn Fn(&[&str]) -> String) {
    let archive = host.directory.path().join("busybox.tar");
    crate::images::write_busybox(&archive);
    kedge(&["images", "import", archive.to_str().expect("UTF-8")]);
    let get =
        ["--image=busybox:1.35", "--", "wget", "-q", "-O", "-", "http://demo.default.svc.cluster.local/"];
    let mut kubectl = host.command("kubectl");
    kubectl.env("KUBECONFIG", data.join("server/cred/admin.kubeconfig"));
    kubectl.args(["run", "client", "-i", "--rm", "-q", "--restart=Never"]).args(get);
    let output = kubectl.output().expect("kubectl runs");
    assert!(String::from_utf8_lossy(&output.stdout).contains("kedge works"), "{}", show(&output));
}

/// Stops the installation also when the test fails: its processes are nobody's children.
struct Stopped<'a> {
    host: &'a Host,
    data: &'a Path,
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        let _ = self.host.command(executable()).args(["killall", "--data-dir"]).arg(self.data).output();
    }
}

/// Where install.sh, run with these variables, puts everything: nothing outside the test's directory
/// but the supervising process.
fn install() {
    let host = Host::new("install");
    let data = host.directory.path().join("data");
    let bin = host.directory.path().join("bin");
    let _stopped = Stopped { host: &host, data: &data };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/install.sh");
    let run = || {
        let mut command = host.command("sh");
        command
            .arg(script)
            .env("INSTALL_KEDGE_BIN", executable())
            .env("INSTALL_KEDGE_BIN_DIR", &bin)
            .env("INSTALL_KEDGE_LOG", host.directory.path().join("kedge.log"))
            .env("INSTALL_KEDGE_EXEC", format!("--data-dir {} --node-name demo-node", data.display()));
        let output = command.output().expect("install.sh runs");
        assert!(output.status.success(), "{}", show(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = run();
    let url = text
        .lines()
        .find_map(|l| l.trim().strip_prefix("curl "))
        .unwrap_or_else(|| panic!("{text}"))
        .to_owned();
    assert_eq!(host.sh(&format!("curl -s -o /dev/null -w '%{{http_code}}' {url}")), "200");
    let kedge = |arguments: &[&str]| {
        let output = host.command(bin.join("kedge")).args(arguments).arg("--data-dir").arg(&data).output();
        let output = output.expect("kedge runs");
        assert!(output.status.success(), "{arguments:?} {}", show(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    answers_from_a_pod(&host, &data, &kedge);
    let processes = || {
        // The bracket keeps the shell that looks from finding itself.
        let path = data.display().to_string();
        host.sh(&format!("pgrep -f '[/]{}' || true", path.trim_start_matches('/')))
    };
    let before = processes();
    assert!(run().contains(&url), "a second run finds everything as it should be");
    assert_eq!(processes(), before, "and starts nothing anew");

    kedge(&["killall"]);
    assert_eq!(processes(), "", "nothing runs any more");
    assert!(data.join("server").exists(), "the files are kept");
    run();
    wait_for("the demonstration after a new start", || {
        host.sh(&format!("curl -s -o /dev/null --max-time 3 -w '%{{http_code}}' {url} || true")) == "200"
    });
    std::fs::create_dir_all(data.join("storage/precious")).expect("directory");
    kedge(&["uninstall"]);
    assert!(data.join("storage/precious").exists(), "volumes are only deleted when asked for");
    assert!(!data.join("server").exists());
    kedge(&["uninstall", "--yes"]);
    assert!(!data.exists());
}
