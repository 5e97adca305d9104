//! The scenarios under loom: every order of events, up to a number of preemptions.
//!
//! A scenario that never fails shows nothing. Each of these was seen to fail, at two preemptions,
//! when one thing was weakened by hand (all orderings to `Relaxed` unless said otherwise):
//!
//! | weakened | fails |
//! |---|---|
//! | `Slot::read` Acquire; it ignores WRITING | wrap, skip, hole |
//! | `Slot::replace` claim Acquire, clear Release; it ignores readers | wrap, skip, hole |
//! | `Reading::drop` Release | wrap, skip, hole |
//! | `Ring::get` takes a later entry for the one asked for | skip, hole |
//! | `published` store Release, load Acquire | wrap, skip, subscribe, drop |
//! | `announce` before `put`; `newest_key` stored after `announce` | wrap, skip, subscribe, drop |
//! | `newest_key` asked before `published` when joining | subscribe, drop |
//! | `newest_key` asked before `published` when resyncing | wrap, skip, subscribe, drop |
//! | `closed` store Release, load Acquire; asked after `published` | close, subscribe, drop |
//! | close does not wake, or wakes before it closes | close, subscribe, drop |
//! | `Seats::wake_all` loads (Acquire) where it must read-modify-write, or only acquires | wake, key, close, subscribe, drop |
//! | `Seats::register` only releases, or stores where it must read-modify-write | wake, key, close, subscribe, drop |
//! | `Seats::register` sets the bit before the waker | key, subscribe, drop |
//! | `Seats::leave` does not free the seat | drop |
//! | `poll_next` does not look again after it registered | wake, close, subscribe, drop |
//! | wake before `announce` | wake |
//! | a hole is taken for a lap; the publisher drops the frame at a pinned slot | hole |
//! | the publisher waits at a pinned slot | wrap, skip, hole |
//! | `poll_requested` does not look again after it registered | request |
//! | request notes after it wakes; its swap Relaxed, or a plain store | request |
//!
//! Not caught, because loom runs the steps of one thread in their order: `newest_key` store
//! Release and load Acquire, `Seats::leave` Release and `Seats::take` Acquire, and, because a waker
//! brings orderings of its own, `Seats::register` Release and `Seats::wake_all` Acquire. The
//! comments beside them are all there is.

use std::sync::atomic::{AtomicU64, Ordering};

use super::scenarios::{self, Size};

/// Preemptions a thread may suffer, where `LOOM_MAX_PREEMPTIONS` does not say.
const PREEMPTIONS_MAX: usize = 2;

/// Steps of one execution, above loom's own limit, as tokio has it.
const BRANCHES_MAX: usize = 10_000;

fn check(body: impl Fn() + Send + Sync + 'static) {
    check_to(usize::MAX, body);
}

/// For a scenario of which more preemptions than these take minutes.
fn check_to(preemptions_max: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = builder.max_branches.max(BRANCHES_MAX);
    let preemptions = builder.preemption_bound.unwrap_or(PREEMPTIONS_MAX);
    builder.preemption_bound = Some(preemptions.min(preemptions_max));
    let executions = std::sync::Arc::new(AtomicU64::new(0));
    let count = std::sync::Arc::clone(&executions);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        body();
    });
    assert!(executions.load(Ordering::Relaxed) > 1, "nothing was tried");
}

const SMALL: Size = Size { ring_frames: 3, gop_frames: 2, frames: 4, reads: 2 };

#[test]
fn loom_publish_vs_read_wrap() {
    check(|| scenarios::publish_vs_read_wrap(Size { gop_frames: 3, frames: 5, reads: 3, ..SMALL }));
}

#[test]
fn loom_skip_to_key_vs_overwrite() {
    check(|| scenarios::skip_to_key_vs_overwrite(Size { frames: 6, ..SMALL }));
}

#[test]
fn loom_pinned_slot_leaves_hole() {
    static HOLES: AtomicU64 = AtomicU64::new(0);
    check(|| {
        let size = Size { gop_frames: 8, frames: 5, reads: 1, ..SMALL };
        HOLES.fetch_add(scenarios::pinned_slot_leaves_hole(size), Ordering::Relaxed);
    });
    assert!(HOLES.load(Ordering::Relaxed) > 0, "no order of events left a hole");
}

#[test]
fn loom_subscribe_vs_publish() {
    check(|| scenarios::subscribe_vs_publish(Size { frames: 3, ..SMALL }));
}

#[test]
fn loom_drop_subscriber_vs_publish() {
    check_to(2, || {
        scenarios::drop_subscriber_vs_publish(Size {
            ring_frames: 4,
            gop_frames: 1,
            frames: 1,
            ..SMALL
        })
    });
}

#[test]
fn loom_wake_vs_register() {
    check(|| scenarios::wake_vs_register(Size { ring_frames: 4, frames: 2, ..SMALL }));
}

#[test]
fn loom_wake_vs_wait_for_key() {
    check(|| scenarios::wake_vs_wait_for_key(Size { ring_frames: 4, frames: 5, ..SMALL }));
}

#[test]
fn loom_close_vs_last_frame() {
    check(|| scenarios::close_vs_last_frame(Size { frames: 2, reads: 1, ..SMALL }));
}

#[test]
fn loom_key_request_vs_waiter() {
    check(|| scenarios::key_request_vs_waiter(SMALL));
}
