//! How old the picture is, and how long a viewer waits for the first one.
//!
//! `cargo bench --bench latency -- --runs 6 --joins 50`; about 20 s a run. Latency is read from
//! the stamp in the pixels that Chromium shows on the viewer page; joins are timed from the
//! request to the first complete frame, at a light receiver.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a measuring tool ends where it cannot measure, and prints what it measured"
)]

use std::time::{Duration, Instant};

use clap::Parser;
use lensline_clients::{
    Chromium, Lensline, Look, Recorder, RecorderTransport, WhepOffer, load_average, quantile, until,
};

const LOOK: Look = Look::Packets { framerate: 30 };

/// Bound on each wait for frames.
const SOON: Duration = Duration::from_secs(30);

const CONFIG: &str = "[limits]\njoins_per_second_max = 500\n\
    [[camera]]\nid = \"sim\"\nsource = { kind = \"simulated\" }\n";

#[derive(Debug, Parser)]
struct Options {
    /// Runs of server and Chromium; the camera's phase against the 60 Hz refresh is drawn anew.
    #[arg(long, default_value_t = 6)]
    runs: usize,
    /// How long each run is watched.
    #[arg(long, default_value_t = 12)]
    seconds: u64,
    /// Joins of each kind.
    #[arg(long, default_value_t = 50)]
    joins: usize,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let options = Options::parse();
    let binary = env!("CARGO_BIN_EXE_lensline");
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get());
    println!("720p30 on localhost, {cores} cores, load average before {}", load_average());
    joins(&Lensline::start(binary, CONFIG).await, options.joins).await;
    let mut received = Vec::new();
    let mut shown_medians = Vec::new();
    println!("run    frames  received p50 / p95    shown p50 / p95    load average");
    for run in 1..=options.runs {
        // A server of its own: Chromium's refresh ticks on from browser to browser, so the phase
        // against it is the camera's to draw.
        let server = Lensline::start(binary, CONFIG).await;
        let (run_received, shown) = watch(&server, Duration::from_secs(options.seconds)).await;
        let [r50, r95] = [0.5, 0.95].map(|q| quantile(&run_received, q));
        let [s50, s95] = [0.5, 0.95].map(|q| quantile(&shown, q));
        println!(
            "{run:3}   {:7}  {r50:8.1} / {r95:.1} ms  {s50:9.1} / {s95:.1} ms   {}",
            shown.len(),
            load_average()
        );
        received.extend(run_received);
        shown_medians.push(s50);
    }
    println!(
        "over all: received p50 {:.1} ms, p95 {:.1} ms; shown p50 over the runs {:.1} ms",
        quantile(&received, 0.5),
        quantile(&received, 0.95),
        quantile(&shown_medians, 0.5)
    );
}

/// One run of Chromium: capture to received and capture to shown of each frame, in milliseconds.
async fn watch(server: &Lensline, length: Duration) -> (Vec<f64>, Vec<f64>) {
    let browser = Chromium::start(false).await;
    browser.open(&server.url("?camera=sim&measure=1")).await;
    let count = "return window.lensline ? window.lensline.samples().length : 0";
    until("Chromium shows frames", SOON, async || {
        (browser.script(count).await.as_u64() > Some(30)).then_some(())
    })
    .await;
    // The jitter buffer and the decoder come to rest.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let last = "return window.lensline.samples().at(-1).unixMs";
    let since = browser.script(last).await.as_f64().unwrap();
    tokio::time::sleep(length).await;
    let samples = browser.script("return window.lensline.samples()").await;
    let samples = samples.as_array().unwrap().iter();
    let fresh: Vec<_> = samples.filter(|sample| sample["unixMs"].as_f64() > Some(since)).collect();
    let latency = |name: &str| fresh.iter().filter_map(|sample| sample[name].as_f64()).collect();
    let latencies = (latency("receivedMs"), latency("shownMs"));
    browser.close().await;
    latencies
}

/// Times from the request to the first frame.
async fn joins(server: &Lensline, count: usize) {
    let (mut webrtc, mut rtsp) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let offer = WhepOffer::with_latency(LOOK, 0).await;
        let viewer = offer.send(&server.client, &server.url("whep/sim")).await.unwrap();
        let came = until("the first frame", SOON, async || viewer.tally().first).await;
        webrtc.push(came.duration_since(viewer.asked).as_secs_f64() * 1e3);
        viewer.leave(&server.client).await.unwrap();
        let asked = Instant::now();
        let mut viewer = Recorder::join(&server.rtsp[0], RecorderTransport::Tcp, 30).await.unwrap();
        viewer.take(1, SOON).await.unwrap();
        rtsp.push(asked.elapsed().as_secs_f64() * 1e3);
    }
    for (name, times) in [("WebRTC", &webrtc), ("RTSP", &rtsp)] {
        let [p50, p95, max] = [0.5, 0.95, 1.0].map(|q| quantile(times, q));
        println!(
            "first frame, {name}: p50 {p50:.0} ms, p95 {p95:.0} ms, max {max:.0} ms of {count}"
        );
    }
}
