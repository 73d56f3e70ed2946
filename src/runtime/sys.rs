//! System calls that no safe crate wraps. All `unsafe` of the runtime is in this file.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::cmsg_space;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, Signal};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use nix::unistd::{ForkResult, Pid};
use tokio::io::unix::AsyncFd;

/// At most this many file descriptors travel with one message.
pub const MAX_FDS: usize = 3;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// `fork(2)` of a process that has one thread.
pub fn fork() -> io::Result<ForkResult> {
    // SAFETY: only the shim calls this, and it never has a second thread, so that no lock can be
    // held by a thread the child does not have.
    Ok(unsafe { nix::unistd::fork() }?)
}

/// `fork(2)` whose child is process 1 of a new PID namespace. The process must have one thread.
pub fn fork_pid_namespace() -> io::Result<ForkResult> {
    let flags = libc::CLONE_NEWPID as libc::c_ulong | libc::SIGCHLD as libc::c_ulong;
    // SAFETY: without CLONE_VM and with a null stack this is fork(2); see `fork` for threads.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, 0usize, 0usize, 0usize) })?;
    Ok(match pid {
        0 => ForkResult::Child,
        pid => ForkResult::Parent { child: Pid::from_raw(pid as i32) },
    })
}

/// Ends the process without running exit handlers, as a forked child must.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` may be called at any time.
    unsafe { libc::_exit(code) }
}

/// Takes ownership of a descriptor that a system call has just returned.
pub fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: callers pass what a system call of theirs returned, which nothing else owns.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Borrows a descriptor known by number, for a poll that ends before its owner closes it.
pub fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: callers have just taken the number from an owner that outlives the poll.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Gives the process, which must have one thread, another environment.
pub fn replace_environment(variables: impl IntoIterator<Item = (String, String)>) {
    let old: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
    // SAFETY: the shim and the processes it forks have one thread.
    unsafe {
        for name in old {
            std::env::remove_var(name);
        }
        for (name, value) in variables {
            // A name std refuses would make it panic.
            if !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0') {
                std::env::set_var(name, value);
            }
        }
    }
}

/// Limits the calling process to the capabilities in `keep`: bounding, permitted and effective set.
pub fn limit_capabilities(keep: u64) -> io::Result<()> {
    for capability in 0..64 {
        if keep >> capability & 1 == 0 {
            // SAFETY: takes integers. Numbers the kernel does not know are refused with EINVAL.
            let dropped = check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }.into());
            match dropped {
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => break,
                other => drop(other?),
            }
        }
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let mut sets = [[0u32; 3]; 2];
    // SAFETY: the kernel reads a header of two words and reads or writes two sets of three words.
    check(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) })?;
    for (half, set) in sets.iter_mut().enumerate() {
        let keep = (keep >> (32 * half)) as u32;
        let [_, permitted, _] = *set;
        *set = [permitted & keep, permitted & keep, 0];
    }
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) })?;
    Ok(())
}

/// Lets tokio wait for a non-blocking file.
pub fn asynchronous(file: File) -> io::Result<AsyncFd<File>> {
    // SAFETY: a `File` owns its descriptor and never changes it for another.
    Ok(unsafe { AsyncFd::register(file) }?)
}

/// Lets tokio wait for urgent news of a non-blocking file (`POLLPRI`).
pub fn urgent(file: File) -> io::Result<AsyncFd<File>> {
    // SAFETY: a `File` owns its descriptor and never changes it for another.
    Ok(unsafe { AsyncFd::register_with_interest(file, tokio::io::Interest::PRIORITY) }?)
}

/// Closes every descriptor from `first` on.
pub fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: callers own no descriptor wrapper from `first` on that they use afterwards.
    check(unsafe { libc::syscall(libc::SYS_close_range, first as libc::c_uint, libc::c_uint::MAX, 0) })?;
    Ok(())
}

