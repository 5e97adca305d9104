//! The clients that Lensline's scenario tests and measuring tools watch it with, and the handle
//! on the program itself. Everything goes through the public faces: the command line, the `ready`
//! line, HTTP, WHEP, RTSP, `/metrics` and `/proc`.
//!
//! What fails here panics with what it saw: this crate is used by tests and benches only.

mod certificate;
mod chromium;
mod command;
mod conversation;
mod datagram;
mod ffmpeg;
mod frames;
mod light;
mod metrics;
mod page;
mod process;
mod recorder;
mod rtsp;
mod server;
mod stats;
mod tunnel;
mod viewer;
mod visits;
mod whep;

pub use certificate::Credentials;
pub use chromium::Chromium;
pub use command::{Finished, Lines, aiortc, mortal, run};
pub use conversation::{RtpPacket, RtspAnswer, RtspConversation, unit_types};
pub use ffmpeg::Ffmpeg;
pub use frames::{GAP_MIN, Gap, Latency, Look, Stamp, Tally, Watch};
pub use light::{Arrival, LightOffer, LightReceiver, own_address};
pub use metrics::Exposition;
pub use page::PageViewer;
pub use process::{Usage, cpu_of_threads_named, load_average, send_signal, usage};
pub use recorder::{Recorder, RecorderTransport};
pub use rtsp::RtspReceiver;
pub use server::{Launch, Lensline, Stopped, free_port, until};
pub use stats::quantile;
pub use tunnel::Tunnel;
pub use viewer::{Attention, Newcomer, Player, Viewer};
pub use visits::{Faces, Stage};
pub use whep::{JoinError, WhepOffer, WhepReceiver};
