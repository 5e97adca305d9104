//! A person's life: what it is told, and when it is over.

use std::future::Future;
use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::{Signal, set_parent_process_death_signal};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::line::{Line, say};

/// How long a person may take to put its things away.
const FAREWELL: Duration = Duration::from_secs(3);

/// Lives: does the work that is made from the lines of its stdin, until that is done or life is over.
pub(super) fn live<W>(work: impl FnOnce(UnboundedReceiver<String>) -> W) -> ExitCode
where
    W: Future<Output = Result<(), String>> + Send + 'static,
{
    match begin(work) {
        Ok(told) => {
            told.into_iter().for_each(|why| say(&Line::Ended { why }));
            ExitCode::SUCCESS
        }
        Err(why) => {
            say(&Line::Ended { why });
            ExitCode::FAILURE
        }
    }
}

/// Gives who had it end before it was done.
fn begin<W>(work: impl FnOnce(UnboundedReceiver<String>) -> W) -> Result<Option<String>, String>
where
    W: Future<Output = Result<(), String>> + Send + 'static,
{
    // For one who is stopped when the runner is killed, and could read no end of stdin.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| error.to_string())?;
    let (ends, mut ended) = mpsc::unbounded_channel::<Result<String, String>>();
    let (commands, commanded) = mpsc::unbounded_channel();
    let panicked = ends.clone();
    // The clients are helpers of tests: they panic, some on tasks that nobody waits for.
    std::panic::set_hook(Box::new(move |panic| {
        let _ = writeln!(io::stderr(), "{panic}");
        let _ = panicked.send(Err(panic.to_string()));
    }));
    std::thread::spawn(move || listen(&commands, &ends));
    let threads = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = threads.map_err(|error| error.to_string())?;
    let lived = runtime.block_on(async {
        let mut told = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
        let mut interrupted = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
        let mut work = tokio::spawn(work(commanded));
        let why = tokio::select! {
            done = &mut work => return done.map_err(|error| error.to_string())?.map(|()| None),
            _ = told.recv() => Ok("SIGTERM".to_owned()),
            _ = interrupted.recv() => Ok("SIGINT".to_owned()),
            Some(end) = ended.recv() => end,
        };
        work.abort();
        // What it started is ended by being dropped, which takes as long as it takes: not for ever.
        let _ = tokio::time::timeout(FAREWELL, work).await;
        why.map(Some)
    });
    runtime.shutdown_background();
    lived
}

fn listen(commands: &UnboundedSender<String>, ends: &UnboundedSender<Result<String, String>>) {
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        // Who takes no commands has dropped the other end.
        let _ = commands.send(line.trim().to_owned());
    }
    let _ = ends.send(Ok("stdin was closed".into()));
}
