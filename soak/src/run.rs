//! What the programs have in common: their options, the looks once a second, rest, the report.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool talks to whoever runs it")]

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use lensline_clients::{Launch, load_average, quantile};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::budget::Budgets;
use crate::churn::{self, Churn};
use crate::crowd::Crowd;
use crate::report::Report;
use crate::rows::{Event, EventKind, Rows, Sample};
use crate::target::{Look, Target, TargetError};
use crate::verdict::{Rest, Verdict, judge, served};

/// How long the target may take to come to rest: its own timeouts are a few seconds, those of RTSP's
/// session pool and of idle threads in tokio and GLib are longer.
const REST_TIMEOUT: Duration = Duration::from_secs(75);

/// Rest is where nothing has become less for so long.
const REST_AFTER: Duration = Duration::from_secs(6);

/// How long the last visitors may take; each has a bound of its own.
const SEE_OFF_TIMEOUT: Duration = Duration::from_secs(70);

/// The slowest and the quickest rate of visitors.
const RATE_MIN: f64 = 0.001;
const RATE_MAX: f64 = 1_000.0;

/// How often a run that goes on writes its report.
const REPORT_EVERY: Duration = Duration::from_secs(300);

/// How often progress is told where nobody looks at a terminal.
const PROGRESS_EVERY: Duration = Duration::from_secs(30);

/// The target's limits and timeouts, where it is ours: room for the visitors, and no long memory of
/// those who vanish.
const CONFIG: &str = "[webrtc]\nnegotiation_timeout_ms = 2000\n\
    engine = \"ENGINE\"\n[limits]\nwebrtc_sessions_max = 500\nrtsp_sessions_max = 500\n\
    sessions_per_address_max = 500\njoins_per_second_max = 500\n\
    [[camera]]\nid = \"sim\"\nwidth = 1280\nheight = 720\n\
    source = { kind = \"simulated\", noise = 0.1, faults = [FAULTS] }\n";

/// What is watched, and where the report goes.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Watches the Lensline whose page has this address, as http://pi:8080/. Without it, one with a
    /// simulated camera is started.
    #[arg(long)]
    pub target: Option<String>,
    /// The RTSP address of the camera, where it is not at the target's port 8554.
    #[arg(long, requires = "target")]
    pub rtsp: Option<String>,
    /// The program to start, where it is not the `lensline` beside this one.
    #[arg(long, conflicts_with = "target")]
    pub binary: Option<PathBuf>,
    /// What carries WebRTC in the Lensline that is started: str0m or webrtcbin.
    #[arg(
        long,
        default_value = "str0m",
        conflicts_with = "target",
        value_parser = ["str0m", "webrtcbin"]
    )]
    pub engine: String,
    /// Added to its environment, as MALLOC_ARENA_MAX=1.
    #[arg(long, value_name = "NAME=VALUE", conflicts_with = "target")]
    pub env: Vec<String>,
    /// Does not count GStreamer's living objects, which costs the target a little.
    #[arg(long)]
    pub no_tracer: bool,
    /// The directory for the report; target/soak/NAME-TIME where not given.
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// Other budgets than those of soak/budgets.toml.
    #[arg(long)]
    pub budgets: Option<PathBuf>,
    /// Fails also where too little was seen to be sure.
    #[arg(long)]
    pub strict: bool,
    /// Starts a Lensline that leaks so many bytes for each join, to see that the verdict notices.
    #[arg(long, value_name = "BYTES", conflicts_with_all = ["target", "binary"])]
    pub plant_leak: Option<u64>,
}

/// A rate of visitors, for clap.
///
/// # Errors
/// Where it is none that can be kept.
pub fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (RATE_MIN..=RATE_MAX).contains(rate));
    rate.ok_or_else(|| format!("visitors a second, {RATE_MIN} to {RATE_MAX}"))
}

/// What a program says to whoever started it: 0 where the verdict passes, 1 where it does not, 2
/// where there is none, and why.
pub fn exit_code(name: &str, outcome: Result<bool, impl Display>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::from(2)
        }
    }
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is nothing to watch.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// There is nothing to hold it against.
    #[error(transparent)]
    Budget(#[from] crate::budget::BudgetError),
    /// The report cannot be written.
    #[error("{0}: {1}")]
    Report(String, std::io::Error),
    /// An option makes no sense.
    #[error("{0}")]
    Option(String),
}

