//! The side that frames come in by.

use std::fmt;

use super::slot::Entry;
use super::sync::Arc;
use super::{Cause, Shared};

/// The one who publishes. Dropping it ends every subscriber, after the last frame it may read.
pub struct Publisher<T> {
    shared: Arc<Shared<T>>,
    /// Where to put the next frame.
    pos: u64,
    /// Frames published so far.
    seq: u64,
}

impl<T: Clone> Publisher<T> {
    pub(super) fn new(shared: Arc<Shared<T>>) -> Self {
        Self { shared, pos: 1, seq: 0 }
    }

    /// Publishes the next frame and returns its sequence number: from 1, without gaps.
    ///
    /// Waits for nobody, takes no lock and allocates nothing. Its cost is that of one slot, and of
    /// waking who waits; where readers sit in the slots it comes to, it tries up to `ring_frames`
    /// of them. It drops the frame that it overwrites, and wakers do what their executor has them
    /// do.
    ///
    /// Should somebody read in every slot, for which more than `ring_frames` readers must have
    /// been stopped in the middle of a clone, the frame is lost: its number is used up, it counts
    /// as skipped for everybody and in [`Hub::dropped`](super::Hub::dropped), and a key frame is
    /// requested.
    pub fn publish(&mut self, key: bool, item: T) -> u64 {
        self.seq += 1;
        let entry = Entry { pos: self.pos, seq: self.seq, key, item };
        let put = self.shared.ring.put(entry);
        self.shared.ring.announce(self.seq);
        self.shared.seats.wake_all();
        match put {
            // Dropped last: it may be the last reference to a large frame.
            Some((pos, evicted)) => {
                self.pos = pos + 1;
                drop(evicted);
            }
            None => self.shared.key_frames.request(Cause::Lag),
        }
        self.seq
    }

    /// How many frames were published: the sequence number of the newest.
    pub fn published(&self) -> u64 {
        self.seq
    }

    /// Positions left out so far because somebody was reading in their slot.
    #[cfg(test)]
    pub(super) fn holes(&self) -> u64 {
        self.pos - 1 - (self.seq - self.shared.ring.dropped())
    }
}

impl<T> Drop for Publisher<T> {
    fn drop(&mut self) {
        self.shared.ring.close();
        self.shared.seats.wake_all();
    }
}

impl<T> fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("published", &self.seq).finish_non_exhaustive()
    }
}
