//! WebSocket signalling: one session for one socket, which ends with it.
//!
//! Messages are JSON objects `{"type", "data"}`: `offer`, `answer`, `ice-candidate`, `ping`,
//! `pong` and `error`. A `pong` carries `server_ms`, the server's time since the Unix epoch, by
//! which a page reckons how far its own clock is off.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{ConnectInfo, Extension, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::extract::{Choice, Path, Query};
use super::gate::BODY_BYTES_MAX;
use super::openapi::No;
use super::problem::Problem;
use super::sdp::OfferFacts;
use super::seats::Seat;
use super::signalling::{Candidate, CandidateError, Viewer};
use super::{DOOR, Shared};
use crate::auth::Visitor;
use crate::clock::Timestamp;
use crate::egress::session::{End, Session};
use crate::rate::Rate;

/// How long a socket may stay without a session before it is closed.
const OFFER_TIMEOUT: Duration = Duration::from_secs(15);

/// A socket of which nothing was heard for so long is closed; a page pings more often, and
/// every client answers the pings that go out at a third of it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const PING_EVERY: Duration = Duration::from_secs(10);

/// The longest that sending one message may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Unsent bytes above which a socket is given up.
const WRITE_BUFFER_BYTES_MAX: usize = 256 * 1024;

/// What a client says.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "kebab-case")]
pub enum Said {
    /// It wants to watch.
    Offer(Description),
    /// Where it may be reached; nothing for the end of candidates.
    IceCandidate(Option<Trickled>),
    /// It wants to hear a `pong` with this in it.
    Ping(Option<Value>),
}

/// An offer: `{"sdp": …}` as `RTCSessionDescription` has it, or the SDP itself.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Description {
    /// With the SDP as a member.
    Object {
        /// The SDP.
        sdp: String,
    },
    /// The SDP.
    Text(String),
}

/// `RTCIceCandidateInit`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trickled {
    /// The candidate's line; nothing or an empty one for their end.
    pub candidate: Option<String>,
    sdp_mid: Option<String>,
    #[serde(rename = "sdpMLineIndex")]
    sdp_mline_index: Option<u32>,
}

/// How a conversation ends.
#[derive(Debug)]
struct Farewell {
    problem: Option<Problem>,
    code: u16,
    /// What the session is told.
    end: End,
}

struct Conversation {
    shared: Arc<Shared>,
    peer: SocketAddr,
    visitor: Visitor,
    camera: String,
    choice: Choice,
    session: Option<(Arc<Session>, OfferFacts)>,
    messages: Rate,
}

/// `GET /ws/{camera}`
#[utoipa::path(
    get, path = "/ws/{camera}", tag = "watch",
    summary = "WebSocket signalling",
    description = "JSON messages {type, data}, type one of offer, answer, ice-candidate, ping, \
        pong, error; a pong carries server_ms; one session for one socket.",
    params(("camera" = String, Path, description = "The camera's id", example = "sim"), Choice),
    responses(
        (status = 101, description = "The WebSocket begins"),
        No<404>, No<426>,
    )
)]
pub(super) async fn upgrade(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Extension(visitor): Extension<Visitor>,
    Path(camera): Path<String>,
    Query(choice): Query<Choice>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    shared.rendition(&camera, choice.rendition.as_deref())?;
    let upgrade = upgrade.map_err(|rejection| {
        Problem::new(
            StatusCode::UPGRADE_REQUIRED,
            "websocket-required",
            "This is a WebSocket",
            rejection.body_text(),
            "connect with a WebSocket client, or use POST /whep/{camera}",
        )
        .header(header::UPGRADE, HeaderValue::from_static("websocket"))
    })?;
    let seat = shared
        .sockets
        .take(peer.ip())
        .ok_or_else(|| Problem::busy("too many WebSockets", Duration::from_secs(2)))?;
    let messages = Rate::new(shared.http.admission.session_limits().messages_per_second_max);
    let conversation =
        Conversation { shared, peer, visitor, camera, choice, session: None, messages };
    let answer = upgrade
        .max_message_size(BODY_BYTES_MAX)
        .max_frame_size(BODY_BYTES_MAX)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .on_failed_upgrade(move |error| tracing::debug!(%peer, %error, "WebSocket not upgraded"))
        .on_upgrade(move |socket| Box::pin(conversation.run(socket, seat)));
    Ok(answer)
}

