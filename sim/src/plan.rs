//! Plans: who watches, over which links, what goes wrong when, and what must hold all the same.
//!
//! A plan is a TOML file (`sim/plans/*.toml`); times are seconds from the start of the run, which
//! is when the streamer is ready. A plan with a `[grid]` or a `[chaos]` is many: see [`Plan::cases`].

mod check;
mod grid;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::link::{Change, Shape};

pub use check::{PlanError, matches};
pub use lensline_clients::Player as ViewerKind;

/// A plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Its file's name without `.toml`; of a case of a grid, with the values after it.
    #[serde(default)]
    pub name: String,
    /// One line for a person.
    pub title: String,
    /// Where its figures come from, if from elsewhere.
    #[serde(default)]
    pub source: String,
    /// How long it takes.
    pub duration_s: f64,
    /// The tiers that carry it out; where a plan names faults that only real processes have, `["b"]`.
    #[serde(default = "both_tiers")]
    pub tiers: Vec<Tier>,
    /// The camera.
    #[serde(default)]
    pub camera: Camera,
    /// The streamer.
    #[serde(default)]
    pub streamer: Streamer,
    /// The links by name.
    #[serde(default)]
    pub link: BTreeMap<String, Pair>,
    /// Who watches.
    #[serde(default)]
    pub viewer: Vec<Viewer>,
    /// Other traffic on the links.
    #[serde(default)]
    pub traffic: Vec<Traffic>,
    /// What goes wrong.
    #[serde(default)]
    pub fault: Vec<Fault>,
    /// What must hold.
    #[serde(default)]
    pub expect: Vec<Expect>,
    /// Values to try, each with each: the key's path (`"link.access.down.delay_ms"`), the values.
    /// Where several keys change together, a word of one's own instead of the path, and tables of
    /// paths and values, each with the `name` of its case.
    #[serde(default)]
    pub grid: BTreeMap<String, Vec<toml::Value>>,
    /// Draws viewers, changes of links and faults at random.
    #[serde(default)]
    pub chaos: Option<Chaos>,
}

fn both_tiers() -> Vec<Tier> {
    vec![Tier::A, Tier::B]
}

/// How a plan is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// In virtual time, from a seed.
    A,
    /// With real processes, in real time.
    B,
}

/// The simulated camera.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Camera {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Pictures a second.
    pub framerate: u32,
    /// What the encoder aims at.
    pub bitrate_kbps: u32,
    /// Pictures from key frame to key frame.
    pub keyframe_interval: u32,
    /// How hard it is to encode, 0 to 1.
    pub noise: f64,
}

impl Default for Camera {
    fn default() -> Self {
        Self {
            width: 640,
            height: 360,
            framerate: 30,
            bitrate_kbps: 1000,
            keyframe_interval: 60,
            noise: 0.2,
        }
    }
}

/// The streamer under test.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Streamer {
    /// Its configuration beside what the plan's camera and addresses give, as in its own file:
    /// `[streamer.config.limits]`.
    pub config: toml::Table,
    /// The links between it and everybody, from it on.
    pub via: Vec<String>,
}

/// A link, both ways.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pair {
    /// Towards the viewers.
    pub down: Shape,
    /// Towards the streamer.
    pub up: Shape,
    /// What changes when.
    pub change: Vec<ChangeAt>,
}

/// A change of a link at a moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChangeAt {
    /// When.
    pub at_s: f64,
    /// Towards the viewers.
    pub down: Change,
    /// Towards the streamer.
    pub up: Change,
}

/// Viewers of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Viewer {
    /// What they are called; with `count` above 1, `name-1`, `name-2`, ….
    pub name: String,
    /// What they are.
    pub kind: ViewerKind,
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
    /// When the first joins.
    #[serde(default)]
    pub at_s: f64,
    /// From one joining to the next.
    #[serde(default)]
    pub every_s: f64,
    /// When they leave; at the end where it is left out.
    #[serde(default)]
    pub leave_s: Option<f64>,
    /// The links from the streamer's side to theirs.
    #[serde(default)]
    pub via: Vec<String>,
    /// They sit behind an address translation of their own (UDP and TCP), which `rebind` changes.
    #[serde(default)]
    pub nat: bool,
    /// They reach the streamer only through the TURN server.
    #[serde(default)]
    pub turn_only: bool,
    /// How long they see nothing until they join again. Tier B.
    #[serde(default = "fifteen")]
    pub lost_after_s: f64,
}

