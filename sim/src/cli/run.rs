//! `sim run`: plans carried out, each with its report.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Failure;
use crate::chaos;
use crate::plan::{Plan, Tier};
use crate::record::Record;
use crate::report::{self, Outcome};
use crate::search::{Cut, Keep};
use crate::{tier_a, tier_b};

/// Carries out plans, and writes a report of each.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The plans' files; a file that ends in .list names one plan beside it a line.
    #[arg(required = true)]
    plans: Vec<PathBuf>,
    /// In this tier only; in each that the plan names where it is left out.
    #[arg(long, value_parser = tier)]
    tier: Option<Tier>,
    /// What is drawn at random follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the reports go: a folder of its own for each case.
    #[arg(long, default_value = "target/sim")]
    out: PathBuf,
    /// The streamer; the one beside this program where it is left out.
    #[arg(long)]
    lensline: Option<PathBuf>,
    /// Only cases whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Keeps only these entries of the plan, as `sim search` prints them: v0,f1,c2,t3; v0:2 for
    /// two of that viewer; none for none.
    #[arg(long)]
    keep: Option<Keep>,
    /// Ends after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    until: Option<f64>,
    /// Writes every step to this file; of one case, in tier A.
    #[arg(long)]
    trace: Option<PathBuf>,
}

fn tier(text: &str) -> Result<Tier, String> {
    match text {
        "a" => Ok(Tier::A),
        "b" => Ok(Tier::B),
        _ => Err("there are the tiers a and b".into()),
    }
}

/// What shells say of a program that SIGINT has ended.
const INTERRUPTED: u8 = 130;

/// What came of all of it.
#[derive(Default)]
struct Tally {
    outcomes: BTreeMap<Outcome, usize>,
    /// Cases that could not be carried out.
    undone: usize,
}

/// Does it. 0 where all holds but what is known to be missing, 130 where it was interrupted, else 1.
///
/// # Errors
/// Where a plan is wrong, or there can be no tier B.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let cases = cases(args)?;
    let real = cases.iter().any(|(_, tier)| *tier == Tier::B);
    if args.trace.is_some() && (real || cases.len() > 1) {
        return Err(Failure::Usage("--trace is for one case in tier A: see --tier, --only".into()));
    }
    let cell = tier_b::inside();
    if real && cell.is_none() {
        lensline(args)?;
        return Ok(tier_b::outside(
            std::env::args_os().skip(1).collect::<Vec<OsString>>().into_iter(),
        )?);
    }
    let stop = if cell.is_some() { tier_b::told_to_stop() } else { Arc::default() };
    let mut tally = Tally::default();
    for (number, (plan, tier)) in cases.iter().enumerate() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        say(&format!(
            "[{}/{}] {} in tier {}, {} s",
            number + 1,
            cases.len(),
            plan.name,
            if *tier == Tier::A { "A" } else { "B" },
            plan.duration_s
        ));
        one(args, plan, *tier, cell.as_deref().unwrap_or_default(), &stop, &mut tally)?;
    }
    if stop.load(Ordering::Relaxed) {
        say("stopped before the end");
        return Ok(ExitCode::from(INTERRUPTED));
    }
    finish(args, &tally)
}

/// What is to be carried out, with its tier.
fn cases(args: &Args) -> Result<Vec<(Plan, Tier)>, Failure> {
    let mut cases = Vec::new();
    for file in files(&args.plans)? {
        let folder = file.parent().unwrap_or(Path::new("."));
        let tiers = |plan: &Plan| -> Vec<Tier> {
            let wanted = |tier: &Tier| args.tier.is_none_or(|only| only == *tier);
            plan.tiers.iter().copied().filter(wanted).collect()
        };
        for plan in Plan::read(&file)?.cases(folder)? {
            if plan.name.contains(&args.only) {
                cases.extend(tiers(&plan).into_iter().map(|tier| (plan.clone(), tier)));
            }
        }
    }
    let mut names = BTreeSet::new();
    if let Some((plan, tier)) = cases.iter().find(|(plan, tier)| !names.insert((&plan.name, *tier)))
    {
        let twice = format!("{}: two are called so (tier {tier:?}), for one report", plan.name);
        return Err(Failure::Usage(twice));
    }
    if cases.is_empty() {
        let names: Vec<_> = args.plans.iter().map(|file| file.display().to_string()).collect();
        return Err(Failure::Usage(format!(
            "{}: nothing of it runs in the tier asked for, or is called as asked for",
            names.join(", ")
        )));
    }
    Ok(cases)
}

