//! What a run leaves behind: the same of both tiers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::plan::{Plan, Tier};

/// A run of a plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// What was carried out.
    pub plan: Plan,
    /// How.
    pub tier: Tier,
    /// From which seed.
    pub seed: u64,
    /// Of which version of Lensline (`git describe`).
    pub version: String,
    /// When it began, seconds since the Unix epoch; 0 in tier A, whose records do not differ.
    pub began_unix_s: u64,
    /// The machine and what else it did: cores, load average at the end. Empty in tier A.
    pub conditions: String,
    /// One row every [`ROW_S`] seconds.
    pub rows: Vec<Row>,
    /// What happened when.
    pub events: Vec<Event>,
    /// Each viewer's account, by name.
    pub viewers: BTreeMap<String, Account>,
    /// The streamer before anybody came, and after all had left. Tier B.
    pub before: Option<Held>,
    /// See `before`.
    pub after: Option<Held>,
    /// Times the streamer ended without being told to.
    pub crashes: u32,
    /// Requests to `/healthz` that were not answered within a second, of so many.
    pub health: (u32, u32),
    /// What did not happen as the plan says, for want of means (no cgroup, no coturn, …).
    pub undone: Vec<String>,
    /// Invariants that were violated. Tier A.
    pub violations: Vec<String>,
}

/// Seconds from row to row: RFC 8868's 200 ms are taken together five by five.
pub const ROW_S: f64 = 1.0;

/// What was seen in one second.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Row {
    /// When the second was over.
    pub at_s: f64,
    /// Links by name, towards the viewers (`access`) and towards the streamer (`access up`).
    pub links: BTreeMap<String, LinkRow>,
    /// Viewers by name; only who was there.
    pub viewers: BTreeMap<String, ViewerRow>,
    /// Other traffic that arrived, in kilobits a second, by name.
    pub traffic_kbps: BTreeMap<String, f64>,
    /// The streamer.
    pub streamer: StreamerRow,
}

/// A direction of a link in one second.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct LinkRow {
    /// What it could carry; 0 no bound.
    pub capacity_kbps: f64,
    /// What came to it.
    pub offered_kbps: f64,
    /// What left it.
    pub delivered_kbps: f64,
    /// The queue at the end of the second.
    pub queue_ms: f64,
    /// Packets lost at random.
    pub lost: u64,
    /// Packets that found the queue full.
    pub dropped: u64,
}

/// A viewer in one second.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct ViewerRow {
    /// Pictures that came.
    pub frames: u64,
    /// Frames published in the time in which they were counted, which is not quite the row's:
    /// clients tell five times a second. The row's where it is left out.
    #[serde(default)]
    pub published: Option<u64>,
    /// Their media, in kilobits a second; 0 where the client does not tell.
    pub kbps: f64,
    /// Capture to decoded, the median of this second's pictures, where it is known.
    pub latency_ms: Option<f64>,
    /// Their longest.
    pub latency_max_ms: Option<f64>,
    /// Packets that did not come.
    pub lost: u64,
    /// Pictures whose stamp could not be read.
    pub damaged: u64,
}

/// The streamer in one second.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct StreamerRow {
    /// Frames published.
    pub published: u64,
    /// Frames skipped by its sessions.
    pub skipped: u64,
    /// What the encoder made.
    pub encoded_kbps: f64,
    /// Sessions at the end of the second.
    pub sessions: u64,
    /// Cores kept busy.
    pub cpu: f64,
    /// Resident memory.
    pub rss_mib: f64,
    /// Threads.
    pub threads: u64,
    /// Descriptors.
    pub descriptors: u64,
    /// Encoder to socket, the median and the 99th in a hundred.
    pub added_p50_ms: f64,
    /// See `added_p50_ms`.
    pub added_p99_ms: f64,
}

/// What the streamer holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each is what its name says")]
pub struct Held {
    pub sessions: u64,
    pub threads: u64,
    pub descriptors: u64,
    pub guards: u64,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at_s: f64,
    /// What, for a person.
    pub what: String,
}

/// One viewer from end to end.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Account {
    /// When it asked to come in.
    pub joined_s: f64,
    /// When its first picture came.
    pub first_frame_s: Option<f64>,
    /// Pictures that came.
    pub frames: u64,
    /// Frames published from its first picture on, while it was there.
    pub published: u64,
    /// Capture to decoded, of each picture: when it came, and how long it took in milliseconds.
    pub latencies: Vec<(f32, f32)>,
    /// Times without a picture of more than 200 ms: when it was over, and its length in
    /// milliseconds. One that lasts at the end counts.
    pub gaps: Vec<(f64, f64)>,
    /// How often it joined again.
    pub rejoins: u32,
    /// Why it was not let in, or what it said last.
    pub said: Option<String>,
}
