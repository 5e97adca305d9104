//! The viewers: a process of their own, as its parent sees it, and as itself.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use lensline_clients::{
    Arrival, LightOffer, LightReceiver, Lines, Recorder, RecorderTransport, Tally, Watch, until,
};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStdin, Command};

use crate::mark;
use crate::stage::{FRAMERATE, Webrtc};

const QUANTILES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 1.0];

/// Bound on a viewer's joining.
const SOON: Duration = Duration::from_secs(30);

/// Frames that each viewer has seen before it is measured: the key frame it waited for, and what
/// the joining of the others delayed.
const SETTLE_FRAMES: u64 = 60;

/// What the viewers saw, all of them together.
pub struct Watched {
    /// The [`QUANTILES`].
    pub quantiles_ms: [f64; QUANTILES.len()],
    pub frames: u64,
    pub missed: u64,
}

pub struct Crowd {
    lines: Lines,
    stdin: ChildStdin,
}

impl Crowd {
    pub async fn over_webrtc(viewers: usize, server: &Webrtc<'_>) -> Self {
        let mut crowd = Self::start(viewers, &[]);
        for _ in 0..viewers {
            let offer = crowd.lines.event("offer", SOON).await;
            let answer = server.answer(offer["sdp"].as_str().unwrap()).await;
            crowd.say(&json!({ "sdp": answer })).await;
        }
        crowd.are_ready().await
    }

    pub async fn over_rtsp(viewers: usize, url: &str) -> Self {
        Self::start(viewers, &["--rtsp", url]).are_ready().await
    }

    fn start(viewers: usize, options: &[&str]) -> Self {
        // Real viewers take no time from the server.
        let mut command = Command::new("nice");
        command.arg("-n19").arg(std::env::current_exe().unwrap());
        command.args(["--watch", &viewers.to_string()]).args(options);
        let (lines, stdin) = Lines::start_with_stdin(&mut command);
        Self { lines, stdin }
    }

    async fn are_ready(mut self) -> Self {
        self.lines.event("ready", 2 * SOON).await;
        self
    }

    async fn say(&mut self, message: &Value) {
        self.stdin.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    /// What the viewers see from now on, for so long.
    pub async fn watch_for(&mut self, length: Duration) -> Watched {
        self.report().await;
        tokio::time::sleep(length).await;
        let report = self.report().await;
        let quantiles: Vec<u64> = serde_json::from_value(report["quantiles_ns"].clone()).unwrap();
        let quantiles_ms: Vec<f64> = quantiles.iter().map(|&ns| ns as f64 / 1e6).collect();
        Watched {
            quantiles_ms: quantiles_ms.try_into().unwrap(),
            frames: report["frames"].as_u64().unwrap(),
            missed: report["missed"].as_u64().unwrap(),
        }
    }

    /// What they saw since the last report.
    async fn report(&mut self) -> Value {
        self.say(&Value::Null).await;
        self.lines.event("report", SOON).await
    }
}

/// The times of all viewers, from a microsecond to a minute, to three digits.
#[derive(Clone)]
struct Times(Arc<Mutex<Histogram<u64>>>);

impl Times {
    fn new() -> Self {
        Self(Arc::new(Histogram::new_with_bounds(1_000, 60_000_000_000, 3).unwrap().into()))
    }

    /// Notes the end of a frame, where its mark is, which was there at `unix`.
    fn note(&self, end: &[u8], unix: Duration) {
        let Some(age) = mark::age(end, unix) else { return };
        let nanoseconds = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(nanoseconds);
    }

    fn take(&self) -> Histogram<u64> {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = times.clone();
        times.reset();
        taken
    }
}

enum Viewer {
    Webrtc(LightReceiver),
    Rtsp(Watch),
}

impl Viewer {
    /// Offers itself on stdout, and expects the answer on stdin.
    async fn over_webrtc(times: Times) -> Self {
        let offer = LightOffer::new(Ipv4Addr::LOCALHOST.into()).await;
        let mut newest = 0;
        let offer = offer.observed(move |arrival: &Arrival<'_>| {
            // What is sent again was at the socket before, at a time that nobody knows: it is
            // missing from the frames.
            if arrival.marker && arrival.sequence > newest {
                times.note(arrival.payload, arrival.taken_in);
            }
            newest = newest.max(arrival.sequence);
        });
        let offer = offer.unwrap();
        println!("{}", json!({ "event": "offer", "sdp": &offer.sdp }));
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        let (receiver, _) = offer.accept(answer["sdp"].as_str().unwrap(), FRAMERATE).unwrap();
        Self::Webrtc(receiver)
    }

    async fn over_rtsp(url: &str, times: Times) -> Self {
        let mut recorder = Recorder::join(url, RecorderTransport::Tcp, FRAMERATE).await.unwrap();
        let watch = Watch::default();
        let seen = watch.clone();
        tokio::spawn(async move {
            // Ends with the stream, and with the process.
            while let Ok(frame) = recorder.next().await {
                times.note(frame.data(), SystemTime::UNIX_EPOCH.elapsed().unwrap());
                seen.note(|tally| tally.clone_from(&recorder.tally));
            }
        });
        Self::Rtsp(watch)
    }

    fn tally(&self) -> Tally {
        match self {
            Self::Webrtc(receiver) => receiver.tally(),
            Self::Rtsp(watch) => watch.tally(),
        }
    }
}

/// Be so many viewers: says when all see frames, and, for each line on stdin, what they saw since
/// the last. Ends with stdin.
pub async fn watch(count: usize, rtsp: Option<&str>) {
    let times = Times::new();
    let mut viewers = Vec::new();
    for _ in 0..count {
        viewers.push(match rtsp {
            Some(url) => Viewer::over_rtsp(url, times.clone()).await,
            None => Viewer::over_webrtc(times.clone()).await,
        });
    }
    until("all viewers see frames", 2 * SOON, async || {
        viewers.iter().all(|viewer| viewer.tally().frames >= SETTLE_FRAMES).then_some(())
    })
    .await;
    println!("{}", json!({ "event": "ready" }));
    let missed = || viewers.iter().map(|viewer| viewer.tally().missed).sum::<u64>();
    let mut missed_before = 0;
    // Nothing else is left to do on this thread: the viewers run on others.
    for _ in std::io::stdin().lines() {
        let (seen, missed) = (times.take(), missed());
        let quantiles = QUANTILES.map(|q| seen.value_at_quantile(q));
        println!(
            "{}",
            json!({
                "event": "report",
                "quantiles_ns": quantiles,
                "frames": seen.len(),
                "missed": missed - missed_before,
            })
        );
        missed_before = missed;
    }
}
