//! `[[camera]]`: names, sizes, rates and what a source can do.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::{Findings, webrtc};
use crate::config::{Camera, Crop, Encoder, EncoderKind, Flip, RenditionConfig, Simulated, Source};

/// Cameras that one process serves at most.
const CAMERAS_MAX: usize = 16;

/// Renditions beside the main one: each is an encoder of its own.
const RENDITIONS_MAX: usize = 4;

/// Characters in a name that stands in addresses and metrics.
const NAME_CHARS_MAX: usize = 64;

/// Sides of a picture in pixels; 4:2:0 needs them even.
const SIDE: std::ops::RangeInclusive<u64> = 16..=4_096;

/// The largest side that a Pi's hardware encoder takes (`V4L2_CID` enumeration of bcm2835-codec).
const V4L2_SIDE_MAX: u32 = 1_920;

/// Below this rate the Pi's hardware encoder hangs (raspberrypi/linux#4739).
const V4L2_FRAMERATE_MIN: u32 = 9;

/// Bits a second, in thousands: the bounds of the Pi's hardware encoder, which suit the others.
const BITRATE_KBPS: std::ops::RangeInclusive<u64> = 25..=25_000;

pub(super) fn check(found: &mut Findings, cameras: &[Camera]) {
    if cameras.len() > CAMERAS_MAX {
        let message = format!("has {} entries", cameras.len());
        found.add("camera", message, format!("keep to {CAMERAS_MAX} or fewer"));
    }
    let mut ids = HashMap::new();
    let mut devices = HashMap::new();
    for (index, camera) in cameras.iter().enumerate() {
        let path = format!("camera[{index}]");
        name(found, &format!("{path}.id"), &camera.id);
        if let Some(first) = ids.insert(&camera.id, index).filter(|_| !camera.id.is_empty()) {
            let message = format!("\"{}\" is the name of camera[{first}] already", camera.id);
            found.between(
                &[&format!("{path}.id"), &format!("camera[{first}].id")],
                message,
                "give each camera a name of its own",
            );
        }
        one(found, &path, camera);
        if let Some(first) = device(&camera.source).and_then(|key| devices.insert(key, index)) {
            found.between(
                &[&format!("{path}.source"), &format!("camera[{first}].source")],
                format!("is the camera that camera[{first}] has already"),
                "open each camera once; for a second size or bitrate add a [[camera.rendition]]",
            );
        }
    }
}

fn one(found: &mut Findings, path: &str, camera: &Camera) {
    source(found, path, &camera.source);
    size(found, path, camera.width, camera.height);
    found.range(&format!("{path}.framerate"), camera.framerate.into(), 1..=120);
    watchdog(found, path, camera);
    if matches!(camera.source, Source::Rtsp { .. }) {
        return passed_through(found, path, camera);
    }
    crop(found, path, camera);
    encoder(found, path, &camera.encoder);
    if camera.encoder.kind == EncoderKind::V4l2 {
        hardware_encoder(found, path, camera);
    }
    renditions(found, path, camera);
}

/// A name that stands in addresses.
fn name(found: &mut Findings, path: &str, name: &str) {
    let remedy = "use letters, digits, - and _, like \"front-door\"";
    if name.is_empty() {
        found.add(path, "is not given", remedy);
    } else if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
        found.add(path, format!("\"{}\" cannot stand in an address", name.escape_debug()), remedy);
    } else if name.len() > NAME_CHARS_MAX {
        let remedy = format!("keep to {NAME_CHARS_MAX} characters");
        found.add(path, format!("has {} characters", name.len()), remedy);
    }
}

fn source(found: &mut Findings, camera: &str, source: &Source) {
    let path = |key: &str| format!("{camera}.source.{key}");
    match source {
        Source::Libcamera { name: Some(name) } if name.trim().is_empty() => {
            let remedy = "take the name from `lensline probe`, or leave it out for the first";
            found.add(&path("name"), "is empty", remedy);
        }
        Source::V4l2 { device } if !device.is_absolute() => found.add(
            &path("device"),
            format!("\"{}\" is no device node", device.display()),
            "give the whole path, like \"/dev/video0\"; `lensline probe` lists them",
        ),
        // Not repeated in the message: it may hold a password.
        Source::Rtsp { url } if !is_rtsp_url(url) => found.add(
            &path("url"),
            "is no RTSP address",
            "write it like \"rtsp://user:password@192.168.1.20:554/stream\"",
        ),
        Source::Simulated(simulated) => faults(found, camera, simulated),
        Source::Libcamera { .. } | Source::V4l2 { .. } | Source::Rtsp { .. } => {}
    }
}

