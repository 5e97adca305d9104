//! Lensline: one camera, one encode, every viewer, now.
//!
//! # The way of a frame
//!
//! ```text
//! camera pipeline (one per camera)                         session (one per viewer)
//!  source ─ convert/crop/flip ─ encoder ─ h264parse ─ appsink  WebRTC: a task ─ str0m ─ one socket
//!             └ second rendition: scale ─ encoder ─ …     │       ▲     (or appsrc ─ webrtcbin)
//!                                                tap: copy once, │ RTSP: appsrc ─ rtph264pay ─ media
//!                                          stamp, Publisher ─▶ ring ─▶ cursor
//! ```
//!
//! # Layers, imports only downwards
//!
//! `main → {app, cli} → {http, probe} → {camera, egress} → catalog →
//! {distributor, admission, auth, guard, metrics, log} →
//! {config, password, elements, workarounds, frame, packets, nal, clock, rate, descriptors, error,
//! memory, shutdown, tls}`
//!
//! `camera` and `egress` never import each other; they meet in `distributor`, by way of `catalog`:
//! frames go down, key-frame requests come back up. `distributor` and `admission` import neither
//! gstreamer nor tokio nor a clock. `guard` is the only module that gives GStreamer resources back.
//! `tests/tidy.rs` holds all of that.

pub mod app;
pub mod cli;

pub mod camera;
pub mod distributor;
pub mod egress;
pub mod guard;
pub mod http;

pub mod admission;
pub mod auth;
pub mod catalog;
pub mod clock;
pub mod config;
pub mod descriptors;
pub mod elements;
pub mod error;
pub mod frame;
pub mod log;
pub mod memory;
pub mod metrics;
pub mod nal;
pub mod packets;
pub mod password;
pub mod probe;
pub mod rate;
pub mod shutdown;
pub mod tls;
pub mod workarounds;
