//! Where encoded pictures leave the camera's pipeline: checked, copied once, stamped, published.
//!
//! A tap outlives the pipelines of its rendition: the publisher, and with it every session, stays
//! while the camera is rebuilt. Nothing that cannot be decoded is published: after anything that
//! is no access unit, the tap waits for the next IDR.

use std::sync::{Arc, Mutex, PoisonError};

use gst::prelude::*;
use tokio::sync::{Notify, watch};

use super::timeline::Timeline;
use super::watchdog::Marks;
use crate::catalog::{Format, Rendition};
use crate::clock::Timestamp;
use crate::distributor::Publisher;
use crate::frame::Frame;
use crate::metrics::Metrics;
use crate::nal::{self, AccessUnit};

/// Access units an appsink may hold. The callback takes each as it comes.
const SINK_BUFFERS: u32 = 4;

/// Frames a second of a stream that does not tell.
const FRAMERATE_UNKNOWN: (u32, u32) = (30, 1);

const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// The tap of one rendition.
#[derive(Debug)]
pub(super) struct Tap {
    rendition: Arc<Rendition>,
    frames_published: prometheus::IntCounter,
    encode_seconds: prometheus::Histogram,
    keys: watch::Sender<Option<Timestamp>>,
    key_wanted: Notify,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    publisher: Publisher<Frame>,
    timeline: Timeline,
    /// Which of the camera's pipelines may publish: the newest. One that is being torn down may
    /// still deliver.
    generation: u64,
    /// Whether the next frame can be decoded after those before.
    synced: bool,
    parameters: Option<Parameters>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Parameters {
    sps: Vec<u8>,
    pps: Vec<u8>,
}

/// What became of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Published,
    /// Nothing a decoder could use, or not before the next IDR.
    Discarded,
    /// It comes from a pipeline that has been replaced.
    Stale,
}

impl Tap {
    /// A tap that publishes the frames of `rendition`.
    pub(super) fn new(
        rendition: Arc<Rendition>,
        publisher: Publisher<Frame>,
        metrics: &Metrics,
    ) -> Arc<Self> {
        let frames_published =
            metrics.frames_published.with_label_values(&[&*rendition.camera, &*rendition.name]);
        let encode_seconds =
            metrics.stage_seconds.with_label_values(&[&*rendition.camera, "encode"]);
        let state = State {
            publisher,
            timeline: Timeline::default(),
            generation: 0,
            synced: false,
            parameters: None,
        };
        Arc::new(Self {
            rendition,
            frames_published,
            encode_seconds,
            keys: watch::Sender::new(None),
            key_wanted: Notify::new(),
            state: Mutex::new(state),
        })
    }

    /// The rendition whose frames these are.
    pub(super) fn rendition(&self) -> &Arc<Rendition> {
        &self.rendition
    }

    /// When the newest key frame was published.
    pub(super) fn keys(&self) -> watch::Receiver<Option<Timestamp>> {
        self.keys.subscribe()
    }

    /// Resolves when the tap itself needs a key frame to go on.
    pub(super) async fn key_wanted(&self) {
        self.key_wanted.notified().await;
    }

    /// Shuts out every pipeline so far; the next to be attached may publish.
    pub(super) fn shut_out(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.generation += 1;
        state.synced = false;
    }

    /// The end of a pipeline: a sink that hands its samples to this tap, and leaves marks as the
    /// rendition of that `index`.
    pub(super) fn sink(self: &Arc<Self>, index: usize, marks: &Arc<Marks>) -> gst::Element {
        let generation = self.state.lock().unwrap_or_else(PoisonError::into_inner).generation;
        let (tap, marks) = (Arc::downgrade(self), Arc::downgrade(marks));
        let callbacks = gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                let (Some(tap), Some(marks)) = (tap.upgrade(), marks.upgrade()) else {
                    return Err(gst::FlowError::Eos);
                };
                let now = Timestamp::now_at(sink);
                match tap.take(generation, &sample, now) {
                    Outcome::Published => {
                        if let Some(rendition) = marks.renditions.get(index) {
                            rendition.published.set(now);
                        }
                    }
                    Outcome::Discarded => tap.key_wanted.notify_one(),
                    Outcome::Stale => return Err(gst::FlowError::Eos),
                }
                Ok(gst::FlowSuccess::Ok)
            })
            .build();
        gst_app::AppSink::builder()
            .sync(false)
            .async_(false)
            .max_buffers(SINK_BUFFERS)
            .drop(false)
            .enable_last_sample(false)
            .wait_on_eos(false)
            .qos(false)
            .callbacks(callbacks)
            .build()
            .upcast()
    }

    /// Publishes the access unit in `sample` if it is one that can be decoded.
    fn take(&self, generation: u64, sample: &gst::Sample, now: Timestamp) -> Outcome {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.generation != generation {
            return Outcome::Stale;
        }
        let Some((frame, format)) = state.admit(sample, now) else {
            if state.synced {
                state.synced = false;
                tracing::warn!(
                    camera = %self.rendition.camera,
                    rendition = %self.rendition.name,
                    "what came from the encoder is no picture; waiting for a key frame"
                );
            }
            return Outcome::Discarded;
        };
        // Everything told of the frame comes first: who gets it may look at it.
        if let Some(format) = format {
            self.rendition.set_format(format);
        }
        self.rendition.saw_frame(now);
        self.frames_published.inc();
        self.encode_seconds.observe(now.since(frame.captured).as_secs_f64());
        let key = frame.key;
        state.publisher.publish(key, frame);
        drop(state);
        if key {
            self.keys.send_replace(Some(now));
        }
        Outcome::Published
    }
}