/// Gives `signal` its default action.
pub fn reset_signal(signal: Signal) -> io::Result<()> {
    // SAFETY: no handler function is installed.
    unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }?;
    Ok(())
}

/// Gives all signals their default action, those included that the C library keeps to itself and
/// that some ancestor may have ignored.
pub fn reset_all_signals() {
    for signal in 1..=64 {
        // SAFETY: a zeroed `kernel_sigaction`, at most 32 bytes long, means SIG_DFL without flags;
        // the signal set is 8 bytes on every architecture. SIGKILL and SIGSTOP are refused.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, [0u64; 4].as_ptr(), 0usize, 8usize) };
    }
}

/// Ignores `signal`. Ignoring SIGCHLD also reaps children by itself.
pub fn ignore_signal(signal: Signal) -> io::Result<()> {
    // SAFETY: no handler function is installed.
    unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) }?;
    Ok(())
}

/// Reads bytes and the descriptors that came with them, which are closed on exec.
pub fn recv_with_fds(socket: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = cmsg_space!([RawFd; MAX_FDS]);
    let mut slices = [IoSliceMut::new(buffer)];
    let message =
        recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            // SAFETY: the kernel has just made these descriptors for this process; nothing else owns them.
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok((message.bytes, fds))
}

/// Writes bytes, and with the first of them the descriptors. Never raises SIGPIPE.
pub fn send_with_fds(socket: &impl AsRawFd, bytes: &[u8], fds: &[RawFd]) -> io::Result<usize> {
    let slices = [IoSlice::new(bytes)];
    let rights = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() { &[][..] } else { &rights[..] };
    Ok(sendmsg::<UnixAddr>(socket.as_raw_fd(), &slices, control, MsgFlags::MSG_NOSIGNAL, None)?)
}

/// Sets the size of a terminal.
pub fn set_window_size(terminal: &impl AsFd, cols: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one `winsize`, which outlives the call.
    let done = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &size) };
    check(done.into())?;
    Ok(())
}

/// Installs a compiled filter without setting `no_new_privs`, which needs CAP_SYS_ADMIN unless it is set.
pub fn install_seccomp(program: &[seccompiler::sock_filter]) -> io::Result<()> {
    #[repr(C)]
    struct Program {
        len: libc::c_ushort,
        filter: *const seccompiler::sock_filter,
    }
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let program = Program { len, filter: program.as_ptr() };
    // SAFETY: the kernel copies the filter, which `program` points to with its true length.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &program) })?;
    Ok(())
}

/// Makes a mount read-only and leaves its other flags alone; with all that is mounted below it if `recursive`.
pub fn make_readonly(mount: &OwnedFd, recursive: bool) -> io::Result<()> {
    /// `struct mount_attr`.
    #[repr(C)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    const READONLY: u64 = 1;
    let attributes = Attributes { set: READONLY, clear: 0, propagation: 0, user_namespace: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the kernel reads an empty path and a structure of the length it is told.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &attributes,
            size_of::<Attributes>(),
        )
    })?;
    Ok(())
}

/// Loads a program (64-bit words, one an instruction) that decides on the use of devices.
pub fn load_device_filter(instructions: &[u64]) -> io::Result<OwnedFd> {
    const PROG_LOAD: libc::c_long = 5;
    const CGROUP_DEVICE: u32 = 15;
    /// The first fields of `union bpf_attr` for BPF_PROG_LOAD.
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log: [u32; 2],
        log_buffer: u64,
    }
    let load = Load {
        kind: CGROUP_DEVICE,
        count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log: [0; 2],
        log_buffer: 0,
    };
    // SAFETY: the kernel copies what the structure, given with its true size, points to.
    let fd = check(unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &load, size_of::<Load>()) })?;
    Ok(own(fd as RawFd))
}

