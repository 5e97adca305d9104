//! The coalescer: one key frame for all who ask.

use core::time::Duration;

use proptest::prelude::*;

use crate::distributor::{Coalescer, Decision};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn the_first_request_is_passed_on_at_once_and_the_next_ones_together() {
    let mut coalescer = Coalescer::default();
    assert_eq!(coalescer.request(ms(1_000)), Decision::ForceNow);
    for now in [1_000, 1_001, 1_249] {
        assert_eq!(coalescer.request(ms(now)), Decision::ForceAt(ms(1_250)));
        assert!(!coalescer.due(ms(now)));
    }
    assert_eq!(coalescer.due_at(), Some(ms(1_250)));
    assert!(coalescer.due(ms(1_250)));
    assert!(!coalescer.due(ms(1_250)), "once");
    assert_eq!(coalescer.request(ms(1_499)), Decision::ForceAt(ms(1_500)));
}

#[test]
fn a_request_after_a_quiet_interval_is_passed_on_at_once() {
    let mut coalescer = Coalescer::default();
    assert_eq!(coalescer.request(ms(0)), Decision::ForceNow);
    assert_eq!(coalescer.request(ms(250)), Decision::ForceNow);
}

#[test]
fn a_request_that_finds_one_overdue_takes_it_along() {
    let mut coalescer = Coalescer::default();
    assert_eq!(coalescer.request(ms(0)), Decision::ForceNow);
    assert_eq!(coalescer.request(ms(100)), Decision::ForceAt(ms(250)));
    assert_eq!(coalescer.request(ms(300)), Decision::ForceNow);
    assert!(!coalescer.due(ms(300)));
}

#[test]
fn a_key_frame_that_comes_by_itself_serves_who_asked_before() {
    let mut coalescer = Coalescer::default();
    assert_eq!(coalescer.request(ms(0)), Decision::ForceNow);
    assert_eq!(coalescer.request(ms(10)), Decision::ForceAt(ms(250)));
    coalescer.key_frame_published();
    assert_eq!(coalescer.due_at(), None);
    assert!(!coalescer.due(ms(250)));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A camera that looks whenever it is told to, and requests at any times.
    #[test]
    fn nobody_waits_longer_than_the_interval_and_no_two_are_forced_within_it(
        interval_ms in 0u64..400, waits_ms in prop::collection::vec(0u64..300, 1..100)
    ) {
        let mut coalescer = Coalescer::new(ms(interval_ms));
        let (mut now, mut forced) = (ms(0), Vec::new());
        let mut waiting = Vec::new();
        for wait_ms in waits_ms {
            let request = now + ms(wait_ms);
            if let Some(due) = coalescer.due_at().filter(|due| *due <= request) {
                prop_assert!(coalescer.due(due));
                forced.push((due, std::mem::take(&mut waiting)));
            }
            now = request;
            waiting.push(now);
            match coalescer.request(now) {
                Decision::ForceNow => forced.push((now, std::mem::take(&mut waiting))),
                Decision::ForceAt(due) => prop_assert_eq!(coalescer.due_at(), Some(due)),
            }
        }
        if let Some(due) = coalescer.due_at() {
            prop_assert!(coalescer.due(due));
            forced.push((due, std::mem::take(&mut waiting)));
        }
        prop_assert!(waiting.is_empty(), "forgotten: {waiting:?}");
        for pair in forced.windows(2) {
            prop_assert!(pair[1].0 - pair[0].0 >= ms(interval_ms), "{:?}", forced);
        }
        for (at, served) in forced {
            prop_assert!(!served.is_empty(), "forced at {at:?} for nobody");
            prop_assert!(served.iter().all(|asked| at - *asked <= ms(interval_ms)));
        }
    }
}
