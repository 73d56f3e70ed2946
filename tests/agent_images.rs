//! Images of pods: pulls, what is told of them, secrets, imports while the node runs, collection. The real
//! executable, a real registry, real kubectl. Needs root.

#[path = "cluster/harness.rs"]
#[allow(dead_code, reason = "the harness serves other tests too")]
mod harness;
#[path = "cluster/images.rs"]
mod images;

use std::process::{Child, Stdio};

use harness::{Cluster, NODE_IP, show, wait_for};

/// `user` with the password `secret`, by bcrypt.
const HTPASSWD: &str = "user:$2b$04$/vhHk5xvq1ycM6gcTwWPze0d4bbzsBr1PT.bzky10dp7CA0kXGfRW\n";

/// Debian's docker-registry inside the test host.
struct Registry(Child);

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// At port 5000, which needs no TLS by the harness's registries.yaml; at 5001 with a password. One storage.
fn registry(cluster: &Cluster, port: u16, auth: &str) -> Registry {
    let directory = cluster.host.directory.path().join("registry");
    std::fs::create_dir_all(&directory).expect("directory");
    let config = directory.join(format!("config-{port}.yml"));
    let text = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{NODE_IP}:{port}'}}\nlog: {{level: error}}\n{auth}",
        directory.display()
    );
    std::fs::write(&config, text).expect("writes");
    let mut command = cluster.host.command("docker-registry");
    command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
    let registry = Registry(command.spawn().expect("docker-registry is installed"));
    let url = format!("http://{NODE_IP}:{port}/v2/");
    wait_for("the registry", || {
        cluster.host.command("curl").args(["-s", &url]).output().is_ok_and(|o| o.status.success())
    });
    registry
}

fn push(cluster: &Cluster, version: &str, name: &str) {
    let archive = cluster.host.directory.path().join("push.tar");
    images::write_busybox(&archive);
    let mut skopeo = cluster.host.command("skopeo");
    skopeo.args(["copy", "-q", "--dest-tls-verify=false"]);
    skopeo.arg(format!("docker-archive:{}:busybox:{version}", archive.display()));
    skopeo.arg(format!("docker://{NODE_IP}:5000/{name}"));
    let output = skopeo.output().expect("skopeo is installed");
    assert!(output.status.success(), "{}", show(&output));
}

fn kedge(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = cluster.kedge(arguments).output().expect("kedge runs");
    assert!(output.status.success(), "kedge {}\n{}", arguments.join(" "), show(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Makes a pull secret for `user` at port 5001.
fn secret(cluster: &Cluster, ns: &str, name: &str, password: &str) {
    let host = format!("{NODE_IP}:5001");
    let mut command = vec!["create", "secret", "docker-registry", name, "-n", ns, "--docker-server", &host];
    let password = format!("--docker-password={password}");
    command.extend(["--docker-username=user", &password]);
    cluster.kubectl(&command);
}

/// A pod that stays, with more of its specification in JSON.
fn pod(cluster: &Cluster, ns: &str, name: &str, image: &str, container: &str, rest: &str) {
    cluster.apply(
        ns,
        &format!(
            r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}"}},"spec":{{"terminationGracePeriodSeconds":1,
            "containers":[{{"name":"c","image":"{image}","command":["sleep","999"]{container}}}]{rest}}}}}"#
        ),
    );
}

fn get(cluster: &Cluster, ns: &str, pod: &str, path: &str) -> String {
    cluster.kubectl(&["get", "pod", pod, "-n", ns, "-o", &format!("jsonpath={path}")])
}

fn events(cluster: &Cluster, ns: &str, pod: &str) -> String {
    let path = r#"jsonpath={range .items[*]}{.type} {.reason}: {.message}{"\n"}{end}"#;
    let field = format!("--field-selector=involvedObject.name={pod}");
    cluster.kubectl(&["get", "events", "-n", ns, &field, "-o", path])
}

/// Waits until all of these begin or are lines of the pod's events.
fn wait_events(cluster: &Cluster, ns: &str, pod: &str, expected: &[&str]) {
    let mut last = String::new();
    let all = || {
        last = events(cluster, ns, pod);
        expected.iter().all(|e| last.lines().any(|line| line.starts_with(e)))
    };
    if !harness::wait_until(harness::PATIENCE, all) {
        panic!("not all of {expected:?} in\n{}\n{}", events(cluster, ns, pod), cluster.tail());
    }
}

