//! The scenarios, for both worlds.
//!
//! Each takes its size: a few frames for loom, which tries all orders; many for real threads.

use super::world::{Ledger, Token, block_on, thread};
use crate::distributor::{Cause, Delivery, Hub, Limits, Next, Publisher, Subscriber, channel};

/// A frame that knows what it is.
#[derive(Clone, Debug)]
pub(super) struct Item {
    seq: u64,
    key: bool,
    _token: Token,
}

/// How large a scenario is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// Length of the ring.
    pub ring_frames: usize,
    /// Frames from one key frame to the next.
    pub gop_frames: u64,
    /// Frames published.
    pub frames: u64,
    /// How often a reader looks while they are published.
    pub reads: u64,
}

impl Size {
    fn limits(self, subscribers_max: usize, lag_frames_max: u64) -> Limits {
        Limits {
            ring_frames: self.ring_frames,
            subscribers_max,
            lag_frames_max,
            join_frames_max: 1,
        }
    }
}

/// The camera of a scenario.
pub(super) struct Source {
    publisher: Publisher<Item>,
    gop_frames: u64,
    ledger: Ledger,
}

impl Source {
    pub(super) fn new(limits: Limits, gop_frames: u64) -> (Self, Hub<Item>) {
        let (publisher, hub) = channel(limits).unwrap();
        (Self { publisher, gop_frames, ledger: Ledger::new() }, hub)
    }

    /// Publishes up to frame `last`.
    pub(super) fn publish_to(&mut self, last: u64) {
        for seq in self.publisher.published() + 1..=last {
            let key = (seq - 1).is_multiple_of(self.gop_frames);
            let item = Item { seq, key, _token: self.ledger.token() };
            assert_eq!(self.publisher.publish(key, item), seq);
        }
    }

    pub(super) fn publisher(&self) -> &Publisher<Item> {
        &self.publisher
    }

    /// Ends the stream.
    pub(super) fn close(self) -> Ledger {
        self.ledger
    }
}

/// A viewer that checks whatever it is given.
pub(super) struct Viewer {
    pub subscriber: Subscriber<Item>,
    last: Option<u64>,
    delivered: u64,
    skipped: u64,
}

impl Viewer {
    pub(super) fn new(hub: &Hub<Item>) -> Self {
        let subscriber = hub.subscribe().unwrap();
        Self { subscriber, last: None, delivered: 0, skipped: 0 }
    }

    /// Looks once; the number of the frame it was given, or `Err(closed)`.
    pub(super) fn look(&mut self) -> Result<u64, bool> {
        let next = self.subscriber.try_next();
        let result = match next {
            Next::Frame(delivery) => Ok(self.note(&delivery)),
            Next::Empty => Err(false),
            Next::Closed => Err(true),
        };
        self.check_counts();
        result
    }

    /// Waits for the next frame; its number.
    pub(super) fn wait(&mut self) -> Option<u64> {
        let delivery = block_on(self.subscriber.next())?;
        let seq = self.note(&delivery);
        self.check_counts();
        Some(seq)
    }

    /// Waits until the stream has ended, and closes the account.
    pub(super) fn watch_to_the_end(mut self, published: u64) -> u64 {
        while self.wait().is_some() {}
        self.settle(published)
    }

    /// Reads what is left of a stream that has ended, and closes the account.
    pub(super) fn drain(mut self, published: u64) -> u64 {
        let closed = loop {
            if let Err(closed) = self.look() {
                break closed;
            }
        };
        assert!(closed, "the publisher is gone");
        self.settle(published)
    }

    fn note(&mut self, delivery: &Delivery<Item>) -> u64 {
        let &Delivery { seq, key, ref item, skipped } = delivery;
        assert_eq!((item.seq, item.key), (seq, key), "I1: another frame than it says");
        match self.last {
            Some(last) => {
                assert!(seq > last, "I2: {seq} after {last}");
                assert_eq!(seq - last - 1, skipped, "I7: {seq} after {last}");
                assert!(skipped == 0 || key, "I2: {seq} after a gap is no key frame");
            }
            None => assert!(key, "I6: starts on {seq}, which is no key frame"),
        }
        self.last = Some(seq);
        self.delivered += 1;
        self.skipped += skipped;
        seq
    }

