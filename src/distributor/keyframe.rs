//! Requests for key frames on their way up to the camera, which decides how often to heed them.

use std::task::{Context, Poll};

use super::sync::{AtomicBool, AtomicU64, AtomicWaker, Ordering};

/// Why a key frame is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A subscriber has joined, and the newest key frame is too old to start on.
    Join,
    /// A subscriber has lost its place, by lagging or because its frame was dropped.
    Lag,
    /// A viewer's decoder has asked for one (PLI, FIR).
    Viewer,
    /// Somebody has asked for one over the API.
    Operator,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 4] = [Self::Join, Self::Lag, Self::Viewer, Self::Operator];

    /// The name used in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Lag => "lag",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }
}

/// The requests that were made, and the one who waits for them.
#[derive(Debug)]
pub(super) struct KeyFrames {
    requested: AtomicBool,
    waiter: AtomicWaker,
    counts: [AtomicU64; Cause::ALL.len()],
}

impl KeyFrames {
    pub(super) fn new() -> Self {
        Self {
            requested: AtomicBool::new(false),
            waiter: AtomicWaker::new(),
            counts: Cause::ALL.map(|_| AtomicU64::new(0)),
        }
    }

    /// Makes a request, and wakes who waits for one.
    pub(super) fn request(&self, cause: Cause) {
        self.counts[cause as usize].fetch_add(1, Ordering::Relaxed);
        // A read-modify-write because many write here: each has its place between those of the
        // waiter, and none is overwritten unseen.
        self.requested.swap(true, Ordering::Release);
        self.waiter.wake();
    }

    /// Whether there was a request since the last look; who asks is woken by the next one.
    pub(super) fn poll_requested(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.requested.swap(false, Ordering::Acquire) {
            return Poll::Ready(());
        }
        self.waiter.register(context.waker());
        // Once more: a request that was made before the waker was registered woke nobody.
        if self.requested.swap(false, Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Requests so far for this cause.
    pub(super) fn count(&self, cause: Cause) -> u64 {
        self.counts[cause as usize].load(Ordering::Relaxed)
    }
}
