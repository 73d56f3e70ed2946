//! Environment, commands and names of pods: the real executable, real containers, real kubectl. Needs root.

#[path = "cluster/harness.rs"]
#[allow(dead_code, reason = "the harness serves other tests too")]
mod harness;
#[path = "cluster/images.rs"]
#[allow(dead_code, reason = "the images serve other tests too")]
mod images;
#[path = "agent_support/mod.rs"]
mod support;

use std::collections::BTreeMap;

use harness::{Cluster, NODE_IP};
use serde_json::{Value, json};
use support::{Place, container, one, with};

#[test]
fn environment_commands_and_names() {
    let cluster = Cluster::start("env", &[]);
    cluster.import_test_images();
    let place = Place::new(&cluster, "env");
    place.make("ConfigMap", "cm", json!({"data": {"a": "from map", "1st-key": "odd", "same": "map"}}));
    place.make("Secret", "sec", json!({"stringData": {"b": "from secret", "same": "secret"}}));
    place.make(
        "Service",
        "my-db",
        json!({"spec": {"selector": {"a": "b"}, "ports": [
        {"name": "sql", "port": 5432}, {"name": "web-ui", "port": 80, "protocol": "UDP"}]}}),
    );
    place.pods(&environments());
    place.pods(&names());
    variables_of_every_source(&place);
    services(&place);
    commands(&place);
    files_of_variables(&place);
    what_is_missing(&place);
    host_names_and_hosts(&place);
    resolvers(&place);
    namespaces_of_the_host(&place);
    ports_of_the_host(&place);
}

