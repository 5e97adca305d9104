//! Requests for key frames on their way up to the camera, and how often they are passed on.

use core::time::Duration;
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

/// What to do about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Have the encoder make its next frame a key frame.
    ForceNow,
    /// Ask [`Coalescer::due`] again at this time.
    ForceAt(Duration),
}

/// Makes one key frame serve everybody who asked within a window.
///
/// The first request is passed on at once. Those that come within `min_interval` of it are served
/// together by one more, at the end of that time, unless a key frame comes by itself before. So
/// nobody waits longer than `min_interval`, and key frames are never forced at a higher rate,
/// however many ask.
///
/// Sans-IO: times are given as readings of any clock that does not go back.
#[derive(Clone, Debug)]
pub struct Coalescer {
    min_interval: Duration,
    /// When a key frame was last forced.
    forced: Option<Duration>,
    /// When the next one is to be forced.
    due: Option<Duration>,
}

impl Coalescer {
    /// How far apart forced key frames are where nothing else is asked for.
    pub const DEFAULT_MIN_INTERVAL: Duration = Duration::from_millis(250);

    /// Passes requests on at most once in `min_interval`.
    pub const fn new(min_interval: Duration) -> Self {
        Self { min_interval, forced: None, due: None }
    }

    /// What to do about a request that comes `now`.
    pub fn request(&mut self, now: Duration) -> Decision {
        let earliest = self.forced.map_or(now, |forced| forced.saturating_add(self.min_interval));
        if earliest <= now {
            self.force(now);
            return Decision::ForceNow;
        }
        Decision::ForceAt(*self.due.get_or_insert(earliest))
    }

    /// Whether a key frame that was put off is to be forced `now`. True once for each.
    pub fn due(&mut self, now: Duration) -> bool {
        let due = self.due.is_some_and(|due| due <= now);
        if due {
            self.force(now);
        }
        due
    }

    /// When to ask [`Coalescer::due`] again; `None` where nothing was put off.
    pub fn due_at(&self) -> Option<Duration> {
        self.due
    }

    /// Notes that a key frame was published: it serves everybody who has asked so far.
    pub fn key_frame_published(&mut self) {
        self.due = None;
    }

    fn force(&mut self, now: Duration) {
        self.forced = Some(now);
        self.due = None;
    }
}

impl Default for Coalescer {
    fn default() -> Self {
        Self::new(Self::DEFAULT_MIN_INTERVAL)
    }
}
