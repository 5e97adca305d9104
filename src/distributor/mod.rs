//! ONE -> MANY: every frame of one publisher to any number of subscribers, each at its own pace.
//!
//! ```text
//!             publish                    ring of slots                     try_next / next
//!  Publisher ─────────▶ [ 9 ][10k][11 ][12 ][ 5k][ 6 ][ 7 ][ 8 ] ─────────▶ Subscriber
//!      │                       newest_key ─┘    └─ oldest, next to go         │ cursor
//!      └── wakes who waits ──▶ seats                                           │
//!  camera ◀── key_frame_requested ──────── key_frames ◀── request ─────────────┘
//! ```
//!
//! # What a subscriber gets
//!
//! It starts on a key frame and then gets frame after frame. One that falls behind is not waited
//! for: it goes on at the newest key frame, or waits for the next one, which is requested. The
//! rules and their limits stand in `cursor`. Always:
//!
//! - the first frame delivered is a key frame, and so is every one after a gap;
//! - sequence numbers rise, and [`Delivery::skipped`] tells how many are missing in between;
//! - what was delivered, what was skipped and what was not looked at yet add up to what was
//!   published ([`Counts`]).
//!
//! # Who waits for whom
//!
//! **No thread ever waits for another in here, and a publish is bounded by the size of the ring.**
//! There is no lock, no spinning, no allocation after [`channel`]. Not more than that is claimed:
//! waking a task does what its executor does, and dropping a frame's last reference frees memory
//! on the thread that drops it.
//!
//! A reader pins the slot it clones from. A publisher that comes round to a pinned slot (its
//! reader was stopped in the middle of a clone for a whole round) leaves a hole and takes the
//! next one. Positions count slots and have holes; sequence numbers count frames and have none.
//! Each subscriber pins at most one slot, which is why the ring must be longer than there are
//! subscribers.
//!
//! # Files
//!
//! `ring` (where frames are), `slot` (one of them; the only unsafe code), `cursor` (what to read
//! next; no sharing in it), `seat` (who is woken), `publisher`, `subscriber`, `hub` (the three
//! handles), `keyframe` (requests), `sync` (std or loom).
//!
//! It knows nothing of GStreamer, of tokio or of clocks, which is what lets loom, proptest and the
//! simulator run this very code.

mod cursor;
mod hub;
mod keyframe;
mod publisher;
mod ring;
mod seat;
mod slot;
mod subscriber;
mod sync;
#[cfg(test)]
mod tests;

pub use hub::Hub;
pub use keyframe::Cause;
pub use publisher::Publisher;
pub use seat::Full;
pub use subscriber::{Counts, Delivery, Next, Subscriber};

use keyframe::KeyFrames;
use ring::Ring;
use seat::Seats;
use sync::Arc;

/// Slots to spare: for one caller of [`Hub::newest_key`] at a time, and for the frame that is
/// being written while the oldest one in use is read.
pub const MARGIN_FRAMES: usize = 1;

/// How much is kept, for how many, and how far one may fall behind. See [`channel`] for how they
/// must fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Frames that are kept: the bound of the memory.
    pub ring_frames: usize,
    /// Subscribers at a time.
    pub subscribers_max: usize,
    /// A subscriber is given no frame that is older than this many frames.
    pub lag_frames_max: u64,
    /// A subscriber starts on the retained key frame if it is at most this many frames old.
    pub join_frames_max: u64,
}

/// Limits that do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// Every subscriber may pin a slot, and there must be more.
    #[error(
        "a ring of {ring_frames} frames is too short for {subscribers_max} subscribers; \
         ring_frames must be at least {ring_frames_min}"
    )]
    Subscribers {
        /// What was asked for.
        ring_frames: usize,
        /// What was asked for.
        subscribers_max: usize,
        /// What would do.
        ring_frames_min: usize,
    },
    /// What a lagging subscriber may still read must be there.
    #[error(
        "a ring of {ring_frames} frames is too short for a lag of {lag_frames_max} frames; \
         ring_frames must be at least lag_frames_max + {MARGIN_FRAMES}"
    )]
    Lag {
        /// What was asked for.
        ring_frames: usize,
        /// What was asked for.
        lag_frames_max: u64,
    },
    /// A key frame to start on must not count as lag.
    #[error(
        "join_frames_max ({join_frames_max}) must not be above lag_frames_max ({lag_frames_max})"
    )]
    Join {
        /// What was asked for.
        join_frames_max: u64,
        /// What was asked for.
        lag_frames_max: u64,
    },
}

/// What the handles share.
#[derive(Debug)]
struct Shared<T> {
    limits: Limits,
    ring: Ring<T>,
    seats: Seats,
    key_frames: KeyFrames,
}

/// A distributor: the one who publishes, and where to subscribe.
///
/// # Errors
/// Unless `ring_frames > subscribers_max + MARGIN_FRAMES`,
/// `lag_frames_max + MARGIN_FRAMES <= ring_frames` and `join_frames_max <= lag_frames_max`.
pub fn channel<T: Clone>(limits: Limits) -> Result<(Publisher<T>, Hub<T>), LimitsError> {
    limits.check()?;
    let shared = Arc::new(Shared {
        limits,
        ring: Ring::new(limits.ring_frames),
        seats: Seats::new(limits.subscribers_max),
        key_frames: KeyFrames::new(),
    });
    Ok((Publisher::new(Arc::clone(&shared)), Hub::new(shared)))
}

impl Limits {
    fn check(self) -> Result<(), LimitsError> {
        let Self { ring_frames, subscribers_max, lag_frames_max, join_frames_max } = self;
        let ring_frames_min = subscribers_max.saturating_add(MARGIN_FRAMES + 1);
        if ring_frames < ring_frames_min {
            return Err(LimitsError::Subscribers { ring_frames, subscribers_max, ring_frames_min });
        }
        if lag_frames_max.saturating_add(MARGIN_FRAMES as u64) > ring_frames as u64 {
            return Err(LimitsError::Lag { ring_frames, lag_frames_max });
        }
        if join_frames_max > lag_frames_max {
            return Err(LimitsError::Join { join_frames_max, lag_frames_max });
        }
        Ok(())
    }
}
