//! Looks for a seed that breaks an invariant in tier A, and leaves out of its plan what does not
//! matter (delta debugging: Zeller and Hildebrandt 2002, over the items of the plan).

mod cut;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::chaos;
use crate::plan::{Plan, PlanError};
use crate::tier_a::{self, Options, Rule, Violation};

pub use cut::{Cut, CutError, Item, Keep};

/// Steps that are shown before a violation.
const STEPS_SHOWN: usize = 40;

/// What is left of a plan after its violation.
const AFTER_S: f64 = 0.1;

/// What is looked for where.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// The plan, with or without `[chaos]`.
    pub plan: &'a Plan,
    /// The first seed.
    pub from: u64,
    /// How many.
    pub seeds: u64,
    /// Threads.
    pub jobs: usize,
    /// How many seeds with violations end it.
    pub most: usize,
}

/// A seed that breaks something, and what it takes.
#[derive(Clone, Debug)]
pub struct Found {
    /// The seed.
    pub seed: u64,
    /// What is kept of what the seed draws.
    pub cut: Cut,
    /// That plan.
    pub plan: Plan,
    /// What is broken in it.
    pub violation: Violation,
    /// The last steps before.
    pub trace: Vec<String>,
}

/// What came of a search.
#[derive(Clone, Debug)]
pub struct Searched {
    /// Seeds that were tried.
    pub seeds: u64,
    /// How long that took, without the shrinking.
    pub took: Duration,
    /// By seed.
    pub found: Vec<Found>,
}

impl Search<'_> {
    /// Tries the seeds in order; `progress` is told, now and then, how many were tried.
    ///
    /// # Errors
    /// Where the plan cannot be carried out.
    pub fn run(&self, progress: &(dyn Fn(u64) + Sync)) -> Result<Searched, PlanError> {
        self.run_with(&first_violation, progress)
    }

    fn run_with(
        &self,
        oracle: Oracle<'_>,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Searched, PlanError> {
        let (next, tried, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        let results = Mutex::new(Vec::new());
        let lock = || results.lock().unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        let work = || {
            while !over.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= self.seeds {
                    break;
                }
                let seed = self.from + number;
                match oracle(&chaos::draw(self.plan, seed), seed) {
                    Ok(None) => {}
                    result => {
                        let mut results = lock();
                        results.push((seed, result));
                        over.store(results.len() >= self.most.max(1), Ordering::Relaxed);
                    }
                }
                progress(tried.fetch_add(1, Ordering::Relaxed) + 1);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(work);
            }
        });
        let took = began.elapsed();
        let mut results = std::mem::take(&mut *lock());
        results.sort_by_key(|(seed, _)| *seed);
        let mut found = Vec::new();
        for (seed, result) in results.into_iter().take(self.most.max(1)) {
            if let Some(violation) = result? {
                found.push(shrink(&chaos::draw(self.plan, seed), seed, violation, oracle)?);
            }
        }
        Ok(Searched { seeds: tried.into_inner(), took, found })
    }
}

/// Says what a seed of a plan breaks first.
type Oracle<'a> = &'a (dyn Fn(&Plan, u64) -> Result<Option<Violation>, PlanError> + Sync);

fn first_violation(plan: &Plan, seed: u64) -> Result<Option<Violation>, PlanError> {
    let options = Options { stop_at_violation: true, ..Options::default() };
    Ok(tier_a::run(plan, seed, options)?.violations.into_iter().next())
}

/// A plan on its way to what it takes to break a rule.
struct Shrinking<'a> {
    oracle: Oracle<'a>,
    plan: &'a Plan,
    seed: u64,
    rule: Rule,
    cut: Cut,
    violation: Violation,
}

/// Leaves out of `plan` what it does not take to break the rule that is broken.
fn shrink(
    plan: &Plan,
    seed: u64,
    violation: Violation,
    oracle: Oracle<'_>,
) -> Result<Found, PlanError> {
    let cut = Cut { keep: Some(Keep::all(plan)), until_s: None };
    let mut shrinking = Shrinking { oracle, plan, seed, rule: violation.rule, cut, violation };
    shrinking.end_early()?;
    loop {
        let before = shrinking.cut.clone();
        shrinking.leave_out()?;
        shrinking.leave_out_copies()?;
        shrinking.end_early()?;
        if shrinking.cut == before {
            break;
        }
    }
    let Shrinking { cut, violation, .. } = shrinking;
    let left = cut.apply(plan);
    let options = Options { keep: tier_a::Keep::Last(STEPS_SHOWN), stop_at_violation: true };
    let trace = tier_a::run(&left, seed, options)?.trace;
    Ok(Found { seed, cut, plan: left, violation, trace })
}

impl Shrinking<'_> {
    /// Takes `cut` where the rule is broken with it as well; whether it is.
    fn accept(&mut self, cut: Cut) -> Result<bool, PlanError> {
        let violation = (self.oracle)(&cut.apply(self.plan), self.seed)?;
        let Some(violation) = violation.filter(|violation| violation.rule == self.rule) else {
            return Ok(false);
        };
        (self.cut, self.violation) = (cut, violation);
        Ok(true)
    }

    fn keep(&self) -> Keep {
        self.cut.keep.clone().unwrap_or_default()
    }

    /// Halves of the items, then quarters, down to single ones.
    fn leave_out(&mut self) -> Result<(), PlanError> {
        let mut size = self.keep().0.len().div_ceil(2);
        while size > 0 {
            let items: Vec<_> = self.keep().0.into_keys().collect();
            let mut less = false;
            for some in items.chunks(size) {
                let mut keep = self.keep();
                some.iter().for_each(|item| {
                    keep.0.remove(item);
                });
                less |= self.accept(Cut { keep: Some(keep), ..self.cut })?;
            }
            if !less {
                size /= 2;
            }
            size = size.min(self.keep().0.len());
        }
        Ok(())
    }

    /// Of entries that stand for many, fewer.
    fn leave_out_copies(&mut self) -> Result<(), PlanError> {
        for item in self.keep().0.into_keys() {
            let all = match item {
                Item::Viewer(number) => self.plan.viewer.get(number).map(|viewer| viewer.count),
                Item::Traffic(number) => self.plan.traffic.get(number).map(|one| one.count),
                Item::Fault(_) | Item::Change(_) => None,
            };
            let mut count = self.keep().0.get(&item).copied().flatten().or(all).unwrap_or(1);
            while count > 1 {
                let mut accepted = None;
                for fewer in [count / 2, count - 1] {
                    let mut keep = self.keep();
                    keep.0.insert(item, Some(fewer));
                    if self.accept(Cut { keep: Some(keep), ..self.cut })? {
                        accepted = Some(fewer);
                        break;
                    }
                }
                let Some(fewer) = accepted else { break };
                count = fewer;
            }
        }
        Ok(())
    }

    /// Just after the violation.
    fn end_early(&mut self) -> Result<(), PlanError> {
        let end = ((self.violation.at.as_secs_f64() + AFTER_S) * 10.0).ceil() / 10.0;
        if self.cut.until_s.unwrap_or(self.plan.duration_s) > end {
            self.accept(Cut { until_s: Some(end), ..self.cut.clone() })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
