//! So that an element that says the same thing for every frame does not fill the log, nor a
//! stranger whose requests are refused.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::clock::Timestamp;

/// Lines from one place in one window.
const LINES_MAX: u64 = 5;

/// How long a place that has said enough is not heard.
const WINDOW: Duration = Duration::from_secs(10);

/// Places that are remembered; with more, all are forgotten.
const PLACES_MAX: usize = 512;

/// Lets through a few lines from each place in the source, and counts the others.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    places: HashMap<u64, Place>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Place {
    source: Box<str>,
    line: u32,
    since: Timestamp,
    passed: u64,
    suppressed: u64,
}

/// What a place said that was not logged, and no later line has told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Silence {
    /// The place: a file and a line in it.
    pub(super) source: Box<str>,
    pub(super) line: u32,
    /// How many lines.
    pub(super) suppressed: u64,
}

impl Limiter {
    /// Whether to log a line from this place: with how many there were since the last that was
    /// logged, or not at all.
    pub(super) fn pass(&mut self, source: &str, line: u32, now: Timestamp) -> Option<u64> {
        let key = self.hasher.hash_one((source, line));
        if self.places.len() >= PLACES_MAX && !self.places.contains_key(&key) {
            self.places.clear();
        }
        let fresh = || Place { source: source.into(), line, since: now, passed: 0, suppressed: 0 };
        let place = self.places.entry(key).or_insert_with(fresh);
        if now.since(place.since) >= WINDOW {
            (place.since, place.passed) = (now, 0);
        }
        if place.passed >= LINES_MAX {
            place.suppressed += 1;
            return None;
        }
        place.passed += 1;
        Some(std::mem::take(&mut place.suppressed))
    }

    /// What was left out at places whose window is over: told once, also where the flood has
    /// stopped and no later line would tell it.
    pub(super) fn silences(&mut self, now: Timestamp) -> Vec<Silence> {
        let places = self.places.values_mut();
        let over = places.filter(|place| place.suppressed > 0 && now.since(place.since) >= WINDOW);
        over.map(|place| Silence {
            source: place.source.clone(),
            line: place.line,
            suppressed: std::mem::take(&mut place.suppressed),
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn second(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_flood_from_one_place_is_cut_and_its_size_told_with_the_next_line() {
        let mut limiter = Limiter::default();
        let passed = (0..1_000).filter(|_| limiter.pass("a.c", 7, second(1)).is_some()).count();
        assert_eq!(passed, LINES_MAX as usize);
        assert_eq!(limiter.pass("a.c", 8, second(1)), Some(0), "another place is heard");
        assert_eq!(limiter.pass("a.c", 7, second(10)), None);
        assert_eq!(limiter.pass("a.c", 7, second(11)), Some(996));
        assert_eq!(limiter.pass("a.c", 7, second(11)), Some(0));
    }

    #[test]
    fn what_was_left_out_is_told_once_when_the_window_is_over() {
        let mut limiter = Limiter::default();
        for _ in 0..100 {
            limiter.pass("a.rs", 7, second(1));
        }
        assert_eq!(limiter.silences(second(10)), []);
        let silence = Silence { source: "a.rs".into(), line: 7, suppressed: 95 };
        assert_eq!(limiter.silences(second(11)), [silence]);
        assert_eq!(limiter.silences(second(12)), []);
        assert_eq!(limiter.pass("a.rs", 7, second(12)), Some(0));
    }

    #[test]
    fn the_memory_of_places_is_bounded() {
        let mut limiter = Limiter::default();
        for line in 0..100_000 {
            assert!(limiter.pass("a.c", line, second(1)).is_some());
            assert!(limiter.places.len() <= PLACES_MAX);
        }
    }
}
