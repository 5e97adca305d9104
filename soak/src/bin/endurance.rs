//! Minutes to days: viewers of all kinds who stay, visitors who come and go for a while and stay away
//! for a while, and faults of the camera. What grows is told apart by what it grows with: the joins,
//! or the hours.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool talks to whoever runs it")]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use lensline_clients::Stage;
use lensline_soak::churn::Churn;
use lensline_soak::crowd::{Crowd, Group};
use lensline_soak::run::{Options, Run, RunError, exit_code, rate};
use tokio::time::Instant;

/// Visits of each stage before the baseline at rest.
const WARM_UP_VISITS: u64 = Stage::ALL.len() as u64;

/// How long they may take.
const WARM_UP_TIMEOUT: Duration = Duration::from_secs(120);

/// Visitors come and stay away in turns: so many turns of each in a run. However long it is, a turn is
/// several of the blocks that a trend is made of, so that joins and hours can be told apart.
const TURNS: u32 = 5;

/// How often the camera has a fault at most; it is another each time.
const FAULT_EVERY_MIN: Duration = Duration::from_secs(60);

/// How long a fault lasts; viewers do not give up meanwhile.
const FAULT_LENGTH: Duration = Duration::from_secs(4);

const FAULTS: [&str; 5] = ["freeze", "unplug", "slow", "garbage", "pts_jump"];

/// Faults of a configuration at most, spread over the run.
const FAULTS_MAX: u32 = 100;

#[derive(Debug, Parser)]
#[command(about = "Watches a Lensline for minutes or days; says what grows")]
struct Arguments {
    /// How long.
    #[arg(long, conflicts_with = "hours")]
    minutes: Option<f64>,
    /// How long; a day where neither is given.
    #[arg(long)]
    hours: Option<f64>,
    /// Viewers who stay, as webrtc=2,rtsp-tcp; the kinds are webrtc, websocket, webrtcbin (which
    /// decodes, and measures the latency), rtsp-tcp, rtsp-udp, recorder, chromium.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "webrtc,websocket,webrtcbin,rtsp-tcp,rtsp-udp,recorder"
    )]
    viewers: Vec<Group>,
    /// Visitors a second, while they come.
    #[arg(long, default_value_t = 4.0, value_parser = rate)]
    rate: f64,
    /// Leaves the simulated camera in peace.
    #[arg(long)]
    no_faults: bool,
    #[command(flatten)]
    options: Options,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    exit_code("endurance", run(Arguments::parse()).await)
}

async fn run(arguments: Arguments) -> Result<bool, RunError> {
    let length = arguments.length()?;
    let mut run = Run::begin("endurance", &arguments.options, &arguments.faults(length)).await?;
    let faces = run.target.faces.clone();
    let visitors = |joins| Churn::start(faces.clone(), Stage::ALL.to_vec(), arguments.rate, joins);
    println!("endurance: visits of every stage, then rest, for the baseline");
    run.churn = Some(visitors(Some(WARM_UP_VISITS)));
    run.watch(WARM_UP_TIMEOUT, Run::all_have_come).await?;
    run.see_off().await?;
    let before = run.rest().await?;
    println!("endurance: {:.1} minutes of viewers and visitors", length.as_secs_f64() / 60.0);
    run.crowd = Crowd::gather(&faces, &arguments.viewers, &run.voices);
    run.churn = Some(visitors(None));
    run.judged = true;
    let began = Instant::now();
    let turn = length / (2 * TURNS);
    run.watch(length, |run| {
        let away = began.elapsed().as_millis() / turn.as_millis().max(1) % 2 == 1;
        run.churn.iter().for_each(|churn| churn.pause(away));
        false
    })
    .await?;
    run.judged = false;
    run.crowd = Crowd::default();
    run.see_off().await?;
    let after = run.at_rest_by(before.as_ref()).await?;
    run.conclude(before, after).await
}

impl Arguments {
    fn length(&self) -> Result<Duration, RunError> {
        let minutes = self.minutes.or(self.hours.map(|hours| hours * 60.0)).unwrap_or(24.0 * 60.0);
        let length = Duration::try_from_secs_f64(minutes * 60.0).ok();
        let length = length.filter(|length| *length >= Duration::from_secs(60));
        length.ok_or_else(|| RunError::Option("--minutes is 1 at least: less says nothing".into()))
    }

    /// The camera's faults, as the configuration has them.
    fn faults(&self, length: Duration) -> String {
        if self.no_faults || self.options.target.is_some() {
            return String::new();
        }
        let every = FAULT_EVERY_MIN.max(length / FAULTS_MAX);
        let count = (length.as_secs_f64() / every.as_secs_f64()) as u32;
        let faults =
            (1..=count.min(FAULTS_MAX)).zip(FAULTS.iter().cycle()).map(|(number, kind)| {
                format!(
                    "{{ at_ms = {}, kind = \"{kind}\", for_ms = {} }}",
                    (every * number).as_millis(),
                    FAULT_LENGTH.as_millis()
                )
            });
        faults.collect::<Vec<_>>().join(", ")
    }
}
