//! Keeps one camera running: builds it, watches it, and builds it anew when it is lost, while
//! every session stays.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use super::keyframe;
use super::lost::{Cause, Lost};
use super::pipeline::{self, Parts, Running};
use super::plan;
use super::slot::Slot;
use super::source::Source;
use super::tap::Tap;
use super::watchdog::Watchdog;
use crate::catalog::{self, Control, ControlError, ControlRequest, Health};
use crate::clock::Timestamp;
use crate::config;
use crate::guard::Teardowns;
use crate::metrics::Metrics;
use crate::shutdown::Stopping;

/// Bound on one opening of a device. One that takes longer is waited for again, not repeated.
const BUILD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a device may take to close before it is opened again all the same.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the watchdog looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// From the loss of a camera to the first attempt to rebuild it.
const BACKOFF_MIN: Duration = Duration::from_millis(200);

/// The most between attempts: short enough that frames flow within 3 s of a camera's return.
const BACKOFF_MAX: Duration = Duration::from_millis(1_600);

/// A camera that ran for so long is trusted again: its next loss is met by a quick attempt.
const TRUSTED_AFTER: Duration = Duration::from_secs(10);

/// Failures of one pipeline that may wait to be looked at; the first is what matters.
const EVENTS_MAX: usize = 4;

/// Everything that outlives the camera's pipelines.
#[derive(Debug)]
pub(super) struct Supervisor {
    pub config: config::Camera,
    pub source: Arc<Source>,
    /// The encoder to use where there is something to encode.
    pub encoder: &'static str,
    pub camera: Arc<catalog::Camera>,
    pub taps: Vec<Arc<Tap>>,
    pub slots: Vec<Arc<Slot>>,
    pub requests: mpsc::Receiver<ControlRequest>,
    pub metrics: Arc<Metrics>,
    pub teardowns: Teardowns,
    pub stopping: Stopping,
}

/// A camera on its way, or up; opening it blocks, so it happens on a thread for that.
struct Opening {
    task: JoinHandle<Result<Running, Lost>>,
    events: mpsc::Receiver<Lost>,
}

/// How long to wait before the next attempt to open a camera that was lost. Sans-IO.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Backoff {
    /// Of a camera that was not lost yet.
    #[expect(clippy::new_without_default, reason = "const, and there is one way to begin")]
    pub const fn new() -> Self {
        Self { next: BACKOFF_MIN }
    }

    /// The wait after a life of the camera that took so long.
    pub fn after_running_for(&mut self, ran: Duration) -> Duration {
        if ran >= TRUSTED_AFTER {
            self.next = BACKOFF_MIN;
        }
        let wait = self.next;
        self.next = (wait * 2).min(BACKOFF_MAX);
        wait
    }
}

impl Supervisor {
    /// Runs the camera until the program stops.
    pub(super) async fn run(mut self) {
        let _key_frames = self.serve_key_frames();
        // All at zero from the start, so that the first one is seen as a rise.
        for cause in Cause::ALL {
            let labels = [&*self.camera.id, cause.as_str()];
            self.metrics.camera_restarts.with_label_values(&labels).inc_by(0);
        }
        let mut backoff = Backoff::new();
        let mut opening = None;
        while !self.stopping.is_stopping() {
            let started = Timestamp::now();
            let Some(lost) = self.run_once(&mut opening).await else { break };
            let ran = Timestamp::now().since(started);
            self.note_lost(&lost);
            // An opening that hangs is waited for; there is nothing to be begun anew.
            if opening.is_none() && !self.pause(backoff.after_running_for(ran)).await {
                break;
            }
        }
        self.abandon(opening);
        tracing::info!(camera = %self.camera.id, "camera stopped");
    }

