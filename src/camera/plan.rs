//! What a camera's pipeline is made of, decided by pure functions before anything is built.

use super::encoder::{self, Settings};
use super::spec::Spec;
use crate::config::{self, Crop, Flip};

/// What a source delivers, and by which elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Feed {
    /// The elements, in the order of the flow.
    pub elements: Vec<Spec>,
    pub media: Media,
    /// How the first element comes by its pad.
    pub pads: Pads,
}

/// What comes out of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    /// Pictures in the one format that every encoder takes.
    I420,
    /// Pictures in any format.
    Raw,
    /// Encoded pictures, to be passed through.
    H264,
}

/// How the first element of a source comes by its pad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pads {
    /// It has it from the start.
    Always,
    /// It makes one for each stream when it has connected (`rtspsrc`).
    OnConnect,
}

/// A whole camera pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub feed: Feed,
    /// From the source to where renditions part.
    pub shape: Vec<Spec>,
    /// One for each rendition, the main one first.
    pub branches: Vec<Branch>,
    /// The encoder's element, `none` where H.264 is passed through.
    pub encoder: &'static str,
}

/// From where renditions part to the tap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Branch {
    pub shape: Vec<Spec>,
    /// Encoder and the filter behind it; empty where H.264 is passed through.
    pub encoder: Vec<Spec>,
    pub parse: Vec<Spec>,
}

/// Plans the pipeline for `config` on top of what its source delivers. `bitrates` are the target
/// and the most of each rendition in bits a second, the main one first.
pub(super) fn plan(
    config: &config::Camera,
    feed: Feed,
    encoder: &'static str,
    bitrates: &[(u32, u32)],
    gstreamer: (u32, u32, u32),
) -> Plan {
    let encoder = if feed.media == Media::H264 { "none" } else { encoder };
    let shape = shape(config, feed.media);
    let mut bitrates = bitrates.iter().copied();
    let mut branch = |(width, height): (u32, u32), framerate: u32, shape: Vec<Spec>| {
        let (bitrate_bps, bitrate_max_bps) = bitrates.next().unwrap_or_default();
        let settings = Settings {
            width,
            height,
            framerate,
            bitrate_bps,
            bitrate_max_bps,
            keyframe_interval: config.encoder.keyframe_interval,
            threads: encoder::threads((width, height)),
        };
        Branch { shape, encoder: encoder::specs(encoder, &settings, gstreamer), parse: parse() }
    };
    let mut branches = vec![branch((config.width, config.height), config.framerate, Vec::new())];
    for rendition in &config.rendition {
        let framerate = rendition.framerate.unwrap_or(config.framerate).min(config.framerate);
        let size = (rendition.width, rendition.height);
        let shape = scale_and_thin(size, framerate, config.framerate);
        branches.push(branch(size, framerate, shape));
    }
    Plan { feed, shape, branches, encoder }
}

/// The size in pixels that the source is asked for: the configured size is the rendition's, after
/// `flip`, so that a quarter turn wants a source that lies on its side.
pub(super) fn source_size(config: &config::Camera) -> (u32, u32) {
    match config.flip {
        Flip::None | Flip::Rotate180 | Flip::Horizontal | Flip::Vertical => {
            (config.width, config.height)
        }
        Flip::Clockwise
        | Flip::Counterclockwise
        | Flip::UpperLeftDiagonal
        | Flip::UpperRightDiagonal => (config.height, config.width),
    }
}

/// Whether the pictures have to be touched between source and encoder.
pub(super) fn is_shaped(config: &config::Camera) -> bool {
    config.flip != Flip::None || config.crop != Crop::default() || !config.rendition.is_empty()
}

/// Crop, scaling back to size, flip, and conversion: each only where it is needed.
fn shape(config: &config::Camera, media: Media) -> Vec<Spec> {
    let mut specs = Vec::new();
    if config.crop != Crop::default() {
        let Crop { left, right, top, bottom } = config.crop;
        specs.push(
            Spec::new("videocrop")
                .with("left", left)
                .with("right", right)
                .with("top", top)
                .with("bottom", bottom),
        );
        specs.push(Spec::new("videoscale"));
        specs.push(sized(source_size(config)));
    }
    if let Some(direction) = direction(config.flip) {
        specs.push(Spec::new("videoflip").with("video-direction", direction));
    }
    if media == Media::Raw {
        specs.push(Spec::new("videoconvert"));
    }
    specs
}

/// A further rendition: on a thread of its own, so that its encoder does not hold the others up.
fn scale_and_thin(size: (u32, u32), framerate: u32, source_framerate: u32) -> Vec<Spec> {
    let mut specs = vec![Spec::hand_over()];
    if framerate < source_framerate {
        // Where it only drops, videorate holds no picture back.
        specs.push(Spec::new("videorate").with("drop-only", true).with("skip-to-first", true));
        specs.push(Spec::caps(format!("video/x-raw,framerate={framerate}/1")));
    }
    specs.push(Spec::new("videoscale"));
    specs.push(sized(size));
    specs
}