impl Conversation {
    async fn run(mut self, mut socket: WebSocket, seat: Seat) {
        let farewell = match self.talk(&mut socket).await {
            Ok(never) => match never {},
            Err(farewell) => farewell,
        };
        if let Some((session, _)) = &self.session {
            session.end(farewell.end);
        }
        if let Some(problem) = &farewell.problem {
            let _ = send(&mut socket, &self.error(problem)).await;
        }
        let close = CloseFrame { code: farewell.code, reason: "".into() };
        let closing = socket.send(Message::Close(Some(close)));
        if !matches!(tokio::time::timeout(SEND_TIMEOUT, closing).await, Ok(Ok(()))) {
            tracing::debug!(peer = %self.peer, "WebSocket closed without a goodbye");
        }
        drop(seat);
    }

    async fn talk(&mut self, socket: &mut WebSocket) -> Result<std::convert::Infallible, Farewell> {
        let mut stopping = self.shared.stopping.clone();
        let mut candidates = None;
        let mut pings = tokio::time::interval(PING_EVERY);
        let (opened, mut heard) = (Instant::now(), Instant::now());
        loop {
            let limit = match &self.session {
                Some(_) => heard + IDLE_TIMEOUT,
                None => opened + OFFER_TIMEOUT,
            };
            tokio::select! {
                message = socket.recv() => {
                    heard = Instant::now();
                    let message = message.ok_or(Farewell::vanished())?;
                    self.hear(socket, message, &mut candidates).await?;
                }
                candidate = next(&mut candidates) => {
                    send(socket, &trickled(candidate)).await?;
                }
                () = ended(&self.session) => return Err(Farewell::session_ended(&self.session)),
                () = stopping.wait() => return Err(Farewell::stopping()),
                _ = pings.tick() => send_message(socket, Message::Ping(Vec::new().into())).await?,
                () = tokio::time::sleep_until(limit) => return Err(Farewell::idle()),
            }
        }
    }

    async fn hear(
        &mut self,
        socket: &mut WebSocket,
        message: Result<Message, axum::Error>,
        candidates: &mut Option<BoxStream<'static, Candidate>>,
    ) -> Result<(), Farewell> {
        self.count()?;
        let text = match message {
            Ok(Message::Text(text)) => text,
            Ok(Message::Ping(_) | Message::Pong(_)) => return Ok(()),
            Ok(Message::Close(_)) => return Err(Farewell::left()),
            Ok(Message::Binary(_)) => {
                return send(socket, &self.error(&not_understood("binary"))).await;
            }
            Err(broken) if too_long(&broken) => return Err(Farewell::too_long()),
            Err(_) => return Err(Farewell::vanished()),
        };
        let reply = match serde_json::from_str(&text) {
            Ok(Said::Offer(Description::Object { sdp: offer } | Description::Text(offer))) => {
                self.offer(offer, candidates).await?
            }
            Ok(Said::IceCandidate(candidate)) => self.candidate(candidate)?,
            Ok(Said::Ping(data)) => Some(pong(data)),
            Err(what) => Some(self.error(&not_understood(&what.to_string()))),
        };
        match reply {
            Some(reply) => send(socket, &reply).await,
            None => Ok(()),
        }
    }

