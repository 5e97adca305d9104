//! Key frames on demand: many who ask, few that are made.
//!
//! One IDR serves all who asked before it. Requests are spaced ([`INTERVAL_MIN`]), and one that
//! the encoder did not answer is repeated a few times ([`ANSWER_MAX`], [`TRIES_MAX`]).

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::slot::Slot;
use super::tap::Tap;
use crate::clock::Timestamp;
use crate::shutdown::Stopping;

/// The least from one forced key frame to the next.
const INTERVAL_MIN: Duration = Duration::from_millis(250);

/// How long an encoder may take to answer; then it is asked again.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// How often it is asked in all; then it is left to the next who asks, and to the watchdog.
const TRIES_MAX: u32 = 3;

/// When to force a key frame. Sans-IO: the time is an argument.
#[derive(Debug, Default)]
pub struct Pacing {
    forced: Option<Timestamp>,
    pending: Option<Pending>,
}

/// Somebody waits for a key frame.
#[derive(Clone, Copy, Debug)]
struct Pending {
    since: Timestamp,
    tries: u32,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until somebody asks.
    Idle,
    /// Ask the encoder for a key frame, now.
    Force,
    /// Come back then.
    WaitUntil(Timestamp),
}

impl Pacing {
    /// Somebody asks for a key frame.
    pub fn request(&mut self, now: Timestamp) {
        // Who asks while one is under way is served by it; who asks after too many tries starts
        // them anew.
        if self.pending.is_none_or(|pending| pending.tries >= TRIES_MAX) {
            self.pending = Some(Pending { since: now, tries: 0 });
        }
    }

    /// A key frame was published at `at`: it serves who asked before.
    pub fn key_published(&mut self, at: Timestamp) {
        self.pending = self.pending.filter(|pending| pending.since > at);
    }

    /// What is to be done now.
    pub fn step(&mut self, now: Timestamp) -> Step {
        let Some(pending) = &mut self.pending else { return Step::Idle };
        if pending.tries >= TRIES_MAX {
            return Step::Idle;
        }
        let spacing = if pending.tries == 0 { INTERVAL_MIN } else { ANSWER_MAX };
        let due = self.forced.map_or(now, |forced| forced.plus(spacing));
        if due > now {
            return Step::WaitUntil(due);
        }
        pending.tries += 1;
        self.forced = Some(now);
        Step::Force
    }
}

/// Forces key frames of one rendition as they are asked for, until the camera stops.
pub(super) async fn serve(tap: Arc<Tap>, slot: Arc<Slot>, mut stopping: Stopping) {
    let rendition = Arc::clone(tap.rendition());
    let mut pacing = Pacing::default();
    let mut keys = tap.keys();
    // One future kept over the rounds: a request is not lost to a round that another won.
    let mut requested = pin!(rendition.hub.key_frame_requested());
    loop {
        let wake = match pacing.step(Timestamp::now()) {
            Step::Force => {
                slot.force_key_frame();
                continue;
            }
            Step::WaitUntil(due) => Some(due.since(Timestamp::now())),
            Step::Idle => None,
        };
        tokio::select! {
            () = &mut requested => {
                requested.set(rendition.hub.key_frame_requested());
                pacing.request(Timestamp::now());
            }
            () = tap.key_wanted() => pacing.request(Timestamp::now()),
            changed = keys.changed() => {
                if changed.is_err() {
                    return;
                }
                if let Some(at) = *keys.borrow_and_update() {
                    pacing.key_published(at);
                }
            }
            () = tokio::time::sleep(wake.unwrap_or(ANSWER_MAX)) => {}
            () = stopping.wait() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::from_nanos(1_000_000_000 + milliseconds * 1_000_000)
    }

    #[test]
    fn many_who_ask_at_once_cost_one_key_frame() {
        let mut pacing = Pacing::default();
        (0..10).for_each(|ms| pacing.request(at(ms)));
        assert_eq!(pacing.step(at(10)), Step::Force);
        (10..30).for_each(|ms| pacing.request(at(ms)));
        pacing.key_published(at(30));
        assert_eq!(pacing.step(at(30)), Step::Idle);
    }

    #[test]
    fn who_asks_after_a_key_frame_waits_for_the_next_one_s_turn() {
        let mut pacing = Pacing::default();
        pacing.request(at(0));
        assert_eq!(pacing.step(at(0)), Step::Force);
        pacing.key_published(at(20));
        pacing.request(at(100));
        assert_eq!(pacing.step(at(100)), Step::WaitUntil(at(250)));
        assert_eq!(pacing.step(at(249)), Step::WaitUntil(at(250)));
        assert_eq!(pacing.step(at(250)), Step::Force);
    }

    #[test]
    fn a_key_frame_that_comes_by_itself_serves_who_waits() {
        let mut pacing = Pacing::default();
        pacing.request(at(0));
        assert_eq!(pacing.step(at(0)), Step::Force);
        pacing.key_published(at(20));
        pacing.request(at(100));
        pacing.key_published(at(150));
        assert_eq!(pacing.step(at(300)), Step::Idle);
    }

    #[test]
    fn an_encoder_that_does_not_answer_is_asked_again_but_not_for_ever() {
        let mut pacing = Pacing::default();
        pacing.request(at(0));
        assert_eq!(pacing.step(at(0)), Step::Force);
        assert_eq!(pacing.step(at(1)), Step::WaitUntil(at(1_000)));
        assert_eq!(pacing.step(at(1_000)), Step::Force);
        assert_eq!(pacing.step(at(2_000)), Step::Force);
        assert_eq!(pacing.step(at(10_000)), Step::Idle);
        pacing.request(at(10_000));
        assert_eq!(pacing.step(at(10_000)), Step::Force);
    }
}
