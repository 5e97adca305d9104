//! TCP as far as it matters here: reliable, in order, slow where the path is. Sans-IO.
//!
//! NewReno (RFC 6582) in whole segments, with the timer of RFC 6298; an acknowledgement for each
//! segment, no SACK. A receiver that does not read closes its window.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The most a segment carries.
pub const SEGMENT_BYTES: usize = 1400;

/// What the headers add: IPv4, TCP with time stamps.
pub const HEADER_BYTES: usize = 52;

/// What a receiver takes in without reading.
pub const WINDOW: u64 = 256;

const INITIAL_WINDOW: f64 = 10.0;
const RTO_MIN: Duration = Duration::from_millis(200);
const RTO_MAX: Duration = Duration::from_secs(60);
const RTO_FIRST: Duration = Duration::from_secs(1);

/// The side that sends; `T` is what a segment carries.
pub struct Sender<T> {
    /// From `una` on.
    segments: VecDeque<T>,
    una: u64,
    next: u64,
    /// The highest that was ever sent, and one more.
    sent: u64,
    window: f64,
    threshold: f64,
    peer_window: u64,
    duplicates: u32,
    /// Until this is acknowledged, a loss is being repaired.
    recover: Option<u64>,
    retransmit: bool,
    smoothed: Option<(f64, f64)>,
    timed: Option<(u64, Duration)>,
    rto: Duration,
    deadline: Option<Duration>,
    /// Since when nothing new was acknowledged, where something is to be.
    waiting: Option<Duration>,
}

impl<T: Copy> Default for Sender<T> {
    fn default() -> Self {
        Self {
            segments: VecDeque::new(),
            una: 0,
            next: 0,
            sent: 0,
            window: INITIAL_WINDOW,
            threshold: f64::INFINITY,
            peer_window: WINDOW,
            duplicates: 0,
            recover: None,
            retransmit: false,
            smoothed: None,
            timed: None,
            rto: RTO_FIRST,
            deadline: None,
            waiting: None,
        }
    }
}

impl<T: Copy> Sender<T> {
    /// Something to send.
    pub fn push(&mut self, segment: T) {
        self.segments.push_back(segment);
    }

    /// Segments that were never sent.
    pub fn unsent(&self) -> u64 {
        (self.una + self.segments.len() as u64).saturating_sub(self.sent)
    }

    /// Segments that were not acknowledged, sent or not.
    pub fn held(&self) -> u64 {
        self.segments.len() as u64
    }

    /// For how long the peer has acknowledged nothing new, while it should have.
    pub fn unacknowledged(&self, now: Duration) -> Duration {
        self.waiting.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }

    /// The next segment that may be sent now, and its number.
    pub fn poll(&mut self, now: Duration) -> Option<(u64, T)> {
        if std::mem::take(&mut self.retransmit) {
            let first = *self.segments.front()?;
            self.deadline = Some(now + self.rto);
            // Karn: what is sent again is not timed.
            self.timed = None;
            return Some((self.una, first));
        }
        let window = (self.window as u64).min(self.peer_window);
        let segment = *self.segments.get((self.next - self.una) as usize)?;
        if self.next - self.una >= window {
            // Nothing is under way and nothing may be: the window is probed by the timer.
            if self.next == self.una {
                self.deadline.get_or_insert(now + self.rto);
            }
            return None;
        }
        let number = self.next;
        self.next += 1;
        if number >= self.sent {
            self.sent = self.next;
            self.timed.get_or_insert((number, now));
        }
        self.deadline.get_or_insert(now + self.rto);
        self.waiting.get_or_insert(now);
        Some((number, segment))
    }

    /// The peer wants `next`, and would take `window` more; whether that is news.
    pub fn acknowledge(&mut self, now: Duration, next: u64, window: u64) -> bool {
        if next > self.sent || next < self.una {
            return false;
        }
        self.peer_window = window;
        if next == self.una {
            self.duplicate();
            return false;
        }
        self.time(now, next);
        let newly = next - self.una;
        self.segments.drain(..newly as usize);
        self.una = next;
        self.next = self.next.max(next);
        self.duplicates = 0;
        match self.recover {
            Some(recover) if next < recover => self.retransmit = true,
            Some(_) => {
                self.recover = None;
                self.window = self.threshold;
            }
            None if self.window < self.threshold => self.window += newly as f64,
            None => self.window += newly as f64 / self.window,
        }
        let outstanding = self.next > self.una;
        self.deadline = outstanding.then_some(now + self.rto);
        self.waiting = outstanding.then_some(now);
        true
    }

    fn duplicate(&mut self) {
        if self.next == self.una {
            return;
        }
        self.duplicates += 1;
        if self.duplicates == 3 && self.recover.is_none() {
            self.threshold = ((self.next - self.una) as f64 / 2.0).max(2.0);
            self.window = self.threshold + 3.0;
            self.recover = Some(self.next);
            self.retransmit = true;
        } else if self.duplicates > 3 {
            self.window += 1.0;
        }
    }

