//! The side that subscribers come to, and by which key frames are asked for.

use std::fmt;
use std::future::poll_fn;

use super::ring::Found;
use super::sync::Arc;
use super::{Cause, Full, Shared, Subscriber};

/// How often [`Hub::newest_key`] looks again where the key frame it went for was overwritten.
const NEWEST_KEY_LOOKS: usize = 4;

/// Where to subscribe. Cheap to clone; all clones are one.
pub struct Hub<T> {
    shared: Arc<Shared<T>>,
}

impl<T: Clone> Hub<T> {
    pub(super) fn new(shared: Arc<Shared<T>>) -> Self {
        Self { shared }
    }

    /// A new subscriber. It starts on the newest key frame, where that is at most
    /// `join_frames_max` frames old; otherwise on the next one, which is requested
    /// ([`Cause::Join`]).
    ///
    /// # Errors
    /// Where there are `subscribers_max` subscribers.
    pub fn subscribe(&self) -> Result<Subscriber<T>, Full> {
        let seat = self.shared.seats.take()?;
        Ok(Subscriber::join(Arc::clone(&self.shared), seat))
    }

    /// Asks the camera for a key frame; never blocks, from any thread.
    pub fn request_key_frame(&self, cause: Cause) {
        self.shared.key_frames.request(cause);
    }

    /// Resolves when somebody has asked for a key frame since it last did. Requests that come
    /// before it is waited for are not lost; any number of them resolve it once.
    ///
    /// For one waiter at a time, the camera: of two, one may never hear. Cancel-safe.
    pub async fn key_frame_requested(&self) {
        poll_fn(|context| self.shared.key_frames.poll_requested(context)).await;
    }

    /// How many requests there were for this cause.
    pub fn key_frame_requests(&self, cause: Cause) -> u64 {
        self.shared.key_frames.count(cause)
    }

    /// The newest key frame; `None` where there was none yet, or the ring has gone past it.
    ///
    /// Waits for nobody. (A caller that was overtaken by a full round of the ring, four times in
    /// a row, gets `None` as well.)
    pub fn newest_key(&self) -> Option<T> {
        for _ in 0..NEWEST_KEY_LOOKS {
            let key = self.shared.ring.newest_key(1)?;
            if let Found::Frame { item, .. } = self.shared.ring.get(key.pos) {
                return Some(item);
            }
        }
        None
    }

    /// How many frames were published: the sequence number of the newest.
    pub fn published(&self) -> u64 {
        self.shared.ring.published()
    }

    /// How many frames were lost because somebody was reading in every slot. 0, unless
    /// [`Hub::newest_key`] is called from many threads at a time on a machine that stops them.
    pub fn dropped(&self) -> u64 {
        self.shared.ring.dropped()
    }

    /// How many subscribers there are.
    pub fn subscribers(&self) -> usize {
        self.shared.seats.taken()
    }

    /// What lies behind it, for tests that hold slots.
    #[cfg(all(test, not(feature = "loom")))]
    pub(super) fn shared(&self) -> &Shared<T> {
        &self.shared
    }
}

impl<T> Clone for Hub<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> fmt::Debug for Hub<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("published", &self.shared.ring.published())
            .field("subscribers", &self.shared.seats.taken())
            .finish_non_exhaustive()
    }
}
