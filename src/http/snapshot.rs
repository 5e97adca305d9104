//! `GET /snapshot/{camera}.jpg`: the newest key frame as a picture, at most about a second old.
//!
//! A key frame is decoded once, whoever asks and how often, also where that fails; one is decoded
//! at a time. A decoder for every frame, ready to give the very newest, would cost more than all
//! viewers together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use gst::prelude::*;
use tokio::sync::Semaphore;

use super::Shared;
use super::api::millis;
use super::extract::{Choice, Path, Query};
use super::openapi::No;
use super::problem::Problem;
use crate::catalog::Rendition;
use crate::clock::Timestamp;
use crate::distributor::Cause;
use crate::frame::Frame;
use crate::metrics::Metrics;
use crate::{guard, log};

/// How long a decode may take, and how often it looks whether something went wrong.
const DECODE_TIMEOUT: Duration = Duration::from_secs(3);
const LOOK_EVERY: gst::ClockTime = gst::ClockTime::from_mseconds(50);

/// A key frame is asked for where the newest is older. Whoever asks more often gets the same
/// picture again, so that snapshots cost the stream at most one key frame in so long.
const AGE_MAX: Duration = Duration::from_secs(1);

/// How long to wait for a key frame that was asked for, and how often to look.
const KEY_FRAME_TIMEOUT: Duration = Duration::from_secs(1);
const KEY_FRAME_LOOK_EVERY: Duration = Duration::from_millis(20);

/// H.264 decoders in the order of preference.
const DECODERS: [&str; 2] = ["avdec_h264", "openh264dec"];

/// When the picture was taken, in milliseconds since the Unix epoch.
const CAPTURED: HeaderName = HeaderName::from_static("lensline-captured-unix-ms");

/// A browser may keep the picture and has to ask whether it is still the newest.
const CACHE_CONTROL: &str = "private, no-cache";

/// Pictures by camera and rendition.
#[derive(Debug)]
pub(super) struct Snapshots {
    cached: Mutex<HashMap<String, Slot>>,
    decoding: Arc<Semaphore>,
}

/// The lock is held while the picture is made: who asks meanwhile waits and gets the same.
type Slot = Arc<tokio::sync::Mutex<Latest>>;

/// What is known of a rendition's pictures.
#[derive(Debug, Default)]
struct Latest {
    /// The frame that was decoded last, and what came of it.
    decoded: Option<(Timestamp, Result<Bytes, DecodeError>)>,
    /// When a key frame was last waited for.
    waited: Option<Timestamp>,
}

#[derive(Clone, Debug)]
struct Picture {
    captured: Timestamp,
    jpeg: Bytes,
}

/// Why there is no picture.
#[derive(Clone, Debug, thiserror::Error)]
enum DecodeError {
    #[error(
        "GStreamer has no element `{0}`; install gstreamer1.0-libav and gstreamer1.0-plugins-good"
    )]
    Missing(&'static str),
    #[error("the decoder did not start: {0}")]
    Start(String),
    #[error("the frame was not decoded: {0}")]
    Undecodable(String),
}

impl Default for Snapshots {
    fn default() -> Self {
        Self { cached: Mutex::default(), decoding: Arc::new(Semaphore::new(1)) }
    }
}

