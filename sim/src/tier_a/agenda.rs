//! What is to happen when. Things of one moment happen in the order in which they were put down.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

/// One session: the number of its viewer, and which of that viewer's joins it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Who {
    pub viewer: usize,
    pub attempt: u32,
}

/// Something that is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A direction of a link is to be looked at.
    Way(usize),
    /// The camera takes a picture.
    Picture,
    /// The pacing of key frames is to be asked.
    Pace,
    /// The camera is to be opened.
    Open,
    /// A session is to be looked at.
    Look(Who),
    /// A TCP sender's timer.
    Timeout(Flow),
    /// Something that a viewer does by itself, in one of its joins.
    Viewer(Who, Timer),
    /// Traffic that is not ours goes on.
    Traffic(usize),
    /// A fault begins (or, where false, ends).
    Fault(usize, bool),
    /// A link changes: its number, and that of the change.
    Change(usize, usize),
    /// A second is over.
    Second,
}

/// Who sends by TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Session(Who),
    Traffic(usize),
}

/// What a viewer does by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// Asks to come in.
    Join,
    /// Repeats a step that was not answered.
    Repeat(u8),
    /// Tells how it goes.
    Report,
    /// Says goodbye, so many times more.
    Leave(u8),
}

struct Entry {
    at: Duration,
    number: u64,
    event: Event,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

/// All that is to happen.
#[derive(Default)]
pub struct Agenda {
    entries: BinaryHeap<Reverse<Entry>>,
    number: u64,
}

impl Agenda {
    pub fn put(&mut self, at: Duration, event: Event) {
        self.number += 1;
        self.entries.push(Reverse(Entry { at, number: self.number, event }));
    }

    /// What is next, if it is before `end`.
    pub fn take(&mut self, end: Duration) -> Option<(Duration, Event)> {
        if self.entries.peek()?.0.at >= end {
            return None;
        }
        self.entries.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }
}