/// The environment a pod printed.
fn printed(place: &Place, pod: &str) -> BTreeMap<String, String> {
    place.until(pod, "{.status.phase}", |p| p == "Succeeded");
    let logs = place.logs(pod);
    logs.lines().filter_map(|l| l.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn once(fields: Value) -> Value {
    with(one(fields), json!({"restartPolicy": "Never"}))
}

fn environments() -> Vec<(&'static str, Value)> {
    let field =
        |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let resource = |name: &str, of: &str, divisor: &str| json!({"name": name, "valueFrom": {"resourceFieldRef": {"resource": of, "divisor": divisor}}});
    let key = |name: &str, kind: &str, object: &str, key: &str, optional: bool| json!({"name": name, "valueFrom": {kind: {"name": object, "key": key, "optional": optional}}});
    let env = json!([
        {"name": "PLAIN", "value": "x"},
        {"name": "COMPOSED", "value": "$(PLAIN)-$(P_a)-$(MY_DB_SERVICE_PORT)-$(LATER)-$$(PLAIN)-$(P_1st-key)"},
        {"name": "LATER", "value": "too late"},
        {"name": "EMPTY"},
        {"name": "same", "value": "env"},
        field("NAME", "metadata.name"), field("NS", "metadata.namespace"), field("UID", "metadata.uid"),
        field("LABEL", "metadata.labels['app']"), field("NOTE", "metadata.annotations['note']"),
        field("NODE", "spec.nodeName"), field("SA", "spec.serviceAccountName"),
        field("HOST", "status.hostIP"), field("HOSTS", "status.hostIPs"),
        field("IP", "status.podIP"), field("IPS", "status.podIPs"),
        resource("CPU", "limits.cpu", "1m"), resource("CPUS", "limits.cpu", "1"),
        resource("MEMORY", "limits.memory", "1Mi"), resource("ASKED", "requests.memory", "1"),
        resource("DISK", "requests.ephemeral-storage", "1Mi"),
        key("FROM_MAP", "configMapKeyRef", "cm", "a", false),
        key("FROM_SECRET", "secretKeyRef", "sec", "b", false),
        key("NO_KEY", "configMapKeyRef", "cm", "none", true),
        key("NO_SECRET", "secretKeyRef", "none", "b", true),
    ]);
    let all = json!({"command": ["env"], "env": env,
        "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}, {"configMapRef": {"name": "cm"}},
            {"secretRef": {"name": "sec"}}, {"secretRef": {"name": "none", "optional": true}}],
        "resources": {"limits": {"cpu": "250m", "memory": "64Mi"}, "requests": {"memory": "32Mi",
            "ephemeral-storage": "3Mi"}}});
    let limitless = json!({"command": ["env"], "env": [resource("CPUS", "limits.cpu", "1"),
        resource("MEMORY", "limits.memory", "1"), resource("DISK", "limits.ephemeral-storage", "1")]});
    let reference = |name: &str, key: &str| json!({"name": name, "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "dir/env", "key": key, "optional": name == "NONE"}}});
    let written = "mkdir -p /v/dir && printf \"# c\\nA='1'\\nB='two\\nlines'\\n\" > /v/dir/env";
    let mut files = once(
        json!({"command": ["env"], "env": [reference("ONE", "A"), reference("TWO", "B"), reference("NONE", "C")]}),
    );
    files["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
    files["initContainers"] = json!([with(
        container(
            json!({"command": ["sh", "-c", written], "volumeMounts": [{"name": "v", "mountPath": "/v"}]})
        ),
        json!({"name": "writer"})
    )]);
    let wrong = |env: Value| one(json!({"env": env}));
    vec![
        ("all", once(all)),
        ("limitless", once(limitless)),
        ("files", files),
        ("nolinks", with(once(json!({"command": ["env"]})), json!({"enableServiceLinks": false}))),
        ("nomap", wrong(json!([key("A", "configMapKeyRef", "later", "a", false)]))),
        ("nokey", wrong(json!([key("A", "configMapKeyRef", "cm", "none", false)]))),
        ("nosecret", one(json!({"envFrom": [{"secretRef": {"name": "later"}}]}))),
        ("nosecretkey", wrong(json!([key("A", "secretKeyRef", "sec", "none", false)]))),
        (
            "command",
            once(
                json!({"command": ["sh", "-c", "pwd; echo \"$@\"", "$(NAME)"], "args": ["$(NAME)", "$$(NAME)", "$(NONE)"],
                "workingDir": "/made/for/this", "env": [{"name": "NAME", "value": "v"}]}),
            ),
        ),
        ("terminal", once(json!({"command": ["sh", "-c", "busybox tty; echo $TERM"], "tty": true}))),
    ]
}

fn variables_of_every_source(place: &Place) {
    // Labels and annotations are read at the start.
    let env = printed(place, "all");
    for (name, expected) in [
        ("PLAIN", "x"),
        ("COMPOSED", "x-from map-5432-$(LATER)-$(PLAIN)-odd"),
        ("EMPTY", ""),
        ("same", "env"),
        ("P_same", "map"),
        ("P_1st-key", "odd"),
        ("1st-key", "odd"),
        ("NAME", "all"),
        ("NS", place.ns.as_str()),
        ("LABEL", ""),
        ("NOTE", ""),
        ("NODE", "node-1"),
        ("SA", "default"),
        ("HOST", NODE_IP),
        ("HOSTS", NODE_IP),
        ("CPU", "250"),
        ("CPUS", "1"),
        ("MEMORY", "64"),
        ("ASKED", "33554432"),
        ("DISK", "3"),
        ("FROM_MAP", "from map"),
        ("FROM_SECRET", "from secret"),
        ("b", "from secret"),
        ("HOSTNAME", "all"),
        ("VERSION", "1.36"),
        ("HOME", "/root"),
        ("PATH", "/bin"),
    ] {
        assert_eq!(env.get(name).map(String::as_str), Some(expected), "{name}");
    }
    assert_eq!(env["UID"], place.get("all", "{.metadata.uid}"));
    assert_eq!((&env["IP"], &env["IPS"]), (&place.get("all", "{.status.podIP}"), &env["IP"]));
    for absent in ["NO_KEY", "NO_SECRET"] {
        assert!(!env.contains_key(absent), "{absent}");
    }
    let node = |what: &str| {
        place.cluster.kubectl(&[
            "get",
            "node",
            "node-1",
            "-o",
            &format!("jsonpath={{.status.allocatable.{what}}}"),
        ])
    };
    let limitless = printed(place, "limitless");
    assert_eq!(limitless["CPUS"], node("cpu"));
    for name in ["MEMORY", "DISK"] {
        assert!(limitless[name].parse::<u64>().is_ok_and(|v| v > 1 << 24), "{name}: {}", limitless[name]);
    }
}

fn services(place: &Place) {
    let env = printed(place, "all");
    let ip = place.cluster.kubectl(&[
        "get",
        "service",
        "my-db",
        "-n",
        &place.ns,
        "-o",
        "jsonpath={.spec.clusterIP}",
    ]);
    for (name, expected) in [
        ("MY_DB_SERVICE_HOST", ip.clone()),
        ("MY_DB_SERVICE_PORT", "5432".into()),
        ("MY_DB_SERVICE_PORT_SQL", "5432".into()),
        ("MY_DB_SERVICE_PORT_WEB_UI", "80".into()),
        ("MY_DB_PORT", format!("tcp://{ip}:5432")),
        ("MY_DB_PORT_5432_TCP", format!("tcp://{ip}:5432")),
        ("MY_DB_PORT_5432_TCP_PROTO", "tcp".into()),
        ("MY_DB_PORT_5432_TCP_PORT", "5432".into()),
        ("MY_DB_PORT_5432_TCP_ADDR", ip.clone()),
        ("MY_DB_PORT_80_UDP", format!("udp://{ip}:80")),
        ("KUBERNETES_SERVICE_PORT", "443".into()),
        ("KUBERNETES_SERVICE_PORT_HTTPS", "443".into()),
    ] {
        assert_eq!(env.get(name), Some(&expected), "{name}");
    }
    let without = printed(place, "nolinks");
    assert!(!without.keys().any(|k| k.starts_with("MY_DB")), "{without:?}");
    assert_eq!(without.get("KUBERNETES_SERVICE_HOST"), env.get("KUBERNETES_SERVICE_HOST"));
}

fn commands(place: &Place) {
    place.wait("command", "{.status.phase}", "Succeeded");
    assert_eq!(place.logs("command"), "/made/for/this\nv $(NAME) $(NONE)\n");
    place.wait("terminal", "{.status.phase}", "Succeeded");
    assert_eq!(place.logs("terminal").replace('\r', ""), "/dev/pts/0\nxterm\n");
}

fn files_of_variables(place: &Place) {
    place.wait("files", "{.status.phase}", "Succeeded");
    let logs = place.logs("files");
    assert!(
        logs.contains("ONE=1\n") && logs.contains("TWO=two\nlines\n") && !logs.contains("NONE="),
        "{logs}"
    );
}

fn what_is_missing(place: &Place) {
    let waiting = "{.status.containerStatuses[0].state.waiting.reason}: {.status.containerStatuses[0].state.waiting.message}";
    let ns = &place.ns;
    for (pod, problem) in [
        ("nomap", "configmap \"later\" not found".to_owned()),
        ("nosecret", "secret \"later\" not found".to_owned()),
        ("nokey", format!("couldn't find key none in ConfigMap {ns}/cm")),
        ("nosecretkey", format!("couldn't find key none in Secret {ns}/sec")),
    ] {
        place.wait(pod, waiting, &format!("CreateContainerConfigError: {problem}"));
        place.event(pod, &format!("Failed: Error: {problem}"));
    }
    place.make("ConfigMap", "later", json!({"data": {"a": "here"}}));
    place.make("Secret", "later", json!({"stringData": {"A": "here"}}));
    for pod in ["nomap", "nosecret"] {
        place.ready(pod);
        assert_eq!(place.exec(pod, "echo $A"), "here\n");
    }
}

fn names() -> Vec<(&'static str, Value)> {
    let pod = |fields: Value| with(one(json!({})), fields);
    let aliases = json!([{"ip": "1.2.3.4", "hostnames": ["a", "b"]}, {"ip": "5.6.7.8", "hostnames": ["c"]}]);
    let dns = json!({"nameservers": ["1.1.1.1"], "searches": ["my.lan"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]});
    let many = json!({"nameservers": ["1.1.1.1", "1.1.1.2", "1.1.1.3"], "searches": ["x.y"]});
    let mut shared = one(json!({}));
    shared["shareProcessNamespace"] = json!(true);
    shared["containers"]
        .as_array_mut()
        .expect("a list")
        .push(with(container(json!({"command": ["sleep", "7777"]})), json!({"name": "other"})));
    let port = json!({"command": ["httpd", "-f", "-p", "80", "-h", "/www"], "ports": [
        {"containerPort": 80, "hostPort": 18081}, {"containerPort": 80, "hostPort": 18082, "hostIP": "127.0.0.1"}]});
    let host = json!({"hostNetwork": true, "hostPID": true, "hostIPC": true, "hostAliases": aliases});
    vec![
        ("plain", pod(json!({"hostAliases": aliases}))),
        ("named", pod(json!({"hostname": "h", "subdomain": "sub"}))),
        ("full", pod(json!({"hostname": "h", "subdomain": "sub", "setHostnameAsFQDN": true}))),
        (
            "too-long-for-the-kernel",
            pod(json!({"subdomain": "this-subdomain-is-quite-long-for-a-name", "setHostnameAsFQDN": true})),
        ),
        ("override", pod(json!({"hostnameOverride": "any.name"}))),
        ("a-pod-whose-name-is-longer-than-what-the-kernel-takes-for-x.host-name", pod(json!({}))),
        ("default", pod(json!({"dnsPolicy": "Default"}))),
        ("none", pod(json!({"dnsPolicy": "None", "dnsConfig": dns}))),
        ("merged", pod(json!({"dnsConfig": dns}))),
        ("many", pod(json!({"dnsConfig": many}))),
        ("host", pod(host)),
        ("hostdns", pod(json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}))),
        ("shared", shared),
        ("port", one(port)),
    ]
}

fn host_names_and_hosts(place: &Place) {
    let ns = &place.ns;
    for (pod, name) in [
        ("plain", "plain"),
        ("named", "h"),
        ("full", &format!("h.sub.{ns}.svc.cluster.local")),
        ("override", "any.name"),
        (
            "a-pod-whose-name-is-longer-than-what-the-kernel-takes-for-x.host-name",
            "a-pod-whose-name-is-longer-than-what-the-kernel-takes-for-x.hos",
        ),
    ] {
        place.ready(pod);
        assert_eq!(
            place.exec(pod, "hostname; echo $HOSTNAME; cat /etc/hostname"),
            format!("{name}\n{name}\n{name}\n")
        );
    }
    let text = "Failed to create pod sandbox: failed to construct FQDN from pod hostname and cluster domain, FQDN too-long";
    place.event("too-long-for-the-kernel", text);
    let head = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
        fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";
    let added = "\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n5.6.7.8\tc\n";
    let ip = |pod: &str| place.get(pod, "{.status.podIP}");
    assert_eq!(place.exec("plain", "cat /etc/hosts"), format!("{head}{}\tplain\n{added}", ip("plain")));
    let named = format!("{head}{}\th.sub.{ns}.svc.cluster.local\th\n", ip("named"));
    assert_eq!(place.exec("named", "cat /etc/hosts"), named);
    let of_host = place.exec("host", "cat /etc/hosts");
    let node = place.cluster.host.sh("cat /etc/hosts");
    assert_eq!(of_host, format!("# Kubernetes-managed hosts file (host network).\n{node}{added}"));
}

fn resolvers(place: &Place) {
    let ns = &place.ns;
    let read = |pod: &str| {
        place.ready(pod);
        place.exec(pod, "cat /etc/resolv.conf")
    };
    let cluster = format!("search {ns}.svc.cluster.local svc.cluster.local cluster.local");
    let plain = read("plain");
    assert!(
        plain.starts_with(&cluster) && plain.ends_with("nameserver 10.43.0.10\noptions ndots:5\n"),
        "{plain}"
    );
    assert_eq!(read("hostdns"), plain);
    assert_eq!(read("none"), "search my.lan\nnameserver 1.1.1.1\noptions ndots:2 edns0\n");
    let merged = read("merged");
    assert!(merged.starts_with(&cluster) && merged.contains(" my.lan\n"), "{merged}");
    assert!(
        merged.ends_with("nameserver 10.43.0.10\nnameserver 1.1.1.1\noptions ndots:2 edns0\n"),
        "{merged}"
    );
    let servers = |text: &str| -> Vec<String> {
        text.lines().filter(|l| l.starts_with("nameserver")).map(str::to_owned).collect()
    };
    let node = servers(&place.cluster.host.sh("cat /etc/resolv.conf"));
    for pod in ["default", "host"] {
        assert_eq!(servers(&read(pod)), node[..node.len().min(3)], "{pod}");
    }
    assert_eq!(servers(&read("many")), ["nameserver 10.43.0.10", "nameserver 1.1.1.1", "nameserver 1.1.1.2"]);
    place.event("many", "DNSConfigForming: Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: 10.43.0.10 1.1.1.1 1.1.1.2");
}

fn namespaces_of_the_host(place: &Place) {
    place.ready("host");
    assert_eq!(place.get("host", "{.status.podIP}"), NODE_IP);
    let node = |what: &str| place.cluster.host.sh(&format!("readlink /proc/self/ns/{what}"));
    for kind in ["net", "pid", "ipc", "uts"] {
        assert_eq!(place.exec("host", &format!("readlink /proc/self/ns/{kind}")), node(kind), "{kind}");
        assert_ne!(place.exec("plain", &format!("readlink /proc/self/ns/{kind}")), node(kind), "{kind}");
    }
    assert_eq!(place.exec("host", "hostname"), place.cluster.host.sh("hostname"));
    place.ready("shared");
    let processes = place.exec("shared", "ps");
    for process in ["pause", "sleep 9999", "sleep 7777"] {
        assert!(processes.contains(process), "{process}: {processes}");
    }
    let alone = place.exec("plain", "ps");
    assert!(!alone.contains("pause"), "{alone}");
}

fn ports_of_the_host(place: &Place) {
    place.ready("port");
    let fetch = |url: &str| {
        place
            .cluster
            .host
            .command("busybox")
            .args(["wget", "-T", "5", "-qO-", url])
            .output()
            .expect("busybox runs")
    };
    for url in [format!("http://{NODE_IP}:18081/index.html"), "http://127.0.0.1:18082/index.html".to_owned()]
    {
        let answer = fetch(&url);
        assert_eq!(
            String::from_utf8_lossy(&answer.stdout),
            "it works\n",
            "{url}: {}",
            harness::show(&answer)
        );
    }
    assert!(
        !fetch(&format!("http://{NODE_IP}:18082/index.html")).status.success(),
        "bound to another address"
    );
}