/// A disk that others have filled is not what is tested here.
const ROOMY: &[&str] =
    &["--kubelet-arg=eviction-hard=nodefs.available<1%", "--kubelet-arg=image-gc-high-threshold=100"];

const WAITING: &str = "{.status.containerStatuses[0].state.waiting.reason}";
const MESSAGE: &str = "{.status.containerStatuses[0].state.waiting.message}";
const IMAGE_ID: &str = "{.status.containerStatuses[0].imageID}";

#[test]
fn images_as_pods_and_users_see_them() {
    let cluster = Cluster::start("pulls", ROOMY);
    // Both registries speak plain HTTP; the file is read at start.
    let mirror =
        |port: u16| format!("  \"{NODE_IP}:{port}\":\n    endpoint: [\"http://{NODE_IP}:{port}\"]\n");
    let file = cluster.host.directory.path().join("registries.yaml");
    std::fs::write(file, format!("mirrors:\n{}{}", mirror(5000), mirror(5001))).expect("writes");
    cluster.kill_server();
    cluster.launch();
    cluster.wait_ready();
    let ns = &cluster.namespace("pulls");
    let _plain = registry(&cluster, 5000, "");
    push(&cluster, "1.35", "team/app:1");
    what_is_pulled_is_told(&cluster, ns);
    what_cannot_be_pulled_says_why(&cluster, ns);
    secrets_open_registries(&cluster, ns);
    what_a_secret_opened_is_shut_for_others(&cluster);
    images_without_layers_and_with_volumes(&cluster, ns);
    images_that_come_from_elsewhere(&cluster, ns);
    the_command(&cluster, ns);
}

