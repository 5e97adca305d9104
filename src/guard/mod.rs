//! What must be given back, is: every GStreamer resource as a value whose drop gives it back.
//!
//! Guards run on an ordinary drop, on an early return and while a panic unwinds. Guards that
//! depend on each other go onto a [`Stack`], which drops them last-in first-out. How many of each
//! kind are live is counted ([`live`]) and shown in `lensline_guards_live`.
//!
//! No other module may set a state to Null, release a request pad, remove a probe, disconnect a
//! handler or take a watch off a bus; `tests/tidy.rs` sees to it.

mod bus;
mod cleanup;
mod pad;
mod pipeline;
mod signal;
mod teardown;

use std::sync::atomic::{AtomicI64, Ordering};

pub use bus::BusWatch;
pub use cleanup::{Cleanup, Shared, Stack};
pub use pad::{Probe, RequestPad};
pub use pipeline::{Element, Pipeline, StartError};
pub use signal::Signal;
pub use teardown::Teardowns;

/// What a guard guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A pipeline that must be set to Null.
    Pipeline,
    /// An element that must be set to Null and taken out of its bin.
    Element,
    /// A request pad that must be released.
    RequestPad,
    /// A probe that must be removed.
    Probe,
    /// A signal handler that must be disconnected.
    Signal,
    /// A handler that must be taken off a bus.
    BusWatch,
    /// Anything else that must be undone.
    Cleanup,
}

const KINDS: [Kind; 7] = [
    Kind::Pipeline,
    Kind::Element,
    Kind::RequestPad,
    Kind::Probe,
    Kind::Signal,
    Kind::BusWatch,
    Kind::Cleanup,
];

static LIVE: [AtomicI64; KINDS.len()] = [const { AtomicI64::new(0) }; KINDS.len()];

impl Kind {
    /// The name used in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pipeline => "pipeline",
            Self::Element => "element",
            Self::RequestPad => "request_pad",
            Self::Probe => "probe",
            Self::Signal => "signal",
            Self::BusWatch => "bus_watch",
            Self::Cleanup => "cleanup",
        }
    }
}

/// How many guards of each kind are live in this process.
pub fn live() -> impl Iterator<Item = (Kind, i64)> {
    KINDS.into_iter().map(|kind| (kind, LIVE[kind as usize].load(Ordering::Relaxed)))
}

/// Counts one guard as live for as long as it exists.
#[derive(Debug)]
struct Count(Kind);

impl Count {
    fn new(kind: Kind) -> Self {
        LIVE[kind as usize].fetch_add(1, Ordering::Relaxed);
        Self(kind)
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        LIVE[self.0 as usize].fetch_sub(1, Ordering::Relaxed);
    }
}