    fn time(&mut self, now: Duration, next: u64) {
        let Some((_, at)) = self.timed.filter(|(number, _)| *number < next) else { return };
        self.timed = None;
        let sample = now.saturating_sub(at).as_secs_f64();
        let (smoothed, variation) = match self.smoothed {
            None => (sample, sample / 2.0),
            Some((smoothed, variation)) => (
                0.875 * smoothed + 0.125 * sample,
                0.75 * variation + 0.25 * (smoothed - sample).abs(),
            ),
        };
        self.smoothed = Some((smoothed, variation));
        self.rto = Duration::from_secs_f64(smoothed + 4.0 * variation).clamp(RTO_MIN, RTO_MAX);
    }

    /// When to come back if nothing is heard.
    pub fn due(&self) -> Option<Duration> {
        self.deadline
    }

    /// The timer: where it is due, all is sent again from the first that was not acknowledged.
    pub fn timeout(&mut self, now: Duration) {
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        self.deadline = None;
        if self.segments.is_empty() {
            return;
        }
        self.threshold = ((self.next - self.una) as f64 / 2.0).max(2.0);
        self.window = 1.0;
        self.next = (self.una + 1).min(self.sent).max(self.una);
        self.duplicates = 0;
        self.recover = None;
        self.retransmit = true;
        if self.next == self.una {
            // A probe of a window that is closed counts as sent.
            self.next += 1;
            self.sent = self.sent.max(self.next);
        }
        self.rto = (self.rto * 2).min(RTO_MAX);
    }
}

/// The side that receives.
pub struct Receiver<T> {
    next: u64,
    early: BTreeMap<u64, T>,
    /// In order, not read yet.
    unread: VecDeque<T>,
}

impl<T> Default for Receiver<T> {
    fn default() -> Self {
        Self { next: 0, early: BTreeMap::new(), unread: VecDeque::new() }
    }
}

impl<T> Receiver<T> {
    /// A segment came. What is beyond the window is not taken.
    pub fn receive(&mut self, number: u64, segment: T) {
        if number < self.next || number >= self.next + self.window() {
            return;
        }
        self.early.insert(number, segment);
        while let Some(segment) = self.early.remove(&self.next) {
            self.unread.push_back(segment);
            self.next += 1;
        }
    }

    /// The next segment in order.
    pub fn read(&mut self) -> Option<T> {
        self.unread.pop_front()
    }

    /// What to acknowledge: the next that is wanted, and how many more would be taken.
    pub fn acknowledgement(&self) -> (u64, u64) {
        (self.next, self.window())
    }

    fn window(&self) -> u64 {
        WINDOW.saturating_sub(self.unread.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{Link, Loss, Shape};

    /// Sends `total` segments over a link with loss both ways; what came, when the last did, and
    /// how often a segment was sent.
    fn transfer(shape: &Shape, total: u64, reads: bool) -> (Vec<u64>, Duration, u64) {
        let (mut sender, mut receiver) = (Sender::default(), Receiver::default());
        let mut down = Link::new(shape.clone(), 1);
        let mut up = Link::new(shape.clone(), 2);
        (0..total).for_each(|number| sender.push(number));
        let (mut now, mut came, mut sent, mut last) =
            (Duration::ZERO, Vec::new(), 0, Duration::ZERO);
        while (came.len() as u64) < total && now < Duration::from_secs(600) {
            while let Some((number, segment)) = sender.poll(now) {
                sent += 1;
                down.send(now, (number, segment), SEGMENT_BYTES + HEADER_BYTES);
            }
            let due = [down.due(), up.due(), sender.due()].into_iter().flatten().min();
            let Some(due) = due else { break };
            now = due;
            while let Some(arrival) = down.receive(now) {
                let (number, segment) = arrival.packet;
                receiver.receive(number, segment);
                while reads && let Some(segment) = receiver.read() {
                    came.push(segment);
                    last = now;
                }
                up.send(now, receiver.acknowledgement(), HEADER_BYTES);
            }
            while let Some(arrival) = up.receive(now) {
                sender.acknowledge(now, arrival.packet.0, arrival.packet.1);
            }
            sender.timeout(now);
            if !reads && now > Duration::from_secs(30) {
                break;
            }
        }
        (came, last, sent)
    }

    #[test]
    fn all_that_was_sent_comes_once_and_in_order_also_where_packets_are_lost_and_overtaken() {
        let bad = Shape {
            rate_kbps: Some(2000.0),
            delay_ms: 20.0,
            loss: Loss::Independent(0.05),
            reorder: 0.02,
            duplicate: 0.02,
            ..Shape::default()
        };
        let (came, _, _) = transfer(&bad, 2_000, true);
        assert_eq!(came, (0..2_000).collect::<Vec<_>>());
    }

    #[test]
    fn a_clean_link_is_filled() {
        let shape = Shape { rate_kbps: Some(5000.0), delay_ms: 20.0, ..Shape::default() };
        let (came, last, _) = transfer(&shape, 4_000, true);
        assert_eq!(came.len(), 4_000);
        let kbps = 4_000.0 * (SEGMENT_BYTES + HEADER_BYTES) as f64 / 125.0 / last.as_secs_f64();
        assert!((4_000.0..=5_000.0).contains(&kbps), "{kbps}");
    }

    #[test]
    fn who_does_not_read_is_sent_no_more_than_the_window_but_probes() {
        let shape = Shape { rate_kbps: Some(5000.0), delay_ms: 20.0, ..Shape::default() };
        let (came, _, sent) = transfer(&shape, 4_000, false);
        assert!(came.is_empty());
        assert!((WINDOW..WINDOW + 20).contains(&sent), "{sent}");
    }
}
