//! What a handler takes from an address. axum's own say no in plain text; these say it as a
//! [`Problem`], as everything else here does.

use axum::extract::{FromRequestParts, rejection};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use super::problem::Problem;

/// The parts of the path that stand for something.
pub(super) struct Path<T>(pub(super) T);

/// What stands behind the question mark.
pub(super) struct Query<T>(pub(super) T);

/// `?rendition=NAME`
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Choice {
    /// The rendition's name; `main` where not given.
    #[param(example = "main")]
    pub(super) rendition: Option<String>,
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let taken = axum::extract::Path::from_request_parts(parts, state).await;
        taken.map(|axum::extract::Path(value)| Self(value)).map_err(|error| match error {
            rejection::PathRejection::FailedToDeserializePathParams(why) => bad(why.body_text()),
            other => Problem::internal(other.body_text()),
        })
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let taken = axum::extract::Query::from_request_parts(parts, state).await;
        let axum::extract::Query(value) = taken.map_err(|error| bad(error.body_text()))?;
        Ok(Self(value))
    }
}

/// What is said of an address that cannot be read.
pub(super) fn bad(detail: String) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "bad-address",
        "The address makes no sense",
        detail,
        "write names as percent-encoded UTF-8, and each key behind the question mark once",
    )
}
