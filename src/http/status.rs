//! `GET /api/v1/status`: what an operator asks first, in one answer and without a secret.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::Shared;
use super::api::{CameraState, millis};
use crate::admission::Kind;
use crate::auth::Visitor;
use crate::clock::Timestamp;
use crate::metrics::{Refused, Usage};

/// What `GET /api/v1/status` answers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Status {
    version: &'static str,
    build: Build,
    uptime_s: u64,
    /// When the program started, in milliseconds since the Unix epoch.
    started_unix_ms: u64,
    listening: Listening,
    /// GStreamer's version in words.
    gstreamer: String,
    /// What carries WebRTC media: `str0m` or `webrtcbin`.
    webrtc_engine: &'static str,
    configuration: Configuration,
    cameras: Vec<CameraState>,
    /// The encoder elements in use, each once.
    encoders: Vec<String>,
    sessions: SessionCounts,
    limits: Limits,
    /// Joins refused since the start, by kind and limit.
    refusals: Vec<Refused>,
    process: Usage,
    /// Pipelines since the start that did not stop in time, and hold what they hold.
    teardowns_stuck: u64,
    /// Bugs of this GStreamer that are worked around, in words.
    workarounds: Vec<String>,
}

/// How the program was built.
#[derive(Debug, Serialize, ToSchema)]
struct Build {
    /// `release`, or `debug`, which is slower by far.
    profile: &'static str,
    /// Processor and system.
    #[schema(example = "aarch64-linux")]
    target: String,
}

/// Where the doors are.
#[derive(Debug, Serialize, ToSchema)]
struct Listening {
    #[schema(value_type = String, example = "127.0.0.1:8080")]
    http: SocketAddr,
    #[schema(value_type = String, example = "127.0.0.1:8554")]
    rtsp: SocketAddr,
}

/// Where the configuration is from.
#[derive(Debug, Serialize, ToSchema)]
struct Configuration {
    /// The file that was read; none where the defaults were taken.
    file: Option<String>,
    /// When it was last reloaded, in seconds since the Unix epoch; none where it never was.
    reloaded_unix_s: Option<i64>,
}

/// Sessions now.
#[derive(Debug, Serialize, ToSchema)]
struct SessionCounts {
    total: usize,
    webrtc: usize,
    rtsp: usize,
}

/// The limits in force, and how much of each is used.
#[derive(Debug, Serialize, ToSchema)]
struct Limits {
    webrtc_sessions: Limit,
    rtsp_sessions: Limit,
    /// Used by the address that has most.
    sessions_per_address: Limit,
    /// Used in the last second.
    joins_per_second: Limit,
    http_connections: Limit,
    websockets: Limit,
}

/// One limit.
#[derive(Debug, Serialize, ToSchema)]
struct Limit {
    used: usize,
    max: usize,
}

/// `GET /api/v1/status`
#[utoipa::path(
    get, path = "/api/v1/status", tag = "operate",
    summary = "Version, uptime, cameras, sessions, limits, what the process uses, workarounds",
    responses((status = 200, description = "The status", body = Status))
)]
pub(super) async fn status(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
) -> Json<Status> {
    let http = &shared.http;
    let now = Timestamp::now();
    let cameras = shared.describe_cameras(&visitor, now);
    let mut encoders: Vec<String> = cameras.iter().map(|camera| camera.encoder.clone()).collect();
    encoders.retain(|encoder| !encoder.is_empty());
    encoders.sort();
    encoders.dedup();
    Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        build: Build::running(),
        uptime_s: now.since(http.started).as_secs(),
        started_unix_ms: millis(http.started.to_unix()),
        listening: Listening { http: shared.address, rtsp: http.about.rtsp },
        gstreamer: gst::version_string().to_string(),
        webrtc_engine: http.about.webrtc_engine,
        configuration: Configuration {
            file: http.about.config_file.clone(),
            reloaded_unix_s: Some(http.metrics.reload.applied.get()).filter(|at| *at > 0),
        },
        cameras,
        encoders,
        sessions: SessionCounts {
            total: http.registry.list().len(),
            webrtc: http.admission.sessions(Kind::Webrtc),
            rtsp: http.admission.sessions(Kind::Rtsp),
        },
        limits: shared.limits(now.since(Timestamp::default())),
        refusals: http.metrics.joins_refused(),
        process: http.metrics.usage(),
        teardowns_stuck: http.metrics.teardowns_stuck.get(),
        workarounds: http.workarounds.clone(),
    })
}

impl Build {
    fn running() -> Self {
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
        Self { profile, target }
    }
}

impl Shared {
    fn limits(&self, now: Duration) -> Limits {
        let limit = |(used, max)| Limit { used, max };
        let taken = self.http.admission.taken(now);
        Limits {
            webrtc_sessions: limit(taken.webrtc_sessions),
            rtsp_sessions: limit(taken.rtsp_sessions),
            sessions_per_address: limit(taken.sessions_of_one_address),
            joins_per_second: limit(taken.joins_in_a_second),
            http_connections: limit(self.connections.taken()),
            websockets: limit(self.sockets.taken()),
        }
    }
}
