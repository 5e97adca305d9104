//! Seats: a bounded number of places at which subscribers wait to be woken.

use std::task::Waker;

use super::sync::{AtomicU64, AtomicWaker, Ordering};

/// Seats in one word of the map of taken seats.
const WORD_SEATS: usize = u64::BITS as usize;

/// All seats are taken: there are as many subscribers as the limits allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all seats are taken; try again when a subscriber has left")]
pub struct Full;

/// All seats of a distributor. A pass over them costs one step for each 64 seats and one for each
/// that is taken, however many there are.
#[derive(Debug)]
pub(super) struct Seats {
    /// A bit for each seat, set while it is taken.
    taken: Box<[AtomicU64]>,
    wakers: Box<[AtomicWaker]>,
}

impl Seats {
    pub(super) fn new(seats: usize) -> Self {
        Self {
            taken: (0..seats.div_ceil(WORD_SEATS)).map(|_| AtomicU64::new(0)).collect(),
            wakers: (0..seats).map(|_| AtomicWaker::new()).collect(),
        }
    }

    /// Takes a seat, the one with the lowest number that was seen free; its number.
    ///
    /// # Errors
    /// Where none was free.
    pub(super) fn take(&self) -> Result<usize, Full> {
        for (index, word) in self.taken.iter().enumerate() {
            let first = index * WORD_SEATS;
            let seats = (self.wakers.len() - first).min(WORD_SEATS);
            let mut free = !word.load(Ordering::Relaxed) & (u64::MAX >> (WORD_SEATS - seats));
            while free != 0 {
                let bit = free & free.wrapping_neg();
                // Acquire: the one before has left the seat (Release, in `leave`), and what was
                // announced before a `wake_all` that did not see the bit is seen (see there).
                if word.fetch_or(bit, Ordering::AcqRel) & bit == 0 {
                    return Ok(first + bit.trailing_zeros() as usize);
                }
                free &= !bit;
            }
        }
        Err(Full)
    }

    /// Gives a seat back.
    pub(super) fn leave(&self, seat: usize) {
        // No waker of a task that may be gone is left to who comes next.
        drop(self.wakers[seat].take());
        // Release: the waker is taken before who comes next can put its own there.
        let bit = 1 << (seat % WORD_SEATS);
        self.taken[seat / WORD_SEATS].fetch_and(!bit, Ordering::Release);
    }

    /// Has `waker` woken by the next [`Seats::wake_all`]. The caller must look once more for what
    /// it waits for, after this and before it goes to sleep.
    pub(super) fn register(&self, seat: usize, waker: &Waker) {
        self.wakers[seat].register(waker);
    }

    /// Wakes everybody who waits at a seat.
    pub(super) fn wake_all(&self) {
        for (index, word) in self.taken.iter().enumerate() {
            // A read-modify-write, not a load: a load may miss the bit of somebody who has just
            // sat down and who, for its part, has not seen what was announced. Of two
            // read-modify-writes of one word the later sees the earlier (AcqRel on both sides).
            let mut taken = word.fetch_or(0, Ordering::AcqRel);
            while taken != 0 {
                self.wakers[index * WORD_SEATS + taken.trailing_zeros() as usize].wake();
                taken &= taken - 1;
            }
        }
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken.iter().map(|word| word.load(Ordering::Relaxed).count_ones() as usize).sum()
    }
}