/// SIGINT, SIGTERM and SIGHUP: what was seen so far is judged, and a target that is ours is stopped.
#[derive(Debug)]
struct Ending {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Ending {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// A run under way.
#[derive(Debug)]
pub struct Run {
    name: &'static str,
    /// What is watched.
    pub target: Target,
    /// Whether slopes are judged by what is seen now.
    pub judged: bool,
    /// The visitors, where there are any.
    pub churn: Option<Churn>,
    /// Those who came and went before these.
    visited: u64,
    /// What became of the last of them.
    tally: Option<churn::Tally>,
    /// Whether somebody asked for the end.
    ended: bool,
    /// The viewers who stay.
    pub crowd: Crowd,
    /// Where viewers tell what happens to them.
    pub voices: UnboundedSender<String>,
    heard: UnboundedReceiver<String>,
    ending: Ending,
    rows: Rows,
    budgets: Budgets,
    directory: PathBuf,
    conditions: Vec<(&'static str, String)>,
    began: Instant,
    began_at: SystemTime,
    looked: Option<Instant>,
    told: Option<Instant>,
    reported: Instant,
    strict: bool,
}

impl Run {
    /// Starts the target, or finds it; `faults` are its camera's, as in the configuration.
    ///
    /// # Errors
    /// Where there is nothing to watch, or no place for the report.
    pub async fn begin(
        name: &'static str,
        options: &Options,
        faults: &str,
    ) -> Result<Self, RunError> {
        let budgets = Budgets::read(options.budgets.as_deref())?;
        let began_at = SystemTime::now();
        let unix_s = unix_s(began_at);
        let directory = options
            .report
            .clone()
            .unwrap_or_else(|| PathBuf::from(format!("target/soak/{name}-{unix_s}")));
        let unwritable =
            |error: std::io::Error| RunError::Report(directory.display().to_string(), error);
        std::fs::create_dir_all(&directory).map_err(unwritable)?;
        let rows = Rows::new(&directory.join("rows.jsonl")).map_err(unwritable)?;
        // Before there is a streamer that would be left behind.
        let ending = Ending::new().map_err(unwritable)?;
        let target = match &options.target {
            Some(http) => Target::live(http, options.rtsp.as_deref()).await?,
            None => {
                let log = (!options.no_tracer).then(|| directory.join("objects.log"));
                Target::spawn(launch(options, faults, &directory)?, log).await?
            }
        };
        let conditions = conditions(options, &target);
        let (voices, heard) = mpsc::unbounded_channel();
        let began = Instant::now();
        Ok(Self {
            name,
            target,
            judged: false,
            churn: None,
            visited: 0,
            tally: None,
            ended: false,
            crowd: Crowd::default(),
            voices,
            heard,
            ending,
            rows,
            budgets,
            directory,
            conditions,
            began,
            began_at,
            looked: None,
            told: None,
            reported: began,
            strict: options.strict,
        })
    }

    /// Looks once a second until `length` is over or `done` says so. After SIGINT, SIGTERM or SIGHUP
    /// there is no more looking: not in this phase and not in those that follow.
    ///
    /// # Errors
    /// Where what was seen cannot be kept.
    pub async fn watch(
        &mut self,
        length: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Result<(), RunError> {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let until = Instant::now() + length;
        while Instant::now() < until && !self.ended && !done(self) {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.ending.asked() => {
                    self.ended = true;
                    break;
                }
            }
            self.look().await?;
            self.tell(until);
            if self.reported.elapsed() >= REPORT_EVERY {
                self.reported = Instant::now();
                self.report(&self.judge(None), None)?;
            }
        }
        Ok(())
    }

    /// Whether every visitor has been sent.
    pub fn all_have_come(&self) -> bool {
        self.churn.as_ref().is_none_or(Churn::is_done)
    }

    /// Sends no more visitors, and waits until those under way are back.
    ///
    /// # Errors
    /// Where what was seen cannot be kept.
    pub async fn see_off(&mut self) -> Result<(), RunError> {
        self.churn.iter().for_each(Churn::stop);
        self.watch(SEE_OFF_TIMEOUT, |run| run.churn.iter().all(Churn::all_are_back)).await?;
        if let Some(churn) = self.churn.take() {
            self.visited += churn.joins();
            self.tally = Some(churn.tally());
        }
        Ok(())
    }

    /// Waits until nothing becomes less any more, and gives what is held then.
    ///
    /// # Errors
    /// Where what was seen cannot be kept.
    pub async fn rest(&mut self) -> Result<Option<Sample>, RunError> {
        self.at_rest_by(None).await
    }

