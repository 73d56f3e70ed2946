//! exec, attach, cp and port-forward, over WebSocket and SPDY.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::harness::{Cluster, NODE_IP, PATIENCE, show, wait_until};
use crate::{kubectls, pod, with_kubectl};

/// All cases.
pub fn all(cluster: &Cluster) {
    let ns = cluster.namespace("streams");
    let line = "head -c 20000000 /dev/urandom > /www/big; echo 10 > /www/small; echo '<a href=\"/rewriteme\">test</a>' > /www/page.html; mkdir /www/sub; \
                echo below > /www/sub/index.html; httpd -p 8080 -h /www; nc -ll -p 9000 -e cat & \
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
        with.attached_input();
        with.half_closed();
    }
    proxies(cluster, &ns);
    host_ports(cluster, &ns);
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
            error.contains(
                "Internal error occurred: error executing command in container: failed to exec in container: OCI runtime \
                 exec failed: exec failed: unable to start container process: exec: \"surely-none\": executable file not \
                 found in $PATH"
            ),
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
        let script = "rm -f forwarded errors; $K port-forward pod/web :81 > forwarded 2> errors & p=$!; trap 'kill $p 2>/dev/null || true' EXIT
            for i in $(seq 300); do grep -qs 'from 127.0.0.1' forwarded && break; sleep 0.1; done
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

    /// Whose input ends is let go, and the container's input ends only if it is to be read once.
    fn attached_input(&self) {
        for (name, once, words) in
            [("more", "", "got a\ngot b\n"), ("once", r#","stdinOnce":true"#, "got b\nend\n")]
        {
            let line = "while read l; do echo got $l; done; echo end; sleep 9999";
            pod(self.cluster, self.ns, name, line, &format!(r#","stdin":true{once}"#));
            self.cluster.wait_pod_ready(self.ns, name);
            if once.is_empty() {
                self.shell("echo a | timeout 60 $K attach -i more --quiet");
            } else {
                // Somebody who only listens does not end the input.
                self.shell("timeout 2 $K attach once --quiet || true");
            }
            let mut second = self.command(&["attach", "-i", name, "-n", self.ns, "--quiet"]);
            let mut second =
                second.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("kubectl runs");
            let mut input = second.stdin.take().expect("piped");
            std::io::Write::write_all(&mut input, b"b\n").expect("written");
            drop(input);
            crate::until(self.cluster, &["logs", name, "-n", self.ns], |text| text == words);
            if once.is_empty() {
                wait_end(&mut second, "an attachment whose input ended");
            }
            let _ = second.kill();
            let _ = second.wait();
            self.cluster.kubectl(&["delete", "pod", name, "-n", self.ns]);
        }
    }

    /// A client that has said all is still answered.
    fn half_closed(&self) {
        let script = "rm -f forwarded errors; $K port-forward pod/web :9000 :8080 > forwarded 2> errors & p=$!; trap 'kill $p 2>/dev/null || true' EXIT
            for i in $(seq 300); do [ $(grep -s 127.0.0.1 forwarded | wc -l) = 2 ] && break; sleep 0.1; done
            port=$(sed -n 's/.*127.0.0.1:\\([0-9]*\\) -> 9000.*/\\1/p' forwarded)
            head -c 30000000 /dev/urandom > echoed; /bin/busybox nc 127.0.0.1 $port < echoed > back.echo
            cmp echoed back.echo && echo same; rm echoed back.echo; cat errors";
        assert_eq!(self.shell(script), "same\n", "{}", self.what);
    }

    fn many_connections(&self) {
        let script = "rm -f forwarded errors; $K port-forward pod/web :8080 > forwarded 2> errors & p=$!; trap 'kill $p 2>/dev/null || true' EXIT
            for i in $(seq 300); do grep -qs 'from 127.0.0.1' forwarded && break; sleep 0.1; done
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
    for base in ["pods/web:8080/proxy", "services/web:main/proxy"] {
        let page = get(&format!("{base}/page.html"));
        assert_eq!(page, format!("<a href=\"/api/v1/namespaces/{ns}/{base}/rewriteme\">test</a>\n"));
        assert_eq!(get(&format!("{base}/sub")), "below\n", "the redirect leads through the proxy");
    }
    let refused = format!("/api/v1/namespaces/{ns}/pods/web:81/proxy/");
    let refused = cluster.kubectl_fails(&["get", "--raw", &refused, "-v=8"]);
    let wanted = ":81: connect: connection refused";
    assert!(
        refused.contains("error trying to reach service: dial tcp ") && refused.contains(wanted),
        "{refused}"
    );
    let missing =
        cluster.kubectl_fails(&["get", "--raw", &format!("/api/v1/namespaces/{ns}/services/none/proxy/")]);
    assert!(missing.contains("services \"none\" not found"), "{missing}");
}

/// One number may be had for TCP and UDP, and on each address by another.
fn host_ports(cluster: &Cluster, ns: &str) {
    let pod = |name: &str, ip: &str| {
        // Perl, which is on every Debian, answers the datagrams.
        let line = format!(
            r#"echo {name} > /www/index.html; httpd -p 5353 -h /www; busybox chroot /machine perl -MIO::Socket -e
            '$s = IO::Socket::INET->new(Proto => "udp", LocalPort => 5353); while ($s->recv($m, 99)) {{ $s->send("{name}\n") }}'"#
        );
        let manifest = serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "terminationGracePeriodSeconds": 1,
            "volumes": [{"name": "machine", "hostPath": {"path": "/"}}],
            "containers": [{"name": "c", "image": "busybox:1.36", "command": ["sh", "-c", line.replace('\n', " ")],
                "volumeMounts": [{"name": "machine", "mountPath": "/machine"}],
                "ports": [{"name": "u", "containerPort": 5353, "hostPort": 5300, "hostIP": ip, "protocol": "UDP"},
                    {"name": "t", "containerPort": 5353, "hostPort": 5300, "hostIP": ip}]}]}});
        cluster.apply(ns, &manifest.to_string());
        cluster.wait_pod_ready(ns, name);
    };
    pod("local", "127.0.0.1");
    pod("outside", NODE_IP);
    for (address, name) in [("127.0.0.1", "local"), (NODE_IP, "outside")] {
        let tcp =
            cluster.host.sh(&format!("curl -s -m 20 --retry 5 --retry-connrefused http://{address}:5300/"));
        assert_eq!(tcp.trim(), name);
        let udp = format!(
            "for i in 1 2 3 4 5; do exec 3<>/dev/udp/{address}/5300; echo ping >&3; \
             timeout 4 head -n 1 <&3 && exit; done; exit 1"
        );
        let output = cluster.host.command("bash").args(["-c", &udp]).output().expect("bash runs");
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).trim(),
            name,
            "UDP to {address}: {}",
            show(&output)
        );
    }
    cluster.kubectl(&["delete", "pod", "local", "outside", "-n", ns]);
}

/// The node's time for streams on which nothing moves is shorter than the pause between kubectl's pings.
pub fn an_idle_stream_is_closed(cluster: &Cluster) {
    let ns = cluster.namespace("idle");
    pod(cluster, &ns, "idle", "sleep 9999", "");
    cluster.wait_pod_ready(&ns, "idle");
    let mut exec =
        cluster.kubectl_command(&["exec", "idle", "-n", &ns, "--", "sh", "-c", "echo in; sleep 9999"]);
    let mut exec = exec.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("kubectl runs");
    let mut first = String::new();
    BufReader::new(exec.stdout.take().expect("piped")).read_line(&mut first).expect("read");
    assert_eq!(first, "in\n");
    wait_end(&mut exec, "an idle exec");
    assert!(!exec.wait().expect("waited").success(), "it did not end by itself");
    assert!(cluster.log().contains("an idle stream was closed"), "{}", cluster.tail());
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
