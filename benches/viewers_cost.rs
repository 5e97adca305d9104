//! What viewers cost the server process, by kind and number: CPU, memory, threads and descriptors
//! beyond the idle server's, and how long encoded frames take to the socket. The camera's and the
//! encoder's threads are counted apart: their time varies by more than ten viewers cost.
//!
//! `cargo bench --bench viewers_cost -- --rounds 3`; about 30 s for each line of the table. The
//! viewers are light receivers (no decoding) in another process, which is this program again:
//! `webrtc` on str0m, one task each; `webrtcbin` on webrtcbin, eight threads each; `rtsp` on
//! rtspsrc over TCP. `--engine webrtcbin` measures the other engine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a measuring tool ends where it cannot measure, and prints what it measured"
)]

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use clap::Parser;
use lensline_clients::{
    Exposition, Lensline, LightReceiver, Lines, Look, RtspReceiver, Tally, Usage, WhepReceiver,
    cpu_of_threads_named, load_average, own_address, quantile, until,
};
use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStdin, Command};

/// The threads of the camera and its encoder, by their names without digits.
const ENCODER_THREADS: [&str; 2] = ["appsrc:src", "sim-camera"];

const FRAMERATE: u32 = 30;
const LOOK: Look = Look::Packets { framerate: FRAMERATE };

/// The stream that is watched: 720p30 at 2.5 Mbit/s, hard enough to encode to need them.
const CONFIG: &str = "[limits]\nwebrtc_sessions_max = 200\nrtsp_sessions_max = 200\n\
    sessions_per_address_max = 200\njoins_per_second_max = 500\n\
    [[camera]]\nid = \"sim\"\nsource = { kind = \"simulated\", noise = 0.3 }\n";

#[derive(Debug, Parser)]
struct Options {
    /// How often each number of viewers is measured; medians are printed.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// How long each is measured.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// The numbers of viewers.
    #[arg(long, value_delimiter = ',', default_value = "0,1,10,50")]
    viewers: Vec<usize>,
    /// The kinds of viewers: webrtc, webrtcbin, rtsp.
    #[arg(long, value_delimiter = ',', default_value = "webrtc,rtsp")]
    kinds: Vec<String>,
    /// What carries WebRTC in the server.
    #[arg(long, default_value = "str0m")]
    engine: String,
    /// Prints which threads the CPU time went to.
    #[arg(long)]
    threads: bool,
    /// For itself: be the viewers of this address.
    #[arg(long, hide = true)]
    receive: Option<String>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let options = Options::parse();
    if let Some(address) = &options.receive {
        return receive(address, &options.kinds[0], options.viewers[0]).await;
    }
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get());
    println!("720p30, {cores} cores, load average before {}", load_average());
    println!(
        "kind      viewers  CPU beyond idle  (encoder)     RSS     beyond idle  threads  fds   \
         Mbit/s  missed  send p50 / p95 / p99"
    );
    for kind in &options.kinds {
        for viewers in &options.viewers {
            let mut rounds = Vec::new();
            for _ in 0..options.rounds {
                rounds.push(measure(&options, kind, *viewers).await);
            }
            print_line(kind, *viewers, &rounds);
        }
    }
    println!("load average after {}", load_average());
}

/// One round.
struct Round {
    idle_cpu: Cpu,
    cpu: Cpu,
    idle: Usage,
    busy: Usage,
    bitrate_bps: f64,
    missed: f64,
    send: [Option<f64>; 3],
}

/// Percent of one core.
#[derive(Clone, Copy)]
struct Cpu {
    /// Camera and encoder.
    encoder: f64,
    /// Everything else.
    rest: f64,
}

async fn measure(options: &Options, kind: &str, viewers: usize) -> Round {
    let seconds = Duration::from_secs(options.seconds);
    let config = format!("[webrtc]\nengine = \"{}\"\n{CONFIG}", options.engine);
    let server = Lensline::start(env!("CARGO_BIN_EXE_lensline"), &config).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle_cpu = cpu(&server, seconds, false).await;
    let idle = server.usage();
    let mut crowd = match viewers {
        0 => None,
        _ => Some(Crowd::start(&server, kind, viewers).await),
    };
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before: Exposition = server.metrics().await;
    let (bytes, began) = (bytes_sent(&server).await, Instant::now());
    let cpu = cpu(&server, seconds, options.threads).await;
    let busy = server.usage();
    let sent = bytes_sent(&server).await - bytes;
    let after = server.metrics().await;
    let send = [0.5, 0.95, 0.99]
        .map(|q| after.quantile(&before, "lensline_stage_seconds", &[("stage", "send")], q));
    let missed = match &mut crowd {
        Some(crowd) => crowd.missed().await,
        None => 0.0,
    };
    let bitrate_bps = 8.0 * sent / began.elapsed().as_secs_f64() / viewers.max(1) as f64;
    Round { idle_cpu, cpu, idle, busy, bitrate_bps, missed, send }
}

