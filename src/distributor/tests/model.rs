//! Whole histories against an oracle that is too simple to be wrong.

use proptest::prelude::*;

use crate::distributor::{Cause, Counts, Hub, Limits, Next, Publisher, Subscriber, channel};

/// What may happen to a distributor.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Publish { key: bool },
    Subscribe,
    Leave { which: usize },
    Read { which: usize, times: usize },
    Close,
}

/// All frames ever published, and what follows from them.
#[derive(Debug)]
struct Oracle {
    limits: Limits,
    /// Whether frame 1, 2, … was a key frame.
    keys: Vec<bool>,
    closed: bool,
    join_requests: u64,
    lag_requests: u64,
}

/// One subscriber, as the oracle sees it.
#[derive(Debug)]
struct Seat {
    first: u64,
    next: u64,
    delivered: u64,
    waiting: bool,
}

/// What the oracle says a read must find.
#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Frame { seq: u64, key: bool },
    Empty,
    Closed,
}

impl Oracle {
    fn published(&self) -> u64 {
        self.keys.len() as u64
    }

    fn age(&self, seq: u64) -> u64 {
        self.published() - seq
    }

    /// The newest key frame, if it is at most so many frames old.
    fn newest_key(&self, frames_max: u64) -> Option<u64> {
        let seq = self.keys.iter().rposition(|key| *key)? as u64 + 1;
        (self.age(seq) <= frames_max).then_some(seq)
    }

    fn subscribe(&mut self) -> Seat {
        let start = self.newest_key(self.limits.join_frames_max);
        self.join_requests += u64::from(start.is_none());
        let first = start.unwrap_or(self.published() + 1);
        Seat { first, next: first, delivered: 0, waiting: start.is_none() }
    }

    fn read(&mut self, seat: &mut Seat) -> Expected {
        let lag_frames_max = self.limits.lag_frames_max;
        let pending = seat.next <= self.published();
        if pending && !seat.waiting && self.age(seat.next) <= lag_frames_max {
            return self.deliver(seat, seat.next);
        }
        match self.newest_key(lag_frames_max).filter(|key| *key >= seat.next) {
            Some(key) => return self.deliver(seat, key),
            None if pending => {
                let missed = self.newest_key(u64::MAX).is_some_and(|key| key >= seat.next);
                let request = !self.closed && (missed || !seat.waiting);
                self.lag_requests += u64::from(request);
                seat.waiting = true;
                seat.next = self.published() + 1;
            }
            None => {}
        }
        if self.closed { Expected::Closed } else { Expected::Empty }
    }

    fn deliver(&self, seat: &mut Seat, seq: u64) -> Expected {
        seat.next = seq + 1;
        seat.delivered += 1;
        seat.waiting = false;
        Expected::Frame { seq, key: self.keys[seq as usize - 1] }
    }

    fn counts(&self, seat: &Seat) -> Counts {
        Counts {
            published: self.published() + 1 - seat.first,
            delivered: seat.delivered,
            skipped: seat.next - seat.first - seat.delivered,
        }
    }
}

/// The distributor beside its oracle.
struct Both {
    oracle: Oracle,
    publisher: Option<Publisher<u64>>,
    hub: Hub<u64>,
    seats: Vec<(Subscriber<u64>, Seat)>,
}

impl Both {
    fn new(limits: Limits) -> Self {
        let (publisher, hub) = channel(limits).unwrap();
        let oracle =
            Oracle { limits, keys: Vec::new(), closed: false, join_requests: 0, lag_requests: 0 };
        Self { oracle, publisher: Some(publisher), hub, seats: Vec::new() }
    }

