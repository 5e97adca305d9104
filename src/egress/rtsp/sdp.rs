//! The description a viewer gets: the same each time it asks, as long as the camera's format is.

use std::net::IpAddr;

use crate::catalog::{Format, Rendition};

/// Attributes that change from one description to the next and say nothing that a viewer needs:
/// the SSRC and CNAME (in the SETUP answer and in RTCP), and gst-rtsp-server's idea of its clock.
const PASSING: [&str; 3] = ["ssrc", "ts-refclk", "mediaclk"];

/// Makes `sdp`, as gst-rtsp-server wrote it, a stable and complete description of `rendition`.
///
/// gst-rtsp-server 1.22 draws the session's number at random for every DESCRIBE; recorders and
/// go2rtc compare descriptions across reconnects. `local` is the address that the viewer reached,
/// where gst-rtsp-server knows another.
pub(super) fn dress(
    sdp: &mut gst_sdp::SDPMessageRef,
    rendition: &Rendition,
    local: Option<IpAddr>,
) {
    let Some(format) = rendition.format() else { return };
    let written = sdp.origin().map(|origin| {
        let [kind, address] = [origin.addrtype(), origin.addr()].map(|part| part.map(String::from));
        (kind.unwrap_or_else(|| "IP4".into()), address.unwrap_or_else(|| "0.0.0.0".into()))
    });
    let reached = local.map(|address| {
        (if address.is_ipv6() { "IP6" } else { "IP4" }.to_owned(), address.to_string())
    });
    let origin = reached.or(written);
    if let Some((kind, address)) = origin {
        sdp.set_origin("-", &number(rendition, &format).to_string(), "1", "IN", &kind, &address);
    }
    sdp.set_session_name(&format!("{}/{}", rendition.camera, rendition.name));
    sdp.set_information("Lensline");
    let Some(media) = sdp.media_mut(0) else { return };
    complete_format(media, &format);
    for name in PASSING {
        while let Some(index) = find(media, name) {
            // The index was found a moment ago.
            let _ = media.remove_attribute(index);
        }
    }
    let (numerator, denominator) = format.framerate;
    if numerator > 0 && denominator > 0 {
        let framerate = f64::from(numerator) / f64::from(denominator);
        media.add_attribute("framerate", Some(&format!("{framerate}")));
    }
    // 3GPP TS 26.234, 5.3.3.2; the payload type is the media's one format.
    if let Some(payload_type) = media.format(0).map(String::from) {
        let size = format!("{payload_type} {}-{}", format.width, format.height);
        media.add_attribute("framesize", Some(&size));
    }
}

/// The 1.22 payloader gives the parameter sets and leaves out the profile, which some clients want
/// to know before they look into them.
fn complete_format(media: &mut gst_sdp::SDPMediaRef, format: &Format) {
    let Some(index) = find(media, "fmtp") else { return };
    let value = media.attribute(index).and_then(|fmtp| fmtp.value()).map(String::from);
    let (Some(value), Some(profile)) = (value, format.profile_level_id()) else { return };
    if !value.contains("profile-level-id") {
        let value = format!("{value};profile-level-id={profile}");
        let attribute = gst_sdp::SDPAttribute::new("fmtp", Some(&value));
        // The index was found a moment ago.
        let _ = media.replace_attribute(index, attribute);
    }
}

fn find(media: &gst_sdp::SDPMediaRef, name: &str) -> Option<u32> {
    (0..media.attributes_len())
        .find(|index| media.attribute(*index).is_some_and(|attribute| attribute.key() == name))
}

/// A number that changes with what is described and with nothing else: 64-bit FNV-1a, one bit
/// short, because some clients read it as signed.
fn number(rendition: &Rendition, format: &Format) -> u64 {
    let bytes = [rendition.camera.as_bytes(), rendition.name.as_bytes(), &format.sps, &format.pps];
    bytes
        .into_iter()
        .flat_map(|part| part.iter().chain(&[0]))
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
        >> 1
}
