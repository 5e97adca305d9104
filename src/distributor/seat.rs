//! Seats: a bounded number of places at which subscribers wait to be woken.

use std::task::Waker;

use super::sync::{AtomicU64, AtomicWaker, Ordering};

/// Seats in one word of a map of seats.
const WORD_SEATS: usize = u64::BITS as usize;

/// All seats are taken: there are as many subscribers as the limits allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all seats are taken; try again when a subscriber has left")]
pub struct Full;

/// All seats of a distributor. Waking costs one step for each 64 seats and one for each at which
/// somebody waits, however many are taken.
#[derive(Debug)]
pub(super) struct Seats {
    /// A bit for each seat, set while it is taken.
    taken: Box<[AtomicU64]>,
    /// A bit for each seat, set from the registration of a waker until the next pass.
    waiting: Box<[AtomicU64]>,
    wakers: Box<[AtomicWaker]>,
}

/// Seats of one word that a pass has taken out of the map and not woken yet. They are put back
/// where a waker panics: a later pass wakes them.
struct Due<'a> {
    word: &'a AtomicU64,
    bits: u64,
}

impl Iterator for Due<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let bit = (self.bits != 0).then(|| self.bits.trailing_zeros() as usize)?;
        self.bits &= self.bits - 1;
        Some(bit)
    }
}

impl Drop for Due<'_> {
    fn drop(&mut self) {
        if self.bits != 0 {
            self.word.fetch_or(self.bits, Ordering::Relaxed);
        }
    }
}

impl Seats {
    pub(super) fn new(seats: usize) -> Self {
        let map = || (0..seats.div_ceil(WORD_SEATS)).map(|_| AtomicU64::new(0)).collect();
        Self {
            taken: map(),
            waiting: map(),
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
                // Acquire: the one before has left the seat (Release, in `leave`).
                if word.fetch_or(bit, Ordering::Acquire) & bit == 0 {
                    return Ok(first + bit.trailing_zeros() as usize);
                }
                free &= !bit;
            }
        }
        Err(Full)
    }

    /// Gives a seat back.
    pub(super) fn leave(&self, seat: usize) {
        // No waker of a task that may be gone is left to who comes next. The bit of one who waits
        // may stay: at worst who comes next is woken once in vain.
        drop(self.wakers[seat].take());
        // Release: the waker is taken before who comes next can put its own there.
        let bit = 1 << (seat % WORD_SEATS);
        self.taken[seat / WORD_SEATS].fetch_and(!bit, Ordering::Release);
    }

    /// Has `waker` woken by the next [`Seats::wake_all`]. The caller must look once more for what
    /// it waits for, after this and before it goes to sleep.
    #[inline]
    pub(super) fn register(&self, seat: usize, waker: &Waker) {
        // The waker first, or a pass between the two takes the bit, finds nobody to wake, and
        // leaves a waker that no pass looks at. Release: who takes the bit finds the waker.
        // Acquire: where the pass came before, what it announced is seen by who looks once more.
        self.wakers[seat].register(waker);
        self.waiting[seat / WORD_SEATS].fetch_or(1 << (seat % WORD_SEATS), Ordering::AcqRel);
    }

    /// Wakes everybody who waits at a seat. For the publisher only, after what it announces.
    #[inline]
    pub(super) fn wake_all(&self) {
        for (index, word) in self.waiting.iter().enumerate() {
            // A read-modify-write also where nobody seems to wait: a load may miss the bit of
            // somebody who has just registered and who, for its part, has not seen what was
            // announced. Of two read-modify-writes of one word the later sees the earlier (AcqRel
            // on both sides).
            for bit in (Due { word, bits: word.swap(0, Ordering::AcqRel) }) {
                self.wakers[index * WORD_SEATS + bit].wake();
            }
        }
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken.iter().map(|word| word.load(Ordering::Relaxed).count_ones() as usize).sum()
    }
}
