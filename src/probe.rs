//! What there is on this machine: cameras, encoders, GStreamer and its bugs; and what `run` would
//! choose from it.

use std::fmt;
use std::sync::mpsc;
use std::time::Duration;

use gst::prelude::*;
use serde::Serialize;

use crate::config::{Camera, EncoderKind, Source};
use crate::elements;
use crate::workarounds::{self, Version, Workaround};

/// How long the drivers may take to name their cameras. libcamera can hang on a broken sensor.
const CAMERAS_TIMEOUT: Duration = Duration::from_secs(8);

/// Picture formats that are listed of one camera.
const FORMATS_MAX: usize = 64;

/// Drivers of a Pi whose devices look like cameras to Video4Linux but give no pictures by
/// themselves: the parts of which libcamera makes a camera, and codecs.
const NO_CAMERAS: [&str; 6] =
    ["bcm2835-codec", "bcm2835-isp", "pispbe", "rp1-cfe", "rpi-hevc-dec", "unicam"];

/// Everything that was found. Its JSON form is stable: fields are added, never renamed.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Our own version.
    pub lensline: &'static str,
    /// GStreamer's version.
    pub gstreamer: Version,
    /// The cameras, libcamera's first.
    pub cameras: Vec<Found>,
    /// Why the list of cameras may be incomplete.
    pub cameras_error: Option<String>,
    /// The encoders, the best first.
    pub encoders: Vec<Encoder>,
    /// Workarounds that this GStreamer needs.
    pub workarounds: Vec<&'static Workaround>,
    /// What `run` would take without a configuration.
    pub choice: Choice,
}

/// A camera that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Who knows it.
    pub kind: Kind,
    /// What `camera.source` calls it: libcamera's name or the device node.
    pub address: String,
    /// Its name for people.
    pub name: String,
    /// What it gives, as GStreamer's caps.
    pub formats: Vec<String>,
}

/// Who knows a camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// libcamera: the Pi's own cameras.
    Libcamera,
    /// Video4Linux: USB cameras, HDMI adapters.
    V4l2,
}

/// An encoder we can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Encoder {
    /// Name of the element.
    pub element: &'static str,
    /// Whether it is here.
    pub available: bool,
    /// The Debian package that brings it.
    pub package: &'static str,
}

/// What `run` would take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// The camera, as an entry of [`Report::cameras`].
    pub camera: Option<Found>,
    /// The encoder element.
    pub encoder: Option<&'static str>,
}

