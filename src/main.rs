//! The program: arguments, configuration, run, exit code.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use lensline::cli::{self, Arguments, Command};
use lensline::config::Loaded;
use lensline::error::Error;

/// Threads for everything that is not a GStreamer pipeline: signalling, timers, HTTP.
const WORKERS: usize = 2;

/// How long blocking tasks may take to end after everything was told to stop.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let one_arena = lensline::memory::use_one_arena();
    let mut log = None;
    let outcome = match Arguments::parse().command {
        Command::Run(arguments) => arguments.config().and_then(|loaded| {
            let load = Box::new(move || arguments.config().map(|loaded| loaded.config));
            log = Some(lensline::log::init(&loaded.config.log)?);
            if !one_arena {
                tracing::info!("this C library has no arenas to limit");
            }
            stream(loaded, load)
        }),
        Command::Check { config } => cli::check(config.as_deref()),
        Command::Probe { json } => init_gstreamer().and_then(|()| cli::probe(json)),
        Command::Config => cli::example(),
        Command::HashPassword { digest } => cli::hash_password(digest.as_deref()),
    };
    let code = match &outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => conclude(error),
    };
    drop(log);
    code
}

/// Says why it ends: in the log, or plainly where none is kept.
fn conclude(error: &Error) -> ExitCode {
    if tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!("{error}");
    } else {
        // Where stderr is gone as well, the exit code is all that can be said.
        let _ = writeln!(std::io::stderr(), "{error}");
    }
    error.exit_code()
}

fn stream(mut loaded: Loaded, load: lensline::app::Load) -> Result<(), Error> {
    init_gstreamer()?;
    loaded.config = cli::with_camera(loaded.config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("tokio")
        .enable_all()
        .build()
        .map_err(|error| Error::Internal(format!("no threads to run on: {error}")))?;
    let outcome = runtime.block_on(lensline::app::run(loaded, load));
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    outcome
}

fn init_gstreamer() -> Result<(), Error> {
    gst::init().map_err(|error| Error::Internal(format!("GStreamer does not start: {error}")))
}
