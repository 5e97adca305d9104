//! The probes of a camera's pipeline around an element in a harness, on a clock that the test
//! winds.
//!
//! A flush, the end of the stream and, but for the stamp, a change of caps are nothing to these
//! probes: they keep no buffer. What is tested of those is that it stays so.

use std::time::Duration;

use gst_check::Harness;

use super::*;
use crate::camera::simulated::stamp;
use crate::config::{self, Fault, FaultKind};
use crate::frame::testing::{
    DELTA, FRAMERATE, IDR, START, TEN_MINUTES, buffer, flush, harness, instant, push_list, wind,
};
use crate::nal;

const WIDTH: usize = 160;
const HEIGHT: usize = 24;

/// An element that does nothing, with a probe on one of its pads.
struct Rig {
    harness: Harness,
    _probe: Option<Probe>,
}

impl Rig {
    fn new(pad: &str, probe: impl FnOnce(&gst::Pad) -> Option<Probe>) -> Self {
        gst::init().unwrap();
        let element = gst::ElementFactory::make("identity").build().unwrap();
        let probe = probe(&element.static_pad(pad).unwrap());
        let mut harness = harness(&element, Some("sink"), Some("src"));
        harness.set_src_caps(caps("I420", WIDTH, HEIGHT));
        Self { harness, _probe: probe }
    }

    /// What becomes of `buffer`, coming at `now`.
    fn pass(&mut self, buffer: gst::Buffer, now: Timestamp) -> gst::Buffer {
        wind(&self.harness, now);
        self.harness.push(buffer).unwrap();
        self.harness.try_pull().unwrap()
    }

    fn change_caps(&mut self, caps: &gst::Caps) {
        assert!(self.harness.push_event(gst::event::Caps::new(caps)));
    }
}

fn caps(format: &str, width: usize, height: usize) -> gst::Caps {
    gst_video::VideoCapsBuilder::new()
        .format(format.parse().unwrap())
        .width(i32::try_from(width).unwrap())
        .height(i32::try_from(height).unwrap())
        .framerate(gst::Fraction::new(i32::try_from(FRAMERATE).unwrap(), 1))
        .build()
}

fn arrival_rig(restamp: bool) -> (Arc<Marks>, Rig) {
    let marks = Arc::new(Marks::new(1));
    let rig = Rig::new("src", |pad| arrival(pad, &marks, restamp));
    (marks, rig)
}

/// A simulated camera whose first picture was taken at [`START`].
fn simulator(faults: Vec<Fault>) -> Arc<Simulator> {
    gst::init().unwrap();
    let config = config::Simulated { faults, ..config::Simulated::default() };
    let size = (u32::try_from(WIDTH).unwrap(), u32::try_from(HEIGHT).unwrap());
    let simulator = Simulator::new(config, size, u32::try_from(FRAMERATE).unwrap());
    assert!(simulator.spoil(&buffer(DELTA, START), START).is_none());
    Arc::new(simulator)
}

fn stamp_rig() -> (Arc<Simulator>, Rig) {
    let simulator = simulator(Vec::new());
    let rig = Rig::new("sink", |pad| stamp(pad, &simulator));
    (simulator, rig)
}

/// A grey picture.
fn picture(width: usize, height: usize, pts: Option<Timestamp>) -> gst::Buffer {
    buffer(vec![GREY; width * height * 3 / 2], pts)
}

const GREY: u8 = 77;

/// The stamp in a picture: the time, and the number.
fn read(picture: &gst::Buffer, width: usize) -> Option<(u64, u16)> {
    stamp::read(picture.map_readable().unwrap().as_slice(), width, width)
}

#[track_caller]
fn assert_stamp(picture: &gst::Buffer, width: usize, captured: Timestamp, number: u64) {
    let (unix_ms, read) = read(picture, width).expect("no stamp can be read");
    // The wall clock may be set a little between burning and reading.
    let truth = u64::try_from(captured.to_unix().as_millis()).unwrap();
    assert!(unix_ms.abs_diff(truth) <= 1, "{unix_ms} for {truth}");
    assert_eq!(u64::from(read), number % 65_536);
}

#[test]
fn ten_minutes_of_honest_stamps_pass_untouched_and_leave_their_marks() {
    let (marks, mut rig) = arrival_rig(true);
    for number in 0..TEN_MINUTES {
        let now = instant(number).plus(Duration::from_millis(20));
        let passed = rig.pass(buffer(DELTA, instant(number)), now);
        assert_eq!(passed.pts(), Some(instant(number).into()));
        assert_eq!(marks.arrived.get(), Some(now));
    }
    assert_eq!(u64::from(rig.harness.buffers_received()), TEN_MINUTES);
}