fn what_is_pulled_is_told(cluster: &Cluster, ns: &str) {
    let image = format!("{NODE_IP}:5000/team/app:1");
    // Two pods that want one image have it pulled once or twice, but both get it.
    for name in ["one", "two"] {
        pod(cluster, ns, name, &image, "", "");
    }
    for name in ["one", "two"] {
        cluster.wait_pod_ready(ns, name);
    }
    wait_events(cluster, ns, "one", &[&format!("Normal Pulling: Pulling image \"{image}\"")]);
    let told = events(cluster, ns, "one");
    let pulled = told.lines().find(|l| l.starts_with("Normal Pulled: ")).expect("an event");
    let start = format!("Normal Pulled: Successfully pulled image \"{image}\" in ");
    assert!(pulled.starts_with(&start) && pulled.contains(" including waiting). Image size: "), "{pulled}");
    assert!(pulled.ends_with(" bytes."), "{pulled}");
    let id = get(cluster, ns, "one", IMAGE_ID);
    assert!(id.starts_with(&format!("{NODE_IP}:5000/team/app@sha256:")), "{id}");
    pod(cluster, ns, "present", &image, "", "");
    let present = format!(
        "Normal Pulled: Container image \"{image}\" already present on machine and can be accessed by the pod"
    );
    wait_events(cluster, ns, "present", &[&present]);
    // By digest.
    pod(cluster, ns, "digest", &id, "", "");
    cluster.wait_pod_ready(ns, "digest");
    assert_eq!(get(cluster, ns, "digest", IMAGE_ID), id);
    // The tag moves: only a policy of Always sees that.
    push(cluster, "1.36", "team/app:1");
    let version = |pod: &str| cluster.kubectl(&["exec", pod, "-n", ns, "--", "sh", "-c", "echo $VERSION"]);
    pod(cluster, ns, "stays", &image, "", "");
    pod(cluster, ns, "moves", &image, r#","imagePullPolicy":"Always""#, "");
    for (name, expected) in [("stays", "1.35\n"), ("moves", "1.36\n")] {
        cluster.wait_pod_ready(ns, name);
        if name == "moves" {
            assert_eq!(version(name), expected);
        }
    }
    assert_ne!(get(cluster, ns, "moves", IMAGE_ID), id);
    cluster.kubectl(&["delete", "pod", "--all", "-n", ns]);
}

fn what_cannot_be_pulled_says_why(cluster: &Cluster, ns: &str) {
    let missing = format!("{NODE_IP}:5000/team/none:1");
    pod(cluster, ns, "missing", &missing, "", "");
    pod(cluster, ns, "name", "Upper/Case", "", "");
    pod(cluster, ns, "never", "never:1", r#","imagePullPolicy":"Never""#, "");
    pod(cluster, ns, "nobody", &format!("{NODE_IP}:9/x:1"), "", "");
    wait_events(
        cluster,
        ns,
        "missing",
        &[
            &format!("Normal Pulling: Pulling image \"{missing}\""),
            &format!("Warning Failed: Failed to pull image \"{missing}\": "),
            "Warning Failed: Error: ErrImagePull",
            &format!("Normal BackOff: Back-off pulling image \"{missing}\""),
            "Warning Failed: Error: ImagePullBackOff",
        ],
    );
    cluster.wait_jsonpath(&["pod", "missing", "-n", ns], WAITING, "ImagePullBackOff");
    let message = get(cluster, ns, "missing", MESSAGE);
    assert!(
        message.starts_with(&format!("Back-off pulling image \"{missing}\": ErrImagePull: ")),
        "{message}"
    );
    assert!(message.contains("manifest unknown"), "{message}");
    let invalid = "Failed to apply default image tag \"Upper/Case\": couldn't parse image name \"Upper/Case\": invalid reference format: repository name (Upper/Case) must be lowercase";
    wait_events(
        cluster,
        ns,
        "name",
        &[&format!("Warning InspectFailed: {invalid}"), "Warning Failed: Error: InvalidImageName"],
    );
    cluster.wait_jsonpath(&["pod", "name", "-n", ns], WAITING, "InvalidImageName");
    assert_eq!(get(cluster, ns, "name", MESSAGE), invalid);
    let never = "Container image \"never:1\" is not present with pull policy of Never";
    let failed = "Warning Failed: Error: ErrImageNeverPull";
    wait_events(cluster, ns, "never", &[&format!("Warning ErrImageNeverPull: {never}"), failed]);
    assert_eq!(get(cluster, ns, "never", MESSAGE), never);
    cluster.wait_jsonpath(&["pod", "nobody", "-n", ns], WAITING, "ImagePullBackOff");
    assert!(get(cluster, ns, "nobody", MESSAGE).to_lowercase().contains("connection refused"));
    // What was missing comes: the pod goes on by itself.
    push(cluster, "1.35", "team/none:1");
    cluster.wait_pod_ready(ns, "missing");
    cluster.kubectl(&["delete", "pod", "--all", "-n", ns]);
}

/// At port 5001, with a password.
fn closed_registry(cluster: &Cluster) -> Registry {
    let password = cluster.host.directory.path().join("htpasswd");
    std::fs::write(&password, HTPASSWD).expect("writes");
    registry(cluster, 5001, &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", password.display()))
}

fn secrets_open_registries(cluster: &Cluster, ns: &str) {
    let _closed = closed_registry(cluster);
    let host = format!("{NODE_IP}:5001");
    let image = format!("{host}/team/app:1");
    secret(cluster, ns, "right", "secret");
    secret(cluster, ns, "wrong", "guessed");
    let entry = r#"{"auth":"dXNlcjpzZWNyZXQ="}"#;
    let old = format!(r#"{{"{host}/team":{entry}}}"#);
    let file = cluster.host.directory.path().join("dockercfg");
    std::fs::write(&file, old).expect("writes");
    cluster.kubectl(&[
        "create",
        "secret",
        "generic",
        "old",
        "-n",
        ns,
        "--type=kubernetes.io/dockercfg",
        &format!("--from-file=.dockercfg={}", file.display()),
    ]);
    let always = r#","imagePullPolicy":"Always""#;
    let secrets = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|n| format!(r#"{{"name":"{n}"}}"#)).collect();
        format!(r#","imagePullSecrets":[{}]"#, names.join(","))
    };
    pod(cluster, ns, "json", &image, always, &secrets(&["right"]));
    pod(cluster, ns, "cfg", &image, always, &secrets(&["old"]));
    pod(cluster, ns, "both", &image, always, &secrets(&["absent", "wrong", "right"]));
    pod(cluster, ns, "shut", &image, always, &secrets(&["wrong"]));
    pod(cluster, ns, "none", &image, always, "");
    for name in ["json", "cfg", "both"] {
        cluster.wait_pod_ready(ns, name);
    }
    let lost = "Warning FailedToRetrieveImagePullSecret: Unable to retrieve some image pull secrets (absent); attempting to pull the image may not succeed.";
    wait_events(cluster, ns, "both", &[lost]);
    for name in ["shut", "none"] {
        wait_events(cluster, ns, name, &["Warning Failed: Error: ErrImagePull"]);
        assert!(events(cluster, ns, name).contains("unauthorized"), "{name}");
    }
    let patch = r#"{"imagePullSecrets":[{"name":"right"}]}"#;
    cluster.kubectl(&["patch", "serviceaccount", "default", "-n", ns, "-p", patch]);
    pod(cluster, ns, "account", &image, always, "");
    cluster.wait_pod_ready(ns, "account");
    cluster.kubectl(&["delete", "pod", "--all", "-n", ns]);
}

const PULL_SECRET: &str = r#","imagePullSecrets":[{"name":"pull"}]"#;

/// An image that is on the node is for those who have shown credentials for it.
fn what_a_secret_opened_is_shut_for_others(cluster: &Cluster) {
    let closed = closed_registry(cluster);
    push(cluster, "1.36", "team/shut:1");
    let image = &format!("{NODE_IP}:5001/team/shut:1");
    let [owner, copies, rotates, stranger] =
        ["owner", "copies", "rotates", "stranger"].map(|ns| cluster.namespace(ns));
    for (ns, password) in
        [(&owner, "secret"), (&copies, "secret"), (&rotates, "secret"), (&stranger, "guessed")]
    {
        secret(cluster, ns, "pull", password);
    }
    pod(cluster, &owner, "first", image, "", PULL_SECRET);
    cluster.wait_pod_ready(&owner, "first");
    // Asked for nothing, the registry need not be there for who has the same credentials.
    drop(closed);
    let present = format!(
        "Normal Pulled: Container image \"{image}\" already present on machine and can be accessed by the pod"
    );
    pod(cluster, &copies, "copy", image, r#","imagePullPolicy":"Never""#, PULL_SECRET);
    wait_events(cluster, &copies, "copy", &[&present]);
    pod(cluster, &rotates, "before", image, "", PULL_SECRET);
    wait_events(cluster, &rotates, "before", &[&present]);
    // A secret that opened it once does so with a new password, and after a restart.
    let new = r#"{"auths":{"HOST":{"username":"user","password":"new"}}}"#
        .replace("HOST", &format!("{NODE_IP}:5001"));
    let patch = serde_json::json!({"stringData": {".dockerconfigjson": new}}).to_string();
    cluster.kubectl(&["patch", "secret", "pull", "-n", &rotates, "-p", &patch]);
    cluster.kill_server();
    cluster.launch();
    cluster.wait_ready();
    pod(cluster, &rotates, "after", image, "", PULL_SECRET);
    wait_events(cluster, &rotates, "after", &[&present]);
    // Others find nothing, or have to ask the registry.
    pod(cluster, &stranger, "never", image, r#","imagePullPolicy":"Never""#, PULL_SECRET);
    let never = format!("Container image \"{image}\" is not present with pull policy of Never");
    wait_events(cluster, &stranger, "never", &[&format!("Warning ErrImageNeverPull: {never}")]);
    pod(cluster, &stranger, "none", image, "", "");
    pod(cluster, &stranger, "wrong", image, "", PULL_SECRET);
    let failed = format!("Warning Failed: Failed to pull image \"{image}\": ");
    for name in ["none", "wrong"] {
        wait_events(
            cluster,
            &stranger,
            name,
            &[&format!("Normal Pulling: Pulling image \"{image}\""), &failed],
        );
    }
    let _closed = closed_registry(cluster);
    secret(cluster, &stranger, "right", "secret");
    pod(cluster, &stranger, "right", image, "", &PULL_SECRET.replace("pull\"", "right\""));
    cluster.wait_pod_ready(&stranger, "right");
    for ns in [owner, copies, rotates, stranger] {
        cluster.kubectl(&["delete", "pod", "--all", "-n", &ns]);
    }
}

fn images_without_layers_and_with_volumes(cluster: &Cluster, ns: &str) {
    let archive = cluster.host.directory.path().join("odd.tar");
    let archive = archive.to_str().expect("UTF-8");
    images::write_archive_of(std::path::Path::new(archive), &[("odd/empty:1", serde_json::json!({}))], None);
    kedge(cluster, &["images", "import", archive]);
    let volumes = serde_json::json!({"Volumes": {"/www": {}, "/fresh/dir": {}}, "Env": ["PATH=/bin"]});
    let layer = images::busybox_layer();
    images::write_archive_of(std::path::Path::new(archive), &[("odd/volumes:1", volumes)], Some(&layer));
    kedge(cluster, &["images", "import", archive]);
    // All that is in an image without layers is mounted there.
    cluster.apply(
        ns,
        r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"empty"},"spec":{"restartPolicy":"Never",
            "volumes":[{"name":"bin","hostPath":{"path":"/bin"}}],
            "containers":[{"name":"c","image":"odd/empty:1","command":["/tools/busybox","echo","it runs"],
            "volumeMounts":[{"name":"bin","mountPath":"/tools"}]}]}}"#,
    );
    cluster.wait_jsonpath(&["pod", "empty", "-n", ns], "{.status.phase}", "Succeeded");
    assert_eq!(cluster.kubectl(&["logs", "empty", "-n", ns]), "it runs\n");
    let readonly = r#","securityContext":{"readOnlyRootFilesystem":true}"#;
    pod(cluster, ns, "volumes", "odd/volumes:1", readonly, "");
    cluster.wait_pod_ready(ns, "volumes");
    let script = "cat /www/index.html; echo x > /www/new && echo y > /fresh/dir/new && cat /www/new; touch /no 2>&1; true";
    let said = cluster.kubectl(&["exec", "volumes", "-n", ns, "--", "sh", "-c", script]);
    assert!(said.contains("it works\nx\n") && said.contains("Read-only file system"), "{said}");
    cluster.kubectl(&["delete", "pod", "--all", "-n", ns]);
}

/// Names of the images in the Node's status.
fn node_images(cluster: &Cluster) -> String {
    cluster.kubectl(&["get", "node", "node-1", "-o", "jsonpath={.status.images[*].names}"])
}

fn images_that_come_from_elsewhere(cluster: &Cluster, ns: &str) {
    // A pod that waits for an import starts when that is done, and the Node tells of the image at once.
    pod(cluster, ns, "waits", "busybox:1.36", r#","imagePullPolicy":"Never""#, "");
    cluster.wait_jsonpath(&["pod", "waits", "-n", ns], WAITING, "ErrImageNeverPull");
    cluster.import_test_images();
    // Another image has more names than the status tells.
    wait_for("the image in the node's status", || {
        node_images(cluster).contains("docker.io/library/busybox:web")
    });
    cluster.wait_pod_ready(ns, "waits");
    // The watched directory: an archive, and a list of names.
    let directory = cluster.data_dir().join("agent/images");
    let archive = cluster.host.directory.path().join("named.tar");
    kedge(cluster, &["images", "export", "-o", archive.to_str().expect("UTF-8"), "busybox:1.35"]);
    kedge(cluster, &["images", "rm", "busybox:1.35"]);
    wait_for("the image to go", || !node_images(cluster).contains("docker.io/library/busybox:1.35"));
    std::fs::copy(&archive, directory.join("node.tar")).expect("copies");
    wait_for("the archive's image", || node_images(cluster).contains("docker.io/library/busybox:1.35"));
    push(cluster, "1.35", "team/listed:1");
    std::fs::write(directory.join("list.txt"), format!("# more\n{NODE_IP}:5000/team/listed:1\n"))
        .expect("writes");
    wait_for("the listed image", || node_images(cluster).contains("team/listed:1"));
}

fn the_command(cluster: &Cluster, ns: &str) {
    let list: serde_json::Value =
        serde_json::from_str(&kedge(cluster, &["images", "ls", "-o", "json"])).expect("JSON");
    let all = list["images"].as_array().expect("a list");
    let find = |name: &str| {
        let has =
            |i: &&serde_json::Value| i["repoTags"].as_array().is_some_and(|t| t.iter().any(|t| t == name));
        all.iter().find(has).unwrap_or_else(|| panic!("{name} in {list}"))
    };
    let (used, kept) = (find("docker.io/library/busybox:1.36"), find("docker.io/library/busybox:1.35"));
    assert_eq!((&used["pinned"], &kept["pinned"]), (&false.into(), &true.into()));
    assert!(kedge(cluster, &["images", "ls", "-q"]).contains(used["id"].as_str().expect("an id")));
    let shown = kedge(cluster, &["images", "inspect", "busybox:1.36"]);
    assert!(shown.contains("\"VERSION=1.36\"") && shown.contains("\"layers\""), "{shown}");
    // One name of several may go; the last one of what a container has may not, nor is that pruned, nor
    // what was dropped in.
    for name in ["5000/team/app:1", "5001/team/app:1", "5001/team/shut:1"] {
        kedge(cluster, &["images", "rm", &format!("{NODE_IP}:{name}")]);
    }
    for name in ["busybox:1.36", used["id"].as_str().expect("an id")] {
        let output = cluster.kedge(&["images", "rm", name]).output().expect("runs");
        assert!(
            !output.status.success() && show(&output).contains("in use by a container"),
            "{}",
            show(&output)
        );
    }
    let archive = cluster.host.directory.path().join("spare.tar");
    let archive = archive.to_str().expect("UTF-8");
    kedge(cluster, &["images", "export", "-o", archive, "busybox:1.36"]);
    kedge(cluster, &["images", "import", "--name", "spare/image:1", archive]);
    assert!(kedge(cluster, &["images", "ls"]).contains("docker.io/spare/image:1"));
    let pull = cluster.kedge(&["images", "pull", &format!("{NODE_IP}:5000/team/app:1")]).output();
    let pull = pull.expect("runs");
    assert!(pull.status.success() && show(&pull).contains("pulled"), "{}", show(&pull));
    assert!(kedge(cluster, &["images", "prune"]).contains(" became free"));
    let after = kedge(cluster, &["images", "ls"]);
    for name in ["busybox:1.36", "busybox:1.35", "kedge.local/demo:1"] {
        assert!(after.contains(name), "{name} in {after}");
    }
    assert!(!after.contains("spare/image:1"), "{after}");
    let exported = cluster.host.sh(&format!(
        "{} images export --data-dir {} busybox:1.36 | tar tf -",
        harness::executable().display(),
        cluster.data_dir().display()
    ));
    assert!(exported.contains("manifest.json") && exported.contains("index.json"), "{exported}");
    cluster.kubectl(&["delete", "pod", "--all", "-n", ns]);
}

#[test]
fn a_disk_above_its_threshold_loses_what_nobody_uses() {
    // Every disk is fuller than one percent.
    let cluster = Cluster::start(
        "collect",
        &[
            "--kubelet-arg=image-gc-high-threshold=1",
            "--kubelet-arg=image-gc-low-threshold=0",
            "--kubelet-arg=minimum-image-ttl-duration=1s",
            "--kubelet-arg=eviction-hard=nodefs.available<1%",
        ],
    );
    let ns = &cluster.namespace("collect");
    cluster.import_test_images();
    pod(&cluster, ns, "uses", "busybox:1.36", r#","imagePullPolicy":"Never""#, "");
    cluster.wait_pod_ready(ns, "uses");
    let archive = cluster.host.directory.path().join("one.tar");
    let archive = archive.to_str().expect("UTF-8");
    let has = |name: &str| kedge(&cluster, &["images", "ls"]).contains(name);
    kedge(&cluster, &["images", "export", "-o", archive, "busybox:1.36"]);
    wait_for("the unused image to go once it is old enough", || {
        // Each import is a cause to look.
        kedge(&cluster, &["images", "import", "--name", "another:1", archive]);
        !has("busybox:1.35")
    });
    assert!(has("busybox:1.36") && has("kedge.local/demo:1"));
    let field = "--field-selector=reason=FreeDiskSpaceFailed";
    wait_for("the event", || {
        cluster
            .kubectl(&["get", "events", "-A", field, "-o", "jsonpath={..message}"])
            .contains("Failed to garbage collect required amount of images. Attempted to free ")
    });
}
