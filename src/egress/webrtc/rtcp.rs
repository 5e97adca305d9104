//! What a receiver reports of itself (RFC 3550 section 6, RFC 4585, RFC 5104), read from the
//! packets themselves: a few comparisons a second, where webrtcbin's `get-stats` builds a tree of
//! GObjects on the thread that also negotiates. Sans-IO.

use std::time::Duration;

/// What one compound packet said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Packets lost since the beginning, of the stream asked for.
    pub packets_lost: Option<u32>,
    /// Round-trip time.
    pub round_trip: Option<Duration>,
    /// Requests for a key frame: PLI and FIR.
    pub key_frame_requests: u32,
    /// Packets asked for again: NACK (RFC 4585 section 6.2.1).
    pub packets_wanted: u32,
    /// The receiver says goodbye.
    pub bye: bool,
}

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const GOODBYE: u8 = 203;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;
const FEEDBACK_NACK: u8 = 1;
const FEEDBACK_PLI: u8 = 1;
const FEEDBACK_FIR: u8 = 4;

/// Size of a report block in bytes.
const BLOCK_BYTES: usize = 24;

/// Reads a compound packet about the stream `ssrc`. `now` is the time since the Unix epoch by the
/// clock of our sender reports. What is malformed ends the reading; what came before it counts.
pub fn read(packet: &[u8], ssrc: u32, now: Duration) -> Report {
    let mut report = Report::default();
    let mut rest = packet;
    while let [first, kind, high, low, ..] = *rest {
        let length = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
        let (true, Some(one)) = (first >> 6 == 2, rest.get(..length)) else { break };
        match (kind, first & 0x1f) {
            (RECEIVER_REPORT, _) => report.blocks(one.get(8..), ssrc, now),
            (SENDER_REPORT, _) => report.blocks(one.get(28..), ssrc, now),
            (TRANSPORT_FEEDBACK, FEEDBACK_NACK) => report.packets_wanted += wanted(one.get(12..)),
            (PAYLOAD_FEEDBACK, FEEDBACK_PLI | FEEDBACK_FIR) => report.key_frame_requests += 1,
            (GOODBYE, _) => report.bye = true,
            _ => {}
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    report
}

/// How many packets a NACK names: in each word one, and sixteen that follow it as bits.
fn wanted(words: Option<&[u8]>) -> u32 {
    let words = words.unwrap_or_default().chunks_exact(4);
    words.map(|bytes| 1 + (word(bytes, 0) & 0xffff).count_ones()).sum()
}

impl Report {
    fn blocks(&mut self, blocks: Option<&[u8]>, ssrc: u32, now: Duration) {
        for block in blocks.unwrap_or_default().chunks_exact(BLOCK_BYTES) {
            if word(block, 0) != ssrc {
                continue;
            }
            // Cumulative loss is signed, 24 bits: duplicates make it negative.
            let lost = (word(block, 4) << 8).cast_signed() >> 8;
            self.packets_lost = Some(u32::try_from(lost).unwrap_or(0));
            self.round_trip = round_trip(word(block, 16), word(block, 20), now);
        }
    }
}

/// RFC 3550 section 6.4.1: arrival - last SR - delay since last SR, in 1/65536 s; none where no
/// sender report was seen yet, or where clocks make nonsense of it.
fn round_trip(last_report: u32, delay: u32, now: Duration) -> Option<Duration> {
    if last_report == 0 {
        return None;
    }
    // The epoch of NTP is not ours, but the difference is whole seconds: 2_208_988_800.
    let seconds = (now.as_secs() + 2_208_988_800) & 0xffff;
    let fraction = u64::from(now.subsec_nanos()) * 65_536 / 1_000_000_000;
    let arrival = u32::try_from(seconds << 16 | fraction).ok()?;
    let units = arrival.wrapping_sub(last_report).wrapping_sub(delay).cast_signed();
    let units = u64::try_from(units).ok()?;
    Some(Duration::from_nanos(units * 1_000_000_000 / 65_536))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    match bytes.get(at..at + 4) {
        Some(&[a, b, c, d]) => u32::from_be_bytes([a, b, c, d]),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Duration = Duration::new(1_700_000_000, 500_000_000);

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    /// What the middle of the NTP time was `ago` before [`NOW`].
    fn middle(ago: Duration) -> u32 {
        let then = NOW - ago;
        let seconds = (then.as_secs() + 2_208_988_800) & 0xffff;
        (seconds << 16) as u32 | (u64::from(then.subsec_nanos()) * 65_536 / 1_000_000_000) as u32
    }

    #[test]
    fn a_receiver_report_tells_loss_and_round_trip() {
        let packet = words(&[
            0x81c9_0007,
            1,
            7,
            0x0300_0005,
            100,
            3,
            middle(Duration::from_millis(300)),
            65_536 / 4,
        ]);
        let report = read(&packet, 7, NOW);
        assert_eq!(report.packets_lost, Some(5));
        let round_trip = report.round_trip.unwrap();
        assert!(round_trip.abs_diff(Duration::from_millis(50)) < Duration::from_millis(1));
        assert_eq!(read(&packet, 8, NOW), Report::default());
    }

    #[test]
    fn duplicates_do_not_make_loss_huge_and_an_early_report_has_no_round_trip() {
        let packet = words(&[0x81c9_0007, 1, 7, 0x00ff_ffff, 100, 3, 0, 0]);
        let report = read(&packet, 7, NOW);
        assert_eq!((report.packets_lost, report.round_trip), (Some(0), None));
    }

    #[test]
    fn key_frame_requests_and_a_goodbye_are_seen_in_a_compound_packet() {
        let packet = words(&[
            0x80c9_0001,
            1, // empty receiver report
            0x81ce_0002,
            1,
            7, // PLI
            0x84ce_0004,
            1,
            0,
            7,
            0x0100_0000, // FIR
            0x81cb_0001,
            1, // BYE
        ]);
        let report = read(&packet, 7, NOW);
        assert_eq!((report.key_frame_requests, report.bye), (2, true));
    }

    #[test]
    fn a_nack_names_packets_by_number_and_as_bits() {
        let packet = words(&[0x81cd_0004, 1, 7, 0x0005_0000, 0x0010_8001]);
        assert_eq!(read(&packet, 7, NOW).packets_wanted, 1 + 3);
        let other = words(&[0x8fcd_0004, 1, 7, 0x0005_0000, 0x0010_8001]);
        assert_eq!(read(&other, 7, NOW).packets_wanted, 0, "feedback on congestion");
    }

    proptest! {
        #[test]
        fn no_packet_upsets_the_reader(packet in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&packet, 7, NOW);
        }
    }
}
