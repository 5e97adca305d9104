//! The encoders, each with its own words for the same few wishes.
//!
//! What is set when an encoder is made is decided by [`specs`], a pure function; what is changed
//! while it runs goes through [`Encoder`], whose glue is tested against a recording of properties
//! because `v4l2h264enc` exists on a Pi only.

use gst::prelude::*;

use super::spec::Spec;

/// How much of its bitrate an encoder may spend ahead, in milliseconds: the size of its largest
/// picture, and with it the time that one takes over a link of just that rate.
const VBV_MS: u32 = 150;

/// More threads cut the picture into more slices, for ever less gain.
const THREADS_MAX: usize = 4;

/// Macroblocks that are worth a thread: 1280x720 has 3600. Measured at that size on two cores, two
/// threads took 6.6 to 10.8 ms from capture to the tap where one took 11.7 to 18.0; a picture of
/// 640x360 is done sooner than a second thread wakes.
const THREAD_MACROBLOCKS: u32 = 1_200;

/// `v4l2h264enc` on a Pi takes bitrates in these steps, up to this one (pi-webrtc 41).
const V4L2_BITRATE_STEP_BPS: u32 = 25_000;
const V4L2_BITRATE_MAX_BPS: u32 = 25_000_000;

/// A key frame every frame hangs the Pi's encoder (raspberrypi/linux 4740).
const V4L2_KEYFRAME_INTERVAL_MIN: u32 = 2;

/// GStreamer from here on passes force-key-unit on to `v4l2h264enc` (commit c8416a3b5c).
const V4L2_FORCE_KEY_SINCE: (u32, u32, u32) = (1, 22, 4);

/// What one rendition is to be encoded like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub width: u32,
    pub height: u32,
    pub framerate: u32,
    pub bitrate_bps: u32,
    /// The most that may be asked for at run time; the level must allow it.
    pub bitrate_max_bps: u32,
    pub keyframe_interval: u32,
    pub threads: usize,
}

/// Which element it is, and so which words it understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    X264,
    Openh264,
    V4l2,
    /// None: the source's H.264 is passed on.
    Passthrough,
}

/// A running encoder, to change while it runs.
#[derive(Debug)]
pub(super) struct Encoder<S = glib::WeakRef<gst::Element>> {
    kind: Kind,
    sink: S,
    gstreamer: (u32, u32, u32),
}

/// Where properties and key-frame requests go: an element, or a recording in tests.
pub(super) trait PropertySink {
    fn set(&self, name: &str, value: glib::Value);
    fn force_key_unit(&self);
}

impl Kind {
    /// The kind of an encoder element.
    pub(super) fn of(element: &str) -> Self {
        match element {
            "x264enc" => Self::X264,
            "openh264enc" => Self::Openh264,
            "v4l2h264enc" => Self::V4l2,
            _ => Self::Passthrough,
        }
    }
}

/// How many threads encode one picture of this size on this machine.
pub(super) fn threads((width, height): (u32, u32)) -> usize {
    let worth = macroblocks(width, height) / THREAD_MACROBLOCKS;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.min(worth as usize).clamp(1, THREADS_MAX)
}

fn macroblocks(width: u32, height: u32) -> u32 {
    width.div_ceil(16).saturating_mul(height.div_ceil(16))
}

/// The running GStreamer's version.
pub(super) fn gstreamer() -> (u32, u32, u32) {
    let (major, minor, micro, _) = gst::version();
    (major, minor, micro)
}

/// The encoder element `element` and the filter behind it; nothing where H.264 is passed through.
pub(super) fn specs(element: &str, settings: &Settings, gstreamer: (u32, u32, u32)) -> Vec<Spec> {
    let caps = "video/x-h264,profile=constrained-baseline,stream-format=byte-stream,alignment=au";
    match Kind::of(element) {
        Kind::X264 => vec![x264(settings), Spec::caps(caps)],
        Kind::Openh264 => vec![openh264(settings), Spec::caps(caps)],
        // Without a level in the caps the driver fails to start (raspberrypi/linux 3974).
        Kind::V4l2 => vec![
            v4l2(settings, gstreamer),
            Spec::caps(format!("{caps},level=(string){}", level(settings))),
        ],
        Kind::Passthrough => Vec::new(),
    }
}

fn x264(settings: &Settings) -> Spec {
    Spec::new("x264enc")
        .with("tune", "zerolatency")
        .with("speed-preset", "ultrafast")
        .with("threads", settings.threads)
        .with("bitrate", (settings.bitrate_bps / 1_000).max(1))
        .with("vbv-buf-capacity", VBV_MS)
        .with("key-int-max", settings.keyframe_interval)
        .with("bframes", 0)
        .with("cabac", false)
        .with("aud", false)
        .with("byte-stream", true)
}

