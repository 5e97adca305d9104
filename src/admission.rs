//! How many may come in: session limits per kind, address and user, and how fast they may join.
//!
//! Sans-IO: the time is an argument, so that the simulator runs the same code in virtual time.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::rate::Rate;

/// Whom an address stands for: whoever has an IPv6 address has all of its /64.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
        v4 => v4,
    }
}

/// Which limit a session counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A browser or another WebRTC peer.
    Webrtc,
    /// A recorder or player.
    Rtsp,
}

impl Kind {
    /// The name used in metrics and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Webrtc => "webrtc",
            Self::Rtsp => "rtsp",
        }
    }
}

/// The limits in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// WebRTC sessions at a time.
    pub webrtc_sessions_max: usize,
    /// RTSP sessions at a time.
    pub rtsp_sessions_max: usize,
    /// Sessions of both kinds at a time from one address.
    pub sessions_per_address_max: usize,
    /// Sessions of both kinds at a time of one user.
    pub sessions_per_user_max: usize,
    /// Joins in any one second; as many may come at once after a quiet second.
    pub joins_per_second_max: u32,
}

/// How much of each limit is used: that, and the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// WebRTC sessions now.
    pub webrtc_sessions: (usize, usize),
    /// RTSP sessions now.
    pub rtsp_sessions: (usize, usize),
    /// Sessions now of the address that has most.
    pub sessions_of_one_address: (usize, usize),
    /// Joins that the last second is charged with.
    pub joins_in_a_second: (usize, usize),
}

/// What one session may ask for while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// ICE candidates of the viewer in all, those of its offer counted.
    pub candidates_max: usize,
    /// Messages of its signalling in any one second: `PATCH` over WHEP, or those of a WebSocket.
    pub messages_per_second_max: u32,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { candidates_max: 64, messages_per_second_max: 50 }
    }
}

/// Why a join was refused. Every refusal passes: see [`Refusal::retry_after`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// All sessions of this kind are taken.
    #[error("all {max} {} sessions are taken", kind.as_str())]
    Sessions {
        /// Which kind.
        kind: Kind,
        /// The limit.
        max: usize,
    },
    /// This address has as many sessions as one may have.
    #[error("this address has all the {max} sessions that one may have")]
    Address {
        /// The limit.
        max: usize,
    },
    /// This user has as many sessions as one may have.
    #[error("this user has all the {max} sessions that one may have")]
    User {
        /// The limit.
        max: usize,
    },
    /// Too many joins in too short a time.
    #[error("more than {max} joins a second")]
    Rate {
        /// The limit.
        max: u32,
    },
    /// The process is about to run out of file descriptors.
    #[error("the server is short of file descriptors")]
    Descriptors,
}

impl Refusal {
    /// The names of all of them, as metrics have them.
    pub const NAMES: [&str; 5] = [
        "sessions_max",
        "sessions_per_address_max",
        "sessions_per_user_max",
        "joins_per_second_max",
        "descriptors_reserve",
    ];

    /// The name used in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sessions { .. } => "sessions_max",
            Self::Address { .. } => "sessions_per_address_max",
            Self::User { .. } => "sessions_per_user_max",
            Self::Rate { .. } => "joins_per_second_max",
            Self::Descriptors => "descriptors_reserve",
        }
    }

    /// When it is worth another try.
    pub const fn retry_after(self) -> Duration {
        match self {
            Self::Sessions { .. }
            | Self::Address { .. }
            | Self::User { .. }
            | Self::Descriptors => Duration::from_secs(5),
            Self::Rate { .. } => Duration::from_secs(1),
        }
    }
}

/// The door-keeper. Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub struct Admission {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    limits: Limits,
    session_limits: SessionLimits,
    webrtc_sessions: usize,
    rtsp_sessions: usize,
    per_address: HashMap<IpAddr, usize>,
    per_user: HashMap<Arc<str>, usize>,
    joins: Rate,
}

/// The right to one session; dropping it makes room for the next.
#[derive(Debug)]
#[must_use = "a permit that is dropped makes room at once"]
pub struct Permit {
    admission: Admission,
    kind: Kind,
    address: IpAddr,
    user: OnceLock<Arc<str>>,
}

