//! The plan's links, and packets on their way over them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::agenda::{Agenda, Event, Who};
use crate::link::{Counts, Link, Shape};
use crate::plan::Pair;
use crate::record::LinkRow;

/// A packet of pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Media {
    /// Its number in the session, from 0.
    pub number: u64,
    /// The picture's number in the session, from 0.
    pub ordinal: u64,
    /// The picture's number at the camera.
    pub seq: u64,
    /// Whether it is a key frame.
    pub key: bool,
    /// Which of the picture's packets it is, from 0, and of how many.
    pub index: u16,
    pub of: u16,
    /// The picture's bytes.
    pub picture_bytes: u32,
    /// When the picture was taken.
    pub captured: Duration,
}

/// What the streamer answers to a step of a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Go,
    /// Come back after so many seconds.
    Refused(u8),
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// To the streamer: a step of joining.
    Join(u8),
    /// Its answer.
    Joined(u8, Answer),
    /// RTP.
    Media(Media),
    /// To the streamer: packets from the first to the last number did not come.
    Nack(u64, u64),
    /// To the streamer: the decoder needs a key frame.
    Pli,
    /// To the streamer: packets lost so far.
    Report(u32),
    /// Either way: it is over.
    Bye,
    /// TCP: a segment.
    Segment(u64, Media),
    /// TCP: the next that is wanted, and how many more would be taken.
    Ack(u64, u64),
    /// Traffic that is nobody's.
    Noise,
}

/// To whom a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// The viewer, at the address of that number.
    Viewer(Who, u32),
    /// The streamer, about a session, from the viewer's address of that number.
    Streamer(Who, u32),
    /// One end of other traffic.
    Traffic(usize),
}

/// A packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    pub to: To,
    /// The number of its route, whether it goes up, and how many links are behind it.
    pub route: usize,
    pub up: bool,
    pub hop: usize,
    pub bytes: usize,
    pub body: Body,
}

/// A direction of a link.
struct Way {
    link: Link<Packet>,
    /// As the plan has it now, blackouts (faults) aside.
    shape: Shape,
    blackouts: u32,
    /// When it is looked at next.
    armed: Option<Duration>,
    counted: Counts,
}

/// All links.
pub struct Net {
    names: Vec<String>,
    /// Down and up of each link.
    ways: Vec<Way>,
    routes: Vec<Vec<usize>>,
    /// What has come to the end of its route.
    pub arrived: VecDeque<Packet>,
}

impl Net {
    pub fn new(links: &BTreeMap<String, Pair>, random: &impl Fn(&str) -> u64) -> Self {
        let way = |shape: &Shape, name: String| Way {
            link: Link::new(shape.clone(), random(&name)),
            shape: shape.clone(),
            blackouts: 0,
            armed: None,
            counted: Counts::default(),
        };
        let ways = links.iter().flat_map(|(name, pair)| {
            [way(&pair.down, format!("{name} down")), way(&pair.up, format!("{name} up"))]
        });
        Self {
            ways: ways.collect(),
            names: links.keys().cloned().collect(),
            routes: Vec::new(),
            arrived: VecDeque::new(),
        }
    }

    /// The number of the link of this name.
    pub fn link(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }

    /// A route over these links, from the streamer's side; its number.
    pub fn route<'a>(&mut self, via: impl Iterator<Item = &'a String>) -> usize {
        let route = via.filter_map(|name| self.link(name)).collect();
        self.routes.push(route);
        self.routes.len() - 1
    }

    /// A packet sets out.
    pub fn send(&mut self, now: Duration, packet: Packet, agenda: &mut Agenda) {
        let route = &self.routes[packet.route];
        let Some(place) = route.len().checked_sub(packet.hop + 1) else {
            self.arrived.push_back(packet);
            return;
        };
        let way = if packet.up { route[place] * 2 + 1 } else { route[packet.hop] * 2 };
        self.ways[way].link.send(now, packet, packet.bytes);
        self.arm(way, agenda);
    }

    /// Looks at a direction of a link.
    pub fn look(&mut self, now: Duration, way: usize, agenda: &mut Agenda) {
        if self.ways[way].armed != Some(now) {
            return;
        }
        self.ways[way].armed = None;
        while let Some(arrival) = self.ways[way].link.receive(now) {
            // A spoilt packet fails its checksum or its authentication.
            if !arrival.corrupt {
                let packet = arrival.packet;
                self.send(now, Packet { hop: packet.hop + 1, ..packet }, agenda);
            }
        }
        self.arm(way, agenda);
    }

    fn arm(&mut self, way: usize, agenda: &mut Agenda) {
        let way_now = &mut self.ways[way];
        if let Some(due) = way_now.link.due()
            && way_now.armed.is_none_or(|armed| due < armed)
        {
            way_now.armed = Some(due);
            agenda.put(due, Event::Way(way));
        }
    }

    /// Changes both directions of a link.
    pub fn change(
        &mut self,
        now: Duration,
        link: usize,
        change: impl Fn(usize, &Shape) -> Shape,
        agenda: &mut Agenda,
    ) {
        for direction in 0..2 {
            let way = &mut self.ways[link * 2 + direction];
            way.shape = change(direction, &way.shape);
            self.reshape(now, link * 2 + direction, agenda);
        }
    }

    /// A blackout of a link begins or ends.
    pub fn blackout(&mut self, now: Duration, link: usize, begins: bool, agenda: &mut Agenda) {
        for way in [link * 2, link * 2 + 1] {
            let blackouts = &mut self.ways[way].blackouts;
            *blackouts = if begins { *blackouts + 1 } else { blackouts.saturating_sub(1) };
            self.reshape(now, way, agenda);
        }
    }

    fn reshape(&mut self, now: Duration, index: usize, agenda: &mut Agenda) {
        let way = &mut self.ways[index];
        let blackout = way.shape.blackout || way.blackouts > 0;
        way.link.reshape(now, Shape { blackout, ..way.shape.clone() });
        // It may be due later or earlier than it was.
        way.armed = None;
        self.arm(index, agenda);
    }

    /// The last second of each link.
    pub fn rows(&mut self, now: Duration, seconds: f64) -> BTreeMap<String, LinkRow> {
        let names = self.names.iter().flat_map(|name| [name.clone(), format!("{name} up")]);
        let row = |(name, way): (String, &mut Way)| {
            let (counts, before) = (way.link.counts(), way.counted);
            way.counted = counts;
            let kbps = |now: u64, before: u64| (now - before) as f64 / 125.0 / seconds;
            let row = LinkRow {
                capacity_kbps: way.shape.rate_kbps.unwrap_or(0.0),
                offered_kbps: kbps(counts.offered_bytes, before.offered_bytes),
                delivered_kbps: kbps(counts.delivered_bytes, before.delivered_bytes),
                queue_ms: way.link.queue_delay(now).as_secs_f64() * 1e3,
                lost: counts.lost - before.lost,
                dropped: counts.dropped - before.dropped,
            };
            (name, row)
        };
        names.zip(&mut self.ways).map(row).collect()
    }
}