/// Square pixels: videoscale then adds borders rather than distort.
fn sized((width, height): (u32, u32)) -> Spec {
    Spec::caps(format!("video/x-raw,width={width},height={height},pixel-aspect-ratio=1/1"))
}

/// Access units with SPS and PPS in front of every IDR.
fn parse() -> Vec<Spec> {
    vec![
        Spec::new("h264parse").with("config-interval", -1),
        Spec::caps("video/x-h264,stream-format=byte-stream,alignment=au"),
    ]
}

fn direction(flip: Flip) -> Option<&'static str> {
    match flip {
        Flip::None => None,
        Flip::Clockwise => Some("90r"),
        Flip::Rotate180 => Some("180"),
        Flip::Counterclockwise => Some("90l"),
        Flip::Horizontal => Some("horiz"),
        Flip::Vertical => Some("vert"),
        Flip::UpperLeftDiagonal => Some("ul-lr"),
        Flip::UpperRightDiagonal => Some("ur-ll"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RenditionConfig;

    fn feed(media: Media) -> Feed {
        Feed { elements: vec![Spec::new("appsrc")], media, pads: Pads::Always }
    }

    fn planned(config: &config::Camera, media: Media) -> Plan {
        gst::init().unwrap();
        let bitrates = [(2_500_000, 8_000_000), (600_000, 8_000_000)];
        plan(config, feed(media), "x264enc", &bitrates, (1, 22, 0))
    }

    fn factories(specs: &[Spec]) -> Vec<&str> {
        specs.iter().map(|spec| spec.factory).collect()
    }

    #[test]
    fn nothing_stands_between_a_plain_simulated_camera_and_its_encoder() {
        let plan = planned(&config::Camera::default(), Media::I420);
        assert_eq!(factories(&plan.shape), [] as [&str; 0]);
        assert_eq!(factories(&plan.branches[0].shape), [] as [&str; 0]);
        assert_eq!(factories(&plan.branches[0].encoder), ["x264enc", "capsfilter"]);
        assert_eq!(plan.branches[0].encoder[0].get("bitrate"), Some("2500"));
    }

    #[test]
    fn a_quarter_turn_asks_for_a_source_on_its_side() {
        let config = config::Camera {
            flip: Flip::Clockwise,
            crop: Crop { left: 16, ..Crop::default() },
            ..config::Camera::default()
        };
        assert_eq!(source_size(&config), (720, 1280));
        let plan = planned(&config, Media::Raw);
        let expected = ["videocrop", "videoscale", "capsfilter", "videoflip", "videoconvert"];
        assert_eq!(factories(&plan.shape), expected);
        assert!(plan.shape[2].get("caps").unwrap().contains("width=720,height=1280"));
        assert_eq!(plan.shape[3].get("video-direction"), Some("90r"));
        assert!(is_shaped(&config));
    }

    #[test]
    fn a_further_rendition_is_thinned_and_scaled_on_its_own_thread() {
        let rendition = RenditionConfig { framerate: Some(15), ..RenditionConfig::default() };
        let config = config::Camera { rendition: vec![rendition], ..config::Camera::default() };
        let plan = planned(&config, Media::I420);
        let small = &plan.branches[1];
        let expected = ["queue", "videorate", "capsfilter", "videoscale", "capsfilter"];
        assert_eq!(factories(&small.shape), expected);
        assert_eq!(small.encoder[0].get("bitrate"), Some("600"));
        assert!(plan.branches[0].shape.is_empty(), "the main rendition does not wait for it");
    }

    #[test]
    fn h264_is_passed_through_without_an_encoder() {
        let plan = planned(&config::Camera::default(), Media::H264);
        assert_eq!(plan.encoder, "none");
        assert!(plan.branches[0].encoder.is_empty() && plan.shape.is_empty());
        assert_eq!(factories(&plan.branches[0].parse), ["h264parse", "capsfilter"]);
    }

    #[test]
    fn every_element_of_a_full_plan_can_be_made() {
        let config = config::Camera {
            flip: Flip::UpperRightDiagonal,
            crop: Crop { top: 2, ..Crop::default() },
            rendition: vec![RenditionConfig { framerate: Some(5), ..RenditionConfig::default() }],
            ..config::Camera::default()
        };
        let plan = planned(&config, Media::Raw);
        let branches = plan.branches.iter();
        let branches = branches.flat_map(|b| b.shape.iter().chain(&b.encoder).chain(&b.parse));
        for spec in plan.shape.iter().chain(branches) {
            spec.build().unwrap();
        }
    }
}
