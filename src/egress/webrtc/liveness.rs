//! When a viewer counts as gone. Sans-IO: the time is an argument.
//!
//! ICE notices a browser that was killed after 15-25 s, and libnice 0.1.21 does no consent checks
//! (RFC 7675). What a live receiver does every second is report over RTCP: silence there is the
//! surest sign.

use std::time::Duration;

use crate::clock::Timestamp;

/// A path that ICE calls disconnected may come back for so long.
const DISCONNECTED_TIMEOUT: Duration = Duration::from_secs(5);

/// How the peers stand to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Connection {
    /// Not connected yet.
    #[default]
    Connecting,
    /// ICE has a path and DTLS its keys.
    Connected,
    /// The path does not answer just now.
    Disconnected,
    /// There is no path.
    Failed,
    /// The peer closed the connection.
    Closed,
}

/// Why a viewer counts as gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It did not get connected in time.
    NotConnected,
    /// Its path broke, or it fell silent.
    Vanished,
    /// It said goodbye.
    Left,
}

/// Watches one viewer.
#[derive(Clone, Debug)]
pub struct Liveness {
    negotiation_deadline: Timestamp,
    silence_timeout: Duration,
    connection: Connection,
    since: Timestamp,
    connected: Option<Timestamp>,
}

impl Liveness {
    /// Watches a viewer whose offer came at `now`.
    pub fn new(now: Timestamp, negotiation_timeout: Duration, silence_timeout: Duration) -> Self {
        let negotiation_deadline = now.plus(negotiation_timeout);
        let connection = Connection::Connecting;
        Self { negotiation_deadline, silence_timeout, connection, since: now, connected: None }
    }

    /// Notes the state of the connection.
    pub fn connection(&mut self, connection: Connection, now: Timestamp) {
        if connection != self.connection {
            self.connection = connection;
            self.since = now;
        }
        if connection == Connection::Connected && self.connected.is_none() {
            self.connected = Some(now);
        }
    }

    /// Whether the viewer is gone, if the last RTCP packet of its came at `heard`.
    pub fn check(&self, now: Timestamp, heard: Option<Timestamp>) -> Option<Gone> {
        match self.connection {
            Connection::Closed => return Some(Gone::Left),
            Connection::Failed => return Some(Gone::Vanished),
            Connection::Disconnected if now.since(self.since) > DISCONNECTED_TIMEOUT => {
                return Some(Gone::Vanished);
            }
            _ => {}
        }
        let Some(connected) = self.connected else {
            return (now > self.negotiation_deadline).then_some(Gone::NotConnected);
        };
        let quiet_since = heard.map_or(connected, |heard| heard.max(connected));
        (now.since(quiet_since) > self.silence_timeout).then_some(Gone::Vanished)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    fn viewer() -> Liveness {
        Liveness::new(at(0), Duration::from_secs(10), Duration::from_secs(8))
    }

    #[test]
    fn who_does_not_connect_in_time_is_gone_just_after_the_deadline() {
        let viewer = viewer();
        assert_eq!(viewer.check(at(10_000), None), None);
        assert_eq!(viewer.check(at(10_001), None), Some(Gone::NotConnected));
    }

    #[test]
    fn silence_counts_from_the_last_report_or_from_the_connection() {
        let mut viewer = viewer();
        viewer.connection(Connection::Connected, at(1_000));
        assert_eq!(viewer.check(at(9_000), None), None);
        assert_eq!(viewer.check(at(9_001), None), Some(Gone::Vanished));
        assert_eq!(viewer.check(at(12_000), Some(at(4_000))), None);
        assert_eq!(viewer.check(at(12_001), Some(at(4_000))), Some(Gone::Vanished));
    }

    #[test]
    fn a_path_may_be_away_for_five_seconds_and_come_back() {
        let mut viewer = viewer();
        viewer.connection(Connection::Connected, at(1_000));
        viewer.connection(Connection::Disconnected, at(2_000));
        viewer.connection(Connection::Disconnected, at(6_000));
        assert_eq!(viewer.check(at(7_000), Some(at(6_900))), None);
        assert_eq!(viewer.check(at(7_001), Some(at(6_900))), Some(Gone::Vanished));
        viewer.connection(Connection::Connected, at(6_950));
        assert_eq!(viewer.check(at(9_000), Some(at(8_000))), None);
    }

    #[test]
    fn a_failed_path_and_a_goodbye_count_at_once() {
        let mut viewer = viewer();
        viewer.connection(Connection::Failed, at(1));
        assert_eq!(viewer.check(at(1), None), Some(Gone::Vanished));
        viewer.connection(Connection::Closed, at(2));
        assert_eq!(viewer.check(at(2), None), Some(Gone::Left));
    }
}
