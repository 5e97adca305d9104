//! `GET /api/v1/openapi.json`: the description of the control plane, made from the handlers'
//! annotations and the types of their answers.
//!
//! What the gate answers for every handler is added here to every operation, so that no handler
//! has to repeat it; `routes` and the description are held together by a test.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder, response};
use utoipa::{IntoResponses, Modify, OpenApi};

use super::problem::{CONTENT_TYPE, Details, TYPE_PREFIX};
use super::{api, health, snapshot, status, viewer, whep, ws};

/// The document, which is the same for as long as the program runs.
static DOCUMENT: LazyLock<String> =
    LazyLock::new(|| Description::openapi().to_json().unwrap_or_default());

/// The one path that is answered to everybody, so that a supervisor needs no password.
const OPEN_PATH: &str = "/healthz";

/// Every answer that is a problem: status, name in the description, when it comes, and the short
/// name of one that has it.
const REFUSALS: [(u16, &str, &str, &str); 17] = [
    (400, "BadRequest", "The address or the body cannot be read", "bad-address"),
    (
        401,
        "Unauthorized",
        "No credentials, or wrong ones; WWW-Authenticate names the ways",
        "unauthorized",
    ),
    (
        403,
        "Forbidden",
        "Not for this user, a page of a foreign origin, or a host name that is not ours",
        "foreign-origin",
    ),
    (404, "NotFound", "Nothing is called that", "unknown-camera"),
    (406, "NotAcceptable", "The offer has no H.264 that fits", "no-h264"),
    (408, "RequestTimeout", "The body came too slowly", "slow-body"),
    (409, "CameraAway", "The camera is not running", "camera-away"),
    (412, "PreconditionFailed", "If-Match names another ICE session", "if-match-failed"),
    (413, "TooLarge", "The body is over 64 KiB", "body-too-large"),
    (415, "WrongType", "The body is of the wrong content type", "wrong-content-type"),
    (422, "Unprocessable", "The body makes no sense", "bad-change"),
    (426, "UpgradeRequired", "Not a WebSocket's request", "websocket-required"),
    (428, "PreconditionRequired", "If-Match is missing", "if-match-required"),
    (429, "TooMany", "Too many joins, or too many wrong passwords", "limit-reached"),
    (501, "NotImplemented", "A part that is needed for it is not installed", "no-decoder"),
    (502, "BadPicture", "What the camera sends cannot be decoded", "undecodable-picture"),
    (503, "Unavailable", "A limit is reached, or there is no room or no answer now", "busy"),
];

/// What passes by itself, and then carries `Retry-After`.
const PASSING: [u16; 3] = [409, 429, 503];

/// The whole description.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Lensline",
        version = "1",
        description = "One camera, one encode, every viewer. Errors are problem details \
            (RFC 9457) with a remedy; those that pass by themselves carry Retry-After."
    ),
    paths(
        viewer::page, viewer::asset,
        whep::join, whep::look, whep::options,
        whep::trickle, whep::leave, whep::session_look, whep::session_options,
        ws::upgrade,
        snapshot::snapshot,
        health::metrics, health::alive, health::ready,
        status::status,
        api::cameras, api::camera, api::change,
        api::sessions, api::session, api::end,
        openapi,
    ),
    components(schemas(Details)),
    modifiers(&Gate)
)]
struct Description;

/// What holds for every operation because it holds at the gate.
struct Gate;

/// An answer that says no, by its status: a row of [`REFUSALS`].
pub(super) enum No<const STATUS: u16> {}

/// What reading a body may end with.
pub(super) enum NoBody {}

impl<const STATUS: u16> IntoResponses for No<STATUS> {
    fn responses() -> BTreeMap<String, RefOr<response::Response>> {
        refusals(&[STATUS])
    }
}

impl IntoResponses for NoBody {
    fn responses() -> BTreeMap<String, RefOr<response::Response>> {
        refusals(&[400, 408, 413, 415, 422])
    }
}

/// `GET /api/v1/openapi.json`
#[utoipa::path(
    get, path = "/api/v1/openapi.json", tag = "operate",
    summary = "This description",
    responses((status = 200, description = "The description", content_type = "application/json", body = Object))
)]
pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

impl Modify for Gate {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_default();
        components.responses =
            REFUSALS.iter().map(|row| (row.1.to_owned(), refusal(row))).collect();
        for (name, scheme) in [("basic", HttpAuthScheme::Basic), ("bearer", HttpAuthScheme::Bearer)]
        {
            let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(scheme).build());
            components.security_schemes.insert(name.to_owned(), scheme.into());
        }
        // Without `auth` in the configuration nothing is asked for: the empty requirement.
        let nothing = SecurityRequirement::default();
        let asked = ["basic", "bearer"].map(|name| SecurityRequirement::new(name, [""; 0]));
        openapi.security = Some(asked.into_iter().chain([nothing.clone()]).collect());
        for (path, item) in &mut openapi.paths.paths {
            let operations = [
                &mut item.get,
                &mut item.head,
                &mut item.post,
                &mut item.patch,
                &mut item.delete,
                &mut item.options,
            ];
            for operation in operations.into_iter().flatten() {
                if path == OPEN_PATH {
                    operation.security = Some(vec![nothing.clone()]);
                    add(operation, &[403, 503]);
                } else {
                    add(operation, &[401, 403, 429, 503]);
                }
                if has_address_parts(operation) {
                    add(operation, &[400]);
                }
            }
        }
    }
}

/// Adds what the gate may answer, where the operation has no words of its own for it.
fn add(operation: &mut Operation, statuses: &[u16]) {
    for (status, refusal) in refusals(statuses) {
        operation.responses.responses.entry(status).or_insert(refusal);
    }
}

fn has_address_parts(operation: &Operation) -> bool {
    operation.parameters.iter().flatten().any(|parameter| {
        matches!(parameter, RefOr::T(parameter)
            if matches!(parameter.parameter_in, ParameterIn::Path | ParameterIn::Query))
    })
}

fn refusals(statuses: &[u16]) -> BTreeMap<String, RefOr<response::Response>> {
    let rows = REFUSALS.iter().filter(|row| statuses.contains(&row.0));
    rows.map(|row| (row.0.to_string(), Ref::from_response_name(row.1).into())).collect()
}

/// The answer that a row of [`REFUSALS`] stands for.
fn refusal(row: &(u16, &str, &str, &str)) -> RefOr<response::Response> {
    let (status, _, description, kind) = *row;
    let mut example = json!({
        "type": format!("{TYPE_PREFIX}{kind}"), "title": description, "status": status,
        "detail": "what was wrong with this request", "remedy": "what to do about it",
    });
    let mut response = ResponseBuilder::new().description(description);
    if PASSING.contains(&status) {
        example["retry_after_s"] = json!(2);
        let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
        let header = HeaderBuilder::new()
            .schema(Some(Schema::Object(seconds.build())))
            .description(Some("Seconds after which it is worth another try"));
        response = response.header("Retry-After", header.build());
    }
    let content =
        ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).example(Some(example));
    response.content(CONTENT_TYPE, content.build()).build().into()
}
