//! A picture as RTP payloads (RFC 6184), made once for everybody who sends it as such.
//!
//! Packetization-mode 1: NAL units that fit travel together (STAP-A), larger ones in pieces
//! (FU-A). What differs from viewer to viewer, header and encryption, is put around these bytes
//! by whoever sends them; the bytes themselves are shared.

use std::sync::{Arc, OnceLock};

use crate::nal;

/// Bytes of a payload at most. Leaves room for the RTP header (12), header extensions (up to 44),
/// the number of a retransmission (2) and SRTP's tag (16) in the 1228 bytes that a UDP packet over
/// IPv6 may have on a path of 1280 (RFC 8200 section 5).
pub const PAYLOAD_BYTES_MAX: usize = 1150;

const STAP_A: u8 = 24;
const FU_A: u8 = 28;
const FU_START: u8 = 0x80;
const FU_END: u8 = 0x40;
/// Forbidden bit and importance, the upper bits of a NAL unit's header.
const IMPORTANCE: u8 = 0xe0;
const KIND: u8 = 0x1f;

/// Say where a picture begins, which RTP's marker and time stamp do: not sent.
const ACCESS_UNIT_DELIMITER: u8 = 9;
/// Carries nothing.
const FILLER: u8 = 12;

/// The payloads of one picture; made by the first who asks, kept for the others.
#[derive(Clone, Debug, Default)]
pub struct Packets(Arc<OnceLock<Vec<Arc<[u8]>>>>);

impl Packets {
    /// The payloads of the access unit that `bytes` reads, in order.
    pub fn get_or_make<B: AsRef<[u8]>>(&self, bytes: impl FnOnce() -> Option<B>) -> &[Arc<[u8]>] {
        self.0.get_or_init(|| bytes().map(|bytes| payloads(bytes.as_ref())).unwrap_or_default())
    }
}

/// Cuts an access unit in byte-stream format into payloads.
fn payloads(access_unit: &[u8]) -> Vec<Arc<[u8]>> {
    let mut done = Vec::with_capacity(access_unit.len() / PAYLOAD_BYTES_MAX + 2);
    let mut together: Vec<&[u8]> = Vec::new();
    let mut together_bytes = 1;
    for unit in nal::units(access_unit) {
        let Some(&header) = unit.first() else { continue };
        if matches!(header & KIND, ACCESS_UNIT_DELIMITER | FILLER) {
            continue;
        }
        if together_bytes + 2 + unit.len() > PAYLOAD_BYTES_MAX {
            done.extend(aggregate(&together));
            together.clear();
            together_bytes = 1;
        }
        if unit.len() > PAYLOAD_BYTES_MAX {
            fragment(header, unit.get(1..).unwrap_or_default(), &mut done);
        } else {
            together_bytes += 2 + unit.len();
            together.push(unit);
        }
    }
    done.extend(aggregate(&together));
    done
}

/// Section 5.7.1; a unit on its own travels as it is (5.6).
fn aggregate(units: &[&[u8]]) -> Option<Arc<[u8]>> {
    if let [] | [_] = units {
        return units.first().map(|unit| (*unit).into());
    }
    let importance = units.iter().filter_map(|unit| unit.first()).map(|byte| byte & 0x60).max();
    let mut payload = vec![importance.unwrap_or(0) | STAP_A];
    for unit in units {
        let size = u16::try_from(unit.len()).ok()?;
        payload.extend(size.to_be_bytes());
        payload.extend_from_slice(unit);
    }
    Some(payload.into())
}

/// Section 5.8.
fn fragment(header: u8, body: &[u8], done: &mut Vec<Arc<[u8]>>) {
    let pieces = body.chunks(PAYLOAD_BYTES_MAX - 2);
    let last = pieces.len().saturating_sub(1);
    for (index, piece) in pieces.enumerate() {
        let start = if index == 0 { FU_START } else { 0 };
        let end = if index == last { FU_END } else { 0 };
        let head = [header & IMPORTANCE | FU_A, start | end | header & KIND];
        done.push([&head, piece].concat().into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream(units: &[Vec<u8>]) -> Vec<u8> {
        units.iter().flat_map(|unit| [&[0, 0, 0, 1], unit.as_slice()].concat()).collect()
    }

    /// A NAL unit that ends in no zero and holds no start code.
    fn unit(kind: u8, length: usize) -> Vec<u8> {
        let mut unit = vec![0x60 | kind];
        unit.extend((1..length).map(|index| u8::try_from(index % 200).unwrap() + 1));
        unit
    }

    /// What a receiver makes of payloads (RFC 6184 section 7).
    fn received(payloads: &[Arc<[u8]>]) -> Vec<Vec<u8>> {
        let mut units: Vec<Vec<u8>> = Vec::new();
        for payload in payloads {
            match payload[0] & KIND {
                STAP_A => {
                    let mut rest = &payload[1..];
                    while let [high, low, after @ ..] = rest {
                        let (unit, next) =
                            after.split_at(usize::from(u16::from_be_bytes([*high, *low])));
                        units.push(unit.to_vec());
                        rest = next;
                    }
                }
                FU_A => {
                    if payload[1] & FU_START != 0 {
                        units.push(vec![payload[0] & IMPORTANCE | payload[1] & KIND]);
                    }
                    units.last_mut().unwrap().extend_from_slice(&payload[2..]);
                }
                _ => units.push(payload.to_vec()),
            }
        }
        units
    }

    #[test]
    fn parameter_sets_travel_together_and_a_large_slice_in_pieces() {
        let units = [unit(9, 2), unit(7, 20), unit(8, 5), unit(5, 5_000)];
        let payloads = payloads(&stream(&units));
        let kinds: Vec<u8> = payloads.iter().map(|payload| payload[0] & KIND).collect();
        assert_eq!(kinds, [STAP_A, FU_A, FU_A, FU_A, FU_A, FU_A]);
        assert_eq!(received(&payloads), units[1..]);
        let marks: Vec<u8> =
            payloads[1..].iter().map(|payload| payload[1] & (FU_START | FU_END)).collect();
        assert_eq!(marks, [FU_START, 0, 0, 0, FU_END]);
        // All but the last as long as may be, so that they can leave in one system call.
        assert!(payloads[1..5].iter().all(|payload| payload.len() == PAYLOAD_BYTES_MAX));
    }

    #[test]
    fn they_are_made_once_for_all() {
        let packets = Packets::default();
        let other = packets.clone();
        let bytes = stream(&[unit(1, 30)]);
        assert_eq!(packets.get_or_make(|| Some(&bytes)).len(), 1);
        let again = other.get_or_make(|| -> Option<Vec<u8>> { panic!("made twice") });
        assert_eq!(again.len(), 1);
    }

    #[test]
    fn what_cannot_be_read_is_no_packet() {
        assert!(Packets::default().get_or_make(|| None::<Vec<u8>>).is_empty());
        assert!(payloads(b"").is_empty());
    }

    proptest! {
        #[test]
        fn a_receiver_gets_every_unit_back_and_no_payload_is_too_long(
            sizes in prop::collection::vec((1u8..=8, 2usize..4_000), 1..6)
        ) {
            let units: Vec<_> = sizes.iter().map(|&(kind, length)| unit(kind, length)).collect();
            let payloads = payloads(&stream(&units));
            prop_assert!(payloads.iter().all(|payload| payload.len() <= PAYLOAD_BYTES_MAX));
            prop_assert_eq!(received(&payloads), units);
        }
    }
}
