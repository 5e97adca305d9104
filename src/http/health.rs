//! What watches over us asks: metrics, liveness, readiness.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::problem::Problem;
use super::{Http, Shared};
use crate::admission::{Kind, Refusal};
use crate::auth::Visitor;
use crate::catalog::Camera;
use crate::clock::Timestamp;
use crate::distributor::Cause;
use crate::egress::session::{End, Transport};
use crate::guard;
use crate::metrics::Metrics;

/// The content type of Prometheus' text format.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What `GET /healthz` answers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Alive {
    /// Always `ok`.
    #[schema(example = "ok")]
    status: &'static str,
}

/// What `GET /readyz` answers where every camera delivers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ready {
    ready: bool,
    cameras: Vec<CameraReady>,
}

/// Whether a camera delivers.
#[derive(Debug, Serialize, ToSchema)]
struct CameraReady {
    id: Arc<str>,
    ready: bool,
    /// Why it does not.
    reason: Option<String>,
}

/// Keeps two scrapes at a time from counting the same requests twice.
#[derive(Debug, Default)]
pub(super) struct Health {
    scraping: Mutex<()>,
}

/// Makes the figures of every camera appear at zero, so that a first event is seen as a rise.
pub(super) fn prepare(http: &Http) {
    let metrics = &http.metrics;
    for kind in [Kind::Webrtc, Kind::Rtsp] {
        for reason in Refusal::NAMES {
            metrics.sessions_refused.with_label_values(&[kind.as_str(), reason]).inc_by(0);
        }
    }
    for camera in http.catalog.cameras() {
        let id = &*camera.id;
        for transport in [Transport::Webrtc, Transport::RtspTcp, Transport::RtspUdp] {
            let labels = [id, transport.as_str()];
            metrics.frames_delivered.with_label_values(&labels).inc_by(0);
            metrics.frames_skipped.with_label_values(&labels).inc_by(0);
            metrics.sessions.with_label_values(&labels).add(0);
            for end in End::ALL {
                let labels = [id, transport.as_str(), end.as_str()];
                metrics.sessions_ended.with_label_values(&labels).inc_by(0);
            }
        }
        metrics.snapshots_decoded.with_label_values(&[id]).inc_by(0);
        for rendition in &camera.renditions {
            metrics.frames_published.with_label_values(&[id, &*rendition.name]).inc_by(0);
        }
    }
}

/// `GET /metrics`
#[utoipa::path(
    get, path = "/metrics", tag = "operate", summary = "Prometheus' text format",
    responses((status = 200, description = "The figures", content_type = "text/plain", body = String))
)]
pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let _alone = shared.health.scraping.lock().unwrap_or_else(PoisonError::into_inner);
    let metrics = &shared.http.metrics;
    for (kind, live) in guard::live() {
        metrics.guards_live.with_label_values(&[kind.as_str()]).set(live);
    }
    for camera in shared.http.catalog.cameras() {
        count_key_frame_requests(metrics, camera);
    }
    let text = metrics.render().map_err(|error| Problem::internal(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, EXPOSITION)], text).into_response())
}

/// `GET /healthz`: that this answers is the answer.
#[utoipa::path(
    get, path = "/healthz", tag = "operate", summary = "Liveness",
    responses((status = 200, description = "Alive", body = Alive))
)]
pub(super) async fn alive() -> Json<Alive> {
    Json(Alive { status: "ok" })
}

/// `GET /readyz`: whether every camera delivers.
#[utoipa::path(
    get, path = "/readyz", tag = "operate",
    summary = "Readiness: whether every camera delivers; the problem's `cameras` say which does not",
    responses((status = 200, description = "Ready", body = Ready))
)]
pub(super) async fn ready(
    State(shared): State<Arc<Shared>>,
    visitor: Option<Extension<Visitor>>,
) -> Response {
    if shared.stopping.is_stopping() {
        return Problem::stopping().into_response();
    }
    let now = Timestamp::now();
    let described = |camera: &Arc<Camera>| {
        let reason = camera.unready_reason(now);
        CameraReady { id: Arc::clone(&camera.id), ready: reason.is_none(), reason }
    };
    let mut cameras: Vec<CameraReady> =
        shared.http.catalog.cameras().iter().map(described).collect();
    // Strangers are told whether all is well; which cameras there are is for who may watch them.
    let known = |id: &str| visitor.as_ref().is_some_and(|visitor| visitor.may_watch(id));
    let away: Vec<String> = cameras
        .iter()
        .filter_map(|camera| match known(&camera.id) {
            true => Some(format!("{}: {}", camera.id, camera.reason.as_ref()?)),
            false => camera.reason.as_ref().map(|_| "a camera is away".to_owned()),
        })
        .collect();
    cameras.retain(|camera| known(&camera.id));
    if away.is_empty() {
        return Json(Ready { ready: true, cameras }).into_response();
    }
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "not-ready",
        "A camera does not deliver",
        away.join("; "),
        "wait for the camera, or look in the log for why it was lost",
    )
    .retry_after(std::time::Duration::from_secs(2))
    .member("ready", json!(false))
    .member("cameras", json!(cameras))
    .into_response()
}

/// Brings the counters up to what the camera's hubs have counted.
fn count_key_frame_requests(metrics: &Metrics, camera: &Camera) {
    for cause in Cause::ALL {
        let hubs = camera.renditions.iter().map(|rendition| &rendition.hub);
        let requests: u64 = hubs.map(|hub| hub.key_frame_requests(cause)).sum();
        let counter = metrics.keyframe_requests.with_label_values(&[&*camera.id, cause.as_str()]);
        counter.inc_by(requests.saturating_sub(counter.get()));
    }
}
