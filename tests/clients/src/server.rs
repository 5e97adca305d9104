//! The program itself, started as a user starts it.

use std::fmt::Write;
use std::fs::OpenOptions;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use crate::metrics::Exposition;
use crate::process::{Usage, send_signal, usage};
use crate::visits::Faces;

/// How long the program may take until it is ready.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// How long an HTTP request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A running `lensline run`. Dropping it kills the program.
#[derive(Debug)]
pub struct Lensline {
    child: Child,
    /// The program's process id.
    pub pid: u32,
    /// Where the pages are, with a slash at the end.
    pub http: String,
    /// Where the cameras are, in the order of the configuration.
    pub rtsp: Vec<String>,
    /// For requests of one's own.
    pub client: reqwest::Client,
    log: Arc<Mutex<String>>,
    directory: TempDir,
}

/// How to start the program.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program.
    pub binary: PathBuf,
    /// Its configuration. Where it has no camera, the program is told to simulate one.
    pub config: String,
    /// Where it listens for HTTP.
    pub listen: SocketAddr,
    /// Where it listens for RTSP.
    pub rtsp_listen: SocketAddr,
    /// What is added to its environment.
    pub environment: Vec<(String, String)>,
    /// The file that its log is appended to, in the place of our memory.
    pub log: Option<PathBuf>,
    /// Whether a terminal's Ctrl-C passes it by: for one who stops it himself then.
    pub own_group: bool,
}

impl Launch {
    /// On free ports of the loopback.
    ///
    /// # Panics
    /// Where the system has none.
    pub fn new(binary: impl Into<PathBuf>, config: impl Into<String>) -> Self {
        let free = || SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        Self {
            binary: binary.into(),
            config: config.into(),
            listen: free(),
            rtsp_listen: free(),
            environment: Vec::new(),
            log: None,
            own_group: false,
        }
    }

    fn spawn(&self, directory: &TempDir) -> Child {
        let file = directory.path().join("config.toml");
        std::fs::write(&file, &self.config).expect("the configuration can be written");
        let mut command = Command::new(&self.binary);
        command.arg("run").arg("--config").arg(&file);
        command.args(["--listen", &self.listen.to_string()]);
        command.args(["--rtsp-listen", &self.rtsp_listen.to_string()]);
        if !self.config.contains("[[camera]]") {
            command.arg("--simulate");
        }
        // What the environment overrides is the scenario's to say.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LENSLINE_")) {
            command.env_remove(name);
        }
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        command.envs(environment).stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(match &self.log {
            Some(path) => {
                let file = OpenOptions::new().create(true).append(true).open(path);
                Stdio::from(file.expect("the log can be written"))
            }
            None => Stdio::piped(),
        });
        if self.own_group {
            command.process_group(0);
        }
        command
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be started: {error}", self.binary.display()))
    }
}

/// How the program ended.
#[derive(Clone, Debug)]
pub struct Stopped {
    /// The exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// From the signal to the end.
    pub took: Duration,
    /// All it wrote to stderr.
    pub log: String,
}

