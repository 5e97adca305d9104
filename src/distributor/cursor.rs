//! Where a subscriber stands, and what it reads next: the lag policy, without any sharing.
//!
//! A frame is *n frames old* when n frames were published after it. The rules:
//!
//! - A subscriber starts on the newest key frame, where that is at most `join_frames_max` old.
//!   Otherwise it waits for the next one, and one is requested.
//! - It reads frame after frame, as long as the next is at most `lag_frames_max` old.
//! - Is the next one older, or overwritten, or was it dropped, it goes on at the newest key frame,
//!   where that is ahead and at most `lag_frames_max` old. Otherwise it waits for the next one, and
//!   one is requested: once, and once more for each key frame that it lets go by.
//! - What lies between two frames it was given counts as skipped. So does what passes while it
//!   waits.
//!
//! It follows that every gap is followed by a key frame, and that delivered and skipped frames
//! together are all there were from its first on.

use super::ring::Key;
use super::{Counts, Limits};

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Nothing: there is no frame that was not looked at.
    Rest,
    /// Read on at [`Cursor::pos`].
    ReadOn,
    /// Look for a key frame at [`Cursor::pos`] or later, and [`Cursor::resync`].
    Resync,
}

/// What becomes of a subscriber that cannot read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resync {
    /// It goes on at this position, where there is a key frame.
    ReadKey(u64),
    /// It waits for the next key frame, which is requested where it says so.
    Wait {
        /// Whether to request one.
        request: bool,
    },
}

/// One subscriber's place in the row of frames.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    lag_frames_max: u64,
    /// While synced: no frame that it has yet to read stands before this position. While waiting:
    /// no key frame that is still of use does.
    pos: u64,
    /// The next frame to be accounted for.
    seq: u64,
    /// Whether it can read on; else it waits for a key frame.
    synced: bool,
    /// The first frame it accounts for.
    first_seq: u64,
    delivered: u64,
    /// Skipped since the last one delivered.
    gap: u64,
}

impl Cursor {
    /// A place for a new subscriber, and whether a key frame is to be requested for it.
    ///
    /// `key` is the newest key frame of all, looked up after `published`.
    pub(super) fn join(limits: &Limits, published: u64, key: Option<Key>) -> (Self, bool) {
        let start = key.and_then(|key| {
            let fresh = |seq: &u64| published.saturating_sub(*seq) <= limits.join_frames_max;
            key.seq.filter(fresh).map(|seq| (key.pos, seq))
        });
        let synced = start.is_some();
        let wait_pos = key.map_or(1, |key| key.pos + 1);
        let (pos, seq) = start.unwrap_or((wait_pos, published + 1));
        let lag_frames_max = limits.lag_frames_max;
        let cursor =
            Self { lag_frames_max, pos, seq, synced, first_seq: seq, delivered: 0, gap: 0 };
        (cursor, !synced)
    }

    /// Where to look for the next frame, or for the next key frame.
    pub(super) fn pos(&self) -> u64 {
        self.pos
    }

    /// What to do when `published` is the newest frame.
    pub(super) fn plan(&self, published: u64) -> Plan {
        if !self.synced {
            Plan::Resync
        } else if published < self.seq {
            Plan::Rest
        } else if self.is_fresh(self.seq, published) {
            Plan::ReadOn
        } else {
            Plan::Resync
        }
    }

    /// Whether frame `seq`, found when reading on, may be given out: without a gap, or as a key.
    pub(super) fn accepts(&self, seq: u64, key: bool) -> bool {
        debug_assert!(seq >= self.seq, "frame {seq} found, {} is next", self.seq);
        seq == self.seq || key
    }

    /// What becomes of a subscriber that cannot read on. `key` is the newest key frame at
    /// [`Cursor::pos`] or later, looked up after `published`.
    pub(super) fn resync(&mut self, published: u64, key: Option<Key>) -> Resync {
        match key {
            Some(Key { pos, seq: Some(seq) }) if self.is_fresh(seq, published) => {
                debug_assert!(seq >= self.seq, "key frame {seq} found, {} is next", self.seq);
                Resync::ReadKey(pos)
            }
            Some(key) => self.miss(published, key.pos),
            None => self.wait(published, self.synced),
        }
    }

    /// Lets the key frame at `pos` go by: too old, or overwritten before it could be read.
    pub(super) fn miss(&mut self, published: u64, pos: u64) -> Resync {
        self.pos = pos + 1;
        self.wait(published, true)
    }

    /// Notes that the frame `seq` at `pos` is given out; how many were skipped right before it.
    pub(super) fn deliver(&mut self, pos: u64, seq: u64) -> u64 {
        self.gap += seq.saturating_sub(self.seq);
        self.pos = pos + 1;
        self.seq = seq + 1;
        self.synced = true;
        self.delivered += 1;
        std::mem::take(&mut self.gap)
    }

    /// The account, when `published` is the newest frame.
    pub(super) fn counts(&self, published: u64) -> Counts {
        let done = self.seq - self.first_seq;
        Counts {
            // A key frame may be found a moment before it is announced.
            published: (published + 1).max(self.seq) - self.first_seq,
            delivered: self.delivered,
            skipped: done - self.delivered,
        }
    }

    fn wait(&mut self, published: u64, request: bool) -> Resync {
        self.synced = false;
        self.gap += (published + 1).saturating_sub(self.seq);
        self.seq = self.seq.max(published + 1);
        Resync::Wait { request }
    }

    fn is_fresh(&self, seq: u64, published: u64) -> bool {
        published.saturating_sub(seq) <= self.lag_frames_max
    }
}
