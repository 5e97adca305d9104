//! The streamer under test: its configuration, its process, and what goes wrong with it.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use lensline_clients::send_signal;
use rustix::process::Signal;
use toml::{Table, Value};

use super::host::Host;
use super::machine;
use super::run::Options;
use crate::plan::{CameraFault, FaultKind, Plan};

/// How long it may take until it is ready.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// The port of its pages.
pub const HTTP_PORT: u16 = 8080;

/// The port of RTSP.
pub const RTSP_PORT: u16 = 8554;

/// Its camera.
pub const CAMERA: &str = "sim";

/// The TURN server's address, user and password.
pub const TURN: (&str, &str, &str) = ("10.9.0.2", "lensline", "simulated");

/// The streamer.
pub struct Streamer {
    plan: Plan,
    binary: PathBuf,
    /// Its cgroup's name, where the plan limits what it has.
    cgroup: Option<String>,
    config: PathBuf,
    log: PathBuf,
    /// Its small disk, where the plan fills it.
    pub disk: Option<PathBuf>,
    clock: Option<PathBuf>,
    child: Option<Child>,
    /// Times it ended without being told to.
    pub crashes: u32,
}

impl Streamer {
    /// Prepares it for a plan; files go to `folder`.
    pub fn new(plan: &Plan, options: &Options, undone: &mut Vec<String>) -> io::Result<Self> {
        let folder = &options.folder;
        let config = folder.join("lensline.toml");
        let has =
            |wanted: fn(&FaultKind) -> bool| plan.fault.iter().any(|fault| wanted(&fault.kind));
        let mut log = folder.join("lensline.log");
        let mut disk = None;
        if has(|kind| matches!(kind, FaultKind::DiskFull)) {
            let path = folder.join("disk");
            machine::disk(&path)?;
            log = path.join("lensline.log");
            disk = Some(path);
        }
        let mut clock = None;
        if has(|kind| matches!(kind, FaultKind::ClockStep { .. })) {
            if machine::faketime().is_some() {
                let path = folder.join("clock");
                fs::write(&path, "+0")?;
                clock = Some(path);
            } else {
                undone.push("clock-step: install Debian's faketime".into());
            }
        }
        let squeezed = has(|kind| matches!(kind, FaultKind::Cpu { .. } | FaultKind::Memory { .. }));
        Ok(Self {
            plan: plan.clone(),
            binary: options.lensline.clone(),
            cgroup: squeezed.then(|| options.cell.clone()),
            config,
            log,
            disk,
            clock,
            child: None,
            crashes: 0,
        })
    }

    /// Starts it on its host, and waits until it is ready. `now_s` is the moment of the run, from
    /// which its camera counts the faults that are still to come.
    pub fn start(&mut self, host: &Host, now_s: f64) -> io::Result<()> {
        let config =
            toml::to_string(&configuration(&self.plan, now_s)).map_err(io::Error::other)?;
        fs::write(&self.config, config)?;
        let log = fs::OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.binary);
        command.arg("run").arg("--config").arg(&self.config);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        if let Some(disk) = &self.disk {
            command.env("TMPDIR", disk).current_dir(disk);
        }
        if let (Some(clock), Some(library)) = (&self.clock, machine::faketime()) {
            command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", clock);
            command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        let mut child = host.spawn(command)?;
        if let Some(name) = &self.cgroup {
            // Before it has memory, which stays with the group that it was in then.
            machine::join(name, child.id());
        }
        let stdout = child.stdout.take();
        let (ready, waiting) = mpsc::channel();
        std::thread::spawn(move || {
            // Read to the end: a pipe that nobody reads would stop who writes to it.
            for line in stdout.map(BufReader::new).into_iter().flat_map(BufRead::lines) {
                let _ = line.map(|line| ready.send(line));
            }
        });
        let line = waiting.recv_timeout(READY_TIMEOUT);
        self.child = Some(child);
        match line {
            Ok(line) if line.starts_with("ready ") => Ok(()),
            _ => {
                self.kill();
                Err(io::Error::other(format!(
                    "the streamer did not say that it is ready; its log is {}",
                    self.log.display()
                )))
            }
        }
    }

    /// Its process.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            send_signal(pid, signal);
        }
    }

    /// Whether it has ended of itself since the last look; how, for a person.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        self.crashes += 1;
        Some(words(status))
    }

    /// Ends it in good order; kills it where it takes too long.
    pub fn stop(&mut self, patience: Duration) -> Option<String> {
        self.signal(Signal::TERM);
        let mut child = self.child.take()?;
        let deadline = std::time::Instant::now() + patience;
        while std::time::Instant::now() < deadline {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return None,
                Ok(Some(status)) => return Some(format!("stopping it: {}", words(status))),
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                Err(error) => return Some(error.to_string()),
            }
        }
        let _ = child.kill();
        let _ = child.wait();
        Some(format!("it did not stop within {} s", patience.as_secs()))
    }

    /// Kills it.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Moves its wall clock.
    pub fn step_clock(&self, by_s: f64) -> io::Result<()> {
        let clock = self.clock.as_ref().ok_or_else(|| io::Error::other("no faketime"))?;
        fs::write(clock, format!("{by_s:+}"))
    }
}