    /// An offer that is refused ends the conversation: the client tries again with a new one.
    async fn offer(
        &mut self,
        offer: String,
        candidates: &mut Option<BoxStream<'static, Candidate>>,
    ) -> Result<Option<Value>, Farewell> {
        if self.session.is_some() {
            return Ok(Some(self.error(&second_offer())));
        }
        let facts = OfferFacts::read(&offer);
        let rendition = self.choice.rendition.as_deref();
        let (rendition, permit) =
            self.shared.admit(&self.camera, rendition, self.peer, &self.visitor)?;
        let viewer = Viewer { rendition, address: self.peer, permit, offer, trickle: true };
        let mut stopping = self.shared.stopping.clone();
        let opened = tokio::select! {
            opened = self.shared.open(viewer) => opened?,
            () = stopping.wait() => return Err(Farewell::stopping()),
            () = tokio::time::sleep(OFFER_TIMEOUT) => {
                return Err(Problem::busy("no answer in time", Duration::from_secs(2)).into());
            }
        };
        let id = opened.session.id.clone();
        self.session = Some((opened.session, facts));
        *candidates = Some(opened.candidates);
        let data = json!({ "type": "answer", "sdp": opened.answer, "session": id });
        Ok(Some(json!({ "type": "answer", "data": data })))
    }

    fn candidate(&self, trickled: Option<Trickled>) -> Result<Option<Value>, Farewell> {
        let Some((session, offer)) = &self.session else {
            return Ok(Some(self.error(&not_understood("a candidate before the offer"))));
        };
        let (candidate, mid, index) = trickled.map_or_else(Default::default, |trickled| {
            (trickled.candidate.unwrap_or_default(), trickled.sdp_mid, trickled.sdp_mline_index)
        });
        let candidate = offer.locate(candidate, mid, index);
        match self.shared.http.signalling.add_candidate(&session.id, candidate) {
            Ok(()) => Ok(None),
            Err(CandidateError::Gone) => Err(Farewell::session_ended(&self.session)),
            Err(error @ CandidateError::TooMany) => {
                Ok(Some(self.error(&Problem::candidates(&error))))
            }
            Err(other) => Ok(Some(self.error(&not_understood(&other.to_string())))),
        }
    }

    /// What is said of a problem, which is counted.
    fn error(&self, problem: &Problem) -> Value {
        self.shared.http.metrics.refused(DOOR, problem.kind());
        json!({ "type": "error", "data": problem.to_json() })
    }

    fn count(&mut self) -> Result<(), Farewell> {
        if self.messages.take(Timestamp::now().since_boot()) {
            return Ok(());
        }
        let max = self.messages.per_second_max();
        let problem = Problem::too_fast("too-many-messages", "Too many messages", max);
        Err(Farewell::of(problem, close_code::POLICY, End::Failed))
    }
}

impl Farewell {
    fn of(problem: Problem, code: u16, end: End) -> Self {
        Self { problem: Some(problem), code, end }
    }

    fn left() -> Self {
        Self { problem: None, code: close_code::NORMAL, end: End::Left }
    }

    fn vanished() -> Self {
        Self { problem: None, code: close_code::AWAY, end: End::Vanished }
    }

    fn stopping() -> Self {
        Self::of(Problem::stopping(), close_code::AWAY, End::Shutdown)
    }

    fn too_long() -> Self {
        let problem = Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "message-too-large",
            "The message is too large",
            format!("a message was larger than {BODY_BYTES_MAX} bytes"),
            "send less; an offer is a few thousand bytes long",
        );
        Self::of(problem, close_code::SIZE, End::Failed)
    }

    fn idle() -> Self {
        let problem = Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "idle",
            "Nothing was heard",
            "no offer came, or nothing was heard for too long",
            "send the offer at once, and answer pings",
        );
        Self::of(problem, close_code::POLICY, End::Idle)
    }

    /// The session ended first: by an operator, because the viewer's path broke, or on a fault.
    fn session_ended(session: &Option<(Arc<Session>, OfferFacts)>) -> Self {
        let reason = session.as_ref().and_then(|(session, _)| session.end_reason());
        let reason = reason.unwrap_or(End::Failed);
        if reason == End::Shutdown {
            return Self::stopping();
        }
        let problem = Problem::new(
            StatusCode::GONE,
            "session-ended",
            "The session has ended",
            format!("the session ended: {}", reason.as_str()),
            "join anew with a new offer",
        )
        .member("end", json!(reason.as_str()));
        Self::of(problem, close_code::NORMAL, reason)
    }
}