    fn check_counts(&self) {
        let counts = self.subscriber.counts();
        assert_eq!(counts.delivered, self.delivered);
        assert!(counts.skipped >= self.skipped, "{counts:?}");
        assert!(counts.delivered + counts.skipped <= counts.published, "{counts:?}");
    }

    /// I7 when nothing is pending; returns how many frames were delivered.
    fn settle(self, published: u64) -> u64 {
        let counts = self.subscriber.counts();
        assert_eq!(counts.pending(), 0, "I7: {counts:?}");
        assert_eq!(counts.delivered + counts.skipped, counts.published, "I7");
        assert!(counts.published <= published, "{counts:?} of {published}");
        if let Some(last) = self.last {
            let first = last + 1 - self.delivered - self.skipped;
            let after = published - last;
            assert!(first >= 1);
            assert!(counts.skipped >= self.skipped + after, "{counts:?}, {after} after the last");
        }
        self.delivered
    }
}

/// I1, I2, I7: a reader against a publisher that goes round the ring.
pub(super) fn publish_vs_read_wrap(size: Size) {
    let (mut source, hub) =
        Source::new(size.limits(1, size.ring_frames as u64 - 1), size.gop_frames);
    source.publish_to(1);
    let mut viewer = Viewer::new(&hub);
    let publishing = thread::spawn(move || {
        source.publish_to(size.frames);
        source
    });
    for _ in 0..size.reads {
        let _ = viewer.look();
    }
    let ledger = publishing.join().unwrap().close();
    assert!(viewer.drain(size.frames) >= 1);
    drop(hub);
    ledger.settle();
}

/// I1, I2: a lagging reader on its way to a key frame that is being overwritten.
pub(super) fn skip_to_key_vs_overwrite(size: Size) {
    let (mut source, hub) = Source::new(size.limits(1, 1), size.gop_frames);
    source.publish_to(1);
    let mut viewer = Viewer::new(&hub);
    source.publish_to(1 + size.gop_frames);
    let publishing = thread::spawn(move || {
        source.publish_to(size.frames);
        source
    });
    for _ in 0..size.reads {
        if let Ok(seq) = viewer.look() {
            assert!(seq > 1, "frame 1 was older than the limit");
        }
    }
    let ledger = publishing.join().unwrap().close();
    viewer.drain(size.frames);
    drop(hub);
    ledger.settle();
}

/// I5: a publisher that meets a pinned slot goes on, and readers miss nothing by the hole. Returns
/// how many holes there were.
pub(super) fn pinned_slot_leaves_hole(size: Size) -> u64 {
    let (mut source, hub) = Source::new(size.limits(1, 1), size.gop_frames);
    source.publish_to(1);
    let mut viewer = Viewer::new(&hub);
    assert_eq!(viewer.look(), Ok(1));
    let reading = {
        let hub = hub.clone();
        thread::spawn(move || {
            let mut newest = 0;
            for _ in 0..size.reads {
                if let Some(item) = hub.newest_key() {
                    assert!(item.key && item.seq >= newest, "{item:?} after {newest}");
                    newest = item.seq;
                }
            }
        })
    };
    for seq in 2..=size.frames {
        source.publish_to(seq);
        assert_eq!(viewer.look(), Ok(seq), "a frame was lost by a hole");
    }
    reading.join().unwrap();
    let holes = source.publisher().holes();
    assert_eq!(hub.dropped(), 0);
    let ledger = source.close();
    assert_eq!(viewer.drain(size.frames), size.frames);
    drop(hub);
    ledger.settle();
    holes
}

/// I6: whoever subscribes in the middle of a publish starts on a key frame or waits for one, and
/// hears of it.
pub(super) fn subscribe_vs_publish(size: Size) {
    let (mut source, hub) = Source::new(size.limits(1, 1), size.gop_frames);
    let publishing = thread::spawn(move || {
        source.publish_to(size.frames);
        source.close()
    });
    let viewer = Viewer::new(&hub);
    viewer.watch_to_the_end(size.frames);
    let ledger = publishing.join().unwrap();
    drop(hub);
    ledger.settle();
}

