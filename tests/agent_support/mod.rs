//! Pods in JSON and questions about them, for tests of what the agent makes of pods.
#![allow(dead_code, reason = "each test file uses its part")]

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::harness::{Cluster, show, wait_for};

/// A cluster's namespace in which pods are tried.
pub struct Place<'a> {
    pub cluster: &'a Cluster,
    pub ns: String,
}

/// A container `c` of busybox with these fields.
pub fn container(fields: Value) -> Value {
    let mut container = json!({"name": "c", "image": "busybox:1.36", "command": ["sleep", "9999"]});
    merge(&mut container, fields);
    container
}

/// A pod's specification with one such container, ended without patience.
pub fn one(fields: Value) -> Value {
    json!({"terminationGracePeriodSeconds": 1, "containers": [container(fields)]})
}

/// A specification with further fields.
pub fn with(mut spec: Value, fields: Value) -> Value {
    merge(&mut spec, fields);
    spec
}

fn merge(into: &mut Value, fields: Value) {
    let Value::Object(fields) = fields else { panic!("not an object: {fields}") };
    for (key, value) in fields {
        into[key] = value;
    }
}

impl<'a> Place<'a> {
    pub fn new(cluster: &'a Cluster, name: &str) -> Self {
        Self { cluster, ns: cluster.namespace(name) }
    }

    /// Makes an object of the core group.
    pub fn make(&self, kind: &str, name: &str, fields: Value) {
        let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}});
        merge(&mut object, fields);
        self.cluster.apply(&self.ns, &object.to_string());
    }

    /// Makes pods.
    pub fn pods(&self, pods: &[(&str, Value)]) {
        let item = |(name, spec): &(&str, Value)| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": self.ns}, "spec": spec});
        let list =
            json!({"apiVersion": "v1", "kind": "List", "items": pods.iter().map(item).collect::<Vec<_>>()});
        self.cluster.apply(&self.ns, &list.to_string());
    }

    pub fn ready(&self, pod: &str) {
        self.cluster.wait_pod_ready(&self.ns, pod);
    }

    pub fn wait(&self, pod: &str, path: &str, expected: &str) {
        self.cluster.wait_jsonpath(&["pod", pod, "-n", &self.ns], path, expected);
    }

    pub fn get(&self, pod: &str, path: &str) -> String {
        self.cluster.kubectl(&["get", "pod", pod, "-n", &self.ns, "-o", &format!("jsonpath={path}")])
    }

    /// Waits until a path of the pod's holds.
    pub fn until(&self, pod: &str, path: &str, holds: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        let described = format!("{path} of {pod}");
        wait_for(&described, || {
            last = self.get(pod, path);
            holds(&last)
        });
        last
    }

    /// The pod's events, a line each: reason, then message.
    pub fn events(&self, pod: &str) -> String {
        let template = "jsonpath={range .items[*]}{.reason}: {.message}{\"\\n\"}{end}";
        let selector = format!("involvedObject.name={pod}");
        self.cluster.kubectl(&[
            "get",
            "events",
            "-n",
            &self.ns,
            "--field-selector",
            &selector,
            "-o",
            template,
        ])
    }

    /// Waits for an event that holds this text.
    pub fn event(&self, pod: &str, text: &str) {
        let mut last = String::new();
        let found = crate::harness::wait_until(crate::harness::PATIENCE, || {
            last = self.events(pod);
            last.contains(text)
        });
        assert!(found, "no event {text:?} of {pod}:\n{last}\n{}", self.cluster.tail());
    }

    /// A shell line in the pod's first container; gives what it says.
    pub fn exec(&self, pod: &str, line: &str) -> String {
        self.cluster.kubectl(&["exec", pod, "-n", &self.ns, "--", "sh", "-c", line])
    }

    pub fn logs(&self, pod: &str) -> String {
        self.cluster.kubectl(&["logs", pod, "-n", &self.ns])
    }

    /// `kubectl delete pod`.
    pub fn delete(&self, pod: &str, flags: &[&str]) {
        self.cluster.kubectl(&[&["delete", "pod", pod, "-n", &self.ns][..], flags].concat());
    }

    pub fn is_gone(&self, pod: &str) -> bool {
        let output = self
            .cluster
            .kubectl_command(&["get", "pod", pod, "-n", &self.ns])
            .output()
            .expect("kubectl runs");
        !output.status.success() && show(&output).contains("NotFound")
    }
}

/// Listens inside the node's network namespace.
pub fn listen(cluster: &Cluster, port: u16) -> TcpListener {
    let namespace = format!("/proc/{}/ns/net", cluster.host.anchor());
    // Only this thread enters it; the socket stays in it.
    let listener = std::thread::spawn(move || {
        let file = std::fs::File::open(namespace).expect("the namespace opens");
        nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).expect("the namespace is entered");
        TcpListener::bind(("0.0.0.0", port)).expect("the port is free")
    });
    let listener = listener.join().expect("listens");
    listener.set_nonblocking(true).expect("can be non-blocking");
    listener
}