    /// The same; it need not wait once it is back at `before`.
    ///
    /// # Errors
    /// Where what was seen cannot be kept.
    pub async fn at_rest_by(
        &mut self,
        before: Option<&Sample>,
    ) -> Result<Option<Sample>, RunError> {
        let until = Instant::now() + REST_TIMEOUT;
        let mut least: Option<(Sample, Instant)> = None;
        while Instant::now() < until {
            tokio::select! {
                () = sleep(Duration::from_secs(1)) => {}
                () = self.ending.asked() => self.ended = true,
            }
            if self.ended {
                // Not at rest, so nothing to compare.
                return Ok(None);
            }
            self.target.count_objects_next();
            let Some(now) = self.look().await? else { continue };
            self.tell(until);
            match &mut least {
                Some((known, since)) => {
                    if less(&now, known) {
                        *since = Instant::now();
                    }
                    let enough = before.is_none_or(|before| !less(before, known));
                    *known = lesser(known, now);
                    let others = before.map_or(0.0, |before| before.sessions);
                    if known.sessions <= others && enough && since.elapsed() >= REST_AFTER {
                        break;
                    }
                }
                None => least = Some((now, Instant::now())),
            }
        }
        Ok(least.map(|(sample, _)| sample))
    }

    /// One look, which is kept.
    async fn look(&mut self) -> Result<Option<Sample>, RunError> {
        let at_s = self.began.elapsed().as_secs_f64();
        let mut happened = Vec::new();
        let look = self.target.look(|kind, what| happened.push((kind, what))).await;
        while let Ok(what) = self.heard.try_recv() {
            happened.push((EventKind::Viewer, what));
        }
        for (kind, what) in happened {
            self.clear_line();
            println!("{at_s:6.0} s  {what}");
            self.rows.event(Event { at_s, kind, what }).map_err(|error| self.unwritable(error))?;
        }
        let now = Instant::now();
        let seconds = self.looked.replace(now).map(|then| now.duration_since(then).as_secs_f64());
        let frames = self.crowd.frames();
        let latencies = self.crowd.latencies_ms();
        let Look::Seen(mut sample) = look else { return Ok(None) };
        sample.at_s = at_s;
        sample.judged = self.judged;
        sample.joins = self.visited + self.churn.as_ref().map_or(0, Churn::joins);
        if let Some(seconds) = seconds {
            sample.viewer_fps =
                frames.into_iter().map(|(name, count)| (name, count as f64 / seconds)).collect();
        }
        sample.latency_ms =
            (!latencies.is_empty()).then(|| [0.5, 0.99].map(|q| quantile(&latencies, q)));
        self.rows.sample(Sample::clone(&sample)).map_err(|error| self.unwritable(error))?;
        Ok(Some(*sample))
    }

    /// A line of progress: in place on a terminal, now and then elsewhere.
    fn tell(&mut self, until: Instant) {
        let terminal = std::io::stdout().is_terminal();
        if !terminal && self.told.is_some_and(|told| told.elapsed() < PROGRESS_EVERY) {
            return;
        }
        self.told = Some(Instant::now());
        let Some(sample) = self.rows.samples.last() else { return };
        let left = until.saturating_duration_since(Instant::now()).as_secs();
        let line = format!(
            "{:6.0} s  {left} s left  joins {}  sessions {}  RSS {:.1} MiB  threads {}  fds {}  \
             guards {}  {:.0} fps",
            sample.at_s,
            sample.joins,
            sample.sessions,
            sample.rss_bytes / 1024.0 / 1024.0,
            sample.threads,
            sample.fds,
            sample.guards_live(),
            sample.published_fps.unwrap_or_default()
        );
        self.clear_line();
        match terminal {
            true => print!("{line}"),
            false => println!("{line}"),
        }
        // Progress that nobody can read is no reason to end.
        let _ = std::io::stdout().flush();
    }

    fn clear_line(&self) {
        if std::io::stdout().is_terminal() {
            print!("\r\x1b[2K");
        }
    }

    fn judge(&self, rest: Option<&Rest>) -> Verdict {
        judge(&self.rows.samples, &self.rows.events, rest, &self.budgets)
    }

