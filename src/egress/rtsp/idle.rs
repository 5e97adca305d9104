//! Which connections have been idle for too long. Sans-IO: the time is an argument.

use std::time::Duration;

use crate::clock::Timestamp;

/// A connection that has never asked for anything is closed after this.
pub const NEVER_ASKED_MAX: Duration = Duration::from_secs(10);

/// A connection that does not play and has asked for nothing for this long is closed. The same
/// as the timeout of a session, so that a paused viewer is kept by the same keep-alives.
pub const SILENT_MAX: Duration = Duration::from_secs(super::SESSION_TIMEOUT_SECONDS as u64);

/// What is known of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Activity {
    /// When it was opened.
    pub opened: Timestamp,
    /// When it last asked for something, if ever.
    pub asked: Option<Timestamp>,
    /// Whether pictures go to it. Then the media's own timeouts hold.
    pub playing: bool,
}

impl Activity {
    /// Whether the connection is to be closed.
    pub fn is_idle(self, now: Timestamp) -> bool {
        match self.asked {
            _ if self.playing => false,
            None => now.since(self.opened) > NEVER_ASKED_MAX,
            Some(asked) => now.since(asked) > SILENT_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(1);

    #[test]
    fn a_connection_is_closed_when_its_time_is_over_and_not_before() {
        let opened = Timestamp::from_nanos(5_000_000_000);
        let mute = Activity { opened, asked: None, playing: false };
        assert!(!mute.is_idle(opened.plus(NEVER_ASKED_MAX)));
        assert!(mute.is_idle(opened.plus(NEVER_ASKED_MAX + TICK)));

        let asked = opened.plus(Duration::from_secs(3));
        let silent = Activity { asked: Some(asked), ..mute };
        assert!(!silent.is_idle(asked.plus(SILENT_MAX)));
        assert!(silent.is_idle(asked.plus(SILENT_MAX + TICK)));

        let playing = Activity { playing: true, ..silent };
        assert!(!playing.is_idle(asked.plus(SILENT_MAX * 100)));
    }
}