/// `GET /snapshot/{camera}.jpg`
#[utoipa::path(
    get, path = "/snapshot/{camera}.jpg", tag = "watch",
    summary = "The newest key frame as JPEG",
    description = "At most about a second old. Cheap to ask often: a frame is decoded once, and \
        who has it already (If-None-Match) gets 304.",
    params(
        ("camera" = String, Path, description = "The camera's id", example = "sim"),
        Choice,
        ("If-None-Match" = Option<String>, Header, description = "The ETag of the picture at hand"),
    ),
    responses(
        (
            status = 200, description = "The picture", content_type = "image/jpeg",
            body = String,
            headers(
                ("Lensline-Captured-Unix-Ms" = String,
                    description = "When it was taken, by the server's clock"),
                ("ETag" = String, description = "The picture's name"),
                ("Last-Modified" = String, description = "When it was taken, to the second"),
            )
        ),
        (status = 304, description = "The picture at hand is the newest"),
        No<404>, No<409>, No<501>, No<502>,
    )
)]
pub(super) async fn snapshot(
    State(shared): State<Arc<Shared>>,
    Path(file): Path<String>,
    Query(choice): Query<Choice>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let camera = file.strip_suffix(".jpg").ok_or_else(|| Problem::unknown_camera(&file))?;
    let rendition = shared.rendition(camera, choice.rendition.as_deref())?;
    let camera = shared.camera(camera)?;
    if let Some(reason) = camera.unready_reason(Timestamp::now()) {
        return Err(Problem::camera_away(camera, &reason));
    }
    let picture = shared.snapshots.newest(&rendition, &shared.http.metrics).await?;
    let captured = picture.captured.to_unix();
    let etag = format!("\"{:x}\"", picture.captured.as_nanos());
    let known = headers.get_all(header::IF_NONE_MATCH).iter().any(|known| names(known, &etag));
    let answer_headers = [
        (header::CONTENT_TYPE, "image/jpeg".to_owned()),
        (header::CACHE_CONTROL, CACHE_CONTROL.to_owned()),
        (header::LAST_MODIFIED, httpdate::fmt_http_date(UNIX_EPOCH + captured)),
        (header::ETAG, etag),
        (CAPTURED, millis(captured).to_string()),
    ];
    if known {
        return Ok((StatusCode::NOT_MODIFIED, answer_headers).into_response());
    }
    Ok((answer_headers, picture.jpeg).into_response())
}

/// Whether an `If-None-Match` names this ETag. Weak and strong are the same here (RFC 9110, 13.1.2).
fn names(header: &axum::http::HeaderValue, etag: &str) -> bool {
    let text = header.to_str().unwrap_or_default();
    text.split(',').map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
}

impl Snapshots {
    async fn newest(&self, rendition: &Rendition, metrics: &Metrics) -> Result<Picture, Problem> {
        let slot = self.slot(rendition);
        let mut latest = slot.lock().await;
        let Some(frame) = latest.key_frame(rendition).await else {
            return Err(Problem::busy("no key frame came in time", Duration::from_secs(1)));
        };
        let captured = frame.captured;
        let decoded = match &latest.decoded {
            Some((had, decoded)) if *had == captured => decoded.clone(),
            _ => {
                let decoded = self.decode(frame).await?;
                metrics.snapshots_decoded.with_label_values(&[&*rendition.camera]).inc();
                latest.decoded = Some((captured, decoded.clone()));
                decoded
            }
        };
        let jpeg = decoded.map_err(|error| {
            if let Some(suppressed) = log::heard() {
                tracing::warn!(camera = %rendition.camera, %error, suppressed, "no snapshot");
            }
            no_picture(&rendition.camera, &error)
        })?;
        Ok(Picture { captured, jpeg })
    }

    /// Decodes a frame, one at a time.
    async fn decode(&self, frame: Frame) -> Result<Result<Bytes, DecodeError>, Problem> {
        let turn = Arc::clone(&self.decoding).acquire_owned().await;
        let turn = turn.map_err(|error| Problem::internal(error.to_string()))?;
        let decoded = tokio::task::spawn_blocking(move || {
            // Held until the decoder is gone, also where nobody waits for the picture any more.
            let _turn = turn;
            decode(&frame)
        });
        decoded.await.map_err(|error| Problem::internal(error.to_string()))
    }

    fn slot(&self, rendition: &Rendition) -> Slot {
        let name = format!("{}/{}", rendition.camera, rendition.name);
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(cached.entry(name).or_default())
    }
}

