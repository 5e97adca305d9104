//! How much a connection may send without asking for anything. Sans-IO: bytes and the time are
//! arguments.
//!
//! gst-rtsp-server 1.22 reads as many header lines as come, and keeps them all until the empty one.

use crate::clock::Timestamp;

/// The longest that a request may be, in bytes; honest ones stay below two thousand.
pub const REQUEST_BYTES_MAX: u64 = 64 << 10;

/// What a viewer may send beside requests while it plays: reports in the connection itself, which
/// are some hundred bytes every few seconds.
const REPORT_BYTES_PER_SECOND: u64 = 4 << 10;

/// What came since the last request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Intake {
    /// What the connection had received when it was last looked at, in all.
    received: u64,
    /// What of it is neither a request nor a report.
    unasked: u64,
    looked: Option<Timestamp>,
}

impl Intake {
    /// A whole request was read, when `received` bytes had come in all.
    pub(super) fn asked(&mut self, received: u64) {
        self.received = received;
        self.unasked = 0;
    }

    /// Whether too much has come.
    pub(super) fn is_too_much(&mut self, received: u64, now: Timestamp, playing: bool) -> bool {
        let elapsed = self.looked.replace(now).map_or(0, |looked| now.since(looked).as_millis());
        self.unasked += received.saturating_sub(self.received);
        self.received = self.received.max(received);
        if playing {
            let reports = u128::from(REPORT_BYTES_PER_SECOND) * elapsed / 1_000;
            self.unasked -= u64::try_from(reports).unwrap_or(u64::MAX).min(self.unasked);
        }
        self.unasked > REQUEST_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_nanos((1_000 + ms) * 1_000_000)
    }

    #[test]
    fn a_request_may_be_so_long_and_not_a_byte_longer() {
        let mut intake = Intake::default();
        assert!(!intake.is_too_much(REQUEST_BYTES_MAX, at(0), false));
        intake.asked(REQUEST_BYTES_MAX);
        assert!(!intake.is_too_much(2 * REQUEST_BYTES_MAX, at(1), false));
        assert!(intake.is_too_much(2 * REQUEST_BYTES_MAX + 1, at(2), false));
    }

    #[test]
    fn reports_in_the_connection_are_no_request_and_a_flood_of_them_is_too_much() {
        let mut intake = Intake::default();
        let (mut received, mut ms) = (0, 0);
        for _ in 0..36_000 {
            (received, ms) = (received + 400, ms + 100);
            assert!(!intake.is_too_much(received, at(ms), true), "for an hour");
        }
        let mut floods = 0;
        while !intake.is_too_much(received, at(ms), true) {
            (received, ms, floods) = (received + 4_000, ms + 100, floods + 1);
        }
        assert!((16..22).contains(&floods), "the hour before is no credit: {floods}");
    }

    #[test]
    fn who_does_not_play_has_nothing_to_report() {
        let mut intake = Intake::default();
        let mut received = 0;
        for look in 0..162 {
            received += 400;
            assert!(!intake.is_too_much(received, at(look * 10_000), false), "{received}");
        }
        assert!(intake.is_too_much(received + 800, at(9_000_000), false));
    }
}
