//! Everything a node may leave behind, as lists that can be compared.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use kedge::config::Instance;

use crate::harness::{Cluster, wait_until};

/// What there is of each sort, sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory(BTreeMap<&'static str, Vec<String>>);

impl Inventory {
    /// Of a cluster's node as it is now.
    pub fn of(cluster: &Cluster) -> Self {
        let instance = Instance::of(&cluster.data_dir());
        let name = &instance.name;
        let lines = |line: String| cluster.host.sh(&line).lines().map(str::to_owned).collect::<Vec<_>>();
        let data = cluster.data_dir().join("agent").display().to_string();
        let run = instance.run_dir().display().to_string();
        let mut all = BTreeMap::from([
            ("mounts", lines("cut -d' ' -f5- /proc/self/mountinfo | sed 's/ [a-z]*:[0-9]*//g'".into())),
            ("interfaces", lines("ip -o link | sed 's/^[0-9]*: //; s/[@:].*//'".into())),
            ("addresses", lines("ip -o -4 addr | awk '{print $2, $4}'".into())),
            ("routes", lines("ip route | sed 's/ linkdown//'".into())),
            ("nft", lines("nft -s list ruleset | sed 's/, /\\n/g; s/elements = { /\\n/; s/ }//'".into())),
            // What has ended is forgotten by the kernel in its own time.
            (
                "conntrack",
                lines("conntrack -L 2>/dev/null | grep -F 10.42. | \
                     grep -Ev 'TIME_WAIT|CLOSE|LAST_ACK|FIN_WAIT|dst=22[4-9]' | sed -E 's/ +/ /g; s/^([a-z]+ [0-9]+) [0-9]+/\\1/' || true".into()),
            ),
            ("cgroups", lines(format!("find /sys/fs/cgroup -type d -path '*/{name}*' 2>/dev/null || true"))),
            ("files", lines(format!("find {data} {run} 2>/dev/null || true"))),
        ]);
        all.insert("logs", logs(cluster));
        all.insert("processes", processes(cluster).into_iter().map(|(_, line)| line).collect());
        all.insert("descriptors", descriptors(cluster.server_pid()));
        all.values_mut().for_each(|list| list.sort());
        Self(all)
    }

    /// Less what another server process has otherwise.
    pub fn without_descriptors(mut self) -> Self {
        self.0.remove("descriptors");
        self
    }

    /// What is new, what is gone.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (what, before) in &self.0 {
            let mut gone = before.clone();
            for line in now.0.get(what).into_iter().flatten() {
                match gone.iter().position(|other| other == line) {
                    Some(at) => drop(gone.swap_remove(at)),
                    None => found.push(format!("{what}, new:  {line}")),
                }
            }
            found.extend(gone.iter().map(|line| format!("{what}, gone: {line}")));
        }
        found
    }
}

/// Waits until there is what was there before, no more and no less.
pub fn assert_as_before(cluster: &Cluster, before: &Inventory) {
    let mut left = Vec::new();
    let same = wait_until(Duration::from_secs(45), || {
        left = before.differences(&Inventory::of(cluster));
        left.is_empty()
    });
    assert!(same, "left behind or lost:\n{}\n{}", left.join("\n"), cluster.tail());
}

/// Directories of logs of this cluster's pods, whose namespaces are named as this test names them: others on
/// the machine use the same place.
fn logs(cluster: &Cluster) -> Vec<String> {
    let names = cluster.kubectl(&["get", "namespaces", "-o", "jsonpath={.items[*].metadata.name}"]);
    let own: Vec<_> = names.split(' ').filter(|name| name.ends_with(&cluster.mark())).collect();
    let places = ["/var/log/pods", "/var/log/containers"].map(fs::read_dir);
    let entries = places.into_iter().flatten().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| own.iter().any(|ns| name.contains(&format!("{ns}_")))).collect()
}

/// The node's processes and their command lines: the server, shims, containers.
pub fn processes(cluster: &Cluster) -> Vec<(u32, String)> {
    let name = Instance::of(&cluster.data_dir()).name;
    let entries = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let of = |pid: u32| {
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let ours = pid == cluster.server_pid() || cgroups.contains(&format!("/{name}/"));
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        ours.then(|| (pid, String::from_utf8_lossy(&line).replace('\0', " ")))
    };
    pids.filter_map(of).collect()
}

/// What a process has open, without the numbers that make each one different.
fn descriptors(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.map(|link| link.to_string_lossy().chars().filter(|c| !c.is_ascii_digit()).collect()).collect()
}