impl Admission {
    /// A door with these limits and nobody inside.
    pub fn new(limits: Limits) -> Self {
        let state = State {
            limits,
            session_limits: SessionLimits::default(),
            webrtc_sessions: 0,
            rtsp_sessions: 0,
            per_address: HashMap::new(),
            per_user: HashMap::new(),
            joins: Rate::new(limits.joins_per_second_max),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Puts other limits in force. Who is inside stays, also above a new limit.
    pub fn set_limits(&self, limits: Limits) {
        self.with(|state| {
            state.limits = limits;
            state.joins.set(limits.joins_per_second_max);
        });
    }

    /// Puts other limits in force for the sessions that begin from now on.
    pub fn set_session_limits(&self, limits: SessionLimits) {
        self.with(|state| state.session_limits = limits);
    }

    /// What a session that begins now may ask for.
    pub fn session_limits(&self) -> SessionLimits {
        self.with(|state| state.session_limits)
    }

    /// Lets one more session in, or says why not. `now` is any clock that never goes back.
    ///
    /// # Errors
    /// The limit that was reached.
    pub fn admit(&self, kind: Kind, address: IpAddr, now: Duration) -> Result<Permit, Refusal> {
        let address = network(address);
        self.with(|state| state.admit(kind, address, now))?;
        Ok(Permit { admission: self.clone(), kind, address, user: OnceLock::new() })
    }

    /// Sessions of this kind that are inside.
    pub fn sessions(&self, kind: Kind) -> usize {
        self.with(|state| *state.sessions(kind))
    }

    /// How much of each limit is used. `now` is the clock of [`Admission::admit`].
    pub fn taken(&self, now: Duration) -> Taken {
        self.with(|state| Taken {
            webrtc_sessions: (state.webrtc_sessions, state.limits.webrtc_sessions_max),
            rtsp_sessions: (state.rtsp_sessions, state.limits.rtsp_sessions_max),
            sessions_of_one_address: (
                state.per_address.values().copied().max().unwrap_or(0),
                state.limits.sessions_per_address_max,
            ),
            joins_in_a_second: state.joins.used(now),
        })
    }

    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn sessions(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Webrtc => &mut self.webrtc_sessions,
            Kind::Rtsp => &mut self.rtsp_sessions,
        }
    }

    fn admit(&mut self, kind: Kind, address: IpAddr, now: Duration) -> Result<(), Refusal> {
        let max = match kind {
            Kind::Webrtc => self.limits.webrtc_sessions_max,
            Kind::Rtsp => self.limits.rtsp_sessions_max,
        };
        if *self.sessions(kind) >= max {
            return Err(Refusal::Sessions { kind, max });
        }
        let here = self.per_address.get(&address).copied().unwrap_or(0);
        let max = self.limits.sessions_per_address_max;
        if here >= max {
            return Err(Refusal::Address { max });
        }
        if !self.joins.take(now) {
            return Err(Refusal::Rate { max: self.joins.per_second_max() });
        }
        *self.sessions(kind) += 1;
        *self.per_address.entry(address).or_insert(0) += 1;
        Ok(())
    }

    fn release(&mut self, kind: Kind, address: IpAddr, user: Option<&Arc<str>>) {
        *self.sessions(kind) -= 1;
        give_back(&mut self.per_address, &address);
        if let Some(user) = user {
            give_back(&mut self.per_user, user);
        }
    }
}

fn give_back<K: std::hash::Hash + Eq>(taken: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = taken.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            taken.remove(key);
        }
    }
}

impl Permit {
    /// Counts the session as one of `user`'s, once it is known whose it is. The first name stays.
    ///
    /// # Errors
    /// Where the user has as many as one may have.
    pub fn count_for(&self, user: &Arc<str>) -> Result<(), Refusal> {
        self.admission.with(|state| {
            if self.user.get().is_some() {
                return Ok(());
            }
            let max = state.limits.sessions_per_user_max;
            if state.per_user.get(user).is_some_and(|count| *count >= max) {
                return Err(Refusal::User { max });
            }
            *state.per_user.entry(Arc::clone(user)).or_insert(0) += 1;
            // Under the lock, and empty a moment ago.
            let _ = self.user.set(Arc::clone(user));
            Ok(())
        })
    }

    /// Whose session it is, where that is known.
    pub fn user(&self) -> Option<&Arc<str>> {
        self.user.get()
    }

