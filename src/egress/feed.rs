//! From the distributor to an appsrc: the last hand-over before a viewer's own pipeline.
//!
//! The feed takes a frame only when the appsrc has room. What a viewer does not keep up with
//! therefore waits in the ring, where the cursor skips to a key frame once it lags too far; it
//! never piles up in front of one viewer, and never touches another.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gst::prelude::*;
use prometheus::Histogram;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::session::Session;
use super::tally::Tally;
use crate::clock::Timestamp;
use crate::distributor::{Delivery, Subscriber};
use crate::frame::Frame;
use crate::guard::Probe;
use crate::metrics::Metrics;

/// Frames that may wait in an appsrc: one being taken, one next, one in reserve.
pub const WAITING_FRAMES_MAX: u64 = 3;

/// The appsrc's own bounds, never reached while the feed keeps to [`WAITING_FRAMES_MAX`]. One IDR
/// of 1080p may be several hundred kilobytes; appsrc's default of 200 kB would not hold it.
const APPSRC_BUFFERS_MAX: u64 = 8;
const APPSRC_BYTES_MAX: u64 = 8 << 20;
const APPSRC_TIME_MAX: gst::ClockTime = gst::ClockTime::from_seconds(2);

/// How often a full appsrc is looked at even if it says nothing.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Why a feed stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedEnd {
    /// The publisher is gone and all it published was read.
    Finished,
    /// The session was asked to end.
    Asked,
    /// The pipeline takes no more: it is stopping, or at its end.
    Refused(gst::FlowError),
    /// The pipeline took nothing for longer than it may.
    Stalled,
}

/// An appsrc for one viewer's frames: live, stamped by the one clock, bounded.
///
/// Frames keep the stamp they got at the tap, so the pipeline must be on [`crate::clock::rule`].
pub fn appsrc() -> gst_app::AppSrc {
    let caps = gst::Caps::builder("video/x-h264")
        .field("stream-format", "byte-stream")
        .field("alignment", "au")
        .build();
    gst_app::AppSrc::builder()
        .name("feed")
        .caps(&caps)
        .is_live(true)
        .format(gst::Format::Time)
        .do_timestamp(false)
        .block(false)
        .max_buffers(APPSRC_BUFFERS_MAX)
        .max_bytes(APPSRC_BYTES_MAX)
        .max_time(APPSRC_TIME_MAX)
        .leaky_type(gst_app::AppLeakyType::None)
        .stream_type(gst_app::AppStreamType::Stream)
        .build()
}

/// Hands the frames of `subscriber` to `appsrc` until one side ends, and counts them in the
/// session's statistics and the metrics. Replaces the callbacks of `appsrc`.
///
/// There must be no queue behind the appsrc: it then comes back for more when the last packet of a
/// frame was handed to the socket, so the stage `send` is measured at the cost of one look a frame.
///
/// A pipeline that takes nothing for `stall_timeout` ends the feed.
pub async fn run(
    mut subscriber: Subscriber<Frame>,
    appsrc: gst_app::AppSrc,
    session: Arc<Session>,
    metrics: &Metrics,
    stall_timeout: Duration,
) -> FeedEnd {
    let send = metrics.stage_seconds.with_label_values(&[&*session.rendition.camera, "send"]);
    let sending = Arc::new(Sending::new(send, Timestamp::now_at(&appsrc)));
    let _probe = Sending::watch(&sending, &appsrc);
    let room = Room::of(&appsrc, Arc::clone(&sending));
    let mut tally = Tally::new(Arc::clone(&session), metrics);
    let ending = session.ending();
    tokio::pin!(ending);
    loop {
        tokio::select! {
            biased;
            () = &mut ending => return FeedEnd::Asked,
            roomy = room.wait(&appsrc, stall_timeout) => {
                if !roomy {
                    return FeedEnd::Stalled;
                }
            }
        }
        let delivery = tokio::select! {
            biased;
            () = &mut ending => return FeedEnd::Asked,
            delivery = subscriber.next() => delivery,
        };
        let Some(delivery) = delivery else { return FeedEnd::Finished };
        sending.pushing(&delivery.item);
        if let Err(error) = appsrc.push_buffer(buffer(&delivery)) {
            return FeedEnd::Refused(error);
        }
        tally.delivered(&delivery);
    }
}

/// The payload to push: the shared buffer itself, or, after a gap, a copy of its metadata that
/// says so. The bytes are shared in either case.
fn buffer(delivery: &Delivery<Frame>) -> gst::Buffer {
    let mut buffer = delivery.item.payload.clone();
    if delivery.skipped > 0 {
        buffer.make_mut().set_flags(gst::BufferFlags::DISCONT);
    }
    buffer
}

/// Whether an appsrc has room, and news of when it has.
struct Room {
    wanted: Arc<Notify>,
}

