//! What the distributor costs, beside `tokio::sync::broadcast` in the same run: one publish with so
//! many subscribers, who all wait for it or who all read nothing, and one subscriber's coming and
//! going.
//!
//! `cargo bench --bench distributor`. Wall-clock: read the ratios, the machine is shared.

#![allow(clippy::unwrap_used, reason = "a bench ends where something fails")]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lensline::distributor::{self, Hub, Limits, Publisher};
use tokio::sync::broadcast;

const SUBSCRIBERS: [usize; 4] = [1, 10, 100, 1_000];

type Frame = Arc<[u8]>;

fn frame() -> Frame {
    vec![7; 10_000].into()
}

fn channel(subscribers: usize) -> (Publisher<Frame>, Hub<Frame>) {
    let limits = Limits {
        ring_frames: (subscribers + 2).max(256),
        subscribers_max: subscribers,
        lag_frames_max: 60,
        join_frames_max: 30,
    };
    distributor::channel(limits).unwrap()
}

/// The time of `publish` alone, with `wait` before each.
fn timed(iterations: u64, mut wait: impl FnMut(), mut publish: impl FnMut()) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..iterations {
        wait();
        let began = Instant::now();
        publish();
        total += began.elapsed();
    }
    total
}

/// Nobody reads, nobody waits: what a publish costs whoever else is there.
fn publish_unread(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish_unread");
    for count in SUBSCRIBERS {
        group.bench_function(BenchmarkId::new("lensline", count), |bencher| {
            let (mut publisher, hub) = channel(count);
            let _subscribers: Vec<_> = (0..count).map(|_| hub.subscribe().unwrap()).collect();
            let frame = frame();
            bencher.iter(|| publisher.publish(true, Arc::clone(&frame)));
        });
        group.bench_function(BenchmarkId::new("broadcast", count), |bencher| {
            let (sender, _) = broadcast::channel(256);
            let _receivers: Vec<_> = (0..count).map(|_| sender.subscribe()).collect();
            let frame = frame();
            bencher.iter(|| sender.send(Arc::clone(&frame)).unwrap());
        });
    }
}

/// Everybody waits: what a publish costs with the waking.
fn publish_awaited(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish_awaited");
    for count in SUBSCRIBERS {
        group.bench_function(BenchmarkId::new("lensline", count), |bencher| {
            let (mut publisher, hub) = channel(count);
            let mut subscribers: Vec<_> = (0..count).map(|_| hub.subscribe().unwrap()).collect();
            let frame = frame();
            bencher.iter_custom(|iterations| {
                let mut context = Context::from_waker(Waker::noop());
                let wait = || {
                    for subscriber in &mut subscribers {
                        while subscriber.poll_next(&mut context).is_ready() {}
                    }
                };
                timed(iterations, wait, || {
                    publisher.publish(true, Arc::clone(&frame));
                })
            });
        });
        group.bench_function(BenchmarkId::new("broadcast", count), |bencher| {
            let frame = frame();
            bencher.iter_custom(|iterations| broadcast_awaited(count, &frame, iterations));
        });
    }
}

/// broadcast's receivers wait in futures that borrow them, so they are made anew for each send.
fn broadcast_awaited(count: usize, frame: &Frame, iterations: u64) -> Duration {
    let (sender, _) = broadcast::channel(256);
    let mut receivers: Vec<_> = (0..count).map(|_| sender.subscribe()).collect();
    let mut context = Context::from_waker(Waker::noop());
    let mut total = Duration::ZERO;
    for _ in 0..iterations {
        let mut waiting: Vec<_> =
            receivers.iter_mut().map(|receiver| Box::pin(receiver.recv())).collect();
        for future in &mut waiting {
            assert!(future.as_mut().poll(&mut context).is_pending());
        }
        let began = Instant::now();
        sender.send(Arc::clone(frame)).unwrap();
        total += began.elapsed();
        for future in &mut waiting {
            assert!(pin!(future).as_mut().poll(&mut context).is_ready());
        }
    }
    total
}

/// One more comes and goes while so many are there.
fn subscriber_join(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("subscriber_join");
    for count in SUBSCRIBERS {
        group.bench_function(BenchmarkId::new("lensline", count), |bencher| {
            let (mut publisher, hub) = channel(count);
            let _subscribers: Vec<_> = (1..count).map(|_| hub.subscribe().unwrap()).collect();
            publisher.publish(true, frame());
            bencher.iter(|| hub.subscribe().unwrap().try_next());
        });
        group.bench_function(BenchmarkId::new("broadcast", count), |bencher| {
            let (sender, _) = broadcast::channel::<Frame>(256);
            let _receivers: Vec<_> = (1..count).map(|_| sender.subscribe()).collect();
            // It begins after the newest: there is nothing to read yet.
            bencher.iter(|| drop(sender.subscribe().try_recv()));
        });
    }
}

criterion_group!(benches, publish_unread, publish_awaited, subscriber_join);
criterion_main!(benches);