impl Latest {
    /// A key frame that is not too old: the newest, or one that is asked for. A camera that gives
    /// none in time is shown as it last was, and not asked again for a while: else each of those
    /// who ask at the same time would wait in turn.
    async fn key_frame(&mut self, rendition: &Rendition) -> Option<Frame> {
        let newest = || rendition.hub.newest_key();
        let is_recent = |at: Timestamp| Timestamp::now().since(at) <= AGE_MAX;
        let retained = newest();
        if retained.as_ref().is_some_and(|frame| is_recent(frame.captured))
            || self.waited.is_some_and(is_recent)
        {
            return retained;
        }
        rendition.hub.request_key_frame(Cause::Operator);
        let deadline = Instant::now() + KEY_FRAME_TIMEOUT;
        while Instant::now() < deadline {
            tokio::time::sleep(KEY_FRAME_LOOK_EVERY).await;
            if let Some(frame) = newest().filter(|frame| is_recent(frame.captured)) {
                return Some(frame);
            }
        }
        self.waited = Some(Timestamp::now());
        newest().or(retained)
    }
}

fn no_picture(camera: &str, error: &DecodeError) -> Problem {
    let detail = format!("camera `{camera}`: {error}");
    match error {
        DecodeError::Missing(_) => Problem::new(
            StatusCode::NOT_IMPLEMENTED,
            "no-decoder",
            "There is nothing here to decode H.264 with",
            detail,
            "install the packages named; streams do not need them",
        ),
        DecodeError::Start(_) => Problem::internal(detail),
        DecodeError::Undecodable(_) => Problem::new(
            StatusCode::BAD_GATEWAY,
            "undecodable-picture",
            "What the camera sends cannot be decoded",
            detail,
            "look at the camera's stream with a player; viewers get it as it is",
        ),
    }
}

/// Decodes one key frame and encodes it as JPEG. Blocks, at most [`DECODE_TIMEOUT`].
fn decode(frame: &Frame) -> Result<Bytes, DecodeError> {
    let start = |error: &dyn std::error::Error| DecodeError::Start(error.to_string());
    let undecodable = |error: &dyn std::error::Error| DecodeError::Undecodable(error.to_string());
    let caps = gst::Caps::builder("video/x-h264")
        .field("stream-format", "byte-stream")
        .field("alignment", "au")
        .build();
    let source = gst_app::AppSrc::builder().caps(&caps).format(gst::Format::Time).build();
    let sink = gst_app::AppSink::builder().sync(false).max_buffers(1).build();
    let mut chain = vec![source.clone().upcast::<gst::Element>(), element("h264parse")?];
    chain.push(decoder()?);
    chain.push(element("videoconvert")?);
    chain.push(element("jpegenc")?);
    chain.push(sink.clone().upcast());
    let pipeline = guard::Pipeline::new(gst::Pipeline::new());
    pipeline.add_many(&chain).map_err(|error| start(&error))?;
    gst::Element::link_many(&chain).map_err(|error| start(&error))?;
    pipeline.start().map_err(|error| start(&error))?;
    source.push_buffer(frame.payload.copy()).map_err(|error| undecodable(&error))?;
    // The end of the stream makes the decoder give what it would keep for reordering.
    source.end_of_stream().map_err(|error| undecodable(&error))?;
    let deadline = Instant::now() + DECODE_TIMEOUT;
    while Instant::now() < deadline {
        if let Some(buffer) =
            sink.try_pull_sample(LOOK_EVERY).and_then(|sample| sample.buffer_owned())
        {
            let map = buffer.map_readable().map_err(|error| undecodable(&error))?;
            return Ok(Bytes::copy_from_slice(&map));
        }
        if let Some(error) = first_error(&pipeline) {
            return Err(DecodeError::Undecodable(error));
        }
        if sink.is_eos() {
            return Err(DecodeError::Undecodable("the decoder gave no picture".into()));
        }
    }
    Err(DecodeError::Undecodable("no picture came in time".into()))
}

fn element(name: &'static str) -> Result<gst::Element, DecodeError> {
    gst::ElementFactory::make(name).build().map_err(|_| DecodeError::Missing(name))
}

fn decoder() -> Result<gst::Element, DecodeError> {
    let found = DECODERS.into_iter().find_map(|name| element(name).ok());
    found.ok_or(DecodeError::Missing(DECODERS[0]))
}

fn first_error(pipeline: &gst::Pipeline) -> Option<String> {
    let message = pipeline.bus()?.pop_filtered(&[gst::MessageType::Error])?;
    match message.view() {
        gst::MessageView::Error(error) => Some(error.error().to_string()),
        _ => None,
    }
}