    /// Stops the target, writes the report, and prints the verdict; whether a gate passes.
    ///
    /// # Errors
    /// Where the report cannot be written.
    pub async fn conclude(
        mut self,
        before: Option<Sample>,
        after: Option<Sample>,
    ) -> Result<bool, RunError> {
        // What one life held says nothing of what another does.
        let rest = before.zip(after).filter(|(before, after)| before.life == after.life);
        let rest = rest.map(|(before, after)| Rest { before, after });
        let churn = self.tally.take();
        let mut findings = self.judge(rest.as_ref()).findings;
        findings.extend(churn.as_ref().map(|churn| served(churn, &self.budgets)));
        let verdict = Verdict::of(findings);
        self.conditions.push(("load average at the end", load_average()));
        self.write(&verdict, rest.as_ref(), churn)?;
        self.clear_line();
        if self.ended {
            println!("\n{}: stopped early; what was seen is judged", self.name);
        }
        print!("\n{}: {verdict}", self.name);
        println!("report: {}", self.directory.join("report.html").display());
        if let Some(problem) = self.target.stop().await {
            println!("  Broken   {problem}");
            return Ok(false);
        }
        Ok(verdict.passes(self.strict))
    }

    fn report(&self, verdict: &Verdict, rest: Option<&Rest>) -> Result<(), RunError> {
        self.write(verdict, rest, self.churn.as_ref().map(Churn::tally))
    }

    fn write(
        &self,
        verdict: &Verdict,
        rest: Option<&Rest>,
        churn: Option<churn::Tally>,
    ) -> Result<(), RunError> {
        let report = Report {
            title: &format!("Lensline {}", self.name),
            began_unix_s: unix_s(self.began_at),
            conditions: self.conditions.clone(),
            verdict,
            rest,
            churn,
            events: &self.rows.events,
            samples: &self.rows.samples,
        };
        report.write(&self.directory).map_err(|error| self.unwritable(error))
    }

    fn unwritable(&self, error: std::io::Error) -> RunError {
        RunError::Report(self.directory.display().to_string(), error)
    }
}

/// How to start the target.
fn launch(options: &Options, faults: &str, directory: &Path) -> Result<Launch, RunError> {
    let config = CONFIG.replace("ENGINE", &options.engine).replace("FAULTS", faults);
    let mut launch = Launch::new(program(options)?, config);
    launch.log = Some(directory.join("lensline.log"));
    launch.own_group = true;
    for pair in &options.env {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| RunError::Option(format!("--env {pair}: write it as NAME=VALUE")))?;
        launch.environment.push((name.into(), value.into()));
    }
    if let Some(bytes) = options.plant_leak {
        launch.environment.push(("LEAK_BYTES_PER_JOIN".into(), bytes.to_string()));
    }
    Ok(launch)
}

/// The program to start: the one asked for, or the one beside this.
fn program(options: &Options) -> Result<PathBuf, RunError> {
    if let Some(binary) = &options.binary {
        return Ok(binary.clone());
    }
    let name = if options.plant_leak.is_some() { "leaky" } else { "lensline" };
    let itself = std::env::current_exe().map_err(|error| RunError::Option(error.to_string()))?;
    let beside = itself.with_file_name(name);
    match beside.exists() {
        true => Ok(beside),
        false => Err(RunError::Option(format!(
            "{} is not there: build it with `cargo build --release --workspace`, or name one with \
             --binary",
            beside.display()
        ))),
    }
}

fn conditions(options: &Options, target: &Target) -> Vec<(&'static str, String)> {
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get());
    let mut conditions = vec![
        ("target", target.description()),
        ("cores of this machine", cores.to_string()),
        ("load average at the start", load_average()),
    ];
    if options.target.is_none() {
        conditions.push(("engine", options.engine.clone()));
        conditions.push(("environment", options.env.join(" ")));
        conditions.push(("leaks tracer", (!options.no_tracer).to_string()));
    }
    if let Some(bytes) = options.plant_leak {
        conditions.push(("planted leak", format!("{bytes} bytes a join")));
    }
    conditions
}

fn unix_s(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Whether `one` holds less of anything that is counted than `other`.
fn less(one: &Sample, other: &Sample) -> bool {
    one.sessions < other.sessions
        || one.threads < other.threads
        || one.fds < other.fds
        || one.guards_live() < other.guards_live()
        || one.gst_objects_live() < other.gst_objects_live()
}

/// What is held at the least of each kind.
fn lesser(known: &Sample, now: Sample) -> Sample {
    let fewer = known
        .gst_objects_live()
        .is_some_and(|known| now.gst_objects_live().is_none_or(|now| known < now));
    Sample {
        threads: known.threads.min(now.threads),
        fds: known.fds.min(now.fds),
        gst_objects: if fewer { known.gst_objects.clone() } else { now.gst_objects.clone() },
        guards: if known.guards_live() < now.guards_live() {
            known.guards.clone()
        } else {
            now.guards.clone()
        },
        ..now
    }
}
