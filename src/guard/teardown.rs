//! Where pipelines go to stop: a thread of their own, under a watchdog.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::IntCounter;

/// A teardown that takes longer than this counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// How often who waits for the end of all looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Takes things whose drop may block, and drops each on a thread of its own.
///
/// A stuck GStreamer thread cannot be ended from outside. What can be done is to count it
/// ([`Teardowns::check`]) and, beyond a number, to end the process in good order. Cheap to clone;
/// all clones are one.
#[derive(Clone, Debug)]
pub struct Teardowns {
    pending: Arc<Mutex<Vec<Pending>>>,
    stuck: IntCounter,
    stuck_after: Duration,
    spawn: fn(Job) -> io::Result<()>,
}

/// What drops the value; it is gone from the list of those under way when it is dropped itself.
type Job = Box<dyn FnOnce() + Send>;

struct Pending {
    id: u64,
    name: String,
    since: Instant,
    counted: bool,
    /// The job, until a thread has taken it.
    job: Arc<Mutex<Option<Job>>>,
}

impl Teardowns {
    /// None under way; what gets stuck is counted in `stuck`.
    pub fn new(stuck: IntCounter) -> Self {
        Self { pending: Arc::default(), stuck, stuck_after: STUCK_AFTER, spawn }
    }

    /// Drops `value` on a thread of its own. `name` is for the log.
    ///
    /// Where no thread can be had, `value` is kept for [`Teardowns::check`] to try again: it is
    /// never dropped on the thread that calls, which may be one that must not block.
    pub fn take<T: Send + 'static>(&self, name: &str, value: T) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let done = self.remover(id);
        let job: Job = Box::new(move || {
            // Also where dropping the value panics, `done` goes after it.
            let _done = done;
            drop(value);
        });
        let job = Arc::new(Mutex::new(Some(job)));
        let since = Instant::now();
        let one = Pending { id, name: name.into(), since, counted: false, job: Arc::clone(&job) };
        lock(&self.pending).push(one);
        self.start(name, job);
    }

    /// Teardowns under way.
    pub fn pending(&self) -> usize {
        lock(&self.pending).len()
    }

    /// Counts and reports what has become stuck since the last look, and tries again where there
    /// was no thread; how many are stuck now.
    pub fn check(&self) -> usize {
        let waiting: Vec<_> = lock(&self.pending)
            .iter()
            .filter(|one| lock(&one.job).is_some())
            .map(|one| (one.name.clone(), Arc::clone(&one.job)))
            .collect();
        for (name, job) in waiting {
            self.start(&name, job);
        }
        let mut pending = lock(&self.pending);
        for one in pending.iter_mut().filter(|one| one.since.elapsed() > self.stuck_after) {
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
        let since = Instant::now();
        while self.pending() > 0 {
            if since.elapsed() > timeout {
                return false;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        true
    }

    /// Gives the job to a thread. Two that try at a time do no harm: one finds it taken.
    fn start(&self, name: &str, job: Arc<Mutex<Option<Job>>>) {
        let spawned = (self.spawn)(Box::new(move || {
            // Out of the lock before it runs, which may take for ever.
            let job = lock(&job).take();
            if let Some(job) = job {
                job();
            }
        }));
        if let Err(error) = spawned {
            tracing::error!(session = name, %error, "no thread for a teardown yet");
        }
    }

    /// Takes `id` off the list when dropped.
    fn remover(&self, id: u64) -> super::Cleanup {
        let pending = Arc::clone(&self.pending);
        super::Cleanup::new(move || lock(&pending).retain(|one| one.id != id))
    }
}

fn spawn(job: Job) -> io::Result<()> {
    std::thread::Builder::new().name("teardown".into()).spawn(job).map(drop)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("name", &self.name)
            .field("since", &self.since)
            .field("counted", &self.counted)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};
    use std::thread::ThreadId;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn teardowns() -> Teardowns {
        Teardowns::new(IntCounter::new("stuck", "Stuck").unwrap())
    }

    /// A value whose drop tells where it happens, and a way to hold that drop up.
    fn held() -> (super::super::Cleanup, std::sync::mpsc::Sender<()>, Receiver<ThreadId>) {
        let (let_go, release) = channel();
        let (tell, dropped) = channel();
        let (release, tell) = (Mutex::new(release), Mutex::new(tell));
        let value = super::super::Cleanup::new(move || {
            let _ = lock(&release).recv_timeout(PATIENCE);
            let _ = lock(&tell).send(std::thread::current().id());
        });
        (value, let_go, dropped)
    }

    #[tokio::test]
    async fn a_value_is_dropped_elsewhere_and_whoever_waits_hears_of_it() {
        let teardowns = teardowns();
        let (value, let_go, dropped) = held();
        teardowns.take("one", value);
        assert_eq!(teardowns.pending(), 1);
        assert_eq!(teardowns.check(), 0, "it has only just begun");
        let_go.send(()).unwrap();
        assert!(teardowns.finished(PATIENCE).await);
        assert_ne!(dropped.recv_timeout(PATIENCE).unwrap(), std::thread::current().id());
        assert_eq!(teardowns.pending(), 0);
    }

    #[tokio::test]
    async fn one_that_is_stuck_is_counted_once_and_waited_for_no_longer_than_asked() {
        let teardowns = Teardowns { stuck_after: Duration::ZERO, ..teardowns() };
        let (value, let_go, _dropped) = held();
        teardowns.take("stuck", value);
        assert!(!teardowns.finished(Duration::from_millis(1)).await);
        assert_eq!((teardowns.check(), teardowns.check()), (1, 1));
        assert_eq!(teardowns.stuck.get(), 1);
        let_go.send(()).unwrap();
        assert!(teardowns.finished(Duration::MAX).await);
        assert_eq!((teardowns.check(), teardowns.stuck.get()), (0, 1));
    }

    #[tokio::test]
    async fn a_drop_that_panics_is_not_under_way_for_ever() {
        let teardowns = teardowns();
        let value = super::super::Cleanup::new(|| panic!("as this test wants it"));
        teardowns.take("panics", value);
        assert!(teardowns.finished(PATIENCE).await);
    }

    #[tokio::test]
    async fn without_a_thread_the_value_is_kept_and_not_dropped_by_the_caller() {
        let none = |_| Err(io::Error::from(io::ErrorKind::WouldBlock));
        let mut teardowns = Teardowns { spawn: none, ..teardowns() };
        let (value, let_go, dropped) = held();
        let_go.send(()).unwrap();
        teardowns.take("early", value);
        assert_eq!((teardowns.check(), teardowns.pending()), (0, 1));
        assert!(dropped.try_recv().is_err(), "dropped although there was no thread");
        teardowns.spawn = spawn;
        assert_eq!(teardowns.check(), 0);
        assert!(teardowns.finished(PATIENCE).await);
        assert_ne!(dropped.recv_timeout(PATIENCE).unwrap(), std::thread::current().id());
    }
}
