//! Which of the H.264 variants that an offer lists suits the stream (RFC 6184). Sans-IO.
//!
//! Profiles are compared, levels are not: Safari offers level 5.2 and Chromium 3.1 for decoders
//! that take either (str0m#1015), and with `level-asymmetry-allowed` each side has its own.

use super::sdp::{Section, number};

/// The variant that suits best.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The payload type.
    pub payload_type: u8,
    /// `profile-level-id` for the answer: the profile as offered, the level of the stream where
    /// that is allowed.
    pub profile_level_id: String,
    /// Whether each side may have a level of its own.
    pub level_asymmetry: bool,
}

/// What a decoder of a profile can decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Profile {
    ConstrainedBaseline,
    Baseline,
    Main,
    High,
}

/// What RFC 6184 assumes where an offer does not say: Baseline, level 1.
const DEFAULT_PROFILE_LEVEL_ID: &str = "420010";

impl Profile {
    /// RFC 6184 table 5, as far as browsers and encoders use it.
    fn of(profile_level_id: &str) -> Option<Self> {
        if profile_level_id.len() != 6
            || !profile_level_id.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            return None;
        }
        let value = u32::from_str_radix(profile_level_id, 16).ok()?;
        let (idc, flags) = (value >> 16, value >> 8 & 0xff);
        match idc {
            0x42 if flags & 0x40 != 0 => Some(Self::ConstrainedBaseline),
            0x4d if flags & 0x80 != 0 => Some(Self::ConstrainedBaseline),
            0x42 => Some(Self::Baseline),
            0x4d => Some(Self::Main),
            0x64 => Some(Self::High),
            _ => None,
        }
    }

    /// How well a decoder of this profile suits a stream; the lower the better.
    fn distance(self, stream: Self) -> u32 {
        match (self, stream) {
            (decoder, stream) if decoder == stream => 0,
            // Encoders say Baseline and use none of what Constrained Baseline leaves out.
            (Self::ConstrainedBaseline, Self::Baseline) => 1,
            (decoder, stream) if decoder > stream => 1 + decoder as u32 - stream as u32,
            // Beyond what the decoder claims. Every browser's decoder takes High whatever it
            // offers, so a picture that may fail is worth more than a refusal.
            _ => 100,
        }
    }
}

/// The payload type in `text`, if it is one that may be negotiated.
pub fn payload_type(text: &str) -> Option<u8> {
    number(text).filter(|pt| (35..=63).contains(pt) || (96..=127).contains(pt))
}

/// Names and values of the format parameters of a payload type.
pub fn parameters<'a>(
    section: &Section<'a>,
    payload_type: u8,
) -> Option<impl Iterator<Item = (&'a str, &'a str)>> {
    let line = section.attributes.all("fmtp").find_map(|line| {
        let (pt, parameters) = line.split_once(' ')?;
        (pt.parse() == Ok(payload_type)).then_some(parameters)
    })?;
    Some(line.split(';').map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.trim(), value.trim())
    }))
}

/// The variant with packetization mode 1 (frames are larger than packets) that suits a stream of
/// this `profile-level-id` best; the first of equals, as the offer lists them by preference.
pub fn choose(section: &Section<'_>, stream: Option<&str>) -> Option<Choice> {
    let stream_profile = stream.and_then(Profile::of).unwrap_or(Profile::ConstrainedBaseline);
    let variants = section.formats.iter().filter_map(|format| {
        let choice = variant(section, payload_type(format)?, stream)?;
        let distance = Profile::of(&choice.profile_level_id)?.distance(stream_profile);
        Some((distance, choice))
    });
    variants.min_by_key(|(distance, _)| *distance).map(|(_, choice)| choice)
}

fn variant(section: &Section<'_>, payload_type: u8, stream: Option<&str>) -> Option<Choice> {
    let is_h264 = section.attributes.all("rtpmap").any(|line| {
        let (pt, codec) = line.split_once(' ').unwrap_or_default();
        pt.parse() == Ok(payload_type) && codec.trim().eq_ignore_ascii_case("H264/90000")
    });
    let (mut mode, mut offered, mut level_asymmetry) = ("0", DEFAULT_PROFILE_LEVEL_ID, false);
    for (name, value) in parameters(section, payload_type)? {
        match name {
            "packetization-mode" => mode = value,
            "profile-level-id" => offered = value,
            "level-asymmetry-allowed" => level_asymmetry = value == "1",
            _ => {}
        }
    }
    Profile::of(offered).filter(|_| is_h264 && mode == "1")?;
    let level = stream.and_then(|stream| stream.get(4..6)).filter(|_| level_asymmetry);
    let profile_level_id = match (offered.get(..4), level) {
        (Some(profile), Some(level)) => format!("{profile}{level}"),
        _ => offered.to_owned(),
    };
    let profile_level_id = profile_level_id.to_ascii_lowercase();
    Some(Choice { payload_type, profile_level_id, level_asymmetry })
}
