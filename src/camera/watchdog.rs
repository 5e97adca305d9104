//! Whether a camera still delivers: arrival, encoder and picture, each watched by itself.
//!
//! Sans-IO: the streaming threads leave marks ([`Marks`]), and [`Watchdog::verdict`] judges them
//! at a time that is an argument. A camera that is gone often says nothing (raspberrypi/libcamera
//! 139, pi-webrtc 211) and an encoder may swallow pictures for ever (raspberrypi/linux 4906).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Timestamp;

/// When something last happened; may be marked from any thread.
#[derive(Debug, Default)]
pub struct Mark(AtomicU64);

impl Mark {
    /// Notes that it happened now.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// When it last happened.
    pub fn get(&self) -> Option<Timestamp> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            nanoseconds => Some(Timestamp::from_nanos(nanoseconds)),
        }
    }
}

/// The marks of one running camera.
#[derive(Debug)]
pub struct Marks {
    /// A picture came from the source.
    pub arrived: Mark,
    /// For each rendition.
    pub renditions: Vec<RenditionMarks>,
}

/// The marks of one rendition.
#[derive(Debug, Default)]
pub struct RenditionMarks {
    /// Something came from the encoder.
    pub encoded: Mark,
    /// An access unit that can be decoded was published.
    pub published: Mark,
}

/// What has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stall {
    /// No picture comes from the source.
    Arrival(Duration),
    /// Pictures come, but nothing from the encoder of this rendition.
    Encoder(usize, Duration),
    /// What comes from the encoder of this rendition is no picture.
    Garbage(usize, Duration),
}

/// The patience with one running camera.
#[derive(Clone, Copy, Debug)]
pub struct Watchdog {
    started: Timestamp,
    timeout: Duration,
    start_timeout: Duration,
}

impl Marks {
    /// Marks of a camera of which nothing was seen.
    pub fn new(renditions: usize) -> Self {
        let renditions = (0..renditions).map(|_| RenditionMarks::default()).collect();
        Self { arrived: Mark::default(), renditions }
    }

    /// Whether every rendition has published.
    pub fn all_published(&self) -> bool {
        self.renditions.iter().all(|marks| marks.published.get().is_some())
    }
}

impl Watchdog {
    /// For a camera started at `started`: what has run may be silent for `timeout`, what has not
    /// yet for `start_timeout`.
    pub const fn new(started: Timestamp, timeout: Duration, start_timeout: Duration) -> Self {
        Self { started, timeout, start_timeout }
    }

    /// What has stopped by `now`; the first cause where one follows from another.
    pub fn verdict(&self, marks: &Marks, now: Timestamp) -> Option<Stall> {
        if let Some(silent) = self.overdue(marks.arrived.get(), now) {
            return Some(Stall::Arrival(silent));
        }
        marks.renditions.iter().enumerate().find_map(|(index, rendition)| {
            if let Some(silent) = self.overdue(rendition.encoded.get(), now) {
                return Some(Stall::Encoder(index, silent));
            }
            self.overdue(rendition.published.get(), now).map(|silent| Stall::Garbage(index, silent))
        })
    }

    /// For how long it has been silent, where that is too long.
    fn overdue(&self, last: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
        let (since, patience) = match last {
            Some(last) => (last, self.timeout),
            None => (self.started, self.start_timeout),
        };
        let silent = now.since(since);
        (silent > patience).then_some(silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::from_nanos(10 * SECOND + milliseconds * 1_000_000)
    }

    fn watchdog() -> Watchdog {
        Watchdog::new(at(0), Duration::from_secs(2), Duration::from_secs(15))
    }

    /// Marks of two renditions, everything last seen at these times.
    fn marks(arrived: u64, encoded: [u64; 2], published: [u64; 2]) -> Marks {
        let marks = Marks::new(2);
        marks.arrived.set(at(arrived));
        for index in 0..2 {
            marks.renditions[index].encoded.set(at(encoded[index]));
            marks.renditions[index].published.set(at(published[index]));
        }
        marks
    }

    #[test]
    fn a_starting_camera_has_the_longer_patience_to_the_millisecond() {
        let nothing = Marks::new(1);
        assert_eq!(watchdog().verdict(&nothing, at(15_000)), None);
        let late = Duration::from_millis(15_001);
        assert_eq!(watchdog().verdict(&nothing, at(15_001)), Some(Stall::Arrival(late)));
    }

    #[test]
    fn a_running_camera_has_the_shorter_patience_to_the_millisecond() {
        let running = marks(5_000, [5_000; 2], [5_000; 2]);
        assert_eq!(watchdog().verdict(&running, at(7_000)), None);
        let late = Duration::from_millis(2_001);
        assert_eq!(watchdog().verdict(&running, at(7_001)), Some(Stall::Arrival(late)));
    }

    #[test]
    fn a_swallowing_encoder_is_told_from_a_silent_camera() {
        let swallowing = marks(7_000, [7_000, 4_000], [7_000, 4_000]);
        let silent = Duration::from_secs(3);
        assert_eq!(watchdog().verdict(&swallowing, at(7_000)), Some(Stall::Encoder(1, silent)));
    }

    #[test]
    fn garbage_is_told_from_a_swallowing_encoder() {
        let spoilt = marks(7_000, [7_000; 2], [4_000, 7_000]);
        let silent = Duration::from_secs(3);
        assert_eq!(watchdog().verdict(&spoilt, at(7_000)), Some(Stall::Garbage(0, silent)));
        assert!(spoilt.all_published());
    }
}
