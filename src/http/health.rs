//! What watches over us asks: metrics, liveness, readiness.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::problem::Problem;
use super::{Http, Shared};
use crate::auth::Visitor;
use crate::catalog::Camera;
use crate::clock::Timestamp;
use crate::distributor::Cause;
use crate::egress::session::{End, Transport};
use crate::guard;
use crate::metrics::Metrics;

/// The content type of Prometheus' text format.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Keeps two scrapes at a time from counting the same requests twice.
#[derive(Debug, Default)]
pub(super) struct Health {
    scraping: Mutex<()>,
}

/// Makes the figures of every camera appear at zero, so that a first event is seen as a rise.
pub(super) fn prepare(http: &Http) {
    let metrics = &http.metrics;
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
        for rendition in &camera.renditions {
            metrics.frames_published.with_label_values(&[id, &*rendition.name]).inc_by(0);
        }
    }
}

/// `GET /metrics`
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
pub(super) async fn alive() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// `GET /readyz`: whether every camera delivers.
pub(super) async fn ready(
    State(shared): State<Arc<Shared>>,
    visitor: Option<Extension<Visitor>>,
) -> Response {
    if shared.stopping.is_stopping() {
        return Problem::stopping().into_response();
    }
    let now = Timestamp::now();
    let reasons: Vec<(&Arc<Camera>, Option<String>)> = shared
        .http
        .catalog
        .cameras()
        .iter()
        .map(|camera| (camera, camera.unready_reason(now)))
        .collect();
    // Strangers are told whether all is well; which cameras there are is for who may watch them.
    let known = |id: &str| visitor.as_ref().is_some_and(|visitor| visitor.may_watch(id));
    let cameras: Vec<Value> = reasons
        .iter()
        .filter(|(camera, _)| known(&camera.id))
        .map(|(camera, reason)| {
            json!({ "id": camera.id, "ready": reason.is_none(), "reason": reason })
        })
        .collect();
    let away: Vec<String> = reasons
        .iter()
        .filter_map(|(camera, reason)| match known(&camera.id) {
            true => Some(format!("{}: {}", camera.id, reason.as_ref()?)),
            false => reason.as_ref().map(|_| "a camera is away".to_owned()),
        })
        .collect();
    if away.is_empty() {
        return Json(json!({ "ready": true, "cameras": cameras })).into_response();
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
