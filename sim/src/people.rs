//! The people of tier B: programs that its runner starts in network namespaces, each in a process of
//! its own.
//!
//! ```text
//! runner ── stdin: commands, and the end of its life ──▶ person ── stdout: one JSON object a line ──▶ runner
//! ```
//!
//! What they say is [`line::Line`]. A person ends on SIGTERM, on SIGINT, when its stdin is closed,
//! and with the thread that started it; what it started ends with it.

pub mod health;
pub mod hostile;
mod life;
pub mod line;
pub mod probe;
pub mod traffic;
pub mod viewer;

use std::process::ExitCode;

use clap::Subcommand;

/// Who there is.
#[derive(Debug, Subcommand)]
pub enum Person {
    /// Watches.
    #[command(hide = true)]
    Viewer(viewer::Args),
    /// Sends or receives what has nothing to do with us.
    #[command(hide = true)]
    Traffic(traffic::Args),
    /// Holds connections without using them.
    #[command(hide = true)]
    Hostile(hostile::Args),
    /// Asks whether the streamer is well.
    #[command(hide = true)]
    Health(health::Args),
    /// Measures a path, as iperf3 and ping do.
    #[command(hide = true)]
    Probe(probe::Args),
}

impl Person {
    /// Lives until all is done, or until its life is over; says why it ended.
    pub fn live(self) -> ExitCode {
        match self {
            Self::Viewer(args) => life::live(|commands| viewer::run(args, commands)),
            Self::Traffic(args) => life::live(|_| traffic::run(args)),
            Self::Hostile(args) => life::live(|_| hostile::run(args)),
            Self::Health(args) => life::live(|_| health::run(args)),
            Self::Probe(args) => life::live(|_| probe::run(args)),
        }
    }
}
