//! Being told that memory gets scarce, before the next regular look: pressure stall information
//! (<https://docs.kernel.org/accounting/psi.html>).

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::sys;

const FILE: &str = "/proc/pressure/memory";
/// Some process waited for memory for a tenth of two seconds, which is the window anyone may ask for.
const TRIGGER: &[u8] = b"some 200000 2000000\0";

/// The kernel's notice that memory gets scarce on this machine; some kernels give none.
pub struct Stall(Option<AsyncFd<File>>);

impl Stall {
    /// Asks to be told.
    pub fn open() -> Self {
        let open = || -> std::io::Result<AsyncFd<File>> {
            let mut file =
                OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(FILE)?;
            file.write_all(TRIGGER)?;
            sys::urgent(file)
        };
        let opened =
            open().inspect_err(|error| tracing::debug!(%error, "{FILE} tells of no shortage of memory"));
        Self(opened.ok())
    }

    /// Ends when memory is scarce; never, where the kernel does not tell.
    pub async fn felt(&mut self) {
        let Some(file) = &self.0 else { return std::future::pending().await };
        match file.ready(Interest::PRIORITY).await {
            Ok(mut ready) => ready.clear_ready(),
            Err(error) => {
                tracing::debug!(%error, "{FILE} tells no more");
                self.0 = None;
                std::future::pending().await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_machine_at_rest_tells_nothing() {
        let mut stall = Stall::open();
        let told = tokio::time::timeout(std::time::Duration::from_millis(50), stall.felt()).await;
        assert!(told.is_err() || std::path::Path::new(FILE).exists());
    }
}
