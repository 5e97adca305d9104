//! One signal that everybody who runs waits for: stop now.

use tokio::sync::watch;

/// The side that says stop. Dropping it says stop too.
#[derive(Debug)]
pub struct Shutdown {
    sender: watch::Sender<bool>,
}

/// The side that hears it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stopping {
    receiver: watch::Receiver<bool>,
}

impl Shutdown {
    /// A signal nobody has given yet.
    pub fn new() -> Self {
        Self { sender: watch::Sender::new(false) }
    }

    /// An ear for the signal.
    pub fn listen(&self) -> Stopping {
        Stopping { receiver: self.sender.subscribe() }
    }

    /// Says stop, to everybody, for good.
    pub fn stop(&self) {
        self.sender.send_replace(true);
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Stopping {
    /// Whether the signal was given.
    pub fn is_stopping(&self) -> bool {
        *self.receiver.borrow() || self.receiver.has_changed().is_err()
    }

    /// Resolves when the signal is given, or at once if it was.
    pub async fn wait(&mut self) {
        // An error means that the side that says stop is gone, which says stop.
        let _ = self.receiver.wait_for(|stopping| *stopping).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_hears_it_also_who_listens_late() {
        let shutdown = Shutdown::new();
        let mut early = shutdown.listen();
        assert!(!early.is_stopping());
        shutdown.stop();
        early.wait().await;
        let mut late = shutdown.listen();
        late.wait().await;
        assert!(late.is_stopping());
    }

    #[tokio::test]
    async fn dropping_the_signal_gives_it() {
        let shutdown = Shutdown::new();
        let mut ear = shutdown.listen();
        drop(shutdown);
        ear.wait().await;
        assert!(ear.is_stopping());
    }
}
