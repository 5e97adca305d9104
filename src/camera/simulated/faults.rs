//! What goes wrong with the simulated camera, and when.

use std::sync::OnceLock;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::config::{Fault, FaultKind};

/// How far stamps jump ahead.
pub(super) const JUMP: Duration = Duration::from_secs(10);

/// In slow motion every so many pictures one is delivered.
pub(super) const SLOW_FACTOR: u64 = 5;

/// The list of faults with the instant from which its times count: the first start of the camera.
/// Rebuilding the camera does not start the list over.
#[derive(Debug)]
pub(super) struct Schedule {
    faults: Vec<Fault>,
    started: OnceLock<Timestamp>,
}

/// What is wrong at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Active {
    pub freeze: bool,
    pub unplug: bool,
    pub pts_jump: bool,
    pub slow: bool,
    pub garbage: bool,
}

impl Schedule {
    pub(super) fn new(faults: Vec<Fault>) -> Self {
        Self { faults, started: OnceLock::new() }
    }

    /// When the camera started for the first time; the first call says that this is `now`.
    pub(super) fn started(&self, now: Timestamp) -> Timestamp {
        *self.started.get_or_init(|| now)
    }

    /// What is wrong at `instant`.
    pub(super) fn at(&self, instant: Timestamp) -> Active {
        let started = self.started(instant);
        active(&self.faults, instant.since(started))
    }

    /// Whether the camera ever delivers garbage.
    pub(super) fn has_garbage(&self) -> bool {
        self.faults.iter().any(|fault| fault.kind == FaultKind::Garbage)
    }
}

fn active(faults: &[Fault], elapsed: Duration) -> Active {
    let mut active = Active::default();
    for fault in faults {
        let from = Duration::from_millis(fault.at_ms);
        let until = from.saturating_add(Duration::from_millis(fault.for_ms));
        if (from..until).contains(&elapsed) {
            match fault.kind {
                FaultKind::Freeze => active.freeze = true,
                FaultKind::Unplug => active.unplug = true,
                FaultKind::PtsJump => active.pts_jump = true,
                FaultKind::Slow => active.slow = true,
                FaultKind::Garbage => active.garbage = true,
            }
        }
    }
    active
}

/// Bytes in the place of an encoded picture, of three sorts in turn: noise without a start code,
/// a NAL unit of a type that does not exist, and one with its forbidden bit set.
pub(super) fn garbage(number: u64, size_bytes: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = match number % 3 {
        0 => Vec::new(),
        1 => vec![0, 0, 0, 1, 0x1f],
        _ => vec![0, 0, 0, 1, 0xe5],
    };
    let mut random = super::Random::new(number);
    // The high bit is set, so that no start code comes about by chance.
    bytes.resize_with(size_bytes.max(bytes.len() + 1), || random.byte() | 0x80);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(at_ms: u64, kind: FaultKind, for_ms: u64) -> Fault {
        Fault { at_ms, kind, for_ms }
    }

    #[test]
    fn a_fault_holds_from_its_first_millisecond_to_before_its_last() {
        let faults = [fault(1_000, FaultKind::Freeze, 500), fault(1_400, FaultKind::Slow, 1_000)];
        let at = |ms| active(&faults, Duration::from_millis(ms));
        assert_eq!(at(999), Active::default());
        assert_eq!(at(1_000), Active { freeze: true, ..Active::default() });
        assert_eq!(at(1_450), Active { freeze: true, slow: true, ..Active::default() });
        assert_eq!(at(1_500), Active { slow: true, ..Active::default() });
        assert_eq!(at(2_400), Active::default());
    }

    #[test]
    fn times_count_from_the_first_start_also_after_a_rebuild() {
        let schedule = Schedule::new(vec![fault(1_000, FaultKind::Unplug, 1_000)]);
        let second = |n: u64| Timestamp::from_nanos(n * 1_000_000_000);
        assert_eq!(schedule.started(second(5)), second(5));
        assert_eq!(schedule.started(second(7)), second(5));
        assert!(schedule.at(second(6)).unplug);
        assert!(!schedule.at(second(7)).unplug);
    }
}
