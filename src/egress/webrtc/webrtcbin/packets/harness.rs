//! Header extensions behind the payloader of a session, and the ear for reports, in a harness.
//!
//! Neither asks a clock for anything but the difference between wall clock and one clock: what
//! jumps here are the stamps of the frames.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gst_check::Harness;

use super::super::build;
use super::*;
use crate::frame::testing::{
    DELTA, FRAMERATE, IDR, PPS, SPS, TEN_MINUTES, buffer, flush, harness, instant, push_list, wind,
};

const SSRC: u32 = 0x1234_5678;
const PLAYOUT_DELAY: u8 = 1;
const ABS_CAPTURE_TIME: u8 = 2;
const TRANSPORT_CC: u8 = 3;
const MID: u8 = 4;

const ALL: Extensions = Extensions {
    playout_delay: Some(PLAYOUT_DELAY),
    abs_capture_time: Some(ABS_CAPTURE_TIME),
    transport_cc: Some(TRANSPORT_CC),
    mid: Some(MID),
};

/// How far the wall clock may be set between a stamp and its test.
const SET_MAX: Duration = Duration::from_millis(1);

/// From 1 January 1900, where NTP begins, to 1970: 70 years, 17 of them leap years.
const EPOCHS_APART: Duration = Duration::from_secs((70 * 365 + 17) * 24 * 60 * 60);

/// A payloader with our probe behind it.
struct Rig {
    harness: Harness,
    lists: Arc<AtomicU64>,
    _stamp: Option<Probe>,
    _count: Option<Probe>,
}

/// What there is to see on a packet.
#[derive(Debug)]
struct Packet {
    seq: u16,
    timestamp: u32,
    marker: bool,
    transport_cc: bool,
    playout_delay: Option<Vec<u8>>,
    /// Since 1900.
    capture_time: Option<Duration>,
    mid: Option<Vec<u8>>,
}

impl Rig {
    fn new(extensions: Extensions) -> Self {
        gst::init().unwrap();
        let payloader = build::payloader(96, extensions.transport_cc, SSRC).unwrap();
        let stamp = stamp(&payloader, extensions, "video0");
        let mut harness = harness(&payloader, Some("sink"), Some("src"));
        let lists = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lists);
        let sink = harness.sinkpad().unwrap();
        let count = Probe::add(&sink, gst::PadProbeType::BUFFER_LIST, move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            gst::PadProbeReturn::Ok
        });
        harness.set_src_caps(caps(30));
        Self { harness, lists, _stamp: stamp, _count: count }
    }

    /// The packets of a frame.
    fn pay(&mut self, parts: &[&[u8]], captured: Option<Timestamp>) -> Vec<Packet> {
        self.harness.push(buffer(parts.concat(), captured)).unwrap();
        self.packets()
    }

    /// The packets that were sent and not looked at yet.
    fn packets(&mut self) -> Vec<Packet> {
        std::iter::from_fn(|| self.harness.try_pull()).map(|packet| read(&packet)).collect()
    }
}

fn caps(framerate: i32) -> gst::Caps {
    gst::Caps::builder("video/x-h264")
        .field("stream-format", "byte-stream")
        .field("alignment", "au")
        .field("framerate", gst::Fraction::new(framerate, 1))
        .build()
}

fn read(packet: &gst::Buffer) -> Packet {
    let rtp = RTPBuffer::from_buffer_readable(packet).unwrap();
    assert_eq!((rtp.ssrc(), rtp.payload_type()), (SSRC, 96));
    let extension = |id| {
        assert_eq!(rtp.extension_onebyte_header(id, 1), None, "extension {id} is there twice");
        rtp.extension_onebyte_header(id, 0).map(<[u8]>::to_vec)
    };
    Packet {
        seq: rtp.seq(),
        timestamp: rtp.timestamp(),
        marker: rtp.is_marker(),
        transport_cc: extension(TRANSPORT_CC).is_some(),
        playout_delay: extension(PLAYOUT_DELAY),
        capture_time: extension(ABS_CAPTURE_TIME)
            .map(|bytes| fixed_point(u64::from_be_bytes(bytes.try_into().unwrap()))),
        mid: extension(MID),
    }
}

/// A duration in NTP's 32.32.
fn fixed_point(value: u64) -> Duration {
    let nanoseconds = ((value & 0xffff_ffff) * 1_000_000_000) >> 32;
    Duration::from_secs(value >> 32) + Duration::from_nanos(nanoseconds)
}

