//! The gathering of packets in a harness.
//!
//! What is gathered is told by marker bits alone: neither a clock nor a stamp has a part in it.

use std::sync::Arc;

use gst_check::Harness;

use super::*;
use crate::frame::testing::{
    DELTA, IDR, PPS, SPS, TEN_MINUTES, buffer, flush, harness, instant, push_list,
};

/// A pad whose packets are gathered, and what leaves it.
struct Rig {
    harness: Harness,
    /// The sizes of the lists, in the order they came.
    lists: Arc<Mutex<Vec<usize>>>,
    _probes: [Option<Probe>; 2],
}

impl Rig {
    /// Gathers what is pushed into `element` by the harness.
    fn before(element: &gst::Element) -> Self {
        let harness = harness(element, Some("sink"), Some("src"));
        let source = harness.srcpad().unwrap();
        Self::on(harness, &source, &element.static_pad("sink").unwrap())
    }

    /// Gathers what `element` pushes.
    fn behind(element: &gst::Element) -> Self {
        let harness = harness(element, Some("sink"), Some("src"));
        let sink = harness.sinkpad().unwrap();
        Self::on(harness, &element.static_pad("src").unwrap(), &sink)
    }

    fn on(mut harness: Harness, gathered: &gst::Pad, peer: &gst::Pad) -> Self {
        let lists = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&lists);
        let look = Probe::add(peer, PadProbeType::BUFFER_LIST, move |_, info| {
            seen.lock().unwrap().push(info.buffer_list().unwrap().len());
            PadProbeReturn::Ok
        });
        let probes = [gather(gathered), look];
        harness.set_src_caps_str("video/x-h264,stream-format=byte-stream,alignment=au");
        Self { harness, lists, _probes: probes }
    }

    fn identity() -> Self {
        gst::init().unwrap();
        Self::before(&gst::ElementFactory::make("identity").build().unwrap())
    }

    fn lists(&self) -> Vec<usize> {
        std::mem::take(&mut self.lists.lock().unwrap())
    }

    /// The sequence numbers of what has left.
    fn sent(&mut self) -> Vec<u16> {
        std::iter::from_fn(|| self.harness.try_pull()).map(|packet| seq(&packet)).collect()
    }
}

fn packet(seq: u16, marker: bool) -> gst::Buffer {
    let [high, low] = seq.to_be_bytes();
    let bytes = [0x80, u8::from(marker) << 7 | 96, high, low, 0, 0, 0, 0, 0, 0, 0, 1, 7];
    buffer(bytes, None)
}

fn seq(packet: &gst::Buffer) -> u16 {
    let bytes = packet.map_readable().unwrap();
    u16::from_be_bytes([bytes[2], bytes[3]])
}

#[test]
fn ten_minutes_of_pictures_are_one_list_each_and_no_packet_is_lost_or_kept() {
    gst::init().unwrap();
    let payloader = gst::ElementFactory::make("rtph264pay").property("mtu", 1_200u32);
    let mut rig = Rig::behind(&payloader.build().unwrap());
    let large = [DELTA, &[0x55; 2_000]].concat();
    let mut next = None;
    for number in 0..TEN_MINUTES {
        let (parts, packets): (&[&[u8]], _) = match number % 60 {
            0 => (&[SPS, PPS, IDR], 3),
            number if number % 3 == 0 => (&[&large, DELTA, &large], 5),
            _ => (&[DELTA], 1),
        };
        rig.harness.push(buffer(parts.concat(), instant(number))).unwrap();
        assert_eq!(rig.lists(), [packets], "frame {number}");
        for seq in rig.sent() {
            assert!(next.is_none_or(|next| seq == next), "frame {number}: {seq}");
            next = Some(seq.wrapping_add(1));
        }
    }
}

