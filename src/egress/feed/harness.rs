//! The feed's appsrc in a harness, on a clock that the test winds.
//!
//! Frames come one by one: the feed pushes no lists. The patience with a pipeline that takes
//! nothing is tokio's to measure, so no test here waits for its end.

use gst_check::Harness;
use tokio::task::JoinHandle;

use super::tests::{end, session};
use super::*;
use crate::distributor::Publisher;
use crate::egress::session::{End, Registration};
use crate::frame::testing::{DELTA, IDR, PPS, SPS, TEN_MINUTES, buffer, harness, instant, wind};

/// How old a frame is when the tap publishes it.
const ENCODING: Duration = Duration::from_millis(5);

/// Bound on every wait for something that takes a fraction of it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Longer than any test takes.
const STALL: Duration = Duration::from_secs(600);

/// Frames from one key frame to the next. A viewer in arrears finds one within its lag.
const GOP: u64 = 6;

struct Rig {
    publisher: Publisher<Frame>,
    registration: Registration,
    metrics: Arc<Metrics>,
    appsrc: gst_app::AppSrc,
    harness: Harness,
    feed: JoinHandle<FeedEnd>,
}

impl Rig {
    /// A feed that has asked its appsrc for nothing yet, and a viewer that takes frames as they
    /// come, or, where it is `slow`, each only when the test has pulled the one before.
    fn new(slow: bool) -> Self {
        gst::init().unwrap();
        let (publisher, registration, metrics) = session();
        let appsrc = appsrc();
        let mut harness = harness(&appsrc, None, Some("src"));
        if slow {
            harness.set_blocking_push_mode();
        }
        harness.play();
        let feed = feed(&registration, &appsrc, &metrics);
        Self { publisher, registration, metrics, appsrc, harness, feed }
    }

    /// Publishes frame `number` as it comes from the tap.
    fn publish(&mut self, number: u64) {
        self.publish_stamped(number, Some(instant(number)));
    }

    /// The same with a payload that bears another stamp.
    fn publish_stamped(&mut self, number: u64, pts: Option<Timestamp>) {
        let (captured, key) = (pts.unwrap_or_default(), number.is_multiple_of(GOP));
        let bytes = if key { [SPS, PPS, IDR].concat() } else { DELTA.to_vec() };
        let mut payload = buffer(bytes, pts);
        if !key {
            payload.get_mut().unwrap().set_flags(gst::BufferFlags::DELTA_UNIT);
        }
        let frame = Frame::new(captured, captured.plus(ENCODING), key, payload);
        self.publisher.publish(key, frame);
    }

    /// Ends the session; how many frames were delivered and skipped.
    async fn finish(self) -> (u64, u64) {
        self.registration.session().end(End::Left);
        assert_eq!(end(self.feed).await, FeedEnd::Asked);
        let stats = &self.registration.session().stats;
        (stats.delivered.get(), stats.skipped.get())
    }

    fn delivered(&self) -> u64 {
        self.registration.session().stats.delivered.get()
    }

    /// How often, and for how many seconds in all, a frame was under way to the socket.
    fn sent(&self) -> (u64, f64) {
        let send = self.metrics.stage_seconds.with_label_values(&["cam", "send"]);
        (send.get_sample_count(), send.get_sample_sum())
    }
}

fn feed(
    registration: &Registration,
    appsrc: &gst_app::AppSrc,
    metrics: &Arc<Metrics>,
) -> JoinHandle<FeedEnd> {
    let session = Arc::clone(registration.session());
    let subscriber = session.rendition.hub.subscribe().unwrap();
    let (appsrc, metrics) = (appsrc.clone(), Arc::clone(metrics));
    tokio::spawn(async move { run(subscriber, appsrc, session, &metrics, STALL).await })
}

fn is_discont(buffer: &gst::Buffer) -> bool {
    buffer.flags().contains(gst::BufferFlags::DISCONT)
}

