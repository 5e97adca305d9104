//! `/api/v1`: what there is, who watches, and what can be changed while it runs.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::problem::Problem;
use super::{Shared, gate};
use crate::admission::Kind;
use crate::auth::Visitor;
use crate::catalog::{Camera, Control, Rendition};
use crate::clock::Timestamp;
use crate::distributor::Cause;
use crate::egress::session::{End, Session};

/// The description of all of this; `routes` and it are held together by a test.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

/// The highest bitrate that makes any sense, in thousands of bits a second.
const BITRATE_KBPS_MAX: u32 = 200_000;

/// What `PATCH /api/v1/cameras/{id}` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    bitrate_kbps: Option<u32>,
    rendition: Option<String>,
    #[serde(default)]
    keyframe: bool,
    #[serde(default)]
    restart: bool,
}

impl Change {
    /// Reads an object and nothing else: serde takes a list for one, by position.
    fn parse(body: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        if !value.is_object() {
            return Err("the body is no JSON object".into());
        }
        serde_json::from_value(value).map_err(|error| error.to_string())
    }
}

/// `GET /api/v1/status`
pub(super) async fn status(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
) -> Json<Value> {
    let http = &shared.http;
    let now = Timestamp::now();
    let mut encoders: Vec<String> =
        shared.cameras(&visitor).iter().map(|camera| camera.status().encoder).collect();
    encoders.retain(|encoder| !encoder.is_empty());
    encoders.sort();
    encoders.dedup();
    let cameras: Vec<Value> =
        shared.cameras(&visitor).iter().map(|camera| shared.describe(camera, now)).collect();
    let sessions = http.registry.list();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "gstreamer": gst::version_string().as_str(),
        "uptime_s": now.since(http.started).as_secs(),
        "started_unix_ms": millis(http.started.to_unix()),
        "cameras": cameras,
        "encoders": encoders,
        "sessions": {
            "total": sessions.len(),
            "webrtc": http.admission.sessions(Kind::Webrtc),
            "rtsp": http.admission.sessions(Kind::Rtsp),
        },
        "workarounds": http.workarounds,
    }))
}

/// `GET /api/v1/cameras`
pub(super) async fn cameras(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
) -> Json<Value> {
    let now = Timestamp::now();
    let cameras: Vec<Value> =
        shared.cameras(&visitor).iter().map(|camera| shared.describe(camera, now)).collect();
    Json(json!({ "cameras": cameras, "ice_servers": shared.http.ice_servers }))
}

/// `GET /api/v1/cameras/{id}`
pub(super) async fn camera(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(shared.describe(shared.camera(&id)?, Timestamp::now())))
}

/// `PATCH /api/v1/cameras/{id}`: answers with the camera as it is then.
pub(super) async fn change(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    let camera = shared.camera(&id)?;
    let body = gate::read_body(&headers, body, "application/json", None).await?;
    let change = Change::parse(&body).map_err(bad_change)?;
    let rendition = shared.rendition(&id, change.rendition.as_deref())?;
    if change.bitrate_kbps.is_none() && !change.keyframe && !change.restart {
        return Err(bad_change("nothing is to be changed".into()));
    }
    if let Some(bitrate_kbps) = change.bitrate_kbps {
        let bitrate_bps = bits(bitrate_kbps)?;
        let control = Control::Bitrate { rendition: Arc::clone(&rendition.name), bitrate_bps };
        run(camera, control).await?;
    }
    if change.restart {
        run(camera, Control::Restart).await?;
    }
    if change.keyframe {
        rendition.hub.request_key_frame(Cause::Operator);
    }
    tracing::info!(camera = %camera.id, ?change, "camera changed by the API");
    Ok(Json(shared.describe(camera, Timestamp::now())))
}

/// `GET /api/v1/sessions`
pub(super) async fn sessions(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
) -> Json<Value> {
    let now = Timestamp::now();
    let sessions: Vec<Value> =
        shared.sessions(&visitor).iter().map(|session| describe_session(session, now)).collect();
    Json(json!({ "sessions": sessions }))
}

/// `GET /api/v1/sessions/{id}`
pub(super) async fn session(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let session = shared.session(&visitor, &id)?;
    Ok(Json(describe_session(&session, Timestamp::now())))
}

/// `DELETE /api/v1/sessions/{id}`
pub(super) async fn end(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let session = shared.session(&visitor, &id)?;
    session.end(End::Operator);
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /api/v1/openapi.json`
pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

impl Shared {
    fn describe(&self, camera: &Camera, now: Timestamp) -> Value {
        let status = camera.status();
        let reason = camera.unready_reason(now);
        let watching = |session: &&Arc<Session>| session.rendition.camera == camera.id;
        let sessions = self.http.registry.list().iter().filter(watching).count();
        let renditions: Vec<Value> = camera
            .renditions
            .iter()
            .map(|rendition| self.describe_rendition(rendition, now))
            .collect();
        json!({
            "id": camera.id,
            "ready": reason.is_none(),
            "reason": reason,
            "health": status.health,
            "source": status.source,
            "encoder": status.encoder,
            "restarts": status.restarts,
            "sessions": sessions,
            "renditions": renditions,
        })
    }

    fn describe_rendition(&self, rendition: &Rendition, now: Timestamp) -> Value {
        let labels = [&*rendition.camera, &*rendition.name];
        let format = rendition.format();
        let format = format.as_deref();
        json!({
            "name": rendition.name,
            "width": format.map(|format| format.width),
            "height": format.map(|format| format.height),
            "framerate": format.map(|format| {
                f64::from(format.framerate.0) / f64::from(format.framerate.1.max(1))
            }),
            "profile_level_id": format.and_then(|format| format.profile_level_id()),
            "bitrate_bps": self.http.metrics.encoder_bitrate_bps.with_label_values(&labels).get(),
            "published": rendition.hub.published(),
            "subscribers": rendition.hub.subscribers(),
            "last_frame_age_ms": rendition.last_frame().map(|last| millis(now.since(last))),
        })
    }
}

fn describe_session(session: &Session, now: Timestamp) -> Value {
    let mut value = json!({
        "id": session.id,
        "transport": session.transport,
        "camera": session.rendition.camera,
        "rendition": session.rendition.name,
        "address": session.address,
        "user": session.user,
        "age_ms": millis(now.since(session.started)),
        "end": session.end_reason(),
    });
    if let (Value::Object(value), Ok(Value::Object(stats))) =
        (&mut value, serde_json::to_value(&session.stats))
    {
        value.extend(stats);
    }
    value
}

async fn run(camera: &Camera, control: Control) -> Result<(), Problem> {
    camera.control(control).await.map_err(|error| Problem::control(camera, &error))
}

fn bits(bitrate_kbps: u32) -> Result<u32, Problem> {
    if bitrate_kbps == 0 || bitrate_kbps > BITRATE_KBPS_MAX {
        return Err(bad_change(format!("bitrate_kbps is not within 1 and {BITRATE_KBPS_MAX}")));
    }
    Ok(bitrate_kbps * 1000)
}

fn bad_change(detail: String) -> Problem {
    Problem::unprocessable(
        "bad-change",
        "The change makes no sense",
        detail,
        "send a JSON object with any of: bitrate_kbps (number), rendition (name), \
         keyframe (true), restart (true)",
    )
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
