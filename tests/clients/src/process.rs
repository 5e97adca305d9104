//! What a process uses, from `/proc`.

use std::collections::BTreeMap;
use std::time::Duration;

use procfs::ProcResult;
use procfs::process::Process;
use rustix::process::{Pid, Signal, kill_process};

/// What a process uses at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// CPU time used so far, user and kernel.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Open file descriptors.
    pub open_fds: u64,
}

/// What the process uses now; `None` where it is gone.
pub fn usage(pid: u32) -> Option<Usage> {
    read(pid).ok()
}

fn read(pid: u32) -> ProcResult<Usage> {
    let process = Process::new(i32::try_from(pid).unwrap_or(-1))?;
    let stat = process.stat()?;
    let ticks = procfs::ticks_per_second().max(1);
    Ok(Usage {
        cpu: Duration::from_millis((stat.utime + stat.stime) * 1000 / ticks),
        resident_bytes: stat.rss * procfs::page_size(),
        threads: u64::try_from(stat.num_threads).unwrap_or(0),
        open_fds: u64::try_from(process.fd_count()?).unwrap_or(0),
    })
}

/// CPU time of the process' threads by name, digits left out, so that `x264enc0:src` and
/// `x264enc1:src` count as one.
pub fn cpu_of_threads_named(pid: u32) -> BTreeMap<String, Duration> {
    let mut named = BTreeMap::new();
    let process = Process::new(i32::try_from(pid).unwrap_or(-1));
    let tasks = process.and_then(|process| process.tasks());
    for task in tasks.into_iter().flatten().flatten() {
        let (Ok(stat), Ok(schedule)) = (task.stat(), task.schedstat()) else { continue };
        let name: String = stat.comm.chars().filter(|letter| !letter.is_ascii_digit()).collect();
        let cpu = Duration::from_nanos(schedule.sum_exec_runtime);
        *named.entry(name).or_insert(Duration::ZERO) += cpu;
    }
    named
}

/// The system's load averages over 1, 5 and 15 minutes, as the kernel prints them.
pub fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// Sends the process a signal; it may be gone already.
pub fn send_signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}
