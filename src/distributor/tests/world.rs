//! The two worlds that a scenario runs in: loom's, and the machine's.

use std::future::Future;

#[cfg(feature = "loom")]
pub(super) use loom::thread;
#[cfg(not(feature = "loom"))]
pub(super) use std::thread;

/// Frames under way, to see that each is dropped, and once.
#[derive(Debug)]
pub(super) struct Ledger(token::Ledger);

/// One copy of a frame.
#[derive(Debug)]
pub(super) struct Token(token::Token);

impl Ledger {
    pub(super) fn new() -> Self {
        Self(token::Ledger::default())
    }

    pub(super) fn token(&self) -> Token {
        Token(token::issue(&self.0))
    }

    /// Every token is gone. (Under loom, the end of the model sees to it.)
    pub(super) fn settle(self) {
        #[cfg(not(feature = "loom"))]
        assert_eq!(std::sync::Arc::strong_count(&self.0), 1, "frames leaked");
    }
}

impl Clone for Token {
    fn clone(&self) -> Self {
        Self(token::copy(&self.0))
    }
}

#[cfg(feature = "loom")]
mod token {
    /// loom keeps the account itself.
    #[derive(Debug, Default)]
    pub(super) struct Ledger(());
    pub(super) type Token = loom::alloc::Track<()>;

    pub(super) fn issue(_: &Ledger) -> Token {
        loom::alloc::Track::new(())
    }

    pub(super) fn copy(_: &Token) -> Token {
        loom::alloc::Track::new(())
    }
}

#[cfg(not(feature = "loom"))]
mod token {
    use std::cell::Cell;
    use std::sync::Arc;
    use std::time::Duration;

    pub(super) type Ledger = Arc<()>;
    pub(super) type Token = Arc<()>;

    thread_local! {
        /// After how many clones to stop in the middle of one, and how many there were.
        pub(super) static STOPS: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
    }

    pub(super) fn issue(ledger: &Ledger) -> Token {
        Arc::clone(ledger)
    }

    pub(super) fn copy(token: &Token) -> Token {
        let (every, clones) = STOPS.get();
        STOPS.set((every, clones.wrapping_add(1)));
        if every > 0 && clones.is_multiple_of(every) {
            std::thread::sleep(Duration::from_micros(200));
        }
        Arc::clone(token)
    }
}

/// Has this thread stop in the middle of every so-manieth clone of a frame; 0 never.
#[cfg(not(feature = "loom"))]
pub(super) fn stop_in_every(clones: u32) {
    token::STOPS.set((clones, 0));
}

/// Runs `future` to its end on this thread. A wake-up that gets lost fails the test: under loom
/// as a deadlock, otherwise after a time far beyond what any scheduler takes.
#[cfg(feature = "loom")]
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    loom::future::block_on(future)
}

#[cfg(not(feature = "loom"))]
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    use std::sync::Arc;
    use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
    use std::task::{Context, Poll, Wake};
    use std::time::Duration;

    struct Bell(SyncSender<()>);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            match self.0.try_send(()) {
                // Rung already; or nobody listens any more.
                Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
            }
        }
    }

    let (ring, rung) = sync_channel(1);
    let waker = Arc::new(Bell(ring)).into();
    let mut context = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        assert!(rung.recv_timeout(Duration::from_secs(30)).is_ok(), "a wake-up was lost");
    }
}
