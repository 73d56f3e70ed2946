//! What follows when the clock of the machine is set. Pauses and deadlines go on by [`super::steady`].

use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::error::Error;
use crate::supervisor::ClockWatch;

/// Has all pods looked at anew when the clock was set, until cancelled: what goes by the clock, as tokens do,
/// may be due at once.
pub(crate) async fn run(context: &Context, token: CancellationToken) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::Other(format!("the clock cannot be watched: {error}"));
    let mut clock = ClockWatch::new(None).map_err(failed)?;
    loop {
        tokio::select! {
            () = token.cancelled() => return Ok(()),
            set = clock.changed() => set.map_err(failed)?,
        }
        tracing::info!("the clock of this machine was set");
        context.evictions.wake_all();
    }
}
