//! WHEP (draft-ietf-wish-whep-03): a viewer comes in with one POST and leaves with one DELETE.
//!
//! Full ICE restarts are not offered, so a session has one ETag for life and a fragment with
//! other ICE credentials is answered with 422, as the draft has it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Extension, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::extract::{Choice, Path, Query};
use super::openapi::{No, NoBody};
use super::problem::Problem;
use super::sdp::{Fragment, OfferFacts};
use super::signalling::{CandidateError, OpenError, Opened, Viewer};
use super::{Shared, door, gate};
use crate::admission::{Kind, Permit, Refusal};
use crate::auth::{Denied, Visitor};
use crate::catalog::Rendition;
use crate::clock::Timestamp;
use crate::descriptors;
use crate::egress::session::{End, Registry, Session, Transport};
use crate::egress::webrtc::servers::IceServer;
use crate::log;
use crate::rate::Rate;

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// What is remembered of sessions that came in over WHEP; never more than there are sessions.
#[derive(Debug, Default)]
pub(super) struct Whep {
    sessions: Mutex<HashMap<String, Arc<Facts>>>,
}

#[derive(Debug)]
struct Facts {
    camera: Arc<str>,
    etag: String,
    offer: OfferFacts,
    patches: Mutex<Rate>,
}

impl Facts {
    /// Counts a change that is asked for, where it may be.
    fn count(&self) -> Result<(), Problem> {
        let mut patches = self.patches.lock().unwrap_or_else(PoisonError::into_inner);
        if patches.take(Timestamp::now().since_boot()) {
            return Ok(());
        }
        let max = patches.per_second_max();
        Err(Problem::too_fast("too-many-patches", "Too many changes", max))
    }
}

impl Whep {
    fn remember(&self, registry: &Registry, session: &Session, facts: Facts) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|id, _| registry.get(id).is_some());
        sessions.insert(session.id.as_str().to_owned(), Arc::new(facts));
    }

    fn get(&self, id: &str) -> Option<Arc<Facts>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }
}

impl Shared {
    /// A seat and a rendition that delivers, or why not; for WHEP and WebSockets alike.
    pub(super) fn admit(
        &self,
        camera: &str,
        rendition: Option<&str>,
        peer: SocketAddr,
        visitor: &Visitor,
    ) -> Result<(Arc<Rendition>, Permit), Problem> {
        let rendition = self.rendition(camera, rendition)?;
        let camera = self.camera(camera)?;
        let now = Timestamp::now();
        if self.stopping.is_stopping() {
            return Err(Problem::stopping());
        }
        // The users may have changed since the request began.
        if !self.http.auth.is_current(visitor) {
            return Err(door::refused(Denied::Wrong));
        }
        if let Some(reason) = camera.unready_reason(now) {
            return Err(Problem::camera_away(camera, &reason));
        }
        let permit = self.http.admission.admit(Kind::Webrtc, peer.ip(), now.since_boot());
        let roomy = |_: &Permit| descriptors::admits(self.http.signalling.guest());
        let permit =
            permit.and_then(|permit| Some(permit).filter(roomy).ok_or(Refusal::Descriptors));
        let permit = permit.and_then(|permit| match visitor.name() {
            Some(user) => permit.count_for(user).map(|()| permit),
            None => Ok(permit),
        });
        let permit = permit.map_err(|refusal| {
            let labels = [Transport::Webrtc.as_str(), refusal.as_str()];
            self.http.metrics.sessions_refused.with_label_values(&labels).inc();
            if let Some(suppressed) = log::heard() {
                tracing::info!(%peer, camera = %camera.id, %refusal, suppressed, "viewer refused");
            }
            Problem::refused(refusal)
        })?;
        Ok((rendition, permit))
    }

    /// Hands the offer to the engine.
    pub(super) async fn open(&self, viewer: Viewer) -> Result<Opened, Problem> {
        let (rendition, peer) = (Arc::clone(&viewer.rendition), viewer.address);
        let opened = self.http.signalling.open(viewer).await.map_err(|error| {
            if let Some(suppressed) = log::heard() {
                tracing::info!(%peer, camera = %rendition.camera, %error, suppressed, "offer refused");
            }
            match self.camera(&rendition.camera) {
                Ok(camera) => not_opened(camera, error),
                Err(problem) => problem,
            }
        })?;
        // Users who went while the session came to be were not found among the sessions.
        let session = &opened.session;
        if !self.http.auth.is_valid(session.user.as_deref(), &rendition.camera) {
            session.end(End::Operator);
            return Err(door::refused(Denied::Wrong));
        }
        Ok(opened)
    }

