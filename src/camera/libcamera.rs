//! Cameras that libcamera knows: the Pi's own, and most others.

use super::plan::{Feed, Media, Pads, source_size};
use super::spec::Spec;
use crate::config;

/// By which elements the camera called `name` is read.
///
/// The caps are the ones that `v4l2h264enc` can take as they are: NV12, BT.709, progressive; a
/// libcamerasrc before 0.5.1 leaves a list of colorimetries unfixed (libcamera 3569fed7). The
/// queue of one lets go of a picture at once: a libcamerasrc whose few buffers are held stalls
/// (raspberrypi/libcamera 139).
pub(super) fn feed(name: Option<&str>, config: &config::Camera) -> Feed {
    let (width, height) = source_size(config);
    let source = Spec::new("libcamerasrc");
    let source = match name {
        Some(name) => source.with("camera-name", name),
        None => source,
    };
    let caps = Spec::caps(format!(
        "video/x-raw,format=NV12,width={width},height={height},framerate={}/1,\
         colorimetry=bt709,interlace-mode=progressive",
        config.framerate
    ));
    Feed { elements: vec![source, caps, Spec::hand_over()], media: Media::Raw, pads: Pads::Always }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flip;

    #[test]
    fn the_caps_are_those_the_hardware_encoder_takes() {
        let config = config::Camera { flip: Flip::Counterclockwise, ..config::Camera::default() };
        let feed = feed(Some("/base/soc/i2c0mux/i2c@1/imx708@1a"), &config);
        let name = feed.elements[0].get("camera-name").unwrap();
        assert_eq!(name, "/base/soc/i2c0mux/i2c@1/imx708@1a");
        let caps = feed.elements[1].get("caps").unwrap();
        for part in ["NV12", "width=720,height=1280", "30/1", "bt709", "progressive"] {
            assert!(caps.contains(part), "{caps}");
        }
    }
}
