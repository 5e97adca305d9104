//! What the tests of camera and egress share: pictures in virtual time, and ways to push them
//! through an element of ours in a harness.

use gst::prelude::*;
use gst_check::Harness;

use crate::clock::Timestamp;

/// A sequence parameter set, as a byte stream.
pub const SPS: &[u8] = &[0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1f, 0x8c];

/// A picture parameter set, as a byte stream.
pub const PPS: &[u8] = &[0, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80];

/// An IDR without its parameter sets, as a byte stream.
pub const IDR: &[u8] = &[0, 0, 0, 1, 0x65, 0x88, 0x84, 1];

/// A picture that refers to those before it, as a byte stream.
pub const DELTA: &[u8] = &[0, 0, 0, 1, 0x41, 0x9a, 1];

/// When streams begin, by the clock that tests wind.
pub const START: Timestamp = Timestamp::from_nanos(10_000_000_000_000);

/// Frames a second.
pub const FRAMERATE: u64 = 30;

/// Frames in ten minutes.
pub const TEN_MINUTES: u64 = 10 * 60 * FRAMERATE;

/// When frame `number` is taken.
pub fn instant(number: u64) -> Timestamp {
    Timestamp::from_nanos(START.as_nanos() + number * 1_000_000_000 / FRAMERATE)
}

/// A buffer of `bytes` with a stamp.
pub fn buffer(bytes: impl Into<Vec<u8>>, pts: impl Into<Option<Timestamp>>) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_mut_slice(bytes.into());
    let pts: Option<Timestamp> = pts.into();
    buffer.get_mut().unwrap().set_pts(pts.map(gst::ClockTime::from));
    buffer
}

/// A harness around the pads of `element`, on a clock that stands at [`START`] until it is wound.
pub fn harness(
    element: &impl IsA<gst::Element>,
    sink: Option<&str>,
    source: Option<&str>,
) -> Harness {
    let mut harness = Harness::with_element(element, sink, source);
    harness.use_testclock();
    wind(&harness, START);
    harness
}

/// Winds the clock of `harness` on to `now`. It cannot go back, as the one clock cannot.
pub fn wind(harness: &Harness, now: Timestamp) {
    harness.testclock().unwrap().set_time(now.into());
}

/// Pushes `buffers` into the element as one list.
pub fn push_list(
    harness: &Harness,
    buffers: impl IntoIterator<Item = gst::Buffer>,
) -> Result<gst::FlowSuccess, gst::FlowError> {
    harness.srcpad().unwrap().push_list(buffers.into_iter().collect())
}

/// Flushes the element from upstream. In the midst of it, it takes nothing of what is pushed.
pub fn flush(harness: &mut Harness) {
    assert!(harness.push_event(gst::event::FlushStart::new()));
    let refused = harness.push(buffer(DELTA, START));
    assert_eq!(refused, Err(gst::FlowError::Flushing), "pushed in the midst of a flush");
    assert!(harness.push_event(gst::event::FlushStop::new(true)));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    assert!(harness.push_event(gst::event::Segment::new(&segment)));
}
