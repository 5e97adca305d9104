//! What must hold at every step, whoever does what. The checker keeps its own books, from what it
//! is told of each step, and never asks the product for its figures but to compare them.

mod door;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lensline::distributor::{Counts, Limits};

use super::agenda::Who;
use door::Door;
pub use door::Patience;

/// What was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Delivered, skipped and pending are all that was published.
    Account,
    /// The first frame, and the first after a gap, is a key frame.
    KeyFirst,
    /// No frame is delivered that is older than the lag allows.
    Lag,
    /// Queues keep to their bounds.
    Bound,
    /// Who sleeps while there is something for it was woken.
    LostWakeUp,
    /// Who waits for a frame gets one.
    Starved,
    /// Who asks for a key frame gets one.
    KeyFrameOwed,
    /// Nobody who is gone, or never came, stays.
    Overdue,
    /// Nobody is sent away before its time.
    EndedEarly,
    /// The limits of admission hold, and nobody is refused without reason.
    Admission,
    /// All is given back.
    Left,
    /// Time and numbers never go back.
    Time,
}

/// A rule was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When, from the start of the run.
    pub at: Duration,
    /// Which rule.
    pub rule: Rule,
    /// How, for a person.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} s: {:?}: {}", self.at.as_secs_f64(), self.rule, self.what)
    }
}

/// More violations than these of one run are not noted.
const VIOLATIONS_MAX: usize = 20;

/// Who waits for a frame or a key frame while the camera is well gets it within this and three
/// frames: the spacing of forced key frames (250 ms) twice.
const KEY_FRAME_WAIT: Duration = Duration::from_millis(500);

/// A camera that was not well is given this long more: a key frame that it did not make when it
/// was asked is asked for again after a second.
const RECOVERY: Duration = Duration::from_secs(1);

/// What one viewer's requests for key frames are passed on at most.
const PASSED_ON_EVERY: Duration = Duration::from_millis(500);

/// One subscriber, as the checker keeps it.
struct Sub {
    /// The first frame it accounts for.
    first: u64,
    /// The frame after the last it was given.
    next: u64,
    delivered: u64,
    /// The newest frame when it fell asleep, while it sleeps.
    asleep: Option<u64>,
    /// Since when it would take a frame.
    hungry: Option<Duration>,
}

/// A session for a person.
struct Name {
    viewer: Arc<str>,
    attempt: u32,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (join {})", self.viewer, self.attempt)
    }
}

/// The books.
pub struct Checker {
    names: Vec<Arc<str>>,
    now: Duration,
    limits: Limits,
    interval: Duration,
    /// Whether each frame is a key frame; the first is number 1.
    frames: Vec<bool>,
    newest_key: u64,
    captured: Option<Duration>,
    subs: BTreeMap<Who, Sub>,
    /// Since when the camera is well and the streamer runs.
    steady: Option<Duration>,
    /// When a request for a key frame must have been passed on that no key frame has answered.
    owed: Option<Duration>,
    passed_on: BTreeMap<Who, Duration>,
    /// What was seen last by each viewer.
    seen: BTreeMap<Who, u64>,
    door: Door,
    violations: Vec<Violation>,
}

