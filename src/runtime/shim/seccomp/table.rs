//! Numbers of the system calls, by name.

/// Pairs of a name and the number that the C library's headers give it.
macro_rules! numbers {
    ($($constant:ident)*) => {
        &[$((stringify!($constant), libc::$constant)),*]
    };
}

/// On every 64-bit architecture.
const COMMON: &[(&str, libc::c_long)] = numbers! {
    SYS_accept SYS_accept4 SYS_acct SYS_add_key SYS_adjtimex SYS_bind SYS_bpf SYS_brk SYS_capget
    SYS_capset SYS_chdir SYS_chroot SYS_clock_adjtime SYS_clock_getres SYS_clock_gettime
    SYS_clock_nanosleep SYS_clock_settime SYS_clone SYS_clone3 SYS_close SYS_close_range
    SYS_connect SYS_copy_file_range SYS_delete_module SYS_dup SYS_dup3 SYS_epoll_create1
    SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_eventfd2 SYS_execve SYS_execveat SYS_exit
    SYS_exit_group SYS_faccessat SYS_faccessat2 SYS_fadvise64 SYS_fallocate SYS_fanotify_init
    SYS_fanotify_mark SYS_fchdir SYS_fchmod SYS_fchmodat SYS_fchown SYS_fchownat SYS_fcntl
    SYS_fdatasync SYS_fgetxattr SYS_finit_module SYS_flistxattr SYS_flock SYS_fremovexattr
    SYS_fsconfig SYS_fsetxattr SYS_fsmount SYS_fsopen SYS_fspick SYS_fstat SYS_fstatfs SYS_fsync
    SYS_ftruncate SYS_futex SYS_futex_waitv SYS_get_mempolicy SYS_get_robust_list SYS_getcpu
    SYS_getcwd SYS_getdents64 SYS_getegid SYS_geteuid SYS_getgid SYS_getgroups SYS_getitimer
    SYS_getpeername SYS_getpgid SYS_getpid SYS_getppid SYS_getpriority SYS_getrandom
    SYS_getresgid SYS_getresuid SYS_getrusage SYS_getsid SYS_getsockname SYS_getsockopt
    SYS_gettid SYS_gettimeofday SYS_getuid SYS_getxattr SYS_init_module SYS_inotify_add_watch
    SYS_inotify_init1 SYS_inotify_rm_watch SYS_io_cancel SYS_io_destroy SYS_io_getevents
    SYS_io_setup SYS_io_submit SYS_io_uring_enter SYS_io_uring_register SYS_io_uring_setup
    SYS_ioctl SYS_ioprio_get SYS_ioprio_set SYS_kcmp SYS_kexec_load SYS_keyctl SYS_kill
    SYS_landlock_add_rule SYS_landlock_create_ruleset SYS_landlock_restrict_self SYS_lgetxattr
    SYS_linkat SYS_listen SYS_listxattr SYS_llistxattr SYS_lookup_dcookie SYS_lremovexattr
    SYS_lseek SYS_lsetxattr SYS_madvise SYS_mbind SYS_membarrier SYS_memfd_create
    SYS_memfd_secret SYS_migrate_pages SYS_mincore SYS_mkdirat SYS_mknodat SYS_mlock SYS_mlock2
    SYS_mlockall SYS_mmap SYS_mount SYS_mount_setattr SYS_move_mount SYS_move_pages SYS_mprotect
    SYS_mq_getsetattr SYS_mq_notify SYS_mq_open SYS_mq_timedreceive SYS_mq_timedsend
    SYS_mq_unlink SYS_mremap SYS_mseal SYS_msgctl SYS_msgget SYS_msgrcv SYS_msgsnd SYS_msync
    SYS_munlock SYS_munlockall SYS_munmap SYS_name_to_handle_at SYS_nanosleep SYS_newfstatat
    SYS_nfsservctl SYS_open_by_handle_at SYS_open_tree SYS_openat SYS_openat2
    SYS_perf_event_open SYS_personality SYS_pidfd_getfd SYS_pidfd_open SYS_pidfd_send_signal
    SYS_pipe2 SYS_pivot_root SYS_pkey_alloc SYS_pkey_free SYS_pkey_mprotect SYS_ppoll SYS_prctl
    SYS_pread64 SYS_preadv SYS_preadv2 SYS_prlimit64 SYS_process_madvise SYS_process_mrelease
    SYS_process_vm_readv SYS_process_vm_writev SYS_pselect6 SYS_ptrace SYS_pwrite64 SYS_pwritev
    SYS_pwritev2 SYS_quotactl SYS_quotactl_fd SYS_read SYS_readahead SYS_readlinkat SYS_readv
    SYS_reboot SYS_recvfrom SYS_recvmmsg SYS_recvmsg SYS_remap_file_pages SYS_removexattr
    SYS_renameat2 SYS_request_key SYS_restart_syscall SYS_rseq SYS_rt_sigaction
    SYS_rt_sigpending SYS_rt_sigprocmask SYS_rt_sigqueueinfo SYS_rt_sigreturn SYS_rt_sigsuspend
    SYS_rt_sigtimedwait SYS_rt_tgsigqueueinfo SYS_sched_get_priority_max
    SYS_sched_get_priority_min SYS_sched_getaffinity SYS_sched_getattr SYS_sched_getparam
    SYS_sched_getscheduler SYS_sched_rr_get_interval SYS_sched_setaffinity SYS_sched_setattr
    SYS_sched_setparam SYS_sched_setscheduler SYS_sched_yield SYS_seccomp SYS_semctl SYS_semget
    SYS_semop SYS_semtimedop SYS_sendfile SYS_sendmmsg SYS_sendmsg SYS_sendto SYS_set_mempolicy
    SYS_set_mempolicy_home_node SYS_set_robust_list SYS_set_tid_address SYS_setdomainname
    SYS_setfsgid SYS_setfsuid SYS_setgid SYS_setgroups SYS_sethostname SYS_setitimer SYS_setns
    SYS_setpgid SYS_setpriority SYS_setregid SYS_setresgid SYS_setresuid SYS_setreuid SYS_setsid
    SYS_setsockopt SYS_settimeofday SYS_setuid SYS_setxattr SYS_shmat SYS_shmctl SYS_shmdt
    SYS_shmget SYS_shutdown SYS_sigaltstack SYS_signalfd4 SYS_socket SYS_socketpair SYS_splice
    SYS_statfs SYS_statx SYS_swapoff SYS_swapon SYS_symlinkat SYS_sync SYS_syncfs SYS_sysinfo
    SYS_syslog SYS_tee SYS_tgkill SYS_timer_create SYS_timer_delete SYS_timer_getoverrun
    SYS_timer_gettime SYS_timer_settime SYS_timerfd_create SYS_timerfd_gettime
    SYS_timerfd_settime SYS_times SYS_tkill SYS_truncate SYS_umask SYS_umount2 SYS_uname
    SYS_unlinkat SYS_unshare SYS_userfaultfd SYS_utimensat SYS_vhangup SYS_vmsplice SYS_wait4
    SYS_waitid SYS_write SYS_writev
};

