//! The tap as GStreamer sees it: an appsink in a harness, on a clock that the test winds.
//!
//! The clock itself never goes back, being monotonic; what jumps both ways are the stamps.

use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use gst_check::Harness;

use super::tests::tap;
use super::*;
use crate::distributor::{Next, Subscriber};
use crate::frame::testing::{
    DELTA, IDR, PPS, SPS, START, TEN_MINUTES, buffer, flush, harness, instant, push_list, wind,
};

/// How old a picture is when it comes out of the encoder.
const ENCODING: Duration = Duration::from_millis(5);

/// Frames from one key frame to the next.
const GOP: u64 = 60;

/// A parameter set other than [`SPS`]: of a larger picture.
const SPS_LARGE: &[u8] = &[0, 0, 0, 1, 0x67, 0x64, 0x00, 0x28, 0xac];

struct Rig {
    tap: Arc<Tap>,
    marks: Arc<Marks>,
    harness: Harness,
    subscriber: Subscriber<Frame>,
    frames: Vec<Frame>,
}

impl Rig {
    fn new() -> Self {
        let (tap, subscriber) = tap();
        let marks = Arc::new(Marks::new(1));
        let mut harness = harness(&tap.sink(0, &marks), Some("sink"), None);
        harness.set_src_caps(caps(640, 360, Some(30)));
        Self { tap, marks, harness, subscriber, frames: Vec::new() }
    }

    /// Pushes an access unit claimed to be from `claimed`, at `now`.
    fn push_at(
        &mut self,
        parts: &[&[u8]],
        claimed: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        wind(&self.harness, now);
        let pushed = self.harness.push(unit(parts, claimed));
        self.look();
        pushed
    }

    /// Pushes frame `number` when an honest camera would.
    fn push(&mut self, parts: &[&[u8]], number: u64) {
        let captured = instant(number);
        self.push_at(parts, Some(captured), captured.plus(ENCODING)).unwrap();
    }

    /// The frames that were published and not looked at yet.
    fn frames(&mut self) -> Vec<Frame> {
        self.look();
        std::mem::take(&mut self.frames)
    }

    /// When those were taken.
    fn captured(&mut self) -> Vec<Timestamp> {
        self.frames().iter().map(|frame| frame.captured).collect()
    }

    /// Takes what was published, so that nothing is skipped.
    fn look(&mut self) {
        while let Next::Frame(delivery) = self.subscriber.try_next() {
            assert_eq!(delivery.skipped, 0);
            self.frames.push(delivery.item);
        }
    }

    fn published(&self) -> u64 {
        self.tap.rendition().hub.published()
    }

