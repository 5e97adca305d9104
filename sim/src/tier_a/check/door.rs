//! Who is inside, since when, and whether it should be.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use lensline::admission::{Kind, Limits, Refusal};
use lensline::egress::session::End;

use super::{Checker, Rule};
use crate::tier_a::agenda::Who;

/// Who is looked at every so often is noticed so much later at most.
const LOOK: Duration = Duration::from_millis(500);

/// How long a session may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// From its opening to its frames.
    pub connect: Duration,
    /// Without a word, at most.
    pub silence: Duration,
    /// Without a word, before it counts as vanished.
    pub vanish: Duration,
}

struct Inside {
    kind: Kind,
    address: IpAddr,
    patience: Patience,
    opened: Duration,
    fed: bool,
    /// The last word of it.
    heard: Duration,
}

/// Who is inside.
pub struct Door {
    limits: Limits,
    inside: BTreeMap<Who, Inside>,
    joins: VecDeque<Duration>,
    /// When the streamer last went on after it had stood still.
    resumed: Duration,
}

impl Door {
    pub fn new(limits: Limits) -> Self {
        Self { limits, inside: BTreeMap::new(), joins: VecDeque::new(), resumed: Duration::ZERO }
    }

    pub fn clear(&mut self) {
        self.inside.clear();
        self.joins.clear();
    }

    fn of_kind(&self, kind: Kind) -> usize {
        self.inside.values().filter(|inside| inside.kind == kind).count()
    }

    fn at(&self, address: IpAddr) -> usize {
        self.inside.values().filter(|inside| inside.address == address).count()
    }

    fn max(&self, kind: Kind) -> usize {
        match kind {
            Kind::Webrtc => self.limits.webrtc_sessions_max,
            Kind::Rtsp => self.limits.rtsp_sessions_max,
        }
    }
}

impl Checker {
    /// Somebody was let in.
    pub fn admitted(&mut self, who: Who, kind: Kind, address: IpAddr, patience: Patience) {
        let name = self.name(who);
        let now = self.now;
        let inside = Inside { kind, address, patience, opened: now, fed: false, heard: now };
        self.door.inside.insert(who, inside);
        self.door.joins.push_back(now);
        while self.door.joins.front().is_some_and(|at| now - *at > Duration::from_secs(1)) {
            self.door.joins.pop_front();
        }
        let (count, max) = (self.door.of_kind(kind), self.door.max(kind));
        self.hold(count <= max, Rule::Admission, || {
            format!("{} is let in: {count} {} sessions, {max} may be", name, kind.as_str())
        });
        let (count, max) = (self.door.at(address), self.door.limits.sessions_per_address_max);
        self.hold(count <= max, Rule::Admission, || {
            format!("{} is let in: {count} sessions from {address}, {max} may be", name)
        });
        // A second's joins after a quiet one, and those of the second itself.
        let (count, max) = (self.door.joins.len(), self.door.limits.joins_per_second_max as usize);
        self.hold(count <= 2 * max, Rule::Admission, || {
            format!("{count} joins within a second; {max} a second may be")
        });
    }

    /// Somebody was refused.
    pub fn refused(&mut self, who: Who, refusal: Refusal, address: IpAddr) {
        let name = self.name(who);
        let just = match refusal {
            Refusal::Sessions { kind, max } => self.door.of_kind(kind) >= max,
            Refusal::Address { max } => self.door.at(address) >= max,
            // Nobody has a name here.
            Refusal::User { .. } => false,
            Refusal::Rate { max } => {
                let now = self.now;
                let recent = |at: &&Duration| now - **at <= Duration::from_secs(1);
                self.door.joins.iter().filter(recent).count() >= max as usize
            }
            // This world has no descriptors to run out of.
            Refusal::Descriptors => false,
        };
        self.hold(just, Rule::Admission, || format!("{} is refused: {refusal}", name));
    }

    /// A session's frames begin.
    pub fn fed(&mut self, who: Who) {
        let now = self.now;
        if let Some(inside) = self.door.inside.get_mut(&who) {
            inside.fed = true;
            inside.heard = now;
        }
    }

    /// A session's viewer was heard.
    pub fn heard(&mut self, who: Who) {
        let now = self.now;
        if let Some(inside) = self.door.inside.get_mut(&who) {
            inside.heard = now;
        }
    }

    /// The streamer stood still, and goes on.
    pub fn resumed(&mut self) {
        let now = self.now;
        self.door.resumed = now;
        for sub in self.subs.values_mut() {
            sub.hungry = sub.hungry.map(|_| now);
        }
    }

    /// A session is over, and what it held is given back.
    pub fn ended(&mut self, who: Who, end: End) {
        let name = self.name(who);
        self.subs.remove(&who);
        self.passed_on.remove(&who);
        let Some(inside) = self.door.inside.remove(&who) else {
            self.hold(false, Rule::Left, || format!("{} ends, and was not inside", name));
            return;
        };
        let early = match end {
            End::Vanished => self.now - inside.heard <= inside.patience.vanish,
            End::NegotiationTimeout => self.now - inside.opened <= inside.patience.connect,
            _ => false,
        };
        self.hold(!early, Rule::EndedEarly, || {
            format!("{} ends as {}, before its time", name, end.as_str())
        });
    }

    /// Looks whether somebody stays who should not; while the streamer runs.
    pub fn overdue(&mut self) {
        let since = |then: Duration| self.now - then.max(self.door.resumed);
        let late = self.door.inside.iter().find(|(_, inside)| match inside.fed {
            false => since(inside.opened) > inside.patience.connect + LOOK,
            true => since(inside.heard) > inside.patience.silence + LOOK,
        });
        if let Some((who, fed)) = late.map(|(who, inside)| (*who, inside.fed)) {
            let what = if fed { "fell silent long ago" } else { "never got connected" };
            let name = self.name(who);
            self.hold(false, Rule::Overdue, || format!("{} {what}, and is still here", name));
        }
    }

    /// Compares what the product says is inside with these books.
    pub fn inside(&mut self, webrtc: usize, rtsp: usize, subscribers: usize) {
        let own = (self.door.of_kind(Kind::Webrtc), self.door.of_kind(Kind::Rtsp));
        self.hold((webrtc, rtsp) == own, Rule::Left, || {
            format!("{webrtc} WebRTC and {rtsp} RTSP permits are out; inside are {own:?}")
        });
        let own = self.subscribers();
        self.hold(subscribers == own, Rule::Left, || {
            format!("{subscribers} seats are taken; {own} should be")
        });
    }
}
