//! What was seen, in the order of time, kept on disk as soon as it is known.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// One look at the target. What could not be had is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds since the run began.
    pub at_s: f64,
    /// Which life of the target: one more after each restart.
    pub life: u32,
    /// Whether slopes are judged by it: not before the visitors come, nor at rest.
    pub judged: bool,
    /// Visitors who have come and gone so far.
    pub joins: u64,
    /// Live sessions.
    pub sessions: f64,
    /// Resident memory.
    pub rss_bytes: f64,
    /// Resident memory with shared pages split among those who share them.
    pub pss_bytes: Option<f64>,
    /// Rust's live allocations, where dhat counts them.
    pub heap_bytes: Option<f64>,
    /// The blocks that these are in.
    pub heap_blocks: Option<f64>,
    /// Threads.
    pub threads: f64,
    /// Open file descriptors.
    pub fds: f64,
    /// Live guards by kind.
    pub guards: BTreeMap<String, f64>,
    /// Live GStreamer objects by type, where the leaks tracer counts them.
    pub gst_objects: Option<BTreeMap<String, u64>>,
    /// CPU since the last look, in percent of one core.
    pub cpu_percent: Option<f64>,
    /// The hottest thermal zone.
    pub temperature_celsius: Option<f64>,
    /// What the encoders are told to produce, in sum.
    pub encoder_bitrate_bps: f64,
    /// Frames published a second since the last look.
    pub published_fps: Option<f64>,
    /// Frames a second that sessions were not given since the last look.
    pub skipped_per_s: Option<f64>,
    /// From the encoder to the socket since the last look: p50 and p99, by the histogram's buckets.
    pub send_ms: Option<[f64; 2]>,
    /// From the capture to a decoded picture in our hands since the last look: p50 and p99, by the
    /// stamp in the simulated picture.
    pub latency_ms: Option<[f64; 2]>,
    /// Frames a second of each viewer since the last look.
    pub viewer_fps: BTreeMap<String, f64>,
    /// Session pipelines that did not stop in time, so far in this life.
    pub teardowns_stuck: f64,
    /// Times a camera was rebuilt, so far in this life.
    pub camera_restarts: f64,
}

impl Sample {
    /// Live guards of all kinds.
    pub fn guards_live(&self) -> f64 {
        self.guards.values().sum()
    }

    /// Live GStreamer objects of all types.
    pub fn gst_objects_live(&self) -> Option<f64> {
        self.gst_objects.as_ref().map(|objects| objects.values().sum::<u64>() as f64)
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Seconds since the run began.
    pub at_s: f64,
    /// What kind.
    pub kind: EventKind,
    /// In words.
    pub what: String,
}

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The target ended, or began anew.
    Restart,
    /// The target does not answer.
    Silent,
    /// A viewer lost the picture, or was not let in.
    Viewer,
}

/// A line of the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Row {
    Sample(Box<Sample>),
    Event(Event),
}

/// Everything seen so far, in memory and on disk.
#[derive(Debug)]
pub struct Rows {
    /// The looks.
    pub samples: Vec<Sample>,
    /// What happened.
    pub events: Vec<Event>,
    file: File,
}

impl Rows {
    /// Rows that are kept in `path` as well.
    ///
    /// # Errors
    /// Where the file cannot be made.
    pub fn new(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).write(true).truncate(true).open(path)?;
        Ok(Self { samples: Vec::new(), events: Vec::new(), file })
    }

    /// Keeps a look.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn sample(&mut self, sample: Sample) -> io::Result<()> {
        self.write(&Row::Sample(Box::new(sample.clone())))?;
        self.samples.push(sample);
        Ok(())
    }

    /// Keeps what happened.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn event(&mut self, event: Event) -> io::Result<()> {
        self.write(&Row::Event(event.clone()))?;
        self.events.push(event);
        Ok(())
    }

    fn write(&mut self, row: &Row) -> io::Result<()> {
        let mut line = serde_json::to_vec(row)?;
        line.push(b'\n');
        self.file.write_all(&line)
    }
}
