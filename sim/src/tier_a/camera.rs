//! The synthetic camera: pictures of sizes, and the faults of the real one. What decides when a
//! camera is lost, how long it is left alone, what time a picture bears and when a key frame is
//! forced is the product's own code.

use std::time::Duration;

use lensline::camera::Backoff;
use lensline::camera::keyframe::{Pacing, Step};
use lensline::camera::timeline::Timeline;
use lensline::camera::watchdog::{Marks, Watchdog};
use lensline::clock::Timestamp;
use lensline::config;

use crate::plan::{self, CameraFault};

/// How much larger a key frame is than another.
const KEY_WEIGHT: f64 = 5.0;

/// From the sensor to the tap.
const ENCODING: Duration = Duration::from_millis(10);

/// How long it takes to open a camera.
const OPENING: Duration = Duration::from_millis(300);

/// How far stamps jump, as the simulated camera's do.
const JUMP: Duration = Duration::from_secs(10);

/// In slow motion, one of so many pictures comes.
const SLOW_FACTOR: u64 = 5;

/// The one clock at a time of the run. Not zero at its start: zero stands for never.
pub fn stamp(now: Duration) -> Timestamp {
    Timestamp::from_nanos(1_000_000_000).plus(now)
}

/// The time of the run at a stamp.
pub fn time(stamp: Timestamp) -> Duration {
    stamp.since(Timestamp::from_nanos(1_000_000_000))
}

/// An encoded picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picture {
    pub captured: Duration,
    pub bytes: u32,
    pub key: bool,
}

/// One life of the camera, from opening to loss.
struct Life {
    began: Duration,
    marks: Marks,
    watchdog: Watchdog,
    synced: bool,
}

/// What a moment of the camera brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brought {
    Nothing,
    Picture(Picture),
    /// It was lost, and is to be opened then.
    Lost(Duration),
}

/// The camera, and who paces its key frames.
pub struct Camera {
    settings: plan::Camera,
    watchdog: config::Watchdog,
    random: fastrand::Rng,
    life: Option<Life>,
    backoff: Backoff,
    timeline: Timeline,
    pacing: Pacing,
    force: bool,
    /// Pictures since the last key frame.
    since_key: u32,
    pictures: u64,
    active: Vec<CameraFault>,
}

impl Camera {
    pub fn new(settings: plan::Camera, watchdog: config::Watchdog, seed: u64) -> Self {
        Self {
            settings,
            watchdog,
            random: fastrand::Rng::with_seed(seed),
            life: None,
            backoff: Backoff::new(),
            timeline: Timeline::default(),
            pacing: Pacing::default(),
            force: false,
            since_key: 0,
            pictures: 0,
            active: Vec::new(),
        }
    }

    /// From one picture to the next.
    pub fn interval(&self) -> Duration {
        Duration::from_secs(1) / self.settings.framerate.max(1)
    }

    /// A fault begins or ends.
    pub fn fault(&mut self, what: CameraFault, begins: bool) {
        if begins {
            self.active.push(what);
        } else if let Some(index) = self.active.iter().position(|active| *active == what) {
            self.active.swap_remove(index);
        }
    }

    /// Whether it is up and nothing is wrong with it.
    pub fn is_well(&self) -> bool {
        self.life.is_some() && self.active.is_empty()
    }

    /// Whether it is up.
    pub fn is_up(&self) -> bool {
        self.life.is_some()
    }

    /// Its watchdog's settings.
    pub fn watchdog(&self) -> config::Watchdog {
        self.watchdog.clone()
    }

    /// What is wrong with the device is wrong for the next process as well.
    pub fn inherit(&mut self, before: &Self) {
        self.active.clone_from(&before.active);
    }

    /// Opens it; when to try again where it cannot be.
    pub fn open(&mut self, now: Duration) -> Option<Duration> {
        if self.life.is_some() {
            return None;
        }
        if self.active.contains(&CameraFault::Unplug) {
            return Some(now + OPENING + self.backoff.after_running_for(Duration::ZERO));
        }
        let ms = Duration::from_millis;
        self.life = Some(Life {
            began: now,
            marks: Marks::new(1),
            watchdog: Watchdog::new(
                stamp(now),
                ms(self.watchdog.timeout_ms),
                ms(self.watchdog.start_timeout_ms),
            ),
            synced: false,
        });
        self.since_key = 0;
        None
    }

    /// Somebody asks for a key frame.
    pub fn request(&mut self, now: Duration) {
        self.pacing.request(stamp(now));
    }

    /// Heeds what was asked; when to come back for it.
    pub fn pace(&mut self, now: Duration) -> Option<Duration> {
        loop {
            match self.pacing.step(stamp(now)) {
                // An encoder that is not there forgets it.
                Step::Force => self.force = self.life.is_some(),
                Step::WaitUntil(due) => return Some(time(due)),
                Step::Idle => return None,
            }
        }
    }

