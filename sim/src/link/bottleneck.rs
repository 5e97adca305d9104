//! The narrowest part of a link: a drop-tail queue, and what empties it.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::shape::{Shape, ShapeError};

/// What one delivery of a trace carries: Mahimahi's packet.
const DELIVERY_BYTES: usize = 1500;

/// Moments at which a link lets [`DELIVERY_BYTES`] through, over and over again.
///
/// Mahimahi's format (Netravali et al., USENIX ATC 2015): one line a delivery, each a whole number
/// of milliseconds from the start; the last line's is the period.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Trace {
    /// A file of this name, beside the plan.
    File(String),
    /// The moments.
    Milliseconds(Vec<u64>),
}

impl Trace {
    /// Reads the file, and checks what is in it.
    pub(super) fn prepare(&mut self, folder: &Path) -> Result<(), ShapeError> {
        if let Self::File(name) = self {
            let text = std::fs::read_to_string(folder.join(&*name))
                .map_err(|error| ShapeError::TraceFile(name.clone(), error.to_string()))?;
            let moments: Result<_, _> = text.lines().map(|line| line.trim().parse()).collect();
            *self = Self::Milliseconds(moments.map_err(|_| ShapeError::Trace)?);
        }
        let moments = self.moments();
        if moments.last().is_none_or(|last| *last == 0) || !moments.is_sorted() {
            return Err(ShapeError::Trace);
        }
        Ok(())
    }

    fn moments(&self) -> &[u64] {
        match self {
            Self::File(_) => &[],
            Self::Milliseconds(moments) => moments,
        }
    }

    /// The moment of delivery `number`.
    fn at(&self, number: u64) -> Duration {
        let moments = self.moments();
        let count = moments.len().max(1) as u64;
        let period = moments.last().copied().unwrap_or(1);
        let in_period = moments.get((number % count) as usize).copied().unwrap_or(0);
        Duration::from_millis(number / count * period + in_period)
    }

    /// The first delivery at `now` or after.
    fn first_from(&self, now: Duration) -> u64 {
        let moments = self.moments();
        let count = moments.len().max(1) as u64;
        let period = u128::from(moments.last().copied().unwrap_or(1).max(1));
        let rounds = u64::try_from(now.as_millis() / period).unwrap_or(u64::MAX / 2);
        let mut number = rounds.saturating_mul(count);
        while self.at(number) < now {
            number += 1;
        }
        number
    }

    /// What it carries on average.
    fn bytes_per_second(&self) -> f64 {
        let moments = self.moments();
        let seconds = moments.last().copied().unwrap_or(1).max(1) as f64 / 1e3;
        moments.len() as f64 * DELIVERY_BYTES as f64 / seconds
    }
}

/// A queue of packets, and when the first of them will have left.
pub struct Bottleneck<T> {
    queue: VecDeque<(T, usize)>,
    queued_bytes: usize,
    limit: Duration,
    pace: Pace,
    /// When the first of the queue will have left.
    leaves: Option<Duration>,
}

enum Pace {
    /// All at once.
    Free,
    Rate {
        bytes_per_second: f64,
    },
    /// `next` is the delivery that comes next; `spare` bytes are left of the one before.
    Trace {
        trace: Trace,
        next: u64,
        spare: usize,
    },
}

impl Pace {
    fn of(shape: &Shape, now: Duration) -> Self {
        match (&shape.trace, shape.rate_kbps) {
            (Some(trace), _) => {
                Self::Trace { trace: trace.clone(), next: trace.first_from(now), spare: 0 }
            }
            (None, Some(kbps)) => Self::Rate { bytes_per_second: kbps * 125.0 },
            (None, None) => Self::Free,
        }
    }

    /// When `len` bytes that begin to leave at `now` have left.
    fn leave(&mut self, now: Duration, len: usize) -> Duration {
        match self {
            Self::Free => now,
            Self::Rate { bytes_per_second } => {
                now + Duration::from_secs_f64(len as f64 / *bytes_per_second)
            }
            Self::Trace { trace, next, spare } => {
                if *next == 0 || trace.at(*next - 1) < now {
                    // A delivery that found nobody waiting is over.
                    *spare = 0;
                    *next = (*next).max(trace.first_from(now));
                }
                let more = len.saturating_sub(*spare).div_ceil(DELIVERY_BYTES);
                *next += more as u64;
                *spare = *spare + more * DELIVERY_BYTES - len;
                trace.at(next.saturating_sub(1))
            }
        }
    }

    fn bytes_per_second(&self) -> f64 {
        match self {
            Self::Free => f64::INFINITY,
            Self::Rate { bytes_per_second } => *bytes_per_second,
            Self::Trace { trace, .. } => trace.bytes_per_second(),
        }
    }
}

impl<T> Bottleneck<T> {
    pub fn new(shape: &Shape) -> Self {
        Self {
            queue: VecDeque::new(),
            queued_bytes: 0,
            limit: Duration::from_secs_f64(shape.queue_ms / 1e3),
            pace: Pace::of(shape, Duration::ZERO),
            leaves: None,
        }
    }

    /// What waits leaves at the new pace; so does what is left of the packet that is leaving.
    pub fn reshape(&mut self, now: Duration, shape: &Shape) {
        let before = self.pace.bytes_per_second();
        self.pace = Pace::of(shape, now);
        self.limit = Duration::from_secs_f64(shape.queue_ms / 1e3);
        if let (Some(leaves), Some((_, len))) = (self.leaves, self.queue.front()) {
            let left_bytes = leaves.saturating_sub(now).as_secs_f64() * before;
            let left_bytes = if left_bytes.is_finite() { left_bytes.ceil() as usize } else { *len };
            self.leaves = Some(self.pace.leave(now, left_bytes.min(*len)));
        }
    }

    /// Takes a packet in, or drops it where the queue is full. A queue that is empty takes any.
    pub fn queue(&mut self, now: Duration, packet: T, len: usize) -> bool {
        if !self.queue.is_empty() && self.delay(now) > self.limit {
            return false;
        }
        self.queue.push_back((packet, len));
        self.queued_bytes += len;
        if self.leaves.is_none() {
            self.leaves = Some(self.pace.leave(now, len));
        }
        true
    }

    /// How long what waits now will take.
    pub fn delay(&self, now: Duration) -> Duration {
        let Some(leaves) = self.leaves else { return Duration::ZERO };
        let first = self.queue.front().map_or(0, |(_, len)| *len);
        let behind = (self.queued_bytes - first) as f64 / self.pace.bytes_per_second();
        leaves.saturating_sub(now) + Duration::from_secs_f64(behind)
    }

    /// When the first of the queue will have left.
    pub fn due(&self) -> Option<Duration> {
        self.leaves
    }

    /// The next packet that has left by `now`: when, and its length.
    pub fn leave(&mut self, now: Duration) -> Option<(Duration, T, usize)> {
        let left = self.leaves.filter(|leaves| *leaves <= now)?;
        let (packet, len) = self.queue.pop_front()?;
        self.queued_bytes -= len;
        self.leaves = self.queue.front().map(|(_, len)| self.pace.leave(left, *len));
        Some((left, packet, len))
    }
}
