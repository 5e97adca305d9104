//! Programs of others, run with a bound on their time.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout, timeout_at};

/// What a program left behind.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

/// Runs a program to its end.
///
/// # Panics
/// Where it is not installed or takes longer than `bound`.
pub async fn run(command: &mut Command, bound: Duration) -> Finished {
    let name = format!("{:?}", command.as_std());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
    let output = timeout(bound, child.wait_with_output()).await;
    let output = output.unwrap_or_else(|_| panic!("{name} took longer than {bound:?}"));
    let output = output.unwrap_or_else(|error| panic!("{name}: {error}"));
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A running program that prints one JSON object a line. Dropping it kills the program.
#[derive(Debug)]
pub struct Lines {
    child: Child,
    lines: tokio::io::Lines<BufReader<ChildStdout>>,
}

/// A program that the kernel kills when the thread that started it ends: for one who may be killed
/// himself, and can then kill nobody.
pub fn mortal(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]).kill_on_drop(true);
    command
}

/// The aiortc receiver, watching the WHEP address `url`; `options` as in `whep_aiortc.py`.
pub fn aiortc(url: &str, options: &[&str]) -> Lines {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("whep_aiortc.py");
    let mut command = mortal("/usr/bin/python3");
    command.arg(script).arg(url).args(options);
    Lines::start(&mut command)
}

impl Lines {
    /// Starts the program.
    ///
    /// # Panics
    /// Where it is not installed.
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null());
        Self::spawn(command)
    }

    fn spawn(command: &mut Command) -> Self {
        command.stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("the program can be started");
        let stdout = child.stdout.take().expect("its output is ours");
        Self { child, lines: BufReader::new(stdout).lines() }
    }

    /// Starts the program and keeps its input open, for telling it things.
    ///
    /// # Panics
    /// Where it is not installed.
    pub fn start_with_stdin(command: &mut Command) -> (Self, ChildStdin) {
        command.stdin(Stdio::piped());
        let mut started = Self::spawn(command);
        let stdin = started.child.stdin.take().expect("its input is ours");
        (started, stdin)
    }

    /// Waits for the program's end.
    pub async fn end(&mut self, bound: Duration) {
        // One that does not end in time is killed on drop.
        let _ = timeout(bound, self.child.wait()).await;
    }

    /// Its process id; `None` once it has ended and was waited for.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// The next object; `None` when the program has ended.
    ///
    /// # Panics
    /// Where nothing comes within `bound`, or what comes is not JSON.
    pub async fn next(&mut self, bound: Duration) -> Option<Value> {
        let line = timeout(bound, self.lines.next_line()).await.expect("a line in time");
        let line = line.expect("its output can be read")?;
        Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    /// The next object whose `event` is this one; others are passed over.
    ///
    /// # Panics
    /// Where it does not come within `bound`.
    pub async fn event(&mut self, event: &str, bound: Duration) -> Value {
        let until = Instant::now() + bound;
        let search = async {
            while let Some(value) = self.next(bound).await {
                if value["event"] == event {
                    return value;
                }
                assert_ne!(value["event"], "failed", "{value}");
            }
            panic!("the program ended before `{event}`");
        };
        timeout_at(until, search).await.unwrap_or_else(|_| panic!("no `{event}` in {bound:?}"))
    }
}
