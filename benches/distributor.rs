//! What the distributor costs, beside `tokio::sync::broadcast` in the same run: one publish with so
//! many subscribers, who read nothing or who all wait for it, and one subscriber's coming and
//! going.
//!
//! `cargo bench --bench distributor`. Wall-clock: read the ratios, the machine is shared.
//! `ci/instructions` gates the same steps by what a busy machine does not change.

#![allow(clippy::unwrap_used, reason = "a bench ends where something fails")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

mod contenders;

use contenders::{Readers, broadcast, frame, lensline};

const SUBSCRIBERS: [usize; 4] = [1, 10, 100, 1_000];

/// The time of `publish` alone, with the readers waiting before each.
fn awaited<R>(iterations: u64, readers: &mut Readers, mut publish: impl FnMut() -> R) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..iterations {
        readers.read();
        let began = Instant::now();
        black_box(publish());
        total += began.elapsed();
    }
    total
}

/// What a publish costs: `unread`, nobody reads and nobody waits; `awaited`, everybody waits, and
/// is woken.
fn distributor_publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("distributor_publish");
    for count in SUBSCRIBERS {
        group.bench_function(BenchmarkId::new("unread/lensline", count), |bencher| {
            let (mut publisher, hub) = lensline(count);
            let _subscribers: Vec<_> = (0..count).map(|_| hub.subscribe().unwrap()).collect();
            let frame = frame();
            bencher.iter(|| publisher.publish(true, Arc::clone(&frame)));
        });
        group.bench_function(BenchmarkId::new("unread/broadcast", count), |bencher| {
            let (sender, _receivers) = broadcast(count);
            let frame = frame();
            bencher.iter(|| sender.send(Arc::clone(&frame)).unwrap());
        });
        group.bench_function(BenchmarkId::new("awaited/lensline", count), |bencher| {
            let (mut publisher, hub) = lensline(count);
            let mut readers = Readers::of_lensline(&hub, count);
            let frame = frame();
            let mut publish = || publisher.publish(true, Arc::clone(&frame));
            bencher.iter_custom(|times| awaited(times, &mut readers, &mut publish));
        });
        group.bench_function(BenchmarkId::new("awaited/broadcast", count), |bencher| {
            let (sender, receivers) = broadcast(count);
            let mut readers = Readers::of_broadcast(receivers);
            let frame = frame();
            let mut send = || sender.send(Arc::clone(&frame)).unwrap();
            bencher.iter_custom(|times| awaited(times, &mut readers, &mut send));
        });
    }
}

/// One more comes and goes while so many are there.
fn subscriber_join(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("subscriber_join");
    for count in SUBSCRIBERS {
        group.bench_function(BenchmarkId::new("lensline", count), |bencher| {
            let (mut publisher, hub) = lensline(count);
            let _subscribers: Vec<_> = (1..count).map(|_| hub.subscribe().unwrap()).collect();
            publisher.publish(true, frame());
            bencher.iter(|| hub.subscribe().unwrap().try_next());
        });
        group.bench_function(BenchmarkId::new("broadcast", count), |bencher| {
            let (sender, _receivers) = broadcast(count - 1);
            // It begins after the newest: there is nothing to read yet.
            bencher.iter(|| drop(sender.subscribe().try_recv()));
        });
    }
}

criterion_group!(benches, distributor_publish, subscriber_join);
criterion_main!(benches);
