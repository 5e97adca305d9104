//! The offer: read, checked and matched before any engine sees it.
//!
//! Sans-IO. An engine gets [`Offer::reduced`], a description of one video section written here,
//! never a stranger's text: malformed offers have crashed webrtcbin (Eyevinn/srt-whep#27).

use super::candidate::Candidate;
use super::h264::{self, Choice};
use super::sdp::{Description, Malformed, Section, is_token, number};
use crate::config::CANDIDATES_MAX;

/// URIs of the header extensions that are sent where they are offered.
const PLAYOUT_DELAY: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";
const ABS_CAPTURE_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";
const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
const TRANSPORT_CC: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// An offer that can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Every section, to be answered in order.
    pub sections: Vec<Echo>,
    /// Which of them is answered with video.
    pub video: usize,
    /// How the chosen section is called.
    pub mid: String,
    /// Whether the offer puts it into a bundle (RFC 9143), so that the answer may.
    pub bundled: bool,
    /// What H.264 was chosen.
    pub codec: Codec,
    /// Header extensions offered, of those that are sent.
    pub extensions: Extensions,
    /// Whether reduced-size RTCP may be used.
    pub rtcp_rsize: bool,
    /// How to reach the viewer, and how to know it.
    pub transport: Transport,
    /// The viewer's usable candidates in the offer.
    pub candidates: Vec<Candidate>,
}

/// What an answer must repeat of a section that it refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Echo {
    /// `video`, `audio`, `application`.
    pub media: String,
    /// The protocol.
    pub protocol: String,
    /// The formats, separated by spaces.
    pub formats: String,
    /// The name, where it has one.
    pub mid: Option<String>,
    /// What its first format is, where it is kept although nothing is sent in it: the video can
    /// only be had by its transport, and Chromium takes no answer then that refuses it.
    pub kept: Option<String>,
}

/// The chosen payload type and what goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codec {
    /// The payload type.
    pub payload_type: u8,
    /// `profile-level-id` for the answer.
    pub profile_level_id: String,
    /// Whether each side may have a level of its own.
    pub level_asymmetry: bool,
    /// The payload type of retransmissions (RFC 4588), where offered.
    pub rtx_payload_type: Option<u8>,
    /// Feedback offered, of what is understood: `nack`, `nack pli`, `ccm fir`, `transport-cc`.
    pub feedback: Vec<&'static str>,
}

/// Identifiers of header extensions, where offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// How long the receiver should hold frames back.
    pub playout_delay: Option<u8>,
    /// When a frame was captured.
    pub abs_capture_time: Option<u8>,
    /// A sequence number across all streams, for the receiver's feedback.
    pub transport_cc: Option<u8>,
    /// The name of the section a packet belongs to.
    pub mid: Option<u8>,
}

/// ICE and DTLS parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transport {
    /// ICE user name fragment.
    pub ufrag: String,
    /// ICE password.
    pub pwd: String,
    /// Hash function and digest of the certificate.
    pub fingerprint: String,
    /// `actpass`, `active` or `passive`.
    pub setup: String,
}