/// Makes a loaded program decide on the use of devices by the processes of a version 2 cgroup.
pub fn attach_device_filter(cgroup: &impl AsFd, program: &impl AsFd) -> io::Result<()> {
    const PROG_ATTACH: libc::c_long = 8;
    const CGROUP_DEVICE: u32 = 6;
    const ALLOW_MULTI: u32 = 2;
    let attach =
        [cgroup.as_fd().as_raw_fd() as u32, program.as_fd().as_raw_fd() as u32, CGROUP_DEVICE, ALLOW_MULTI];
    // SAFETY: the kernel reads the four words that BPF_PROG_ATTACH begins with.
    check(unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &attach, size_of_val(&attach)) })?;
    Ok(())
}

/// A descriptor that becomes readable when the process ends. Closed on exec.
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel has just made this descriptor for this process.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Whether the process behind a pidfd has ended.
pub fn has_exited(pidfd: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0)
}

/// `kill(2)` with any signal number, real-time signals included.
pub fn send_signal(pid: i32, signal: i32) -> io::Result<()> {
    if pid <= 0 {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // SAFETY: takes two integers; groups of processes are excluded above.
    check(unsafe { libc::kill(pid, signal) }.into())?;
    Ok(())
}

/// Brings up the loopback interface of the calling thread's network namespace.
pub fn loopback_up() -> io::Result<()> {
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Datagram,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // SAFETY: an all-zero `ifreq` is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which outlives the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) };
    check(done.into())?;
    Ok(())
}

/// A read-only overlay mount, seen by nobody, that shows directory `lower`: files opened through it
/// share the page cache of the originals and can never be written. An unused second layer, `empty`,
/// is needed, because overlayfs wants two.
pub fn sealed_view(lower: &Path, empty: &Path) -> io::Result<OwnedFd> {
    let layers = CString::new(format!("{}:{}", lower.display(), empty.display()))?;
    // SAFETY: the name is a C string; the descriptor returned is new and owned by nothing else.
    let fs = unsafe {
        let fd = check(libc::syscall(libc::SYS_fsopen, c"overlay".as_ptr(), FSOPEN_CLOEXEC))?;
        OwnedFd::from_raw_fd(fd as RawFd)
    };
    let configure = |command: libc::c_uint, key: Option<&CStr>, value: Option<&CStr>| {
        let key = key.map_or(std::ptr::null(), CStr::as_ptr);
        let value = value.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: pointers are null or C strings that outlive the call.
        check(unsafe { libc::syscall(libc::SYS_fsconfig, fs.as_raw_fd(), command, key, value, 0) })
    };
    configure(FSCONFIG_SET_STRING, Some(c"lowerdir"), Some(&layers))?;
    configure(FSCONFIG_CMD_CREATE, None, None)?;
    let attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
    // SAFETY: takes integers; the descriptor returned is new and owned by nothing else.
    unsafe {
        let fd = check(libc::syscall(libc::SYS_fsmount, fs.as_raw_fd(), FSMOUNT_CLOEXEC, attributes))?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const MOUNT_ATTR_RDONLY: libc::c_uint = 1;
const MOUNT_ATTR_NOSUID: libc::c_uint = 2;
const MOUNT_ATTR_NODEV: libc::c_uint = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn descriptors_travel_with_bytes() {
        let (a, b) = UnixStream::pair().unwrap();
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        send_with_fds(&a, b"hello", &[writer.as_raw_fd()]).unwrap();
        let mut buffer = [0; 16];
        let (n, mut fds) = recv_with_fds(&b, &mut buffer).unwrap();
        assert_eq!(&buffer[..n], b"hello");
        assert_eq!(fds.len(), 1);
        writer.write_all(b"x").unwrap();
        drop(writer);
        std::fs::File::from(fds.remove(0)).write_all(b"y").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "xy");
    }

    #[test]
    fn a_process_that_ended_is_not_found() {
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = child.id() as i32;
        child.wait().unwrap();
        assert!(pidfd_open(pid).is_err());
        assert!(pidfd_open(std::process::id() as i32).is_ok());
    }
}
