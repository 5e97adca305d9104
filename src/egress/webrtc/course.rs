//! What a session decides from its offer to its end. Sans-IO: the time is an argument, so that the
//! simulator runs the same code in virtual time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::liveness::{Connection, Gone, Liveness};
use super::rtcp;
use crate::clock::Timestamp;
use crate::config;
use crate::egress::feed::FeedEnd;
use crate::egress::session::{End, Stats};

/// How often a viewer's liveness is looked at.
pub const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Key frames that one viewer asks for are passed on at most this often; a flood costs the others
/// nothing.
pub const KEY_FRAME_EVERY: Duration = Duration::from_millis(500);

/// What the viewer's reports leave behind; written on the engine's threads.
#[derive(Debug, Default)]
pub struct Heard {
    /// Nanoseconds of the one clock; 0 where nothing was heard yet.
    at: AtomicU64,
    /// The same of the last key frame passed on.
    key_frame: AtomicU64,
    bye: AtomicBool,
}

impl Heard {
    /// Notes a report; whether a key frame is to be asked of the camera because of it.
    pub fn hear(&self, stats: &Stats, report: rtcp::Report, now: Timestamp) -> bool {
        self.at.store(now.as_nanos(), Ordering::Relaxed);
        if let Some(lost) = report.packets_lost {
            stats.packets_lost.set(lost.into());
        }
        if let Some(round_trip) = report.round_trip {
            stats.rtt_us.set(u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX));
        }
        if report.bye {
            self.bye.store(true, Ordering::Relaxed);
        }
        if report.key_frame_requests == 0 {
            return false;
        }
        stats.keyframe_requests.add(report.key_frame_requests.into());
        let last = Timestamp::from_nanos(self.key_frame.load(Ordering::Relaxed));
        let due = last.as_nanos() == 0 || now.since(last) >= KEY_FRAME_EVERY;
        if due {
            self.key_frame.store(now.as_nanos(), Ordering::Relaxed);
        }
        due
    }

    fn at(&self) -> Option<Timestamp> {
        let nanoseconds = self.at.load(Ordering::Relaxed);
        (nanoseconds > 0).then(|| Timestamp::from_nanos(nanoseconds))
    }
}

/// What a session is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Go on as before.
    Wait,
    /// Subscribe, and send frames from now on; said once.
    Feed,
    /// End.
    End(End),
}

/// One session's state.
#[derive(Debug)]
pub struct Course {
    liveness: Liveness,
    heard: Arc<Heard>,
    fed: bool,
}

impl Course {
    /// A session whose offer came at `started`.
    pub fn new(started: Timestamp, config: &config::Webrtc, heard: Arc<Heard>) -> Self {
        let negotiation_timeout = Duration::from_millis(config.negotiation_timeout_ms);
        let silence_timeout = Duration::from_millis(config.silence_timeout_ms);
        let liveness = Liveness::new(started, negotiation_timeout, silence_timeout);
        Self { liveness, heard, fed: false }
    }

    /// The connection has come to this state. Frames are asked for only once it stands, so that
    /// the first is an IDR that gets through.
    pub fn connection(&mut self, connection: Connection, now: Timestamp) -> Step {
        self.liveness.connection(connection, now);
        if connection == Connection::Connected && !self.fed {
            self.fed = true;
            return Step::Feed;
        }
        self.look(now)
    }

    /// Looks whether the viewer is still there; every [`LOOK_EVERY`].
    pub fn look(&self, now: Timestamp) -> Step {
        if self.heard.bye.load(Ordering::Relaxed) {
            return Step::End(End::Left);
        }
        match self.liveness.check(now, self.heard.at()) {
            None => Step::Wait,
            Some(Gone::NotConnected) => Step::End(End::NegotiationTimeout),
            Some(Gone::Vanished) => Step::End(End::Vanished),
            Some(Gone::Left) => Step::End(End::Left),
        }
    }
}

/// Why a session ends whose feed has; `asked` is the reason given to it, if one was.
pub fn feed_end(asked: Option<End>, end: FeedEnd) -> End {
    match end {
        FeedEnd::Asked => asked.unwrap_or(End::Failed),
        FeedEnd::Finished => End::Shutdown,
        FeedEnd::Stalled => End::Backlog,
        FeedEnd::Refused(_) => End::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_nanos(1_000_000_000 + ms * 1_000_000)
    }

    #[test]
    fn of_a_flood_of_requests_for_key_frames_two_a_second_are_passed_on() {
        let (heard, stats) = (Heard::default(), Stats::default());
        let wish = rtcp::Report { key_frame_requests: 1, ..Default::default() };
        let passed: Vec<_> =
            (0..1_001).step_by(10).filter(|ms| heard.hear(&stats, wish, at(*ms))).collect();
        assert_eq!(passed, [0, 500, 1_000]);
        assert_eq!(stats.keyframe_requests.get(), 101);
        assert!(!heard.hear(&stats, rtcp::Report::default(), at(5_000)));
    }

    #[test]
    fn frames_are_asked_for_once_and_a_goodbye_ends_the_session() {
        let (heard, stats) = (Arc::new(Heard::default()), Stats::default());
        let mut course = Course::new(at(0), &config::Webrtc::default(), Arc::clone(&heard));
        assert_eq!(course.connection(Connection::Connecting, at(1)), Step::Wait);
        assert_eq!(course.connection(Connection::Connected, at(2)), Step::Feed);
        assert_eq!(course.connection(Connection::Disconnected, at(3)), Step::Wait);
        assert_eq!(course.connection(Connection::Connected, at(4)), Step::Wait);
        heard.hear(&stats, rtcp::Report { bye: true, ..Default::default() }, at(5));
        assert_eq!(course.look(at(5)), Step::End(End::Left));
    }
}