/// A TCP port that nobody listens on just now.
///
/// # Panics
/// Where the system has none.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// Waits until `probe` gives something, asking every 50 ms.
///
/// # Panics
/// Where it gives nothing within `bound`; `what` says what was waited for.
pub async fn until<T>(what: &str, bound: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + bound;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < end, "waited {bound:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Lensline {
    /// Starts `binary` with this configuration on free ports and waits until it is ready. Where
    /// the configuration has no camera, with `--simulate`.
    ///
    /// # Panics
    /// Where it does not become ready, with what it wrote.
    pub async fn start(binary: &str, config: &str) -> Self {
        Self::launch(&Launch::new(binary, config)).await
    }

    /// The same on these addresses.
    ///
    /// # Panics
    /// Where it does not become ready, with what it wrote.
    pub async fn start_at(
        binary: &str,
        config: &str,
        listen: SocketAddr,
        rtsp_listen: SocketAddr,
    ) -> Self {
        let launch = Launch { listen, rtsp_listen, ..Launch::new(binary, config) };
        Self::launch(&launch).await
    }

    /// The same, with all that can be chosen.
    ///
    /// # Panics
    /// Where it does not become ready, with what it wrote.
    pub async fn launch(launch: &Launch) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the configuration");
        let mut child = launch.spawn(&directory);
        let log = Arc::new(Mutex::new(String::new()));
        if let Some(stderr) = child.stderr.take() {
            keep(stderr, log.clone());
        }
        let ready = ready_line(&mut child).await;
        let ready = ready.unwrap_or_else(|why| panic!("{why}; it wrote:\n{}", read(&log)));
        let mut addresses = ready.split(' ').skip(1).map(str::to_owned);
        Self {
            pid: child.id().expect("it runs"),
            http: addresses.next().expect("the ready line has an HTTP address"),
            rtsp: addresses.collect(),
            client: client(),
            child,
            log,
            directory,
        }
    }

    /// How it ended, where it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The address of a page; `path` without a slash at the start.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.http)
    }

    /// What `/metrics` says.
    ///
    /// # Panics
    /// Where it does not answer with 200.
    pub async fn metrics(&self) -> Exposition {
        let answer = self.client.get(self.url("metrics")).send().await.expect("/metrics answers");
        let answer = answer.error_for_status().expect("/metrics answers with 200");
        Exposition::parse(&answer.text().await.expect("/metrics is text"))
    }

    /// What the API says under `path`.
    ///
    /// # Panics
    /// Where it does not answer with 200 and JSON.
    pub async fn api(&self, path: &str) -> Value {
        let answer = self.client.get(self.url(path)).send().await.expect("the API answers");
        let answer = answer.error_for_status().expect("the API answers with 200");
        answer.json().await.expect("the API answers with JSON")
    }

    /// The live sessions.
    ///
    /// # Panics
    /// Where the API does not list them.
    pub async fn sessions(&self) -> Vec<Value> {
        let listed = self.api("api/v1/sessions").await;
        let list = listed.as_array().or_else(|| listed["sessions"].as_array()).cloned();
        list.unwrap_or_else(|| panic!("/api/v1/sessions lists no sessions: {listed}"))
    }

    /// Waits until there are exactly so many sessions, and gives them.
    ///
    /// # Panics
    /// Where that does not come about within `bound`.
    pub async fn sessions_are(&self, count: usize, bound: Duration) -> Vec<Value> {
        let what = format!("{count} sessions");
        until(&what, bound, async || Some(self.sessions().await).filter(|all| all.len() == count))
            .await
    }

    /// What the program uses now.
    ///
    /// # Panics
    /// Where it has ended.
    pub fn usage(&self) -> Usage {
        usage(self.pid).unwrap_or_else(|| panic!("the program is gone:\n{}", self.log()))
    }

    /// Where its visitors find it: its pages and its first camera.
    ///
    /// # Panics
    /// Where it has no camera.
    pub fn faces(&self) -> Faces {
        let rtsp = self.rtsp.first().expect("it has a camera").clone();
        Faces { http: self.http.clone(), rtsp, client: self.client.clone() }
    }

    /// What it wrote to stderr so far; nothing where that goes to a file.
    pub fn log(&self) -> String {
        read(&self.log)
    }

    /// Asks it with this `Authorization` from now on.
    ///
    /// # Panics
    /// Where that is no value of a header.
    pub fn authorize(&mut self, authorization: &str) {
        let value = authorization.parse().expect("a value of a header");
        let headers = [(reqwest::header::AUTHORIZATION, value)].into_iter().collect();
        let client = reqwest::Client::builder().timeout(REQUEST_TIMEOUT).default_headers(headers);
        self.client = client.build().expect("a client can be built");
    }

    /// Writes another configuration into its file; it is read again on SIGHUP.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn configure(&self, config: &str) {
        let file = self.directory.path().join("config.toml");
        std::fs::write(file, config).expect("the configuration can be written");
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        send_signal(self.pid, signal);
    }

    /// Asks it to stop and waits, for up to 15 s, until it has.
    ///
    /// # Panics
    /// Where it does not.
    pub async fn stop(mut self) -> Stopped {
        let asked = Instant::now();
        self.signal(Signal::TERM);
        let status = timeout(Duration::from_secs(15), self.child.wait()).await;
        let took = asked.elapsed();
        let status = status.unwrap_or_else(|_| panic!("it does not stop:\n{}", self.log()));
        // The last lines may still be on their way through the pipe.
        tokio::time::sleep(Duration::from_millis(50)).await;
        Stopped { code: status.expect("it can be waited for").code(), took, log: self.log() }
    }
}

/// A client that takes every certificate: those of the scenarios are signed by nobody.
fn client() -> reqwest::Client {
    let builder = reqwest::Client::builder().timeout(REQUEST_TIMEOUT);
    builder.tls_danger_accept_invalid_certs(true).build().expect("a client")
}

fn read(log: &Mutex<String>) -> String {
    log.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn keep(stream: impl AsyncRead + Unpin + Send + 'static, log: Arc<Mutex<String>>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let _ = writeln!(log.lock().unwrap_or_else(PoisonError::into_inner), "{line}");
        }
    });
}

async fn ready_line(child: &mut Child) -> Result<String, String> {
    let stdout = child.stdout.take().ok_or("its output is not ours")?;
    let mut lines = BufReader::new(stdout).lines();
    let search = async {
        while let Ok(Some(line)) = lines.next_line().await {
            if line.starts_with("ready ") {
                return Ok(line);
            }
        }
        Err("it ended before it was ready".to_owned())
    };
    let line = timeout(START_TIMEOUT, search).await.map_err(|_| "it is not ready in time")??;
    // Whatever else it prints is read and thrown away, so that it never blocks on a full pipe.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok(line)
}
