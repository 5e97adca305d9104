//! `sim run`: a plan in tier A, from a seed.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::Failure;
use crate::chaos;
use crate::plan::{Plan, Tier};
use crate::search::{Cut, Keep};
use crate::tier_a::{self, Options, Run};

/// Carries a plan out in virtual time (tier A).
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The plan's file; of one with a grid, each case is carried out.
    pub plan: PathBuf,
    /// What everything random follows from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Writes every step to this file.
    #[arg(long)]
    pub trace: Option<PathBuf>,
    /// Keeps only these entries of the plan, as `sim search` prints them: v0,f1,c2,t3; v0:2 for
    /// two of that viewer; none for none.
    #[arg(long)]
    pub keep: Option<Keep>,
    /// Ends after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    pub until: Option<f64>,
}

/// Does it; whether nothing was broken.
///
/// # Errors
/// Where the plan is wrong, or a file cannot be written.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<bool, Failure> {
    let folder = args.plan.parent().unwrap_or(Path::new("."));
    let cut = Cut { keep: args.keep.clone(), until_s: args.until };
    let mut trace = match &args.trace {
        Some(file) => Some(BufWriter::new(std::fs::File::create(file)?)),
        None => None,
    };
    let keep = if trace.is_some() { tier_a::Keep::All } else { tier_a::Keep::Nothing };
    let mut holds = true;
    for case in Plan::read(&args.plan)?.cases(folder)? {
        if !case.runs_in(Tier::A) {
            return Err(Failure::Usage(format!("{} is not for tier A: see its tiers", case.name)));
        }
        let plan = cut.apply(&chaos::draw(&case, args.seed));
        let run = tier_a::run(&plan, args.seed, Options { keep, stop_at_violation: false })?;
        if let Some(trace) = &mut trace {
            run.trace.iter().try_for_each(|line| writeln!(trace, "{line}"))?;
        }
        tell(&run, out)?;
        holds &= run.violations.is_empty();
    }
    if let Some(trace) = &mut trace {
        trace.flush()?;
    }
    Ok(holds)
}

fn tell(run: &Run, out: &mut dyn Write) -> std::io::Result<()> {
    let record = &run.record;
    writeln!(
        out,
        "{}, seed {}: tier A, {} s",
        record.plan.name, record.seed, record.plan.duration_s
    )?;
    for (name, account) in &record.viewers {
        let first = account.first_frame_s.map_or("no picture".to_owned(), |first| {
            format!("first picture after {:.3} s", first - account.joined_s)
        });
        let longest = account.gaps.iter().map(|(_, ms)| *ms).fold(0.0, f64::max);
        write!(
            out,
            "  {name}: joins at {:.2} s, {first}, {} of {} pictures, longest gap {longest:.0} ms, \
             {} rejoins",
            account.joined_s, account.frames, account.published, account.rejoins
        )?;
        match &account.said {
            Some(said) => writeln!(out, ", {said}")?,
            None => writeln!(out)?,
        }
    }
    for undone in &record.undone {
        writeln!(out, "  not done: {undone}")?;
    }
    for violation in &run.violations {
        writeln!(out, "  VIOLATION at {violation}")?;
    }
    Ok(())
}
