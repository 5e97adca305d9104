//! Who may pass: what each route asks of its visitor, and how visitors say who they are.
//!
//! Viewers look, at the cameras that are theirs; operators change things too. A camera that a
//! visitor may not watch is answered alike whether there is one or not.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{ConnectInfo, RawPathParams, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::problem::Problem;
use super::{Shared, extract};
use crate::auth::{Auth, Credentials, Denied, Visitor};
use crate::clock::Timestamp;
use crate::log;
use crate::password::REALM;

/// What a route asks of its visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing: who is nobody is told no more than whether all is well.
    Nothing,
    /// To be somebody.
    User,
    /// To be somebody who may watch the camera that the path names; to change it, an operator.
    Camera,
    /// To be somebody who may watch every camera: it tells of all of them.
    Everything,
}

/// The middleware of one route.
pub(super) async fn enter(
    State((shared, need)): State<(Arc<Shared>, Need)>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    params: Result<RawPathParams, RawPathParamsRejection>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let params = params.map_err(|error| extract::bad(error.body_text()))?;
    match visitor(&shared.http.auth, peer.ip(), request.headers()).await {
        Ok(visitor) => {
            permit(&visitor, need, &params, &request)?;
            request.extensions_mut().insert(visitor);
        }
        // A browser asks without credentials whether it may ask (Fetch, section 3.2.2), as does what
        // watches whether we live. Their handlers find no visitor, and tell little.
        Err(Denied::Missing) if need == Need::Nothing || request.method() == Method::OPTIONS => {}
        Err(denied) => {
            // Every browser asks without first.
            match denied {
                Denied::Missing => tracing::debug!(%peer, "visitor asked who he is"),
                _ => {
                    if let Some(suppressed) = log::heard() {
                        let reason = denied.as_str();
                        tracing::info!(%peer, reason, suppressed, "visitor refused");
                    }
                }
            }
            return Err(refused(denied));
        }
    }
    Ok(next.run(request).await)
}

/// Who asks. A password that is not known yet is checked on a thread for what blocks.
async fn visitor(auth: &Auth, peer: IpAddr, headers: &HeaderMap) -> Result<Visitor, Denied> {
    if auth.is_open() {
        return Ok(Visitor::default());
    }
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let credentials = given.and_then(Credentials::parse).ok_or(Denied::Missing)?;
    if let Some(visitor) = auth.recognise(&credentials) {
        return Ok(visitor);
    }
    let auth = auth.clone();
    let clock = || Timestamp::now().since_boot();
    let check = tokio::task::spawn_blocking(move || auth.authenticate(peer, &credentials, clock));
    check.await.unwrap_or(Err(Denied::Busy { retry_after: Duration::from_secs(1) }))
}

fn permit(
    visitor: &Visitor,
    need: Need,
    params: &RawPathParams,
    request: &Request,
) -> Result<(), Problem> {
    let camera = params.iter().find_map(|(name, value)| match name {
        "camera" | "id" => Some(value),
        "file" => Some(value.strip_suffix(".jpg").unwrap_or(value)),
        _ => None,
    });
    let allowed = match need {
        Need::Nothing | Need::User => true,
        Need::Camera => camera.is_some_and(|camera| visitor.may_watch(camera)),
        Need::Everything => visitor.sees_everything(),
    };
    if !allowed && need == Need::Everything {
        return Err(not_permitted(
            "this tells of every camera, and these credentials are not for all of them",
            "use the credentials of a user without auth.users.cameras",
        ));
    }
    if !allowed {
        return Err(not_permitted(
            "these credentials are not for this camera",
            "ask an operator to add the camera to your user, under auth.users",
        ));
    }
    // Watching goes by POST and DELETE too, at addresses of its own.
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if changes && request.uri().path().starts_with("/api/") && !visitor.may_operate() {
        return Err(not_permitted(
            "viewers look, and change nothing",
            "use the credentials of a user whose role is \"operator\"",
        ));
    }
    Ok(())
}

fn not_permitted(detail: &'static str, remedy: &'static str) -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "not-permitted",
        "Not with these credentials",
        detail,
        remedy,
    )
}

pub(super) fn refused(denied: Denied) -> Problem {
    let detail = denied.to_string();
    match denied {
        Denied::Missing | Denied::Wrong => {
            let remedy =
                "give name and password of a user by HTTP Basic, or the password as Bearer";
            let basic = format!("Basic realm=\"{REALM}\", charset=\"UTF-8\"");
            let bearer = format!("Bearer realm=\"{REALM}\"");
            let title = "Who are you?";
            let problem =
                Problem::new(StatusCode::UNAUTHORIZED, denied.as_str(), title, detail, remedy);
            [basic, bearer]
                .into_iter()
                .flat_map(HeaderValue::try_from)
                .fold(problem, |problem, challenge| {
                    problem.header(header::WWW_AUTHENTICATE, challenge)
                })
        }
        Denied::Slow { retry_after } => Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            denied.as_str(),
            "Too many wrong passwords",
            detail,
            "wait for the time given in Retry-After, then give the right password",
        )
        .retry_after(retry_after),
        Denied::Busy { retry_after } => Problem::busy(detail, retry_after),
    }
}