#[test]
fn ten_minutes_of_jumping_stamps_reach_the_encoder_rising_and_near_now() {
    let (_marks, mut rig) = arrival_rig(true);
    let mut last = None;
    for number in 0..TEN_MINUTES {
        let (captured, now) = (instant(number), instant(number).plus(Duration::from_millis(20)));
        let (claimed, expected) = match number / 100 % 4 {
            0 => (Some(captured), captured),
            1 => (Some(captured.plus(Duration::from_secs(600))), now),
            2 => (Some(Timestamp::from_nanos(captured.as_nanos() - 600_000_000_000)), now),
            _ => (None, now),
        };
        let passed = rig.pass(buffer(DELTA, claimed), now).pts();
        assert_eq!(passed, Some(expected.into()), "frame {number}");
        assert!(last < passed, "frame {number}");
        last = passed;
    }
}

#[test]
fn a_list_is_stamped_buffer_by_buffer() {
    let (marks, mut rig) = arrival_rig(true);
    // The list is pushed through the pad itself: on its way through the element it falls apart.
    let source = rig.harness.element().unwrap().static_pad("src").unwrap();
    rig.pass(buffer(DELTA, START), START);
    for list in 1..TEN_MINUTES / 3 {
        let now = instant(list * 3);
        wind(&rig.harness, now);
        let jumped = now.plus(Duration::from_secs(10));
        let claims = [Some(instant(list * 3 - 1)), Some(jumped), None];
        let buffers = claims.map(|claimed| buffer(DELTA, claimed));
        source.push_list(buffers.into_iter().collect::<gst::BufferList>()).unwrap();
        let step = Duration::from_nanos(11_112);
        for expected in [instant(list * 3 - 1), now, now.plus(step)] {
            assert_eq!(rig.harness.try_pull().unwrap().pts(), Some(expected.into()));
        }
        assert_eq!(marks.arrived.get(), Some(now));
    }
}

#[test]
fn a_clock_that_jumps_ahead_takes_the_stamps_with_it() {
    let (_marks, mut rig) = arrival_rig(true);
    rig.pass(buffer(DELTA, instant(0)), instant(0));
    let awake = instant(1).plus(Duration::from_secs(600));
    assert_eq!(rig.pass(buffer(DELTA, instant(1)), awake).pts(), Some(awake.into()));
}

#[test]
fn encoded_pictures_of_a_network_camera_keep_their_stamps_and_leave_marks() {
    let (marks, mut rig) = arrival_rig(false);
    for claimed in [Some(instant(7_000)), Some(Timestamp::from_nanos(1)), None] {
        let passed = rig.pass(buffer(IDR, claimed), instant(1));
        assert_eq!(passed.pts(), claimed.map(gst::ClockTime::from));
    }
    wind(&rig.harness, instant(2));
    push_list(&rig.harness, [buffer(IDR, None), buffer(DELTA, None)]).unwrap();
    assert_eq!(marks.arrived.get(), Some(instant(2)));
}

#[test]
fn a_flush_takes_no_stamp_back_and_after_the_end_no_mark_is_left() {
    let (marks, mut rig) = arrival_rig(true);
    rig.pass(buffer(DELTA, instant(3)), instant(3));
    flush(&mut rig.harness);
    let after = rig.pass(buffer(DELTA, instant(2)), instant(3)).pts();
    assert!(after > Some(instant(3).into()), "{after:?}");
    assert!(rig.harness.push_event(gst::event::Eos::new()));
    wind(&rig.harness, instant(9));
    assert_eq!(rig.harness.push(buffer(DELTA, instant(9))), Err(gst::FlowError::Eos));
    assert_eq!(marks.arrived.get(), Some(instant(3)), "what is not passed on has not arrived");
}

#[test]
fn whatever_comes_from_an_encoder_marks_its_rendition_and_no_other() {
    let marks = Arc::new(Marks::new(2));
    let mut rig = Rig::new("src", |pad| encoded(pad, &marks, 1));
    for number in 0..TEN_MINUTES {
        rig.pass(buffer([0xff; 4], None), instant(number));
        assert_eq!(marks.renditions[1].encoded.get(), Some(instant(number)));
    }
    let source = rig.harness.element().unwrap().static_pad("src").unwrap();
    wind(&rig.harness, instant(TEN_MINUTES));
    source.push_list([buffer(DELTA, None)].into_iter().collect::<gst::BufferList>()).unwrap();
    assert_eq!(marks.renditions[1].encoded.get(), Some(instant(TEN_MINUTES)));
    assert_eq!(marks.renditions[0].encoded.get(), None);
    assert_eq!((marks.arrived.get(), marks.all_published()), (None, false));
}

#[test]
fn ten_minutes_of_pictures_carry_their_time_and_number_beyond_sixteen_bits() {
    let (_simulator, mut rig) = stamp_rig();
    // The middle of them is picture 65536, where the number starts over.
    let first = 65_536 - TEN_MINUTES / 2;
    let mut picture = picture(WIDTH, HEIGHT, Some(instant(first)));
    for number in first..first + TEN_MINUTES {
        picture.get_mut().unwrap().set_pts(gst::ClockTime::from(instant(number)));
        picture = rig.pass(picture, instant(number));
        assert_eq!(picture.pts(), Some(instant(number).into()));
        assert_stamp(&picture, WIDTH, instant(number), number);
    }
}