impl Room {
    fn of(appsrc: &gst_app::AppSrc, sending: Arc<Sending>) -> Self {
        let wanted = Arc::new(Notify::new());
        let notify = Arc::clone(&wanted);
        let need_data = move |appsrc: &gst_app::AppSrc, _| {
            sending.sent(Timestamp::now_at(appsrc));
            notify.notify_one();
        };
        appsrc.set_callbacks(gst_app::AppSrcCallbacks::builder().need_data(need_data).build());
        Self { wanted }
    }

    /// Waits for room; false where there was none for `timeout`.
    async fn wait(&self, appsrc: &gst_app::AppSrc, timeout: Duration) -> bool {
        let since = Instant::now();
        while appsrc.current_level_buffers() >= WAITING_FRAMES_MAX {
            if since.elapsed() >= timeout {
                return false;
            }
            // Either way the level is looked at again: the notice may be an old one.
            let _ = tokio::time::timeout(LOOK_EVERY, self.wanted.notified()).await;
        }
        true
    }
}

/// Times frames from the encoder to the socket.
///
/// The appsrc's thread carries a frame all the way down: when it takes the next one, or asks for
/// one, the frame before has been sent.
struct Sending {
    send: Histogram,
    since: Timestamp,
    state: Mutex<Underway>,
}

#[derive(Default)]
struct Underway {
    /// Frames in the appsrc: when each was captured, which names it, and when encoded.
    waiting: VecDeque<(Timestamp, Timestamp)>,
    /// When the frame that is being sent was encoded.
    current: Option<Timestamp>,
}

impl Sending {
    fn new(send: Histogram, since: Timestamp) -> Self {
        Self { send, since, state: Mutex::default() }
    }

    /// Looks at the frames that leave `appsrc`.
    fn watch(sending: &Arc<Self>, appsrc: &gst_app::AppSrc) -> Option<Probe> {
        let sending = Arc::clone(sending);
        Probe::add(&appsrc.static_pad("src")?, gst::PadProbeType::BUFFER, move |pad, info| {
            if let Some(captured) = info.buffer().and_then(|buffer| buffer.pts()) {
                sending.sent(Timestamp::now_on(pad));
                sending.leaving(captured.into());
            }
            gst::PadProbeReturn::Ok
        })
    }

    fn pushing(&self, frame: &Frame) {
        let waiting = &mut self.lock().waiting;
        // As many as may wait, and the one that is being taken.
        if frame.encoded >= self.since && waiting.len() as u64 <= WAITING_FRAMES_MAX {
            waiting.push_back((frame.captured, frame.encoded));
        }
    }

    fn leaving(&self, captured: Timestamp) {
        let state = &mut *self.lock();
        while let Some((next, encoded)) = state.waiting.front().copied() {
            if next > captured {
                break;
            }
            state.waiting.pop_front();
            state.current = (next == captured).then_some(encoded);
        }
    }

