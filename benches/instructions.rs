//! What `ci/instructions` counts: one step of the distributor, so many times, and nothing else.
//!
//! `instructions STEP SUBSCRIBERS TIMES`, under valgrind. What is done once cancels out where two
//! runs of different lengths are subtracted.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a measuring tool ends where it cannot measure"
)]

use std::sync::Arc;

mod contenders;

use contenders::{Readers, broadcast, frame, lensline};

/// Frames from one key frame to the next.
const GOP_FRAMES: u64 = 30;

fn main() {
    // Cargo adds `--bench` where it runs this itself; then there is nothing to do.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|one| one != "--bench").collect();
    let [step, subscribers, times] = arguments.as_slice() else { return };
    let (subscribers, times) = (subscribers.parse().unwrap(), times.parse().unwrap());
    match step.as_str() {
        "publish" => publish(subscribers, times),
        "publish-and-read" => publish_and_read(subscribers, times),
        "join" => join(subscribers, times),
        "broadcast" => send(subscribers, times),
        "broadcast-and-read" => send_and_read(subscribers, times),
        other => panic!("no step is called {other}"),
    }
}

/// To subscribers who read nothing.
fn publish(count: usize, times: u64) {
    let (mut publisher, hub) = lensline(count);
    let _subscribers: Vec<_> = (0..count).map(|_| hub.subscribe().unwrap()).collect();
    let frame = frame();
    for number in 0..times {
        publisher.publish(number.is_multiple_of(GOP_FRAMES), Arc::clone(&frame));
    }
}

/// To subscribers who wait for it, read it and wait for the next.
fn publish_and_read(count: usize, times: u64) {
    let (mut publisher, hub) = lensline(count);
    let mut readers = Readers::of_lensline(&hub, count);
    let frame = frame();
    for number in 0..times {
        publisher.publish(number.is_multiple_of(GOP_FRAMES), Arc::clone(&frame));
        readers.read();
    }
}

fn join(count: usize, times: u64) {
    let (mut publisher, hub) = lensline(count);
    let _others: Vec<_> = (1..count).map(|_| hub.subscribe().unwrap()).collect();
    publisher.publish(true, frame());
    for _ in 0..times {
        drop(hub.subscribe().unwrap().try_next());
    }
}

/// [`publish`] by broadcast.
fn send(count: usize, times: u64) {
    let (sender, _receivers) = broadcast(count);
    let frame = frame();
    for _ in 0..times {
        sender.send(Arc::clone(&frame)).unwrap();
    }
}

/// [`publish_and_read`] by broadcast.
fn send_and_read(count: usize, times: u64) {
    let (sender, receivers) = broadcast(count);
    let mut readers = Readers::of_broadcast(receivers);
    let frame = frame();
    for _ in 0..times {
        sender.send(Arc::clone(&frame)).unwrap();
        readers.read();
    }
}
