//! Tier A: a plan in virtual time. The same plan and seed give the same run, step by step.
//!
//! ```text
//!           camera ─ model ─▶ Publisher ─ ring ─ Subscriber ─▶ WebRTC: Course, packets ─┐
//!  Watchdog, Timeline, Pacing     (distributor)    woken only  RTSP: appsrc, TCP ──────┤
//!                                                  by wakers            Admission      net: links
//!           checker: hears of every step, keeps its own books                          │
//!                                     viewer ─ receiver (NACK, PLI) or TCP, reports ◀──┘
//! ```
//!
//! Real are the distributor, admission, a WebRTC session's decisions (`course`, `liveness`), the
//! idle rule of RTSP, the bounds of feeds and sockets, and what decides over the camera: watchdog,
//! back-off, time line, pacing of key frames. Models are the encoder, str0m (retransmission as far
//! as its bounds go; no ICE checks, no bandwidth estimate), TCP, and the viewers.

mod agenda;
mod camera;
mod check;
mod log;
mod net;
mod receiver;
mod streamer;
mod tcp;
mod viewer;
mod wake;
mod world;

use crate::plan::{Plan, PlanError};
use crate::record::Record;

pub use check::{Rule, Violation};
pub use log::Keep;

use world::World;

/// How a run is carried out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// How much of the trace is kept.
    pub keep: Keep,
    /// Whether the first violation ends it.
    pub stop_at_violation: bool,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Run {
    /// What it leaves behind.
    pub record: Record,
    /// What was broken.
    pub violations: Vec<Violation>,
    /// Its steps, as far as they were to be kept: seconds, then what happened. What follows from a
    /// step is indented.
    pub trace: Vec<String>,
}

/// Carries out a plan, which has no grid and no chaos left in it.
///
/// # Errors
/// Where the streamer's configuration in the plan is wrong.
pub fn run(plan: &Plan, seed: u64, options: Options) -> Result<Run, PlanError> {
    Ok(World::new(plan, seed, options)?.run(options))
}

#[cfg(test)]
mod tests;
