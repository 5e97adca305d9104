//! What a target may take more, from `soak/budgets.toml`.

use std::fs;
use std::path::Path;

use serde::Deserialize;

/// The budgets that come with this program.
const SHIPPED: &str = include_str!("../budgets.toml");

/// All budgets.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budgets {
    /// What is left out of every life.
    pub warm_up: WarmUp,
    /// Resident memory.
    pub rss: Bytes,
    /// Threads.
    pub threads: Count,
    /// Open file descriptors.
    pub fds: Count,
    /// Live guards.
    pub guards: Count,
    /// Live GStreamer objects.
    pub gst_objects: Count,
    /// The median from encoder to socket.
    pub send_p50: Latency,
    /// The median from capture to a decoded picture.
    pub latency_p50: Latency,
    /// What must not happen more often.
    pub counts: Counts,
    /// What viewers must get.
    pub viewers: Viewers,
    /// Rust's heap.
    pub heap: Heap,
}

/// The larger of a share and a time.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmUp {
    /// Of a life's length.
    pub share: f64,
    /// At least so long.
    pub seconds_min: f64,
}

/// Of memory.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bytes {
    /// For a visitor who came and went.
    pub bytes_per_join: f64,
    /// Besides that.
    pub bytes_per_hour: f64,
    /// When a camera's pipeline is built anew.
    pub bytes_per_camera_restart: f64,
}

/// Of what can be counted.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// For a visitor who came and went.
    pub per_join: f64,
    /// Besides that.
    pub per_hour: f64,
    /// When a camera's pipeline is built anew.
    pub per_camera_restart: f64,
    /// More at rest afterwards than at rest before.
    pub at_rest: f64,
}

/// Of time.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// How much slower by the hour.
    pub ms_per_hour: f64,
}

/// How often something may happen.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// The target ended and began anew.
    pub restarts: usize,
    /// The target did not answer.
    pub silences: usize,
    /// Pipelines that did not stop in time.
    pub teardowns_stuck: usize,
    /// Viewers who lost the picture.
    pub viewer_losses: usize,
    /// Visitors who were not served, as a share of all.
    pub visits_failed_share: f64,
}

/// What viewers must get.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Viewers {
    /// As a share of what was published.
    pub fps_share_min: f64,
}

/// Of Rust's heap.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heap {
    /// That stay for each join.
    pub bytes_per_join: f64,
    /// That stay for each join.
    pub blocks_per_join: f64,
    /// While a WebRTC viewer is there.
    pub bytes_per_webrtc_viewer: f64,
    /// While an RTSP viewer is there.
    pub bytes_per_rtsp_viewer: f64,
    /// For each frame published while nobody watches.
    pub blocks_per_frame: f64,
}

/// Why there are no budgets.
#[derive(Debug, thiserror::Error)]
pub enum BudgetError {
    /// The file cannot be read.
    #[error("{0}: {1}")]
    Unreadable(String, std::io::Error),
    /// It says something else.
    #[error("{0}: {1}\ncompare it with soak/budgets.toml")]
    Malformed(String, toml::de::Error),
}

impl Budgets {
    /// Those of `path`, or those that come with this program.
    ///
    /// # Errors
    /// Where the file cannot be read, or lacks a budget, or has one that nobody knows.
    pub fn read(path: Option<&Path>) -> Result<Self, BudgetError> {
        let name = path.map_or("soak/budgets.toml".into(), |path| path.display().to_string());
        let text = match path {
            Some(path) => fs::read_to_string(path)
                .map_err(|error| BudgetError::Unreadable(name.clone(), error))?,
            None => SHIPPED.to_owned(),
        };
        toml::from_str(&text).map_err(|error| BudgetError::Malformed(name, error))
    }
}
