//! How often something may happen: a bucket that holds one second's worth.
//!
//! Sans-IO: the time is an argument.

use std::time::Duration;

const NANO: u64 = 1_000_000_000;

/// So many a second; as many may come at once after a quiet second.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    per_second_max: u32,
    /// What may still come at once, in billionths, and when that was reckoned.
    allowance_nano: u64,
    reckoned: Duration,
}

impl Rate {
    /// A full bucket.
    pub fn new(per_second_max: u32) -> Self {
        let allowance_nano = u64::from(per_second_max) * NANO;
        Self { per_second_max, allowance_nano, reckoned: Duration::ZERO }
    }

    /// How many may come in a second.
    pub const fn per_second_max(&self) -> u32 {
        self.per_second_max
    }

    /// Puts another rate in force; what was earned by the old one stays, as far as it fits.
    pub fn set(&mut self, per_second_max: u32) {
        self.per_second_max = per_second_max;
    }

    /// Whether one more may come now. `now` is any clock that never goes back.
    pub fn take(&mut self, now: Duration) -> bool {
        self.take_many(1, now)
    }

    /// How many of the last second's worth are not yet earned back, a part of one counting whole; and
    /// how many may come in a second.
    pub fn used(&self, now: Duration) -> (usize, usize) {
        let full = u64::from(self.per_second_max) * NANO;
        let used = (full - self.allowance_nano(now)).div_ceil(NANO);
        let size = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        (size(used), size(full / NANO))
    }

    fn allowance_nano(&self, now: Duration) -> u64 {
        let per_second_max = u64::from(self.per_second_max);
        let elapsed = now.saturating_sub(self.reckoned).as_nanos().min(u128::from(NANO));
        let earned = u64::try_from(elapsed).unwrap_or(NANO) * per_second_max;
        (self.allowance_nano + earned).min(per_second_max * NANO)
    }

    /// Whether `count` more may come now; all of them or none. More than a second's worth never may.
    pub fn take_many(&mut self, count: u32, now: Duration) -> bool {
        self.allowance_nano = self.allowance_nano(now);
        self.reckoned = self.reckoned.max(now);
        let wanted = u64::from(count) * NANO;
        let taken = self.allowance_nano >= wanted;
        if taken {
            self.allowance_nano -= wanted;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_second_s_worth_may_come_at_once_and_one_more_must_wait_for_its_turn() {
        let mut rate = Rate::new(4);
        assert!((0..4).all(|_| rate.take(MS(7_000))));
        assert!(!rate.take(MS(7_000)) && !rate.take(MS(7_249)));
        assert!(rate.take(MS(7_250)) && !rate.take(MS(7_250)));
        assert!(!rate.take_many(5, MS(60_000)), "never more than a second's worth");
        assert!(rate.take_many(4, MS(60_000)));
    }

    #[test]
    fn another_rate_holds_from_then_on() {
        let mut rate = Rate::new(100);
        rate.set(1);
        assert!(rate.take(MS(1)) && !rate.take(MS(1)));
        rate.set(10);
        assert!(rate.take_many(10, MS(1_001)) && !rate.take(MS(1_001)));
    }

    proptest! {
        #[test]
        fn no_second_has_more_than_twice_its_worth(
            per_second_max in 1u32..50,
            waits in prop::collection::vec(0u64..300, 1..300),
        ) {
            let mut rate = Rate::new(per_second_max);
            let (mut now, mut taken) = (0, Vec::new());
            for wait in waits {
                now += wait;
                if rate.take(MS(now)) {
                    taken.push(now);
                }
            }
            for &at in &taken {
                let within = taken.iter().filter(|then| (at..at + 1_000).contains(*then)).count();
                prop_assert!(within <= 2 * per_second_max as usize);
            }
        }
    }
}