async fn until(mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it does not come to that");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_minutes_of_frames_arrive_in_order_each_once_and_their_sending_is_timed() {
    let mut rig = Rig::new(false);
    for first in (0..TEN_MINUTES).step_by(10) {
        for number in first..first + 10 {
            rig.publish(number);
            // From the first one on the feed is there: it would not begin on it if there were a
            // newer key frame, nor time it if the clock were ahead.
            until(|| rig.harness.buffers_received() > 0).await;
        }
        wind(&rig.harness, instant(first + 9).plus(ENCODING));
        for number in first..first + 10 {
            let frame = rig.harness.pull().unwrap();
            assert_eq!(frame.pts(), Some(instant(number).into()));
            assert_eq!(frame.flags().contains(gst::BufferFlags::DELTA_UNIT), number % GOP != 0);
            // A stream begins with one, by GStreamer's convention.
            assert_eq!(is_discont(&frame), number == 0);
        }
        assert!(rig.appsrc.current_level_buffers() == 0);
    }
    until(|| rig.sent().0 == TEN_MINUTES).await;
    assert_eq!(u64::from(rig.harness.buffers_received()), TEN_MINUTES);
    assert_eq!(rig.finish().await, (TEN_MINUTES, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_who_takes_nothing_for_ten_minutes_goes_on_at_a_key_frame_with_a_gap_that_shows() {
    let mut rig = Rig::new(true);
    // One is being taken, and as many wait as may.
    let full = WAITING_FRAMES_MAX + 1;
    for number in 0..full {
        rig.publish(number);
        until(|| rig.delivered() == number + 1).await;
    }
    for number in full..TEN_MINUTES {
        rig.publish(number);
        assert!(rig.appsrc.current_level_buffers() <= WAITING_FRAMES_MAX, "frame {number}");
    }
    let mut taken = Vec::new();
    while taken.last().is_none_or(|&(last, _)| last < instant(TEN_MINUTES - 1)) {
        let frame = rig.harness.pull().unwrap();
        let captured = Timestamp::from(frame.pts().unwrap());
        let key = !frame.flags().contains(gst::BufferFlags::DELTA_UNIT);
        if is_discont(&frame) {
            assert!(key, "a gap that no decoder gets over");
        }
        taken.push((captured, is_discont(&frame)));
    }
    for pair in taken.windows(2) {
        let [(before, _), (next, discont)] = pair else { continue };
        let gap = next.since(*before) > Duration::from_millis(34);
        assert_eq!(gap, *discont, "{before} {next}");
    }
    assert_eq!(taken.iter().filter(|(_, discont)| *discont).count(), 2, "the start and one gap");
    assert_eq!(u64::from(rig.harness.buffers_received()), full + GOP);
    assert_eq!(rig.finish().await, (full + GOP, TEN_MINUTES - full - GOP));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_is_sent_when_those_behind_have_taken_it() {
    let mut rig = Rig::new(true);
    for number in 0..100 {
        // The last time the clock jumps, with the frame on its way.
        let held = Duration::from_millis(if number == 99 { 600_000 } else { 20 });
        wind(&rig.harness, instant(number).plus(ENCODING));
        rig.publish(number);
        until(|| u64::from(rig.harness.buffers_received()) == number + 1).await;
        assert_eq!(rig.sent().0, number, "not sent while it is held");
        wind(&rig.harness, instant(number).plus(ENCODING + held));
        rig.harness.pull().unwrap();
        until(|| rig.sent().0 == number + 1).await;
    }
    // A histogram counts a moment before it adds.
    let seconds = 99.0 * 0.02 + 600.0;
    until(|| (rig.sent().1 - seconds).abs() < 1e-6).await;
    assert_eq!(rig.sent().0, 100);
    assert_eq!(rig.finish().await, (100, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stamps_that_jump_or_are_missing_are_handed_on_as_they_are_and_nothing_piles_up() {
    let mut rig = Rig::new(false);
    let mut stamped = 0;
    for number in 0..1_000 {
        let pts = match number / 7 % 4 {
            0 => Some(instant(number)),
            1 => Some(instant(number + TEN_MINUTES)),
            2 => Some(instant(0)),
            _ => None,
        };
        stamped += u64::from(pts.is_some());
        rig.publish_stamped(number, pts);
        assert_eq!(rig.harness.pull().unwrap().pts(), pts.map(gst::ClockTime::from));
    }
    // The books of what is under way were not upset: honest frames are timed as before.
    for number in 2 * TEN_MINUTES..2 * TEN_MINUTES + 100 {
        rig.publish(number);
        rig.harness.pull().unwrap();
    }
    until(|| rig.sent().0 == stamped + 100).await;
    assert_eq!(rig.finish().await, (1_100, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_ends_the_feed_and_the_next_one_begins_on_a_key_frame() {
    let mut rig = Rig::new(false);
    for number in 0..2 {
        rig.publish(number);
        rig.harness.pull().unwrap();
    }
    assert!(rig.appsrc.send_event(gst::event::FlushStart::new()));
    rig.publish(2);
    let flushed = std::mem::replace(&mut rig.feed, tokio::spawn(async { FeedEnd::Asked }));
    assert_eq!(end(flushed).await, FeedEnd::Refused(gst::FlowError::Flushing));
    assert!(rig.appsrc.send_event(gst::event::FlushStop::new(true)));
    rig.publish(3);
    assert_eq!(rig.harness.buffers_received(), 2, "nobody feeds it");

    rig.publish(GOP);
    rig.publish(GOP + 1);
    rig.feed = feed(&rig.registration, &rig.appsrc, &rig.metrics);
    let first = rig.harness.pull().unwrap();
    assert_eq!(first.pts(), Some(instant(GOP).into()));
    assert!(!first.flags().contains(gst::BufferFlags::DELTA_UNIT));
    assert_eq!(rig.harness.pull().unwrap().pts(), Some(instant(GOP + 1).into()));
    // None that was refused is counted.
    assert_eq!(rig.finish().await, (4, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_delivered_comes_before_the_end_of_the_stream_and_nothing_after_it() {
    let mut rig = Rig::new(true);
    for number in 0..=WAITING_FRAMES_MAX {
        rig.publish(number);
    }
    until(|| rig.delivered() == WAITING_FRAMES_MAX + 1).await;
    rig.appsrc.end_of_stream().unwrap();
    for number in 0..=WAITING_FRAMES_MAX {
        assert_eq!(rig.harness.pull().unwrap().pts(), Some(instant(number).into()));
    }
    rig.publish(WAITING_FRAMES_MAX + 1);
    let refused = std::mem::replace(&mut rig.feed, tokio::spawn(async { FeedEnd::Asked }));
    assert_eq!(end(refused).await, FeedEnd::Refused(gst::FlowError::Eos));
    while rig.harness.pull_event().unwrap().type_() != gst::EventType::Eos {}
    assert_eq!(u64::from(rig.harness.buffers_received()), WAITING_FRAMES_MAX + 1);
    assert_eq!(rig.delivered(), WAITING_FRAMES_MAX + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_size_is_in_the_stream_and_changes_no_caps() {
    let mut rig = Rig::new(false);
    rig.publish(0);
    rig.harness.pull().unwrap();
    let sps_large = [&SPS[..5], &[0x64, 0, 0x28, 0xac][..]].concat();
    let bytes = [&*sps_large, PPS, IDR].concat();
    let captured = instant(1);
    let payload = buffer(bytes.clone(), captured);
    rig.publisher.publish(true, Frame::new(captured, captured.plus(ENCODING), true, payload));
    let frame = rig.harness.pull().unwrap();
    assert_eq!(frame.map_readable().unwrap().as_slice(), bytes);
    let events = std::iter::from_fn(|| rig.harness.try_pull_event());
    assert_eq!(events.filter(|event| event.type_() == gst::EventType::Caps).count(), 1);
    assert_eq!(rig.finish().await, (2, 0));
}