impl Drop for Streamer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn words(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("killed by signal {signal}"),
        None => format!("exit code {}", status.code().unwrap_or(-1)),
    }
}

/// The streamer's configuration for a plan, where it starts at `now_s`.
fn configuration(plan: &Plan, now_s: f64) -> Table {
    let camera = &plan.camera;
    let faults: Vec<_> = plan.fault.iter().filter_map(|fault| camera_fault(fault, now_s)).collect();
    let mut source = Table::new();
    source.insert("kind".into(), "simulated".into());
    source.insert("noise".into(), camera.noise.into());
    source.insert("faults".into(), Value::Array(faults));
    let encoder = table(&[
        ("bitrate_kbps", i64::from(camera.bitrate_kbps)),
        ("keyframe_interval", i64::from(camera.keyframe_interval)),
    ]);
    let mut one = table(&[
        ("width", i64::from(camera.width)),
        ("height", i64::from(camera.height)),
        ("framerate", i64::from(camera.framerate)),
    ]);
    one.insert("id".into(), CAMERA.into());
    one.insert("source".into(), source.into());
    one.insert("encoder".into(), encoder.into());
    let mut config = Table::new();
    config.insert("camera".into(), Value::Array(vec![one.into()]));
    let listen =
        |port: u16| Table::from_iter([("listen".into(), format!("0.0.0.0:{port}").into())]);
    config.insert("server".into(), listen(HTTP_PORT).into());
    config.insert("rtsp".into(), listen(RTSP_PORT).into());
    config.insert("auth".into(), Table::from_iter([("mode".into(), "none".into())]).into());
    if plan.viewer.iter().any(|viewer| viewer.turn_only) {
        let (address, user, password) = TURN;
        let server = Table::from_iter([
            ("url".into(), format!("turn:{address}:3478?transport=udp").into()),
            ("username".into(), user.into()),
            ("credential".into(), password.into()),
        ]);
        let servers = Value::Array(vec![server.into()]);
        let webrtc = Table::from_iter([("turn_servers".into(), servers)]);
        config.insert("webrtc".into(), webrtc.into());
    }
    merge(&mut config, &plan.streamer.config);
    config
}

fn table(values: &[(&str, i64)]) -> Table {
    values.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

/// What `over` says holds; lists of tables are merged one by one.
fn merge(config: &mut Table, over: &Table) {
    for (key, value) in over {
        match (config.get_mut(key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (Some(Value::Array(old)), Value::Array(new)) if key == "camera" => {
                for (old, new) in old.iter_mut().zip(new) {
                    if let (Value::Table(old), Value::Table(new)) = (old, new) {
                        merge(old, new);
                    }
                }
            }
            _ => drop(config.insert(key.clone(), value.clone())),
        }
    }
}

fn camera_fault(fault: &crate::plan::Fault, now_s: f64) -> Option<Value> {
    let FaultKind::Camera { what } = fault.kind else { return None };
    let kind = match what {
        CameraFault::Freeze => "freeze",
        CameraFault::Unplug => "unplug",
        CameraFault::PtsJump => "pts_jump",
        CameraFault::Slow => "slow",
        CameraFault::Garbage => "garbage",
    };
    let after_s = (fault.at_s - now_s).max(0.0);
    if fault.at_s + fault.for_s < now_s {
        return None;
    }
    let mut one =
        table(&[("at_ms", (after_s * 1e3) as i64), ("for_ms", (fault.for_s * 1e3) as i64)]);
    one.insert("kind".into(), kind.into());
    Some(one.into())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_plan_s_own_configuration_goes_over_what_the_plan_gives() {
        let text = "title = \"t\"\nduration_s = 9\n[camera]\nbitrate_kbps = 700\n\
                    [streamer.config.limits]\nwebrtc_sessions_max = 100\n\
                    [[streamer.config.camera]]\nflip = \"vertical\"\n\
                    [[fault]]\nat_s = 2\nfor_s = 1\nkind = \"camera\"\nwhat = \"unplug\"\n";
        let config = Plan::parse("p", text, Path::new(".")).map(|plan| configuration(&plan, -1.5));
        let text = config.map(|config| config.to_string()).unwrap_or_default();
        for part in [
            "webrtc_sessions_max = 100",
            "flip = \"vertical\"",
            "bitrate_kbps = 700",
            "at_ms = 3500",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
