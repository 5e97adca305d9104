//! The people of tier B in front of a real Lensline, on loopback. It is the one that lies beside the
//! test: `cargo build --bin lensline` makes it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use lensline_clients::{Lensline, Lines, free_port, send_signal, until, usage};
use lensline_sim::people::line::{Line, Look};
use rustix::process::Signal;
use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStdin, Command};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// What takes no longer than it must, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

const CAMERA: &str = "[[camera]]\nid = \"sim\"\nwidth = 320\nheight = 180\nframerate = 15\n\
    source = { kind = \"simulated\" }\n";

const KINDS: [&str; 10] = [
    "light",
    "websocket",
    "webrtcbin",
    "chromium",
    "aiortc",
    "rtsp-tcp",
    "rtsp-udp",
    "ffmpeg-tcp",
    "ffmpeg-udp",
    "recorder",
];

/// One test at a time has the machine: they measure.
static MACHINE: Mutex<()> = Mutex::const_new(());

/// A person in a process of its own; dropping it closes its stdin, and kills it.
struct Person {
    lines: Lines,
    stdin: Option<ChildStdin>,
    pid: u32,
}

impl Person {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
        let (lines, stdin) = Lines::start_with_stdin(command.args(arguments));
        let pid = lines.pid().unwrap();
        Self { lines, stdin: Some(stdin), pid }
    }

    fn viewer(kind: &str, server: &Lensline, more: &[&str]) -> Self {
        let faces = ["--http", &server.http, "--rtsp", &server.rtsp[0], "--framerate", "15"];
        Self::start(&[&["viewer", "--kind", kind], &faces[..], more].concat())
    }

    async fn tell(&mut self, command: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(format!("{command}\n").as_bytes()).await.unwrap();
    }

    /// The next line; `None` at the end of its life.
    async fn next(&mut self) -> Option<Line> {
        let line = self.lines.next(SOON).await?;
        Some(serde_json::from_value(line).unwrap())
    }

    /// What `probe` finds in the first line where it finds something.
    async fn find<T>(&mut self, what: &str, probe: impl Fn(&Line) -> Option<T>) -> T {
        let end = Instant::now() + SOON;
        let mut said = Vec::new();
        while Instant::now() < end {
            let Some(line) = self.next().await else { break };
            if let Some(found) = probe(&line) {
                return found;
            }
            said.push(line);
        }
        panic!("waited in vain: {what}; it said {said:#?}");
    }

    async fn look(&mut self, what: &str, enough: impl Fn(&Look) -> bool) -> Look {
        let seen = |line: &Line| match line {
            Line::Look(look) if enough(look) => Some(look.clone()),
            _ => None,
        };
        self.find(what, seen).await
    }

    fn children(&self) -> Vec<u32> {
        let all = procfs::process::all_processes().unwrap().flatten();
        let stats = all.filter_map(|process| process.stat().ok());
        let ours = stats.filter(|stat| u32::try_from(stat.ppid).ok() == Some(self.pid));
        ours.filter_map(|stat| u32::try_from(stat.pid).ok()).collect()
    }
}

async fn serve(more: &str) -> Lensline {
    let test = std::env::current_exe().unwrap();
    let binary: PathBuf = test.ancestors().nth(2).unwrap_or(Path::new(".")).join("lensline");
    assert!(binary.exists(), "{} is missing: cargo build --bin lensline", binary.display());
    Lensline::start(binary.to_str().unwrap(), &format!("{more}{CAMERA}")).await
}

