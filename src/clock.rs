//! The one clock: the system's monotonic clock, on every pipeline and in every frame.
//!
//! Pipelines run with base time zero and no start time, so a running time *is* a monotonic time
//! and stamps can be compared across pipelines, threads and restarts of a camera.

use std::fmt;
use std::time::Duration;

use gst::prelude::*;

/// How often the clocks are read at most to compare them, and how quick a reading is good at once.
const OFFSET_READINGS_MAX: usize = 4;
const OFFSET_READING_NANOS: u64 = 10_000;

/// A point on the system's monotonic clock, in nanoseconds since boot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The point `nanoseconds` after boot.
    pub const fn from_nanos(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// Now.
    pub fn now() -> Self {
        Self(read(rustix::time::ClockId::Monotonic))
    }

    /// Now, by the clock that `element` runs on: in a pipeline of ours the one clock ([`rule`]), in
    /// a test one that the test winds. The one clock where it has none yet.
    pub fn now_at(element: &impl IsA<gst::Element>) -> Self {
        element.clock().map_or_else(Self::now, |clock| clock.time().into())
    }

    /// The same of the element that `pad` belongs to.
    pub fn now_on(pad: &gst::Pad) -> Self {
        pad.parent_element().as_ref().map_or_else(Self::now, Self::now_at)
    }

    /// Nanoseconds since boot.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time since boot, for what takes any clock that never goes back.
    pub const fn since_boot(self) -> Duration {
        Duration::from_nanos(self.as_nanos())
    }

    /// How long after `earlier` this is; zero where it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This point moved later; it stays at the end of time rather than wrap.
    pub fn plus(self, duration: Duration) -> Self {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanoseconds))
    }

    /// The same instant as time since the Unix epoch, by the wall clock as it is set now.
    pub fn to_unix(self) -> Duration {
        let offset = wall_offset();
        let nanoseconds = (i128::from(self.0) + offset).max(0);
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

impl From<Timestamp> for gst::ClockTime {
    fn from(timestamp: Timestamp) -> Self {
        Self::from_nseconds(timestamp.0)
    }
}

impl From<gst::ClockTime> for Timestamp {
    fn from(time: gst::ClockTime) -> Self {
        Self(time.nseconds())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000_000, self.0 / 1_000 % 1_000_000)
    }
}

/// Puts `pipeline` on the one clock: monotonic system clock, base time zero, start time none.
pub fn rule(pipeline: &gst::Pipeline) {
    pipeline.use_clock(Some(&gst::SystemClock::obtain()));
    pipeline.set_start_time(gst::ClockTime::NONE);
    pipeline.set_base_time(gst::ClockTime::ZERO);
}

/// By how much the wall clock is ahead of the monotonic one. The two cannot be read at once: a
/// thread that is interrupted in between would be off by as long as it slept, so of a few readings
/// the quickest counts.
fn wall_offset() -> i128 {
    let mut quickest = (u64::MAX, 0);
    for _ in 0..OFFSET_READINGS_MAX {
        let before = read(rustix::time::ClockId::Monotonic);
        let wall = wall();
        let took = read(rustix::time::ClockId::Monotonic).saturating_sub(before);
        if took < quickest.0 {
            quickest = (took, i128::from(wall) - i128::from(before) - i128::from(took / 2));
        }
        if took <= OFFSET_READING_NANOS {
            break;
        }
    }
    quickest.1
}

/// The wall clock. By libc, unlike the others: libfaketime moves it (`sim/`, clock-step).
fn wall() -> u64 {
    let unix = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX)
}

fn read(clock: rustix::time::ClockId) -> u64 {
    let time = rustix::time::clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

/// Whole seconds of `wait`, rounded up: who comes back then is not too early.
pub const fn whole_seconds(wait: Duration) -> u64 {
    if wait.subsec_nanos() > 0 { wait.as_secs() + 1 } else { wait.as_secs() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_of_gstreamer_and_ours_read_the_same() {
        gst::init().unwrap();
        let before = Timestamp::now();
        let theirs = Timestamp::from(gst::SystemClock::obtain().time());
        let after = Timestamp::now();
        assert!(before <= theirs && theirs <= after, "{before} {theirs} {after}");
    }

    #[test]
    fn unix_time_of_now_is_the_wall_clock() {
        let wall = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let ours = Timestamp::now().to_unix();
        assert!(ours.abs_diff(wall) < Duration::from_secs(1), "{ours:?} {wall:?}");
    }
}
