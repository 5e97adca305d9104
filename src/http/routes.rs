//! The route table: everything there is to ask for.

use std::sync::Arc;

use axum::http::{Method, StatusCode, Uri};
use axum::routing::{MethodRouter, get};
use axum::{Router, middleware};

use super::door::Need;
use super::problem::Problem;
use super::{Shared, api, door, gate, health, openapi, snapshot, status, viewer, whep, ws};

type Route = (&'static str, Need, MethodRouter<Arc<Shared>>);

/// Every path with what it asks of its visitor and its methods; `openapi` describes the same, and a
/// test holds them together.
pub(super) fn table() -> Vec<Route> {
    let whep = get(whep::look).post(whep::join).options(whep::options);
    let session = get(whep::session_look).patch(whep::trickle).delete(whep::leave);
    let session = session.options(whep::session_options);
    vec![
        ("/", Need::User, get(viewer::page)),
        ("/viewer/{file}", Need::User, get(viewer::asset)),
        ("/whep/{camera}", Need::Camera, whep),
        ("/whep/{camera}/{session}", Need::Camera, session),
        ("/ws/{camera}", Need::Camera, get(ws::upgrade)),
        ("/snapshot/{file}", Need::Camera, get(snapshot::snapshot)),
        ("/metrics", Need::Everything, get(health::metrics)),
        ("/healthz", Need::Nothing, get(health::alive)),
        ("/readyz", Need::Nothing, get(health::ready)),
        ("/api/v1/status", Need::User, get(status::status)),
        ("/api/v1/cameras", Need::User, get(api::cameras)),
        ("/api/v1/cameras/{id}", Need::Camera, get(api::camera).patch(api::change)),
        ("/api/v1/sessions", Need::User, get(api::sessions)),
        ("/api/v1/sessions/{id}", Need::User, get(api::session).delete(api::end)),
        ("/api/v1/openapi.json", Need::User, get(openapi::openapi)),
    ]
}

pub(super) fn router(shared: &Arc<Shared>) -> Router {
    table()
        .into_iter()
        .fold(Router::new(), |router, (path, need, methods)| {
            let door = middleware::from_fn_with_state((Arc::clone(shared), need), door::enter);
            router.route(path, methods.layer(door))
        })
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(shared), gate::pass))
        .with_state(Arc::clone(shared))
}

async fn nothing_here(uri: Uri) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "not-found",
        "There is nothing here",
        format!("nothing is served at {}", uri.path()),
        "GET /api/v1/openapi.json lists what there is",
    )
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "wrong-method",
        "That cannot be done here",
        format!("{method} is not for {}", uri.path()),
        "use a method that the Allow header names",
    )
}
