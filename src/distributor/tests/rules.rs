//! Single promises, each with its boundary.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use proptest::prelude::*;

use super::scenarios::{Source, Viewer};
use super::world::block_on;
use crate::distributor::{
    Cause, Full, Hub, Limits, LimitsError, Next, Publisher, Subscriber, channel,
};

const LIMITS: Limits =
    Limits { ring_frames: 8, subscribers_max: 3, lag_frames_max: 4, join_frames_max: 2 };

const PATIENCE: Duration = Duration::from_secs(30);

/// A source whose only key frame is the first.
fn one_gop() -> (Source, Hub<super::scenarios::Item>) {
    Source::new(LIMITS, u64::MAX)
}

fn lags(hub: &Hub<super::scenarios::Item>) -> u64 {
    hub.key_frame_requests(Cause::Lag)
}

#[test]
fn limits_that_do_not_fit_are_refused_and_the_refusal_says_what_would() {
    let refusal = |limits| channel::<u8>(limits).unwrap_err();
    let tight = Limits { ring_frames: 5, ..LIMITS };
    assert!(channel::<u8>(tight).is_ok());
    let short = refusal(Limits { ring_frames: 4, lag_frames_max: 2, ..LIMITS });
    assert!(short.to_string().contains("ring_frames must be at least 5"), "{short}");
    assert!(channel::<u8>(Limits { lag_frames_max: 7, ..LIMITS }).is_ok());
    let lag = refusal(Limits { lag_frames_max: 8, ..LIMITS });
    assert_eq!(lag, LimitsError::Lag { ring_frames: 8, lag_frames_max: 8 });
    assert!(channel::<u8>(Limits { join_frames_max: 4, ..LIMITS }).is_ok());
    let join = refusal(Limits { join_frames_max: 5, ..LIMITS });
    assert_eq!(join, LimitsError::Join { join_frames_max: 5, lag_frames_max: 4 });
    let huge = Limits { subscribers_max: usize::MAX, lag_frames_max: u64::MAX, ..LIMITS };
    assert!(channel::<u8>(huge).is_err());
}

#[test]
fn handles_may_go_to_and_be_used_from_any_thread() {
    fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<Publisher<Arc<u8>>>();
    is_send_and_sync::<Hub<Arc<u8>>>();
    is_send_and_sync::<Subscriber<Arc<u8>>>();
}

#[test]
fn a_joiner_starts_on_a_key_frame_that_is_as_old_as_allowed() {
    let (mut source, hub) = one_gop();
    source.publish_to(3);
    let mut viewer = Viewer::new(&hub);
    assert_eq!(hub.key_frame_requests(Cause::Join), 0);
    assert_eq!([viewer.look(), viewer.look(), viewer.look()], [Ok(1), Ok(2), Ok(3)]);
    assert_eq!(viewer.subscriber.counts().published, 3);
}

#[test]
fn a_joiner_waits_for_the_next_key_frame_where_the_last_is_one_frame_too_old() {
    let (mut source, hub) = Source::new(LIMITS, 4);
    source.publish_to(4);
    let mut viewer = Viewer::new(&hub);
    assert_eq!(hub.key_frame_requests(Cause::Join), 1);
    assert_eq!(viewer.look(), Err(false));
    source.publish_to(5);
    assert_eq!(viewer.look(), Ok(5));
    assert_eq!(viewer.subscriber.counts().published, 1);
    assert_eq!(hub.key_frame_requests(Cause::Join), 1);
}

#[test]
fn a_reader_that_lags_as_far_as_allowed_loses_nothing() {
    let (mut source, hub) = one_gop();
    source.publish_to(1);
    let mut viewer = Viewer::new(&hub);
    source.publish_to(5);
    for seq in 1..=5 {
        assert_eq!(viewer.look(), Ok(seq));
    }
    assert_eq!(lags(&hub), 0);
}

