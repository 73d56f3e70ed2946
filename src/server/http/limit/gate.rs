//! Slots, and a queue for each user before them.
//!
//! A user may take a slot while it has fewer than are free, so that one alone gets half of them, two get a
//! third each, and whoever comes next finds one at once. Who finds none waits in its own queue; slots that
//! become free go round among the users that wait. Queues and waits are bounded.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// How much a gate lets through and lets wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Requests in flight.
    pub(super) slots: usize,
    /// Requests of one user that wait.
    pub(super) queue: usize,
    /// How long one waits.
    pub(super) patience: Duration,
}

#[derive(Debug, Default)]
struct Queue {
    taken: usize,
    waiting: VecDeque<(u64, oneshot::Sender<()>)>,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    users: HashMap<Arc<str>, Queue>,
    /// Users with waiting requests, in the order of their turns.
    turns: VecDeque<Arc<str>>,
    tickets: u64,
}

impl State {
    /// Gives the user a slot, if it has fewer than are free.
    fn take(&mut self, slots: usize, user: &Arc<str>) -> bool {
        let free = slots.saturating_sub(self.taken);
        let Some(queue) = self.users.get_mut(user).filter(|q| q.taken < free) else { return false };
        queue.taken += 1;
        self.taken += 1;
        true
    }

    fn give_back(&mut self, user: &Arc<str>) {
        self.taken -= 1;
        if let Some(queue) = self.users.get_mut(user) {
            queue.taken -= 1;
        }
        self.tidy(user);
    }

    /// Forgets a user that neither has nor wants anything.
    fn tidy(&mut self, user: &Arc<str>) {
        if self.users.get(user).is_some_and(|q| q.taken == 0 && q.waiting.is_empty()) {
            self.users.remove(user);
        }
    }

    /// Gives free slots to those that wait, one a turn, until nobody may take another.
    fn dispatch(&mut self, slots: usize) {
        let mut refused = 0;
        while refused < self.turns.len() {
            let Some(user) = self.turns.pop_front() else { return };
            let waits = self.users.get(&user).is_some_and(|q| !q.waiting.is_empty());
            if waits && !self.take(slots, &user) {
                self.turns.push_back(user);
                refused += 1;
                continue;
            }
            let next = self.users.get_mut(&user).and_then(|q| q.waiting.pop_front());
            // Who stopped waiting at this very moment gives its slot back.
            if next.is_some_and(|(_, sender)| sender.send(()).is_err()) {
                self.give_back(&user);
            }
            refused = 0;
            if self.users.get(&user).is_some_and(|q| !q.waiting.is_empty()) {
                self.turns.push_back(user);
            }
        }
    }
}

/// A gate; clones are the same gate.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    bounds: Bounds,
    state: Arc<Mutex<State>>,
}

impl Gate {
    /// A gate that lets so much through.
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, state: Arc::default() }
    }

    /// Slots in use.
    pub(super) fn taken(&self) -> usize {
        self.state.lock().taken
    }

    /// A slot for a request of this user, at once or after a wait; `None` if there is none in time.
    pub(super) async fn enter(&self, user: &str) -> Option<Slot> {
        let mut wait = match self.ask(user) {
            Asked::Slot(slot) => return Some(slot),
            Asked::Full => return None,
            Asked::Wait(wait) => wait,
        };
        match tokio::time::timeout(self.bounds.patience, &mut wait.granted).await {
            Ok(Ok(())) => Some(wait.into_slot()),
            _ => None,
        }
    }

    fn ask(&self, user: &str) -> Asked {
        let mut state = self.state.lock();
        let known = state.users.get_key_value(user).map(|(name, _)| Arc::clone(name));
        let user = known.unwrap_or_else(|| user.into());
        let queue = state.users.entry(Arc::clone(&user)).or_default();
        // Nobody overtakes requests of its own.
        let (first, full) = (queue.waiting.is_empty(), queue.waiting.len() >= self.bounds.queue);
        if first && state.take(self.bounds.slots, &user) {
            return Asked::Slot(Slot { gate: self.clone(), user });
        }
        if full {
            state.tidy(&user);
            return Asked::Full;
        }
        state.tickets += 1;
        let ticket = state.tickets;
        let (sender, granted) = oneshot::channel();
        if let Some(queue) = state.users.get_mut(&user) {
            queue.waiting.push_back((ticket, sender));
        }
        if first {
            state.turns.push_back(Arc::clone(&user));
        }
        Asked::Wait(Wait { gate: self.clone(), user, ticket, granted, done: false })
    }

    fn release(&self, user: &Arc<str>) {
        let mut state = self.state.lock();
        state.give_back(user);
        state.dispatch(self.bounds.slots);
    }

    /// Takes a request out of its queue.
    fn leave(&self, user: &Arc<str>, ticket: u64) {
        let mut state = self.state.lock();
        if let Some(queue) = state.users.get_mut(user) {
            queue.waiting.retain(|(t, _)| *t != ticket);
            if queue.waiting.is_empty() {
                state.turns.retain(|u| u != user);
            }
        }
        state.tidy(user);
    }
}

