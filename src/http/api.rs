//! `/api/v1`: what there is, who watches, and what can be changed while it runs.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::extract::Path;
use super::openapi::{No, NoBody};
use super::problem::Problem;
use super::{Shared, gate};
use crate::auth::Visitor;
use crate::catalog::{Camera, Control, Health, Rendition};
use crate::clock::Timestamp;
use crate::distributor::Cause;
use crate::egress::session::{End, Session, SessionId, Stats, Transport};
use crate::egress::webrtc::servers::IceServer;

/// The highest bitrate that makes any sense, in thousands of bits a second.
const BITRATE_KBPS_MAX: u32 = 200_000;

/// What `PATCH /api/v1/cameras/{id}` takes: something of it.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = CameraChange, example = json!({ "bitrate_kbps": 1200, "keyframe": true }))]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    /// Thousands of bits a second from now on.
    #[schema(minimum = 1, maximum = 200_000)]
    bitrate_kbps: Option<u32>,
    /// Which rendition is meant; `main` where not given.
    rendition: Option<String>,
    /// Asks for a key frame.
    #[serde(default)]
    keyframe: bool,
    /// Tears the camera down and builds it anew; viewers stay.
    #[serde(default)]
    restart: bool,
}

/// What `GET /api/v1/cameras` answers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Cameras {
    cameras: Vec<CameraState>,
    /// For viewers' `RTCPeerConnection`.
    ice_servers: Vec<IceServer>,
}

/// A camera as it is now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Camera)]
pub(super) struct CameraState {
    /// The name in the configuration and in every address.
    #[schema(value_type = String, example = "sim")]
    id: Arc<str>,
    /// Whether every rendition delivers.
    ready: bool,
    /// Why not.
    reason: Option<String>,
    health: Health,
    /// The source in words.
    #[schema(example = "simulated")]
    source: String,
    /// The encoder's element; `none` where H.264 is passed through.
    #[schema(example = "x264enc")]
    pub(super) encoder: String,
    /// How often the camera was rebuilt since the start.
    restarts: u64,
    /// Sessions that watch it now.
    sessions: usize,
    renditions: Vec<RenditionState>,
}

/// One encode of a camera as it is now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Rendition)]
struct RenditionState {
    #[schema(value_type = String, example = "main")]
    name: Arc<str>,
    /// Pixels; none before the first key frame.
    width: Option<u32>,
    height: Option<u32>,
    /// Frames a second.
    framerate: Option<f64>,
    /// Of RFC 6184, in hexadecimal.
    #[schema(example = "42c01f")]
    profile_level_id: Option<String>,
    /// What the encoder is told to produce.
    bitrate_bps: f64,
    /// Frames since the start.
    published: u64,
    /// Viewers that are fed.
    subscribers: usize,
    last_frame_age_ms: Option<u64>,
}

/// What `GET /api/v1/sessions` answers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Sessions {
    sessions: Vec<SessionState>,
}

/// A session as it is now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Session)]
pub(super) struct SessionState {
    id: SessionId,
    transport: Transport,
    #[schema(value_type = String, example = "sim")]
    camera: Arc<str>,
    #[schema(value_type = String, example = "main")]
    rendition: Arc<str>,
    /// Where the viewer is.
    #[schema(value_type = String, example = "192.0.2.7:51234")]
    address: SocketAddr,
    /// Who it is, where visitors must say so.
    #[schema(value_type = Option<String>, example = "anna")]
    user: Option<Arc<str>>,
    age_ms: u64,
    /// Why it is about to end.
    end: Option<End>,
    #[serde(flatten)]
    stats: Arc<Stats>,
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

/// `GET /api/v1/cameras`
#[utoipa::path(
    get, path = "/api/v1/cameras", tag = "operate",
    summary = "The cameras that you may watch, and the ICE servers for viewers",
    responses((status = 200, description = "The cameras", body = Cameras))
)]
pub(super) async fn cameras(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
) -> Json<Cameras> {
    let cameras = shared.describe_cameras(&visitor, Timestamp::now());
    Json(Cameras { cameras, ice_servers: shared.http.ice_servers.clone() })
}

