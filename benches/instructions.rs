//! What `ci/instructions` counts: one step of the distributor, so many times, and nothing else.
//!
//! `instructions STEP SUBSCRIBERS TIMES`, under valgrind. What is done once cancels out where two
//! runs of different lengths are subtracted.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a measuring tool ends where it cannot measure"
)]

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Waker};

use lensline::distributor::{self, Limits};
use tokio::sync::broadcast;

type Frame = Arc<[u8]>;

fn main() {
    // Cargo adds `--bench` where it runs this itself; then there is nothing to do.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|one| one != "--bench").collect();
    let [step, subscribers, times] = arguments.as_slice() else { return };
    let (subscribers, times) = (subscribers.parse().unwrap(), times.parse().unwrap());
    match step.as_str() {
        "publish" => lensline(subscribers, times, false),
        "publish-and-read" => lensline(subscribers, times, true),
        "join" => join(subscribers, times),
        "broadcast" => tokio_broadcast(subscribers, times, false),
        "broadcast-and-read" => tokio_broadcast(subscribers, times, true),
        other => panic!("no step is called {other}"),
    }
}

fn limits(subscribers: usize) -> Limits {
    Limits {
        ring_frames: (subscribers + 2).max(256),
        subscribers_max: subscribers,
        lag_frames_max: 60,
        join_frames_max: 30,
    }
}

/// Publishes; with `read`, to subscribers who read it and wait for the next.
fn lensline(count: usize, times: u64, read: bool) {
    let (mut publisher, hub) = distributor::channel::<Frame>(limits(count)).unwrap();
    let mut subscribers: Vec<_> = (0..count).map(|_| hub.subscribe().unwrap()).collect();
    let frame: Frame = vec![7; 10_000].into();
    let mut context = Context::from_waker(Waker::noop());
    for number in 0..times {
        publisher.publish(number % 30 == 0, Arc::clone(&frame));
        if read {
            for subscriber in &mut subscribers {
                while subscriber.poll_next(&mut context).is_ready() {}
            }
        }
    }
}

fn join(count: usize, times: u64) {
    let (mut publisher, hub) = distributor::channel::<Frame>(limits(count)).unwrap();
    let _others: Vec<_> = (1..count).map(|_| hub.subscribe().unwrap()).collect();
    publisher.publish(true, vec![7; 10_000].into());
    for _ in 0..times {
        drop(hub.subscribe().unwrap().try_next());
    }
}

fn tokio_broadcast(count: usize, times: u64, read: bool) {
    let (sender, _) = broadcast::channel::<Frame>(256);
    let mut receivers: Vec<_> = (0..count).map(|_| sender.subscribe()).collect();
    let frame: Frame = vec![7; 10_000].into();
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..times {
        if !read {
            sender.send(Arc::clone(&frame)).unwrap();
            continue;
        }
        // They wait first, as a receiver's future borrows it and cannot be kept.
        let mut waiting: Vec<_> =
            receivers.iter_mut().map(|receiver| Box::pin(receiver.recv())).collect();
        for future in &mut waiting {
            assert!(future.as_mut().poll(&mut context).is_pending());
        }
        sender.send(Arc::clone(&frame)).unwrap();
        for future in &mut waiting {
            assert!(future.as_mut().poll(&mut context).is_ready());
        }
    }
}