#[test]
fn a_stamp_follows_the_pts_wherever_it_jumps() {
    let (_simulator, mut rig) = stamp_rig();
    for number in [0, 18_000, 1, 100_000, 99_999, 0] {
        let passed = rig.pass(picture(WIDTH, HEIGHT, Some(instant(number))), instant(5));
        assert_stamp(&passed, WIDTH, instant(number), number);
    }
    let before = Timestamp::from_nanos(START.as_nanos() - 1_000_000_000);
    let passed = rig.pass(picture(WIDTH, HEIGHT, Some(before)), instant(5));
    assert_stamp(&passed, WIDTH, before, 0);
    let passed = rig.pass(picture(WIDTH, HEIGHT, None), instant(5));
    assert!(passed.map_readable().unwrap().iter().all(|&luma| luma == GREY), "a time is made up");
}

#[test]
fn each_picture_of_a_list_has_its_own_stamp_and_a_shared_one_is_not_written_to() {
    let (_simulator, mut rig) = stamp_rig();
    let shared = picture(WIDTH, HEIGHT, Some(instant(1)));
    let pictures = [0, 1, 2].map(|number| match number {
        1 => shared.clone(),
        _ => picture(WIDTH, HEIGHT, Some(instant(number))),
    });
    push_list(&rig.harness, pictures).unwrap();
    for number in [0, 1, 2] {
        assert_stamp(&rig.harness.try_pull().unwrap(), WIDTH, instant(number), number);
    }
    assert!(shared.map_readable().unwrap().iter().all(|&luma| luma == GREY));
}

#[test]
fn a_stamp_has_the_size_of_the_picture_it_is_burned_into() {
    let (_simulator, mut rig) = stamp_rig();
    for (number, width) in (0..).zip([WIDTH, 640, 320, WIDTH]) {
        rig.change_caps(&caps("I420", width, 48));
        let passed = rig.pass(picture(width, 48, Some(instant(number))), instant(number));
        assert_stamp(&passed, width, instant(number), number);
    }
    // Another format: its luma may lie elsewhere.
    rig.change_caps(&caps("NV12", WIDTH, HEIGHT));
    let passed = rig.pass(picture(WIDTH, HEIGHT, Some(instant(4))), instant(4));
    assert!(passed.map_readable().unwrap().iter().all(|&luma| luma == GREY));
    // A picture that is smaller than its caps claim.
    rig.change_caps(&caps("I420", WIDTH, HEIGHT));
    let passed = rig.pass(buffer([GREY; 99], instant(5)), instant(5));
    assert!(passed.map_readable().unwrap().iter().all(|&luma| luma == GREY));
}

#[test]
fn pictures_are_stamped_after_a_flush_and_while_there_is_a_camera() {
    let (simulator, mut rig) = stamp_rig();
    rig.pass(picture(WIDTH, HEIGHT, Some(instant(0))), instant(0));
    flush(&mut rig.harness);
    let passed = rig.pass(picture(WIDTH, HEIGHT, Some(instant(1))), instant(1));
    assert_stamp(&passed, WIDTH, instant(1), 1);
    drop(simulator);
    let passed = rig.pass(picture(WIDTH, HEIGHT, Some(instant(2))), instant(2));
    assert_eq!(read(&passed, WIDTH), None);
}

#[test]
fn garbage_stands_in_for_the_pictures_of_its_time_and_for_no_other() {
    let second = FRAMERATE * 1_000;
    let fault = Fault { at_ms: 1_000, kind: FaultKind::Garbage, for_ms: 500 };
    let simulator = simulator(vec![fault]);
    let mut rig = Rig::new("src", |pad| spoil(pad, &simulator));
    let mut spoilt = Vec::new();
    for number in 0..TEN_MINUTES {
        let mut original = buffer(DELTA, instant(number));
        original.get_mut().unwrap().set_flags(gst::BufferFlags::DELTA_UNIT);
        let passed = rig.pass(original.clone(), instant(number));
        assert_eq!((passed.pts(), passed.flags()), (original.pts(), original.flags()));
        let bytes = passed.map_readable().unwrap();
        if bytes.as_slice() != DELTA {
            assert_eq!((bytes.len(), nal::inspect(&bytes)), (DELTA.len(), None));
            spoilt.push(number);
        }
    }
    let expected = (second / 1_000..second * 3 / 2_000).collect::<Vec<_>>();
    assert_eq!(spoilt, expected);
}

#[test]
fn a_camera_that_never_spoils_has_no_probe_for_it() {
    let simulator = simulator(Vec::new());
    let rig = Rig::new("src", |pad| spoil(pad, &simulator));
    assert!(rig._probe.is_none());
}