    fn apply(&mut self, operation: Operation) -> Result<(), TestCaseError> {
        let count = self.seats.len();
        match operation {
            Operation::Publish { key } => {
                let Some(publisher) = &mut self.publisher else { return Ok(()) };
                self.oracle.keys.push(key);
                let seq = self.oracle.published();
                prop_assert_eq!(publisher.publish(key, seq), seq);
            }
            Operation::Subscribe => match self.hub.subscribe() {
                Ok(subscriber) => self.seats.push((subscriber, self.oracle.subscribe())),
                Err(_) => prop_assert_eq!(count, self.oracle.limits.subscribers_max),
            },
            Operation::Leave { which } if count > 0 => {
                self.seats.swap_remove(which % count);
            }
            Operation::Read { which, times } if count > 0 => {
                (0..times).try_for_each(|_| self.read(which % count))?;
            }
            Operation::Leave { .. } | Operation::Read { .. } => {}
            Operation::Close => {
                self.publisher = None;
                self.oracle.closed = true;
            }
        }
        Ok(())
    }

    fn read(&mut self, which: usize) -> Result<(), TestCaseError> {
        let (subscriber, seat) = &mut self.seats[which];
        let (first_read, before) = (seat.delivered == 0, subscriber.counts());
        let last = seat.first + before.delivered + before.skipped;
        let found = match subscriber.try_next() {
            Next::Frame(delivery) => {
                prop_assert_eq!(delivery.item, delivery.seq);
                // I2, in its own words.
                prop_assert!(delivery.seq >= last);
                prop_assert!(delivery.key || (delivery.skipped == 0 && !first_read));
                Expected::Frame { seq: delivery.seq, key: delivery.key }
            }
            Next::Empty => Expected::Empty,
            Next::Closed => Expected::Closed,
        };
        prop_assert_eq!(found, self.oracle.read(seat));
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let Self { oracle, hub, seats, .. } = self;
        for (subscriber, seat) in seats {
            let counts = subscriber.counts();
            prop_assert_eq!(counts, oracle.counts(seat));
            let done = counts.delivered + counts.skipped;
            prop_assert_eq!(counts.published, done + counts.pending(), "I7");
        }
        prop_assert_eq!(hub.published(), oracle.published());
        prop_assert_eq!(hub.subscribers(), seats.len());
        prop_assert_eq!(hub.key_frame_requests(Cause::Join), oracle.join_requests);
        prop_assert_eq!(hub.key_frame_requests(Cause::Lag), oracle.lag_requests);
        let retained_frames_max = oracle.limits.ring_frames as u64 - 1;
        prop_assert_eq!(hub.newest_key(), oracle.newest_key(retained_frames_max));
        prop_assert_eq!(hub.dropped(), 0);
        Ok(())
    }
}

fn limits() -> impl Strategy<Value = Limits> {
    (1usize..5, 0usize..8).prop_flat_map(|(subscribers_max, more)| {
        let ring_frames = subscribers_max + 2 + more;
        (0..ring_frames as u64).prop_flat_map(move |lag_frames_max| {
            (0..=lag_frames_max).prop_map(move |join_frames_max| Limits {
                ring_frames,
                subscribers_max,
                lag_frames_max,
                join_frames_max,
            })
        })
    })
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let operation = prop_oneof![
        2 => Just(Operation::Publish { key: true }),
        10 => Just(Operation::Publish { key: false }),
        2 => Just(Operation::Subscribe),
        1 => any::<usize>().prop_map(|which| Operation::Leave { which }),
        8 => (any::<usize>(), 1usize..6).prop_map(|(which, times)| Operation::Read { which, times }),
    ];
    let close = prop::option::weighted(0.3, any::<prop::sample::Index>());
    (prop::collection::vec(operation, 1..200), close).prop_map(|(mut operations, close)| {
        if let Some(close) = close {
            let at = close.index(operations.len());
            operations[at] = Operation::Close;
        }
        operations
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_is_the_oracle_s(limits in limits(), operations in operations()) {
        let mut both = Both::new(limits);
        for operation in operations {
            both.apply(operation)?;
            both.check()?;
        }
    }
}
