//! The route table: everything there is to ask for.

use std::sync::Arc;

use axum::http::{Method, StatusCode, Uri};
use axum::routing::{MethodFilter, MethodRouter, get, on, post};
use axum::{Router, middleware};

use super::problem::Problem;
use super::{Shared, api, gate, health, openapi, snapshot, status, viewer, whep, ws};

type Route = (&'static str, MethodRouter<Arc<Shared>>);

/// Every path with its methods; `openapi` describes the same, and a test holds them together.
pub(super) fn table() -> Vec<Route> {
    let whep = post(whep::join).on(MethodFilter::HEAD, whep::head).options(whep::options);
    let session =
        on(MethodFilter::PATCH, whep::trickle).delete(whep::leave).options(whep::session_options);
    vec![
        ("/", get(viewer::page)),
        ("/viewer/{file}", get(viewer::asset)),
        ("/whep/{camera}", whep),
        ("/whep/{camera}/{session}", session),
        ("/ws/{camera}", get(ws::upgrade)),
        ("/snapshot/{file}", get(snapshot::snapshot)),
        ("/metrics", get(health::metrics)),
        ("/healthz", get(health::alive)),
        ("/readyz", get(health::ready)),
        ("/api/v1/status", get(status::status)),
        ("/api/v1/cameras", get(api::cameras)),
        ("/api/v1/cameras/{id}", get(api::camera).patch(api::change)),
        ("/api/v1/sessions", get(api::sessions)),
        ("/api/v1/sessions/{id}", get(api::session).delete(api::end)),
        ("/api/v1/openapi.json", get(openapi::openapi)),
    ]
}

pub(super) fn router(shared: &Arc<Shared>) -> Router {
    table()
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| router.route(path, methods))
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
