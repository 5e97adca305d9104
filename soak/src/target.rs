//! What is watched: a Lensline that we start, and start again where it ends, or one that runs
//! somewhere already.

use std::path::PathBuf;
use std::time::Duration;

use lensline_clients::{Exposition, Faces, Launch, Lensline};
use procfs::process::Process;
use tokio::time::Instant;

use crate::rows::{EventKind, Sample};
use crate::tracer::Tracer;

/// How long one question to the target may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How often living objects are counted at most: each count is a few hundred lines of log.
const COUNT_OBJECTS_EVERY: Duration = Duration::from_secs(10);

/// The target, and what is known of it.
#[derive(Debug)]
pub struct Target {
    /// Where visitors find it.
    pub faces: Faces,
    spawned: Option<Spawned>,
    /// Which life it is in.
    life: u32,
    answering: bool,
    uptime_s: f64,
    before: Option<(Instant, Exposition)>,
    counted: Option<Instant>,
}

#[derive(Debug)]
struct Spawned {
    launch: Launch,
    server: Option<Lensline>,
    tracer: Option<Tracer>,
}

/// Why there is nothing to watch.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The program did not start.
    #[error("{0}")]
    NotStarted(String),
    /// Nobody answers.
    #[error(
        "{0} does not answer: {1}\ngive the address of its page with --target, as in --target http://pi:8080/"
    )]
    Silent(String, String),
    /// It answers, and is no Lensline, or has no camera.
    #[error("{0} is no Lensline with a camera: /api/v1/status says {1}")]
    Stranger(String, String),
}

/// One look.
#[derive(Debug)]
pub enum Look {
    /// The target was seen.
    Seen(Box<Sample>),
    /// It was not.
    Missed,
}

impl Target {
    /// Starts a Lensline; with `log`, the leaks tracer counts its objects and writes there.
    ///
    /// # Errors
    /// Where it does not start.
    pub async fn spawn(mut launch: Launch, log: Option<PathBuf>) -> Result<Self, TargetError> {
        if let Some(log) = &log {
            launch.environment.extend(Tracer::environment(log));
        }
        let server = start(&launch).await?;
        let faces = server.faces();
        let spawned = Spawned { launch, server: Some(server), tracer: log.map(Tracer::new) };
        Ok(Self::new(faces, Some(spawned)))
    }

    /// One that runs already, by the address of its page; its RTSP address is taken to be on the
    /// same host, at the usual port, where not given.
    ///
    /// # Errors
    /// Where it does not answer, or has no camera.
    pub async fn live(http: &str, rtsp: Option<&str>) -> Result<Self, TargetError> {
        let client = reqwest::Client::builder().timeout(TIMEOUT).build();
        let client = client.map_err(|error| TargetError::NotStarted(error.to_string()))?;
        let scheme = if http.contains("://") { "" } else { "http://" };
        let http = format!("{scheme}{}/", http.trim_end_matches('/'));
        let silent = |error: reqwest::Error| TargetError::Silent(http.clone(), error.to_string());
        let answer = client.get(format!("{http}api/v1/status")).send().await.map_err(silent)?;
        let text = answer.text().await.map_err(silent)?;
        let status: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let camera = status["cameras"][0]["id"].as_str();
        let camera = camera.ok_or_else(|| TargetError::Stranger(http.clone(), text.clone()))?;
        let rtsp = match rtsp {
            Some(rtsp) => rtsp.to_owned(),
            None => {
                let host = http.trim_start_matches("http://").trim_end_matches('/');
                let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
                format!("rtsp://{host}:8554/{camera}")
            }
        };
        Ok(Self::new(Faces { http, rtsp, client }, None))
    }

    fn new(faces: Faces, spawned: Option<Spawned>) -> Self {
        Self {
            faces,
            spawned,
            life: 0,
            answering: true,
            uptime_s: 0.0,
            before: None,
            counted: None,
        }
    }

    /// What it is, for the report.
    pub fn description(&self) -> String {
        match &self.spawned {
            Some(spawned) => format!("{}, started for this run", spawned.launch.binary.display()),
            None => format!("{}, which ran already", self.faces.http),
        }
    }

    /// Looks at it, and starts it again where it has ended. `events` hears what happened.
    pub async fn look(&mut self, mut events: impl FnMut(EventKind, String)) -> Look {
        if let Some(ended) = self.ended() {
            events(EventKind::Restart, ended);
            self.begin_life();
            if let Some(spawned) = &mut self.spawned {
                spawned.server = None;
            }
        }
        if let Err(error) = self.revive().await {
            // Told once, not every second.
            if std::mem::take(&mut self.answering) {
                events(EventKind::Silent, format!("it does not start again: {error}"));
            }
            return Look::Missed;
        }
        match self.sample(&mut events).await {
            Ok(sample) => {
                self.answering = true;
                Look::Seen(Box::new(sample))
            }
            Err(error) => {
                // Told once, not every second. One that has just ended is told as that.
                if std::mem::take(&mut self.answering) && self.ended().is_none() {
                    events(EventKind::Silent, format!("it does not answer: {error}"));
                }
                Look::Missed
            }
        }
    }

    /// Counts living objects at the next look, however short ago it was done.
    pub fn count_objects_next(&mut self) {
        self.counted = None;
    }

