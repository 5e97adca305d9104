//! What there is to watch: every camera and rendition by name.
//!
//! The place where the two halves meet without knowing each other: `camera` fills it, `egress`
//! and `http` look things up in it. Frames go down through each rendition's [`Hub`], key-frame
//! requests come back up through it, and changes asked for at run time go up through
//! [`Camera::control`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::distributor::Hub;
use crate::frame::Frame;

/// How long a change asked for at run time may take before the asker is told that it failed.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(2);

/// Name of the rendition that every camera has: the camera's own size, rate and bitrate.
pub const MAIN_RENDITION: &str = "main";

/// All cameras, fixed from start to stop.
#[derive(Debug)]
pub struct Catalog {
    cameras: Vec<Arc<Camera>>,
}

/// One camera as the rest of the program sees it.
#[derive(Debug)]
pub struct Camera {
    /// The `id` of the configuration, and the path under which it is watched.
    pub id: Arc<str>,
    /// The renditions; the first is [`MAIN_RENDITION`].
    pub renditions: Vec<Arc<Rendition>>,
    /// How long the camera may deliver nothing before it counts as not ready.
    pub watchdog_timeout: Duration,
    status: Mutex<Status>,
    control: mpsc::Sender<ControlRequest>,
}

/// What a camera is doing, as `/api/v1/cameras` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Starting, running, or lost.
    pub health: Health,
    /// The source in words: `simulated`, `/dev/video0`, …
    pub source: String,
    /// The encoder element in use, `none` for a camera whose H.264 is passed through.
    pub encoder: String,
    /// How often the camera was rebuilt since the start.
    pub restarts: u64,
}

/// Whether frames flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Health {
    /// The pipeline is being built; no frame came yet.
    Starting,
    /// Frames flow.
    Running,
    /// Frames have stopped, and the camera is being rebuilt.
    Lost {
        /// Why, in words for the operator.
        reason: String,
    },
}

/// One encode of one camera.
#[derive(Debug)]
pub struct Rendition {
    /// The camera's `id`.
    pub camera: Arc<str>,
    /// The rendition's name.
    pub name: Arc<str>,
    /// Where its frames are handed out, and key frames are asked for.
    pub hub: Hub<Frame>,
    format: watch::Sender<Option<Arc<Format>>>,
    last_frame: Mutex<Option<Timestamp>>,
}

/// What the encoded frames of a rendition are like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Frames a second, as a fraction.
    pub framerate: (u32, u32),
    /// The sequence parameter set, without start code.
    pub sps: Vec<u8>,
    /// The picture parameter set, without start code.
    pub pps: Vec<u8>,
}

impl Format {
    /// `profile-level-id` of RFC 6184: profile, constraint flags and level, in hexadecimal.
    pub fn profile_level_id(&self) -> Option<String> {
        let bytes = self.sps.get(1..4)?;
        Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// A change asked for at run time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Encode this rendition at this many bits a second from now on.
    Bitrate {
        /// Name of the rendition.
        rendition: Arc<str>,
        /// The new target in bits a second.
        bitrate_bps: u32,
    },
    /// Tear the camera down and build it anew.
    Restart,
}

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The camera is down or busy; it did not answer in time.
    #[error("the camera is not running; try again when it is")]
    NotRunning,
    /// The camera cannot do it.
    #[error("{0}")]
    Refused(String),
}

/// A [`Control`] with the way to answer it; what the camera receives.
#[derive(Debug)]
pub struct ControlRequest {
    /// What is asked for.
    pub control: Control,
    /// Where the answer goes. The asker may have stopped listening.
    pub answer: oneshot::Sender<Result<(), ControlError>>,
}

impl Catalog {
    /// A catalog of these cameras, in this order.
    pub fn new(cameras: Vec<Arc<Camera>>) -> Self {
        Self { cameras }
    }

    /// The cameras in the order of the configuration.
    pub fn cameras(&self) -> &[Arc<Camera>] {
        &self.cameras
    }

    /// The camera called `id`.
    pub fn camera(&self, id: &str) -> Option<&Arc<Camera>> {
        self.cameras.iter().find(|camera| &*camera.id == id)
    }
}

impl Camera {
    /// A camera that is starting, and the end at which it receives changes.
    pub fn new(
        id: Arc<str>,
        renditions: Vec<Arc<Rendition>>,
        source: String,
        watchdog_timeout: Duration,
    ) -> (Arc<Self>, mpsc::Receiver<ControlRequest>) {
        let (control, requests) = mpsc::channel(8);
        let status =
            Status { health: Health::Starting, source, encoder: String::new(), restarts: 0 };
        let camera = Self { id, renditions, watchdog_timeout, status: Mutex::new(status), control };
        (Arc::new(camera), requests)
    }

    /// The rendition called `name`, or the main one.
    pub fn rendition(&self, name: Option<&str>) -> Option<&Arc<Rendition>> {
        let name = name.unwrap_or(MAIN_RENDITION);
        self.renditions.iter().find(|rendition| &*rendition.name == name)
    }

    /// What the camera is doing.
    pub fn status(&self) -> Status {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what the camera is doing; for `camera` only.
    pub fn update_status(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Why the camera is not ready, in words; `None` where every rendition delivers.
    pub fn unready_reason(&self, now: Timestamp) -> Option<String> {
        if let Health::Lost { reason } = self.status().health {
            return Some(reason);
        }
        self.renditions.iter().find_map(|rendition| match rendition.last_frame() {
            None => Some(format!("rendition {} has delivered no frame yet", rendition.name)),
            Some(last) if now.since(last) > self.watchdog_timeout => Some(format!(
                "rendition {} has delivered no frame for {} ms",
                rendition.name,
                now.since(last).as_millis()
            )),
            Some(_) => None,
        })
    }

    /// Asks the camera for a change and waits, with a bound, for its answer.
    ///
    /// # Errors
    /// Where the camera is down or cannot do it.
    pub async fn control(&self, control: Control) -> Result<(), ControlError> {
        let (answer, reply) = oneshot::channel();
        let request = ControlRequest { control, answer };
        self.control.try_send(request).map_err(|_| ControlError::NotRunning)?;
        match tokio::time::timeout(CONTROL_TIMEOUT, reply).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(ControlError::NotRunning),
        }
    }
}

impl Rendition {
    /// A rendition of which nothing is known yet.
    pub fn new(camera: Arc<str>, name: Arc<str>, hub: Hub<Frame>) -> Arc<Self> {
        let format = watch::Sender::new(None);
        Arc::new(Self { camera, name, hub, format, last_frame: Mutex::new(None) })
    }

    /// What its frames are like, once the first key frame has shown it.
    pub fn format(&self) -> Option<Arc<Format>> {
        self.format.borrow().clone()
    }

    /// Waits until the format is known; the caller bounds the wait.
    pub async fn format_known(&self) -> Option<Arc<Format>> {
        let mut receiver = self.format.subscribe();
        let format = receiver.wait_for(Option::is_some).await.ok()?;
        format.clone()
    }

    /// Notes the format; for `camera` only.
    pub fn set_format(&self, format: Format) {
        self.format.send_if_modified(|current| {
            let changed = current.as_deref() != Some(&format);
            if changed {
                *current = Some(Arc::new(format));
            }
            changed
        });
    }

    /// When the last frame was published.
    pub fn last_frame(&self) -> Option<Timestamp> {
        *self.last_frame.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a frame was published; for `camera` only.
    pub fn saw_frame(&self, now: Timestamp) {
        *self.last_frame.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }
}