#[test]
fn a_reader_that_lags_one_frame_more_goes_on_at_the_newest_key_frame() {
    let (mut source, hub) = Source::new(LIMITS, 3);
    source.publish_to(1);
    let mut viewer = Viewer::new(&hub);
    source.publish_to(6);
    assert_eq!(viewer.look(), Ok(4));
    assert_eq!(viewer.subscriber.counts().skipped, 3);
    assert_eq!(lags(&hub), 0, "no key frame is needed where one is there");
}

#[test]
fn a_reader_that_lags_with_no_key_frame_ahead_asks_for_one_once() {
    let (mut source, hub) = Source::new(LIMITS, 9);
    source.publish_to(1);
    let mut viewer = Viewer::new(&hub);
    source.publish_to(6);
    for last in 6..=9 {
        source.publish_to(last);
        assert_eq!([viewer.look(), viewer.look()], [Err(false); 2]);
        assert_eq!(viewer.subscriber.counts().pending(), 0);
        assert_eq!(lags(&hub), 1);
    }
    source.publish_to(10);
    assert_eq!(viewer.look(), Ok(10));
    assert_eq!(lags(&hub), 1);
}

#[test]
fn a_reader_that_lets_the_key_frame_go_by_asks_for_another() {
    let (mut source, hub) = Source::new(LIMITS, 9);
    source.publish_to(1);
    let mut viewer = Viewer::new(&hub);
    source.publish_to(6);
    assert_eq!((viewer.look(), lags(&hub)), (Err(false), 1));
    source.publish_to(15);
    assert_eq!((viewer.look(), lags(&hub)), (Err(false), 2));
    assert_eq!((viewer.look(), lags(&hub)), (Err(false), 2));
    source.publish_to(19);
    assert_eq!(viewer.look(), Ok(19));
}

#[test]
fn seats_are_bounded_and_one_that_leaves_makes_room() {
    let (_source, hub) = one_gop();
    let mut viewers: Vec<_> = (0..3).map(|_| hub.subscribe().unwrap()).collect();
    assert_eq!(hub.subscribe().unwrap_err(), Full);
    assert_eq!(hub.subscribers(), 3);
    viewers.remove(1);
    assert_eq!(hub.subscribers(), 2);
    viewers.push(hub.subscribe().unwrap());
    assert_eq!(hub.subscribe().unwrap_err(), Full);
}

