//! Debian's docker-registry inside a test host.

use std::path::Path;
use std::process::{Child, Stdio};

use crate::harness::{Cluster, NODE_IP, show, wait_for};

/// A registry that speaks plain HTTP on the node's address.
pub struct Registry {
    child: Child,
    port: u16,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    /// Starts one and waits until it answers.
    pub fn start(cluster: &Cluster, port: u16) -> Self {
        let directory = cluster.host.directory.path().join(format!("registry-{port}"));
        std::fs::create_dir_all(&directory).expect("directory");
        let config = directory.join("config.yml");
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: '{NODE_IP}:{port}'}}\nlog: {{level: error}}\n",
            directory.display()
        );
        std::fs::write(&config, text).expect("writes");
        let child = cluster
            .host
            .command("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed");
        let registry = Self { child, port };
        let url = format!("http://{NODE_IP}:{port}/v2/");
        wait_for("the registry", || {
            cluster.host.command("curl").args(["-sf", &url]).output().is_ok_and(|o| o.status.success())
        });
        registry
    }

    /// Pushes one image of a `docker save` archive under another name.
    pub fn push(&self, cluster: &Cluster, archive: &Path, image: &str, name: &str) {
        let mut skopeo = cluster.host.command("skopeo");
        skopeo.args(["copy", "-q", "--dest-tls-verify=false"]);
        skopeo.arg(format!("docker-archive:{}:{image}", archive.display()));
        skopeo.arg(format!("docker://{NODE_IP}:{}/{name}", self.port));
        let output = skopeo.output().expect("skopeo is installed");
        assert!(output.status.success(), "{}", show(&output));
    }
}
