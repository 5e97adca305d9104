//! Judges a run again by its report: with other budgets, or with a newer verdict.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool talks to whoever runs it")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use lensline_soak::budget::Budgets;
use lensline_soak::rows::{Event, Sample};
use lensline_soak::run::exit_code;
use lensline_soak::verdict::{Rest, judge};
use serde::Deserialize;

#[derive(Debug, Parser)]
#[command(about = "Judges a run again by its report.json")]
struct Arguments {
    /// The run's directory.
    directory: PathBuf,
    /// Other budgets than those of soak/budgets.toml.
    #[arg(long)]
    budgets: Option<PathBuf>,
    /// Fails also where too little was seen to be sure.
    #[arg(long)]
    strict: bool,
}

/// What of a report a verdict needs.
#[derive(Debug, Deserialize)]
struct Seen {
    samples: Vec<Sample>,
    events: Vec<Event>,
    rest: Option<Rest>,
}

fn main() -> ExitCode {
    exit_code("judge", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<bool, String> {
    let budgets = Budgets::read(arguments.budgets.as_deref()).map_err(|error| error.to_string())?;
    let file = arguments.directory.join("report.json");
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let text = std::fs::read_to_string(&file).map_err(|error| told(&error))?;
    let seen: Seen = serde_json::from_str(&text).map_err(|error| told(&error))?;
    let verdict = judge(&seen.samples, &seen.events, seen.rest.as_ref(), &budgets);
    print!("{verdict}");
    Ok(verdict.passes(arguments.strict))
}