/// Looks around. GStreamer must have been initialised. Takes 8 seconds at most.
pub fn report() -> Report {
    let (cameras, cameras_error) = match cameras() {
        Ok(cameras) => (cameras, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let version = Version::running();
    let encoders = elements::ENCODERS.map(|element| Encoder {
        element,
        available: elements::available(element),
        package: elements::package(element),
    });
    let encoder = elements::choose_encoder(elements::available, EncoderKind::Auto).ok();
    Report {
        lensline: env!("CARGO_PKG_VERSION"),
        gstreamer: version,
        choice: Choice { camera: cameras.first().cloned(), encoder },
        cameras,
        cameras_error,
        encoders: encoders.to_vec(),
        workarounds: workarounds::active(version).collect(),
    }
}

/// The camera that `run` takes where none is configured: libcamera's first, else Video4Linux'.
/// GStreamer must have been initialised. Takes 8 seconds at most.
pub fn first_camera() -> Option<Camera> {
    let found = match cameras() {
        Ok(cameras) => cameras.into_iter().next()?,
        Err(error) => {
            tracing::warn!(error, "looking for cameras failed");
            return None;
        }
    };
    tracing::info!(kind = %found.kind, address = found.address, "no camera is configured; taking");
    Some(Camera { id: "cam".into(), source: found.source(), ..Camera::default() })
}

/// The cameras there are, libcamera's first.
///
/// # Errors
/// Why nothing could be found out, in words.
fn cameras() -> Result<Vec<Found>, String> {
    let (sender, receiver) = mpsc::sync_channel(1);
    // A driver that hangs keeps this thread for ever; nothing waits for it.
    std::thread::Builder::new()
        .name("probe".into())
        .spawn(move || {
            let _ = sender.send(list());
        })
        .map_err(|error| format!("no thread to look for cameras: {error}"))?;
    receiver.recv_timeout(CAMERAS_TIMEOUT).map_err(|_| {
        format!("the camera drivers did not answer within {} s", CAMERAS_TIMEOUT.as_secs())
    })?
}

fn list() -> Result<Vec<Found>, String> {
    let monitor = gst::DeviceMonitor::new();
    if monitor.add_filter(Some("Video/Source"), None).is_none() {
        // No provider of cameras is installed at all.
        return Ok(Vec::new());
    }
    monitor.start().map_err(|error| format!("cameras cannot be listed: {error}"))?;
    let devices = monitor.devices();
    monitor.stop();
    let mut found: Vec<_> = devices.iter().filter_map(Found::from_device).collect();
    found.sort_by_key(|one| one.kind);
    Ok(found)
}

impl Found {
    fn from_device(device: &gst::Device) -> Option<Self> {
        let factory = device.create_element(None).ok()?.factory()?.name();
        let text = |keys: &[&str]| {
            let properties = device.properties()?;
            keys.iter().find_map(|key| properties.get::<String>(*key).ok())
        };
        let name: String = device.display_name().into();
        let (kind, address) = match factory.as_str() {
            // Its display name is the camera's name for libcamera.
            "libcamerasrc" => (Kind::Libcamera, name.clone()),
            "v4l2src" => (Kind::V4l2, text(&["device.path", "api.v4l2.path"])?),
            _ => return None,
        };
        let driver = text(&["v4l2.device.driver", "api.v4l2.cap.driver"]);
        if driver.is_some_and(|driver| NO_CAMERAS.contains(&driver.as_str())) {
            return None;
        }
        let caps = device.caps();
        let formats: Vec<_> = caps
            .iter()
            .flat_map(|caps| caps.iter())
            .take(FORMATS_MAX)
            .map(ToString::to_string)
            .collect();
        let usable = ["video/x-raw", "video/x-h264", "image/jpeg"];
        let gives = |format: &String| usable.iter().any(|kind| format.starts_with(kind));
        (formats.is_empty() || formats.iter().any(gives)).then_some(Self {
            kind,
            address,
            name,
            formats,
        })
    }

    fn source(&self) -> Source {
        match self.kind {
            Kind::Libcamera => Source::Libcamera { name: Some(self.address.clone()) },
            Kind::V4l2 => Source::V4l2 { device: self.address.clone().into() },
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Libcamera => "libcamera",
            Self::V4l2 => "v4l2",
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Lensline     {}", self.lensline)?;
        writeln!(f, "GStreamer    {}", self.gstreamer)?;
        self.write_cameras(f)?;
        writeln!(f, "\nEncoders")?;
        for encoder in &self.encoders {
            let state = match encoder.available {
                true => "available".to_owned(),
                false if encoder.element == "v4l2h264enc" => "no such hardware here".to_owned(),
                false => format!("missing; apt-get install {}", encoder.package),
            };
            writeln!(f, "  {:<13}{state}", encoder.element)?;
        }
        writeln!(f, "\nWorkarounds active with this GStreamer")?;
        for workaround in &self.workarounds {
            writeln!(f, "  {:<30}{}", workaround.id, workaround.bug)?;
        }
        writeln!(f, "\n`lensline run` would choose")?;
        let camera = self
            .choice
            .camera
            .as_ref()
            .map_or("none; `lensline run --simulate` needs none".to_owned(), |camera| {
                format!("{} {} ({})", camera.kind, camera.address, camera.name)
            });
        writeln!(f, "  {:<13}{camera}", "camera")?;
        let encoder =
            self.choice.encoder.unwrap_or("none; apt-get install gstreamer1.0-plugins-ugly");
        write!(f, "  {:<13}{encoder}", "encoder")
    }
}

impl Report {
    fn write_cameras(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nCameras")?;
        if let Some(error) = &self.cameras_error {
            writeln!(f, "  {error}")?;
        } else if self.cameras.is_empty() {
            writeln!(f, "  none found")?;
        }
        for camera in &self.cameras {
            writeln!(f, "  {:<11}{}  {}", camera.kind, camera.address, camera.name)?;
            for format in &camera.formats {
                writeln!(f, "  {:<11}  {format}", "")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Report {
        let camera = Found {
            kind: Kind::V4l2,
            address: "/dev/video0".into(),
            name: "A webcam".into(),
            formats: vec!["video/x-raw, format=(string)YUY2".into()],
        };
        let encoder = Encoder { element: "x264enc", available: true, package: "p" };
        Report {
            lensline: "1.2.3",
            gstreamer: Version(1, 22, 0),
            cameras: vec![camera.clone()],
            cameras_error: None,
            encoders: vec![encoder],
            workarounds: workarounds::active(Version(1, 22, 0)).take(1).collect(),
            choice: Choice { camera: Some(camera), encoder: Some("x264enc") },
        }
    }

    #[test]
    fn the_json_form_is_stable() {
        let json = serde_json::to_value(sample()).unwrap();
        let expected = serde_json::json!({
            "lensline": "1.2.3",
            "gstreamer": "1.22.0",
            "cameras": [{
                "kind": "v4l2",
                "address": "/dev/video0",
                "name": "A webcam",
                "formats": ["video/x-raw, format=(string)YUY2"],
            }],
            "cameras_error": null,
            "encoders": [{ "element": "x264enc", "available": true, "package": "p" }],
            "workarounds": [{
                "id": "v4l2-force-key-frame",
                "bug": "gstreamer c8416a3b5c",
                "what": workarounds::ALL[0].what,
                "fixed_in": "1.22.4",
            }],
            "choice": {
                "camera": {
                    "kind": "v4l2",
                    "address": "/dev/video0",
                    "name": "A webcam",
                    "formats": ["video/x-raw, format=(string)YUY2"],
                },
                "encoder": "x264enc",
            },
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn the_form_for_people_lines_up_and_names_everything() {
        let text = sample().to_string();
        for part in [
            "GStreamer    1.22.0",
            "  v4l2       /dev/video0  A webcam",
            "             video/x-raw",
            "  x264enc      available",
            "  v4l2-force-key-frame          gstreamer c8416a3b5c",
            "  camera       v4l2 /dev/video0 (A webcam)",
            "  encoder      x264enc",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn a_found_camera_becomes_the_source_that_opens_it() {
        let found = sample().cameras.remove(0);
        assert_eq!(found.source(), Source::V4l2 { device: "/dev/video0".into() });
    }

    #[test]
    fn looking_around_here_comes_to_an_end_and_agrees_with_the_chooser() {
        gst::init().unwrap();
        let report = report();
        assert_eq!(report.gstreamer, Version::running());
        assert_eq!(report.choice.camera, report.cameras.first().cloned());
        let best = report.encoders.iter().find(|encoder| encoder.available);
        assert_eq!(report.choice.encoder, best.map(|encoder| encoder.element));
    }
}