fn fifteen() -> f64 {
    15.0
}

fn one() -> u32 {
    1
}

impl Viewer {
    /// Each of them: its name and when it joins.
    pub fn each(&self) -> impl Iterator<Item = (String, f64)> + '_ {
        (0..self.count).map(|index| {
            let name = match self.count {
                1 => self.name.clone(),
                _ => format!("{}-{}", self.name, index + 1),
            };
            (name, self.at_s + f64::from(index) * self.every_s)
        })
    }
}

/// Traffic that is not ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// What it is called.
    pub name: String,
    /// What it is.
    pub kind: TrafficKind,
    /// How many of it.
    #[serde(default = "one")]
    pub count: u32,
    /// When it begins.
    #[serde(default)]
    pub at_s: f64,
    /// When it ends; at the end where it is left out.
    #[serde(default)]
    pub until_s: Option<f64>,
    /// The links it crosses, towards the viewers.
    pub via: Vec<String>,
    /// Kilobits a second of [`TrafficKind::UdpCbr`].
    #[serde(default)]
    pub rate_kbps: f64,
}

/// A kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrafficKind {
    /// A TCP transfer that never ends.
    TcpLong,
    /// TCP transfers of 30 to 50 KB, with pauses of 10 s on average (exponential) between them
    /// (RFC 8868).
    TcpShort,
    /// UDP at a constant rate.
    UdpCbr,
}

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// When.
    pub at_s: f64,
    /// For how long; what has no end ignores it.
    #[serde(default)]
    pub for_s: f64,
    /// What.
    #[serde(flatten)]
    pub kind: FaultKind,
}

/// What goes wrong. `viewer` and `link` are names; a viewer's may end in `*`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FaultKind {
    /// The camera's own faults (`sim` source, `faults`): `freeze`, `unplug`, `pts_jump`, `slow`,
    /// `garbage`.
    Camera {
        /// Which.
        what: CameraFault,
    },
    /// A link carries nothing, either way.
    Blackout {
        /// Which.
        link: String,
    },
    /// SIGSTOP, and SIGCONT at the end: a laptop that sleeps, a debugger.
    StopViewer {
        /// Whom.
        viewer: String,
    },
    /// SIGKILL; at the end, if there is one, it joins anew.
    KillViewer {
        /// Whom.
        viewer: String,
    },
    /// The streamer is stopped by SIGTERM, and started again after `for_s`.
    RestartStreamer,
    /// The streamer is killed by SIGKILL, and started again after `for_s`.
    KillStreamer,
    /// SIGSTOP for the streamer, and SIGCONT at the end.
    StopStreamer,
    /// The streamer gets so much of one core.
    Cpu {
        /// 0.5 is half a core.
        cores: f64,
    },
    /// The streamer gets so much memory, beyond which the kernel kills it.
    Memory {
        /// In MiB.
        mib: u64,
    },
    /// The streamer may have no more than so many files open.
    FdLimit {
        /// How many.
        files: u64,
    },
    /// The streamer's disk (log file, temporary files) is full.
    DiskFull,
    /// The wall clock of the streamer jumps.
    ClockStep {
        /// Ahead, or back where negative.
        by_s: f64,
    },
    /// A viewer gets another address.
    Roam {
        /// Who.
        viewer: String,
    },
    /// A viewer's address translation forgets, and gives other ports.
    Rebind {
        /// Whose.
        viewer: String,
    },
    /// The browser tab goes to sleep, and wakes at the end.
    TabAsleep {
        /// Whose.
        viewer: String,
    },
    /// Connections to HTTP that send a byte of a request now and then.
    SlowlorisHttp {
        /// How many.
        connections: u32,
    },
    /// The same to RTSP.
    SlowlorisRtsp {
        /// How many.
        connections: u32,
    },
    /// TCP connections to both whose other side is gone without a word.
    HalfOpen {
        /// How many to each.
        connections: u32,
    },
}

