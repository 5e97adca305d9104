//! The same application in-process, with Rust's allocations counted by dhat: what stays for each join,
//! what a viewer holds while it is there, what a frame allocates. Visitors and viewers are other
//! processes (`visitors`), so that what they allocate does not count.
//!
//! What GStreamer allocates is C's and not seen here: `churn` watches the process' memory, threads,
//! descriptors and living objects.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool talks to whoever runs it")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, SystemTime};

use clap::Parser;
use dhat::HeapStats;
use lensline::cli;
use lensline_clients::{Exposition, Faces, Stage, free_port, load_average, usage};
use lensline_soak::budget::Budgets;
use lensline_soak::report::Report;
use lensline_soak::rows::Sample;
use lensline_soak::run::{exit_code, rate};
use lensline_soak::verdict::{Finding, Verdict};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Any wait for another process.
const TIMEOUT: Duration = Duration::from_secs(300);

/// How long nobody is there before it is rest: the ring then holds frames that nobody watched, and
/// what was on its way out is gone.
const REST_AFTER: Duration = Duration::from_secs(8);

/// How long the heap is looked at: as long as the ring is, since the sizes of its frames differ.
const LOOK_FOR: Duration = Duration::from_secs(9);

const FRAMERATE: f64 = 30.0;

const CONFIG: &str = "[webrtc]\nnegotiation_timeout_ms = 2000\nsilence_timeout_ms = 3000\n\
    [limits]\nwebrtc_sessions_max = 500\nrtsp_sessions_max = 500\n\
    sessions_per_address_max = 500\njoins_per_second_max = 500\n\
    [[camera]]\nid = \"sim\"\nwidth = 640\nheight = 360\nsource = { kind = \"simulated\" }\n\
    [camera.encoder]\nbitrate_kbps = 800\n";

#[derive(Debug, Parser)]
#[command(about = "Counts what Rust's heap holds for joins, viewers and frames")]
struct Arguments {
    /// Visitors in each of the two rounds that are compared.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    joins: u64,
    /// Visitors a second.
    #[arg(long, default_value_t = 8.0, value_parser = rate)]
    rate: f64,
    /// Viewers of each kind, for what one of them holds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..))]
    viewers: u8,
    /// The directory for the report.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Other budgets than those of soak/budgets.toml.
    #[arg(long)]
    budgets: Option<PathBuf>,
    /// Writes what is left at the end, by the place that allocated it, to this file, for
    /// <https://nnethercote.github.io/dh_view/dh_view.html>.
    #[arg(long)]
    profile: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime.map_err(|error| error.to_string()).and_then(|runtime| {
        let outcome = runtime.block_on(begin(arguments));
        runtime.shutdown_timeout(Duration::from_secs(1));
        outcome
    });
    exit_code("heap", outcome)
}

async fn begin(arguments: Arguments) -> Result<bool, String> {
    let profiler = match &arguments.profile {
        Some(path) => dhat::Profiler::builder().file_name(path).build(),
        None => dhat::Profiler::builder().testing().build(),
    };
    let passed = Box::pin(measure(&arguments)).await;
    drop(profiler);
    passed
}

/// What is measured in, and what was seen so far.
struct Bench<'a> {
    arguments: &'a Arguments,
    faces: Faces,
    began: Instant,
    joins: u64,
    /// Has room for all from the start, so that keeping them allocates nothing.
    samples: Vec<(f64, u64, usize, usize, u64)>,
}