    fn whep_session(
        &self,
        camera: &str,
        session: &str,
        visitor: &Visitor,
    ) -> Result<(Arc<Session>, Arc<Facts>), Problem> {
        self.camera(camera)?;
        let facts = self.whep.get(session).filter(|facts| &*facts.camera == camera);
        let session = self.http.registry.get(session);
        // Another's session is none, however its name was come by; nor is one that is about to end.
        let own = session.filter(|session| {
            session.user.as_ref() == visitor.name() && session.end_reason().is_none()
        });
        own.zip(facts).ok_or_else(Problem::unknown_session)
    }
}

/// `POST /whep/{camera}`: offer in, answer out.
#[utoipa::path(
    post, path = "/whep/{camera}", tag = "watch",
    summary = "WHEP: join with an SDP offer",
    params(
        ("camera" = String, Path, description = "The camera's id", example = "sim"),
        Choice,
    ),
    request_body(
        content = String, content_type = "application/sdp",
        description = "The SDP of an offer with a video section that receives, at most 64 KiB"
    ),
    responses(
        (
            status = 201, description = "The answer", content_type = "application/sdp",
            body = String,
            headers(
                ("Location" = String, description = "Address of the session"),
                ("ETag" = String, description = "Name of the ICE session, for If-Match"),
                ("Accept-Patch" = String, description = "application/trickle-ice-sdpfrag"),
            )
        ),
        NoBody, No<404>, No<406>, No<409>,
    )
)]
pub(super) async fn join(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Extension(visitor): Extension<Visitor>,
    Path(camera): Path<String>,
    Query(choice): Query<Choice>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    shared.rendition(&camera, choice.rendition.as_deref())?;
    let body = gate::read_body(&headers, body, SDP, Some(ACCEPT_POST)).await?;
    let offer = text(&body)?;
    let facts = OfferFacts::read(&offer);
    let (rendition, permit) = shared.admit(&camera, choice.rendition.as_deref(), peer, &visitor)?;
    let viewer = Viewer { rendition, address: peer, permit, offer, trickle: false };
    let opened = shared.open(viewer).await?;
    let session = opened.session;
    let etag = format!("\"{}\"", uuid::Uuid::new_v4().simple());
    let patches = shared.http.admission.session_limits().messages_per_second_max;
    let facts = Facts {
        camera: camera.as_str().into(),
        etag: etag.clone(),
        offer: facts,
        patches: Mutex::new(Rate::new(patches)),
    };
    let location = format!("/whep/{camera}/{}", session.id);
    shared.whep.remember(&shared.http.registry, &session, facts);
    let mut response = (StatusCode::CREATED, opened.answer).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(SDP));
    headers.insert(ACCEPT_PATCH, HeaderValue::from_static(FRAGMENT));
    for (name, value) in [(header::LOCATION, location), (header::ETAG, etag)] {
        let value = HeaderValue::try_from(value).map_err(|_| Problem::internal("bad header"))?;
        headers.insert(name, value);
    }
    link_ice_servers(headers, &shared.http.ice_servers);
    Ok(response)
}

/// `GET /whep/{camera}`: whether there is something to watch, and how to ask for it. The draft has
/// nothing to show here, and a success without content asked for.
#[utoipa::path(
    get, path = "/whep/{camera}", tag = "watch",
    summary = "Whether there is something to watch; nothing is shown (section 4.1)",
    params(
        ("camera" = String, Path, description = "The camera's id", example = "sim"),
        Choice,
    ),
    responses((status = 200, description = "There is"), No<404>)
)]
pub(super) async fn look(
    State(shared): State<Arc<Shared>>,
    Path(camera): Path<String>,
    Query(choice): Query<Choice>,
) -> Result<Response, Problem> {
    shared.rendition(&camera, choice.rendition.as_deref())?;
    Ok(([(header::CONTENT_TYPE, SDP), (ACCEPT_POST, SDP)], ()).into_response())
}