/// The plans' files; those in lists in their place.
fn files(named: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for file in named {
        if file.extension().is_none_or(|extension| extension != "list") {
            files.push(file.clone());
            continue;
        }
        let text = fs::read_to_string(file).map_err(|error| Failure::File(file.clone(), error))?;
        let names = text.lines().map(str::trim);
        let names = names.filter(|name| !name.is_empty() && !name.starts_with('#'));
        files.extend(names.map(|name| file.with_file_name(format!("{name}.toml"))));
    }
    Ok(files)
}

/// The streamer's binary.
fn lensline(args: &Args) -> Result<PathBuf, Failure> {
    let beside = || std::env::current_exe().map(|own| own.with_file_name("lensline"));
    let binary = match &args.lensline {
        Some(binary) => binary.clone(),
        None => beside().map_err(|error| Failure::File("lensline".into(), error))?,
    };
    // Hosts and processes have other working directories.
    binary.canonicalize().map_err(|_| {
        Failure::Usage(format!(
            "there is no {}: build it (cargo build --bin lensline, with --release where sim is), or \
             say where it is by --lensline",
            binary.display()
        ))
    })
}

/// One case in one tier.
fn one(
    args: &Args,
    plan: &Plan,
    tier: Tier,
    cell: &str,
    stop: &Arc<AtomicBool>,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let letter = if tier == Tier::A { "a" } else { "b" };
    let folder = args.out.join(format!("{}-{letter}", plan.name));
    let file = |error| Failure::File(folder.clone(), error);
    fs::create_dir_all(&folder).map_err(file)?;
    let folder = folder.canonicalize().map_err(file)?;
    // What is there is of another run.
    for old in ["report.json", "report.html"] {
        let _ = fs::remove_file(folder.join(old));
    }
    let cut = Cut { keep: args.keep.clone(), until_s: args.until };
    let drawn = cut.apply(&chaos::draw(plan, args.seed));
    let record = match tier {
        Tier::A => virtually(args, &drawn),
        Tier::B => {
            let options = tier_b::Options {
                lensline: lensline(args)?,
                folder: folder.clone(),
                cell: cell.to_owned(),
                version: version(),
                stop: Arc::clone(stop),
            };
            tier_b::run(&drawn, args.seed, &options).map_err(Failure::from)
        }
    };
    match record {
        Ok(record) => judge(&record, &folder, tally),
        Err(error) => {
            say(&format!("    could not be carried out: {error}"));
            tally.undone += 1;
            Ok(())
        }
    }
}

/// In tier A.
fn virtually(args: &Args, plan: &Plan) -> Result<Record, Failure> {
    let keep = if args.trace.is_some() { tier_a::Keep::All } else { tier_a::Keep::Nothing };
    let run = tier_a::run(plan, args.seed, tier_a::Options { keep, stop_at_violation: false })?;
    if let Some(path) = &args.trace {
        let file = |error| Failure::File(path.clone(), error);
        let mut trace = BufWriter::new(fs::File::create(path).map_err(file)?);
        run.trace.iter().try_for_each(|line| writeln!(trace, "{line}")).map_err(file)?;
        trace.flush().map_err(file)?;
    }
    Ok(run.record)
}

fn judge(record: &Record, folder: &Path, tally: &mut Tally) -> Result<(), Failure> {
    let verdict = report::judge(record);
    report::write(record, &verdict, folder)?;
    for undone in &record.undone {
        say(&format!("    not done: {undone}"));
    }
    for group in report::Group::all(&verdict) {
        if group.outcome() != Outcome::Holds {
            say(&format!("    {}: {}", group.outcome().as_str(), group.line()));
        }
    }
    *tally.outcomes.entry(verdict.outcome).or_default() += 1;
    Ok(())
}

fn finish(args: &Args, tally: &Tally) -> Result<ExitCode, Failure> {
    report::summary(&args.out)?;
    let count = |outcome| tally.outcomes.get(&outcome).copied().unwrap_or(0);
    let counts = Outcome::ALL.map(|outcome| format!("{} {}", count(outcome), outcome.as_str()));
    say(&format!(
        "{}, {} not carried out; {}",
        counts.join(", "),
        tally.undone,
        args.out.join("summary.html").display()
    ));
    // What could not be found out is no success either.
    let bad = count(Outcome::Broken) + count(Outcome::Unclear) + tally.undone;
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// What the working tree is, where it is one.
fn version() -> String {
    let said = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let said = said.ok().filter(|said| said.status.success());
    said.map_or("unknown".into(), |said| String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

fn say(line: &str) {
    // Who no longer listens misses nothing that is not in the reports.
    let _ = writeln!(io::stderr().lock(), "{line}");
}