fn is_rtsp_url(url: &str) -> bool {
    let rest = ["rtsp://", "rtsps://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    let Some(rest) = rest else { return false };
    let authority = rest.split(['/', '?']).next().unwrap_or("");
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    webrtc::is_host_port(host) && !url.contains(|c: char| c.is_whitespace() || c.is_control())
}

fn faults(found: &mut Findings, camera: &str, simulated: &Simulated) {
    if !(0.0..=1.0).contains(&simulated.noise) {
        found.add(
            &format!("{camera}.source.noise"),
            format!("cannot be {}", simulated.noise),
            "choose from 0.0 (easy to encode) to 1.0 (hard)",
        );
    }
    for (index, fault) in simulated.faults.iter().enumerate() {
        let path = format!("{camera}.source.faults[{index}].for_ms");
        if fault.for_ms == 0 {
            found.add(&path, "is 0, so nothing happens", "say how long the fault lasts");
        } else if fault.at_ms.checked_add(fault.for_ms).is_none() {
            found.add(&path, "ends after the end of time", "choose a smaller number");
        }
    }
}

fn size(found: &mut Findings, path: &str, width: u32, height: u32) {
    for (key, value) in [("width", width), ("height", height)] {
        let path = format!("{path}.{key}");
        found.range(&path, value.into(), SIDE);
        if SIDE.contains(&u64::from(value)) && value % 2 != 0 {
            let remedy = format!("choose an even number, like {}", value + 1);
            found.add(&path, format!("{value} is odd, and H.264 4:2:0 has even sides"), remedy);
        }
    }
}

fn crop(found: &mut Findings, path: &str, camera: &Camera) {
    let Crop { left, right, top, bottom } = camera.crop;
    let quarter_turn = matches!(
        camera.flip,
        Flip::Clockwise
            | Flip::Counterclockwise
            | Flip::UpperLeftDiagonal
            | Flip::UpperRightDiagonal
    );
    // The crop is of the picture as it comes, the size of the picture as it goes.
    let (width, height) = match quarter_turn {
        true => (camera.height, camera.width),
        false => (camera.width, camera.height),
    };
    let sides = [
        ("left", "right", "width", left, right, width),
        ("top", "bottom", "height", top, bottom, height),
    ];
    for (first, second, side, from, to, length) in sides {
        let cut = u64::from(from) + u64::from(to);
        if cut > 0 && cut + SIDE.start() > u64::from(length) {
            found.between(
                &[
                    &format!("{path}.crop.{first}"),
                    &format!("{path}.crop.{second}"),
                    &format!("{path}.{side}"),
                    &format!("{path}.flip"),
                ],
                format!("{first} and {second} cut {cut} of {length} pixels"),
                format!("leave at least {} pixels of the {side}", SIDE.start()),
            );
        }
    }
}

fn encoder(found: &mut Findings, camera: &str, encoder: &Encoder) {
    let path = |key: &str| format!("{camera}.encoder.{key}");
    let (min, rate, max) =
        (encoder.bitrate_min_kbps, encoder.bitrate_kbps, encoder.bitrate_max_kbps);
    let (min_path, rate_path, max_path) =
        (path("bitrate_min_kbps"), path("bitrate_kbps"), path("bitrate_max_kbps"));
    for (path, value) in [(&min_path, min), (&rate_path, rate), (&max_path, max)] {
        found.range(path, value.into(), BITRATE_KBPS);
    }
    if min > max {
        found.between(
            &[&min_path, &max_path],
            format!("{min} is more than bitrate_max_kbps, {max}"),
            "set bitrate_min_kbps <= bitrate_kbps <= bitrate_max_kbps",
        );
    } else if !(min..=max).contains(&rate) {
        found.between(
            &[&rate_path, &min_path, &max_path],
            format!("{rate} lies outside bitrate_min_kbps to bitrate_max_kbps, {min} to {max}"),
            format!("choose from {min} to {max}, or move those bounds"),
        );
    }
    found.range(&path("keyframe_interval"), encoder.keyframe_interval.into(), 1..=600);
}

/// What would hang or stop the hardware encoder.
pub(super) fn hardware_encoder(found: &mut Findings, camera: &str, config: &Camera) {
    let kind_path = format!("{camera}.encoder.kind");
    let mut hangs = |key: &str, value: u32, min: u32, issue: &str| {
        if (1..min).contains(&value) {
            found.between(
                &[&format!("{camera}.{key}"), &kind_path],
                format!("{value} hangs the hardware encoder ({issue})"),
                format!("choose {min} or more, or set encoder.kind = \"x264\""),
            );
        }
    };
    hangs("framerate", config.framerate, V4L2_FRAMERATE_MIN, "raspberrypi/linux#4739");
    for (index, rendition) in config.rendition.iter().enumerate() {
        let key = format!("rendition[{index}].framerate");
        let framerate = rendition.framerate.unwrap_or(V4L2_FRAMERATE_MIN);
        hangs(&key, framerate, V4L2_FRAMERATE_MIN, "raspberrypi/linux#4739");
    }
    let interval = config.encoder.keyframe_interval;
    hangs("encoder.keyframe_interval", interval, 2, "raspberrypi/linux#4740");
    for (key, value) in [("width", config.width), ("height", config.height)] {
        if value > V4L2_SIDE_MAX && u64::from(value) <= *SIDE.end() {
            found.between(
                &[&format!("{camera}.{key}"), &kind_path],
                format!("{value} is more than the hardware encoder's {V4L2_SIDE_MAX}"),
                format!("choose {V4L2_SIDE_MAX} or less, or set encoder.kind = \"x264\""),
            );
        }
    }
}

fn renditions(found: &mut Findings, camera: &str, config: &Camera) {
    if config.rendition.len() > RENDITIONS_MAX {
        found.add(
            &format!("{camera}.rendition"),
            format!("has {} entries, and each is an encoder of its own", config.rendition.len()),
            format!("keep to {RENDITIONS_MAX} or fewer"),
        );
    }
    for (index, rendition) in config.rendition.iter().enumerate() {
        let path = format!("{camera}.rendition[{index}]");
        one_rendition(found, camera, &path, rendition, config.framerate);
        let twin = |other: &&RenditionConfig| other.name == rendition.name;
        if !rendition.name.is_empty() && config.rendition[..index].iter().any(|one| twin(&one)) {
            let message = format!("\"{}\" is there twice", rendition.name);
            let remedy = "give each rendition a name of its own";
            found.add(&format!("{path}.name"), message, remedy);
        }
    }
}

fn one_rendition(
    found: &mut Findings,
    camera: &str,
    path: &str,
    rendition: &RenditionConfig,
    camera_framerate: u32,
) {
    let name_path = format!("{path}.name");
    name(found, &name_path, &rendition.name);
    if rendition.name == "main" {
        let message = "\"main\" is the camera's own size, rate and bitrate";
        found.add(&name_path, message, "choose another name, like \"low\"");
    }
    size(found, path, rendition.width, rendition.height);
    found.range(&format!("{path}.bitrate_kbps"), rendition.bitrate_kbps.into(), BITRATE_KBPS);
    let Some(framerate) = rendition.framerate else { return };
    let framerate_path = format!("{path}.framerate");
    found.range(&framerate_path, framerate.into(), 1..=120);
    if framerate > camera_framerate && framerate <= 120 {
        found.between(
            &[&framerate_path, &format!("{camera}.framerate")],
            format!("{framerate} is more than the camera's {camera_framerate}"),
            format!("choose {camera_framerate} or less"),
        );
    }
}

/// A camera whose H.264 is passed through is not decoded, so nothing can be done to its picture.
fn passed_through(found: &mut Findings, path: &str, camera: &Camera) {
    let why = "needs a picture, but this source's H.264 is passed through without decoding";
    let mut refuse = |key: &str, used: bool, remedy: &str| {
        if used {
            found.between(&[&format!("{path}.{key}"), &format!("{path}.source")], why, remedy);
        }
    };
    refuse("flip", camera.flip != Flip::None, "take it out, and turn the picture in the camera");
    refuse("crop", camera.crop != Crop::default(), "take it out, and crop in the camera");
    let encoder = camera.encoder != Encoder::default();
    refuse("encoder", encoder, "take it out, and set bitrate and key frames in the camera");
    refuse(
        "rendition",
        !camera.rendition.is_empty(),
        "take it out, and add the camera's second stream as a [[camera]] of its own",
    );
}

fn watchdog(found: &mut Findings, path: &str, camera: &Camera) {
    let watchdog = &camera.watchdog;
    let (timeout_path, start_path) =
        (format!("{path}.watchdog.timeout_ms"), format!("{path}.watchdog.start_timeout_ms"));
    found.range(&timeout_path, watchdog.timeout_ms, 200..=60_000);
    found.range(&start_path, watchdog.start_timeout_ms, 1_000..=300_000);
    // Two pictures that come late must not pass for a camera that stopped.
    let needed_ms = 3_000 / u64::from(camera.framerate.max(1));
    if camera.framerate > 0 && watchdog.timeout_ms < needed_ms {
        found.between(
            &[&timeout_path, &format!("{path}.framerate")],
            format!("{} is less than three pictures last", watchdog.timeout_ms),
            format!("choose {needed_ms} or more"),
        );
    }
    if watchdog.start_timeout_ms < watchdog.timeout_ms {
        found.between(
            &[&start_path, &timeout_path],
            format!("is less than timeout_ms, {}", watchdog.timeout_ms),
            "give a camera at least as long to start",
        );
    }
}

/// What tells one camera of this machine from another; none where two may share one.
fn device(source: &Source) -> Option<(&'static str, PathBuf)> {
    match source {
        Source::Libcamera { name } => {
            Some(("libcamera", name.as_deref().map(Path::new).unwrap_or(Path::new("")).into()))
        }
        // Links like those in /dev/v4l/by-id lead to the same device.
        Source::V4l2 { device } => {
            Some(("v4l2", device.canonicalize().unwrap_or_else(|_| device.clone())))
        }
        Source::Rtsp { .. } | Source::Simulated(_) => None,
    }
}