impl State {
    /// The frame in `sample`, with its format where it is a key frame; `None` where a decoder
    /// could do nothing with it.
    fn admit(&mut self, sample: &gst::Sample, now: Timestamp) -> Option<(Frame, Option<Format>)> {
        let buffer = sample.buffer()?;
        let map = buffer.map_readable().ok()?;
        let unit = nal::inspect(&map)?;
        let key = unit.idr && !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let bytes = self.complete(&map, &unit, key)?;
        if !key && !self.synced {
            return None;
        }
        self.synced = true;
        let format = key.then(|| self.format(sample)).flatten();
        let captured = self.timeline.place(running_time(sample, buffer), now);
        let payload = payload(bytes, captured, key)?;
        Some((Frame::new(captured, now, key, payload), format))
    }

    /// The access unit's bytes, copied out of the encoder's buffer: the one copy. Where an IDR
    /// comes without the parameter sets that were seen before, they are put in front.
    fn complete(&mut self, bytes: &[u8], unit: &AccessUnit<'_>, key: bool) -> Option<Vec<u8>> {
        let bytes = nal::without_delimiter(bytes);
        if let (Some(sps), Some(pps)) = (unit.sps, unit.pps) {
            if self.parameters.as_ref().is_none_or(|known| known.sps != sps || known.pps != pps) {
                self.parameters = Some(Parameters { sps: sps.to_vec(), pps: pps.to_vec() });
            }
            return Some(bytes.to_vec());
        }
        if !key {
            return Some(bytes.to_vec());
        }
        let known = self.parameters.as_ref()?;
        Some([&START_CODE, &*known.sps, &START_CODE, &*known.pps, bytes].concat())
    }

    fn format(&self, sample: &gst::Sample) -> Option<Format> {
        let parameters = self.parameters.clone()?;
        let structure = sample.caps()?.structure(0)?;
        let size = |name| u32::try_from(structure.get::<i32>(name).ok()?).ok();
        let framerate = structure.get::<gst::Fraction>("framerate").ok().and_then(|fraction| {
            let (frames, seconds) = (fraction.numer(), fraction.denom());
            Some((u32::try_from(frames).ok()?, u32::try_from(seconds).ok()?))
        });
        Some(Format {
            width: size("width")?,
            height: size("height")?,
            framerate: framerate.filter(|&(frames, _)| frames > 0).unwrap_or(FRAMERATE_UNKNOWN),
            sps: parameters.sps,
            pps: parameters.pps,
        })
    }
}

/// When the sample's picture was taken, by the one clock: its running time, because encoders
/// shift their segment (x264enc by 1000 hours) and the pipeline's base time is zero.
fn running_time(sample: &gst::Sample, buffer: &gst::BufferRef) -> Option<Timestamp> {
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    segment.to_running_time(buffer.pts()?).map(Timestamp::from)
}

fn payload(bytes: Vec<u8>, captured: Timestamp, key: bool) -> Option<gst::Buffer> {
    let mut buffer = gst::Buffer::from_mut_slice(bytes);
    let target = buffer.get_mut()?;
    target.set_pts(gst::ClockTime::from(captured));
    if !key {
        target.set_flags(gst::BufferFlags::DELTA_UNIT);
    }
    Some(buffer)
}