async fn is_gone(pid: u32) {
    until("a process is gone", SOON, async || usage(pid).is_none().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_viewer_sees_pictures_and_leaves_politely() {
    let _machine = MACHINE.lock().await;
    let server = serve("").await;
    let watch = async |kind: &'static str| {
        let mut viewer = Person::viewer(kind, &server, &[]);
        assert_eq!(viewer.next().await, Some(Line::Joining), "{kind}");
        let joined = |line: &Line| matches!(line, Line::Joined { ms } if *ms > 0.0).then_some(());
        viewer.find(kind, joined).await;
        let look = viewer.look(kind, |look| look.frames >= 20 && look.kbits.is_some()).await;
        assert!(look.gap_ms < 5_000.0 && look.damaged == 0, "{kind}: {look:?}");
        if kind != "recorder" {
            let look = viewer.look(kind, |look| !look.latencies.is_empty()).await;
            let (arrived, ms) = look.latencies[0];
            assert!(arrived > 1.7e12 && (-5.0..5_000.0).contains(&ms), "{kind}: {look:?}");
        }
        viewer.tell("leave").await;
        viewer.find(kind, |line| (*line == Line::Left).then_some(())).await;
        assert_eq!(viewer.next().await, None, "{kind}: that was its last word");
    };
    join_all(KINDS.map(watch)).await;
    server.sessions_are(0, SOON).await;
    let ends = server.metrics().await.by("lensline_sessions_total", "end");
    assert_eq!(ends.get("left"), Some(&(KINDS.len() as f64)), "{ends:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_is_refused_says_so_and_comes_in_when_there_is_room() {
    let _machine = MACHINE.lock().await;
    let server = serve("[limits]\nwebrtc_sessions_max = 1\n").await;
    let mut first = Person::viewer("light", &server, &[]);
    first.look("the first sees", |look| look.frames > 5).await;
    let mut second = Person::viewer("light", &server, &["--rejoin"]);
    let refused = |line: &Line| match line {
        Line::Refused { status, retry_after_s, .. } => Some((*status, *retry_after_s)),
        _ => None,
    };
    let (status, retry_after_s) = second.find("a refusal", refused).await;
    assert!(status == 503 && retry_after_s.is_some(), "{status} {retry_after_s:?}");
    first.tell("leave").await;
    second.look("the second sees", |look| look.frames > 5).await;
    let mut third = Person::viewer("light", &server, &[]);
    third.find("an end", |line| matches!(line, Line::Ended { .. }).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_loses_the_picture_joins_again_and_counts_on() {
    let _machine = MACHINE.lock().await;
    let server = serve("").await;
    let mut viewer = Person::viewer("light", &server, &["--rejoin", "--lost-after-s", "1"]);
    viewer.look("pictures", |look| look.frames > 5).await;
    server.signal(Signal::STOP);
    let lost = |line: &Line| matches!(line, Line::Rejoining { .. }).then_some(());
    viewer.find("it has lost them", lost).await;
    server.signal(Signal::CONT);
    let look = viewer.look("pictures again", |look| !look.gaps.is_empty()).await;
    assert!(look.frames > 5 && look.longest_gap_ms > 1_000.0, "{look:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_ends_takes_along_what_it_started() {
    let _machine = MACHINE.lock().await;
    let server = serve("").await;
    for kind in ["ffmpeg-udp", "aiortc", "chromium"] {
        for way in ["closed stdin", "SIGTERM", "SIGKILL"] {
            let mut viewer = Person::viewer(kind, &server, &[]);
            viewer.look(kind, |look| look.frames > 0).await;
            let children = viewer.children();
            assert!(!children.is_empty(), "{kind}");
            match way {
                "closed stdin" => drop(viewer.stdin.take()),
                "SIGTERM" => send_signal(viewer.pid, Signal::TERM),
                _ => send_signal(viewer.pid, Signal::KILL),
            }
            viewer.lines.end(SOON).await;
            join_all(children.into_iter().map(is_gone)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tab_that_sleeps_sees_nothing_and_sees_again_when_it_wakes() {
    let _machine = MACHINE.lock().await;
    let server = serve("").await;
    let mut viewer = Person::viewer("chromium", &server, &[]);
    viewer.look("it sees", |look| look.frames > 5).await;
    viewer.tell("sleep").await;
    let asleep = viewer.look("it sleeps", |look| look.gap_ms > 2_000.0).await;
    viewer.tell("wake").await;
    let enough = |look: &Look| look.frames > asleep.frames + 10 && !look.latencies.is_empty();
    viewer.look("it sees again", enough).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hostile_say_what_they_hold_and_an_honest_visitor_who_answers() {
    let _machine = MACHINE.lock().await;
    let server = serve("").await;
    let http = server.http.trim_start_matches("http://").trim_end_matches('/');
    let rtsp = server.rtsp[0].trim_start_matches("rtsp://").trim_end_matches("/sim");
    let half = ["--kind", "half-open", "--address", http, "--second", rtsp, "--connections", "5"];
    let mut half = Person::start(&[&["hostile"], &half[..]].concat());
    let open = |wanted: u64| {
        move |line: &Line| matches!(line, Line::Held { open, .. } if *open == wanted).then_some(())
    };
    half.find("ten are open", open(10)).await;
    let slow = ["--kind", "slowloris-http", "--address", http, "--connections", "5"];
    let mut slow = Person::start(&[&["hostile"], &slow[..]].concat());
    slow.find("five are open", open(5)).await;
    let mut visitor = Person::start(&["health", "--url", &server.url("healthz")]);
    let well = |line: &Line| matches!(line, Line::Health { asked: 3.., failed: 0 }).then_some(());
    visitor.find("three answers", well).await;
    server.signal(Signal::STOP);
    let ill = |line: &Line| matches!(line, Line::Health { failed: 1.., .. }).then_some(());
    visitor.find("a second without an answer", ill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traffic_arrives_and_a_constant_rate_is_one() {
    let _machine = MACHINE.lock().await;
    for kind in ["tcp-long", "tcp-short", "udp-cbr"] {
        let address = format!("127.0.0.1:{}", free_port());
        let ends = ["traffic", "--kind", kind, "--address", &address, "--role"];
        let mut sink = Person::start(&[&ends[..], &["sink"]].concat());
        sink.find("it listens", |line| matches!(line, Line::Bytes { .. }).then_some(())).await;
        let many = ["source", "--count", "10", "--rate-kbps", "100"];
        let _source = Person::start(&[&ends[..], &many].concat());
        let enough = |line: &Line| match line {
            Line::Bytes { total: total @ 200_000.. } => Some(*total),
            _ => None,
        };
        let began = Instant::now();
        let kbps = sink.find(kind, enough).await as f64 * 8e-3 / began.elapsed().as_secs_f64();
        assert!(kind != "udp-cbr" || (600.0..1_200.0).contains(&kbps), "{kbps} of 1000 kbit/s");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_measures_rate_and_delay() {
    let _machine = MACHINE.lock().await;
    let address = format!("127.0.0.1:{}", free_port());
    let mut server = Person::start(&["probe", "--role", "server", "--address", &address]);
    // It says nothing before its first second is over.
    server.next().await;
    let stream =
        ["--role", "client", "--address", &address, "--rate-kbps", "800", "--seconds", "2"];
    let _client = Person::start(&[&["probe"], &stream[..]].concat());
    let over = |line: &Line| match line {
        Line::Received(received) => received.over.then(|| received.clone()),
        _ => None,
    };
    let received = server.find("the end", over).await;
    assert!((700.0..850.0).contains(&received.kbps), "{received:?}");
    assert_eq!((received.lost, received.duplicated, received.reordered), (0, 0, 0));
    let delay = received.delay_ms.unwrap();
    assert!(delay.min > 0.0 && delay.p50 < 50.0, "{delay:?}");
    let ping = ["probe", "--role", "ping", "--address", &address, "--seconds", "1"];
    let all = |line: &Line| match line {
        Line::Pinged { sent: 50, received: 50, trip_ms } => *trip_ms,
        _ => None,
    };
    let trip = Person::start(&ping).find("all come back", all).await;
    assert!(trip.p50 < 50.0, "{trip:?}");
}