/// The camera's own faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the contract's own words, which say what they are")]
pub enum CameraFault {
    Freeze,
    Unplug,
    PtsJump,
    Slow,
    Garbage,
}

/// Something that must hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// What is measured.
    pub what: Measure,
    /// Whose, where it is a viewer's or a link's: a name, or a beginning with `*`. Each must hold.
    #[serde(default = "everybody")]
    pub of: String,
    /// At least.
    #[serde(default)]
    pub min: Option<f64>,
    /// At most.
    #[serde(default)]
    pub max: Option<f64>,
    /// From when on it is measured.
    #[serde(default)]
    pub from_s: Option<f64>,
    /// Until when.
    #[serde(default)]
    pub to_s: Option<f64>,
    /// In one tier only.
    #[serde(default)]
    pub tier: Option<Tier>,
    /// What is known to be missing, where it does not hold yet: reported, and no failure.
    #[serde(default)]
    pub missing: Option<String>,
}

fn everybody() -> String {
    "*".into()
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// A viewer's pictures by those published while it was there, 0 to 1.
    FramesShare,
    /// The longest time a viewer saw no new picture, in milliseconds.
    LongestGapMs,
    /// From a viewer's joining to its first picture, in milliseconds.
    FirstFrameMs,
    /// Capture to decoded (tier A: to the last packet's arrival), in milliseconds: the median.
    LatencyP50Ms,
    /// The same, the 95th in a hundred.
    LatencyP95Ms,
    /// A viewer's media, in kilobits a second.
    GoodputKbps,
    /// Times without a picture of more than 500 ms.
    Freezes,
    /// Pictures decoded whose stamp cannot be read.
    Damaged,
    /// A link's queue towards the viewers, in milliseconds: the 95th in a hundred.
    QueueP95Ms,
    /// The smallest by the greatest goodput of those named, 0 to 1.
    Fairness,
    /// How often a viewer had to join again.
    Rejoins,
    /// Sessions, threads, descriptors and guards of the streamer after all have left, beyond those
    /// before anybody came.
    SessionsLeft,
    /// Threads.
    ThreadsLeft,
    /// Descriptors.
    DescriptorsLeft,
    /// Guards.
    GuardsLeft,
    /// Times the streamer ended without being told to.
    Crashes,
    /// The streamer's memory at most, in MiB.
    RssMib,
    /// Requests of an honest visitor to `/healthz` that were not answered within a second.
    HealthFailures,
}

/// What is drawn at random.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chaos {
    /// At most so many viewers.
    pub viewers_max: u32,
    /// At most so many faults.
    pub faults_max: u32,
    /// At most so many changes of links.
    pub changes_max: u32,
    /// Kinds to draw from; those of light weight where it is left out.
    #[serde(default)]
    pub kinds: Vec<ViewerKind>,
    /// Whether the streamer's machine has faults too (CPU, memory, disk, files, clock): tier B.
    #[serde(default)]
    pub machine: bool,
}

impl Plan {
    /// Reads a plan's file.
    ///
    /// # Errors
    /// Says where the file is wrong, and what to write instead.
    pub fn read(file: &Path) -> Result<Self, PlanError> {
        let text = std::fs::read_to_string(file)
            .map_err(|error| PlanError::Unreadable(file.to_owned(), error.to_string()))?;
        let name = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or("plan");
        Self::parse(name, &text, file.parent().unwrap_or(Path::new(".")))
    }

    /// Reads a plan from its text; files it names lie in `folder`.
    ///
    /// # Errors
    /// Says where the text is wrong, and what to write instead.
    pub fn parse(name: &str, text: &str, folder: &Path) -> Result<Self, PlanError> {
        let mut plan: Self = toml::from_str(text)
            .map_err(|error| PlanError::Syntax(name.into(), error.to_string()))?;
        plan.name = name.into();
        plan.prepare(folder)?;
        Ok(plan)
    }

    /// What is carried out: the plan itself, or each case of its grid.
    ///
    /// # Errors
    /// Where a value of the grid makes a plan that is wrong.
    pub fn cases(&self, folder: &Path) -> Result<Vec<Self>, PlanError> {
        grid::cases(self, folder)
    }
}

#[cfg(test)]
mod tests;
