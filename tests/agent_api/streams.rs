//! exec, attach, cp and port-forward, over WebSocket and SPDY.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::harness::{Cluster, PATIENCE, show, wait_until};
use crate::{kubectls, pod, with_kubectl};

/// All cases.
pub fn all(cluster: &Cluster) {
    let ns = cluster.namespace("streams");
    let line = "head -c 20000000 /dev/urandom > /www/big; echo 10 > /www/small; httpd -p 8080 -h /www; \
                trap 'exit 0' TERM; while true; do sleep 0.2; done";
    pod(cluster, &ns, "web", line, r#","ports":[{"name":"http","containerPort":8080}]"#);
    cluster.wait_pod_ready(&ns, "web");
    let service = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},"spec":{"selector":{"app":"web"},
        "ports":[{"name":"main","port":80,"targetPort":"http"}]}}"#;
    cluster.apply(&ns, service);
    for (name, kubectl) in kubectls() {
        for web_sockets in [true, false] {
            let with = With {
                cluster,
                ns: &ns,
                kubectl: &kubectl,
                web_sockets,
                what: format!("{name} {web_sockets}"),
            };
            with.exit_codes();
            with.terminal();
            with.refused_port();
        }
    }
    for web_sockets in [true, false] {
        let kubectl = Path::new("kubectl");
        let with = With { cluster, ns: &ns, kubectl, web_sockets, what: format!("{web_sockets}") };
        with.much_both_ways();
        with.copies();
        with.runs();
        with.many_connections();
    }
    proxies(cluster, &ns);
    ends(cluster, &ns);
}

struct With<'a> {
    cluster: &'a Cluster,
    ns: &'a str,
    kubectl: &'a Path,
    web_sockets: bool,
    what: String,
}

impl With<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = with_kubectl(self.cluster, self.kubectl, arguments);
        let value = self.web_sockets.to_string();
        command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", &value);
        command.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", value);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("kubectl runs")
    }

    fn exec(&self, line: &str) -> Output {
        self.run(&["exec", "web", "-n", self.ns, "--", "sh", "-c", line])
    }

    /// A shell line with `$K` for kubectl in the namespace; it must succeed.
    fn shell(&self, line: &str) -> String {
        let line = format!(
            "K='{} -n {}'; set -e; cd '{}'; {line}",
            self.kubectl.display(),
            self.ns,
            self.directory()
        );
        let mut command = with_kubectl(self.cluster, Path::new("bash"), &["-c", &line]);
        let value = self.web_sockets.to_string();
        command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", &value);
        command.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", value);
        let output = command.output().expect("bash runs");
        assert!(output.status.success(), "{} {line}\n{}\n{}", self.what, show(&output), self.cluster.tail());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn directory(&self) -> String {
        self.cluster.host.directory.path().display().to_string()
    }

    fn exit_codes(&self) {
        for (line, code) in [("echo out; echo err >&2; exit 7", 7), ("kill -9 $$", 137), ("surely-none", 127)]
        {
            let output = self.exec(line);
            assert_eq!(output.status.code(), Some(code), "{} {line}: {}", self.what, show(&output));
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                error.ends_with(&format!("command terminated with exit code {code}\n")),
                "{}: {error}",
                self.what
            );
        }
        let missing = self.run(&["exec", "web", "-n", self.ns, "--", "surely-none"]);
        let error = String::from_utf8_lossy(&missing.stderr).into_owned();
        assert!(
            error.contains("exec: \"surely-none\": executable file not found in $PATH"),
            "{}: {error}",
            self.what
        );
    }

    fn terminal(&self) {
        let inside = "until [ \"$(stty size)\" = \"33 99\" ]; do sleep 0.1; done; echo sized";
        let line =
            format!("stty rows 33 cols 99; $K exec -it web -- sh -c '{}'", inside.replace('\'', "'\\''"));
        let line = format!("export K; script -qec '{}' /dev/null", line.replace('\'', "'\\''"));
        let output = self.shell(&line);
        assert!(output.contains("sized"), "{}: {output}", self.what);
    }

    fn refused_port(&self) {
        let script = "$K port-forward pod/web :81 > forwarded 2> errors & p=$!; trap 'kill $p 2>/dev/null || true' EXIT
            for i in $(seq 300); do grep -qs Forwarding forwarded && break; sleep 0.1; done
            port=$(sed -n 's/.*127.0.0.1:\\([0-9]*\\) .*/\\1/p' forwarded)
            for i in $(seq 20); do curl -s http://127.0.0.1:$port/ || true
            grep -qs 'error forwarding port 81 to pod web' errors && break; sleep 0.1; done; cat errors";
        let errors = self.shell(script);
        let wanted = "error forwarding port 81 to pod web, uid ";
        assert!(errors.contains(wanted) && errors.contains("connection refused"), "{}: {errors}", self.what);
    }

    /// A process that writes as it reads: neither side may wait for the other to finish.
    fn much_both_ways(&self) {
        let sums = self.shell(
            "head -c 50000000 /dev/urandom > sent; $K exec -i web -- cat < sent > got; cmp sent got && echo same; rm got",
        );
        assert_eq!(sums, "same\n", "{}", self.what);
        // Input that ends is told apart from input that only pauses.
        let half = self.shell("(echo a; sleep 1; echo b) | $K exec -i web -- sh -c 'cat; echo end'");
        assert_eq!(half, "a\nb\nend\n", "{}", self.what);
    }

    fn copies(&self) {
        let same = self.shell(
            "rm -rf tree back; mkdir -p tree/deep/er; echo small > tree/deep/er/file; head -c 10000000 /dev/urandom > tree/big
            $K cp tree web:/tmp/tree; $K cp web:/tmp/tree back >/dev/null; diff -r tree back && echo same; $K exec web -- rm -r /tmp/tree",
        );
        assert_eq!(same, "same\n", "{}", self.what);
    }

    /// What is run for a moment says what it says once.
    fn runs(&self) {
        for number in 0..4 {
            let run = format!("$K run once{number} --image=busybox:1.36 --restart=Never --rm -i --quiet");
            assert_eq!(
                self.shell(&format!("{run} -- echo once </dev/null")),
                "once\n",
                "{} {number}",
                self.what
            );
            assert_eq!(self.shell(&format!("echo data | {run} -- cat")), "data\n", "{} {number}", self.what);
        }
        let much = "$K run much --image=busybox:1.36 --restart=Never --rm -i --quiet -- \
                    sh -c 'read x; head -c 20000000 /dev/zero' <<< go | (sleep 1; wc -c)";
        assert_eq!(self.shell(much).trim(), "20000000", "{}: a slow reader gets all", self.what);
    }

    fn many_connections(&self) {
        let script = "$K port-forward pod/web :8080 > forwarded 2> errors & p=$!; trap 'kill $p 2>/dev/null || true' EXIT
            for i in $(seq 300); do grep -qs Forwarding forwarded && break; sleep 0.1; done
            port=$(sed -n 's/.*127.0.0.1:\\([0-9]*\\) .*/\\1/p' forwarded)
            for i in 1 2 3; do curl -s http://127.0.0.1:$port/big | wc -c > size$i & jobs[$i]=$!; done
            curl -s http://127.0.0.1:$port/small; wait ${jobs[1]} ${jobs[2]} ${jobs[3]}; cat size1 size2 size3";
        assert_eq!(self.shell(script), "10\n20000000\n20000000\n20000000\n", "{}", self.what);
    }
}