impl From<Problem> for Farewell {
    fn from(problem: Problem) -> Self {
        let again = problem.status().is_server_error()
            || matches!(problem.status(), StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS);
        let code = if again { close_code::AGAIN } else { close_code::POLICY };
        Self::of(problem, code, End::Failed)
    }
}

/// The next of our candidates; never where none will come any more.
async fn next(candidates: &mut Option<BoxStream<'static, Candidate>>) -> Option<Candidate> {
    let Some(stream) = candidates else { return std::future::pending().await };
    let candidate = stream.next().await;
    if candidate.is_none() {
        *candidates = None;
    }
    candidate
}

async fn ended(session: &Option<(Arc<Session>, OfferFacts)>) {
    match session {
        Some((session, _)) => session.ending().await,
        None => std::future::pending().await,
    }
}

async fn send(socket: &mut WebSocket, value: &Value) -> Result<(), Farewell> {
    send_message(socket, Message::Text(value.to_string().into())).await
}

async fn send_message(socket: &mut WebSocket, message: Message) -> Result<(), Farewell> {
    match tokio::time::timeout(SEND_TIMEOUT, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Farewell::vanished()),
    }
}

fn trickled(candidate: Option<Candidate>) -> Value {
    // The end of candidates, in the browsers' form: an empty candidate.
    let candidate = candidate.unwrap_or_default();
    let data = json!({
        "candidate": candidate.candidate,
        "sdpMid": candidate.mid,
        "sdpMLineIndex": candidate.mline_index,
    });
    json!({ "type": "ice-candidate", "data": data })
}

/// The client's data with the server's time in it.
fn pong(data: Option<Value>) -> Value {
    let mut data = match data {
        Some(Value::Object(data)) => data,
        other => [("echo".to_owned(), other.unwrap_or_default())].into_iter().collect(),
    };
    let server_ms = Timestamp::now().to_unix().as_secs_f64() * 1000.0;
    data.insert("server_ms".into(), json!(server_ms));
    json!({ "type": "pong", "data": data })
}

fn not_understood(detail: &str) -> Problem {
    Problem::unprocessable(
        "not-understood",
        "The message was not understood",
        detail,
        "send {\"type\":\"offer\"|\"ice-candidate\"|\"ping\",\"data\":…} as text",
    )
}

fn second_offer() -> Problem {
    Problem::new(
        StatusCode::CONFLICT,
        "second-offer",
        "The socket has a session",
        "a socket carries one session, and this one has it",
        "open another socket for another session",
    )
}

fn too_long(error: &axum::Error) -> bool {
    error.to_string().contains("too long")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// JSON of any shape that a client might send.
    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            let keys = "sdp|candidate|sdpMid|sdpMLineIndex|[a-z]{0,3}";
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((keys, inner), 0..4)
                    .prop_map(|all| all.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_a_ping_carries_comes_back_with_the_server_s_time(data in values()) {
            let text = json!({ "type": "ping", "data": data }).to_string();
            let said = serde_json::from_str(&text);
            let Ok(Said::Ping(data)) = said else { panic!("{said:?}") };
            let pong = pong(data);
            prop_assert!(pong["data"]["server_ms"].is_number(), "{}", pong);
        }

        #[test]
        fn no_message_upsets_the_reader(kind in "offer|ice-candidate|pong|\\PC{0,5}", data in values()) {
            let text = json!({ "type": kind, "data": data }).to_string();
            match serde_json::from_str(&text) {
                Ok(Said::Offer(_)) => prop_assert_eq!(kind, "offer"),
                Ok(Said::IceCandidate(_)) => prop_assert_eq!(kind, "ice-candidate"),
                Ok(Said::Ping(_)) => prop_assert_eq!(kind, "ping"),
                Err(_) => {}
            }
        }
    }
}
