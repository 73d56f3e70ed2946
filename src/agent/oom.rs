//! Tells the node's events of processes that the kernel killed because the machine ran out of memory, as
//! kubelet's `oomWatcher`. What a container's own limit kills is told by its status.

use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::error::Error;
use crate::runtime::KernelLog;

/// Watches the kernel's log until cancelled, where it may be read.
pub(crate) async fn run(context: &Context, token: CancellationToken) -> Result<(), Error> {
    let mut log = match KernelLog::open() {
        Ok(log) => log,
        Err(error) => {
            tracing::info!(%error, "without the kernel's log there are no events of reason SystemOOM");
            return Ok(());
        }
    };
    loop {
        let victim = tokio::select! {
            () = token.cancelled() => return Ok(()),
            victim = log.out_of_memory() => victim.map_err(|e| Error::Other(format!("the kernel's log: {e}")))?,
        };
        let text = format!("System OOM encountered, victim process: {}, pid: {}", victim.process, victim.pid);
        context.node_event("Warning", "SystemOOM", text);
    }
}
