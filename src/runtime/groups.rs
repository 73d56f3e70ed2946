//! Control groups from above: those the sandboxes' groups are in, and limits of containers that run.

use std::fs;

use super::Runtime;
use super::error::Error;
use super::paths;
use super::spec::{ContainerState, ContainerStats, Resources};

impl Runtime {
    /// Makes a group below the installation's, such as `kubepods/burstable`, or changes its limits; the
    /// empty name is the installation's own. It stays until [`Runtime::cleanup_all`].
    ///
    /// # Errors
    /// The name leads elsewhere, or the kernel refuses a limit, such as one below what is in use.
    pub fn set_group(&self, group: &str, resources: &Resources) -> Result<(), Error> {
        let path = self.group(group)?;
        self.0.groups.lock().insert(path.clone());
        self.0.cgroups.create(&path, &Resources::default());
        self.0.cgroups.limit(&path, resources).map_err(|e| Error::Other(e.to_string()))
    }

    /// Changes the limits of a group below the installation's that is there, such as a pod's.
    ///
    /// # Errors
    /// As [`Self::set_group`].
    pub fn limit_group(&self, group: &str, resources: &Resources) -> Result<(), Error> {
        self.0.cgroups.limit(&self.group(group)?, resources).map_err(|e| Error::Other(e.to_string()))
    }

    /// What a group below the installation's uses, with all that is in it; zeros if there is none.
    ///
    /// # Errors
    /// The name leads elsewhere.
    pub fn group_stats(&self, group: &str) -> Result<ContainerStats, Error> {
        Ok(self.0.cgroups.stats(&self.group(group)?))
    }

    /// Changes the limits of a container that was made and has not ended.
    ///
    /// # Errors
    /// There is no such container, it has ended, or the kernel refuses a limit.
    pub async fn update(&self, id: &str, resources: &Resources) -> Result<(), Error> {
        let (sandbox, dir) = self.place(id)?;
        let (_, record) = self.record(&sandbox)?;
        let state = super::leftovers::read_status(&dir, id).map(|s| s.state);
        if state.is_none_or(|s| s == ContainerState::Exited) {
            let state = "exited".to_string();
            return Err(Error::State {
                id: id.to_string(),
                state,
                action: "change the limits of".to_string(),
            });
        }
        let (runtime, resources) = (self.clone(), resources.clone());
        let group = format!("{}/{id}", record.cgroup());
        super::blocking(move || {
            runtime.0.cgroups.limit(&group, &resources).map_err(|e| Error::Other(e.to_string()))
        })
        .await
    }

    /// Controllers that limits need and this machine does not offer: of `cpu`, `memory` and `pids`.
    pub fn missing_controllers(&self) -> Vec<&'static str> {
        self.0.cgroups.missing()
    }

    /// Control groups are of version 2.
    pub fn unified_cgroups(&self) -> bool {
        self.0.cgroups.is_v2()
    }

    /// How many processes and threads the kernel allows on this machine.
    pub fn process_limit(&self) -> Option<u64> {
        let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        Some(number("/proc/sys/kernel/pid_max")?.min(number("/proc/sys/kernel/threads-max")?))
    }

    /// Memory of the machine that is in use and not easily taken back, in bytes; `None` with version 2,
    /// whose root group does not tell.
    pub fn machine_working_set(&self) -> Option<u64> {
        let known = !self.0.cgroups.is_v2() && self.0.cgroups.dir("memory", "").is_some();
        known.then(|| self.0.cgroups.stats("").memory_working_set)
    }

    fn group(&self, group: &str) -> Result<String, Error> {
        paths::check_cgroup(group)?;
        let (top, group) = (self.0.config.cgroup_root.trim_matches('/'), group.trim_matches('/'));
        Ok(if group.is_empty() { top.to_owned() } else { format!("{top}/{group}") })
    }
}
