//! Errors as the visitor gets them: problem details (RFC 9457) with a remedy.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::signalling::CandidateError;
use crate::admission::Refusal;
use crate::catalog::{Camera, ControlError};
use crate::clock::whole_seconds;

/// What `type` begins with; the rest is the problem's short name.
pub(super) const TYPE_PREFIX: &str = "urn:lensline:problem:";

/// The content type of RFC 9457.
pub(super) const CONTENT_TYPE: &str = "application/problem+json";

/// One problem: what went wrong, and what to do about it.
#[derive(Clone, Debug)]
pub struct Problem(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: String,
    remedy: String,
    retry_after: Option<Duration>,
    headers: Vec<(header::HeaderName, HeaderValue)>,
    members: Map<String, Value>,
}

/// A problem as JSON.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Details {
    /// `urn:lensline:problem:` and the problem's short name, which is stable.
    #[serde(rename = "type")]
    kind: String,
    /// What kind of problem it is, in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What was wrong this time.
    detail: String,
    /// What to do about it.
    remedy: String,
    /// Seconds after which it is worth another try, where it passes by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    retry_after_s: Option<u64>,
    /// Members of this problem alone.
    #[serde(flatten)]
    members: Map<String, Value>,
}

impl Problem {
    /// A problem of this short name (`unknown-camera`), which is stable: programs may test it.
    pub fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self(Box::new(Parts {
            status,
            kind,
            title,
            detail: detail.into(),
            remedy: remedy.into(),
            retry_after: None,
            headers: Vec::new(),
            members: Map::new(),
        }))
    }

    /// Says when it is worth another try.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// Adds a header to the answer.
    pub fn header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Adds a member of its own to the JSON.
    pub fn member(mut self, name: &str, value: Value) -> Self {
        self.0.members.insert(name.into(), value);
        self
    }

    /// The short name.
    pub fn kind(&self) -> &'static str {
        self.0.kind
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The JSON of RFC 9457, with `remedy` and, where it passes by itself, `retry_after_s`.
    pub fn to_json(&self) -> Value {
        let details = Details {
            kind: format!("{TYPE_PREFIX}{}", self.0.kind),
            title: self.0.title,
            status: self.0.status.as_u16(),
            detail: self.0.detail.clone(),
            remedy: self.0.remedy.clone(),
            retry_after_s: self.0.retry_after.map(whole_seconds),
            members: self.0.members.clone(),
        };
        serde_json::to_value(details).unwrap_or_default()
    }

    /// No camera is called that.
    pub fn unknown_camera(id: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "unknown-camera",
            "There is no such camera",
            format!("no camera is called `{id}`"),
            "GET /api/v1/cameras lists the cameras",
        )
    }

    /// The camera has no rendition of that name.
    pub fn unknown_rendition(camera: &Camera, name: &str) -> Self {
        let names: Vec<&str> = camera.renditions.iter().map(|rendition| &*rendition.name).collect();
        Self::new(
            StatusCode::NOT_FOUND,
            "unknown-rendition",
            "There is no such rendition",
            format!("camera `{}` has no rendition `{name}`", camera.id),
            format!("choose one of: {}", names.join(", ")),
        )
    }

    /// No live session is called that.
    pub fn unknown_session() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "unknown-session",
            "There is no such session",
            "the session has ended, or never was",
            "GET /api/v1/sessions lists the sessions; a viewer joins anew with a new offer",
        )
    }

    /// The camera delivers nothing now.
    pub fn camera_away(camera: &Camera, reason: &str) -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "camera-away",
            "The camera is not running",
            format!("camera `{}`: {reason}", camera.id),
            "wait: the camera is being restarted; /readyz says when it is back",
        )
        .retry_after(Duration::from_secs(2))
    }

    /// A limit on joins was reached.
    pub fn refused(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::Rate { .. } => StatusCode::TOO_MANY_REQUESTS,
            Refusal::Sessions { .. }
            | Refusal::Address { .. }
            | Refusal::User { .. }
            | Refusal::Descriptors => StatusCode::SERVICE_UNAVAILABLE,
        };
        let limit = match refusal {
            Refusal::Sessions { kind, .. } => format!("{}_sessions_max", kind.as_str()),
            Refusal::Descriptors => {
                return Self::no_descriptors().retry_after(refusal.retry_after());
            }
            _ => refusal.as_str().to_owned(),
        };
        Self::new(
            status,
            "limit-reached",
            "A limit is reached",
            refusal.to_string(),
            format!("try again later, or raise limits.{limit}"),
        )
        .retry_after(refusal.retry_after())
    }

    /// Few file descriptors are left, and those are kept for who is here already.
    fn no_descriptors() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "no-descriptors",
            "The server is short of file descriptors",
            "the descriptors that are left are kept for the viewers there are",
            "try again later; the operator can raise the hard limit of open files (LimitNOFILE)",
        )
    }

    /// More of something came from one viewer in a second than may.
    pub fn too_fast(kind: &'static str, title: &'static str, per_second_max: u32) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            kind,
            title,
            format!("more than {per_second_max} came in a second"),
            "send several candidates in one message, or raise limits.messages_per_second_max",
        )
        .retry_after(Duration::from_secs(1))
    }

    /// A viewer named more candidates than it may. It does not pass by itself.
    pub fn candidates(error: &CandidateError) -> Self {
        Self::unprocessable(
            "too-many-candidates",
            "Too many candidates",
            error.to_string(),
            "name the addresses that are of use, or raise limits.candidates_per_session_max",
        )
    }

    /// A change asked for at run time was not made.
    pub fn control(camera: &Camera, error: &ControlError) -> Self {
        match error {
            ControlError::NotRunning => Self::camera_away(camera, &error.to_string()),
            ControlError::Refused(reason) => Self::unprocessable(
                "control-refused",
                "The camera cannot do that",
                reason.clone(),
                "ask for a value within the camera's limits",
            ),
        }
    }

    /// Understood, but it makes no sense.
    pub fn unprocessable(
        kind: &'static str,
        title: &'static str,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, kind, title, detail, remedy)
    }

    /// The server has no room for this now.
    pub fn busy(detail: impl Into<String>, wait: Duration) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            "The server is busy",
            detail,
            "try again after the time given in Retry-After",
        )
        .retry_after(wait)
    }

    /// The server is about to stop.
    pub fn stopping() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "stopping",
            "The server is stopping",
            "the server was asked to stop",
            "try again when it is back",
        )
        .retry_after(Duration::from_secs(5))
    }

    /// Something in here failed; the log has more.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "The server failed",
            detail,
            "try again; if it fails again, the server's log says why",
        )
    }
}

/// The short name of the problem that an answer tells of, for who counts them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind(pub(super) &'static str);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.0.status, self.to_json().to_string()).into_response();
        let headers = response.headers_mut();
        let json = HeaderValue::from_static(CONTENT_TYPE);
        headers.insert(header::CONTENT_TYPE, json);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(wait) = self.0.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        headers.extend(self.0.headers);
        response.extensions_mut().insert(Kind(self.0.kind));
        response
    }
}