fn proxies(cluster: &Cluster, ns: &str) {
    let get = |path: &str| cluster.kubectl(&["get", "--raw", &format!("/api/v1/namespaces/{ns}/{path}")]);
    assert_eq!(get("pods/web/proxy/small"), "10\n");
    assert_eq!(get("pods/http:web:8080/proxy/small"), "10\n");
    assert_eq!(get("services/web:main/proxy/small"), "10\n");
    assert_eq!(get("services/http:web:80/proxy/small"), "10\n");
    let missing =
        cluster.kubectl_fails(&["get", "--raw", &format!("/api/v1/namespaces/{ns}/services/none/proxy/")]);
    assert!(missing.contains("services \"none\" not found"), "{missing}");
}

fn wait_end(child: &mut Child, what: &str) {
    assert!(wait_until(PATIENCE, || child.try_wait().expect("waited").is_some()), "{what} ends");
}

/// What is connected when a pod ends.
fn ends(cluster: &Cluster, ns: &str) {
    let start = |arguments: &[&str]| {
        cluster
            .kubectl_command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("kubectl runs")
    };
    let mut exec = start(&["exec", "web", "-n", ns, "--", "sh", "-c", "echo in; sleep 9999"]);
    let mut first = String::new();
    BufReader::new(exec.stdout.take().expect("piped")).read_line(&mut first).expect("read");
    assert_eq!(first, "in\n");
    let mut forward = start(&["port-forward", "pod/web", "-n", ns, ":8080"]);
    let mut first = String::new();
    BufReader::new(forward.stdout.take().expect("piped")).read_line(&mut first).expect("read");
    assert!(first.starts_with("Forwarding"), "{first}");
    cluster.kubectl(&["delete", "pod", "web", "-n", ns]);
    wait_end(&mut exec, "exec into a deleted pod");
    let _ = forward.kill();
    wait_end(&mut forward, "port-forward");
    cluster.kubectl(&["run", "done", "-n", ns, "--image=busybox:1.36", "--restart=Never", "--", "true"]);
    cluster.wait_jsonpath(&["pod", "done", "-n", ns], "{.status.phase}", "Succeeded");
    let ended = cluster.kubectl_fails(&["exec", "done", "-n", ns, "--", "true"]);
    assert!(
        ended.contains("cannot exec into a container in a completed pod; current phase is Succeeded"),
        "{ended}"
    );
}
