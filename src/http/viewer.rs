//! The viewer page, carried in the program.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::extract::Path;
use super::openapi::No;
use super::problem::Problem;

const JS: &str = "text/javascript; charset=utf-8";

const PAGE: &str = include_str!("viewer/index.html");

/// The files of the page: name, content type, content.
const FILES: &[(&str, &str, &str)] = &[
    ("viewer.css", "text/css; charset=utf-8", include_str!("viewer/viewer.css")),
    ("icon.svg", "image/svg+xml", include_str!("viewer/icon.svg")),
    ("viewer.js", JS, include_str!("viewer/viewer.js")),
    ("link.js", JS, include_str!("viewer/link.js")),
    ("figures.js", JS, include_str!("viewer/figures.js")),
    ("graph.js", JS, include_str!("viewer/graph.js")),
    ("stamp.js", JS, include_str!("viewer/stamp.js")),
];

/// `GET /`
#[utoipa::path(
    get, path = "/", tag = "watch",
    summary = "The viewer page; ?camera=ID&rendition=NAME choose what it shows",
    responses(
        (status = 200, description = "The page", content_type = "text/html", body = String),
        (status = 304, description = "As the browser has it"),
    )
)]
pub(super) async fn page(headers: HeaderMap) -> Response {
    answer(&headers, "text/html; charset=utf-8", PAGE)
}

/// `GET /viewer/{file}`
#[utoipa::path(
    get, path = "/viewer/{file}", tag = "watch", summary = "The page's parts",
    params(("file" = String, Path, description = "Name of the file", example = "viewer.js")),
    responses(
        (status = 200, description = "The file", content(
            (String = "text/javascript"), (String = "text/css"), (String = "image/svg+xml")
        )),
        (status = 304, description = "As the browser has it"),
        No<404>,
    )
)]
pub(super) async fn asset(
    Path(file): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let found = FILES.iter().find(|(name, ..)| *name == file);
    let (_, content_type, content) = found.ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "There is nothing here",
            format!("the viewer has no file {}", uri.path()),
            "open the viewer at /",
        )
    })?;
    Ok(answer(&headers, content_type, content))
}

/// The content, or 304 where the browser has it: asked for every time, so that a page and its
/// scripts are always of one version.
fn answer(headers: &HeaderMap, content_type: &'static str, content: &'static str) -> Response {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    let etag = format!("\"{:016x}\"", hasher.finish());
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| *known == *etag.as_str());
    let answer_headers = [
        (header::ETAG, etag),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::CONTENT_TYPE, content_type.to_owned()),
    ];
    if known {
        return (StatusCode::NOT_MODIFIED, answer_headers).into_response();
    }
    (answer_headers, content).into_response()
}