async fn measure(arguments: &Arguments) -> Result<bool, String> {
    let budgets = Budgets::read(arguments.budgets.as_deref()).map_err(|error| error.to_string())?;
    let (application, faces) = start().await?;
    let mut bench = Bench {
        arguments,
        faces,
        began: Instant::now(),
        joins: 0,
        samples: Vec::with_capacity(10_000),
    };
    println!("heap: visits to warm up");
    bench.visits(2 * Stage::ALL.len() as u64).await?;
    let mut rounds = Vec::new();
    for round in 1..=2 {
        println!("heap: {} visits, round {round} of 2", arguments.joins);
        bench.visits(arguments.joins).await?;
        rounds.push(bench.look().await);
    }
    let [once, twice] = rounds[..] else { return Err("there are two rounds".into()) };
    let blocks_per_frame = bench.frames().await;
    let mut held = Vec::new();
    for (kind, name, budget) in [
        ("webrtc", "a WebRTC viewer", budgets.heap.bytes_per_webrtc_viewer),
        ("rtsp-tcp", "an RTSP viewer", budgets.heap.bytes_per_rtsp_viewer),
    ] {
        println!("heap: {} viewers: {kind}", arguments.viewers);
        let bytes = bench.viewers(kind, twice).await?;
        held.push(finding(&format!("bytes held by {name}"), bytes, budget));
    }
    let joins = arguments.joins as f64;
    let mut findings = vec![
        finding(
            "bytes that stay for a join",
            (twice.0 - once.0) / joins,
            budgets.heap.bytes_per_join,
        ),
        finding("blocks that stay for a join", (twice.1 - once.1) / joins, {
            budgets.heap.blocks_per_join
        }),
        finding("blocks allocated for a frame that nobody watches", blocks_per_frame, {
            budgets.heap.blocks_per_frame
        }),
    ];
    findings.append(&mut held);
    println!(
        "live after {joins} joins: {:.0} bytes in {:.0} blocks; after {}: {:.0} bytes in {:.0} blocks",
        once.0,
        once.1,
        2.0 * joins,
        twice.0,
        twice.1
    );
    let verdict = Verdict::of(findings);
    let path = bench.report(&verdict)?;
    print!("heap: {verdict}");
    println!("report: {}", path.display());
    application.abort();
    Ok(verdict.passes(false))
}

fn finding(name: &str, value: f64, budget: f64) -> Finding {
    Finding::at_most(name, value, budget, format!("{name}: {value:.1}, at most {budget:.0}"))
}