    /// Tells the target to stop, where it is ours; how it went, where it did not go well.
    pub async fn stop(mut self) -> Option<String> {
        let server = self.spawned.as_mut()?.server.take()?;
        let stopped = tokio::spawn(server.stop()).await;
        match stopped {
            Ok(stopped) if stopped.code == Some(0) => None,
            Ok(stopped) => {
                Some(format!("it ended with {:?} after {:?}", stopped.code, stopped.took))
            }
            Err(_) => Some("it did not stop within 15 s of SIGTERM".into()),
        }
    }

    /// How it ended, where it is ours and has.
    fn ended(&mut self) -> Option<String> {
        let status = self.spawned.as_mut()?.server.as_mut()?.ended()?;
        Some(format!("the streamer ended ({status})"))
    }

    fn begin_life(&mut self) {
        self.life += 1;
        self.before = None;
        self.counted = None;
        self.uptime_s = 0.0;
    }

    async fn revive(&mut self) -> Result<(), TargetError> {
        let Some(spawned) = &mut self.spawned else { return Ok(()) };
        if spawned.server.is_none() {
            spawned.server = Some(start(&spawned.launch).await?);
            if let Some(tracer) = &mut spawned.tracer {
                tracer.restarted();
            }
        }
        Ok(())
    }

    async fn sample(
        &mut self,
        events: &mut impl FnMut(EventKind, String),
    ) -> Result<Sample, reqwest::Error> {
        let Faces { http, client, .. } = &self.faces;
        let get = |path: &str| client.get(format!("{http}{path}")).timeout(TIMEOUT).send();
        let status = get("api/v1/status").await?.error_for_status()?;
        let status: serde_json::Value = status.json().await?;
        let text = get("metrics").await?.error_for_status()?.text().await?;
        let (now, metrics) = (Instant::now(), Exposition::parse(&text));
        let uptime_s = status["uptime_s"].as_f64().unwrap_or_default();
        if uptime_s + 1.0 < self.uptime_s {
            events(EventKind::Restart, "the streamer began anew (its uptime fell)".into());
            self.begin_life();
        }
        self.uptime_s = uptime_s;
        let mut sample = seen(&metrics, self.life);
        if let Some((then, before)) = &self.before {
            since(&mut sample, &metrics, before, now.duration_since(*then).as_secs_f64());
        }
        self.before = Some((now, metrics));
        sample.pss_bytes = self.pid().and_then(proportional_bytes);
        if self.counted.is_none_or(|counted| counted.elapsed() >= COUNT_OBJECTS_EVERY) {
            sample.gst_objects = self.count_objects().await;
            self.counted = Some(Instant::now());
        }
        Ok(sample)
    }

    fn pid(&self) -> Option<u32> {
        Some(self.spawned.as_ref()?.server.as_ref()?.pid)
    }

    async fn count_objects(&mut self) -> Option<std::collections::BTreeMap<String, u64>> {
        let pid = self.pid()?;
        self.spawned.as_mut()?.tracer.as_mut()?.count(pid).await
    }
}

/// Starts a Lensline. Its handle panics where it does not; here that is an error.
async fn start(launch: &Launch) -> Result<Lensline, TargetError> {
    let launch = launch.clone();
    let started = tokio::spawn(async move { Lensline::launch(&launch).await }).await;
    started.map_err(|panic| {
        let panic = panic.try_into_panic().ok();
        let words = panic.as_ref().and_then(|panic| panic.downcast_ref::<String>());
        TargetError::NotStarted(words.cloned().unwrap_or_else(|| "it did not start".into()))
    })
}

/// What the metrics say of this moment.
pub fn seen(metrics: &Exposition, life: u32) -> Sample {
    let sum = |name| metrics.sum(name, &[]);
    let zones = metrics.by("lensline_temperature_celsius", "zone");
    Sample {
        life,
        sessions: sum("lensline_sessions"),
        rss_bytes: sum("process_resident_memory_bytes"),
        threads: sum("process_threads"),
        fds: sum("process_open_fds"),
        guards: metrics.by("lensline_guards_live", "kind"),
        temperature_celsius: zones.into_values().max_by(f64::total_cmp),
        encoder_bitrate_bps: sum("lensline_encoder_bitrate_bps"),
        teardowns_stuck: sum("lensline_teardowns_stuck_total"),
        camera_restarts: sum("lensline_camera_restarts_total"),
        ..Sample::default()
    }
}

/// What they say of the time since the last look.
pub fn since(sample: &mut Sample, metrics: &Exposition, before: &Exposition, seconds: f64) {
    let more = |name| metrics.sum(name, &[]) - before.sum(name, &[]);
    sample.cpu_percent = Some(100.0 * more("process_cpu_seconds_total") / seconds);
    sample.published_fps = Some(more("lensline_frames_published_total") / seconds);
    sample.skipped_per_s = Some(more("lensline_frames_skipped_total") / seconds);
    let send = |q| {
        let stage = [("stage", "send")];
        metrics.quantile(before, "lensline_stage_seconds", &stage, q).map(|seconds| seconds * 1e3)
    };
    sample.send_ms = send(0.5).zip(send(0.99)).map(|(p50, p99)| [p50, p99]);
}

/// Resident memory with shared pages split.
fn proportional_bytes(pid: u32) -> Option<f64> {
    let process = Process::new(i32::try_from(pid).ok()?).ok()?;
    let rollup = process.smaps_rollup().ok()?;
    let map = rollup.memory_map_rollup.into_iter().next()?;
    map.extension.map.get("Pss").map(|bytes| *bytes as f64)
}