    /// One life of the camera, from opening to loss; `None` where the program stops.
    async fn run_once(&mut self, opening: &mut Option<Opening>) -> Option<Lost> {
        let begun = opening.get_or_insert_with(|| self.begin());
        let Some(result) = self.opened(&mut begun.task).await? else {
            let seconds = BUILD_TIMEOUT.as_secs();
            return Some(Lost::open(format!("opening the camera takes over {seconds} s")));
        };
        let mut events = opening.take()?.events;
        let mut running = match result {
            Ok(running) => running,
            // What an element said in its own words beats "it did not start".
            Err(lost) => return Some(events.try_recv().unwrap_or(lost)),
        };
        for (slot, encoder) in self.slots.iter().zip(running.encoders.drain(..)) {
            slot.install(encoder);
        }
        let lost = self.watch(&running, &mut events).await;
        self.close(running).await;
        lost
    }

    /// Waits, with a bound, for the camera to open: `Some(None)` where it takes too long, `None`
    /// where the program stops. Who asks for changes meanwhile is told that it is not running.
    async fn opened(
        &mut self,
        task: &mut JoinHandle<Result<Running, Lost>>,
    ) -> Option<Option<Result<Running, Lost>>> {
        let until = tokio::time::Instant::now() + BUILD_TIMEOUT;
        loop {
            tokio::select! {
                () = self.stopping.wait() => return None,
                result = &mut *task => return Some(Some(result.unwrap_or_else(|error| {
                    Err(Lost::open(format!("opening the camera failed: {error}")))
                }))),
                () = tokio::time::sleep_until(until) => return Some(None),
                Some(request) = self.requests.recv() => refuse(request),
            }
        }
    }

    /// Begins to open the camera, on a thread that may block.
    fn begin(&self) -> Opening {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let (config, source) = (self.config.clone(), Arc::clone(&self.source));
        let (camera, taps) = (Arc::clone(&self.camera), self.taps.clone());
        let (encoder, slots) = (self.encoder, self.slots.clone());
        let task = tokio::task::spawn_blocking(move || {
            let feed = source.feed(&config)?;
            let bitrates: Vec<(u32, u32)> =
                slots.iter().map(|slot| (slot.bitrate_bps(), slot.bitrate_max_bps())).collect();
            let gstreamer = super::encoder::gstreamer();
            let plan = plan::plan(&config, feed, encoder, &bitrates, gstreamer);
            camera.update_status(|status| status.encoder = plan.encoder.into());
            let simulator = source.simulator().cloned();
            let parts = Parts { camera: camera.id.clone(), plan, taps, simulator, events: sender };
            pipeline::build(&parts)
        });
        Opening { task, events }
    }

