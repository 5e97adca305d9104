//! What an H.264 access unit is made of (ITU-T H.264, 7.3.1 and Annex B).

const SLICE: u8 = 1;
const IDR_SLICE: u8 = 5;
const SPS: u8 = 7;
const PPS: u8 = 8;
const DELIMITER: u8 = 9;
/// Types above are not specified; they do not come from an encoder.
const TYPE_MAX: u8 = 23;

/// What the tap must know of an access unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessUnit<'a> {
    /// It is an instantaneous decoder refresh: a decoder can start here.
    pub idr: bool,
    /// Its sequence parameter set, without start code.
    pub sps: Option<&'a [u8]>,
    /// Its picture parameter set, without start code.
    pub pps: Option<&'a [u8]>,
}

/// Looks into one access unit in byte-stream format. `None` where it is none: it does not begin
/// with a start code, a NAL unit is malformed, or no slice of a picture is in it.
pub fn inspect(bytes: &[u8]) -> Option<AccessUnit<'_>> {
    if !bytes.starts_with(&[0, 0, 1]) && !bytes.starts_with(&[0, 0, 0, 1]) {
        return None;
    }
    let mut unit = AccessUnit::default();
    let mut slices = 0;
    for nal in units(bytes) {
        let header = *nal.first()?;
        let kind = header & 0x1f;
        let forbidden = header & 0x80 != 0;
        if forbidden || kind == 0 || kind > TYPE_MAX {
            return None;
        }
        match kind {
            SLICE | IDR_SLICE if nal.len() < 3 => return None,
            SLICE => slices += 1,
            IDR_SLICE => {
                slices += 1;
                unit.idr = true;
            }
            // Three bytes of profile and level follow the header.
            SPS if nal.len() < 4 => return None,
            SPS => unit.sps = Some(nal),
            PPS => unit.pps = Some(nal),
            _ => {}
        }
    }
    (slices > 0).then_some(unit)
}

/// The NAL units in a byte stream, without start codes and the zeros around them.
pub fn units(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = after_start_code(bytes);
    std::iter::from_fn(move || {
        let current = rest?;
        let end = start_code(current).unwrap_or(current.len());
        rest = after_start_code(&current[end..]);
        let unit = &current[..end];
        let length = unit.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        Some(&unit[..length])
    })
}

/// The access unit without the delimiter that may stand in front of it: RTP tells where a picture
/// begins, and the delimiter would be a packet of its own before every picture too large to share
/// one with it.
pub fn without_delimiter(access_unit: &[u8]) -> &[u8] {
    let body = || {
        let rest = after_start_code(access_unit)?;
        let is_delimiter = rest.first().is_some_and(|header| header & 0x1f == DELIMITER);
        let next = start_code(rest).filter(|_| is_delimiter)?;
        // The zero in front belongs to a start code of four bytes.
        let zero = next.checked_sub(1).filter(|&at| rest.get(at) == Some(&0));
        rest.get(zero.unwrap_or(next)..)
    };
    body().unwrap_or(access_unit)
}

fn after_start_code(bytes: &[u8]) -> Option<&[u8]> {
    start_code(bytes).and_then(|at| bytes.get(at + 3..))
}

/// Where the next `00 00 01` begins. Steps by three where the third byte rules a start out: this
/// reads every published byte.
fn start_code(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(window) = bytes.get(at..at + 3) {
        match window {
            [0, 0, 1] => return Some(at),
            [_, _, third] if *third > 1 => at += 3,
            _ => at += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPS_UNIT: &[u8] = &[0x67, 0x42, 0xc0, 0x1f, 0x8c];
    const PPS_UNIT: &[u8] = &[0x68, 0xce, 0x3c, 0x80];

    fn stream(units: &[&[u8]]) -> Vec<u8> {
        units.iter().flat_map(|unit| [&[0, 0, 0, 1], *unit].concat()).collect()
    }

    #[test]
    fn an_idr_brings_its_parameter_sets() {
        let bytes = stream(&[SPS_UNIT, PPS_UNIT, &[0x65, 0x88, 0x84, 1]]);
        let unit = inspect(&bytes).unwrap();
        assert!(unit.idr);
        // Zeros at the end are trailing zeros of the byte stream, not of the unit.
        assert_eq!((unit.sps, unit.pps), (Some(SPS_UNIT), Some(PPS_UNIT)));
    }

    #[test]
    fn a_delimiter_is_taken_off_and_nothing_else() {
        let picture = stream(&[SPS_UNIT, PPS_UNIT, &[0x65, 0x88, 0x84, 1]]);
        let delimited = [&[0, 0, 0, 1, 9, 0xf0], picture.as_slice()].concat();
        assert_eq!(without_delimiter(&delimited), picture);
        assert_eq!(without_delimiter(&picture), picture);
        assert_eq!(without_delimiter(&[0, 0, 1, 9, 0xf0, 0, 0, 1, 0x41]), [0, 0, 1, 0x41]);
        for alone in [&[0, 0, 1, 9, 0xf0][..], &[0, 0, 1], &[]] {
            assert_eq!(without_delimiter(alone), alone);
        }
    }

    #[test]
    fn a_delta_picture_in_several_slices_is_one_unit() {
        let bytes = stream(&[&[0x41, 0x9a, 1], &[0x41, 0x9b, 2]]);
        assert_eq!(inspect(&bytes), Some(AccessUnit::default()));
    }

    #[test]
    fn what_has_no_picture_in_it_is_none() {
        assert_eq!(inspect(&[]), None);
        assert_eq!(inspect(&stream(&[SPS_UNIT, PPS_UNIT])), None);
        assert_eq!(inspect(&stream(&[&[0xe5, 0x88, 0x84]])), None, "forbidden bit");
        assert_eq!(inspect(&stream(&[&[0x7f, 0x88, 0x84]])), None, "no such type");
        assert_eq!(inspect(&[0x65, 0x88, 0x84, 1, 2, 3]), None, "no start code");
        assert_eq!(inspect(&stream(&[&[0x65]])), None, "a header alone");
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_at_without_panic(bytes in prop::collection::vec(0u8..4, 0..200)) {
            let _ = inspect(&bytes);
        }

        #[test]
        fn units_come_apart_where_they_were_put_together(
            payloads in prop::collection::vec(prop::collection::vec(2u8.., 3..40), 1..6),
        ) {
            let with_header: Vec<Vec<u8>> =
                payloads.iter().map(|payload| [&[0x41][..], payload].concat()).collect();
            let slices: Vec<&[u8]> = with_header.iter().map(Vec::as_slice).collect();
            let bytes = stream(&slices);
            prop_assert_eq!(units(&bytes).collect::<Vec<_>>(), slices);
        }
    }
}
