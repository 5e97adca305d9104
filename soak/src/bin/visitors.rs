//! Visitors, or viewers who stay, and nothing else: for `heap`, which counts what happens in its own
//! process, and for `ci/memcheck`, where the streamer runs under valgrind.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool talks to whoever runs it")]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use lensline_clients::{Faces, Stage};
use lensline_soak::churn::Churn;
use lensline_soak::crowd::{Crowd, Group};
use lensline_soak::run::rate;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;
use tokio::time::sleep;

#[derive(Debug, Parser)]
#[command(about = "Comes and goes at every stage, or stays until stdin ends")]
struct Arguments {
    /// The page of the Lensline, as http://127.0.0.1:8080/.
    #[arg(long)]
    target: String,
    /// Its camera, as rtsp://127.0.0.1:8554/sim.
    #[arg(long)]
    rtsp: String,
    /// Visitors.
    #[arg(long, default_value_t = 20)]
    joins: u64,
    /// Visitors a second.
    #[arg(long, default_value_t = 8.0, value_parser = rate)]
    rate: f64,
    /// Visitors that may be refused for a limit or for slowness (429, 503), as under valgrind.
    #[arg(long, default_value_t = 0)]
    refusals_max: u64,
    /// Viewers who stay, as webrtc=5, in the place of visitors. Prints a line when all see pictures,
    /// and ends with stdin.
    #[arg(long)]
    watch: Option<Group>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("visitors: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), String> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build();
    let client = client.map_err(|error| error.to_string())?;
    let http = format!("{}/", arguments.target.trim_end_matches('/'));
    let faces = Faces { http, rtsp: arguments.rtsp, client };
    match arguments.watch {
        Some(group) => watch(&faces, group).await,
        None => visit(faces, arguments.joins, arguments.rate, arguments.refusals_max).await?,
    }
    Ok(())
}

async fn watch(faces: &Faces, group: Group) {
    let (voices, _heard) = mpsc::unbounded_channel();
    let mut crowd = Crowd::gather(faces, &[group], &voices);
    while crowd.frames().values().filter(|frames| **frames > 0).count() < group.count {
        sleep(Duration::from_millis(500)).await;
    }
    println!("all watch");
    let mut stdin = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(_)) = stdin.next_line().await {}
}

async fn visit(faces: Faces, joins: u64, rate: f64, refusals_max: u64) -> Result<(), String> {
    let churn = Churn::start(faces, Stage::ALL.to_vec(), rate, Some(joins));
    while !(churn.is_done() && churn.all_are_back()) {
        sleep(Duration::from_millis(200)).await;
    }
    let tally = churn.tally();
    let all = churn.joins() + tally.refused;
    match tally.failed == 0 && tally.refused <= refusals_max && all == joins {
        true => Ok(()),
        false => Err(format!("visits went wrong: {tally:#?}")),
    }
}
