//! One direction of a link: what it does to a packet, as a function of a seed and of time.
//!
//! ```text
//! send ─ blackout ─ loss, duplication ─ drop-tail queue ─ rate or trace ─ delay, jitter ─ receive
//!                   (str0m-netem)
//! ```
//!
//! Sans-IO: the time, counted from the start of the run, is an argument. The same seed, shapes
//! and packets at the same times give the same fates. Loss and duplication are str0m-netem's; the
//! queue is our own, since netem's is bounded in bytes, counts what is in flight as queued, and its
//! jitter reorders.

mod bottleneck;
mod shape;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use str0m_netem::{Input, Netem, NetemConfig, Output, Probability};

pub use bottleneck::Trace;
pub use shape::{Change, Loss, Shape, ShapeError};

use bottleneck::Bottleneck;

/// What has become of the packets of one direction so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that came to the link.
    pub offered: u64,
    /// Their bytes.
    pub offered_bytes: u64,
    /// Packets that left it.
    pub delivered: u64,
    /// Their bytes.
    pub delivered_bytes: u64,
    /// Packets lost at random, or in a blackout.
    pub lost: u64,
    /// Packets that found the queue full.
    pub dropped: u64,
    /// Copies made.
    pub duplicated: u64,
    /// Packets held back so that others overtook them.
    pub reordered: u64,
    /// Packets spoilt.
    pub corrupted: u64,
}

/// A packet at the end of the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival<T> {
    /// The packet as it was sent.
    pub packet: T,
    /// Whether bits of it are to be flipped.
    pub corrupt: bool,
}

/// One direction of a link.
pub struct Link<T> {
    shape: Shape,
    random: fastrand::Rng,
    seed: u64,
    impair: Netem<Len<T>>,
    /// The moment that str0m-netem, which wants instants, takes for the start of the run.
    epoch: Instant,
    bottleneck: Bottleneck<T>,
    /// What is on its way, by the time it arrives.
    flying: BinaryHeap<Reverse<Flying<T>>>,
    sent: u64,
    last_arrival: Duration,
    counts: Counts,
}

/// A packet with the length it counts for.
#[derive(Clone)]
struct Len<T>(T, usize);

impl<T> str0m_netem::WithLen for Len<T> {
    fn len(&self) -> usize {
        self.1
    }
}

struct Flying<T> {
    at: Duration,
    number: u64,
    len: usize,
    arrival: Arrival<T>,
}

impl<T> Ord for Flying<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<T> PartialOrd for Flying<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Flying<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Flying<T> {}

impl<T: Clone> Link<T> {
    /// A link of this shape; what it does at random follows from `seed`.
    pub fn new(shape: Shape, seed: u64) -> Self {
        Self {
            impair: Netem::new(impairment(&shape, seed)),
            bottleneck: Bottleneck::new(&shape),
            random: fastrand::Rng::with_seed(seed ^ 0x6a69_7474_6572),
            shape,
            seed,
            epoch: Instant::now(),
            flying: BinaryHeap::new(),
            sent: 0,
            last_arrival: Duration::ZERO,
            counts: Counts::default(),
        }
    }

    /// The shape it has now.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Gives it another shape; what is queued stays, and leaves at the new rate.
    pub fn reshape(&mut self, now: Duration, shape: Shape) {
        self.progress(now);
        if (shape.loss, shape.duplicate) != (self.shape.loss, self.shape.duplicate) {
            // netem starts its random numbers anew with a new configuration.
            self.seed = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
            self.impair.set_config(impairment(&shape, self.seed));
        }
        self.bottleneck.reshape(now, &shape);
        self.shape = shape;
    }

    /// A packet of `len` bytes comes to the link.
    pub fn send(&mut self, now: Duration, packet: T, len: usize) {
        self.progress(now);
        self.counts.offered += 1;
        self.counts.offered_bytes += len as u64;
        if self.shape.blackout {
            self.counts.lost += 1;
            return;
        }
        self.impair.handle_input(Input::Packet(self.epoch + now, Len(packet, len)));
        let mut copies = 0;
        while let Some(Output::Packet(Len(packet, len))) = self.impair.poll_output() {
            copies += 1;
            if !self.bottleneck.queue(now, packet, len) {
                self.counts.dropped += 1;
            }
        }
        self.counts.lost += u64::from(copies == 0);
        self.counts.duplicated += u64::from(copies > 1);
        self.progress(now);
    }

    /// When to look again, if nothing is sent before.
    pub fn due(&self) -> Option<Duration> {
        let flying = self.flying.peek().map(|Reverse(flying)| flying.at);
        [self.bottleneck.due(), flying].into_iter().flatten().min()
    }

    /// The next packet that has arrived by `now`.
    pub fn receive(&mut self, now: Duration) -> Option<Arrival<T>> {
        self.progress(now);
        if self.flying.peek()?.0.at > now {
            return None;
        }
        let Reverse(flying) = self.flying.pop()?;
        self.counts.delivered += 1;
        self.counts.delivered_bytes += flying.len as u64;
        Some(flying.arrival)
    }

    /// How long a packet that came now would wait for its turn.
    pub fn queue_delay(&self, now: Duration) -> Duration {
        self.bottleneck.delay(now)
    }

    /// What has become of all packets.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What has left the bottleneck by `now` is on its way.
    fn progress(&mut self, now: Duration) {
        while let Some((left, packet, len)) = self.bottleneck.leave(now) {
            let corrupt = self.happens(self.shape.corrupt);
            self.counts.corrupted += u64::from(corrupt);
            let mut at = left + self.shape.delay() + self.jitter();
            if self.happens(self.shape.reorder) {
                self.counts.reordered += 1;
                at += self.shape.reorder_by();
            } else {
                // Jitter does not reorder: nobody arrives before who left before.
                at = at.max(self.last_arrival);
                self.last_arrival = at;
            }
            self.sent += 1;
            let arrival = Arrival { packet, corrupt };
            self.flying.push(Reverse(Flying { at, number: self.sent, len, arrival }));
        }
    }

    fn happens(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.random.f64() < probability
    }

    /// Delay variation after RFC 8868 section 4.5.4 (NR-BPDV): a Gaussian cut at three standard
    /// deviations; whose half below zero would be a packet that arrives early, so it is shifted.
    fn jitter(&mut self) -> Duration {
        let std = self.shape.jitter_ms;
        if std <= 0.0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64((gaussian(&mut self.random).clamp(-3.0, 3.0) + 3.0) * std / 1e3)
    }
}

/// Box and Muller's transform (1958), of which one half is used.
fn gaussian(random: &mut fastrand::Rng) -> f64 {
    let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.f64()).cos()
}

/// What str0m-netem is left to do.
fn impairment(shape: &Shape, seed: u64) -> NetemConfig {
    let config = NetemConfig::new().seed(seed).duplicate(Probability::new(shape.duplicate as f32));
    match shape.loss.model() {
        Some(model) => config.loss(model),
        None => config,
    }
}

#[cfg(test)]
mod tests;