#[test]
fn more_seats_than_one_word_of_the_map_has_are_all_usable_and_woken() {
    let limits = Limits { ring_frames: 140, subscribers_max: 130, ..LIMITS };
    let (mut publisher, hub) = channel(limits).unwrap();
    let count = Arc::new(Counting::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut readers: Vec<_> = (0..130).map(|_| hub.subscribe().unwrap()).collect();
    assert_eq!(hub.subscribe().unwrap_err(), Full);
    for reader in &mut readers {
        assert!(reader.poll_next(&mut Context::from_waker(&waker)).is_pending());
    }
    publisher.publish(true, ());
    assert_eq!(count.0.load(Ordering::Relaxed), 130);
    publisher.publish(true, ());
    assert_eq!(count.0.load(Ordering::Relaxed), 130, "nobody waits, nobody is woken");
}

#[test]
fn a_waker_that_panics_takes_nobody_elses_wake_up() {
    struct Panicking;
    impl Wake for Panicking {
        fn wake(self: Arc<Self>) {
            panic!("a waker that panics, as this test wants it")
        }
    }
    let (mut publisher, hub) = channel(LIMITS).unwrap();
    let count = Arc::new(Counting::default());
    let wakers = [Waker::from(Arc::new(Panicking)), Waker::from(Arc::clone(&count))];
    let mut readers = [0; 2].map(|_| hub.subscribe().unwrap());
    for (reader, waker) in readers.iter_mut().zip(&wakers) {
        assert!(reader.poll_next(&mut Context::from_waker(waker)).is_pending());
    }
    assert!(catch_unwind(AssertUnwindSafe(|| publisher.publish(true, ()))).is_err());
    drop(publisher);
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
}

#[test]
fn a_stream_that_ends_is_read_to_its_last_frame() {
    let (mut source, hub) = one_gop();
    source.publish_to(1);
    let viewer = Viewer::new(&hub);
    let waiting = Viewer::new(&hub);
    source.publish_to(4);
    let late = Viewer::new(&hub);
    let _ledger = source.close();
    assert_eq!(viewer.drain(4), 4);
    assert_eq!(waiting.watch_to_the_end(4), 4);
    assert_eq!(late.drain(4), 0, "it waited for a key frame that never came");
    assert_eq!(lags(&hub), 0);
    assert_eq!(hub.newest_key().map(|_| ()), Some(()));
}

#[test]
fn a_wait_that_is_given_up_loses_no_frame() {
    let (mut source, hub) = one_gop();
    let mut viewer = Viewer::new(&hub);
    {
        let mut next = std::pin::pin!(viewer.subscriber.next());
        let mut context = Context::from_waker(Waker::noop());
        assert!(matches!(next.as_mut().poll(&mut context), Poll::Pending));
        source.publish_to(1);
    }
    assert_eq!(viewer.wait(), Some(1));
}

#[test]
fn requests_made_before_they_are_waited_for_are_heard_once() {
    let (_source, hub) = one_gop();
    for cause in Cause::ALL {
        hub.request_key_frame(cause);
        assert_eq!(hub.key_frame_requests(cause), 1);
    }
    block_on(hub.key_frame_requested());
    let mut again = std::pin::pin!(hub.key_frame_requested());
    assert!(again.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

#[test]
fn the_newest_key_frame_is_there_until_the_ring_has_gone_past_it() {
    let (mut publisher, hub) = channel(LIMITS).unwrap();
    assert_eq!(hub.newest_key(), None);
    publisher.publish(true, 'k');
    for _ in 1..LIMITS.ring_frames {
        publisher.publish(false, 'd');
        assert_eq!(hub.newest_key(), Some('k'));
    }
    publisher.publish(false, 'd');
    assert_eq!(hub.newest_key(), None);
}

#[derive(Default)]
struct Counting(AtomicUsize);

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A frame whose first clone stops until it is let go.
#[derive(Debug)]
struct Stopping {
    seq: u64,
    gate: Option<Arc<Gate>>,
}

#[derive(Debug)]
struct Gate {
    entered: SyncSender<()>,
    release: std::sync::Mutex<Receiver<()>>,
}

impl Clone for Stopping {
    fn clone(&self) -> Self {
        if let Some(gate) = &self.gate {
            gate.entered.send(()).unwrap();
            gate.release.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        }
        Self { seq: self.seq, gate: None }
    }
}

#[test]
fn a_reader_stopped_in_the_middle_of_a_clone_holds_up_neither_publisher_nor_readers() {
    let (mut publisher, hub) = channel(LIMITS).unwrap();
    let (entered, is_in) = sync_channel(1);
    let (let_go, release) = sync_channel(1);
    let gate = Arc::new(Gate { entered, release: release.into() });
    publisher.publish(true, Stopping { seq: 1, gate: Some(gate) });
    let mut stopped = hub.subscribe().unwrap();
    let stopped = std::thread::spawn(move || {
        let first = block_on(stopped.next()).unwrap();
        (first, stopped)
    });
    is_in.recv_timeout(PATIENCE).unwrap();
    publisher.publish(true, Stopping { seq: 2, gate: None });
    let mut other = hub.subscribe().unwrap();
    for seq in 2..100 {
        if seq > 2 {
            publisher.publish(seq % 10 == 0, Stopping { seq, gate: None });
        }
        let Next::Frame(delivery) = other.try_next() else { panic!("frame {seq} is missing") };
        assert_eq!((delivery.seq, delivery.item.seq, delivery.skipped), (seq, seq, 0));
    }
    assert_eq!(publisher.holes(), 97 / 7, "one in each round of the ring");
    assert_eq!(hub.dropped(), 0);
    let_go.send(()).unwrap();
    let (first, mut stopped) = stopped.join().unwrap();
    assert_eq!((first.seq, first.item.seq), (1, 1), "what it was reading is untouched");
    assert!(matches!(stopped.try_next(), Next::Empty), "the newest key frame is too old");
    assert_eq!(hub.key_frame_requests(Cause::Lag), 1);
    publisher.publish(true, Stopping { seq: 100, gate: None });
    let Next::Frame(delivery) = stopped.try_next() else { panic!("the key frame is missing") };
    assert_eq!((delivery.seq, delivery.skipped), (100, 98));
}

#[test]
fn a_frame_for_which_no_slot_is_free_counts_as_skipped_and_a_key_frame_is_asked_for() {
    let (mut publisher, hub) = channel(LIMITS).unwrap();
    publisher.publish(true, 1);
    let mut reader = hub.subscribe().unwrap();
    assert!(matches!(reader.try_next(), Next::Frame(_)));
    let pins: Vec<_> = (1..=8).map(|pos| hub.shared().ring.slot(pos).read().unwrap()).collect();
    assert_eq!(publisher.publish(false, 2), 2);
    assert_eq!((hub.dropped(), hub.key_frame_requests(Cause::Lag)), (1, 1));
    assert_eq!(reader.counts().pending(), 1);
    drop(pins);
    assert_eq!(publisher.publish(false, 3), 3);
    assert!(matches!(reader.try_next(), Next::Empty), "3 cannot be decoded without 2");
    assert_eq!(publisher.publish(true, 4), 4);
    let Next::Frame(delivery) = reader.try_next() else { panic!("the key frame is missing") };
    assert_eq!((delivery.seq, delivery.skipped), (4, 2));
    assert_eq!(reader.counts().pending(), 0);
}

#[derive(Debug)]
struct Touchy;

impl Clone for Touchy {
    fn clone(&self) -> Self {
        panic!("a clone that panics, as this test wants it")
    }
}

#[test]
fn a_clone_that_panics_leaves_its_slot_free() {
    let (mut publisher, hub) = channel(LIMITS).unwrap();
    publisher.publish(true, Touchy);
    assert!(catch_unwind(AssertUnwindSafe(|| hub.newest_key())).is_err());
    for _ in 0..LIMITS.ring_frames {
        publisher.publish(false, Touchy);
    }
    assert_eq!(publisher.holes(), 0);
}

/// A step of a history in which slots are held.
#[derive(Clone, Copy, Debug)]
enum Step {
    Publish(u64),
    Look(usize),
    Pin(u64),
    Unpin(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1u64..6).prop_map(Step::Publish),
        (0usize..3).prop_map(Step::Look),
        (0u64..8).prop_map(Step::Pin),
        (0usize..8).prop_map(Step::Unpin),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    // The viewers check what they are given, see `Viewer::note`.
    #[test]
    fn no_pattern_of_held_slots_breaks_an_account_or_strands_a_reader(
        steps in prop::collection::vec(step(), 1..150), gop_frames in 1u64..7
    ) {
        let (mut source, hub) = Source::new(LIMITS, gop_frames);
        let mut viewers = [0; 3].map(|_| Viewer::new(&hub));
        let mut pins = Vec::new();
        for step in steps {
            let published = hub.published();
            match step {
                Step::Publish(frames) => source.publish_to(published + frames),
                Step::Look(which) => { let _ = viewers[which].look(); }
                Step::Pin(pos) => pins.extend(hub.shared().ring.slot(pos).read()),
                Step::Unpin(which) if which < pins.len() => { pins.swap_remove(which); }
                Step::Unpin(_) => {}
            }
        }
        drop(pins);
        let key = hub.published().div_ceil(gop_frames) * gop_frames + 1;
        source.publish_to(key);
        let ledger = source.close();
        for viewer in viewers {
            prop_assert!(viewer.drain(key) >= 1, "it did not find the key frame {}", key);
        }
        drop(hub);
        ledger.settle();
    }
}