/// Asserts that these are the packets of one frame taken at `captured`: the first one carries
/// everything, the others only what is on every packet.
#[track_caller]
fn assert_frame(packets: &[Packet], captured: Timestamp) {
    let (first, rest) = packets.split_first().expect("a frame without a packet");
    assert_eq!(first.playout_delay.as_deref(), Some(&[0; 3][..]), "{first:?}");
    assert_eq!(first.mid.as_deref(), Some(&b"video0"[..]), "{first:?}");
    let told = first.capture_time.expect("no capture time");
    let truth = EPOCHS_APART + captured.to_unix();
    assert!(told.abs_diff(truth) <= SET_MAX, "{told:?} {truth:?}");
    for packet in rest {
        let ours = (&packet.playout_delay, packet.capture_time, &packet.mid);
        assert_eq!(ours, (&None, None, &None), "{packet:?}");
    }
    assert!(packets.iter().all(|packet| packet.transport_cc));
    let (last, others) = packets.split_last().unwrap();
    assert!(last.marker && others.iter().all(|packet| !packet.marker));
}

/// A slice of a picture of so many bytes.
fn slice(start: &[u8], size_bytes: usize) -> Vec<u8> {
    [start, &vec![0x55; size_bytes - start.len()]].concat()
}

#[test]
fn ten_minutes_of_frames_each_have_the_extensions_on_their_first_packet_alone() {
    let mut rig = Rig::new(ALL);
    let (key, large) = (slice(IDR, 5_000), slice(DELTA, 1_500));
    let mut next_seq = None;
    let mut base = None;
    let mut singles = 0;
    for number in 0..TEN_MINUTES {
        let parts: &[&[u8]] = match number % 60 {
            0 => &[SPS, PPS, &key],
            number if number % 3 == 0 => &[&large, &large, DELTA],
            _ => &[DELTA],
        };
        let before = rig.lists.load(Ordering::Relaxed);
        let packets = rig.pay(parts, Some(instant(number)));
        assert_frame(&packets, instant(number));
        singles += u64::from(rig.lists.load(Ordering::Relaxed) == before);
        let ticks = instant(number).as_nanos() * 9 / 100_000;
        for packet in packets {
            assert!(next_seq.is_none_or(|next| packet.seq == next), "frame {number}: {packet:?}");
            next_seq = Some(packet.seq.wrapping_add(1));
            let offset = packet.timestamp.wrapping_sub((ticks & 0xffff_ffff) as u32);
            assert_eq!(offset, *base.get_or_insert(offset), "frame {number}");
        }
    }
    assert!(singles >= TEN_MINUTES / 2, "{singles} frames came as single packets");
    assert!(rig.lists.load(Ordering::Relaxed) >= TEN_MINUTES / 4, "both ways to push were seen");
}

#[test]
fn stamps_that_jump_are_told_as_they_are_and_a_missing_one_is_not_made_up() {
    let mut rig = Rig::new(ALL);
    let large = slice(DELTA, 3_000);
    for number in [0, TEN_MINUTES, 1, 100 * TEN_MINUTES, 0, 2] {
        let captured = instant(number);
        assert_frame(&rig.pay(&[DELTA], Some(captured)), captured);
        let captured = captured.plus(Duration::from_millis(1));
        assert_frame(&rig.pay(&[&large, DELTA], Some(captured)), captured);
    }
    // No frame of the tap's is without one. The payloader takes it for more of the frame before.
    let unstamped = rig.pay(&[&large, DELTA], None);
    assert!(unstamped.len() > 1 && unstamped.iter().all(|packet| packet.capture_time.is_none()));
    assert_frame(&rig.pay(&[DELTA], Some(instant(3))), instant(3));
}

#[test]
fn frames_pushed_as_a_list_are_told_apart() {
    let mut rig = Rig::new(ALL);
    let large = slice(DELTA, 3_000);
    push_list(&rig.harness, (0..30).map(|number| buffer(large.clone(), instant(number)))).unwrap();
    let packets = rig.packets();
    let frames: Vec<&[Packet]> = packets.split_inclusive(|packet| packet.marker).collect();
    assert_eq!(frames.len(), 30);
    for (number, frame) in (0..).zip(frames) {
        assert_frame(frame, instant(number));
    }
}

#[test]
fn the_frames_after_a_flush_and_after_a_change_of_caps_have_them_too() {
    let mut rig = Rig::new(ALL);
    rig.pay(&[SPS, PPS, IDR], Some(instant(0)));
    flush(&mut rig.harness);
    assert!(rig.packets().is_empty(), "nothing of what came in the flush is sent");
    assert_frame(&rig.pay(&[DELTA], Some(instant(1))), instant(1));
    let before = rig.pay(&[DELTA], Some(instant(2)));

    assert!(rig.harness.push_event(gst::event::Caps::new(&caps(60))));
    let sps_large = [&SPS[..5], &[0x64, 0, 0x28, 0xac][..]].concat();
    let after = rig.pay(&[&sps_large, PPS, &slice(IDR, 4_000)], Some(instant(3)));
    assert_frame(&after, instant(3));
    assert_eq!(after[0].seq, before[0].seq.wrapping_add(1), "the same stream goes on");
}

