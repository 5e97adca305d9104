//! Video4Linux devices: what they offer, and which of it is best.

use std::path::Path;
use std::str::FromStr;

use gst::prelude::*;

use super::lost::Lost;
use super::plan::{Feed, Media, Pads, is_shaped, source_size};
use super::spec::Spec;
use crate::config;
use crate::elements;
use crate::guard;

/// Modes named in an error, so that it stays readable.
const MODES_SHOWN: usize = 12;

/// By which elements `device` is read, after a look at what it offers. Blocks while it opens.
///
/// # Errors
/// Where the device is not there, is busy, or does not offer the size and rate asked for.
pub(super) fn feed(device: &Path, config: &config::Camera) -> Result<Feed, Lost> {
    let offered = offered(device)?;
    let decoder = if elements::available("v4l2jpegdec") { "v4l2jpegdec" } else { "jpegdec" };
    choose(device, config, &offered, decoder)
}

/// What the device can deliver.
fn offered(device: &Path) -> Result<gst::Caps, Lost> {
    let name = device.display();
    if !device.exists() {
        return Err(Lost::open(format!("there is no {name}; is the camera plugged in?")));
    }
    let pipeline = guard::Pipeline::new(gst::Pipeline::with_name("v4l2-probe"));
    let source = source(device).build().map_err(|error| Lost::open(error.to_string()))?;
    pipeline.add(&source).map_err(|error| Lost::open(error.to_string()))?;
    pipeline.open().map_err(|error| Lost::open(format!("{name}: {}", error.reason)))?;
    let pad = source.static_pad("src");
    pad.map(|pad| pad.query_caps(None))
        .ok_or_else(|| Lost::open(format!("{name} has nothing to read from")))
}

/// The best of what is offered: the camera's own H.264 where the pictures need not be touched,
/// else raw pictures, else JPEG, which USB cameras need for the larger sizes.
fn choose(
    device: &Path,
    config: &config::Camera,
    offered: &gst::Caps,
    jpeg_decoder: &'static str,
) -> Result<Feed, Lost> {
    let (width, height) = source_size(config);
    let mode = format!("width={width},height={height},framerate={}/1", config.framerate);
    let h264 = format!("video/x-h264,{mode},stream-format=byte-stream,alignment=au");
    let raw = format!("video/x-raw,{mode}");
    let jpeg = format!("image/jpeg,{mode}");
    let mut elements = vec![source(device)];
    let media = if !is_shaped(config) && offers(offered, &h264) {
        elements.push(Spec::caps(h264));
        Media::H264
    } else if offers(offered, &raw) {
        elements.extend([Spec::caps(raw), Spec::hand_over()]);
        Media::Raw
    } else if offers(offered, &jpeg) {
        elements.extend([Spec::caps(jpeg), Spec::hand_over(), Spec::new(jpeg_decoder)]);
        Media::Raw
    } else {
        return Err(Lost::open(format!(
            "{} does not offer {width}x{height} at {} frames a second; it offers {}",
            device.display(),
            config.framerate,
            modes(offered)
        )));
    };
    Ok(Feed { elements, media, pads: Pads::Always })
}

fn source(device: &Path) -> Spec {
    Spec::new("v4l2src").with("device", device.display())
}

fn offers(offered: &gst::Caps, wanted: &str) -> bool {
    gst::Caps::from_str(wanted).is_ok_and(|wanted| offered.can_intersect(&wanted))
}

/// What is offered, in short words.
fn modes(offered: &gst::Caps) -> String {
    let mut modes: Vec<String> = Vec::new();
    for structure in offered.iter() {
        let field = |name: &str| {
            structure.value(name).ok().and_then(|value| value.serialize().ok()).unwrap_or_default()
        };
        let mode = format!("{} {}x{}", structure.name(), field("width"), field("height"));
        if !modes.contains(&mode) {
            modes.push(mode);
        }
    }
    if modes.is_empty() {
        return "nothing".into();
    }
    let more = if modes.len() > MODES_SHOWN { ", …" } else { "" };
    modes.truncate(MODES_SHOWN);
    format!("{}{more}", modes.join(", ")).replace("(int)", "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flip;

    const WEBCAM: &str = "video/x-raw,format=YUY2,width=640,height=480,framerate={15/1,30/1};\
        image/jpeg,width=1280,height=720,framerate=30/1;\
        video/x-h264,stream-format=byte-stream,alignment=au,width=1920,height=1080,framerate=30/1";

    fn chosen(width: u32, height: u32, flip: Flip) -> Result<Feed, Lost> {
        gst::init().unwrap();
        let config = config::Camera { width, height, flip, ..config::Camera::default() };
        let offered = gst::Caps::from_str(WEBCAM).unwrap();
        choose(Path::new("/dev/video7"), &config, &offered, "jpegdec")
    }

    #[test]
    fn a_camera_s_own_h264_is_passed_through_unless_the_picture_is_turned() {
        let feed = chosen(1920, 1080, Flip::None).unwrap();
        assert_eq!(feed.media, Media::H264);
        assert_eq!(feed.elements[0].get("device"), Some("/dev/video7"));
        assert!(chosen(1920, 1080, Flip::Rotate180).is_err());
    }

    #[test]
    fn raw_pictures_come_before_jpeg_and_jpeg_before_nothing() {
        let raw = chosen(640, 480, Flip::None).unwrap();
        assert_eq!((raw.media, raw.elements.len()), (Media::Raw, 3));
        let jpeg = chosen(1280, 720, Flip::None).unwrap();
        assert_eq!(jpeg.elements[3].factory, "jpegdec");
    }

    #[test]
    fn a_size_that_is_not_offered_is_refused_with_those_that_are() {
        let lost = chosen(800, 600, Flip::None).unwrap_err();
        assert!(lost.reason.contains("does not offer 800x600 at 30"), "{lost}");
        assert!(lost.reason.contains("image/jpeg 1280x720"), "{lost}");
    }

    #[test]
    fn a_device_that_is_not_there_or_is_none_says_so() {
        gst::init().unwrap();
        let config = config::Camera::default();
        let lost = feed(Path::new("/dev/video99"), &config).unwrap_err();
        assert!(lost.reason.contains("there is no /dev/video99"), "{lost}");
        let lost = feed(Path::new("/dev/null"), &config).unwrap_err();
        assert!(lost.reason.starts_with("/dev/null: "), "{lost}");
    }
}
