//! File descriptors: how many the process may have, and whether there is room for one more guest.
//!
//! GLib ends a process that gets no descriptor where it needs one for itself (`g_wakeup_new`), so
//! newcomers are turned away while some are left. What there is is the process's, so this is too.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Where Linux shows the descriptors of this process.
const OPEN: &str = "/proc/self/fd";

/// How long a count holds; what was promised since is added to it.
const COUNT_HOLDS: Duration = Duration::from_millis(20);

/// What is kept back, until [`keep`] says otherwise.
const RESERVE: u64 = 64;

/// What a guest opens in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guest {
    /// An HTTP connection.
    Http,
    /// A WebRTC session on str0m: its sockets are shared.
    Str0m,
    /// A WebRTC session on webrtcbin.
    Webrtcbin,
    /// An RTSP connection, and the session on it.
    Rtsp,
}

impl Guest {
    /// How many descriptors it opens at most, as counted in `/proc`: an RTSP viewer 5.5 over TCP and
    /// 17.5 over UDP; one on webrtcbin 16 while it connects and 8 then, on a machine with few
    /// addresses, each of which costs it a socket.
    pub const fn needs(self) -> u64 {
        match self {
            Self::Http => 1,
            Self::Str0m => 1,
            Self::Webrtcbin => 24,
            Self::Rtsp => 20,
        }
    }

    /// What is left to others when it comes in, of `reserve`. An HTTP connection may use up half of
    /// it: an operator must be able to look at what is going on when sessions have no more room.
    const fn leaves(self, reserve: u64) -> u64 {
        match self {
            Self::Http => reserve / 2,
            Self::Str0m | Self::Webrtcbin | Self::Rtsp => reserve,
        }
    }

    /// How long it may take until they are open and in the next count.
    const fn opens_within(self) -> Duration {
        match self {
            // Who is asked about has its socket already.
            Self::Http => COUNT_HOLDS,
            Self::Str0m | Self::Webrtcbin | Self::Rtsp => Duration::from_secs(1),
        }
    }
}

static KEPT: AtomicU64 = AtomicU64::new(RESERVE);
static RECKONING: Mutex<Reckoning> = Mutex::new(Reckoning { counted: None, promised: Vec::new() });

/// Keeps `reserve` descriptors back from newcomers.
pub fn keep(reserve: u64) {
    KEPT.store(reserve, Ordering::Relaxed);
}

/// Raises the soft limit to the hard one, which is what an administrator allows; the limit before
/// and after.
///
/// # Errors
/// Where the system refuses.
pub fn raise_limit() -> rustix::io::Result<(u64, u64)> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok((current.unwrap_or(u64::MAX), limit()))
}

/// How many descriptors the process may have at a time, now.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Whether there is room for one more guest, who is then counted as coming.
pub fn admits(guest: Guest) -> bool {
    let mut reckoning = RECKONING.lock().unwrap_or_else(PoisonError::into_inner);
    let open = || std::fs::read_dir(OPEN).map(|all| all.count() as u64).ok();
    reckoning.admits(guest, KEPT.load(Ordering::Relaxed), limit(), open, Instant::now())
}

/// Descriptors that are open, and those of guests who were let in and may not have opened theirs.
#[derive(Debug)]
struct Reckoning {
    /// Until when the count holds, and the count.
    counted: Option<(Instant, u64)>,
    /// Until when each guest is counted as coming, and with how many.
    promised: Vec<(Instant, u64)>,
}

impl Reckoning {
    fn admits(
        &mut self,
        guest: Guest,
        reserve: u64,
        limit: u64,
        open: impl FnOnce() -> Option<u64>,
        now: Instant,
    ) -> bool {
        self.promised.retain(|(until, _)| *until > now);
        self.counted = self.counted.filter(|(until, _)| *until > now);
        // Where they cannot even be counted, because none is left to list them with, all are taken.
        let count = || (now + COUNT_HOLDS, open().unwrap_or(limit));
        let (_, count) = *self.counted.get_or_insert_with(count);
        let promised: u64 = self.promised.iter().map(|(_, needs)| needs).sum();
        let fits = count + promised + guest.needs() + guest.leaves(reserve) <= limit;
        if fits {
            self.promised.push((now + guest.opens_within(), guest.needs()));
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_come_in_until_the_reserve_is_reached_and_not_one_more() {
        let mut reckoning = Reckoning { counted: None, promised: Vec::new() };
        let start = Instant::now();
        let mut ask = |ms, open| {
            let now = start + Duration::from_millis(ms);
            reckoning.admits(Guest::Rtsp, 60, 60 + 20 + 2 * 20, || open, now)
        };
        assert!(ask(0, Some(20)), "20 open, 20 for it, 60 in reserve");
        assert!(ask(1, None), "as many as there are; the count still holds");
        assert!(!ask(2, None), "one past it");
        assert!(!ask(30, Some(20)), "who was let in may not have opened theirs yet");
        assert!(!ask(1_100, Some(60)), "they have now");
        assert!(ask(1_200, Some(40)), "some are closed again");
        assert!(!ask(2_300, None), "none is left to count with");
    }

    #[test]
    fn sessions_leave_room_for_who_wants_to_know_why_there_is_none() {
        let mut reckoning = Reckoning { counted: None, promised: Vec::new() };
        let now = Instant::now();
        let mut ask = |guest| reckoning.admits(guest, 64, 200, || Some(130), now);
        assert!(!ask(Guest::Rtsp) && !ask(Guest::Webrtcbin));
        assert_eq!((0..100).filter(|_| ask(Guest::Http)).count(), 70 - 32);
    }

    #[test]
    fn there_is_room_in_this_process_and_its_limit_is_known() {
        assert!(limit() > RESERVE);
        assert!(admits(Guest::Http));
    }
}
