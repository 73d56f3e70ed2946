//! Values of a range, each held by at most one Service: addresses and node ports.
//!
//! A value is taken while a request is prepared, before its commit. If the commit fails, the request is
//! rolled back, which gives back only what was taken and never committed: a value is `settled` once it was
//! seen in a stored object. A Service that lets a value go (its type changed) still holds it here; such a
//! value is found out when somebody wants it, by looking at what its holder has stored.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// Why a value cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Somebody holds it.
    Taken,
    /// All are held.
    Full,
}

struct Held {
    /// `<namespace>/<name>` of the Service.
    holder: String,
    settled: bool,
}

/// Which values of `first..=last` are held, by whom.
pub struct Allocator {
    first: u32,
    last: u32,
    /// Values up to this one are chosen last, so that those who ask for one by its number find it free.
    reserved_up_to: u32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: BTreeMap<u32, Held>,
    next: u32,
}

impl Allocator {
    /// Hands out `first..=last`, those above `reserved_up_to` first.
    pub fn new(first: u32, last: u32, reserved_up_to: u32) -> Self {
        Self { first, last, reserved_up_to: reserved_up_to.clamp(first, last), state: Mutex::default() }
    }

    /// The value is one of this range.
    pub fn contains(&self, value: u32) -> bool {
        (self.first..=self.last).contains(&value)
    }

    /// First and last value.
    pub fn range(&self) -> (u32, u32) {
        (self.first, self.last)
    }

    /// Takes this value. `uses` says whether a holder's stored object has a value; with `dry_run` it is
    /// only checked that it could be had.
    pub fn take(
        &self,
        value: u32,
        holder: &str,
        uses: impl Fn(&str, u32) -> bool,
        dry_run: bool,
    ) -> Result<(), Refused> {
        let mut state = self.state.lock();
        if state.held.get(&value).is_some_and(|held| !held.settled || uses(&held.holder, value)) {
            return Err(Refused::Taken);
        }
        if !dry_run {
            state.held.insert(value, Held { holder: holder.to_owned(), settled: false });
        }
        Ok(())
    }

    /// Takes any free value.
    pub fn take_any(
        &self,
        holder: &str,
        uses: impl Fn(&str, u32) -> bool,
        dry_run: bool,
    ) -> Result<u32, Refused> {
        let mut state = self.state.lock();
        let free = |held: &BTreeMap<u32, Held>, value: u32| !held.contains_key(&value);
        let start = state.next.clamp(self.reserved_up_to, self.last);
        let upper = (start + 1..=self.last).chain(self.reserved_up_to + 1..=start);
        let found = upper
            .chain(self.first..=self.reserved_up_to)
            .find(|value| self.contains(*value) && free(&state.held, *value))
            .or_else(|| {
                state
                    .held
                    .iter()
                    .find(|(value, held)| held.settled && !uses(&held.holder, **value))
                    .map(|(v, _)| *v)
            })
            .ok_or(Refused::Full)?;
        state.next = found;
        if !dry_run {
            state.held.insert(found, Held { holder: holder.to_owned(), settled: false });
        }
        Ok(found)
    }

    /// A stored object has this value.
    pub fn settle(&self, value: u32, holder: &str) {
        let mut state = self.state.lock();
        match state.held.get_mut(&value) {
            Some(held) if held.holder == holder => held.settled = true,
            Some(_) => {}
            None => {
                state.held.insert(value, Held { holder: holder.to_owned(), settled: true });
            }
        }
    }

    /// A request that may have taken the value failed.
    pub fn undo(&self, value: u32, holder: &str) {
        let mut state = self.state.lock();
        if state.held.get(&value).is_some_and(|held| held.holder == holder && !held.settled) {
            state.held.remove(&value);
        }
    }

    /// The holder is gone.
    pub fn release(&self, value: u32, holder: &str) {
        let mut state = self.state.lock();
        if state.held.get(&value).is_some_and(|held| held.holder == holder) {
            state.held.remove(&value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(_: &str, _: u32) -> bool {
        true
    }

    #[test]
    fn a_value_has_one_holder_until_it_is_given_back() {
        let all = Allocator::new(1, 3, 1);
        all.take(2, "a", used, false).unwrap();
        assert_eq!(all.take(2, "b", used, false), Err(Refused::Taken));
        assert_eq!(all.take_any("b", used, false), Ok(3));
        assert_eq!(all.take_any("c", used, false), Ok(1), "the reserved part comes last");
        assert_eq!(all.take_any("d", used, false), Err(Refused::Full));
        all.undo(2, "b");
        assert_eq!(all.take(2, "b", used, false), Err(Refused::Taken), "not b's to give back");
        all.undo(2, "a");
        all.take(2, "b", used, false).unwrap();
        all.settle(2, "b");
        all.undo(2, "b");
        assert_eq!(all.take(2, "c", used, false), Err(Refused::Taken), "what is stored is not rolled back");
        all.release(2, "b");
        all.take(2, "c", used, true).unwrap();
        all.take(2, "c", used, false).unwrap();
    }

    #[test]
    fn a_value_its_holder_let_go_is_found_when_it_is_wanted() {
        let all = Allocator::new(1, 2, 1);
        all.settle(1, "a");
        all.settle(2, "b");
        let uses = |holder: &str, _: u32| holder == "b";
        assert_eq!(all.take(2, "c", uses, false), Err(Refused::Taken));
        assert_eq!(all.take_any("c", uses, false), Ok(1));
        assert_eq!(all.take_any("d", uses, false), Err(Refused::Full), "what is on its way is not let go");
    }

    #[test]
    fn a_value_just_given_back_is_not_handed_out_next() {
        let all = Allocator::new(1, 9, 1);
        let first = all.take_any("a", used, false).unwrap();
        all.release(first, "a");
        assert_ne!(all.take_any("b", used, false).unwrap(), first);
    }
}
