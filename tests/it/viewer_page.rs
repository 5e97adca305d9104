//! Chromium on the viewer page itself: the stamp is read from the pixels that are shown.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use lensline_clients::{
    Chromium, Credentials, Lensline, Tally, free_port, load_average, quantile, until,
};
use serde_json::Value;

use crate::common::{BINARY, alone, start};

/// Chromium decodes in software here, on a machine of two cores.
const PATIENCE: Duration = Duration::from_secs(40);

/// How long the picture is watched once it moves.
const WATCHED: Duration = Duration::from_secs(6);

/// What the page has measured of the frames it showed, oldest first.
async fn samples(browser: &Chromium) -> Vec<Value> {
    let samples = browser.script("return window.lensline ? window.lensline.samples() : []").await;
    samples.as_array().cloned().unwrap_or_default()
}

/// Waits until frames are shown that were captured after now.
async fn moves(what: &str, browser: &Chromium) {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as f64;
    until(what, PATIENCE, async || {
        let samples = samples(browser).await;
        let fresh = |sample: &&Value| sample["unixMs"].as_f64() > Some(now);
        (samples.iter().filter(fresh).count() >= 10).then_some(())
    })
    .await;
}

/// Watches for a while; gives what came meanwhile, and prints the latencies.
async fn watch(browser: &Chromium) -> Tally {
    let captured = |sample: &Value| sample["unixMs"].as_f64().unwrap_or(0.0);
    let before = samples(browser).await.last().map_or(0.0, captured);
    tokio::time::sleep(WATCHED).await;
    let mut seen = samples(browser).await;
    seen.retain(|sample| captured(sample) > before);
    let mut tally = Tally::default();
    let mut latencies = [Vec::new(), Vec::new()];
    for sample in &seen {
        let number = sample["frame"].as_u64().expect("a stamped frame number");
        tally.saw_number((number % 65_536) as u16, std::time::Instant::now());
        for (latency, name) in latencies.iter_mut().zip(["receivedMs", "shownMs"]) {
            latency.extend(sample[name].as_f64());
        }
    }
    for (latency, name) in latencies.iter().zip(["received", "shown"]) {
        let (p50, p95) = (quantile(latency, 0.5), quantile(latency, 0.95));
        println!("capture to {name}: p50 {p50:.1} ms, p95 {p95:.1} ms of {}", latency.len());
    }
    latencies.concat().into_iter().for_each(|ms| tally.saw_latency(ms));
    println!("load average {}", load_average());
    tally
}

/// The stamp's time is plausible, and the picture is one that moves on.
fn assert_is_live(tally: &Tally) {
    assert!(tally.frames >= 60, "{} frames shown", tally.frames);
    assert_eq!(tally.disordered, 0, "frame numbers rise");
    // The compositor may leave out a frame that was received; many would be a fault of ours.
    assert!(tally.missed * 10 <= tally.frames, "{} of {}", tally.missed, tally.frames);
    let implausible =
        tally.latency_ms().iter().filter(|ms| !(-2.0..=2_000.0).contains(*ms)).count();
    assert_eq!(implausible, 0, "{:?}", tally.latency_ms());
}

async fn page(server: &Lensline) -> String {
    server.url("?camera=sim&measure=1")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chromium_shows_the_camera_live_and_again_after_a_reload() {
    let _machine = alone().await;
    let server = start("").await;
    let browser = Chromium::start(false).await;
    browser.open(&page(&server).await).await;
    moves("the picture moves", &browser).await;
    assert_is_live(&watch(&browser).await);
    let session = server.sessions_are(1, PATIENCE).await;
    assert_eq!(session[0]["transport"], "webrtc", "{session:?}");
    browser.reload().await;
    moves("the picture moves after a reload", &browser).await;
    server.sessions_are(1, PATIENCE).await;
    browser.close().await;
    server.sessions_are(0, PATIENCE).await;
    assert_eq!(server.stop().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chromium_that_hides_its_addresses_sees_the_camera_and_finds_a_restarted_server_again() {
    let _machine = alone().await;
    let [listen, rtsp] =
        [free_port(), free_port()].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let server = Lensline::start_at(BINARY, "", listen, rtsp).await;
    let browser = Chromium::start(true).await;
    browser.open(&page(&server).await).await;
    moves("the picture moves", &browser).await;
    assert_eq!(server.stop().await.code, Some(0));
    let server = Lensline::start_at(BINARY, "", listen, rtsp).await;
    moves("the picture moves after the server's restart", &browser).await;
    server.sessions_are(1, PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chromium_shows_the_camera_over_https() {
    let _machine = alone().await;
    let credentials = Credentials::new();
    let server = start(&format!("[server]\n{}", credentials.toml())).await;
    assert!(server.http.starts_with("https://"), "{}", server.http);
    let browser = Chromium::start(false).await;
    browser.open(&page(&server).await).await;
    moves("the picture moves", &browser).await;
    assert_eq!(browser.script("return location.protocol").await, "https:");
    let session = server.sessions_are(1, PATIENCE).await;
    assert_eq!(session[0]["transport"], "webrtc", "{session:?}");
    // The media does not go through TLS; the way to it does, also a second time.
    browser.reload().await;
    moves("the picture moves after a reload", &browser).await;
    browser.close().await;
    server.sessions_are(0, PATIENCE).await;
    assert_eq!(server.stop().await.code, Some(0));
}