fn openh264(settings: &Settings) -> Spec {
    Spec::new("openh264enc")
        .with("usage-type", "camera")
        .with("complexity", "low")
        .with("rate-control", "bitrate")
        .with("bitrate", settings.bitrate_bps)
        .with("gop-size", settings.keyframe_interval)
        .with("multi-thread", settings.threads)
        .with("slice-mode", "auto")
        // Key frames come when they are asked for, not when the light goes on.
        .with("scene-change-detection", false)
}

fn v4l2(settings: &Settings, gstreamer: (u32, u32, u32)) -> Spec {
    // The way round the missing key-frame request (see force_key_frame) rests on a control that
    // not every driver has: there, key frames come once a second by themselves.
    let interval = if gstreamer < V4L2_FORCE_KEY_SINCE {
        settings.keyframe_interval.min(settings.framerate)
    } else {
        settings.keyframe_interval
    };
    let controls = gst::Structure::builder("controls")
        .field("repeat_sequence_header", 1i32)
        .field("video_bitrate", v4l2_bitrate(settings.bitrate_bps))
        .field("h264_i_frame_period", signed(interval.max(V4L2_KEYFRAME_INTERVAL_MIN)))
        .build();
    Spec::new("v4l2h264enc").with("extra-controls", controls)
}

fn v4l2_bitrate(bitrate_bps: u32) -> i32 {
    let steps = (bitrate_bps / V4L2_BITRATE_STEP_BPS).max(1);
    signed((steps * V4L2_BITRATE_STEP_BPS).min(V4L2_BITRATE_MAX_BPS))
}

fn signed(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

/// The lowest level that allows size, rate and bitrate (ITU-T H.264, table A-1, Baseline).
pub(super) fn level(settings: &Settings) -> &'static str {
    // Macroblocks a second, macroblocks a picture, kbit/s.
    const LEVELS: [(u32, u32, u32, &str); 15] = [
        (1_485, 99, 64, "1"),
        (3_000, 396, 192, "1.1"),
        (6_000, 396, 384, "1.2"),
        (11_880, 396, 768, "1.3"),
        (11_880, 396, 2_000, "2"),
        (19_800, 792, 4_000, "2.1"),
        (20_250, 1_620, 4_000, "2.2"),
        (40_500, 1_620, 10_000, "3"),
        (108_000, 3_600, 14_000, "3.1"),
        (216_000, 5_120, 20_000, "3.2"),
        (245_760, 8_192, 20_000, "4"),
        (245_760, 8_192, 50_000, "4.1"),
        (522_240, 8_704, 50_000, "4.2"),
        (589_824, 22_080, 135_000, "5"),
        (983_040, 36_864, 240_000, "5.1"),
    ];
    let picture = macroblocks(settings.width, settings.height);
    let second = picture.saturating_mul(settings.framerate);
    let kbps = settings.bitrate_max_bps.max(settings.bitrate_bps).div_ceil(1_000);
    LEVELS
        .iter()
        .find(|(seconds, pictures, kbits, _)| {
            second <= *seconds && picture <= *pictures && kbps <= *kbits
        })
        .map_or("5.2", |(.., name)| name)
}

impl<S: PropertySink> Encoder<S> {
    /// The encoder of this kind behind `sink`, under that version of GStreamer.
    pub(super) const fn new(kind: Kind, sink: S, gstreamer: (u32, u32, u32)) -> Self {
        Self { kind, sink, gstreamer }
    }

    /// Encodes at this rate from the next picture on; false where nothing is encoded here.
    pub(super) fn set_bitrate(&self, bitrate_bps: u32) -> bool {
        match self.kind {
            Kind::X264 => self.sink.set("bitrate", (bitrate_bps / 1_000).max(1).to_value()),
            Kind::Openh264 => self.sink.set("bitrate", bitrate_bps.to_value()),
            Kind::V4l2 => self.set_control("video_bitrate", v4l2_bitrate(bitrate_bps)),
            Kind::Passthrough => return false,
        }
        true
    }

    /// Makes one of the next pictures an IDR. A passed-through source is asked, and may not obey.
    pub(super) fn force_key_frame(&self) {
        // v4l2h264enc ignores the event before that version; its driver's own control does it.
        if self.kind == Kind::V4l2 && self.gstreamer < V4L2_FORCE_KEY_SINCE {
            self.set_control("force_key_frame", 1);
        } else {
            self.sink.force_key_unit();
        }
    }