    /// Watches a running camera until it is lost, or (`None`) the program stops.
    async fn watch(
        &mut self,
        running: &Running,
        events: &mut mpsc::Receiver<Lost>,
    ) -> Option<Lost> {
        let watchdog = Watchdog::new(
            Timestamp::now(),
            Duration::from_millis(self.config.watchdog.timeout_ms),
            Duration::from_millis(self.config.watchdog.start_timeout_ms),
        );
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stopping.wait() => return None,
                Some(lost) = events.recv() => return Some(lost),
                Some(request) = self.requests.recv() => {
                    if let Some(lost) = self.change(request) {
                        return Some(lost);
                    }
                }
                _ = look.tick() => {
                    if let Some(stall) = watchdog.verdict(&running.marks, Timestamp::now()) {
                        return Some(Lost::stalled(stall, &self.names()));
                    }
                    if running.marks.all_published() {
                        self.note_running();
                    }
                }
            }
        }
    }

    /// Makes a change asked for at run time; a loss where that was asked for.
    fn change(&self, ControlRequest { control, answer }: ControlRequest) -> Option<Lost> {
        if answer.is_closed() {
            // The asker was told, after its bound, that it failed: so it shall have failed.
            return None;
        }
        let (result, lost) = match control {
            Control::Restart => {
                (Ok(()), Some(Lost::new(Cause::Restart, "a restart was asked for")))
            }
            Control::Bitrate { rendition, bitrate_bps } => {
                (self.set_bitrate(&rendition, bitrate_bps), None)
            }
        };
        // The asker may have stopped listening.
        let _ = answer.send(result);
        lost
    }

    fn set_bitrate(&self, rendition: &str, bitrate_bps: u32) -> Result<(), ControlError> {
        let index = self.names().iter().position(|name| *name == rendition);
        let slot = index.and_then(|index| self.slots.get(index)).ok_or_else(|| {
            ControlError::Refused(format!("the camera has no rendition {rendition}"))
        })?;
        slot.set_bitrate(bitrate_bps)?;
        tracing::info!(camera = %self.camera.id, rendition, bitrate_bps, "bitrate changed");
        Ok(())
    }

    /// Shuts a pipeline out and has it torn down; waits, with a bound, until its device is free.
    async fn close(&self, running: Running) {
        self.taps.iter().for_each(|tap| tap.shut_out());
        self.slots.iter().for_each(|slot| slot.clear());
        let (done, closed) = oneshot::channel::<()>();
        // The wait ends when the sender goes: a tuple is dropped in order, so after the pipeline.
        self.teardowns.take(&format!("camera {}", self.camera.id), (running, done));
        if tokio::time::timeout(CLOSE_TIMEOUT, closed).await.is_err() {
            tracing::error!(camera = %self.camera.id, "the camera does not close");
        }
    }

    /// Waits for the next attempt; false where the program stops.
    async fn pause(&mut self, wait: Duration) -> bool {
        let until = tokio::time::Instant::now() + wait;
        loop {
            tokio::select! {
                () = self.stopping.wait() => return false,
                () = tokio::time::sleep_until(until) => return true,
                Some(request) = self.requests.recv() => refuse(request),
            }
        }
    }

    /// Sees to it that a camera that is still being opened is torn down where that may block.
    fn abandon(&self, opening: Option<Opening>) {
        let Some(opening) = opening else { return };
        let teardowns = self.teardowns.clone();
        let name = format!("camera {}", self.camera.id);
        tokio::spawn(async move {
            if let Ok(Ok(running)) = opening.task.await {
                teardowns.take(&name, running);
            }
        });
    }

    fn serve_key_frames(&self) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for (tap, slot) in self.taps.iter().zip(&self.slots) {
            let (tap, slot) = (Arc::clone(tap), Arc::clone(slot));
            tasks.spawn(keyframe::serve(tap, slot, self.stopping.clone()));
        }
        tasks
    }

    fn note_running(&self) {
        if self.camera.status().health != Health::Running {
            self.camera.update_status(|status| status.health = Health::Running);
            tracing::info!(camera = %self.camera.id, "frames flow");
        }
    }

    fn note_lost(&self, lost: &Lost) {
        let (camera, cause) = (&*self.camera.id, lost.cause.as_str());
        self.metrics.camera_restarts.with_label_values(&[camera, cause]).inc();
        let health = Health::Lost { reason: lost.reason.clone() };
        // A camera that is away for long is tried again and again: it is told of once.
        if self.camera.status().health == health {
            tracing::debug!(camera, cause, reason = %lost, "camera is still lost");
        } else {
            tracing::warn!(camera, cause, reason = %lost, "camera lost; it will be rebuilt");
        }
        self.camera.update_status(|status| {
            status.health = health;
            status.restarts += 1;
        });
    }

    fn names(&self) -> Vec<&str> {
        self.camera.renditions.iter().map(|rendition| &*rendition.name).collect()
    }
}

/// Tells the asker that there is nothing to change now.
fn refuse(request: ControlRequest) {
    // The asker may have stopped listening.
    let _ = request.answer.send(Err(ControlError::NotRunning));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_come_ever_later_up_to_a_bound_and_quickly_again_after_a_good_run() {
        let mut backoff = Backoff::new();
        let waits: Vec<u128> =
            (0..6).map(|_| backoff.after_running_for(Duration::ZERO).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1_600, 1_600, 1_600]);
        assert_eq!(backoff.after_running_for(TRUSTED_AFTER).as_millis(), 200);
    }
}