/// `GET /api/v1/cameras/{id}`
#[utoipa::path(
    get, path = "/api/v1/cameras/{id}", tag = "operate", summary = "One camera",
    params(("id" = String, Path, description = "The camera's id", example = "sim")),
    responses((status = 200, description = "The camera", body = CameraState), No<404>)
)]
pub(super) async fn camera(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Json<CameraState>, Problem> {
    Ok(Json(shared.describe(shared.camera(&id)?, Timestamp::now())))
}

/// `PATCH /api/v1/cameras/{id}`: answers with the camera as it is then.
#[utoipa::path(
    patch, path = "/api/v1/cameras/{id}", tag = "operate", summary = "Change it while it runs",
    params(("id" = String, Path, description = "The camera's id", example = "sim")),
    request_body = Change,
    responses(
        (status = 200, description = "The camera as it is now", body = CameraState),
        NoBody, No<404>, No<409>,
    )
)]
pub(super) async fn change(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<CameraState>, Problem> {
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
    tracing::info!(camera = %camera.id, user = visitor.name().map(AsRef::<str>::as_ref), ?change, "camera changed by the API");
    Ok(Json(shared.describe(camera, Timestamp::now())))
}

/// `GET /api/v1/sessions`
#[utoipa::path(
    get, path = "/api/v1/sessions", tag = "operate",
    summary = "The sessions that watch cameras which you may watch",
    responses((status = 200, description = "The sessions", body = Sessions))
)]
pub(super) async fn sessions(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
) -> Json<Sessions> {
    let now = Timestamp::now();
    let sessions = shared.sessions(&visitor);
    let sessions = sessions.iter().map(|session| SessionState::of(session, now)).collect();
    Json(Sessions { sessions })
}

/// `GET /api/v1/sessions/{id}`
#[utoipa::path(
    get, path = "/api/v1/sessions/{id}", tag = "operate", summary = "One session",
    params(("id" = String, Path, description = "The session's id")),
    responses((status = 200, description = "The session", body = SessionState), No<404>)
)]
pub(super) async fn session(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
) -> Result<Json<SessionState>, Problem> {
    let session = shared.session(&visitor, &id)?;
    Ok(Json(SessionState::of(&session, Timestamp::now())))
}

/// `DELETE /api/v1/sessions/{id}`
#[utoipa::path(
    delete, path = "/api/v1/sessions/{id}", tag = "operate", summary = "End it",
    params(("id" = String, Path, description = "The session's id")),
    responses((status = 204, description = "It ends"), No<404>)
)]
pub(super) async fn end(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let session = shared.session(&visitor, &id)?;
    let user = visitor.name().map(AsRef::<str>::as_ref);
    tracing::info!(session = %session.id, user, "session ended by the API");
    session.end(End::Operator);
    Ok(StatusCode::NO_CONTENT)
}

impl Shared {
    pub(super) fn describe_cameras(&self, visitor: &Visitor, now: Timestamp) -> Vec<CameraState> {
        self.cameras(visitor).iter().map(|camera| self.describe(camera, now)).collect()
    }

    fn describe(&self, camera: &Camera, now: Timestamp) -> CameraState {
        let status = camera.status();
        let reason = camera.unready_reason(now);
        let watching = |session: &&Arc<Session>| session.rendition.camera == camera.id;
        CameraState {
            id: Arc::clone(&camera.id),
            ready: reason.is_none(),
            reason,
            health: status.health,
            source: status.source,
            encoder: status.encoder,
            restarts: status.restarts,
            sessions: self.http.registry.list().iter().filter(watching).count(),
            renditions: camera
                .renditions
                .iter()
                .map(|one| self.describe_rendition(one, now))
                .collect(),
        }
    }

    fn describe_rendition(&self, rendition: &Rendition, now: Timestamp) -> RenditionState {
        let labels = [&*rendition.camera, &*rendition.name];
        let format = rendition.format();
        let format = format.as_deref();
        RenditionState {
            name: Arc::clone(&rendition.name),
            width: format.map(|format| format.width),
            height: format.map(|format| format.height),
            framerate: format
                .map(|format| f64::from(format.framerate.0) / f64::from(format.framerate.1.max(1))),
            profile_level_id: format.and_then(|format| format.profile_level_id()),
            bitrate_bps: self.http.metrics.encoder_bitrate_bps.with_label_values(&labels).get(),
            published: rendition.hub.published(),
            subscribers: rendition.hub.subscribers(),
            last_frame_age_ms: rendition.last_frame().map(|last| millis(now.since(last))),
        }
    }
}

impl SessionState {
    fn of(session: &Session, now: Timestamp) -> Self {
        Self {
            id: session.id.clone(),
            transport: session.transport,
            camera: Arc::clone(&session.rendition.camera),
            rendition: Arc::clone(&session.rendition.name),
            address: session.address,
            user: session.user.clone(),
            age_ms: millis(now.since(session.started)),
            end: session.end_reason(),
            stats: Arc::clone(&session.stats),
        }
    }
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

pub(super) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
