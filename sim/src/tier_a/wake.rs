//! Wakers that note whom they woke: nothing is polled again that nobody woke.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

use super::agenda::Who;

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// The camera, for requests for key frames.
    Camera,
    /// A session, for frames.
    Feed(Who),
}

/// Who was woken and was not polled yet, in order.
#[derive(Clone, Debug, Default)]
pub struct Woken(Arc<Mutex<Vec<Task>>>);

impl Woken {
    /// A waker for `task`.
    pub fn waker(&self, task: Task) -> (Waker, Arc<Flag>) {
        let flag = Arc::new(Flag { task, woken: self.clone(), raised: AtomicBool::new(false) });
        (Waker::from(Arc::clone(&flag)), flag)
    }

    /// Takes all of them.
    pub fn take(&self) -> Vec<Task> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether a task was woken since it was last polled.
#[derive(Debug)]
pub struct Flag {
    task: Task,
    woken: Woken,
    raised: AtomicBool,
}

impl Flag {
    /// It is polled now.
    pub fn lower(&self) {
        self.raised.store(false, Ordering::Relaxed);
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        if !self.raised.swap(true, Ordering::Relaxed) {
            self.woken.0.lock().unwrap_or_else(PoisonError::into_inner).push(self.task);
        }
    }
}