/// `OPTIONS /whep/{camera}`: what may be sent, and which ICE servers there are.
#[utoipa::path(
    options, path = "/whep/{camera}", tag = "watch",
    summary = "What may be sent (Accept-Post), which ICE servers there are (Link), and CORS",
    params(("camera" = String, Path, description = "The camera's id", example = "sim")),
    responses(
        (status = 200, description = "See the headers", headers(
            ("Accept-Post" = String, description = "application/sdp"),
            ("Allow" = String, description = "What may be done here"),
        )),
        No<404>,
    )
)]
pub(super) async fn options(
    State(shared): State<Arc<Shared>>,
    visitor: Option<Extension<Visitor>>,
    Path(camera): Path<String>,
) -> Result<Response, Problem> {
    let allow = (header::ALLOW, "GET, HEAD, POST, OPTIONS");
    let mut response = ([(ACCEPT_POST, SDP), allow], ()).into_response();
    // Neither whether there is a camera nor the TURN servers' passwords are for strangers.
    if visitor.is_some() {
        shared.camera(&camera)?;
        link_ice_servers(response.headers_mut(), &shared.http.ice_servers);
    }
    Ok(response)
}

/// `OPTIONS /whep/{camera}/{session}`
#[utoipa::path(
    options, path = "/whep/{camera}/{session}", tag = "watch",
    summary = "What may be sent (Accept-Patch), and CORS",
    params(
        ("camera" = String, Path, description = "The camera's id", example = "sim"),
        ("session" = String, Path, description = "The session's id, from Location"),
    ),
    responses(
        (status = 200, description = "See the headers", headers(
            ("Accept-Patch" = String, description = "application/trickle-ice-sdpfrag"),
            ("Allow" = String, description = "What may be done here"),
        )),
        No<404>,
    )
)]
pub(super) async fn session_options(
    State(shared): State<Arc<Shared>>,
    visitor: Option<Extension<Visitor>>,
    Path((camera, session)): Path<(String, String)>,
) -> Result<Response, Problem> {
    if let Some(Extension(visitor)) = visitor {
        shared.whep_session(&camera, &session, &visitor)?;
    }
    let allow = (header::ALLOW, "GET, HEAD, PATCH, DELETE, OPTIONS");
    Ok(([(ACCEPT_PATCH, FRAGMENT), allow], ()).into_response())
}

