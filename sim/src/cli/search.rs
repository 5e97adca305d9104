//! `sim search`: seeds of a plan in tier A, until one breaks something.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use super::Failure;
use crate::plan::{Plan, Tier};
use crate::search::{Found, Item, Search};

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Looks for a seed that breaks an invariant in virtual time (tier A), and shrinks what it finds.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The plan's file, with `[chaos]` or without.
    pub plan: PathBuf,
    /// How many seeds.
    #[arg(long, default_value_t = 1_000)]
    pub seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    pub from: u64,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    pub jobs: usize,
    /// Goes on until so many seeds have broken something.
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    pub all: usize,
}

/// Does it; whether nothing was broken.
///
/// # Errors
/// Where the plan is wrong, or nothing can be written.
pub fn search(args: &Args, out: &mut (dyn Write + Send)) -> Result<bool, Failure> {
    let folder = args.plan.parent().unwrap_or(Path::new("."));
    let mut holds = true;
    for plan in Plan::read(&args.plan)?.cases(folder)? {
        if !plan.runs_in(Tier::A) {
            return Err(Failure::Usage(format!("{} is not for tier A: see its tiers", plan.name)));
        }
        let Args { seeds, from, jobs, all, .. } = *args;
        let told = Mutex::new((Instant::now(), &mut *out));
        let progress = |tried: u64| {
            if let Ok((last, out)) = told.lock().as_deref_mut()
                && last.elapsed() >= TELL_EVERY
            {
                *last = Instant::now();
                // Progress that cannot be told is no reason to stop.
                let _ = writeln!(out, "{tried} of {seeds} seeds").and_then(|()| out.flush());
            }
        };
        let searched = Search { plan: &plan, from, seeds, jobs, most: all }.run(&progress)?;
        for found in &searched.found {
            tell(found, &args.plan, out)?;
        }
        let rate = searched.seeds as f64 / searched.took.as_secs_f64().max(1e-3);
        writeln!(
            out,
            "{}: {} seeds in {:.1} s, {rate:.1} seeds a second, {} with violations",
            plan.name,
            searched.seeds,
            searched.took.as_secs_f64(),
            searched.found.len()
        )?;
        holds &= searched.found.is_empty();
    }
    Ok(holds)
}

fn tell(found: &Found, file: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    let Found { seed, cut, plan, violation, trace } = found;
    writeln!(out, "VIOLATION, seed {seed}, at {violation}")?;
    writeln!(out, "shrunk to {} s of:", plan.duration_s)?;
    let keep = cut.keep.clone().unwrap_or_default().0;
    let changes =
        plan.link.iter().flat_map(|(name, pair)| pair.change.iter().map(move |one| (name, one)));
    let (mut viewers, mut faults) = (plan.viewer.iter(), plan.fault.iter());
    let (mut changes, mut traffic) = (changes, plan.traffic.iter());
    for item in keep.keys() {
        let entry = match item {
            Item::Viewer(_) => viewers.next().map(|viewer| short(&viewer)),
            Item::Fault(_) => faults.next().map(|fault| short(&fault)),
            Item::Change(_) => changes.next().map(|change| short(&change)),
            Item::Traffic(_) => traffic.next().map(|traffic| short(&traffic)),
        };
        writeln!(out, "  {item} {}", entry.unwrap_or_default())?;
    }
    writeln!(out, "its last steps:")?;
    for step in trace {
        writeln!(out, "  {step}")?;
    }
    writeln!(out, "replay: sim run {} --tier a --seed {seed}{cut}", file.display())?;
    Ok(())
}

/// An entry of a plan in one line, without what it leaves out.
fn short(entry: &impl Serialize) -> String {
    fn tidy(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.values_mut().for_each(tidy);
                map.retain(|_, value| match value {
                    Value::Null | Value::Bool(false) => false,
                    Value::Object(map) => !map.is_empty(),
                    Value::Array(list) => !list.is_empty(),
                    _ => true,
                });
            }
            Value::Array(list) => list.iter_mut().for_each(tidy),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(entry).unwrap_or_default();
    tidy(&mut value);
    value.to_string()
}
