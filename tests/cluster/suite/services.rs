//! Services and names: from pods and from the node.

use crate::Shared;
use crate::harness::{Cluster, NODE_IP, wait_for};

pub const SHARED: &[(&str, Shared)] = &[
    ("service_spreads_over_ready_pods_from_node_and_pod", cluster_ip),
    ("service_node_port_answers_on_the_node", node_port),
    ("service_without_pods_refuses_at_once", no_endpoints),
    ("service_names_resolve_inside_pods", dns),
    ("service_reaches_the_pod_that_calls_it", hairpin),
    ("service_kubernetes_leads_to_the_api", kubernetes_service),
];

/// Two web pods that tell their name, and a Service `web` in front of them.
fn web(cluster: &Cluster, prefix: &str, service: &str) -> String {
    let ns = cluster.namespace(prefix);
    cluster.apply(
        &ns,
        &format!(
            "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: busybox:1.35
        command: [sh, -c, 'hostname > /www/index.html; exec httpd -f -p 8080 -h /www']
        ports: [{{containerPort: 8080, name: http}}]
        readinessProbe: {{tcpSocket: {{port: http}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {service}
"
        ),
    );
    cluster.kubectl(&["rollout", "status", "deployment/web", "-n", &ns, "--timeout=90s"]);
    ns
}

fn address(cluster: &Cluster, ns: &str) -> String {
    cluster.kubectl(&["get", "service", "web", "-n", ns, "-o", "jsonpath={.spec.clusterIP}"])
}

/// A pod to call from.
fn client(cluster: &Cluster, ns: &str) {
    cluster.kubectl(&[
        "run",
        "client",
        "-n",
        ns,
        "--image=busybox:1.35",
        "--command",
        "--",
        "sleep",
        "1000000",
    ]);
    cluster.wait_pod_ready(ns, "client");
}

fn cluster_ip(cluster: &Cluster) {
    let ns = &web(cluster, "clusterip", "{selector: {app: web}, ports: [{port: 80, targetPort: http}]}");
    let address = address(cluster, ns);
    assert!(address.starts_with("10.43."), "{address}");
    client(cluster, ns);
    let mut seen = std::collections::BTreeSet::new();
    wait_for("answers from both pods", || {
        seen.insert(cluster.host.sh(&format!("curl -sf --max-time 5 http://{address}/")));
        let line = format!("wget -q -O - http://{address}/");
        seen.insert(cluster.kubectl(&["exec", "-n", ns, "client", "--", "sh", "-c", &line]));
        seen.len() == 2
    });
    let slices =
        cluster.kubectl(&["get", "endpointslices", "-n", ns, "-l", "kubernetes.io/service-name=web"]);
    assert!(slices.contains("8080"), "{slices}");
    let endpoints = cluster.kubectl(&["get", "endpoints", "web", "-n", ns]);
    assert!(endpoints.contains(":8080"), "{endpoints}");
}

fn node_port(cluster: &Cluster) {
    let spec =
        "{type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 31234}]}";
    let ns = &web(cluster, "nodeport", spec);
    wait_for("the node port", || {
        let line = format!("curl -sf --max-time 5 http://{NODE_IP}:31234/ || true");
        cluster.host.sh(&line).starts_with("web-")
    });
    cluster.kubectl(&["delete", "service", "web", "-n", ns]);
    wait_for("the node port to be gone", || {
        cluster.host.sh(&format!("curl -s --max-time 5 http://{NODE_IP}:31234/ || echo gone")) == "gone\n"
    });
}

fn no_endpoints(cluster: &Cluster) {
    let ns = &cluster.namespace("noendpoints");
    cluster.apply(
        ns,
        "apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: none}, ports: [{port: 80}]}
",
    );
    let address = address(cluster, ns);
    // curl's exit status 7: refused; 28 would be a time-out.
    wait_for("refusal", || {
        cluster.host.sh(&format!("curl -s --max-time 3 http://{address}/; echo $?")).trim() == "7"
    });
}

fn dns(cluster: &Cluster) {
    let ns =
        &web(cluster, "dns", "{selector: {app: web}, ports: [{port: 80, targetPort: 8080, name: http}]}");
    let address = address(cluster, ns);
    client(cluster, ns);
    for name in ["web".to_owned(), format!("web.{ns}"), format!("web.{ns}.svc.cluster.local")] {
        let line = format!("wget -q -O - http://{name}/");
        let mut page = String::new();
        wait_for(&name, || {
            let output = cluster
                .kubectl_command(&["exec", "-n", ns, "client", "--", "sh", "-c", &line])
                .output()
                .expect("runs");
            page = String::from_utf8_lossy(&output.stdout).into_owned();
            output.status.success()
        });
        assert!(page.starts_with("web-"), "{name}: {page}");
    }
    let looked_up = cluster.kubectl(&[
        "exec",
        "-n",
        ns,
        "client",
        "--",
        "nslookup",
        &format!("web.{ns}.svc.cluster.local"),
        "10.43.0.10",
    ]);
    assert!(looked_up.contains(&address), "{looked_up}");
}

fn hairpin(cluster: &Cluster) {
    let ns = &web(cluster, "hairpin", "{selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}");
    cluster.kubectl(&["scale", "deployment/web", "-n", ns, "--replicas=1"]);
    let address = address(cluster, ns);
    cluster.wait_jsonpath(&["deployment", "web", "-n", ns], "{.status.replicas}", "1");
    wait_for("the pod to reach itself", || {
        let line = format!("wget -q -O - http://{address}/ || true");
        cluster.kubectl(&["exec", "-n", ns, "deployment/web", "--", "sh", "-c", &line]).starts_with("web-")
    });
}

fn kubernetes_service(cluster: &Cluster) {
    let ns = &cluster.namespace("api");
    client(cluster, ns);
    let host =
        cluster.kubectl(&["exec", "-n", ns, "client", "--", "sh", "-c", "echo $KUBERNETES_SERVICE_HOST"]);
    assert_eq!(host.trim(), "10.43.0.1");
    let version = cluster.host.sh("curl -sk --max-time 5 https://10.43.0.1/version");
    assert!(version.contains("gitVersion"), "{version}");
    let line = "nc -w 3 kubernetes.default.svc 443 </dev/null && echo open";
    assert_eq!(cluster.kubectl(&["exec", "-n", ns, "client", "--", "sh", "-c", line]).trim(), "open");
}
