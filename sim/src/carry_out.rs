//! `sim run`: plans carried out, each with its report.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::plan::{Plan, PlanError, Tier};
use crate::record::Record;
use crate::report::{self, Outcome, ReportError};
use crate::tier_b;

/// Carries out plans, and writes a report of each.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
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
}

fn tier(text: &str) -> Result<Tier, String> {
    match text {
        "a" => Ok(Tier::A),
        "b" => Ok(Tier::B),
        _ => Err("there are the tiers a and b".into()),
    }
}

/// Why plans could not be carried out.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0}")]
    Plan(#[from] PlanError),
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    #[error("{0}")]
    Cell(#[from] tier_b::CellError),
    #[error("{0}")]
    Report(#[from] ReportError),
    #[error("there is no {0}: build it (cargo build --release), or say where it is by --lensline")]
    NoLensline(PathBuf),
    #[error("{0}: nothing of it runs in the tier asked for, or is called as asked for")]
    Nothing(String),
}

/// What came of all of it.
#[derive(Default)]
struct Tally {
    outcomes: BTreeMap<Outcome, usize>,
    /// Cases that could not be carried out.
    undone: usize,
}

/// Carries out plans. 0 where all holds, 1 where something is broken, 2 where a plan is wrong.
pub fn carry_out(arguments: &Arguments) -> ExitCode {
    match all(arguments) {
        Ok(code) => code,
        Err(error) => {
            say(&error.to_string());
            ExitCode::from(2)
        }
    }
}

fn all(arguments: &Arguments) -> Result<ExitCode, Error> {
    let cases = cases(arguments)?;
    let real = cases.iter().any(|(_, tier)| *tier == Tier::B);
    let cell = tier_b::inside();
    if real && cell.is_none() {
        lensline(arguments)?;
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
        one(arguments, plan, *tier, cell.as_deref().unwrap_or_default(), &stop, &mut tally)?;
    }
    finish(arguments, &tally)
}

/// What is to be carried out, with its tier.
fn cases(arguments: &Arguments) -> Result<Vec<(Plan, Tier)>, Error> {
    let mut cases = Vec::new();
    for file in files(&arguments.plans)? {
        let folder = file.parent().unwrap_or(Path::new("."));
        let tiers = |plan: &Plan| -> Vec<Tier> {
            let wanted = |tier: &Tier| arguments.tier.is_none_or(|only| only == *tier);
            plan.tiers.iter().copied().filter(wanted).collect()
        };
        for plan in Plan::read(&file)?.cases(folder)? {
            if plan.name.contains(&arguments.only) {
                cases.extend(tiers(&plan).into_iter().map(|tier| (plan.clone(), tier)));
            }
        }
    }
    if cases.is_empty() {
        let names: Vec<_> = arguments.plans.iter().map(|file| file.display().to_string()).collect();
        return Err(Error::Nothing(names.join(", ")));
    }
    Ok(cases)
}

/// The plans' files; those in lists in their place.
fn files(named: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for file in named {
        if file.extension().is_none_or(|extension| extension != "list") {
            files.push(file.clone());
            continue;
        }
        let text = fs::read_to_string(file).map_err(|error| Error::File(file.clone(), error))?;
        let names = text.lines().map(str::trim).filter(|name| !name.is_empty());
        files.extend(names.map(|name| file.with_file_name(format!("{name}.toml"))));
    }
    Ok(files)
}

/// The streamer's binary.
fn lensline(arguments: &Arguments) -> Result<PathBuf, Error> {
    let beside = || std::env::current_exe().map(|own| own.with_file_name("lensline"));
    let binary = match &arguments.lensline {
        Some(binary) => binary.clone(),
        None => beside().map_err(|error| Error::File("lensline".into(), error))?,
    };
    // Hosts and processes have other working directories.
    binary.canonicalize().map_err(|_| Error::NoLensline(binary))
}

/// One case in one tier.
fn one(
    arguments: &Arguments,
    plan: &Plan,
    tier: Tier,
    cell: &str,
    stop: &Arc<AtomicBool>,
    tally: &mut Tally,
) -> Result<(), Error> {
    let letter = if tier == Tier::A { "a" } else { "b" };
    let folder = arguments.out.join(format!("{}-{letter}", plan.name));
    let file = |error| Error::File(folder.clone(), error);
    fs::create_dir_all(&folder).map_err(file)?;
    let folder = folder.canonicalize().map_err(file)?;
    let drawn = plan;
    let record = match tier {
        Tier::A => return Ok(()),
        Tier::B => {
            let options = tier_b::Options {
                lensline: lensline(arguments)?,
                folder: folder.clone(),
                cell: cell.to_owned(),
                version: version(),
                stop: Arc::clone(stop),
            };
            tier_b::run(drawn, arguments.seed, &options)
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

fn judge(record: &Record, folder: &Path, tally: &mut Tally) -> Result<(), Error> {
    let verdict = report::judge(record);
    report::write(record, &verdict, folder)?;
    for group in report::Group::all(&verdict) {
        if group.outcome() != Outcome::Holds {
            say(&format!("    {}", group.line()));
        }
    }
    *tally.outcomes.entry(verdict.outcome).or_default() += 1;
    Ok(())
}

fn finish(arguments: &Arguments, tally: &Tally) -> Result<ExitCode, Error> {
    report::summary(&arguments.out)?;
    let count = |outcome| tally.outcomes.get(&outcome).copied().unwrap_or(0);
    let counts = Outcome::ALL.map(|outcome| format!("{} {}", count(outcome), outcome.as_str()));
    say(&format!(
        "{}, {} not carried out; {}",
        counts.join(", "),
        tally.undone,
        arguments.out.join("summary.html").display()
    ));
    let broken = count(Outcome::Broken) + tally.undone;
    Ok(if broken == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
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