impl Checker {
    /// Books of these viewers, for a camera with a picture every `interval`.
    pub fn new<'a>(
        names: impl Iterator<Item = &'a str>,
        limits: Limits,
        interval: Duration,
        door: lensline::admission::Limits,
    ) -> Self {
        Self {
            names: names.map(Arc::from).collect(),
            now: Duration::ZERO,
            limits,
            interval,
            frames: Vec::new(),
            newest_key: 0,
            captured: None,
            subs: BTreeMap::new(),
            steady: None,
            owed: None,
            passed_on: BTreeMap::new(),
            seen: BTreeMap::new(),
            door: Door::new(door),
            violations: Vec::new(),
        }
    }

    /// A session for a person.
    fn name(&self, who: Who) -> Name {
        let viewer = self.names.get(who.viewer).cloned();
        Name { viewer: viewer.unwrap_or_default(), attempt: who.attempt }
    }

    /// What was broken so far.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// It is now.
    pub fn time(&mut self, now: Duration) {
        let before = self.now;
        self.hold(now >= before, Rule::Time, || format!("after {before:?} came {now:?}"));
        self.now = self.now.max(now);
    }

    /// A rule that is not kept elsewhere.
    pub fn hold(&mut self, holds: bool, rule: Rule, what: impl FnOnce() -> String) {
        if !holds && self.violations.len() < VIOLATIONS_MAX {
            let what = what();
            self.violations.push(Violation { at: self.now, rule, what });
        }
    }

    /// Whether the camera is well and the streamer runs.
    pub fn steady(&mut self, steady: bool) {
        match steady {
            true => self.steady = self.steady.or(Some(self.now)),
            false => self.steady = None,
        }
    }

    /// The streamer begins anew, with nobody inside.
    pub fn restarted(&mut self) {
        self.frames.clear();
        self.newest_key = 0;
        self.subs.clear();
        self.owed = None;
        self.passed_on.clear();
        self.steady = None;
        self.door.clear();
    }

    /// A frame was published, as number `seq`; who slept before was to be woken.
    pub fn published(&mut self, seq: u64, key: bool, captured: Duration) {
        let before = self.frames.len() as u64;
        self.hold(seq == before + 1, Rule::Time, || format!("after frame {before} came {seq}"));
        let last = self.captured;
        self.hold(last.is_none_or(|last| captured > last), Rule::Time, || {
            format!("frame {seq} was taken at {captured:?}, the one before at {last:?}")
        });
        self.captured = last.max(Some(captured));
        self.overslept(before);
        self.frames.push(key);
        if key {
            self.newest_key = seq;
            self.owed = None;
        }
        self.starved();
    }

    /// Frames up to `published` are there for who sleeps since before.
    fn overslept(&mut self, published: u64) {
        let sleeper =
            self.subs.iter().find(|(_, sub)| sub.asleep.is_some_and(|newest| newest < published));
        if let Some((who, newest)) = sleeper.map(|(who, sub)| (*who, sub.asleep.unwrap_or(0))) {
            let name = self.name(who);
            self.hold(false, Rule::LostWakeUp, || {
                format!(
                    "{} sleeps since frame {newest}; {published} is there, and nobody woke it",
                    name
                )
            });
        }
    }

    fn starved(&mut self) {
        let Some(steady) = self.steady.map(|since| since + RECOVERY) else { return };
        let bound = KEY_FRAME_WAIT + 3 * self.interval;
        let now = self.now;
        let overdue = |since: Duration| now.saturating_sub(since.max(steady)) > bound;
        let starved = self.subs.iter().find(|(_, sub)| sub.hungry.is_some_and(overdue));
        if let Some((who, since)) = starved.map(|(who, sub)| (*who, sub.hungry)) {
            let name = self.name(who);
            self.hold(false, Rule::Starved, || {
                format!("{} waits for a frame since {since:?}, and frames are there", name)
            });
        }
        if let Some(owed) = self.owed.filter(|owed| overdue(*owed)) {
            self.hold(false, Rule::KeyFrameOwed, || {
                format!("a viewer asked for a key frame at {owed:?}, and there was none since")
            });
        }
    }

    /// Somebody subscribed.
    pub fn subscribed(&mut self, who: Who) {
        let published = self.frames.len() as u64;
        let fresh =
            self.newest_key > 0 && published - self.newest_key <= self.limits.join_frames_max;
        let first = if fresh { self.newest_key } else { published + 1 };
        let hungry = Some(self.now);
        self.subs.insert(who, Sub { first, next: first, delivered: 0, asleep: None, hungry });
    }

    /// A subscriber was given a frame.
    pub fn delivered(&mut self, who: Who, seq: u64, key: bool, skipped: u64) {
        let name = self.name(who);
        let published = self.frames.len() as u64;
        let known = seq.checked_sub(1).and_then(|index| self.frames.get(index as usize)).copied();
        let Some(sub) = self.subs.get_mut(&who) else { return };
        let (expected, gap) = (sub.next, sub.delivered == 0 || seq != sub.next);
        sub.next = seq + 1;
        sub.delivered += 1;
        (sub.asleep, sub.hungry) = (None, None);
        self.hold(known == Some(key), Rule::Account, || {
            format!("{} was given frame {seq} as key={key}; published was {known:?}", name)
        });
        self.hold(seq == expected + skipped, Rule::Account, || {
            format!("{} was given frame {seq}, {skipped} skipped; {expected} was next", name)
        });
        self.hold(!gap || known == Some(true), Rule::KeyFirst, || {
            format!("{} was given frame {seq} after a gap, and it is no key frame", name)
        });
        let (age, most) = (published.saturating_sub(seq), self.limits.lag_frames_max);
        self.hold(age <= most, Rule::Lag, || {
            format!("{} was given frame {seq}, which is {age} frames old; {most} may be", name)
        });
    }

    /// A subscriber found nothing more, and sleeps; its account.
    pub fn rested(&mut self, who: Who, counts: Counts) {
        let name = self.name(who);
        let (published, now) = (self.frames.len() as u64, self.now);
        let Some(sub) = self.subs.get_mut(&who) else { return };
        sub.asleep = Some(published);
        sub.hungry.get_or_insert(now);
        let all = (published + 1).saturating_sub(sub.first);
        let own = Counts { published: all, delivered: sub.delivered, skipped: all - sub.delivered };
        self.hold(counts == own && counts.pending() == 0, Rule::Account, || {
            format!("{} has {counts:?}; it should be {own:?}", name)
        });
    }

    /// A subscriber does not want any more for now: there is no room.
    pub fn full(&mut self, who: Who) {
        if let Some(sub) = self.subs.get_mut(&who) {
            sub.hungry = None;
        }
    }

    /// A subscriber was woken.
    pub fn woken(&mut self, who: Who) {
        if let Some(sub) = self.subs.get_mut(&who) {
            sub.asleep = None;
        }
    }

    /// A viewer's request for a key frame has come.
    pub fn asked(&mut self, who: Who) {
        let due = |last: &Duration| self.now.saturating_sub(*last) >= PASSED_ON_EVERY;
        if self.passed_on.get(&who).is_none_or(due) {
            self.passed_on.insert(who, self.now);
            self.owed.get_or_insert(self.now);
        }
    }

    /// A viewer saw a picture.
    pub fn seen(&mut self, who: Who, seq: u64, key: bool) {
        let name = self.name(who);
        let last = self.seen.insert(who, seq);
        self.hold(last.is_none_or(|last| seq > last), Rule::Time, || {
            format!("{} saw picture {seq} after {last:?}", name)
        });
        self.hold(key || last == Some(seq.wrapping_sub(1)), Rule::KeyFirst, || {
            format!("{} saw picture {seq} after {last:?}, and it is no key frame", name)
        });
    }

    /// Subscribers there are, by these books.
    pub fn subscribers(&self) -> usize {
        self.subs.len()
    }
}

#[cfg(test)]
mod tests;
