//! However a run of tier B ends, nothing of it is left. Needs what tier B needs, and Lensline's
//! binary beside that of `sim`.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lensline_clients::send_signal;
use rustix::process::Signal;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PLAN: &str = r#"
title = "two viewers and half a core for a minute"
duration_s = 60
tiers = ["b"]
link.home.down.delay_ms = 5
fault = [{ at_s = 0, for_s = 50, kind = "cpu", cores = 0.5 }]
viewer = [
  { name = "light", kind = "light", via = ["home"] },
  { name = "records", kind = "recorder", via = ["home"] },
]
"#;

/// A run that has begun.
struct Run {
    outside: Child,
    folder: tempfile::TempDir,
}

impl Run {
    fn start() -> Result<Self> {
        Self::of(PLAN)
    }

    /// A run of this plan, which has two viewers.
    fn of(text: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let plan = folder.path().join("minute.toml");
        fs::write(&plan, text)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
        command.arg("run").arg(&plan).arg("--out").arg(folder.path());
        let outside = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let run = Self { outside, folder };
        // Both viewers see pictures: then everything is there.
        let log = run.folder.path().join("minute-b/lensline.log");
        let sessions =
            || fs::read_to_string(&log).unwrap_or_default().matches("session starts").count();
        run.within(Duration::from_secs(30), "two sessions", || sessions() == 2)?;
        Ok(run)
    }

    /// Processes of the run: the cell's name is in the environment of each.
    fn processes(&self) -> Vec<u32> {
        let mark = format!("SIM_CELL={}", self.cell());
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let ours = |pid: &u32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|one| one == mark.as_bytes())
        };
        pids.filter(ours).collect()
    }

    fn cell(&self) -> String {
        format!("lensline-sim-{}", self.outside.id())
    }

    fn cgroups(&self) -> bool {
        let places = ["", "cpu", "memory"];
        places
            .iter()
            .any(|place| Path::new("/sys/fs/cgroup").join(place).join(self.cell()).exists())
    }

    fn within(&self, bound: Duration, what: &str, reached: impl Fn() -> bool) -> Result<()> {
        let deadline = Instant::now() + bound;
        while !reached() {
            if Instant::now() > deadline {
                return Err(format!("not within {bound:?}: {what}; {:?}", self.processes()).into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn gone(&self) -> Result<()> {
        self.within(Duration::from_secs(30), "nothing is left", || self.processes().is_empty())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.outside.kill();
        let _ = self.outside.wait();
    }
}

#[test]
fn a_run_that_is_interrupted_writes_its_report_and_leaves_nothing() -> Result<()> {
    let mut run = Run::start()?;
    assert!(run.processes().len() >= 4, "{:?}", run.processes());
    send_signal(run.outside.id(), Signal::INT);
    assert_eq!(run.outside.wait()?.code(), Some(130));
    run.gone()?;
    assert!(!run.cgroups());
    let report = fs::read_to_string(run.folder.path().join("minute-b/report.json"))?;
    assert!(report.contains("stopped before its end"));
    Ok(())
}

#[test]
fn a_run_whose_outer_process_is_killed_leaves_nothing() -> Result<()> {
    let mut run = Run::start()?;
    run.outside.kill()?;
    run.outside.wait()?;
    run.gone()?;
    assert!(!run.cgroups());
    Ok(())
}

#[test]
fn a_run_that_dies_inside_leaves_nothing() -> Result<()> {
    let mut run = Run::start()?;
    // The cell's first process, as after a panic that aborts; it is not the one that waits for it.
    let first = run.processes().into_iter().find(|pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"))
    });
    send_signal(first.ok_or("the cell has no first process")?, Signal::KILL);
    assert!(!run.outside.wait()?.success());
    run.gone()?;
    assert!(!run.cgroups());
    Ok(())
}

#[test]
fn a_viewer_whose_process_dies_saw_nothing_from_then_on() -> Result<()> {
    let text =
        PLAN.replace("duration_s = 60", "duration_s = 10").replace("for_s = 50", "for_s = 2");
    let expect = "expect = [{ what = \"frames_share\", of = \"light\", min = 0.9 },\n\
        { what = \"longest_gap_ms\", of = \"light\", max = 2000 }]\n";
    let mut run = Run::of(&format!("{text}{expect}"))?;
    let is_light = |pid: &u32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&words).contains("viewer\0--kind\0light")
    };
    let light = run.processes().into_iter().find(is_light);
    // It has pictures by then.
    std::thread::sleep(Duration::from_secs(2));
    send_signal(light.ok_or("the viewer has no process")?, Signal::KILL);
    assert_eq!(run.outside.wait()?.code(), Some(1));
    let report = fs::read_to_string(run.folder.path().join("minute-b/report.json"))?;
    assert!(report.contains("the process of light has ended"));
    assert_eq!(report.matches("\"outcome\":\"broken\"").count(), 3, "{report}");
    Ok(())
}