#[test]
fn nothing_is_sent_after_the_end_of_the_stream() {
    let mut rig = Rig::new(ALL);
    rig.pay(&[SPS, PPS, IDR], Some(instant(0)));
    assert!(rig.harness.push_event(gst::event::Eos::new()));
    let sent = rig.harness.buffers_received();
    assert_eq!(rig.harness.push(buffer(DELTA, instant(1))), Err(gst::FlowError::Eos));
    assert_eq!(rig.harness.buffers_received(), sent);
}

#[test]
fn only_what_was_negotiated_is_written() {
    let mut rig = Rig::new(Extensions { mid: Some(MID), ..Extensions::default() });
    let packets = rig.pay(&[&slice(DELTA, 3_000)], Some(instant(0)));
    assert_eq!(packets[0].mid.as_deref(), Some(&b"video0"[..]));
    assert_eq!((packets[0].capture_time, packets[0].playout_delay.is_some()), (None, false));
    assert!(packets.iter().all(|packet| !packet.transport_cc));
    let rig = Rig::new(Extensions { transport_cc: Some(TRANSPORT_CC), ..Extensions::default() });
    assert!(rig._stamp.is_none(), "there is nothing to write");
}

/// A pad like the one of rtpbin that RTCP comes in by: that of a bin, with an ear on it.
fn ear() -> (Harness, Arc<Mutex<Vec<rtcp::Report>>>, Option<Probe>) {
    gst::init().unwrap();
    let inner = gst::ElementFactory::make("identity").build().unwrap();
    let bin = gst::Bin::new();
    bin.add(&inner).unwrap();
    for name in ["sink", "src"] {
        let pad = gst::GhostPad::with_target(&inner.static_pad(name).unwrap()).unwrap();
        bin.add_pad(&pad).unwrap();
    }
    let heard = Arc::new(Mutex::new(Vec::new()));
    let reports = Arc::clone(&heard);
    let listener: Listener = Box::new(move |report| reports.lock().unwrap().push(report));
    let refused = IntCounter::new("refused", "In a test").unwrap();
    let probe = listen(&bin.static_pad("sink").unwrap(), SSRC, listener, refused);
    let mut harness = harness(&bin, Some("sink"), Some("src"));
    harness.set_src_caps(gst::Caps::new_empty_simple("application/x-rtcp"));
    (harness, heard, probe)
}

/// A receiver report of so many lost packets, with a request for a key frame.
fn report(lost: u32) -> gst::Buffer {
    let words = [0x81c9_0007, 1, SSRC, lost, 100, 3, 0, 0, 0x81ce_0002, 1, SSRC];
    buffer(words.map(u32::to_be_bytes).concat(), None)
}

#[test]
fn every_report_is_heard_once_however_it_is_pushed_and_none_after_the_end() {
    let (mut harness, heard, _probe) = ear();
    let lost = |reports: &[rtcp::Report]| {
        assert!(reports.iter().all(|report| report.key_frame_requests == 1));
        reports.iter().map(|report| report.packets_lost.unwrap()).collect::<Vec<_>>()
    };
    // As many as there are frames: a viewer that reports on every one.
    for number in 0..u32::try_from(TEN_MINUTES / FRAMERATE).unwrap() {
        wind(&harness, instant(u64::from(number) * FRAMERATE));
        let first = number * 30;
        for count in first..first + 20 {
            harness.push(report(count)).unwrap();
        }
        push_list(&harness, (first + 20..first + 30).map(report)).unwrap();
        let heard = std::mem::take(&mut *heard.lock().unwrap());
        assert_eq!(lost(&heard), (first..first + 30).collect::<Vec<_>>());
    }
    harness.push(buffer([0x81, 0xff], None)).unwrap();
    assert_eq!(heard.lock().unwrap().pop(), Some(rtcp::Report::default()), "garbage says nothing");
    flush(&mut harness);
    assert!(heard.lock().unwrap().is_empty());
    harness.push(report(7)).unwrap();
    assert_eq!(lost(&std::mem::take(&mut *heard.lock().unwrap())), [7]);
    assert!(harness.push_event(gst::event::Eos::new()));
    assert_eq!(harness.push(report(8)), Err(gst::FlowError::Eos));
    assert!(heard.lock().unwrap().is_empty());
}
