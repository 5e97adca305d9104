//! Where pipelines go to stop: a thread of their own, under a watchdog.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::IntCounter;

/// A teardown that takes longer than this counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// How often the watchdog and those who wait look.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Takes things whose drop may block, and drops each on a thread of its own.
///
/// A stuck GStreamer thread cannot be ended from outside. What can be done is to count it
/// ([`Teardowns::check`]) and, beyond a number, to end the process in good order.
#[derive(Clone, Debug)]
pub struct Teardowns {
    pending: Arc<Mutex<Vec<Pending>>>,
    stuck: IntCounter,
}

#[derive(Debug)]
struct Pending {
    id: u64,
    name: String,
    since: Instant,
    counted: bool,
}

impl Teardowns {
    /// None under way; what gets stuck is counted in `stuck`.
    pub fn new(stuck: IntCounter) -> Self {
        Self { pending: Arc::default(), stuck }
    }

    /// Drops `value` on a thread of its own. `name` is for the log.
    pub fn take<T: Send + 'static>(&self, name: &str, value: T) {
        let done = self.register(name);
        let spawned = std::thread::Builder::new().name("teardown".into()).spawn(move || {
            drop(value);
            drop(done);
        });
        // The closure, and with it the value, is dropped here where no thread could be had: late
        // on the wrong thread is better than never.
        if let Err(error) = spawned {
            tracing::error!(session = name, %error, "no thread for a teardown");
        }
    }

    /// Teardowns under way.
    pub fn pending(&self) -> usize {
        self.lock().len()
    }

    /// Counts and reports what has become stuck since the last look; how many are stuck now.
    pub fn check(&self) -> usize {
        let mut pending = self.lock();
        for one in pending.iter_mut().filter(|one| one.since.elapsed() > STUCK_AFTER) {
            if !one.counted {
                one.counted = true;
                self.stuck.inc();
                tracing::error!(session = one.name, "teardown is stuck");
            }
        }
        pending.iter().filter(|one| one.counted).count()
    }

    /// Waits until nothing is under way, at most `timeout`; whether that was reached.
    pub async fn finished(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while self.pending() > 0 {
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        true
    }

    fn register(&self, name: &str) -> super::Cleanup {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let id = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let since = Instant::now();
        self.lock().push(Pending { id, name: name.into(), since, counted: false });
        let pending = Arc::clone(&self.pending);
        super::Cleanup::new(move || {
            let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
            pending.retain(|one| one.id != id);
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