/// Why an offer cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OfferError {
    /// It is no session description.
    #[error("the offer is no session description (RFC 8866): {0}")]
    NotSdp(#[from] Malformed),
    /// It asks for no video.
    #[error("the offer asks for no video; add a recvonly video transceiver")]
    NoVideo,
    /// It asks for video, but not for H.264 that can be sent.
    #[error("the offer has no H.264 with packetization-mode=1 for video, and nothing else is sent")]
    NoH264,
    /// Something that WebRTC requires is missing or wrong.
    #[error("the offer's video section has no usable `{0}`")]
    Attribute(&'static str),
}

impl OfferError {
    /// Whether the offer reads well and merely has nothing in common with what is sent (HTTP 406
    /// rather than 422).
    pub const fn is_not_acceptable(&self) -> bool {
        matches!(self, Self::NoVideo | Self::NoH264)
    }
}

impl Offer {
    /// Reads an offer and chooses the H.264 that suits a stream with this `profile-level-id`
    /// (of its SPS, six hexadecimal digits; `None` where the stream is not known yet).
    ///
    /// # Errors
    /// Says what is missing or wrong.
    pub fn parse(text: &str, stream: Option<&str>) -> Result<Self, OfferError> {
        let description = Description::parse(text)?;
        let wanted = |section: &&Section<'_>| {
            section.media == "video"
                && section.protocol.contains("RTP/SAVP")
                && !section.attributes.has("sendonly")
                && !section.attributes.has("inactive")
                && (section.port != 0 || section.attributes.has("bundle-only"))
        };
        if !description.sections.iter().any(|section| wanted(&section)) {
            return Err(OfferError::NoVideo);
        }
        let chosen = description.sections.iter().enumerate().find_map(|(index, section)| {
            let choice = wanted(&section).then(|| h264::choose(section, stream)).flatten()?;
            Some((index, section, choice))
        });
        let (video, section, choice) = chosen.ok_or(OfferError::NoH264)?;
        if !section.attributes.has("rtcp-mux") {
            return Err(OfferError::Attribute("rtcp-mux"));
        }
        let mid = section.attributes.first("mid").filter(|mid| is_token(mid, 32));
        let mid = mid.filter(|mid| names(&description, mid) == 1);
        let mut sections: Vec<Echo> = description.sections.iter().map(Echo::of).collect();
        keep_tagged(&mut sections, &description, section, mid.unwrap_or_default());
        let mut candidates = candidates(section);
        if candidates.is_empty() {
            let all = description.sections.iter().zip(&sections);
            let shared = all.filter(|(_, echo)| echo.kept.is_some());
            candidates = shared.flat_map(|(section, _)| self::candidates(section)).collect();
        }
        Ok(Self {
            sections,
            video,
            mid: mid.ok_or(OfferError::Attribute("mid"))?.to_owned(),
            bundled: bundle(&description, mid.unwrap_or_default()).is_some(),
            codec: Codec::of(section, choice),
            extensions: Extensions::of(section).ok_or(OfferError::Attribute("extmap"))?,
            rtcp_rsize: section.attributes.has("rtcp-rsize"),
            transport: Transport::of(&description, section)?,
            candidates,
        })
    }

    /// The offer as an engine gets it: the one section that is answered with video, and in it
    /// nothing but what was understood. `transport-cc` is the only extension an engine knows of.
    pub fn reduced(&self) -> String {
        let Self { codec, transport, .. } = self;
        let (pt, id) = (codec.payload_type, &codec.profile_level_id);
        let rtx_format = codec.rtx_payload_type.map(|rtx| format!(" {rtx}")).unwrap_or_default();
        let mut lines = vec![
            "v=0".into(),
            "o=- 1 1 IN IP4 0.0.0.0".into(),
            "s=-".into(),
            "t=0 0".into(),
            "a=group:BUNDLE 0".into(),
            format!("m=video 9 UDP/TLS/RTP/SAVPF {pt}{rtx_format}"),
            "c=IN IP4 0.0.0.0".into(),
            "a=mid:0".into(),
            "a=recvonly".into(),
            "a=rtcp-mux".into(),
            format!("a=ice-ufrag:{}", transport.ufrag),
            format!("a=ice-pwd:{}", transport.pwd),
            format!("a=fingerprint:{}", transport.fingerprint),
            format!("a=setup:{}", transport.setup),
            format!("a=rtpmap:{pt} H264/90000"),
            format!("a=fmtp:{pt} packetization-mode=1;profile-level-id={id}"),
        ];
        lines.extend(codec.feedback.iter().map(|feedback| format!("a=rtcp-fb:{pt} {feedback}")));
        if let Some(rtx) = codec.rtx_payload_type {
            lines.push(format!("a=rtpmap:{rtx} rtx/90000"));
            lines.push(format!("a=fmtp:{rtx} apt={pt}"));
        }
        if let Some(id) = self.extensions.transport_cc {
            lines.push(format!("a=extmap:{id} {TRANSPORT_CC}"));
        }
        lines.join("\r\n") + "\r\n"
    }
}

