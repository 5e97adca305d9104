//! The two that are compared: the distributor, and tokio's broadcast channel. Each with a frame of
//! the same size, and with readers of the same form.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use lensline::distributor::{self, Hub, Limits, Publisher};
use tokio::sync::broadcast::{self, Receiver, Sender};

/// What broadcast keeps; the distributor keeps as much where that is enough for its subscribers.
const RING_FRAMES: usize = 256;

pub type Frame = Arc<[u8]>;

pub fn frame() -> Frame {
    vec![7; 10_000].into()
}

/// A distributor with room for so many subscribers.
pub fn lensline(subscribers: usize) -> (Publisher<Frame>, Hub<Frame>) {
    let limits = Limits {
        ring_frames: (subscribers + 2).max(RING_FRAMES),
        subscribers_max: subscribers,
        lag_frames_max: 60,
        join_frames_max: 30,
    };
    distributor::channel(limits).unwrap()
}

/// A broadcast channel with so many receivers.
pub fn broadcast(receivers: usize) -> (Sender<Frame>, Vec<Receiver<Frame>>) {
    let (sender, _) = broadcast::channel(RING_FRAMES);
    let receivers = (0..receivers).map(|_| sender.subscribe()).collect();
    (sender, receivers)
}

/// Who read what there is and wait for more; a task each, without an executor around it.
pub struct Readers(Vec<Pin<Box<dyn Future<Output = ()>>>>);

impl Readers {
    /// Every seat of a distributor taken by one.
    pub fn of_lensline(hub: &Hub<Frame>, count: usize) -> Self {
        let readers = (0..count).map(|_| hub.subscribe().unwrap());
        Self::new(readers.map(|mut one| async move { while one.next().await.is_some() {} }))
    }

    /// One for each receiver of a broadcast channel.
    pub fn of_broadcast(receivers: Vec<Receiver<Frame>>) -> Self {
        let readers = receivers.into_iter();
        Self::new(readers.map(|mut one| async move { while one.recv().await.is_ok() {} }))
    }

    fn new(readers: impl Iterator<Item = impl Future<Output = ()> + 'static>) -> Self {
        Self(readers.map(|one| Box::pin(one) as Pin<Box<dyn Future<Output = ()>>>).collect())
    }

    /// Has each read what there is, and wait.
    pub fn read(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        for reader in &mut self.0 {
            assert!(reader.as_mut().poll(&mut context).is_pending());
        }
    }
}
