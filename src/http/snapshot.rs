//! `GET /snapshot/{camera}.jpg`: the newest key frame as a picture, at most about a second old.
//!
//! A key frame is decoded once, whoever asks and how often; one is decoded at a time. A decoder
//! for every frame, ready to give the very newest, would cost more than all viewers together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use gst::prelude::*;
use tokio::sync::Semaphore;

use super::Shared;
use super::problem::Problem;
use super::whep::Choice;
use crate::catalog::Rendition;
use crate::clock::Timestamp;
use crate::distributor::Cause;
use crate::frame::Frame;
use crate::guard;

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

/// Pictures by camera and rendition.
#[derive(Debug)]
pub(super) struct Snapshots {
    cached: Mutex<HashMap<String, Slot>>,
    decoding: Arc<Semaphore>,
}

/// The lock is held while the picture is made: who asks meanwhile waits and gets the same.
type Slot = Arc<tokio::sync::Mutex<Option<Picture>>>;

#[derive(Clone, Debug)]
struct Picture {
    captured: Timestamp,
    jpeg: Bytes,
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
enum DecodeError {
    #[error(
        "GStreamer has no element `{0}`; install gstreamer1.0-libav and gstreamer1.0-plugins-good"
    )]
    Missing(&'static str),
    #[error(transparent)]
    Start(#[from] guard::StartError),
    #[error("the elements do not fit: {0}")]
    Link(#[from] glib::BoolError),
    #[error("the frame was not taken: {0}")]
    Flow(#[from] gst::FlowError),
    #[error("{0}")]
    Element(String),
    #[error("no picture came in time")]
    Timeout,
}

impl Default for Snapshots {
    fn default() -> Self {
        Self { cached: Mutex::default(), decoding: Arc::new(Semaphore::new(1)) }
    }
}

/// `GET /snapshot/{camera}.jpg`
pub(super) async fn snapshot(
    State(shared): State<Arc<Shared>>,
    Path(file): Path<String>,
    Query(choice): Query<Choice>,
) -> Result<Response, Problem> {
    let camera = file.strip_suffix(".jpg").ok_or_else(|| Problem::unknown_camera(&file))?;
    let rendition = shared.rendition(camera, choice.rendition.as_deref())?;
    let camera = shared.camera(camera)?;
    if let Some(reason) = camera.unready_reason(Timestamp::now()) {
        return Err(Problem::camera_away(camera, &reason));
    }
    let picture = shared.snapshots.newest(&rendition).await?;
    let captured_ms = picture.captured.to_unix().as_millis().to_string();
    let headers = [(header::CONTENT_TYPE, "image/jpeg".to_owned()), (CAPTURED, captured_ms)];
    Ok((headers, picture.jpeg).into_response())
}

impl Snapshots {
    async fn newest(&self, rendition: &Rendition) -> Result<Picture, Problem> {
        let slot = self.slot(rendition);
        let mut cached = slot.lock().await;
        let Some(frame) = key_frame(rendition).await else {
            return Err(Problem::busy("no key frame came in time", Duration::from_secs(1)));
        };
        if let Some(picture) = cached.as_ref().filter(|had| had.captured == frame.captured) {
            return Ok(picture.clone());
        }
        let captured = frame.captured;
        let turn = Arc::clone(&self.decoding).acquire_owned().await;
        let turn = turn.map_err(|error| Problem::internal(error.to_string()))?;
        let decoded = tokio::task::spawn_blocking(move || {
            // Held until the decoder is gone, also where nobody waits for the picture any more.
            let _turn = turn;
            decode(&frame)
        });
        let decoded = decoded.await.map_err(|error| Problem::internal(error.to_string()))?;
        let jpeg = decoded.map_err(|error| {
            tracing::warn!(camera = %rendition.camera, %error, "no snapshot");
            Problem::internal(error.to_string())
        })?;
        let picture = Picture { captured, jpeg };
        *cached = Some(picture.clone());
        Ok(picture)
    }

    fn slot(&self, rendition: &Rendition) -> Slot {
        let name = format!("{}/{}", rendition.camera, rendition.name);
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(cached.entry(name).or_default())
    }
}

/// A key frame that is not too old: the newest, or one that is asked for. A camera that gives none
/// in time is shown as it last was.
async fn key_frame(rendition: &Rendition) -> Option<Frame> {
    let newest = || rendition.hub.newest_key();
    let is_fresh = |frame: &Frame| Timestamp::now().since(frame.captured) <= AGE_MAX;
    let retained = newest();
    if let Some(frame) = retained.as_ref().filter(|frame| is_fresh(frame)) {
        return Some(frame.clone());
    }
    rendition.hub.request_key_frame(Cause::Operator);
    let deadline = Instant::now() + KEY_FRAME_TIMEOUT;
    while Instant::now() < deadline {
        tokio::time::sleep(KEY_FRAME_LOOK_EVERY).await;
        if let Some(frame) = newest().filter(is_fresh) {
            return Some(frame);
        }
    }
    newest().or(retained)
}

/// Decodes one key frame and encodes it as JPEG. Blocks, at most [`DECODE_TIMEOUT`].
fn decode(frame: &Frame) -> Result<Bytes, DecodeError> {
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
    pipeline.add_many(&chain)?;
    gst::Element::link_many(&chain)?;
    pipeline.start()?;
    source.push_buffer(frame.payload.copy())?;
    // The end of the stream makes the decoder give what it would keep for reordering.
    source.end_of_stream()?;
    let deadline = Instant::now() + DECODE_TIMEOUT;
    while Instant::now() < deadline {
        if let Some(buffer) =
            sink.try_pull_sample(LOOK_EVERY).and_then(|sample| sample.buffer_owned())
        {
            let map = buffer.map_readable()?;
            return Ok(Bytes::copy_from_slice(&map));
        }
        if let Some(error) = first_error(&pipeline) {
            return Err(DecodeError::Element(error));
        }
    }
    Err(DecodeError::Timeout)
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