impl Echo {
    fn of(section: &Section<'_>) -> Self {
        let mid = section.attributes.first("mid").filter(|mid| is_token(mid, 32));
        Self {
            media: section.media.to_owned(),
            protocol: section.protocol.to_owned(),
            formats: section.formats.join(" "),
            mid: mid.map(str::to_owned),
            kept: None,
        }
    }
}

/// Keeps the section that the bundle names first (RFC 9143: offerer-tagged), where the video, called
/// `mid`, has no transport but that one's, as by the policy `max-bundle`: it says so, or, as Chromium
/// does, gives both the same ICE user name.
fn keep_tagged(
    sections: &mut [Echo],
    description: &Description<'_>,
    video: &Section<'_>,
    mid: &str,
) {
    let tagged = bundle(description, mid).and_then(|mut names| names.next());
    let tagged = tagged.filter(|tagged| *tagged != mid && names(description, tagged) == 1);
    let is_shared = |section: &Section<'_>| {
        let [own, other] = [video, section].map(|one| one.attributes.first("ice-ufrag"));
        video.attributes.has("bundle-only") || own.is_some() && own == other
    };
    for (section, echo) in description.sections.iter().zip(sections) {
        if echo.mid.is_some() && echo.mid.as_deref() == tagged && is_shared(section) {
            echo.kept = format_to_keep(section);
        }
    }
}

/// The first format of a section that can be had, as `a=rtpmap` has it.
fn format_to_keep(section: &Section<'_>) -> Option<String> {
    let attributes = &section.attributes;
    let usable = section.port != 0 && section.protocol.contains("RTP/SAVP");
    let format = section.formats.first().and_then(|format| h264::payload_type(format));
    let format = format.filter(|_| usable && attributes.has("rtcp-mux"))?;
    attributes.all("rtpmap").find_map(|line| {
        let (pt, codec) = line.split_once(' ')?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._".contains(&byte);
        let is_codec = codec.len() <= 64 && codec.bytes().all(is_plain);
        (number(pt) == Some(format) && is_codec).then(|| format!("{format} {codec}"))
    })
}

impl Codec {
    fn of(section: &Section<'_>, choice: Choice) -> Self {
        let feedback = ["nack", "nack pli", "ccm fir", "transport-cc"].into_iter();
        let offered = |wanted: &&str| {
            section.attributes.all("rtcp-fb").any(|line| {
                let (pt, kind) = line.split_once(' ').unwrap_or_default();
                (pt == "*" || pt.parse() == Ok(choice.payload_type)) && kind.trim() == *wanted
            })
        };
        let rtx_payload_type = rtx(section, choice.payload_type);
        // Nothing is sent again but as RTX: what cannot be asked for is not promised.
        let served = |kind: &&str| *kind != "nack" || rtx_payload_type.is_some();
        Self {
            payload_type: choice.payload_type,
            profile_level_id: choice.profile_level_id,
            level_asymmetry: choice.level_asymmetry,
            rtx_payload_type,
            feedback: feedback.filter(offered).filter(served).collect(),
        }
    }
}

/// The payload type that retransmits `payload_type`.
fn rtx(section: &Section<'_>, payload_type: u8) -> Option<u8> {
    section.attributes.all("rtpmap").find_map(|line| {
        let (pt, codec) = line.split_once(' ')?;
        let is_rtx = codec.trim().eq_ignore_ascii_case("rtx/90000");
        let rtx = h264::payload_type(pt).filter(|rtx| is_rtx && *rtx != payload_type)?;
        let apt = h264::parameters(section, rtx)?.find(|(name, _)| *name == "apt")?.1;
        let is_listed = section.formats.iter().any(|format| number(format) == Some(rtx));
        (is_listed && number(apt) == Some(payload_type)).then_some(rtx)
    })
}

