//! What `RuntimeDefault` lets containers do: as documented for containerd and Docker, everything
//! an ordinary program needs, and more with the capabilities that govern it.

use super::profile::{Action, Arg, Compare, Profile, Rule};
use crate::runtime::shim::oci::Caps;

/// Always allowed.
const BASE: &str = "
    accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget capset chdir chmod
    chown clock_adjtime clock_getres clock_gettime clock_nanosleep close close_range connect
    copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old
    epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit
    exit_group faccessat faccessat2 fadvise64 fallocate fanotify_mark fchdir fchmod fchmodat
    fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fork fremovexattr
    fsetxattr fstat fstatfs fsync ftruncate futex futex_requeue futex_wait futex_waitv
    futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64
    getegid geteuid getgid getgroups getitimer getpeername getpgid getpgrp getpid getppid
    getpriority getrandom getresgid getresuid getrlimit getrusage getsid getsockname getsockopt
    gettid gettimeofday getuid getxattr getxattrat inotify_add_watch inotify_init inotify_init1
    inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit ioctl
    ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset landlock_restrict_self
    lchown lgetxattr link linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek
    lsetxattr lsm_get_self_attr lsm_list_modules lsm_set_self_attr lstat madvise
    map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat
    mlock mlock2 mlockall mmap modify_ldt mprotect mq_getsetattr mq_notify mq_open
    mq_timedreceive mq_timedsend mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock
    munlockall munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause
    pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll prctl
    pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv process_vm_writev
    pselect6 ptrace pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recvfrom
    recvmmsg recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall
    rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
    rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
    sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler
    sched_yield seccomp select semctl semget semop semtimedop sendfile sendmmsg sendmsg sendto
    set_robust_list set_thread_area set_tid_address setfsgid setfsuid setgid setgroups setitimer
    setpgid setpriority setregid setresgid setresuid setreuid setrlimit setsid setsockopt setuid
    setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 socketpair splice
    stat statfs statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill
    time timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create
    timerfd_gettime timerfd_settime times tkill truncate umask uname unlink unlinkat uretprobe utime
    utimensat utimes vfork vmsplice wait4 waitid write writev
";

/// Always allowed, and known to 32-bit programs only.
const BASE_OF_32_BITS: &str = "
    _llseek _newselect arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush chown32
    clock_adjtime64 clock_getres_time64 clock_gettime64 clock_nanosleep_time64 fadvise64_64
    fchown32 fcntl64 fstat64 fstatat64 fstatfs64 ftruncate64 futex_time64 getegid32 geteuid32
    getgid32 getgroups32 getresgid32 getresuid32 getuid32 io_pgetevents_time64 ipc lchown32
    lstat64 mmap2 mq_timedreceive_time64 mq_timedsend_time64 ppoll_time64 pselect6_time64 recv
    recvmmsg_time64 rt_sigtimedwait_time64 sched_rr_get_interval_time64 semtimedop_time64 send
    sendfile64 set_tls setfsgid32 setfsuid32 setgid32 setgroups32 setregid32 setresgid32
    setresuid32 setreuid32 setuid32 sigprocmask sigreturn socketcall stat64 statfs64
    sync_file_range2 timer_gettime64 timer_settime64 timerfd_gettime64 timerfd_settime64
    truncate64 ugetrlimit utimensat_time64 waitpid
";

/// Allowed with a capability.
const WITH: &[(&str, &str)] = &[
    ("DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount \
         mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname \
         sethostname setns syslog umount umount2 unshare",
    ),
    ("SYS_BOOT", "reboot"),
    ("SYS_CHROOT", "chroot"),
    ("SYS_MODULE", "delete_module init_module finit_module"),
    ("SYS_PACCT", "acct"),
    ("SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("SYS_RAWIO", "iopl ioperm"),
    ("SYS_TIME", "settimeofday stime clock_settime clock_settime64"),
    ("SYS_TTY_CONFIG", "vhangup"),
    ("SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("SYSLOG", "syslog"),
    ("BPF", "bpf"),
    ("PERFMON", "perf_event_open"),
];

/// Kinds of personality that are harmless: the usual one, 16-bit inodes' and the question for it.
const PERSONALITIES: [u64; 5] = [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Every namespace flag of `clone(2)`.
const NAMESPACES: u64 = 0x7e02_0000;

/// Families of sockets that are refused: the kernel's cryptography (`AF_ALG`), whose faults let containers out,
/// and `AF_VSOCK`, which would reach the host of a virtual machine.
const ALG: u64 = 38;
/// See [`ALG`].
const VSOCK: u64 = 40;

/// The profile for programs that have these capabilities.
pub fn profile(caps: Caps) -> Profile {
    let allow = |names: &str, args: Vec<Arg>| Rule {
        names: names.split_whitespace().map(str::to_string).collect(),
        action: Action::Allow,
        args,
        ..Default::default()
    };
    let arg = |op: Compare, value, value_two| Arg { index: 0, value, value_two, op };
    let mut syscalls = vec![allow(BASE, Vec::new()), allow(BASE_OF_32_BITS, Vec::new())];
    for (capability, names) in WITH {
        if caps.has(capability) {
            syscalls.push(allow(names, Vec::new()));
        }
    }
    for personality in PERSONALITIES {
        syscalls.push(allow("personality", vec![arg(Compare::Eq, personality, 0)]));
    }
    // 32-bit x86 has socketcall, whose arguments are out of a filter's reach.
    for (compare, family) in [(Compare::Lt, ALG), (Compare::Eq, ALG + 1), (Compare::Gt, VSOCK)] {
        syscalls.push(allow("socket", vec![arg(compare, family, 0)]));
    }
    if !caps.has("SYS_ADMIN") {
        syscalls.push(allow("clone", vec![arg(Compare::MaskedEq, NAMESPACES, 0)]));
        // Its flags are out of a filter's reach; told that it does not exist, libraries use clone.
        syscalls.push(Rule {
            names: vec!["clone3".into()],
            action: Action::Errno,
            errno_ret: Some(libc::ENOSYS as u32),
            ..Default::default()
        });
    }
    let architectures = ["SCMP_ARCH_X86", "SCMP_ARCH_ARM"].map(str::to_owned).into();
    Profile {
        default_action: Action::Errno,
        default_errno_ret: None,
        architectures,
        arch_map: Vec::new(),
        syscalls,
    }
}
