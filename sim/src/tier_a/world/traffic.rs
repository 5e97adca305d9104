//! Traffic that is not ours.

use std::time::Duration;

use super::{World, seconds, seed};
use crate::plan::{Plan, Traffic, TrafficKind};
use crate::tier_a::agenda::{Event, Flow};
use crate::tier_a::net::{Body, Media, Net, Packet, To};
use crate::tier_a::tcp;

/// Segments that a transfer without an end keeps ready.
const READY: u64 = 64;

/// A packet of UDP at a constant rate.
const UDP_BYTES: usize = 1200;

/// Mean of the pauses between short transfers (RFC 8868).
const PAUSE_S: f64 = 10.0;

/// Bytes of a short transfer.
const SHORT_BYTES: std::ops::RangeInclusive<usize> = 30_000..=50_000;

/// What a segment of nobody's carries.
const NOTHING: Media = Media {
    number: 0,
    ordinal: 0,
    seq: 0,
    key: false,
    index: 0,
    of: 1,
    picture_bytes: tcp::SEGMENT_BYTES as u32,
    captured: Duration::ZERO,
};

/// One source of it.
pub struct Noise {
    pub name: String,
    kind: TrafficKind,
    until: Option<Duration>,
    route: usize,
    every: Duration,
    random: fastrand::Rng,
    sender: tcp::Sender<Media>,
    receiver: tcp::Receiver<Media>,
    armed: Option<Duration>,
    /// Bytes that came in this second.
    pub bytes: u64,
}

/// The number of the first source of `traffic[index]`.
pub fn first(traffic: &[Traffic], index: usize) -> usize {
    traffic.iter().take(index).map(|traffic| traffic.count as usize).sum()
}

/// All sources.
pub fn noise(plan: &Plan, run_seed: u64, net: &mut Net) -> Vec<Noise> {
    let mut all = Vec::new();
    for traffic in &plan.traffic {
        for copy in 0..traffic.count {
            let name = match traffic.count {
                1 => traffic.name.clone(),
                _ => format!("{}-{}", traffic.name, copy + 1),
            };
            let every = UDP_BYTES as f64 / 125.0 / traffic.rate_kbps.max(1.0);
            all.push(Noise {
                kind: traffic.kind,
                until: traffic.until_s.map(seconds),
                route: net.route(traffic.via.iter()),
                every: seconds(every),
                random: fastrand::Rng::with_seed(seed(run_seed, &name)),
                name,
                sender: tcp::Sender::default(),
                receiver: tcp::Receiver::default(),
                armed: None,
                bytes: 0,
            });
        }
    }
    all
}

impl World<'_> {
    /// A source begins, or goes on.
    pub(super) fn noise(&mut self, index: usize) {
        let noise = &mut self.noise[index];
        if noise.until.is_some_and(|until| until <= self.now) {
            return;
        }
        match noise.kind {
            TrafficKind::UdpCbr => {
                let (route, next) = (noise.route, self.now + noise.every);
                self.agenda.put(next, Event::Traffic(index));
                let (to, bytes) = (To::Traffic(index), UDP_BYTES);
                self.send(Packet { to, route, up: false, hop: 0, bytes, body: Body::Noise });
            }
            TrafficKind::TcpLong => self.noise_transmit(index),
            TrafficKind::TcpShort => {
                if noise.sender.held() == 0 {
                    let bytes = noise.random.usize(SHORT_BYTES);
                    for _ in 0..bytes.div_ceil(tcp::SEGMENT_BYTES) {
                        noise.sender.push(NOTHING);
                    }
                }
                self.noise_transmit(index);
            }
        }
    }

    fn noise_transmit(&mut self, index: usize) {
        loop {
            let noise = &mut self.noise[index];
            let goes_on = noise.until.is_none_or(|until| until > self.now);
            while goes_on && noise.kind == TrafficKind::TcpLong && noise.sender.unsent() < READY {
                noise.sender.push(NOTHING);
            }
            let Some((number, media)) = noise.sender.poll(self.now) else { break };
            let (to, route) = (To::Traffic(index), noise.route);
            let bytes = tcp::SEGMENT_BYTES + tcp::HEADER_BYTES;
            let body = Body::Segment(number, media);
            self.send(Packet { to, route, up: false, hop: 0, bytes, body });
        }
        let noise = &mut self.noise[index];
        if let Some(due) = noise.sender.due()
            && noise.armed.is_none()
        {
            noise.armed = Some(due);
            self.agenda.put(due, Event::Timeout(Flow::Traffic(index)));
        }
    }

    /// A source's TCP timer.
    pub(super) fn noise_timeout(&mut self, index: usize) {
        self.noise[index].armed = None;
        self.noise[index].sender.timeout(self.now);
        self.noise_transmit(index);
    }

    /// A packet has come to one of a source's ends.
    pub(super) fn noise_arrives(&mut self, packet: &Packet) {
        let To::Traffic(index) = packet.to else { return };
        let noise = &mut self.noise[index];
        match packet.body {
            Body::Segment(number, media) => {
                noise.receiver.receive(number, media);
                while noise.receiver.read().is_some() {}
                noise.bytes += packet.bytes as u64;
                let (next, window) = noise.receiver.acknowledgement();
                let (body, bytes) = (Body::Ack(next, window), tcp::HEADER_BYTES);
                self.send(Packet { up: true, hop: 0, bytes, body, ..*packet });
            }
            Body::Ack(next, window) => {
                let busy = noise.sender.held() > 0;
                noise.sender.acknowledge(self.now, next, window);
                if noise.kind == TrafficKind::TcpShort && busy && noise.sender.held() == 0 {
                    let pause = -PAUSE_S * (1.0 - noise.random.f64()).ln();
                    self.agenda.put(self.now + seconds(pause), Event::Traffic(index));
                }
                self.noise_transmit(index);
            }
            _ => noise.bytes += packet.bytes as u64,
        }
    }
}