impl Extensions {
    /// `None` where one identifier stands for two of them.
    fn of(section: &Section<'_>) -> Option<Self> {
        // Identifiers 1 to 14 fit the one-byte form (RFC 8285); it is all that is written here.
        let id = |uri: &str| {
            section.attributes.all("extmap").find_map(|line| {
                let mut words = line.split_ascii_whitespace();
                let (id, offered) = (words.next()?, words.next()?);
                let id = number(id.split_once('/').map_or(id, |(id, _)| id))?;
                (offered == uri && (1..=14).contains(&id)).then_some(id)
            })
        };
        let extensions = Self {
            playout_delay: id(PLAYOUT_DELAY),
            abs_capture_time: id(ABS_CAPTURE_TIME),
            transport_cc: id(TRANSPORT_CC),
            mid: id(MID),
        };
        let mut ids: Vec<u8> = extensions.list().map(|(id, _)| id).collect();
        ids.sort_unstable();
        ids.is_sorted_by(|one, other| one < other).then_some(extensions)
    }

    /// Identifier and URI of each.
    pub fn list(&self) -> impl Iterator<Item = (u8, &'static str)> {
        [
            (self.playout_delay, PLAYOUT_DELAY),
            (self.abs_capture_time, ABS_CAPTURE_TIME),
            (self.transport_cc, TRANSPORT_CC),
            (self.mid, MID),
        ]
        .into_iter()
        .filter_map(|(id, uri)| Some((id?, uri)))
    }
}

impl Transport {
    fn of(description: &Description<'_>, section: &Section<'_>) -> Result<Self, OfferError> {
        let get = |name: &'static str, valid: fn(&str) -> bool| {
            let value = section.attributes.first(name);
            let value = value.or_else(|| description.attributes.first(name));
            let value = value.filter(|value| valid(value));
            value.map(str::to_owned).ok_or(OfferError::Attribute(name))
        };
        Ok(Self {
            ufrag: get("ice-ufrag", |value| value.len() >= 4 && is_ice(value))?,
            pwd: get("ice-pwd", |value| value.len() >= 22 && is_ice(value))?,
            fingerprint: fingerprint(description, section)?,
            setup: get("setup", |value| matches!(value, "actpass" | "active" | "passive"))?,
        })
    }
}

/// How many sections are called `mid`.
fn names(description: &Description<'_>, mid: &str) -> usize {
    let mids = description.sections.iter().filter_map(|section| section.attributes.first("mid"));
    mids.filter(|other| *other == mid).count()
}

/// The names of the bundle that the section called `mid` is part of, where one is offered.
fn bundle<'a>(
    description: &Description<'a>,
    mid: &str,
) -> Option<impl Iterator<Item = &'a str> + use<'a>> {
    description.attributes.all("group").find_map(|group| {
        let mut words = group.split_ascii_whitespace();
        let is_bundle = words.next() == Some("BUNDLE");
        (is_bundle && words.clone().any(|word| word == mid)).then_some(words)
    })
}

fn candidates(section: &Section<'_>) -> Vec<Candidate> {
    let lines = section.attributes.all("candidate").take(CANDIDATES_MAX);
    lines.filter_map(|line| Candidate::parse(&format!("candidate:{line}")).ok()).collect()
}

/// RFC 8839 section 5.4.
fn is_ice(value: &str) -> bool {
    value.len() <= 256
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte))
}

/// The viewer's SHA-256 fingerprint, which every browser gives, maybe among others (RFC 8122
/// section 5). The hash is written in lower case, whatever the viewer's spelling.
fn fingerprint(description: &Description<'_>, section: &Section<'_>) -> Result<String, OfferError> {
    let own = section.attributes.all("fingerprint");
    let mut all = own.chain(description.attributes.all("fingerprint"));
    let digest = all.find_map(|value| {
        let (hash, digest) = value.split_once(' ')?;
        (hash.eq_ignore_ascii_case("sha-256") && is_sha256(digest)).then_some(digest)
    });
    let digest = digest.ok_or(OfferError::Attribute("fingerprint:sha-256"))?;
    Ok(format!("sha-256 {digest}"))
}

fn is_sha256(digest: &str) -> bool {
    let octet = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digest.split(':').count() == 32 && digest.split(':').all(octet)
}

#[cfg(test)]
mod tests;
