//! What the kernel tells in its log alone: whom it killed when the whole machine ran out of memory
//! (`/dev/kmsg`, <https://docs.kernel.org/admin-guide/abi-testing.html>).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use tokio::io::unix::AsyncFd;

use super::sys;

const FILE: &str = "/dev/kmsg";
/// No record is longer (`CONSOLE_EXT_LOG_MAX`).
const RECORD: usize = 8 << 10;

/// A process that was killed because the machine had no memory left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Victim {
    /// Its name, as the kernel has it: at most 15 bytes.
    pub process: String,
    /// Its id, in the PID namespace of the machine.
    pub pid: u32,
}

/// The kernel's log from now on.
#[derive(Debug)]
pub struct KernelLog(AsyncFd<File>);

impl KernelLog {
    /// Opens it behind its last record.
    ///
    /// # Errors
    /// The file is not there, or not for this process: so it is inside of containers.
    pub fn open() -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(FILE)?;
        file.seek(SeekFrom::End(0))?;
        sys::asynchronous(file).map(Self)
    }

    /// Waits until the kernel kills a process because the machine has no memory left. What it kills for
    /// the limit of a control group does not count.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn out_of_memory(&mut self) -> io::Result<Victim> {
        let mut record = [0; RECORD];
        loop {
            let mut ready = self.0.readable_mut().await?;
            match ready.try_io(|file| file.get_mut().read(&mut record)) {
                Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(Ok(length)) => {
                    if let Some(victim) = victim(&String::from_utf8_lossy(&record[..length])) {
                        return Ok(victim);
                    }
                }
                // Records were overwritten before they were read: the next read gives the oldest there is.
                Ok(Err(e)) if e.raw_os_error() == Some(libc::EPIPE) => {}
                Ok(Err(e)) => return Err(e),
                Err(_would_block) => {}
            }
        }
    }
}

/// Whom a record tells of. Only the kernel's own count: the others' facility is not 0.
fn victim(record: &str) -> Option<Victim> {
    let (head, message) = record.split_once(';')?;
    let priority: u32 = head.split(',').next()?.parse().ok()?;
    let facts = message.lines().next()?.strip_prefix("oom-kill:constraint=")?;
    if priority > 7 || !facts.contains(",global_oom,") {
        return None;
    }
    // The name of a process may be anything; what is behind it may not.
    let (before, pid) = facts.rsplit_once(",pid=")?;
    let (_, process) = before.split_once(",task=")?;
    let pid = pid.split(',').next()?.parse().ok()?;
    Some(Victim { process: process.to_owned(), pid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_machines_own_lack_counts() {
        const GLOBAL: &str = "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,\
                              task_memcg=/kubepods/besteffort/pod1,task=tail,pid=4242,uid=0";
        let group = GLOBAL.replace("global_oom", "oom_memcg=/kubepods/pod1");
        let odd = GLOBAL.replace("task=tail", "task=a,pid=1,b");
        let found = |process: &str| Some(Victim { process: process.into(), pid: 4242 });
        for (record, expected) in [
            (format!("6,901,5000,-;{GLOBAL}\n SUBSYSTEM=x\n"), found("tail")),
            (format!("6,901,5000,-;{odd}\n"), found("a,pid=1,b")),
            (format!("6,901,5000,-;{group}\n"), None),
            // Written by a process.
            (format!("12,901,5000,-;{GLOBAL}\n"), None),
            ("6,902,5001,-;Out of memory: Killed process 4242 (tail) total-vm:1kB\n".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(victim(&record), expected, "{record}");
        }
    }

    #[tokio::test]
    async fn what_processes_write_tells_nothing() {
        // Not everybody may read it.
        let Ok(mut log) = KernelLog::open() else { return };
        let told = tokio::time::timeout(std::time::Duration::from_millis(50), log.out_of_memory()).await;
        assert!(told.is_err(), "{told:?}");
    }
}
