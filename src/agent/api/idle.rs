//! Streams on which nothing moves: kubelet's `streamingConnectionIdleTimeout`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// When bytes last went through a connection.
#[derive(Clone)]
pub(super) struct Activity(Arc<Mutex<Instant>>);

impl Activity {
    fn note(&self) {
        *self.0.lock() = Instant::now();
    }

    /// Resolves when nothing moved for so long. The one timer runs out at most once in that time.
    pub(super) async fn idle_for(&self, timeout: Duration) {
        loop {
            let until = *self.0.lock() + timeout;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

/// A connection that notes its activity.
pub(super) struct Noted<T> {
    io: T,
    activity: Activity,
}

impl<T> Noted<T> {
    /// The connection, and what is known of it.
    pub(super) fn new(io: T) -> (Self, Activity) {
        let activity = Activity(Arc::new(Mutex::new(Instant::now())));
        (Self { io, activity: activity.clone() }, activity)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Noted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.activity.note();
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Noted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
        self.activity.note();
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn both_directions_keep_a_connection_open() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let (mut ours, activity) = Noted::new(ours);
        let began = Instant::now();
        let moving = async {
            let mut byte = [0];
            tokio::time::sleep(Duration::from_secs(50)).await;
            theirs.write_all(b"x").await.expect("sent");
            ours.read_exact(&mut byte).await.expect("received");
            tokio::time::sleep(Duration::from_secs(50)).await;
            ours.write_all(b"y").await.expect("sent");
        };
        tokio::join!(moving, activity.idle_for(Duration::from_secs(60)));
        assert_eq!(began.elapsed().as_secs(), 160);
    }
}