/// The application itself, on free ports.
async fn start() -> Result<(tokio::task::JoinHandle<()>, Faces), String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = directory.path().join("config.toml");
    std::fs::write(&file, CONFIG).map_err(|error| error.to_string())?;
    let [http, rtsp] =
        [free_port(), free_port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let (http, rtsp) = (http.to_string(), rtsp.to_string());
    let line = ["lensline", "run", "--listen", &http, "--rtsp-listen", &rtsp, "--config"];
    let line = line.iter().map(Into::into).chain([file.into_os_string()]);
    let cli::Command::Run(run) = cli::Arguments::parse_from(line).command else {
        return Err("`run` is what was asked for".into());
    };
    let loaded = run.config().map_err(|error| error.to_string())?;
    gst::init().map_err(|error| error.to_string())?;
    let application = tokio::spawn(async move {
        if let Err(error) = Box::pin(lensline::app::run(loaded.config, loaded.file)).await {
            eprintln!("heap: the application ended: {error}");
        }
    });
    let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).build();
    let client = client.map_err(|error| error.to_string())?;
    let faces =
        Faces { http: format!("http://{http}/"), rtsp: format!("rtsp://{rtsp}/sim"), client };
    let ready = async {
        loop {
            let answer = faces.client.get(format!("{}readyz", faces.http)).send().await;
            if answer.is_ok_and(|answer| answer.status() == 200) {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(20), ready).await.map_err(|_| "it does not become ready")?;
    Ok((application, faces))
}

impl Bench<'_> {
    fn others(&self, arguments: &[String]) -> Result<Child, String> {
        let itself = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(itself.with_file_name("visitors"));
        command.args(["--target", &self.faces.http, "--rtsp", &self.faces.rtsp]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        command.spawn().map_err(|error| format!("`visitors`, beside this program: {error}"))
    }

    /// Has so many visitors come and go, and waits for rest.
    async fn visits(&mut self, joins: u64) -> Result<(), String> {
        let rate = self.arguments.rate;
        let mut visitors = self.others(&[format!("--joins={joins}"), format!("--rate={rate}")])?;
        let until = Instant::now() + TIMEOUT;
        let status = loop {
            if let Some(status) = visitors.try_wait().map_err(|error| error.to_string())? {
                break status;
            }
            if Instant::now() > until {
                return Err(format!("{joins} visits are not over in {TIMEOUT:?}"));
            }
            self.sample();
            sleep(Duration::from_millis(500)).await;
        };
        if !status.success() {
            return Err("visits went wrong, see above".into());
        }
        self.joins += joins;
        self.rest().await
    }

    /// Waits until nobody has been there for a while.
    async fn rest(&mut self) -> Result<(), String> {
        let until = Instant::now() + TIMEOUT;
        let mut alone = Instant::now();
        while alone.elapsed() < REST_AFTER {
            let answer = self.faces.client.get(format!("{}metrics", self.faces.http)).send().await;
            let text = match answer {
                Ok(answer) => answer.text().await.map_err(|error| error.to_string())?,
                Err(error) => return Err(error.to_string()),
            };
            if Exposition::parse(&text).sum("lensline_sessions", &[]) > 0.0 {
                alone = Instant::now();
            }
            if Instant::now() > until {
                return Err("sessions do not end".into());
            }
            self.sample();
            sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    }

    fn sample(&mut self) -> (usize, usize) {
        let heap = HeapStats::get();
        let resident = usage(std::process::id()).map_or(0, |usage| usage.resident_bytes);
        let at_s = self.began.elapsed().as_secs_f64();
        self.samples.push((at_s, self.joins, heap.curr_bytes, heap.curr_blocks, resident));
        (heap.curr_bytes, heap.curr_blocks)
    }

    /// Live bytes and blocks, as a mean over the length of the ring.
    async fn look(&mut self) -> (f64, f64) {
        let until = Instant::now() + LOOK_FOR;
        let (mut bytes, mut blocks, mut count) = (0.0, 0.0, 0.0);
        while Instant::now() < until {
            sleep(Duration::from_millis(100)).await;
            let now = self.sample();
            (bytes, blocks, count) = (bytes + now.0 as f64, blocks + now.1 as f64, count + 1.0);
        }
        (bytes / count, blocks / count)
    }

    /// Blocks allocated for each frame while nobody watches.
    async fn frames(&mut self) -> f64 {
        let (before, began) = (HeapStats::get().total_blocks, Instant::now());
        sleep(LOOK_FOR).await;
        let blocks = HeapStats::get().total_blocks - before;
        blocks as f64 / (began.elapsed().as_secs_f64() * FRAMERATE)
    }

    /// Bytes that a viewer of this kind holds while it watches.
    async fn viewers(&mut self, kind: &str, alone: (f64, f64)) -> Result<f64, String> {
        let count = self.arguments.viewers;
        let mut viewers = self.others(&[format!("--watch={kind}={count}")])?;
        let stdout = viewers.stdout.take().ok_or("its output is ours")?;
        let mut lines = BufReader::new(stdout).lines();
        let watching = timeout(TIMEOUT, lines.next_line()).await;
        if !matches!(watching, Ok(Ok(Some(_)))) {
            return Err(format!("{kind}: not all see pictures"));
        }
        sleep(Duration::from_secs(3)).await;
        let there = self.look().await;
        drop(viewers);
        self.rest().await?;
        Ok((there.0 - alone.0) / f64::from(count))
    }

    fn report(&self, verdict: &Verdict) -> Result<PathBuf, String> {
        let unix = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let directory = self.arguments.report.clone();
        let directory = directory.unwrap_or_else(|| format!("target/soak/heap-{unix}").into());
        std::fs::create_dir_all(&directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?;
        let samples: Vec<Sample> = self
            .samples
            .iter()
            .map(|(at_s, joins, bytes, blocks, resident)| Sample {
                at_s: *at_s,
                joins: *joins,
                heap_bytes: Some(*bytes as f64),
                heap_blocks: Some(*blocks as f64),
                rss_bytes: *resident as f64,
                ..Sample::default()
            })
            .collect();
        let report = Report {
            title: "Lensline heap",
            began_unix_s: unix,
            conditions: vec![
                ("joins in each round", self.arguments.joins.to_string()),
                ("load average at the end", load_average()),
            ],
            verdict,
            rest: None,
            churn: None,
            events: &[],
            samples: &samples,
        };
        report.write(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        Ok(directory.join("report.html"))
    }
}
