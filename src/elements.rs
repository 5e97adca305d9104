//! GStreamer's elements: which there are here, which Debian package brings one that is missing,
//! and which encoder is the best of those there are.

use crate::config::EncoderKind;
use crate::error::Error;

/// What to install for an element that is in no row of [`PACKAGES`].
const UNKNOWN: &str =
    "gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad";

/// Debian's packages (bookworm and trixie) and the elements of theirs that we use.
const PACKAGES: &[(&str, &[&str])] = &[
    (
        "libgstreamer1.0-0",
        &["capsfilter", "fakesink", "fakesrc", "identity", "queue", "tee", "valve"],
    ),
    (
        "gstreamer1.0-plugins-base",
        &[
            "appsink",
            "appsrc",
            "decodebin",
            "textoverlay",
            "timeoverlay",
            "videoconvert",
            "videoconvertscale",
            "videorate",
            "videoscale",
            "videotestsrc",
        ],
    ),
    (
        "gstreamer1.0-plugins-good",
        &[
            "jpegdec",
            "jpegenc",
            "rtpbin",
            "rtph264depay",
            "rtph264pay",
            "rtphdrexttwcc",
            "rtpjitterbuffer",
            "rtprtxsend",
            "rtspsrc",
            "udpsink",
            "udpsrc",
            "v4l2convert",
            "v4l2h264enc",
            "v4l2src",
            "videocrop",
            "videoflip",
        ],
    ),
    (
        "gstreamer1.0-plugins-bad",
        &[
            "dtlsdec",
            "dtlsenc",
            "dtlssrtpdec",
            "dtlssrtpenc",
            "h264parse",
            "openh264enc",
            "srtpdec",
            "srtpenc",
            "webrtcbin",
        ],
    ),
    ("gstreamer1.0-plugins-ugly", &["x264enc"]),
    ("gstreamer1.0-nice", &["nicesink", "nicesrc"]),
    ("gstreamer1.0-libcamera", &["libcamerasrc"]),
    ("gstreamer1.0-libav", &["avdec_h264"]),
];

/// The encoders from the best to the one that is there for want of a better: hardware first, then
/// the software encoder that needs less of the processor.
pub const ENCODERS: [&str; 3] = ["v4l2h264enc", "x264enc", "openh264enc"];

/// The Debian package that carries `element`; for one we do not know, those where it may be.
pub fn package(element: &str) -> &'static str {
    let row = PACKAGES.iter().find(|(_, elements)| elements.contains(&element));
    row.map_or(UNKNOWN, |(package, _)| package)
}

/// Whether GStreamer has `element` here. GStreamer must have been initialised.
pub fn available(element: &str) -> bool {
    gst::ElementFactory::find(element).is_some()
}

/// Makes sure that GStreamer has `element` here. GStreamer must have been initialised.
///
/// # Errors
/// [`Error::MissingElement`] with the Debian package to install.
pub fn require(element: &str) -> Result<(), Error> {
    if available(element) { Ok(()) } else { Err(missing(element)) }
}

/// The encoder element to use: the one asked for, or the best of those `available` says are there.
///
/// # Errors
/// [`Error::MissingElement`] where it is not there, or none is.
pub fn choose_encoder(
    available: impl Fn(&str) -> bool,
    kind: EncoderKind,
) -> Result<&'static str, Error> {
    let asked_for = match kind {
        EncoderKind::Auto => {
            let best = ENCODERS.into_iter().find(|encoder| available(encoder));
            // The driver of the hardware encoder cannot be installed; x264 can.
            return best.ok_or_else(|| missing("x264enc"));
        }
        EncoderKind::V4l2 => "v4l2h264enc",
        EncoderKind::X264 => "x264enc",
        EncoderKind::Openh264 => "openh264enc",
    };
    match available(asked_for) {
        true => Ok(asked_for),
        false if kind == EncoderKind::V4l2 => Err(Error::Config(
            "this machine has no hardware encoder that v4l2h264enc could use (a Pi 5 has none); \
             set camera.encoder.kind = \"auto\" or \"x264\""
                .into(),
        )),
        false => Err(missing(asked_for)),
    }
}

fn missing(element: &str) -> Error {
    Error::MissingElement { element: element.into(), package: package(element) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_takes_the_best_encoder_there_is() {
        let choose = |there: &[&str]| {
            choose_encoder(|element| there.contains(&element), EncoderKind::Auto).ok()
        };
        assert_eq!(choose(&["openh264enc", "x264enc", "v4l2h264enc"]), Some("v4l2h264enc"));
        assert_eq!(choose(&["openh264enc", "x264enc"]), Some("x264enc"));
        assert_eq!(choose(&["openh264enc"]), Some("openh264enc"));
        assert_eq!(choose(&[]), None);
    }

    #[test]
    fn what_is_asked_for_is_taken_or_named_as_missing_with_its_package() {
        assert_eq!(choose_encoder(|_| true, EncoderKind::Openh264).unwrap(), "openh264enc");
        let text = |kind| choose_encoder(|_| false, kind).unwrap_err().to_string();
        assert!(text(EncoderKind::X264).contains("apt-get install gstreamer1.0-plugins-ugly"));
        assert!(text(EncoderKind::Openh264).contains("gstreamer1.0-plugins-bad"));
        assert!(text(EncoderKind::Auto).contains("x264enc"));
        assert!(text(EncoderKind::V4l2).contains("camera.encoder.kind"));
    }

    #[test]
    fn a_missing_element_is_an_error_that_names_it() {
        gst::init().unwrap();
        assert!(require("appsrc").is_ok());
        let error = require("nosuchelement").unwrap_err();
        assert!(
            matches!(&error, Error::MissingElement { element, .. } if element == "nosuchelement")
        );
    }

    #[test]
    fn no_element_stands_under_two_packages() {
        let mut all: Vec<_> = PACKAGES.iter().flat_map(|(_, elements)| *elements).collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