enum Asked {
    Slot(Slot),
    Wait(Wait),
    Full,
}

/// A request that waits. Dropped, it waits no more, and gives back what it was just given.
struct Wait {
    gate: Gate,
    user: Arc<str>,
    ticket: u64,
    granted: oneshot::Receiver<()>,
    done: bool,
}

impl Wait {
    fn into_slot(mut self) -> Slot {
        self.done = true;
        Slot { gate: self.gate.clone(), user: Arc::clone(&self.user) }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        self.granted.close();
        match self.granted.try_recv() {
            Ok(()) => self.gate.release(&self.user),
            Err(_) => self.gate.leave(&self.user, self.ticket),
        }
    }
}

/// A request in flight; it ends with it.
#[derive(Debug)]
pub(in crate::server::http) struct Slot {
    gate: Gate,
    user: Arc<str>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.gate.release(&self.user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::future::Future;
    use std::pin::Pin;

    fn gate(slots: usize, queue: usize) -> Gate {
        Gate::new(Bounds { slots, queue, patience: Duration::from_secs(5) })
    }

    /// All the slots a user gets without waiting.
    fn fill(gate: &Gate, user: &str) -> Vec<Slot> {
        std::iter::from_fn(|| gate.enter(user).now_or_never().flatten()).collect()
    }

    type Waiting<'a> = Pin<Box<dyn Future<Output = Option<Slot>> + 'a>>;

    fn waiting<'a>(gate: &'a Gate, user: &'a str) -> Waiting<'a> {
        let mut future: Waiting<'a> = Box::pin(gate.enter(user));
        assert!(future.as_mut().now_or_never().is_none(), "{user} has to wait");
        future
    }

    #[tokio::test]
    async fn one_user_leaves_room_for_others() {
        let gate = gate(12, 1);
        let greedy = fill(&gate, "greedy");
        assert_eq!(greedy.len(), 6);
        let second = fill(&gate, "second");
        assert_eq!((second.len(), gate.taken()), (3, 9));
        assert!(gate.enter("third").now_or_never().flatten().is_some());
        drop((greedy, second));
        assert_eq!((gate.taken(), gate.state.lock().users.len()), (0, 0));
        assert_eq!(fill(&gate, "third").len(), 6);
    }

    #[tokio::test]
    async fn slots_go_round_among_those_that_wait() {
        let gate = gate(1, 3);
        let mut held = fill(&gate, "greedy");
        let mut greedy: Vec<_> = (0..3).map(|_| waiting(&gate, "greedy")).collect();
        assert!(gate.enter("greedy").now_or_never().expect("it is told at once").is_none(), "a full queue");
        let mut polite = waiting(&gate, "polite");
        // The first of the greedy one came first; then it is the polite one's turn.
        held.clear();
        let slot = greedy[0].as_mut().now_or_never().flatten().expect("a slot");
        assert!(polite.as_mut().now_or_never().is_none());
        drop(slot);
        assert!(greedy[1].as_mut().now_or_never().is_none());
        let slot = polite.as_mut().now_or_never().flatten().expect("the polite one's turn");
        drop(slot);
        let slot = greedy[1].as_mut().now_or_never().flatten().expect("a slot");
        drop((slot, greedy));
        assert_eq!((gate.taken(), gate.state.lock().users.len()), (0, 0));
        assert!(gate.state.lock().turns.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_its_patience() {
        let gate = gate(1, 3);
        let held = fill(&gate, "a");
        let asked = tokio::time::Instant::now();
        assert!(gate.enter("b").await.is_none());
        assert_eq!(asked.elapsed(), Duration::from_secs(5));
        assert_eq!(gate.state.lock().users.len(), 1, "it left its queue");
        drop(held);
        assert!(gate.enter("b").await.is_some());
    }

    #[tokio::test]
    async fn who_stops_waiting_loses_nothing_for_others() {
        let gate = gate(1, 3);
        let held = fill(&gate, "a");
        let (gone, mut next) = (waiting(&gate, "b"), waiting(&gate, "c"));
        drop(held);
        // The slot was given to b, which goes before it looks.
        assert_eq!(gate.taken(), 1);
        drop(gone);
        let slot = next.as_mut().now_or_never().flatten().expect("it goes on to c");
        let gone = waiting(&gate, "b");
        drop(gone);
        drop(slot);
        assert_eq!((gate.taken(), gate.state.lock().users.len()), (0, 0));
    }

    #[tokio::test]
    async fn a_polite_client_is_served_beside_a_greedy_one() {
        let gate = gate(4, 50);
        let busy: Vec<_> = (0..40)
            .map(|_| {
                let gate = gate.clone();
                tokio::spawn(async move {
                    let slot = gate.enter("greedy").await;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    slot.is_some()
                })
            })
            .collect();
        tokio::task::yield_now().await;
        for _ in 0..10 {
            assert!(gate.enter("polite").now_or_never().flatten().is_some(), "there is always room");
        }
        for one in busy {
            assert!(one.await.expect("no panic"), "all are served in the end");
        }
    }
}