/// `GET /whep/{camera}/{session}`: whether the session goes on.
#[utoipa::path(
    get, path = "/whep/{camera}/{session}", tag = "watch",
    summary = "Whether the session goes on; nothing is shown (section 4.1)",
    params(
        ("camera" = String, Path, description = "The camera's id", example = "sim"),
        ("session" = String, Path, description = "The session's id, from Location"),
    ),
    responses((status = 204, description = "It does"), No<404>)
)]
pub(super) async fn session_look(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Path((camera, session)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    shared.whep_session(&camera, &session, &visitor)?;
    Ok(StatusCode::NO_CONTENT)
}

/// `PATCH /whep/{camera}/{session}`: where the viewer may be reached.
#[utoipa::path(
    patch, path = "/whep/{camera}/{session}", tag = "watch",
    summary = "WHEP: more of the viewer's ICE candidates; If-Match names the ICE session",
    params(
        ("camera" = String, Path, description = "The camera's id", example = "sim"),
        ("session" = String, Path, description = "The session's id, from Location"),
        ("If-Match" = String, Header, description = "The ETag that the 201 carried"),
    ),
    request_body(
        content = String, content_type = "application/trickle-ice-sdpfrag",
        description = "A fragment as RFC 8840 has it"
    ),
    responses(
        (status = 204, description = "Taken"),
        NoBody, No<404>, No<412>, No<428>,
    )
)]
pub(super) async fn trickle(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Path((camera, session)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let (session, facts) = shared.whep_session(&camera, &session, &visitor)?;
    facts.count()?;
    let body = gate::read_body(&headers, body, FRAGMENT, Some(ACCEPT_PATCH)).await?;
    check_if_match(&headers, &facts.etag)?;
    let malformed = |detail: String| {
        Problem::unprocessable(
            "bad-fragment",
            "The fragment makes no sense",
            detail,
            "send a trickle-ice-sdpfrag as RFC 8840 has it",
        )
    };
    let fragment = Fragment::parse(&text(&body)?).map_err(|error| malformed(error.to_string()))?;
    if fragment.ice_ufrag.is_some_and(|ufrag| facts.offer.is_restart(&ufrag)) {
        return Err(Problem::unprocessable(
            "no-ice-restart",
            "ICE restarts are not supported",
            "the fragment has other ICE credentials than the offer",
            "DELETE the session and POST a new offer",
        ));
    }
    for (candidate, mid) in fragment.candidates {
        let candidate = facts.offer.locate(candidate, mid, None);
        match shared.http.signalling.add_candidate(&session.id, candidate) {
            Ok(()) => {}
            Err(CandidateError::Gone) => return Err(Problem::unknown_session()),
            Err(error @ CandidateError::TooMany) => return Err(Problem::candidates(&error)),
            Err(error) => return Err(malformed(error.to_string())),
        }
    }
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /whep/{camera}/{session}`: goodbye.
#[utoipa::path(
    delete, path = "/whep/{camera}/{session}", tag = "watch",
    summary = "WHEP: leave",
    params(
        ("camera" = String, Path, description = "The camera's id", example = "sim"),
        ("session" = String, Path, description = "The session's id, from Location"),
    ),
    responses((status = 200, description = "The session ends"), No<404>)
)]
pub(super) async fn leave(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    Path((camera, session)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let (session, _) = shared.whep_session(&camera, &session, &visitor)?;
    session.end(End::Left);
    Ok(StatusCode::OK)
}

fn not_opened(camera: &crate::catalog::Camera, error: OpenError) -> Problem {
    let detail = error.to_string();
    match error {
        OpenError::Malformed(_) => Problem::unprocessable(
            "bad-offer",
            "The offer makes no sense",
            detail,
            "send the SDP of an RTCPeerConnection's offer with a video section that receives",
        ),
        OpenError::NoH264(_) => Problem::new(
            StatusCode::NOT_ACCEPTABLE,
            "no-h264",
            "The offer has nothing that is sent here",
            detail,
            "offer H.264 with packetization-mode=1 and the camera's profile",
        ),
        OpenError::NotRunning(_) => Problem::camera_away(camera, &detail),
        OpenError::Full => Problem::busy(detail, Duration::from_secs(5)),
        OpenError::Timeout => Problem::busy(detail, Duration::from_secs(2)),
        OpenError::Failed(_) => Problem::internal(detail),
    }
}

fn check_if_match(headers: &HeaderMap, etag: &str) -> Result<(), Problem> {
    let Some(given) = headers.get(header::IF_MATCH) else {
        return Err(Problem::new(
            StatusCode::PRECONDITION_REQUIRED,
            "if-match-required",
            "If-Match is missing",
            "a change of a WHEP session must name the ICE session it is for",
            "send If-Match with the ETag that the 201 carried",
        ));
    };
    let mut tags = given.to_str().unwrap_or_default().split(',').map(str::trim);
    if tags.any(|tag| tag == etag || tag == "*") {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::PRECONDITION_FAILED,
        "if-match-failed",
        "This is another ICE session",
        "If-Match does not name the session's ETag",
        "send If-Match with the ETag that the 201 carried",
    ))
}

fn text(body: &[u8]) -> Result<String, Problem> {
    std::str::from_utf8(body).map(str::to_owned).map_err(|error| {
        Problem::unprocessable(
            "not-utf8",
            "The body is not text",
            error.to_string(),
            "send the SDP as UTF-8",
        )
    })
}

/// One `Link` for each server, in the form of RFC 9725, section 4.6.
fn link_ice_servers(headers: &mut HeaderMap, servers: &[IceServer]) {
    for server in servers {
        let mut link = format!("<{}>; rel=\"ice-server\"", server.url);
        if let (Some(username), Some(credential)) = (&server.username, &server.credential) {
            let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
            link += &format!(
                "; username=\"{}\"; credential=\"{}\"; credential-type=\"password\"",
                quoted(username),
                quoted(credential)
            );
        }
        // One that does not fit a header is left out: the other servers still help.
        if let Ok(value) = HeaderValue::try_from(link) {
            headers.append(header::LINK, value);
        }
    }
}
