//! The list of what `--kubelet-arg` takes, for help and errors.

/// Each flag with what it is about, in its unit, and its default.
const FLAGS: [(&str, &str); 24] = [
    ("allowed-unsafe-sysctls", "kernel parameters pods may set beside the safe ones, NAME,PREFIX.* [none]"),
    ("container-log-max-files", "log files of a container, from 2 [5]"),
    ("container-log-max-size", "size at which a container's log is rotated [10Mi]"),
    (
        "eviction-hard",
        "below these amounts pods are killed at once, SIGNAL<AMOUNT,… [memory.available<100Mi, or a \
                       twentieth of a small memory; nodefs and imagefs .available and .inodesFree<5%]",
    ),
    (
        "eviction-max-pod-grace-period",
        "longest grace of a pod that ends for a soft threshold, in seconds [0]",
    ),
    (
        "eviction-minimum-reclaim",
        "what is reclaimed beyond a threshold, SIGNAL=AMOUNT,… [nodefs.available=10%,\
                                  imagefs.available=10%]",
    ),
    ("eviction-pressure-transition-period", "how long a pressure condition outlasts its signal [5m]"),
    ("eviction-soft", "below these amounts for their grace period pods are ended, SIGNAL<AMOUNT,… [none]"),
    ("eviction-soft-grace-period", "grace periods of eviction-soft, SIGNAL=DURATION,… [none]"),
    ("image-gc-high-threshold", "percentage of the disk in use above which unused images are removed [85]"),
    ("image-gc-low-threshold", "percentage of the disk in use at which that ends [80]"),
    ("image-maximum-gc-age", "an image that was not used for so long is removed; 0s keeps it [0s]"),
    (
        "image-pull-credentials-verification-policy",
        "which images need no pull secret that has opened them: NeverVerify, NeverVerifyPreloadedImages, \
         NeverVerifyAllowlistedImages or AlwaysVerify [NeverVerifyPreloadedImages]",
    ),
    ("kube-reserved", "resources kept for kedge, cpu=…,memory=…,ephemeral-storage=…,pid=… [none]"),
    ("max-parallel-image-pulls", "images pulled at a time; 0 is no limit [1]"),
    ("minimum-image-ttl-duration", "an unused image is kept at least this long [2m]"),
    ("node-status-max-images", "images the node's status tells of; -1 is no limit [50]"),
    ("pod-manifest-path", "directory of static pods [DATA/agent/pod-manifests]"),
    ("pod-max-pids", "processes a pod may have; -1 is no limit [-1]"),
    (
        "preloaded-images-verification-allowlist",
        "repositories, and prefixes that end in /*, for NeverVerifyAllowlistedImages [none]",
    ),
    ("seccomp-default", "RuntimeDefault for containers that name no seccomp profile [false]"),
    ("serialize-image-pulls", "one image is pulled at a time [true]"),
    (
        "streaming-connection-idle-timeout",
        "exec, attach and port-forward on which nothing moves for so long are closed; 0s never [4h]",
    ),
    ("system-reserved", "resources kept for the system, as kube-reserved [none]"),
];

/// The flags' names, in one line.
pub(super) fn names() -> String {
    FLAGS.map(|(name, _)| name).join(", ")
}

/// The list for `--help`.
pub fn kubelet_help() -> String {
    let mut text = String::from(
        "Flags for --kubelet-arg, with their defaults; durations are such as 1h30m, sizes such as 10Mi:",
    );
    for (name, about) in FLAGS {
        text += &format!("\n  {name}\n          {about}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Kubelet;

    #[test]
    fn what_help_lists_is_known() {
        let mut kubelet = Kubelet::new("/x".into(), 1 << 30);
        for (name, _) in FLAGS {
            let error = kubelet.set(name, "\u{0}").err().unwrap_or_default();
            assert!(!error.contains("is not known"), "{name}: {error}");
        }
        assert!(FLAGS.is_sorted());
        assert!(
            kubelet
                .set("nosuch", "1")
                .expect_err("unknown")
                .contains("container-log-max-size, eviction-hard")
        );
    }
}
