//! STUB with the final API, to be replaced by the pinned-slot ring.
#![allow(missing_docs, reason = "stub")]
use std::collections::VecDeque;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst},
};

/// Why a key frame is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    Join,
    Lag,
    Viewer,
    Operator,
}
impl Cause {
    pub const ALL: [Self; 4] = [Self::Join, Self::Lag, Self::Viewer, Self::Operator];
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Lag => "lag",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub ring_frames: usize,
    pub subscribers_max: usize,
    pub lag_frames_max: u64,
    pub join_frames_max: u64,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all seats are taken")]
pub struct Full;
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("limits do not fit")]
pub struct LimitsError;
#[derive(Clone, Debug)]
pub struct Delivery<T> {
    pub seq: u64,
    pub key: bool,
    pub item: T,
    pub skipped: u64,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    pub published: u64,
    pub delivered: u64,
    pub skipped: u64,
}
#[derive(Debug)]
pub enum Next<T> {
    Frame(Delivery<T>),
    Empty,
    Closed,
}

struct Inner<T> {
    limits: Limits,
    q: Mutex<VecDeque<(u64, bool, T)>>,
    seq: AtomicU64,
    notify: tokio::sync::Notify,
    keys: tokio::sync::Notify,
    wanted: AtomicU32,
    counts: [AtomicU64; 4],
    seats: AtomicUsize,
    closed: std::sync::atomic::AtomicBool,
}
pub struct Publisher<T>(Arc<Inner<T>>);
pub struct Hub<T>(Arc<Inner<T>>);
impl<T> Clone for Hub<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
impl<T> std::fmt::Debug for Hub<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hub")
    }
}
impl<T> std::fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Publisher")
    }
}
impl<T> std::fmt::Debug for Subscriber<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Subscriber")
    }
}
pub struct Subscriber<T> {
    inner: Arc<Inner<T>>,
    next: u64,
    start: u64,
    synced: bool,
    delivered: u64,
    skipped: u64,
}

pub fn channel<T: Clone>(limits: Limits) -> Result<(Publisher<T>, Hub<T>), LimitsError> {
    let i = Arc::new(Inner {
        limits,
        q: Mutex::default(),
        seq: AtomicU64::new(0),
        notify: Default::default(),
        keys: Default::default(),
        wanted: AtomicU32::new(0),
        counts: Default::default(),
        seats: AtomicUsize::new(0),
        closed: Default::default(),
    });
    Ok((Publisher(i.clone()), Hub(i)))
}
impl<T: Clone> Publisher<T> {
    /// Publishes the next item and returns its sequence number (from 1, no gaps). Never waits.
    pub fn publish(&mut self, key: bool, item: T) -> u64 {
        let mut q = self.0.q.lock().unwrap_or_else(|e| e.into_inner());
        let seq = self.0.seq.load(SeqCst) + 1;
        q.push_back((seq, key, item));
        if q.len() > self.0.limits.ring_frames {
            q.pop_front();
        }
        self.0.seq.store(seq, SeqCst);
        drop(q);
        self.0.notify.notify_waiters();
        seq
    }
    pub fn published(&self) -> u64 {
        self.0.seq.load(SeqCst)
    }
}
impl<T> Drop for Publisher<T> {
    fn drop(&mut self) {
        self.0.closed.store(true, SeqCst);
        self.0.notify.notify_waiters();
    }
}
impl<T: Clone> Hub<T> {
    /// A seat from which every frame from the next key frame on can be read.
    pub fn subscribe(&self) -> Result<Subscriber<T>, Full> {
        if self.0.seats.fetch_add(1, SeqCst) >= self.0.limits.subscribers_max {
            self.0.seats.fetch_sub(1, SeqCst);
            return Err(Full);
        }
        let seq = self.0.seq.load(SeqCst);
        self.request_key_frame(Cause::Join);
        Ok(Subscriber {
            inner: self.0.clone(),
            next: seq + 1,
            start: seq,
            synced: false,
            delivered: 0,
            skipped: 0,
        })
    }
    /// Asks the camera for a key frame; never blocks, from any thread.
    pub fn request_key_frame(&self, cause: Cause) {
        self.0.counts[cause as usize].fetch_add(1, SeqCst);
        self.0.wanted.fetch_or(1 << cause as u32, SeqCst);
        self.0.keys.notify_one();
    }
    /// Resolves when somebody wants a key frame; one waiter (the camera) at a time.
    pub async fn key_frame_requested(&self) {
        loop {
            if self.0.wanted.swap(0, SeqCst) != 0 {
                return;
            }
            self.0.keys.notified().await;
        }
    }
    /// How many requests there were for this cause.
    pub fn key_frame_requests(&self, cause: Cause) -> u64 {
        self.0.counts[cause as usize].load(SeqCst)
    }
    /// The newest retained key frame.
    pub fn newest_key(&self) -> Option<T> {
        self.0
            .q
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .iter()
            .rev()
            .find(|f| f.1)
            .map(|f| f.2.clone())
    }
    pub fn published(&self) -> u64 {
        self.0.seq.load(SeqCst)
    }
    pub fn subscribers(&self) -> usize {
        self.0.seats.load(SeqCst)
    }
}
impl<T: Clone> Subscriber<T> {
    /// The next frame if there is one; never waits.
    pub fn try_next(&mut self) -> Next<T> {
        let q = self.inner.q.lock().unwrap_or_else(|e| e.into_inner());
        let closed = self.inner.closed.load(SeqCst);
        for (seq, key, item) in q.iter() {
            if *seq < self.next {
                continue;
            }
            if !self.synced && !*key {
                continue;
            }
            let skipped = *seq - self.next;
            self.synced = true;
            self.skipped += skipped;
            self.delivered += 1;
            self.next = *seq + 1;
            return Next::Frame(Delivery { seq: *seq, key: *key, item: item.clone(), skipped });
        }
        if closed { Next::Closed } else { Next::Empty }
    }
    /// The next frame; `None` when the publisher is gone and everything was read. Cancel-safe.
    pub async fn next(&mut self) -> Option<Delivery<T>> {
        let inner = self.inner.clone();
        loop {
            let wake = inner.notify.notified();
            tokio::pin!(wake);
            wake.as_mut().enable();
            match self.try_next() {
                Next::Frame(d) => return Some(d),
                Next::Closed => return None,
                Next::Empty => {}
            }
            wake.await;
        }
    }
    pub fn counts(&self) -> Counts {
        Counts {
            published: self.inner.seq.load(SeqCst) - self.start,
            delivered: self.delivered,
            skipped: self.skipped,
        }
    }
}
impl<T> Drop for Subscriber<T> {
    fn drop(&mut self) {
        self.inner.seats.fetch_sub(1, SeqCst);
    }
}
