//! The scenarios on real threads, at a size that loom cannot try, and all of them together.

use std::thread;

use super::scenarios::{self, Size, Source, Viewer};
use super::world::stop_in_every;
use crate::distributor::{Hub, Limits};

const LARGE: Size = Size { ring_frames: 8, gop_frames: 5, frames: 200_000, reads: 200_000 };

/// Scenarios that are over quickly are gone through so many times.
const TIMES: u64 = 1_000;

#[test]
fn publish_vs_read_wrap() {
    scenarios::publish_vs_read_wrap(LARGE);
}

#[test]
fn skip_to_key_vs_overwrite() {
    scenarios::skip_to_key_vs_overwrite(LARGE);
}

#[test]
fn pinned_slot_leaves_hole() {
    scenarios::pinned_slot_leaves_hole(LARGE);
}

#[test]
fn subscribe_vs_publish() {
    for times in 0..TIMES {
        scenarios::subscribe_vs_publish(Size { frames: 1 + times % 50, ..LARGE });
    }
}

#[test]
fn drop_subscriber_vs_publish() {
    for times in 0..TIMES {
        scenarios::drop_subscriber_vs_publish(Size {
            gop_frames: 1,
            frames: 1 + times % 50,
            ..LARGE
        });
    }
}

#[test]
fn wake_vs_register() {
    scenarios::wake_vs_register(Size { gop_frames: 1, frames: 50_000, ..LARGE });
}

#[test]
fn wake_vs_wait_for_key() {
    for times in 0..TIMES {
        scenarios::wake_vs_wait_for_key(Size { frames: 5 + times % 3, ..LARGE });
    }
}

#[test]
fn close_vs_last_frame() {
    for times in 0..TIMES {
        scenarios::close_vs_last_frame(Size { frames: 2 + times % 5, reads: 5, ..LARGE });
    }
}

#[test]
fn key_request_vs_waiter() {
    for _ in 0..TIMES {
        scenarios::key_request_vs_waiter(LARGE);
    }
}

/// Readers of every sort against one publisher that never rests: quick ones, one that is stopped
/// in the middle of clones for many rounds of the ring, one that joins and leaves, and one that
/// looks up the newest key frame.
#[test]
fn a_million_frames_to_readers_of_every_sort() {
    const FRAMES: u64 = 1_000_000;
    let limits =
        Limits { ring_frames: 16, subscribers_max: 4, lag_frames_max: 12, join_frames_max: 6 };
    let (mut source, hub) = Source::new(limits, 30);
    let watching: Vec<_> = (0..3)
        .map(|reader| {
            let viewer = Viewer::new(&hub);
            thread::spawn(move || {
                stop_in_every(if reader == 0 { 50 } else { 0 });
                viewer.watch_to_the_end(FRAMES)
            })
        })
        .collect();
    let others = [join_and_leave, look_up_key_frames].map(|act| {
        let hub = hub.clone();
        thread::spawn(move || act(&hub, FRAMES))
    });
    source.publish_to(FRAMES);
    let ledger = source.close();
    for viewer in watching {
        assert!(viewer.join().unwrap() >= 1);
    }
    for other in others {
        other.join().unwrap();
    }
    assert_eq!(hub.subscribers(), 0);
    drop(hub);
    ledger.settle();
}

fn join_and_leave(hub: &Hub<scenarios::Item>, frames: u64) {
    while hub.published() < frames {
        let mut viewer = Viewer::new(hub);
        for _ in 0..20 {
            if viewer.look().is_err() {
                thread::yield_now();
            }
        }
    }
}

fn look_up_key_frames(hub: &Hub<scenarios::Item>, frames: u64) {
    stop_in_every(100);
    while hub.published() < frames {
        let _ = hub.newest_key();
        thread::yield_now();
    }
}