    /// What the session may ask for.
    pub fn session_limits(&self) -> SessionLimits {
        self.admission.session_limits()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let user = self.user.get();
        self.admission.with(|state| state.release(self.kind, self.address, user));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits {
        webrtc_sessions_max: 3,
        rtsp_sessions_max: 2,
        sessions_per_address_max: 2,
        sessions_per_user_max: 1,
        joins_per_second_max: 4,
    };

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn each_kind_is_let_in_up_to_its_limit_and_again_when_one_leaves() {
        let door = Admission::new(LIMITS);
        let second = Duration::from_secs;
        let first = door.admit(Kind::Rtsp, address(1), second(0)).unwrap();
        let _second = door.admit(Kind::Rtsp, address(2), second(0)).unwrap();
        let refusal = door.admit(Kind::Rtsp, address(3), second(0)).unwrap_err();
        assert_eq!(refusal, Refusal::Sessions { kind: Kind::Rtsp, max: 2 });
        let _webrtc = door.admit(Kind::Webrtc, address(3), second(0)).unwrap();
        drop(first);
        let _third = door.admit(Kind::Rtsp, address(3), second(0)).unwrap();
    }

    #[test]
    fn the_list_of_names_has_every_refusal() {
        let kind = Kind::Webrtc;
        for refusal in [
            Refusal::Sessions { kind, max: 1 },
            Refusal::Address { max: 1 },
            Refusal::Rate { max: 1 },
        ] {
            assert!(Refusal::NAMES.contains(&refusal.as_str()), "{refusal}");
        }
    }

    #[test]
    fn one_address_cannot_take_every_seat() {
        let door = Admission::new(LIMITS);
        let _kept = [Kind::Webrtc, Kind::Rtsp]
            .map(|kind| door.admit(kind, address(1), Duration::ZERO).unwrap());
        let refusal = door.admit(Kind::Webrtc, address(1), Duration::ZERO).unwrap_err();
        assert_eq!(refusal, Refusal::Address { max: 2 });
        let _other = door.admit(Kind::Webrtc, address(2), Duration::ZERO).unwrap();
    }

    #[test]
    fn one_user_has_so_many_sessions_wherever_they_are() {
        let door = Admission::new(LIMITS);
        let admit = |last| door.admit(Kind::Webrtc, address(last), Duration::ZERO).unwrap();
        let (anna, otto): (Arc<str>, Arc<str>) = ("anna".into(), "otto".into());
        let first = admit(1);
        first.count_for(&anna).unwrap();
        first.count_for(&otto).unwrap();
        assert_eq!(first.user(), Some(&anna), "the first name stays");
        let second = admit(2);
        assert_eq!(second.count_for(&anna), Err(Refusal::User { max: 1 }));
        second.count_for(&otto).unwrap();
        drop(first);
        admit(1).count_for(&anna).unwrap();
    }

    #[test]
    fn joins_are_slowed_to_the_rate_and_a_refused_one_costs_nothing() {
        let door = Admission::new(LIMITS);
        let ms = Duration::from_millis;
        for _ in 0..4 {
            drop(door.admit(Kind::Webrtc, address(1), ms(0)).unwrap());
        }
        assert_eq!(
            door.admit(Kind::Webrtc, address(1), ms(249)).unwrap_err(),
            Refusal::Rate { max: 4 }
        );
        drop(door.admit(Kind::Webrtc, address(1), ms(250)).unwrap());
    }

    #[test]
    fn what_is_taken_is_told_with_its_limit_and_joins_are_earned_back() {
        let door = Admission::new(LIMITS);
        let ms = Duration::from_millis;
        let _kept = [(Kind::Webrtc, 1), (Kind::Rtsp, 1), (Kind::Webrtc, 2)]
            .map(|(kind, last)| door.admit(kind, address(last), ms(0)).unwrap());
        let taken = door.taken(ms(0));
        assert_eq!((taken.webrtc_sessions, taken.rtsp_sessions), ((2, 3), (1, 2)));
        assert_eq!(taken.sessions_of_one_address, (2, 2));
        assert_eq!(taken.joins_in_a_second, (3, 4));
        assert_eq!(door.taken(ms(250)).joins_in_a_second, (2, 4));
        assert_eq!(door.taken(ms(2000)).joins_in_a_second, (0, 4));
    }

    proptest! {
        #[test]
        fn no_order_of_joins_and_leaves_breaks_a_limit(
            moves in prop::collection::vec((any::<bool>(), any::<bool>(), 0u8..4, 0u64..400), 1..200)
        ) {
            let door = Admission::new(LIMITS);
            let mut inside = Vec::new();
            let mut now = Duration::ZERO;
            for (join, webrtc, from, wait_ms) in moves {
                now += Duration::from_millis(wait_ms);
                let kind = if webrtc { Kind::Webrtc } else { Kind::Rtsp };
                if join {
                    inside.extend(door.admit(kind, address(from), now));
                } else if !inside.is_empty() {
                    drop(inside.swap_remove(usize::from(from) % inside.len()));
                }
                prop_assert!(door.sessions(Kind::Webrtc) <= LIMITS.webrtc_sessions_max);
                prop_assert!(door.sessions(Kind::Rtsp) <= LIMITS.rtsp_sessions_max);
                let all = door.sessions(Kind::Webrtc) + door.sessions(Kind::Rtsp);
                prop_assert_eq!(all, inside.len());
            }
            inside.clear();
            prop_assert_eq!(door.sessions(Kind::Webrtc) + door.sessions(Kind::Rtsp), 0);
        }
    }
}