    /// Sets one control and leaves the others: `extra-controls` of a running element is applied
    /// at once, field by field.
    fn set_control(&self, name: &'static str, value: i32) {
        let controls = gst::Structure::builder("controls").field(name, value).build();
        self.sink.set("extra-controls", controls.to_value());
    }
}

impl PropertySink for glib::WeakRef<gst::Element> {
    fn set(&self, name: &str, value: glib::Value) {
        if let Some(element) = self.upgrade() {
            element.set_property_from_value(name, &value);
        }
    }

    fn force_key_unit(&self) {
        let Some(pad) = self.upgrade().and_then(|element| element.static_pad("src")) else {
            return;
        };
        let event = gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true).build();
        if !pad.send_event(event) {
            tracing::debug!(pad = %pad.name(), "nobody took the key-frame request");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const HD: Settings = Settings {
        width: 1280,
        height: 720,
        framerate: 30,
        bitrate_bps: 2_500_000,
        bitrate_max_bps: 8_000_000,
        keyframe_interval: 60,
        threads: 2,
    };

    #[derive(Default)]
    struct Recording(RefCell<Vec<String>>);

    impl PropertySink for &Recording {
        fn set(&self, name: &str, value: glib::Value) {
            let value = value.serialize().unwrap();
            self.0.borrow_mut().push(format!("{name}={value}"));
        }

        fn force_key_unit(&self) {
            self.0.borrow_mut().push("force-key-unit".into());
        }
    }

    fn recorded(kind: Kind, version: (u32, u32, u32)) -> Vec<String> {
        gst::init().unwrap();
        let recording = Recording::default();
        let encoder = Encoder::new(kind, &recording, version);
        encoder.set_bitrate(1_234_567);
        encoder.force_key_frame();
        recording.0.take()
    }

    #[test]
    fn each_encoder_is_told_in_its_own_words() {
        assert_eq!(recorded(Kind::X264, (1, 22, 0)), ["bitrate=1234", "force-key-unit"]);
        assert_eq!(recorded(Kind::Openh264, (1, 22, 0)), ["bitrate=1234567", "force-key-unit"]);
        assert_eq!(recorded(Kind::Passthrough, (1, 22, 0)), ["force-key-unit"]);
    }

    #[test]
    fn v4l2_key_frames_are_forced_by_a_control_until_gstreamer_1_22_4() {
        let bitrate = r#"extra-controls="controls\,\ video_bitrate\=\(int\)1225000\;""#;
        let old = recorded(Kind::V4l2, (1, 22, 3));
        let new = recorded(Kind::V4l2, (1, 22, 4));
        let controls = |text: &str| text.replace(['\\', '"', ' ', ';'], "");
        assert_eq!(controls(&old[0]), controls(bitrate));
        assert_eq!(controls(&old[1]), "extra-controls=controls,force_key_frame=(int)1");
        assert_eq!(new[1], "force-key-unit");
    }

    #[test]
    fn v4l2_has_level_and_repeated_headers_and_a_short_gop_where_keys_cannot_be_asked_for() {
        gst::init().unwrap();
        let old = specs("v4l2h264enc", &HD, (1, 22, 0));
        let controls = old[0].get("extra-controls").unwrap();
        for control in ["repeat_sequence_header", "video_bitrate=(int)2500000", "period=(int)30"] {
            assert!(controls.contains(control), "{controls}");
        }
        assert!(old[1].get("caps").unwrap().ends_with("level=(string)3.1"));
        let new = specs("v4l2h264enc", &HD, (1, 22, 4));
        assert!(new[0].get("extra-controls").unwrap().contains("period=(int)60"));
        let every_frame = Settings { keyframe_interval: 1, ..HD };
        let long = specs("v4l2h264enc", &every_frame, (1, 26, 0));
        assert!(long[0].get("extra-controls").unwrap().contains("period=(int)2"));
    }

    #[test]
    fn the_level_follows_size_rate_and_bitrate() {
        assert_eq!(level(&HD), "3.1");
        assert_eq!(level(&Settings { framerate: 60, ..HD }), "3.2");
        assert_eq!(level(&Settings { bitrate_max_bps: 18_000_000, ..HD }), "3.2");
        assert_eq!(level(&Settings { width: 1920, height: 1080, ..HD }), "4");
        assert_eq!(level(&Settings { width: 640, height: 360, ..HD }), "3");
        assert_eq!(level(&Settings { width: 7680, height: 4320, ..HD }), "5.2");
    }

    #[test]
    fn the_elements_that_are_here_take_these_settings() {
        gst::init().unwrap();
        for element in ["x264enc", "openh264enc"] {
            for spec in specs(element, &HD, gstreamer()) {
                spec.build().unwrap();
            }
        }
    }
}
