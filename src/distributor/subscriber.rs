//! The side that frames go out by.

use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll};

use super::cursor::{Cursor, Plan, Resync};
use super::ring::Found;
use super::sync::Arc;
use super::{Cause, Shared};

/// One frame as a subscriber gets it.
#[derive(Clone, Debug)]
pub struct Delivery<T> {
    /// Which of the published frames it is, as [`Publisher::publish`](super::Publisher::publish)
    /// numbered them. Rises from one delivery to the next.
    pub seq: u64,
    /// Whether it is a key frame. The first one delivered is, and so is every one after a gap.
    pub key: bool,
    /// The frame.
    pub item: T,
    /// How many frames were skipped right before this one; of the first one, how many passed
    /// since the subscription.
    pub skipped: u64,
}

/// The account of one subscriber.
///
/// Always `published == delivered + skipped + pending()`. Pending are the frames that the
/// subscriber has not looked at yet: after a [`Subscriber::try_next`] that found nothing more, and
/// with nothing published since, there are none, and every frame was delivered or skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    /// Frames published from the subscriber's first on: the retained key frame that it started
    /// on, or else the first one published after it had subscribed.
    pub published: u64,
    /// Frames it was given.
    pub delivered: u64,
    /// Frames it was not given and never will be: it lagged, or it waited for a key frame.
    pub skipped: u64,
}

impl Counts {
    /// Frames that were published and neither delivered nor skipped yet.
    pub fn pending(&self) -> u64 {
        self.published - self.delivered - self.skipped
    }
}

/// What [`Subscriber::try_next`] found.
#[derive(Debug)]
pub enum Next<T> {
    /// The next frame.
    Frame(Delivery<T>),
    /// None that may be read now.
    Empty,
    /// None any more: the publisher is gone, and what could be read was read.
    Closed,
}

/// One reader of all frames, at its own pace. See the module for what it gets and what it skips.
pub struct Subscriber<T> {
    shared: Arc<Shared<T>>,
    seat: usize,
    cursor: Cursor,
}

impl<T: Clone> Subscriber<T> {
    /// The subscriber at `seat`, which is its own from now on.
    pub(super) fn join(shared: Arc<Shared<T>>, seat: usize) -> Self {
        let published = shared.ring.published();
        let (cursor, request) = Cursor::join(&shared.limits, published, shared.ring.newest_key(1));
        if request {
            shared.key_frames.request(Cause::Join);
        }
        Self { shared, seat, cursor }
    }

    /// The next frame, if there is one. Never waits: it looks into at most `ring_frames` + 2 slots,
    /// in the ordinary case into one.
    pub fn try_next(&mut self) -> Next<T> {
        // Before `published`: frames that come after a look at it are not lost to a close that
        // comes still later.
        let closed = self.shared.ring.is_closed();
        let published = self.shared.ring.published();
        let delivery = match self.cursor.plan(published) {
            Plan::Rest => None,
            Plan::ReadOn => match self.read_on() {
                Some(delivery) => Some(delivery),
                None => self.resync(self.shared.ring.published(), closed),
            },
            Plan::Resync => self.resync(published, closed),
        };
        match delivery {
            Some(delivery) => Next::Frame(delivery),
            None if closed => Next::Closed,
            None => Next::Empty,
        }
    }

    /// The next frame; `None` when the publisher is gone and what could be read was read.
    ///
    /// Cancel-safe: a frame is taken only in the moment in which it is returned.
    pub async fn next(&mut self) -> Option<Delivery<T>> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// [`Subscriber::next`] for who writes a future by hand. The last waker given is woken.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Delivery<T>>> {
        if let Some(ready) = self.ready() {
            return Poll::Ready(ready);
        }
        self.shared.seats.register(self.seat, context.waker());
        // Once more: what came before the waker was registered woke nobody.
        self.ready().map_or(Poll::Pending, Poll::Ready)
    }

    /// The account up to now.
    pub fn counts(&self) -> Counts {
        self.cursor.counts(self.shared.ring.published())
    }

    fn ready(&mut self) -> Option<Option<Delivery<T>>> {
        match self.try_next() {
            Next::Frame(delivery) => Some(Some(delivery)),
            Next::Closed => Some(None),
            Next::Empty => None,
        }
    }

    /// The frame that is next in the row, stepping over holes. `None` where it is gone.
    fn read_on(&mut self) -> Option<Delivery<T>> {
        let from = self.cursor.pos();
        for pos in from..from + self.shared.ring.frames() as u64 {
            match self.shared.ring.get(pos) {
                Found::Frame { seq, key, item } if self.cursor.accepts(seq, key) => {
                    return Some(self.deliver(pos, seq, key, item));
                }
                Found::Hole => {}
                Found::Frame { .. } | Found::Lapped => return None,
            }
        }
        None
    }

    /// The newest key frame, if it is of use. If not, frames up to `published` are given up, and
    /// frames after it wake who has registered before: nothing is looked at twice.
    fn resync(&mut self, published: u64, closed: bool) -> Option<Delivery<T>> {
        let key = self.shared.ring.newest_key(self.cursor.pos());
        let mut resync = self.cursor.resync(published, key);
        if let Resync::ReadKey(pos) = resync {
            if let Found::Frame { seq, key, item } = self.shared.ring.get(pos) {
                return Some(self.deliver(pos, seq, key, item));
            }
            resync = self.cursor.miss(published, pos);
        }
        if resync == (Resync::Wait { request: true }) && !closed {
            self.shared.key_frames.request(Cause::Lag);
        }
        None
    }

    fn deliver(&mut self, pos: u64, seq: u64, key: bool, item: T) -> Delivery<T> {
        let skipped = self.cursor.deliver(pos, seq);
        Delivery { seq, key, item, skipped }
    }
}

impl<T> Drop for Subscriber<T> {
    fn drop(&mut self) {
        self.shared.seats.leave(self.seat);
    }
}

impl<T> fmt::Debug for Subscriber<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber")
            .field("seat", &self.seat)
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}
