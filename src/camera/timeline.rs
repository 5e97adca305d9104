//! Time stamps that can be relied on, out of those a camera claims.

use std::time::Duration;

use crate::clock::Timestamp;

/// A picture claimed to be older than this when it arrives is not believed.
const AGE_MAX: Duration = Duration::from_secs(1);

/// The least from one picture to the next: one tick of RTP's 90 kHz clock, rounded up.
const STEP_MIN: Duration = Duration::from_nanos(11_112);

/// Turns the stamps of one stream into ones that rise strictly and are never far from now.
///
/// A claim is kept where it is from the last second and not from the future; else the time of
/// arrival stands in for it. So a camera whose stamps jump delivers a stream that does not.
#[derive(Debug, Default)]
pub struct Timeline {
    last: Option<Timestamp>,
}

impl Timeline {
    /// The stamp for the picture that arrives `now` and claims to be from `claimed`.
    pub fn place(&mut self, claimed: Option<Timestamp>, now: Timestamp) -> Timestamp {
        let believed = claimed.filter(|&claimed| claimed <= now && now.since(claimed) <= AGE_MAX);
        let wanted = believed.unwrap_or(now);
        let placed = match self.last {
            Some(last) => wanted.max(last.plus(STEP_MIN)),
            None => wanted,
        };
        self.last = Some(placed);
        placed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(nanoseconds: u64) -> Timestamp {
        Timestamp::from_nanos(nanoseconds)
    }

    #[test]
    fn an_honest_camera_s_stamps_are_kept() {
        let mut timeline = Timeline::default();
        for frame in 0..100 {
            let captured = at(SECOND + frame * 33_000_000);
            let arrived = captured.plus(Duration::from_millis(20));
            assert_eq!(timeline.place(Some(captured), arrived), captured);
        }
    }

    #[test]
    fn a_jump_ahead_and_back_leaves_no_trace() {
        let mut timeline = Timeline::default();
        let now = |frame: u64| at(100 * SECOND + frame * 33_000_000);
        for frame in 0..30 {
            let jumped = now(frame).plus(Duration::from_secs(if frame < 10 { 0 } else { 10 }));
            let claimed = if frame < 20 { jumped } else { now(frame) };
            assert_eq!(timeline.place(Some(claimed), now(frame)), now(frame));
        }
    }

    proptest! {
        #[test]
        fn stamps_rise_strictly_and_stay_near_now(
            frames in prop::collection::vec((prop::option::of(any::<u64>()), 0u64..SECOND), 1..100),
        ) {
            let mut timeline = Timeline::default();
            let mut now = at(5 * SECOND);
            let mut last = None;
            for (index, (claimed, pause)) in (0u64..).zip(frames) {
                now = now.plus(Duration::from_nanos(pause));
                let placed = timeline.place(claimed.map(at), now);
                prop_assert!(Some(placed) > last);
                prop_assert!(placed.since(now) <= STEP_MIN * u32::try_from(index).unwrap());
                prop_assert!(now.since(placed) <= AGE_MAX);
                last = Some(placed);
            }
        }
    }
}