/// The server's CPU time over so long.
async fn cpu(server: &Lensline, length: Duration, print: bool) -> Cpu {
    let (before, began) = (cpu_of_threads_named(server.pid), Instant::now());
    tokio::time::sleep(length).await;
    let (after, elapsed) = (cpu_of_threads_named(server.pid), began.elapsed().as_secs_f64());
    let mut cpu = Cpu { encoder: 0.0, rest: 0.0 };
    for (name, used) in after {
        let used = used.saturating_sub(before.get(&name).copied().unwrap_or_default());
        let percent = 100.0 * used.as_secs_f64() / elapsed;
        if print {
            println!("  {name:<18} {percent:6.2} %");
        }
        match ENCODER_THREADS.contains(&name.as_str()) {
            true => cpu.encoder += percent,
            false => cpu.rest += percent,
        }
    }
    cpu
}

async fn bytes_sent(server: &Lensline) -> f64 {
    let sessions = server.sessions().await;
    sessions.iter().filter_map(|session| session["bytes"].as_f64()).sum()
}

fn print_line(kind: &str, viewers: usize, rounds: &[Round]) {
    const MIB: f64 = 1024.0 * 1024.0;
    let median =
        |of: &dyn Fn(&Round) -> f64| quantile(&rounds.iter().map(of).collect::<Vec<_>>(), 0.5);
    let resident = |usage: &Usage| usage.resident_bytes as f64 / MIB;
    let send = rounds[0].send.map(|bound| match bound {
        Some(seconds) => format!("<= {:.1} ms", seconds * 1e3),
        None => "-".into(),
    });
    println!(
        "{kind:<9} {viewers:7}  {:13.2} %  ({:5.1} %)  {:6.1} MiB  {:6.1} MiB  {:7}  {:4}  {:6.2}  \
         {:6}  {}",
        median(&|round| round.cpu.rest - round.idle_cpu.rest),
        median(&|round| round.cpu.encoder),
        median(&|round| resident(&round.busy)),
        median(&|round| resident(&round.busy) - resident(&round.idle)),
        median(&|round| round.busy.threads as f64),
        median(&|round| round.busy.open_fds as f64),
        median(&|round| round.bitrate_bps) / 1e6,
        median(&|round| round.missed),
        send.join(" / "),
    );
}

/// The viewers' process, as its parent sees it.
struct Crowd {
    lines: Lines,
    stdin: ChildStdin,
}

impl Crowd {
    async fn start(server: &Lensline, kind: &str, viewers: usize) -> Self {
        let address = match kind {
            "rtsp" => server.rtsp[0].clone(),
            _ => server.url("whep/sim"),
        };
        let itself = std::env::current_exe().unwrap();
        let mut command = Command::new(itself);
        command.args(["--receive", &address, "--kinds", kind, "--viewers", &viewers.to_string()]);
        let (mut lines, stdin) = Lines::start_with_stdin(&mut command);
        lines.event("ready", Duration::from_secs(120)).await;
        Self { lines, stdin }
    }

    /// Frames that the viewers missed since they were ready.
    async fn missed(&mut self) -> f64 {
        self.stdin.write_all(b"report\n").await.unwrap();
        let report = self.lines.event("report", Duration::from_secs(20)).await;
        report["missed"].as_f64().unwrap()
    }
}

enum Viewer {
    Webrtc(LightReceiver),
    Webrtcbin(WhepReceiver),
    Rtsp(RtspReceiver),
}

impl Viewer {
    fn tally(&self) -> Tally {
        match self {
            Self::Webrtc(viewer) => viewer.tally(),
            Self::Webrtcbin(viewer) => viewer.tally(),
            Self::Rtsp(viewer) => viewer.tally(),
        }
    }
}

/// Be `count` viewers of `address`: says when all see frames, and, for each line on stdin, how
/// many they missed since. Ends with stdin.
async fn receive(address: &str, kind: &str, count: usize) {
    let http = reqwest::Client::new();
    let mut viewers = Vec::new();
    for _ in 0..count {
        viewers.push(match kind {
            "rtsp" => Viewer::Rtsp(RtspReceiver::start(address, "tcp", LOOK)),
            "webrtcbin" => {
                Viewer::Webrtcbin(WhepReceiver::join(&http, address, LOOK).await.unwrap())
            }
            _ => {
                let viewer = LightReceiver::join(
                    &http,
                    address,
                    own_address(Ipv4Addr::LOCALHOST.into()),
                    FRAMERATE,
                )
                .await;
                Viewer::Webrtc(viewer.unwrap())
            }
        });
    }
    until("all viewers see frames", Duration::from_secs(60), async || {
        viewers.iter().all(|viewer| viewer.tally().frames >= 30).then_some(())
    })
    .await;
    let missed = || viewers.iter().map(|viewer| viewer.tally().missed).sum::<u64>();
    let before = missed();
    println!("{{\"event\": \"ready\"}}");
    // Nothing else is left to do on this thread: the viewers run on others.
    for _ in std::io::stdin().lines() {
        println!("{{\"event\": \"report\", \"missed\": {}}}", missed() - before);
    }
}
