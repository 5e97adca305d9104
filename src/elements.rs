//! Which GStreamer elements are here, and which of them encodes.

use crate::config::EncoderKind;
use crate::error::Error;

/// Whether GStreamer has `element`.
pub fn available(element: &str) -> bool {
    gst::ElementFactory::find(element).is_some()
}

/// Sees to it that GStreamer has `element`.
///
/// # Errors
/// Where it has not; the error names the Debian package to install.
pub fn require(element: &str) -> Result<(), Error> {
    if available(element) {
        return Ok(());
    }
    Err(Error::MissingElement { element: element.into(), package: package(element) })
}

/// The encoder element for `kind`, of those that `available` knows.
///
/// # Errors
/// Where the one asked for, or for `auto` every one, is missing.
pub fn choose_encoder(
    kind: EncoderKind,
    available: impl Fn(&str) -> bool,
) -> Result<&'static str, Error> {
    let candidates: &[&'static str] = match kind {
        EncoderKind::Auto => &["v4l2h264enc", "x264enc", "openh264enc"],
        EncoderKind::V4l2 => &["v4l2h264enc"],
        EncoderKind::X264 => &["x264enc"],
        EncoderKind::Openh264 => &["openh264enc"],
    };
    let wanted = if kind == EncoderKind::Auto { "x264enc" } else { candidates[0] };
    candidates
        .iter()
        .find(|element| available(element))
        .copied()
        .ok_or_else(|| Error::MissingElement { element: wanted.into(), package: package(wanted) })
}

fn package(element: &str) -> &'static str {
    match element {
        "x264enc" => "gstreamer1.0-plugins-ugly",
        "openh264enc" | "h264parse" => "gstreamer1.0-plugins-bad",
        "libcamerasrc" => "gstreamer1.0-libcamera",
        "v4l2src" | "v4l2h264enc" | "jpegdec" | "rtspsrc" | "rtph264depay" | "videocrop"
        | "videoflip" => "gstreamer1.0-plugins-good",
        _ => "gstreamer1.0-plugins-base",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hardware_encoder_comes_first_and_a_named_one_is_not_replaced() {
        let all = |_: &str| true;
        assert_eq!(choose_encoder(EncoderKind::Auto, all).unwrap(), "v4l2h264enc");
        let only_openh264 = |name: &str| name == "openh264enc";
        assert_eq!(choose_encoder(EncoderKind::Auto, only_openh264).unwrap(), "openh264enc");
        let missing = choose_encoder(EncoderKind::X264, only_openh264).unwrap_err();
        assert!(missing.to_string().contains("gstreamer1.0-plugins-ugly"), "{missing}");
    }
}
