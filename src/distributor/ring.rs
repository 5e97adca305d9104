//! The ring: where the publisher puts frames, and how readers find them.
//!
//! Order of a publish: slot, then `newest_key` (of a key frame), then `published`, then the
//! wakers. A reader loads `closed`, `published` and `newest_key` in this order: it knows every
//! key frame up to the `published` it saw, and of a closed ring it knows all there ever will be.

use super::slot::{Entry, Slot};
use super::sync::{AtomicBool, AtomicU64, Ordering};

/// The slots, and what is known about them without looking into one.
#[derive(Debug)]
pub(super) struct Ring<T> {
    slots: Box<[Slot<T>]>,
    /// Position of the newest key frame; 0 none yet.
    newest_key: AtomicU64,
    /// Sequence number of the newest frame; 0 none yet.
    published: AtomicU64,
    /// Frames for which no slot was free.
    dropped: AtomicU64,
    /// Whether the publisher is gone.
    closed: AtomicBool,
}

/// Where the newest key frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Its position.
    pub pos: u64,
    /// Its sequence number; `None` where it has been overwritten.
    pub seq: Option<u64>,
}

/// What stands at a position that was passed by the publisher.
#[derive(Debug)]
pub(super) enum Found<T> {
    /// The frame of this position.
    Frame {
        /// Its sequence number.
        seq: u64,
        /// Whether it is a key frame.
        key: bool,
        /// The frame.
        item: T,
    },
    /// None: somebody was reading the slot when the publisher came by.
    Hole,
    /// A later one, now or in a moment: the publisher has been round the ring.
    Lapped,
}

impl<T> Ring<T> {
    pub(super) fn new(frames: usize) -> Self {
        Self {
            slots: (0..frames).map(|_| Slot::new()).collect(),
            newest_key: AtomicU64::new(0),
            published: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// How many frames it holds at most.
    pub(super) fn frames(&self) -> usize {
        self.slots.len()
    }

    /// The slot of a position.
    pub(super) fn slot(&self, pos: u64) -> &Slot<T> {
        let frames = self.slots.len() as u64;
        &self.slots[(pos % frames) as usize]
    }

    /// Puts a frame at the first position from `entry.pos` on whose slot nobody reads, and tells
    /// which that is and what stood there before. `None`, and the frame is lost, where somebody
    /// reads in every one of them. For the publisher only.
    pub(super) fn put(&self, mut entry: Entry<T>) -> Option<(u64, Option<Entry<T>>)> {
        let key = entry.key;
        for _ in 0..self.slots.len() {
            let pos = entry.pos;
            match self.slot(pos).replace(entry) {
                Ok(evicted) => {
                    if key {
                        // Release: who knows the position finds the frame in its slot.
                        self.newest_key.store(pos, Ordering::Release);
                    }
                    return Some((pos, evicted));
                }
                Err(back) => entry = Entry { pos: pos + 1, ..back },
            }
        }
        self.dropped.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// Makes known that frame `seq` was put. For the publisher only.
    pub(super) fn announce(&self, seq: u64) {
        // Release: who sees `seq` sees its slot, and every key frame up to it.
        self.published.store(seq, Ordering::Release);
    }

    /// Makes known that no frame comes any more.
    pub(super) fn close(&self) {
        // Release: who sees it sees the last frame announced.
        self.closed.store(true, Ordering::Release);
    }

    /// Whether the publisher is gone. Ask before [`Ring::published`], not after.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Sequence number of the newest frame; 0 none yet.
    pub(super) fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    /// Frames for which no slot was free.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The newest key frame, where it stands at `from` or later. Ask after [`Ring::published`].
    pub(super) fn newest_key(&self, from: u64) -> Option<Key> {
        let pos = self.newest_key.load(Ordering::Acquire);
        if pos == 0 || pos < from {
            return None;
        }
        let seq = self.slot(pos).read().and_then(|reading| {
            reading.entry(|entry| entry.filter(|entry| entry.pos == pos).map(|entry| entry.seq))
        });
        Some(Key { pos, seq })
    }
}

impl<T: Clone> Ring<T> {
    /// What stands at `pos`. The caller knows that the publisher has passed it.
    pub(super) fn get(&self, pos: u64) -> Found<T> {
        // Being replaced is being replaced by a later one: this one's time is over.
        let Some(reading) = self.slot(pos).read() else { return Found::Lapped };
        reading.entry(|entry| match entry {
            Some(entry) if entry.pos > pos => Found::Lapped,
            Some(Entry { pos: here, seq, key, item }) if *here == pos => {
                Found::Frame { seq: *seq, key: *key, item: item.clone() }
            }
            _ => Found::Hole,
        })
    }
}
