//! Patience with wrong passwords, by address: a few are free, then each doubles the wait.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::Denied;
use crate::admission::network;

/// Wrong guesses that cost nothing: people mistype.
const FREE: u32 = 5;

/// The wait after the first guess that costs, and the longest.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(300);

/// An address that has been quiet for so long starts anew.
const FORGET_AFTER: Duration = Duration::from_secs(900);

/// Addresses that are remembered. With more, the one that was quiet longest is forgotten: who has
/// so many addresses is slowed down by the cost of the hash alone.
const ADDRESSES_MAX: usize = 4096;

/// What is held against each address.
#[derive(Debug, Default)]
pub(super) struct Patience {
    guesses: HashMap<IpAddr, Guesses>,
}

#[derive(Clone, Copy, Debug)]
struct Guesses {
    count: u32,
    last: Duration,
}

impl Guesses {
    /// From when on the next guess is listened to.
    fn until(self) -> Duration {
        let Some(costly) = self.count.checked_sub(FREE) else { return Duration::ZERO };
        let doubled = WAIT_MIN.saturating_mul(1u32.checked_shl(costly).unwrap_or(u32::MAX));
        self.last + doubled.min(WAIT_MAX)
    }
}

impl Patience {
    /// Whether a guess from there is listened to now.
    pub(super) fn check(&self, address: IpAddr, now: Duration) -> Result<(), Denied> {
        let Some(guesses) = self.guesses.get(&network(address)) else { return Ok(()) };
        match guesses.until().checked_sub(now) {
            Some(retry_after) if !retry_after.is_zero() => Err(Denied::Slow { retry_after }),
            _ => Ok(()),
        }
    }

    /// Counts wrong guesses.
    pub(super) fn count(&mut self, address: IpAddr, guesses: u32, now: Duration) {
        let address = network(address);
        if !self.guesses.contains_key(&address) && self.guesses.len() >= ADDRESSES_MAX {
            self.guesses.retain(|_, guesses| now.saturating_sub(guesses.last) < FORGET_AFTER);
            let quietest = self.guesses.iter().min_by_key(|(_, guesses)| guesses.last);
            if let Some(quietest) = quietest.map(|(address, _)| *address)
                && self.guesses.len() >= ADDRESSES_MAX
            {
                self.guesses.remove(&quietest);
            }
        }
        // Only time forgives: one who has a password of his own could try another's for ever.
        let held = self.guesses.entry(address).or_insert(Guesses { count: 0, last: now });
        if now.saturating_sub(held.last) >= FORGET_AFTER {
            held.count = 0;
        }
        *held = Guesses { count: held.count.saturating_add(guesses), last: now };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn wait(patience: &Patience, address: IpAddr, now: Duration) -> Duration {
        match patience.check(address, now) {
            Ok(()) => Duration::ZERO,
            Err(denied) => denied.retry_after().unwrap(),
        }
    }

    #[test]
    fn five_wrong_guesses_are_free_and_each_after_them_doubles_the_wait() {
        let mut patience = Patience::default();
        let mut now = Duration::from_secs(10);
        for _ in 0..FREE - 1 {
            patience.count(HERE, 1, now);
            assert_eq!(wait(&patience, HERE, now), Duration::ZERO);
        }
        let mut waits = Vec::new();
        for _ in 0..12 {
            patience.count(HERE, 1, now);
            let wait = wait(&patience, HERE, now);
            waits.push(wait.as_secs());
            now += wait;
            assert_eq!(patience.check(HERE, now), Ok(()), "the wait ends when it was said to");
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    }

    #[test]
    fn an_address_starts_anew_after_a_quiet_time() {
        let mut patience = Patience::default();
        for _ in 0..=FREE {
            patience.count(HERE, 1, Duration::ZERO);
        }
        let later = FORGET_AFTER;
        patience.count(HERE, 1, later);
        assert_eq!(patience.check(HERE, later), Ok(()));
        for _ in 0..=FREE {
            patience.count(HERE, 1, later);
        }
        assert!(patience.check(HERE, later).is_err());
    }

    #[test]
    fn neighbours_in_one_ipv6_network_are_one_and_others_are_not() {
        let mut patience = Patience::default();
        let [one, two, far] = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"]
            .map(|address| address.parse::<IpAddr>().unwrap());
        for _ in 0..=FREE {
            patience.count(one, 1, Duration::ZERO);
        }
        assert!(patience.check(two, Duration::ZERO).is_err());
        assert_eq!(patience.check(far, Duration::ZERO), Ok(()));
    }

    #[test]
    fn only_so_many_addresses_are_remembered() {
        let mut patience = Patience::default();
        for n in 0..2 * ADDRESSES_MAX as u32 {
            patience.count(IpAddr::from(n.to_be_bytes()), 1, Duration::from_millis(n.into()));
        }
        assert_eq!(patience.guesses.len(), ADDRESSES_MAX);
        assert!(!patience.guesses.contains_key(&IpAddr::from([0, 0, 0, 0])));
    }
}