    /// It is time for a picture.
    pub fn picture(&mut self, now: Duration) -> Brought {
        self.pictures += 1;
        let active = |fault| self.active.contains(&fault);
        let still = active(CameraFault::Freeze)
            || active(CameraFault::Slow) && !self.pictures.is_multiple_of(SLOW_FACTOR);
        let (unplugged, jumps) = (active(CameraFault::Unplug), active(CameraFault::PtsJump));
        let garbage = active(CameraFault::Garbage);
        let Some(life) = &mut self.life else { return Brought::Nothing };
        if unplugged || life.watchdog.verdict(&life.marks, stamp(now)).is_some() {
            let ran = now.saturating_sub(life.began);
            self.life = None;
            self.force = false;
            return Brought::Lost(now + self.backoff.after_running_for(ran) + OPENING);
        }
        if still {
            return Brought::Nothing;
        }
        life.marks.arrived.set(stamp(now));
        life.marks.renditions[0].encoded.set(stamp(now));
        let key = self.force || self.since_key == 0;
        self.since_key = (self.since_key + 1) % self.settings.keyframe_interval.max(1);
        if key {
            self.since_key = 1 % self.settings.keyframe_interval.max(1);
            self.force = false;
        }
        if garbage || !key && !life.synced {
            // The tap has lost its place, and asks for a key frame with all that it throws away.
            life.synced = false;
            self.pacing.request(stamp(now));
            return Brought::Nothing;
        }
        life.synced = true;
        life.marks.renditions[0].published.set(stamp(now));
        let taken = now.saturating_sub(ENCODING);
        let claimed = stamp(if jumps { taken + JUMP } else { taken });
        let captured = time(self.timeline.place(Some(claimed), stamp(now)));
        if key {
            self.pacing.key_published(stamp(now));
        }
        Brought::Picture(Picture { captured, bytes: self.size(key), key })
    }

    /// Sizes vary by a third either way; a whole group of pictures has the plan's rate.
    fn size(&mut self, key: bool) -> u32 {
        let group = f64::from(self.settings.keyframe_interval.max(1));
        let second = f64::from(self.settings.bitrate_kbps) * 125.0;
        let group_bytes = second * group / f64::from(self.settings.framerate.max(1));
        let weight = if key { KEY_WEIGHT } else { 1.0 };
        let mean = group_bytes / (group - 1.0 + KEY_WEIGHT) * weight;
        (mean * (2.0 / 3.0 + self.random.f64() * 2.0 / 3.0)).max(100.0) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A camera, and when it is to be opened.
    fn camera() -> (Camera, Option<Duration>) {
        let camera = Camera::new(plan::Camera::default(), config::Watchdog::default(), 1);
        (camera, Some(Duration::ZERO))
    }

    /// Lets it run from picture `from` to picture `to`; opens it again when it is lost.
    fn run((camera, open): &mut (Camera, Option<Duration>), from: u32, to: u32) -> Vec<Picture> {
        let mut pictures = Vec::new();
        for number in from..to {
            let now = camera.interval() * number;
            if open.is_some_and(|at| at <= now) {
                *open = camera.open(now);
            }
            camera.pace(now);
            match camera.picture(now) {
                Brought::Picture(picture) => pictures.push(picture),
                Brought::Lost(at) => *open = Some(at),
                Brought::Nothing => {}
            }
        }
        pictures
    }

    #[test]
    fn its_rate_is_the_plan_s_and_a_key_frame_comes_every_interval_and_when_asked_for() {
        let mut camera = camera();
        let pictures = run(&mut camera, 0, 1800);
        let bytes: u64 = pictures.iter().map(|picture| u64::from(picture.bytes)).sum();
        let kbps = bytes as f64 / 125.0 / 60.0;
        assert!((950.0..1050.0).contains(&kbps), "{kbps}");
        assert_eq!(pictures.iter().filter(|picture| picture.key).count(), 30);
        run(&mut camera, 1800, 1810);
        let now = camera.0.interval() * 1810;
        camera.0.request(now);
        assert!(run(&mut camera, 1810, 1812)[0].key);
    }

    #[test]
    fn it_comes_back_from_every_fault_with_a_key_frame_and_its_time_never_goes_back() {
        use CameraFault::{Freeze, Garbage, PtsJump, Slow, Unplug};
        for fault in [Freeze, Unplug, Slow, Garbage, PtsJump] {
            let mut camera = camera();
            let mut pictures = run(&mut camera, 0, 100);
            camera.0.fault(fault, true);
            let during = run(&mut camera, 100, 190);
            assert!(matches!(fault, Slow | PtsJump) != during.is_empty(), "{fault:?}");
            camera.0.fault(fault, false);
            let after = run(&mut camera, 190, 400);
            let first = after.first().is_some_and(|picture| picture.key);
            assert!(first || matches!(fault, Freeze | Slow | PtsJump), "{fault:?}");
            assert!(after.len() > 100, "{fault:?}: {}", after.len());
            pictures.extend(during);
            pictures.extend(after);
            assert!(pictures.is_sorted_by(|a, b| a.captured < b.captured), "{fault:?}");
        }
    }
}