#[test]
fn packets_are_gathered_in_order_whether_they_come_alone_or_in_lists() {
    let mut rig = Rig::identity();
    for first in (0..6_000).step_by(6) {
        let packet = |offset| packet(first + offset, offset == 5);
        rig.harness.push(packet(0)).unwrap();
        push_list(&rig.harness, [1, 2].map(packet)).unwrap();
        rig.harness.push(packet(3)).unwrap();
        assert!(rig.sent().is_empty(), "sent before the picture is complete");
        if first % 12 == 0 {
            push_list(&rig.harness, [4, 5].map(packet)).unwrap();
        } else {
            rig.harness.push(packet(4)).unwrap();
            rig.harness.push(packet(5)).unwrap();
        }
        assert_eq!(rig.lists(), [6]);
        assert_eq!(rig.sent(), (first..first + 6).collect::<Vec<_>>());
    }
}

#[test]
fn a_picture_without_end_is_sent_in_bounded_batches() {
    let mut rig = Rig::identity();
    for number in 0..u16::try_from(TEN_MINUTES).unwrap() {
        rig.harness.push(packet(number, false)).unwrap();
    }
    let full = usize::try_from(TEN_MINUTES).unwrap() / PACKETS_MAX;
    assert_eq!(rig.lists(), vec![PACKETS_MAX; full]);
    let sent = u16::try_from(full * PACKETS_MAX).unwrap();
    assert_eq!(rig.sent(), (0..sent).collect::<Vec<_>>());
}

#[test]
fn a_flush_drops_the_half_of_a_picture_that_was_there() {
    let mut rig = Rig::identity();
    rig.harness.push(packet(0, false)).unwrap();
    push_list(&rig.harness, [packet(1, false)]).unwrap();
    flush(&mut rig.harness);
    rig.harness.push(packet(2, false)).unwrap();
    rig.harness.push(packet(3, true)).unwrap();
    assert_eq!(rig.lists(), [2]);
    assert_eq!(rig.sent(), [2, 3]);
}

#[test]
fn a_change_of_caps_and_the_end_come_after_the_pictures_before_them_and_nothing_after_the_end() {
    let mut rig = Rig::identity();
    while rig.harness.try_pull_event().is_some() {}
    rig.harness.push(packet(0, false)).unwrap();
    rig.harness.push(packet(1, true)).unwrap();
    let caps = "video/x-h264,stream-format=byte-stream,alignment=au,width=1920".parse().unwrap();
    assert!(rig.harness.push_event(gst::event::Caps::new(&caps)));
    assert_eq!(rig.harness.buffers_received(), 2, "the picture went before its successor's caps");
    rig.harness.push(packet(2, true)).unwrap();
    assert!(rig.harness.push_event(gst::event::Eos::new()));
    for marker in [false, true] {
        assert_eq!(rig.harness.push(packet(3, marker)), Err(gst::FlowError::Eos));
    }
    assert_eq!(rig.sent(), [0, 1, 2]);
    let events = std::iter::from_fn(|| rig.harness.try_pull_event()).map(|event| event.type_());
    assert_eq!(events.collect::<Vec<_>>(), [gst::EventType::Caps, gst::EventType::Eos]);
}

#[test]
fn the_payloader_hears_what_those_behind_say_and_the_next_picture_is_gathered_all_the_same() {
    gst::init().unwrap();
    let element = gst::ElementFactory::make("identity").property("eos-after", 3i32);
    let mut rig = Rig::before(&element.build().unwrap());
    rig.harness.push(packet(0, false)).unwrap();
    rig.harness.push(packet(1, true)).unwrap();
    rig.harness.push(packet(2, false)).unwrap();
    assert_eq!(rig.harness.push(packet(3, true)), Err(gst::FlowError::Eos));
    // This element has its end once only.
    rig.harness.push(packet(4, false)).unwrap();
    push_list(&rig.harness, [packet(5, true)]).unwrap();
    assert_eq!(rig.lists(), [2, 2, 2]);
}
