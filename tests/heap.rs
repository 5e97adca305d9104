//! What the distributor allocates, counted by dhat: nothing while it runs, and nothing stays behind
//! when subscribers go.

#![allow(clippy::unwrap_used, reason = "a test: a panic is how it fails")]

use std::sync::Arc;
use std::task::{Context, Waker};

use dhat::HeapStats;
use lensline::distributor::{self, Hub, Limits, Publisher, Subscriber};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const LIMITS: Limits =
    Limits { ring_frames: 256, subscribers_max: 200, lag_frames_max: 60, join_frames_max: 30 };

type Frame = Arc<[u8]>;

fn channel() -> (Publisher<Frame>, Hub<Frame>) {
    distributor::channel(LIMITS).unwrap()
}

/// Every third reads on at once, every third waits, every third has fallen behind for good.
fn read(subscribers: &mut [Subscriber<Frame>]) {
    let mut context = Context::from_waker(Waker::noop());
    for (index, subscriber) in subscribers.iter_mut().enumerate() {
        match index % 3 {
            0 => drop(subscriber.try_next()),
            1 => while subscriber.poll_next(&mut context).is_ready() {},
            _ => {}
        }
    }
}

/// One test: dhat counts the whole process.
#[test]
fn publishing_allocates_nothing_and_subscribers_leave_nothing() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let (mut publisher, hub) = channel();
    let frame: Frame = vec![7; 10_000].into();
    let mut subscribers: Vec<_> = (0..99).map(|_| hub.subscribe().unwrap()).collect();
    let mut publish = |frames: u64, subscribers: &mut [Subscriber<Frame>]| {
        for number in 0..frames {
            publisher.publish(number % 60 == 0, Arc::clone(&frame));
            read(subscribers);
        }
    };
    publish(1_000, &mut subscribers);
    let before = HeapStats::get();
    publish(10_000, &mut subscribers);
    let after = HeapStats::get();
    assert_eq!(after.total_blocks, before.total_blocks, "allocations in 10,000 frames");
    assert_eq!(after.curr_bytes, before.curr_bytes);

    drop(subscribers);
    let come_and_go = |times: u64| {
        for _ in 0..times {
            drop(hub.subscribe().unwrap());
        }
        HeapStats::get().curr_bytes
    };
    let once = come_and_go(1_000);
    assert_eq!(come_and_go(1_000), once, "bytes after 1,000 and 2,000 subscribers");
}
