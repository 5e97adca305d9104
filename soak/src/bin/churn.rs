//! So many joins at so many a second, over WHEP, WebSocket signalling and RTSP, leaving at every stage,
//! politely or by vanishing; then rest. Nothing may be held that was not held before, and memory
//! must not grow by the join.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool talks to whoever runs it")]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use lensline_clients::Stage;
use lensline_soak::churn::Churn;
use lensline_soak::run::{Options, Run, RunError, exit_code, rate};

/// Visits before the baseline: pools are filled, plugins are loaded. Three of each stage.
const WARM_UP_VISITS: u64 = 3 * Stage::ALL.len() as u64;

/// How long visitors may take over what their rate says.
const OVERTIME: Duration = Duration::from_secs(600);

#[derive(Debug, Parser)]
#[command(about = "Joins and leaves at every stage; says what stays behind")]
struct Arguments {
    /// Visitors.
    #[arg(long, default_value_t = 1_000)]
    joins: u64,
    /// Visitors a second.
    #[arg(long, default_value_t = 8.0, value_parser = rate)]
    rate: f64,
    #[command(flatten)]
    options: Options,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    exit_code("churn", run(Arguments::parse()).await)
}

async fn run(arguments: Arguments) -> Result<bool, RunError> {
    let mut run = Run::begin("churn", &arguments.options, "").await?;
    let visitors = |run: &Run, joins| {
        Churn::start(run.target.faces.clone(), Stage::ALL.to_vec(), arguments.rate, Some(joins))
    };
    run.churn = Some(visitors(&run, WARM_UP_VISITS));
    run.watch(OVERTIME, Run::all_have_come).await?;
    run.see_off().await?;
    let before = run.rest().await?;
    run.churn = Some(visitors(&run, arguments.joins));
    run.judged = true;
    let length = OVERTIME + Duration::from_secs_f64(arguments.joins as f64 / arguments.rate);
    run.watch(length, Run::all_have_come).await?;
    run.judged = false;
    run.see_off().await?;
    let after = run.at_rest_by(before.as_ref()).await?;
    run.conclude(before, after).await
}