#[cfg(test)]
mod harness;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::distributor::{self, Limits, Next, Subscriber};
    use crate::frame::testing::{DELTA, IDR, PPS, SPS};

    pub(super) fn tap() -> (Arc<Tap>, Subscriber<Frame>) {
        gst::init().unwrap();
        let limits =
            Limits { ring_frames: 64, subscribers_max: 4, lag_frames_max: 30, join_frames_max: 8 };
        let (publisher, hub) = distributor::channel(limits).unwrap();
        let subscriber = hub.subscribe().unwrap();
        let rendition = Rendition::new("cam".into(), "main".into(), hub);
        (Tap::new(rendition, publisher, &Metrics::new().unwrap()), subscriber)
    }

    fn sample(parts: &[&[u8]], pts_ms: u64) -> gst::Sample {
        let bytes = parts.concat();
        let key = parts.contains(&IDR);
        let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
        segment.set_start(gst::ClockTime::from_seconds(3_600_000));
        let mut buffer = gst::Buffer::from_mut_slice(bytes);
        let target = buffer.get_mut().unwrap();
        target.set_pts(
            gst::ClockTime::from_seconds(3_600_000) + gst::ClockTime::from_mseconds(pts_ms),
        );
        target.set_dts(gst::ClockTime::from_mseconds(pts_ms));
        if !key {
            target.set_flags(gst::BufferFlags::DELTA_UNIT);
        }
        let caps = gst::Caps::builder("video/x-h264")
            .field("width", 640)
            .field("height", 360)
            .field("framerate", gst::Fraction::new(25, 1))
            .build();
        gst::Sample::builder().buffer(&buffer).segment(&segment).caps(&caps).build()
    }

    fn take(tap: &Tap, parts: &[&[u8]], pts_ms: u64) -> Outcome {
        let now = Timestamp::from_nanos(pts_ms * 1_000_000).plus(Duration::from_millis(5));
        tap.take(0, &sample(parts, pts_ms), now)
    }

    #[test]
    fn frames_start_with_a_key_frame_and_carry_the_segment_s_running_time() {
        let (tap, mut subscriber) = tap();
        assert_eq!(take(&tap, &[DELTA], 1_000), Outcome::Discarded);
        assert_eq!(take(&tap, &[SPS, PPS, IDR], 1_033), Outcome::Published);
        assert_eq!(take(&tap, &[DELTA], 1_066), Outcome::Published);
        let Next::Frame(first) = subscriber.try_next() else { panic!("no frame") };
        assert!(first.item.key);
        assert_eq!(first.item.captured, Timestamp::from_nanos(1_033_000_000));
        assert_eq!(first.item.encoded.since(first.item.captured), Duration::from_millis(5));
        let payload = &first.item.payload;
        assert_eq!(payload.pts(), Some(gst::ClockTime::from_mseconds(1_033)));
        assert_eq!((payload.dts(), payload.flags().bits()), (None, 0));
        let Next::Frame(second) = subscriber.try_next() else { panic!("no second") };
        assert!(second.item.payload.flags().contains(gst::BufferFlags::DELTA_UNIT));
        let format = tap.rendition().format().unwrap();
        assert_eq!((format.width, format.height, format.framerate), (640, 360, (25, 1)));
        assert_eq!(format.profile_level_id().unwrap(), "42c01f");
    }

    #[test]
    fn garbage_is_not_published_and_neither_is_what_refers_to_it() {
        let (tap, _subscriber) = tap();
        assert_eq!(take(&tap, &[SPS, PPS, IDR], 1_000), Outcome::Published);
        assert_eq!(take(&tap, &[&[0xff; 40]], 1_033), Outcome::Discarded);
        assert_eq!(take(&tap, &[DELTA], 1_066), Outcome::Discarded);
        assert_eq!(take(&tap, &[SPS, PPS, IDR], 1_100), Outcome::Published);
        assert_eq!(tap.rendition().hub.published(), 2);
    }

    #[test]
    fn parameter_sets_are_put_in_front_of_every_idr() {
        let (tap, mut subscriber) = tap();
        assert_eq!(take(&tap, &[IDR], 900), Outcome::Discarded, "none were seen yet");
        assert_eq!(take(&tap, &[SPS, PPS, IDR], 1_000), Outcome::Published);
        let Next::Frame(first) = subscriber.try_next() else { panic!("no frame") };
        assert_eq!(take(&tap, &[IDR], 1_033), Outcome::Published);
        let Next::Frame(second) = subscriber.try_next() else { panic!("no second") };
        assert_eq!(first.item.size_bytes(), second.item.size_bytes());
    }

    #[test]
    fn a_pipeline_that_was_replaced_publishes_nothing() {
        let (tap, _subscriber) = tap();
        assert_eq!(take(&tap, &[SPS, PPS, IDR], 1_000), Outcome::Published);
        tap.shut_out();
        assert_eq!(take(&tap, &[SPS, PPS, IDR], 1_033), Outcome::Stale);
        let next = tap.take(1, &sample(&[DELTA], 1_066), Timestamp::from_nanos(1_066_000_000));
        assert_eq!(next, Outcome::Discarded, "a new pipeline starts with a key frame");
    }
}
