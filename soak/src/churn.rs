//! Visitors who come and go, at a given rate, at every stage.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lensline_clients::{Faces, JoinError, Stage};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Visitors under way at most; one more is not sent before one is back.
const UNDER_WAY_MAX: usize = 48;

/// No visit takes longer, whatever the target does or does not do.
const VISIT_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest that a visitor stays at its stage.
const LINGER_MAX: Duration = Duration::from_millis(400);

/// The last few visits that were refused or went wrong are kept in words.
const PROBLEMS_MAX: usize = 20;

/// What became of the visitors.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tally {
    /// By stage.
    pub visits: BTreeMap<&'static str, u64>,
    /// Refused for want of a camera or by a limit (409, 429, 503): neither a join nor a fault.
    pub refused: u64,
    /// Not let in, or shown nothing, otherwise.
    pub failed: u64,
    /// Of both, the last few in words.
    pub problems: Vec<String>,
}

/// Sends visitors until it is dropped or has sent all.
#[derive(Debug)]
pub struct Churn {
    state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    faces: Faces,
    stages: Vec<Stage>,
    paused: AtomicBool,
    /// Visitors who were served and are back.
    back: AtomicU64,
    under_way: Arc<Semaphore>,
    tally: Mutex<Tally>,
}

impl Churn {
    /// Begins to send `rate_per_s` visitors, one for each of `stages` in turn, `joins` in all where
    /// that is given.
    pub fn start(faces: Faces, stages: Vec<Stage>, rate_per_s: f64, joins: Option<u64>) -> Self {
        let state = Arc::new(State {
            faces,
            stages,
            paused: AtomicBool::new(false),
            back: AtomicU64::new(0),
            under_way: Arc::new(Semaphore::new(UNDER_WAY_MAX)),
            tally: Mutex::default(),
        });
        let task = tokio::spawn(send(Arc::clone(&state), rate_per_s, joins));
        Self { state, task }
    }

    /// Visitors who have come and gone.
    pub fn joins(&self) -> u64 {
        self.state.back.load(Ordering::Relaxed)
    }

    /// Sends nobody for the time being, or goes on.
    pub fn pause(&self, paused: bool) {
        self.state.paused.store(paused, Ordering::Relaxed);
    }

    /// Whether all have been sent.
    pub fn is_done(&self) -> bool {
        self.task.is_finished()
    }

    /// What became of them so far.
    pub fn tally(&self) -> Tally {
        self.state.lock().clone()
    }

    /// Sends nobody more.
    pub fn stop(&self) {
        self.task.abort();
    }

    /// Whether nobody is under way.
    pub fn all_are_back(&self) -> bool {
        self.state.under_way.available_permits() == UNDER_WAY_MAX
    }
}

impl Drop for Churn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, stage: Stage, visit: Result<(), JoinError>) {
        let mut tally = self.lock();
        match visit {
            Ok(()) => {
                *tally.visits.entry(stage.name()).or_default() += 1;
                self.back.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                match error {
                    // No camera just now, or a limit: the contract's answers.
                    JoinError::Refused { status: 409 | 429 | 503, .. } => tally.refused += 1,
                    _ => tally.failed += 1,
                }
                tally.problems.push(format!("{}: {error:?}", stage.name()));
                let over = tally.problems.len().saturating_sub(PROBLEMS_MAX);
                tally.problems.drain(..over);
            }
        }
    }
}

async fn send(state: Arc<State>, rate_per_s: f64, joins: Option<u64>) {
    let mut ticks = interval(Duration::from_secs_f64(1.0 / rate_per_s));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for (sent, stage) in (0..).zip(state.stages.iter().cycle().copied()) {
        if joins.is_some_and(|joins| sent >= joins) {
            break;
        }
        ticks.tick().await;
        while state.paused.load(Ordering::Relaxed) {
            ticks.tick().await;
        }
        let Ok(permit) = Arc::clone(&state.under_way).acquire_owned().await else { return };
        let visitor = Arc::clone(&state);
        tokio::spawn(async move {
            let linger = LINGER_MAX.mul_f64(fastrand::f64());
            let faces = visitor.faces.clone();
            let visit = tokio::spawn(async move { stage.visit(&faces, linger).await });
            let abort = visit.abort_handle();
            let visit = match timeout(VISIT_TIMEOUT, visit).await {
                Ok(Ok(visit)) => visit,
                Ok(Err(panic)) => Err(JoinError::Failed(panic.to_string())),
                Err(_) => Err(JoinError::Failed(format!("not over in {VISIT_TIMEOUT:?}"))),
            };
            abort.abort();
            visitor.note(stage, visit);
            drop(permit);
        });
    }
}
