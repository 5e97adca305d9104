//! One place of the ring: an entry that many may read at a time, or one may replace.
//!
//! The only unsafe code of the project. The state is a try-lock for readers and writers that
//! nobody ever waits for: the low bits count readers, the top bit says that the entry is being
//! replaced. Who finds the slot taken goes away and decides elsewhere what to do about it.
#![expect(unsafe_code, reason = "an entry is shared between threads without a lock")]

use super::sync::{AtomicUsize, Ordering, UnsafeCell};

/// Set while the entry is being replaced; the bits below count readers.
const WRITING: usize = 1 << (usize::BITS - 1);

/// What a slot holds.
#[derive(Debug)]
pub(super) struct Entry<T> {
    /// Where in the endless row of positions the entry stands; from 1. Positions rise by one from
    /// slot to slot, and by the length of the ring from one entry of a slot to the next.
    pub pos: u64,
    /// Which of the published frames it is; from 1, without gaps.
    pub seq: u64,
    /// Whether it is a key frame.
    pub key: bool,
    /// The frame.
    pub item: T,
}

/// A place for one entry; empty at first.
#[derive(Debug)]
pub(super) struct Slot<T> {
    state: AtomicUsize,
    entry: UnsafeCell<Option<Entry<T>>>,
}

/// Keeps the entry of a slot from being replaced.
#[derive(Debug)]
pub(super) struct Reading<'a, T> {
    slot: &'a Slot<T>,
}

// SAFETY: `entry` is reached in two ways only. `Reading::entry` lends it out shared, which asks
// for `T: Sync`, and only while the slot's reader count is above zero and WRITING was not set
// when the count rose. `Slot::replace` changes it, which moves a `T` in from one thread and out
// to another and so asks for `T: Send`, and only between setting WRITING on a state of zero and
// clearing it. Both are decided by read-modify-writes of one atomic, which agree on one order: a
// reader that comes after WRITING sees it and leaves; one that came before makes the state
// non-zero, and the compare-exchange fails. So the two never overlap.
unsafe impl<T: Send + Sync> Sync for Slot<T> {}

impl<T> Slot<T> {
    pub(super) fn new() -> Self {
        Self { state: AtomicUsize::new(0), entry: UnsafeCell::new(None) }
    }

    /// Keeps the entry as it is until the result is dropped. `None` while it is being replaced.
    pub(super) fn read(&self) -> Option<Reading<'_, T>> {
        // Acquire: what the writer did before it cleared WRITING is seen from here on. There are
        // far fewer threads than the count has room for.
        let before = self.state.fetch_add(1, Ordering::Acquire);
        let reading = Reading { slot: self };
        (before & WRITING == 0).then_some(reading)
    }

    /// Replaces the entry and hands out the one before; hands back the new one where somebody
    /// reads. It does not wait.
    pub(super) fn replace(&self, entry: Entry<T>) -> Result<Option<Entry<T>>, Entry<T>> {
        // Acquire: whatever readers did before they left (Release, in `Reading::drop`) is over.
        let claim = self.state.compare_exchange(0, WRITING, Ordering::Acquire, Ordering::Relaxed);
        if claim.is_err() {
            return Err(entry);
        }
        // SAFETY: WRITING was set on a state of zero: nobody reads, and until it is cleared
        // nobody starts to, and nobody else writes (see `Sync` above). The pointer is valid and
        // aligned because it is the cell's own. `replace` cannot panic, so WRITING is cleared.
        let before = self.entry.with_mut(|place| unsafe { (*place).replace(entry) });
        // Release: a reader that sees WRITING cleared sees the entry. The count below it belongs
        // to readers that came in vain and are about to leave.
        self.state.fetch_and(!WRITING, Ordering::Release);
        Ok(before)
    }
}

impl<T> Reading<'_, T> {
    /// Looks at the entry; `None` where none was ever put here.
    pub(super) fn entry<R>(&self, look: impl FnOnce(Option<&Entry<T>>) -> R) -> R {
        // SAFETY: `self` came out of `Slot::read`, so the count has been above zero since WRITING
        // was seen cleared, and it stays so until `self` is dropped: nobody writes meanwhile. The
        // reference cannot outlive the call, as `R` cannot name its lifetime.
        self.slot.entry.with(|place| look(unsafe { (*place).as_ref() }))
    }
}

impl<T> Drop for Reading<'_, T> {
    fn drop(&mut self) {
        // Release: the reading is over before a writer finds the count at zero (Acquire). Also
        // for who came in vain and has read nothing, where it does no harm.
        self.slot.state.fetch_sub(1, Ordering::Release);
    }
}
