//! What the start of the process is busy with, for the log when a step takes long: a disk that is slow to
//! sync, a lock that a dying process still holds. A start that is silent for a minute looks like a hang.

use std::borrow::Cow;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// A step that takes longer is told of.
const SLOW: Duration = Duration::from_secs(2);
/// Between two lines on the same step at most.
const AT_MOST: Duration = Duration::from_secs(60);

/// The step the start of the process has reached. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Steps(watch::Sender<Option<Cow<'static, str>>>);

impl Steps {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// `None`: the process has started.
    pub(super) fn set(&self, step: Option<Cow<'static, str>>) {
        self.0.send_replace(step);
    }

    /// Tells of steps that take long, until the process has started.
    pub(super) async fn tell(&self, say: impl Fn(&str, Duration)) {
        let mut current = self.0.subscribe();
        loop {
            let Some(step) = current.borrow_and_update().clone() else { return };
            let (began, mut pause) = (Instant::now(), SLOW);
            while let Err(_elapsed) = tokio::time::timeout(pause, current.changed()).await {
                say(&step, began.elapsed());
                pause = (pause * 2).min(AT_MOST);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[tokio::test(start_paused = true)]
    async fn only_slow_steps_are_told_of_and_ever_less_often() {
        let (steps, said) = (Steps::new(), Arc::new(Mutex::new(Vec::new())));
        steps.set(Some("one".into()));
        let (told, log) = (steps.clone(), Arc::clone(&said));
        let telling = tokio::spawn(async move {
            told.tell(|step, since| log.lock().expect("not poisoned").push(format!("{step} {since:?}")))
                .await;
        });
        tokio::time::sleep(Duration::from_millis(1900)).await;
        steps.set(Some("two".into()));
        tokio::time::sleep(Duration::from_millis(14_900)).await;
        steps.set(Some("three".into()));
        tokio::time::sleep(Duration::from_millis(1900)).await;
        steps.set(None);
        telling.await.expect("ends with the start");
        assert_eq!(*said.lock().expect("not poisoned"), ["two 2s", "two 6s", "two 14s"]);
    }
}