/// Only where the architecture has old calls beside their successors.
#[cfg(target_arch = "x86_64")]
const OWN: &[(&str, libc::c_long)] = numbers! {
    SYS__sysctl SYS_access SYS_afs_syscall SYS_alarm SYS_arch_prctl SYS_chmod SYS_chown
    SYS_creat SYS_dup2 SYS_epoll_create SYS_epoll_ctl_old SYS_epoll_wait SYS_epoll_wait_old
    SYS_eventfd SYS_fork SYS_futimesat SYS_get_thread_area SYS_getdents SYS_getpgrp SYS_getpmsg
    SYS_getrlimit SYS_inotify_init SYS_ioperm SYS_iopl SYS_kexec_file_load SYS_lchown SYS_link
    SYS_lstat SYS_mkdir SYS_mknod SYS_modify_ldt SYS_open SYS_pause SYS_pipe SYS_poll
    SYS_putpmsg SYS_readlink SYS_rename SYS_renameat SYS_rmdir SYS_security SYS_select
    SYS_set_thread_area SYS_setrlimit SYS_signalfd SYS_stat SYS_symlink SYS_sync_file_range
    SYS_sysfs SYS_time SYS_tuxcall SYS_unlink SYS_uselib SYS_ustat SYS_utime SYS_utimes
    SYS_vfork SYS_vserver
};
#[cfg(not(target_arch = "x86_64"))]
const OWN: &[(&str, libc::c_long)] = &[];

