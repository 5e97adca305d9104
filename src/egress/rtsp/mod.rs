//! RTSP: recorders and players, by way of gst-rtsp-server.
//!
//! ```text
//! door ── admission ── Client ── warden ── OPTIONS, DESCRIBE, SETUP …   (gst-rtsp-server's threads)
//!   │ sweep                └─ Factory ─ Media: appsrc ─ rtph264pay ─ rtpbin ─ sink   (one a viewer)
//!   └ idle, ending, expired                    ▲
//!                                   Subscriber ┘ feed, from PLAY to PAUSE or the end
//! ```
//!
//! - [`server`]: what the rest of the program sees: bind, stop.
//! - [`door`]: a thread that accepts, refuses with `503`, and ends what is idle or was asked to end.
//! - [`connection`]: what is known of one TCP connection; holds its place in `admission`.
//! - [`warden`]: lets requests pass, or answers `401`, `403`, `404`, `503`; [`request`] reads them.
//! - [`client`]: answers requests: the stable SDP.
//! - [`factory`], [`media`]: one pipeline per viewer, and its life.
//! - [`idle`], [`intake`]: when a connection asks for too little, or sends too much.
//! - [`batch`]: the packets of a picture in one hand-over.
//! - [`hop`]: where RTSPS is served, the TLS in front of all that.
//!
//! # One media per viewer
//!
//! gst-rtsp-server can share one media among all viewers of an address. It is not used: in a
//! shared media a viewer joins in mid-GOP, one that does not read is dropped after ten seconds by a
//! constant in the library, and a quick reconnect can meet the media while it is being torn down
//! (1.24, commit 55c961a4dc).
//!
//! What that costs more is measured by `cargo bench --bench rtsp_media`. 720p30 at 2.6 Mbit/s over
//! TCP, GStreamer 1.22, two x86 cores that were busy with compilers, above idle:
//!
//! | viewers | shared: CPU of a core, RSS, threads | one each: CPU, RSS, threads |
//! |---|---|---|
//! | 1 | 1.1 %, 3.1 MiB, 9 | 0.9 %, 3.5 MiB, 11 |
//! | 10 | 2.2 %, 3.2 MiB, 9 | 5.6 %, 7.8 MiB, 59 |
//! | 50 | 7.2 %, 3.8 MiB, 9 | 30 %, 25 MiB, 259 |
//!
//! The five threads of a viewer are gst-rtsp-server's: its bus, the appsrc, the sender, and two for
//! RTCP. Where fifty recorders watch one camera, sharing would be worth its price; they do not.
//!
//! # From DESCRIBE to PLAY
//!
//! The pipeline is prepared for DESCRIBE with nothing but the parameter sets, which is all the
//! description needs, and reset to NULL (`RTSPSuspendMode::Reset`). PLAY starts it anew with a key
//! frame of now: no old picture is ever sent, and the RTP-Info in the answer is that of the first
//! packet. PAUSE resets it again.

mod address;
mod batch;
mod client;
mod connection;
mod door;
mod factory;
mod hop;
pub mod idle;
mod intake;
mod media;
pub mod refusal;
mod request;
mod sdp;
mod server;
mod warden;

pub use door::{SEND_BUFFER_BYTES, UNACKNOWLEDGED_MAX, UNSENT_BYTES_MAX};
pub use intake::REQUEST_BYTES_MAX;
pub use media::STALL_TIMEOUT;
pub use server::RtspServer;

/// A session that nobody keeps alive ends after this: a UDP viewer that has gone without a word.
/// Viewers are told, and keep alive at half of it.
pub const SESSION_TIMEOUT_SECONDS: u32 = 30;