    fn sent(&self, now: Timestamp) {
        if let Some(encoded) = self.lock().current.take() {
            self.send.observe(now.since(encoded).as_secs_f64());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Underway> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod harness;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Rendition;
    use crate::distributor::{self, Limits, Publisher};
    use crate::egress::session::{End, Registration, Registry, Transport};
    use crate::guard::Pipeline;

    const LIMITS: Limits =
        Limits { ring_frames: 16, subscribers_max: 4, lag_frames_max: 12, join_frames_max: 8 };
    const STALL: Duration = Duration::from_secs(5);

    struct Bench {
        publisher: Publisher<Frame>,
        registration: Registration,
        metrics: Arc<Metrics>,
        appsrc: gst_app::AppSrc,
        sink: gst_app::AppSink,
        pipeline: Pipeline,
        seq: u64,
    }

    /// A session that watches what is published.
    pub(super) fn session() -> (Publisher<Frame>, Registration, Arc<Metrics>) {
        let (publisher, hub) = distributor::channel(LIMITS).unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let registry = Registry::new(Arc::clone(&metrics));
        let rendition = Rendition::new("cam".into(), "main".into(), hub);
        let address = ([127, 0, 0, 1], 9).into();
        (publisher, registry.register(Transport::Webrtc, rendition, address, None), metrics)
    }

    impl Bench {
        fn new() -> Self {
            gst::init().unwrap();
            let (publisher, registration, metrics) = session();
            let (appsrc, sink) = (appsrc(), gst_app::AppSink::builder().sync(false).build());
            let pipeline = gst::Pipeline::new();
            crate::clock::rule(&pipeline);
            pipeline.add_many([appsrc.upcast_ref(), sink.upcast_ref::<gst::Element>()]).unwrap();
            appsrc.link(&sink).unwrap();
            let pipeline = Pipeline::new(pipeline);
            pipeline.start().unwrap();
            Self { publisher, registration, metrics, appsrc, sink, pipeline, seq: 0 }
        }

        fn feed(&self, stall: Duration) -> tokio::task::JoinHandle<FeedEnd> {
            let session = Arc::clone(self.registration.session());
            let subscriber = session.rendition.hub.subscribe().unwrap();
            let (appsrc, metrics) = (self.appsrc.clone(), Arc::clone(&self.metrics));
            tokio::spawn(async move { run(subscriber, appsrc, session, &metrics, stall).await })
        }

        fn publish(&mut self, key: bool) {
            let now = Timestamp::now();
            self.seq += 1;
            let mut payload = gst::Buffer::from_slice(self.seq.to_be_bytes());
            payload.get_mut().unwrap().set_pts(gst::ClockTime::from(now));
            self.publisher.publish(key, Frame::new(now, now, key, payload));
        }

        fn received(&self) -> Option<gst::Buffer> {
            self.sink.try_pull_sample(gst::ClockTime::from_seconds(2))?.buffer_owned()
        }
    }

    pub(super) async fn end(feed: tokio::task::JoinHandle<FeedEnd>) -> FeedEnd {
        tokio::time::timeout(Duration::from_secs(5), feed).await.unwrap().unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn frames_arrive_in_order_without_a_copy_and_are_counted() {
        let mut bench = Bench::new();
        let feed = bench.feed(STALL);
        bench.publish(true);
        let first = bench.received().unwrap();
        assert_eq!(first.map_readable().unwrap().as_slice(), 1u64.to_be_bytes());
        bench.publish(false);
        let shared = bench.registration.session().rendition.hub.newest_key().unwrap().payload;
        let second = bench.received().unwrap();
        assert_eq!(second.map_readable().unwrap().as_slice(), 2u64.to_be_bytes());
        assert_eq!(first.peek_memory(0).as_ptr(), shared.peek_memory(0).as_ptr());
        assert!(!second.flags().contains(gst::BufferFlags::DISCONT));

        bench.registration.session().end(End::Left);
        assert_eq!(end(feed).await, FeedEnd::Asked);
        let stats = &bench.registration.session().stats;
        assert_eq!((stats.delivered.get(), stats.skipped.get(), stats.bytes.get()), (2, 0, 16));
        assert_eq!(bench.metrics.join_seconds.get_sample_count(), 1);
        let stages = bench.metrics.stage_seconds.with_label_values(&["cam", "distribute"]);
        // The first frame may be older than the feed's task; the second is not.
        assert!(stages.get_sample_count() >= 1);
        let sent = bench.metrics.stage_seconds.with_label_values(&["cam", "send"]);
        assert!(sent.get_sample_count() >= 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stalled_pipeline_leaves_its_backlog_in_the_ring_and_then_ends_its_feed() {
        let mut bench = Bench::new();
        let pad = bench.appsrc.static_pad("src").unwrap();
        let block = gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER;
        let probe = Probe::add(&pad, block, |_, _| gst::PadProbeReturn::Ok).unwrap();
        let feed = bench.feed(Duration::from_millis(300));
        for seq in 0..LIMITS.ring_frames * 3 {
            bench.publish(seq % 4 == 0);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert!(bench.appsrc.current_level_buffers() <= WAITING_FRAMES_MAX);
        assert_eq!(end(feed).await, FeedEnd::Stalled);
        let stats = &bench.registration.session().stats;
        assert!(stats.delivered.get() <= WAITING_FRAMES_MAX + 1, "{}", stats.delivered.get());
        drop(probe);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn after_a_gap_the_next_frame_says_so_and_every_frame_is_accounted_for() {
        let mut bench = Bench::new();
        let pad = bench.appsrc.static_pad("src").unwrap();
        let block = gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER;
        let probe = Probe::add(&pad, block, |_, _| gst::PadProbeReturn::Ok).unwrap();
        let feed = bench.feed(STALL);
        let published = LIMITS.ring_frames as u64 * 3;
        for seq in 0..published {
            bench.publish(seq % 4 == 0);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(probe);
        let stats = &bench.registration.session().stats;
        let mut gaps = 0;
        for received in 0.. {
            let buffer = bench.received().unwrap();
            let gap = received > 0 && buffer.flags().contains(gst::BufferFlags::DISCONT);
            gaps += u64::from(gap);
            if buffer.map_readable().unwrap().as_slice() == published.to_be_bytes() {
                break;
            }
        }
        assert_eq!(gaps, 1);
        bench.registration.session().end(End::Left);
        assert_eq!(end(feed).await, FeedEnd::Asked);
        assert!(stats.skipped.get() > 0);
        assert_eq!(stats.delivered.get() + stats.skipped.get(), published);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_publisher_that_goes_and_a_pipeline_that_stops_end_the_feed() {
        let mut bench = Bench::new();
        let feed = bench.feed(STALL);
        bench.appsrc.end_of_stream().unwrap();
        bench.publish(true);
        assert_eq!(end(feed).await, FeedEnd::Refused(gst::FlowError::Eos));

        let bench = Bench::new();
        let feed = bench.feed(STALL);
        let Bench { publisher, registration: _registration, pipeline: _pipeline, .. } = bench;
        drop(publisher);
        assert_eq!(end(feed).await, FeedEnd::Finished);
    }
}
