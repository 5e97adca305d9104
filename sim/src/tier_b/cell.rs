//! The cell: namespaces that hold a whole run, and go with it.

use std::ffi::OsString;
use std::io;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::process::{Child, ChildStdin};
use tokio::signal::unix::{SignalKind, signal};

use super::machine;

/// Set inside, to the name under which the run may make cgroups. (Lensline takes every variable
/// that begins with its own name for a key of its configuration.)
const INSIDE: &str = "SIM_CELL";

/// How long a run that was told to stop may take to write down what it saw.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no cell.
#[derive(Debug, thiserror::Error)]
pub enum CellError {
    /// Namespaces cannot be made.
    #[error(
        "tier B needs namespaces: run it as root, or allow unprivileged user namespaces \
         (sysctl kernel.unprivileged_userns_clone=1); unshare said: {0}"
    )]
    Unshare(io::Error),
    /// Signals cannot be had.
    #[error("signals: {0}")]
    Signals(io::Error),
}

/// Inside a cell: its name. Outside: nothing.
pub fn inside() -> Option<String> {
    std::env::var(INSIDE).ok()
}

/// Runs this program once more with the same arguments, in a cell, and gives its exit code.
///
/// SIGINT and SIGTERM are told inwards by closing the standard input; so is our own end, whatever
/// it is. What is still there then is killed by the kernel with the cell's first process.
///
/// # Errors
/// Where there can be no cell.
pub fn outside(arguments: impl Iterator<Item = OsString>) -> Result<ExitCode, CellError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(CellError::Signals)?.block_on(watch(arguments))
}

async fn watch(arguments: impl Iterator<Item = OsString>) -> Result<ExitCode, CellError> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CellError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(CellError::Signals)?;
    let name = format!("lensline-sim-{}", std::process::id());
    let program = std::env::current_exe().map_err(CellError::Unshare)?;
    let tried = unshare().arg("true").output().await.map_err(CellError::Unshare)?;
    if !tried.status.success() {
        let said = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
        return Err(CellError::Unshare(io::Error::other(said)));
    }
    let mut command = unshare();
    // Ctrl-C is for us alone: the people inside are told by the run.
    command.arg(program).args(arguments).env(INSIDE, &name).process_group(0);
    let mut child =
        command.stdin(Stdio::piped()).kill_on_drop(true).spawn().map_err(CellError::Unshare)?;
    // Waiting for a child closes its standard input, if it has it.
    let open = child.stdin.take();
    let status = tokio::select! {
        status = child.wait() => status,
        _ = interrupt.recv() => stop(&mut child, open).await,
        _ = terminate.recv() => stop(&mut child, open).await,
    };
    machine::remove_cgroups(&name);
    let code = status.map_err(CellError::Unshare)?.code();
    Ok(code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn unshare() -> tokio::process::Command {
    let mut command = tokio::process::Command::new("unshare");
    command.args(["--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc"]);
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
}

async fn stop(child: &mut Child, open: Option<ChildStdin>) -> io::Result<ExitStatus> {
    drop(open);
    if let Ok(status) = tokio::time::timeout(STOP_TIMEOUT, child.wait()).await {
        return status;
    }
    child.start_kill()?;
    child.wait().await
}

/// Set once the standard input is closed: the outer process is gone, or was told to stop.
pub fn told_to_stop() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        told.store(true, Ordering::Relaxed);
    });
    stop
}