    /// Whether the tap asked for a key frame since it was last asked about.
    fn wants_key(&self) -> bool {
        pin!(self.tap.key_wanted()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn size(&self) -> (u32, u32) {
        let format = self.tap.rendition().format().unwrap();
        (format.width, format.height)
    }
}

fn unit(parts: &[&[u8]], claimed: Option<Timestamp>) -> gst::Buffer {
    let mut unit = buffer(parts.concat(), claimed);
    if !parts.contains(&IDR) {
        unit.get_mut().unwrap().set_flags(gst::BufferFlags::DELTA_UNIT);
    }
    unit
}

fn caps(width: i32, height: i32, framerate: Option<i32>) -> gst::Caps {
    let caps = gst::Caps::builder("video/x-h264")
        .field("stream-format", "byte-stream")
        .field("alignment", "au")
        .field("width", width)
        .field("height", height);
    match framerate {
        Some(framerate) => caps.field("framerate", gst::Fraction::new(framerate, 1)).build(),
        None => caps.build(),
    }
}

#[test]
fn ten_minutes_of_frames_are_published_as_they_come_and_none_is_held() {
    let mut rig = Rig::new();
    let mut before = None::<gst::Buffer>;
    for number in 0..TEN_MINUTES {
        let parts: &[&[u8]] = if number % GOP == 0 { &[SPS, PPS, IDR] } else { &[DELTA] };
        let unit = unit(parts, Some(instant(number)));
        wind(&rig.harness, instant(number).plus(ENCODING));
        rig.harness.push(unit.clone()).unwrap();
        // The appsink keeps the last one; the encoder's pool has all others back.
        assert!(before.is_none_or(|before| before.is_writable()), "frame {number} is held");
        before = Some(unit);

        let [frame] = &*rig.frames() else { panic!("frame {number} is not one frame") };
        assert_eq!((frame.captured, frame.key), (instant(number), number % GOP == 0));
        assert_eq!(frame.encoded, frame.captured.plus(ENCODING));
        assert_eq!(frame.payload.map_readable().unwrap().as_slice(), parts.concat());
        assert_eq!(rig.marks.renditions[0].published.get(), Some(frame.encoded));
    }
    assert_eq!((rig.published(), rig.tap.frames_published.get()), (TEN_MINUTES, TEN_MINUTES));
    let encode_seconds = &rig.tap.encode_seconds;
    assert_eq!(encode_seconds.get_sample_count(), TEN_MINUTES);
    let mean = encode_seconds.get_sample_sum() / TEN_MINUTES as f64;
    assert!((mean - ENCODING.as_secs_f64()).abs() < 1e-6, "{mean}");
    assert_eq!(*rig.tap.keys().borrow(), Some(instant(TEN_MINUTES - GOP).plus(ENCODING)));
    assert!(!rig.wants_key());
}

#[test]
fn stamps_that_jump_or_are_missing_are_made_good_from_the_clock() {
    let mut rig = Rig::new();
    rig.push(&[SPS, PPS, IDR], 0);
    let now = |number| instant(number).plus(ENCODING);
    let tenth = Duration::from_secs(10);
    let claims = [
        Some(instant(1).plus(tenth)),
        Some(Timestamp::from_nanos(0)),
        None,
        Some(Timestamp::from_nanos(instant(4).as_nanos() - 1_500_000_000)),
        Some(instant(0)),
    ];
    for (number, claimed) in (1..).zip(claims) {
        rig.push_at(&[DELTA], claimed, now(number)).unwrap();
    }
    // The last claim is believable by its age, but no frame may be older than the one before it.
    let step = now(4).plus(Duration::from_nanos(11_112));
    assert_eq!(rig.captured(), [instant(0), now(1), now(2), now(3), now(4), step]);
    rig.push(&[DELTA], 6);
    assert_eq!(rig.captured(), [instant(6)], "an honest stamp is taken again");
}

#[test]
fn ten_minutes_of_jumping_stamps_never_go_back_and_are_never_far_from_now() {
    let mut rig = Rig::new();
    let mut last = Timestamp::default();
    for number in 0..TEN_MINUTES {
        let (captured, now) = (instant(number), instant(number).plus(ENCODING));
        let claimed = match number / 100 % 5 {
            0 => Some(captured),
            1 => Some(captured.plus(Duration::from_secs(600))),
            2 => Some(Timestamp::from_nanos(captured.as_nanos() - 600_000_000_000)),
            3 => None,
            // Jitter of three frames to and fro.
            _ => Some(instant(number - number % 4)),
        };
        let parts: &[&[u8]] = if number % GOP == 0 { &[SPS, PPS, IDR] } else { &[DELTA] };
        rig.push_at(parts, claimed, now).unwrap();
        let [captured] = rig.captured()[..] else { panic!("frame {number} is not one frame") };
        assert!(last < captured && captured <= now, "frame {number}: {last} {captured} {now}");
        assert!(now.since(captured) <= Duration::from_millis(150), "frame {number}: {captured}");
        last = captured;
    }
    assert_eq!(rig.published(), TEN_MINUTES);
}

#[test]
fn a_clock_that_jumps_ahead_leaves_no_frame_in_the_past() {
    let mut rig = Rig::new();
    rig.push(&[SPS, PPS, IDR], 0);
    // The machine slept for ten minutes, and the camera's stamps did not notice.
    let awake = instant(1).plus(Duration::from_secs(600));
    rig.push_at(&[DELTA], Some(instant(1)), awake).unwrap();
    assert_eq!(rig.captured(), [instant(0), awake]);
    assert_eq!(rig.tap.rendition().last_frame(), Some(awake));
}

#[test]
fn a_shifted_segment_shifts_no_stamp() {
    let mut rig = Rig::new();
    rig.push(&[SPS, PPS, IDR], 0);
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_start(gst::ClockTime::from_seconds(3_600_000));
    assert!(rig.harness.push_event(gst::event::Segment::new(&segment)));
    let shifted = instant(1).plus(Duration::from_secs(3_600_000));
    rig.push_at(&[DELTA], Some(shifted), instant(1).plus(ENCODING)).unwrap();
    assert_eq!(rig.captured(), [instant(0), instant(1)]);
}

#[test]
fn a_list_is_as_many_frames_as_it_has_buffers() {
    let mut rig = Rig::new();
    for list in 0..TEN_MINUTES / 4 {
        let numbers = list * 4..list * 4 + 4;
        wind(&rig.harness, instant(numbers.end));
        let parts = |number| if number % 4 == 0 { vec![SPS, PPS, IDR] } else { vec![DELTA] };
        let units = numbers.clone().map(|number| unit(&parts(number), Some(instant(number))));
        push_list(&rig.harness, units).unwrap();
        assert_eq!(rig.captured(), numbers.map(instant).collect::<Vec<_>>());
    }
    assert_eq!(rig.published(), TEN_MINUTES);

    wind(&rig.harness, instant(TEN_MINUTES + 4));
    let spoilt: [&[&[u8]]; 4] = [&[DELTA], &[&[0xff; 40]], &[DELTA], &[SPS, PPS, IDR]];
    let units = (TEN_MINUTES..).zip(spoilt);
    push_list(&rig.harness, units.map(|(number, parts)| unit(parts, Some(instant(number)))))
        .unwrap();
    let kept = [TEN_MINUTES, TEN_MINUTES + 3].map(instant);
    assert_eq!(rig.captured(), kept, "what refers to garbage in the same list is none");
}

#[test]
fn after_garbage_a_key_frame_is_asked_for_and_nothing_before_it_is_published() {
    let mut rig = Rig::new();
    rig.push(&[SPS, PPS, IDR], 0);
    let garbage = [&[0xff; 40][..], &[], &[0, 0, 0, 1, 0x1f, 9, 9], SPS];
    for (number, garbage) in (1..).step_by(3).zip(garbage) {
        rig.captured();
        rig.push(&[garbage], number);
        assert!(rig.wants_key());
        rig.push(&[DELTA], number + 1);
        assert!(rig.wants_key(), "asked for until it is there");
        rig.push(&[IDR], number + 2);
        assert!(!rig.wants_key());
        assert_eq!(rig.captured(), [instant(number + 2)]);
    }
}

#[test]
fn garbage_leaves_no_mark_so_that_the_watchdog_sees_it() {
    let mut rig = Rig::new();
    rig.push(&[SPS, PPS, IDR], 0);
    let marked = rig.marks.renditions[0].published.get();
    for number in 1..TEN_MINUTES {
        rig.push(if number % 2 == 1 { &[&[0xff; 40]] } else { &[DELTA] }, number);
    }
    assert_eq!(rig.published(), 1);
    assert_eq!(rig.marks.renditions[0].published.get(), marked);
}

#[test]
fn a_flush_costs_what_came_in_it_and_nothing_else() {
    let mut rig = Rig::new();
    rig.push(&[SPS, PPS, IDR], 0);
    flush(&mut rig.harness);
    assert_eq!(rig.published(), 1);
    for number in 1..4 {
        rig.push(&[DELTA], number);
    }
    assert_eq!(
        rig.captured(),
        [0, 1, 2, 3].map(instant),
        "rising across the flush, which reset time"
    );
}

#[test]
fn nothing_is_published_after_the_end_of_the_stream() {
    let mut rig = Rig::new();
    rig.push(&[SPS, PPS, IDR], 0);
    assert!(rig.harness.push_event(gst::event::Eos::new()));
    let now = instant(1).plus(ENCODING);
    for _ in 0..3 {
        let refused = rig.push_at(&[SPS, PPS, IDR], Some(instant(1)), now);
        assert_eq!(refused, Err(gst::FlowError::Eos));
    }
    let listed = push_list(&rig.harness, [unit(&[SPS, PPS, IDR], Some(instant(1)))]);
    assert_eq!(listed, Err(gst::FlowError::Eos));
    assert_eq!(rig.published(), 1);
    assert_eq!(rig.marks.renditions[0].published.get(), Some(START.plus(ENCODING)));
}

#[test]
fn a_new_size_is_told_with_the_key_frame_that_begins_it() {
    let mut rig = Rig::new();
    rig.push(&[SPS, PPS, IDR], 0);
    assert_eq!(rig.size(), (640, 360));
    assert!(rig.harness.push_event(gst::event::Caps::new(&caps(1920, 1080, None))));
    rig.push(&[DELTA], 1);
    assert_eq!(rig.size(), (640, 360), "no frame of the new size was published");
    rig.push(&[SPS_LARGE, PPS, IDR], 2);
    let format = rig.tap.rendition().format().unwrap();
    assert_eq!((format.width, format.height, format.framerate), (1920, 1080, (30, 1)));
    assert_eq!(format.sps, SPS_LARGE[4..]);
    rig.captured();
    rig.push(&[IDR], 3);
    let bytes = [SPS_LARGE, PPS, IDR].concat();
    assert_eq!(
        rig.frames()[0].payload.map_readable().unwrap().as_slice(),
        bytes,
        "the newest parameters"
    );

    assert!(rig.harness.push_event(gst::event::Caps::new(&caps(1920, 1080, Some(60)))));
    rig.push(&[IDR], 4);
    assert_eq!(rig.tap.rendition().format().unwrap().framerate, (60, 1));
}

#[test]
fn a_pipeline_that_was_replaced_is_told_to_end_and_leaves_no_mark() {
    let mut rig = Rig::new();
    rig.push(&[SPS, PPS, IDR], 0);
    rig.tap.shut_out();
    let now = instant(1).plus(ENCODING);
    let refused = rig.push_at(&[SPS, PPS, IDR], Some(instant(1)), now);
    assert_eq!(refused, Err(gst::FlowError::Eos));
    assert_eq!(rig.published(), 1);
    assert_eq!(rig.marks.renditions[0].published.get(), Some(START.plus(ENCODING)));

    let mut next = harness(&rig.tap.sink(0, &rig.marks), Some("sink"), None);
    next.set_src_caps(caps(640, 360, Some(30)));
    wind(&next, instant(2));
    next.push(unit(&[DELTA], Some(instant(2)))).unwrap();
    assert_eq!(rig.published(), 1, "a new pipeline starts with a key frame");
    next.push(unit(&[SPS, PPS, IDR], Some(instant(2)))).unwrap();
    assert_eq!(rig.captured(), [0, 2].map(instant));
}