/// I6: two subscribers, one of which leaves in the middle of a publish and is followed by another
/// on its seat.
pub(super) fn drop_subscriber_vs_publish(size: Size) {
    let (mut source, hub) = Source::new(size.limits(2, 1), size.gop_frames);
    let leaving = Viewer::new(&hub);
    let staying = Viewer::new(&hub);
    assert!(hub.subscribe().is_err(), "there are two seats");
    let changing = {
        let hub = hub.clone();
        thread::spawn(move || {
            drop(leaving);
            // The seat is free by the time the one before has left.
            Viewer::new(&hub).watch_to_the_end(size.frames)
        })
    };
    let publishing = thread::spawn(move || {
        source.publish_to(size.frames);
        source.close()
    });
    assert!(staying.watch_to_the_end(size.frames) >= 1);
    changing.join().unwrap();
    let ledger = publishing.join().unwrap();
    assert_eq!(hub.subscribers(), 0);
    drop(hub);
    ledger.settle();
}

/// I3: a frame that comes while its readers go to sleep wakes them.
pub(super) fn wake_vs_register(size: Size) {
    let (mut source, hub) = Source::new(size.limits(2, 1), size.gop_frames);
    source.publish_to(1);
    let [viewer, other] = [0; 2].map(|_| {
        let mut viewer = Viewer::new(&hub);
        assert_eq!(viewer.look(), Ok(1));
        viewer
    });
    let wait_for_last = move |mut viewer: Viewer| {
        while viewer.wait() != Some(size.frames) {}
        viewer
    };
    let waiting = thread::spawn(move || wait_for_last(other));
    let publishing = thread::spawn(move || {
        source.publish_to(size.frames);
        // Handed back open: nothing but the last frame itself wakes its readers.
        source
    });
    let viewer = wait_for_last(viewer);
    let other = waiting.join().unwrap();
    let ledger = publishing.join().unwrap().close();
    viewer.drain(size.frames);
    other.drain(size.frames);
    drop(hub);
    ledger.settle();
}

/// I3: a frame that a waiting reader has no use for does not take the wake-up of the next, which it
/// waits for.
pub(super) fn wake_vs_wait_for_key(size: Size) {
    let (mut source, hub) = Source::new(size.limits(1, 1), size.frames - 1);
    // The first key frame is one frame too old, the next is the last.
    source.publish_to(size.frames - 2);
    let mut viewer = Viewer::new(&hub);
    assert_eq!(viewer.look(), Err(false));
    let publishing = thread::spawn(move || {
        source.publish_to(size.frames);
        // Handed back open, as above.
        source
    });
    assert_eq!(viewer.wait(), Some(size.frames));
    let ledger = publishing.join().unwrap().close();
    viewer.drain(size.frames);
    drop(hub);
    ledger.settle();
}

/// I3: the end of the stream ends its readers, after the last frame.
pub(super) fn close_vs_last_frame(size: Size) {
    let (mut source, hub) = Source::new(size.limits(1, 1), 1);
    source.publish_to(1);
    let mut viewer = Viewer::new(&hub);
    assert_eq!(viewer.look(), Ok(1));
    let publishing = thread::spawn(move || {
        source.publish_to(size.frames);
        source.close()
    });
    let mut last = 1;
    for _ in 0..size.reads {
        match viewer.look() {
            Ok(seq) => last = seq,
            Err(closed) => assert!(!closed || last == size.frames, "ended after {last}"),
        }
    }
    while let Some(seq) = viewer.wait() {
        last = seq;
    }
    assert_eq!(last, size.frames, "the last frame was lost");
    let ledger = publishing.join().unwrap();
    drop((viewer, hub));
    ledger.settle();
}

/// I3, the other way: a request that comes while the camera goes to sleep wakes it.
pub(super) fn key_request_vs_waiter(size: Size) {
    let (source, hub) = Source::new(size.limits(1, 1), 1);
    let asking = {
        let hub = hub.clone();
        thread::spawn(move || hub.request_key_frame(Cause::Viewer))
    };
    block_on(hub.key_frame_requested());
    assert_eq!(hub.key_frame_requests(Cause::Viewer), 1, "heard before it was counted");
    asking.join().unwrap();
    drop((source, hub));
}