/// Not in every C library's headers.
#[cfg(target_arch = "x86_64")]
const MISSING: &[(&str, libc::c_long)] = &[("io_pgetevents", 333), ("uretprobe", 335)];
#[cfg(not(target_arch = "x86_64"))]
const MISSING: &[(&str, libc::c_long)] = &[
    ("renameat", 38),
    ("sync_file_range", 84),
    ("getrlimit", 163),
    ("setrlimit", 164),
    ("io_pgetevents", 292),
    ("kexec_file_load", 294),
];

/// Calls of 32-bit programs up to 402: runs of names, each after its first name's number.
#[cfg(target_arch = "x86_64")]
const OF_32_BITS: &str = include_str!("calls-i386.txt");
#[cfg(not(target_arch = "x86_64"))]
const OF_32_BITS: &str = include_str!("calls-arm.txt");

/// Calls since 403, whose numbers are the same everywhere.
const NEWER: &str = include_str!("calls-newer.txt");
/// Those before it only 32-bit programs have: they mend the year 2038.
const EVERYWHERE: i64 = 424;

/// A way for programs to call the kernel: that of the machine's own programs, or of 32-bit ones, which most
/// 64-bit kernels run too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abi {
    /// The machine's own.
    Native,
    /// i386 on x86-64, ARM's EABI on arm64.
    Bits32,
}

impl Abi {
    /// The kernel's number of it (`linux/audit.h`).
    pub fn audit(self) -> u32 {
        match (self, cfg!(target_arch = "x86_64")) {
            (Self::Native, true) => 0xc000_003e,
            (Self::Native, false) => 0xc000_00b7,
            (Self::Bits32, true) => 0x4000_0003,
            (Self::Bits32, false) => 0x4000_0028,
        }
    }

    /// The number of a system call; `None` if this ABI, or this program, does not know it.
    pub fn number(self, name: &str) -> Option<i64> {
        match self {
            Self::Native => {
                let named =
                    |(constant, _): &&(&str, libc::c_long)| constant.strip_prefix("SYS_") == Some(name);
                let known = COMMON.iter().chain(OWN).find(named);
                let known =
                    known.or_else(|| MISSING.iter().find(|(n, _)| *n == name)).map(|(_, number)| *number);
                known.or_else(|| find(NEWER, name).filter(|n| *n >= EVERYWHERE))
            }
            Self::Bits32 => find(OF_32_BITS, name).or_else(|| find(NEWER, name)),
        }
    }
}

/// The number of a name in runs of names.
fn find(runs: &str, name: &str) -> Option<i64> {
    let mut next = 0;
    for word in runs.split_ascii_whitespace() {
        match word.parse::<i64>() {
            Ok(number) => next = number,
            Err(_) if word == name => return Some(next),
            Err(_) => next += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_kernels_numbers() {
        let native = |name| Abi::Native.number(name);
        assert_eq!(native("read"), Some(libc::SYS_read));
        assert_eq!(native("fchmodat2"), Some(452));
        assert_eq!((native("getxattrat"), native("clone3")), (Some(464), Some(libc::SYS_clone3)));
        assert!(native("getrlimit").is_some() && native("io_pgetevents").is_some());
        assert_eq!(
            (native("socketcall"), native("clock_gettime64"), native("no_such_call")),
            (None, None, None)
        );
    }

    #[test]
    fn programs_of_32_bits_have_numbers_of_their_own() {
        let known = |name| Abi::Bits32.number(name);
        for (name, number) in
            [("read", 3), ("execve", 11), ("clock_gettime64", 403), ("clone3", 435), ("mseal", 462)]
        {
            assert_eq!(known(name), Some(number), "{name}");
        }
        let own = if cfg!(target_arch = "x86_64") {
            [("socketcall", Some(102)), ("openat", Some(295)), ("statx", Some(383)), ("cacheflush", None)]
        } else {
            [("socketcall", None), ("openat", Some(322)), ("statx", Some(397)), ("cacheflush", Some(983_042))]
        };
        for (name, number) in own {
            assert_eq!(known(name), number, "{name}");
        }
    }
}
