//! FRAMES IN: from a camera to the distributor. Knows nothing of viewers.
//!
//! ```text
//! source ─ crop/scale/flip/convert ─┬─ encoder ─ h264parse ─ appsink ─▶ tap ─▶ Publisher
//!  (only what is needed)            └─ scale ─ encoder ─ …   (a tee where there are several)
//! ```
//!
//! - `source` with `simulated`, `v4l2`, `libcamera`, `rtsp`: where pictures come from.
//! - `plan`: what a pipeline is made of, as plain values (`spec`) from pure functions.
//! - `pipeline`: builds and starts what was planned; `probes`: what is done to buffers in passing.
//! - `encoder`, `slot`, `keyframe`: bitrate and key frames on demand, also across rebuilds.
//! - `tap` with `nal`, `timeline`: checks, copies once, stamps and publishes access units.
//! - `watchdog`, `lost`, `supervisor`: notices when a camera stops, and rebuilds it with back-off
//!   while sessions stay up.

mod encoder;
pub mod keyframe;
mod libcamera;
mod lost;
mod pipeline;
mod plan;
mod probes;
mod rtsp;
pub mod simulated;
mod slot;
mod source;
mod spec;
mod supervisor;
mod tap;
#[cfg(test)]
mod tests;
pub mod timeline;
mod v4l2;
pub mod watchdog;

use std::sync::Arc;
use std::time::Duration;

use crate::catalog::{self, MAIN_RENDITION, Rendition};
use crate::config;
use crate::distributor;
use crate::elements;
use crate::error::Error;
use crate::frame::Frame;
use crate::guard::Teardowns;
use crate::metrics::Metrics;
use crate::shutdown::Stopping;
use slot::Slot;
use source::Source;
pub use supervisor::Backoff;
use supervisor::Supervisor;
use tap::Tap;

/// Frames that a ring retains: more than a subscriber may lag behind, and a GOP of two seconds
/// at 60 frames a second twice over.
const RING_FRAMES: usize = 256;

/// Seats of a ring, whatever the limits say: fewer than it has slots, as each reader may pin one.
const SUBSCRIBERS_MAX: usize = 200;

/// Seats beyond those of sessions: tests, snapshots, a session that is just going.
const SEATS_SPARE: usize = 8;

/// A viewer who joins starts on a key frame that is at most so many frames old.
const JOIN_FRAMES_MAX: u64 = 8;

/// A camera that was opened and is to be run: [`Runner::run`] is its life.
#[derive(Debug)]
#[must_use = "a camera that is not run delivers nothing"]
pub struct Runner {
    supervisor: Supervisor,
}

impl Runner {
    /// Delivers frames, and rebuilds the camera when it is lost, until the program stops. Must
    /// run on a tokio runtime.
    pub async fn run(self) {
        self.supervisor.run().await;
    }
}

/// Makes the camera that `config` describes known, and gives what will run it. GStreamer must be
/// initialised. No device is opened here: one that is away is waited for by [`Runner::run`].
///
/// # Errors
/// Where an element is missing, or the configuration asks for what the source cannot do.
pub fn open(
    config: &config::Camera,
    limits: &config::Limits,
    metrics: Arc<Metrics>,
    teardowns: Teardowns,
    stopping: Stopping,
) -> Result<(Arc<catalog::Camera>, Runner), Error> {
    for element in ["h264parse", "appsink", "capsfilter"] {
        elements::require(element)?;
    }
    let source = Source::new(config)?;
    let encoder = if source.is_encoded_here() {
        let hardware = config::suits_hardware_encoder(config);
        let usable = |element: &str| match config.encoder.kind {
            config::EncoderKind::Auto if element == "v4l2h264enc" && !hardware => false,
            _ => elements::available(element),
        };
        elements::choose_encoder(usable, config.encoder.kind)?
    } else {
        "none"
    };
    let id: Arc<str> = config.id.as_str().into();
    let (mut taps, mut slots) = (Vec::new(), Vec::new());
    for (name, framerate, bitrate_kbps) in renditions(config) {
        let ring = ring(limits, framerate);
        let (publisher, hub) = distributor::channel::<Frame>(ring)
            .map_err(|error| Error::Internal(format!("camera {id}: {error}")))?;
        let rendition = Rendition::new(Arc::clone(&id), name.into(), hub);
        taps.push(Tap::new(rendition, publisher, &metrics));
        slots.push(Arc::new(slot(config, &metrics, name, bitrate_kbps)));
    }
    let known = taps.iter().map(|tap| Arc::clone(tap.rendition())).collect();
    let timeout = Duration::from_millis(config.watchdog.timeout_ms);
    let (camera, requests) = catalog::Camera::new(id, known, source.describe(), timeout);
    let supervisor = Supervisor {
        config: config.clone(),
        source: Arc::new(source),
        encoder,
        camera: Arc::clone(&camera),
        taps,
        slots,
        requests,
        metrics,
        teardowns,
        stopping,
    };
    Ok((camera, Runner { supervisor }))
}

/// Name, frames a second and bitrate in kbit/s of every rendition, the main one first.
fn renditions(config: &config::Camera) -> impl Iterator<Item = (&str, u32, u32)> {
    let main = (MAIN_RENDITION, config.framerate, config.encoder.bitrate_kbps);
    let further = config.rendition.iter().map(|rendition| {
        let framerate = rendition.framerate.unwrap_or(config.framerate);
        (rendition.name.as_str(), framerate, rendition.bitrate_kbps)
    });
    std::iter::once(main).chain(further)
}

/// The limits of a rendition's ring: a seat for every session there may be, and a second of lag.
pub fn ring(limits: &config::Limits, framerate: u32) -> distributor::Limits {
    let sessions = limits.webrtc_sessions_max.saturating_add(limits.rtsp_sessions_max);
    distributor::Limits {
        ring_frames: RING_FRAMES,
        subscribers_max: sessions.saturating_add(SEATS_SPARE).min(SUBSCRIBERS_MAX),
        lag_frames_max: u64::from(framerate.clamp(JOIN_FRAMES_MAX as u32, 120)),
        join_frames_max: JOIN_FRAMES_MAX,
    }
}

/// The place for a rendition's encoder. All renditions share the camera's bounds; the least is
/// lowered to a rendition's own bitrate where that lies below.
fn slot(config: &config::Camera, metrics: &Metrics, name: &str, bitrate_kbps: u32) -> Slot {
    let bps = |kbps: u32| kbps.saturating_mul(1_000);
    let min = config.encoder.bitrate_min_kbps.min(bitrate_kbps);
    let max = config.encoder.bitrate_max_kbps.max(bitrate_kbps);
    let gauge = metrics.encoder_bitrate_bps.with_label_values(&[config.id.as_str(), name]);
    Slot::new(bps(bitrate_kbps), (bps(min), bps(max)), gauge)
}
