//! The streamer's machine: how much of the processor, memory, files and disk it has, and its clock.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use procfs::process::{LimitValue, Process};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

const CGROUPS: &str = "/sys/fs/cgroup";

/// What the period of a processor's share is: 20 ms, below a picture's.
const CPU_PERIOD_US: u64 = 20_000;

/// What a disk of the streamer's holds.
const DISK_BYTES: u64 = 4 << 20;

/// A cgroup of the streamer's, of one controller where the machine has version 1.
fn cgroup(controller: &str, name: &str) -> io::Result<PathBuf> {
    let root = Path::new(CGROUPS);
    let parent = if root.join("cgroup.controllers").exists() {
        // Version 2: the controller must be on for the children of the root.
        let _ = fs::write(root.join("cgroup.subtree_control"), format!("+{controller}"));
        root.to_owned()
    } else {
        root.join(controller)
    };
    let path = parent.join(name);
    match fs::create_dir(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(path),
    }
}

/// Writes to the first of these files that is there: the names of the two versions.
fn set(cgroup: &Path, values: [(&str, String); 2]) -> io::Result<()> {
    let found = values.iter().find(|(file, _)| cgroup.join(file).exists());
    let (file, value) =
        found.ok_or_else(|| io::Error::other("the cgroup does not have the controller"))?;
    fs::write(cgroup.join(file), value)
}

fn enter(cgroup: &Path, pid: u32) -> io::Result<()> {
    fs::write(cgroup.join("cgroup.procs"), pid.to_string())
}

/// Puts the process where limits can be set later. Where it cannot be, setting one says why.
pub fn join(name: &str, pid: u32) {
    for controller in ["cpu", "memory"] {
        let _ = cgroup(controller, name).and_then(|cgroup| enter(&cgroup, pid));
    }
}

/// Gives the cgroup so much of one core; all there is where `cores` is `None`.
pub fn cpu(name: &str, cores: Option<f64>) -> io::Result<()> {
    let cgroup = cgroup("cpu", name)?;
    let quota = cores.map(|cores| (cores * CPU_PERIOD_US as f64).max(1_000.0) as u64);
    let old = quota.map_or("-1".into(), |quota| quota.to_string());
    let new = quota.map_or("max".into(), |quota| format!("{quota} {CPU_PERIOD_US}"));
    if cgroup.join("cpu.cfs_period_us").exists() {
        fs::write(cgroup.join("cpu.cfs_period_us"), CPU_PERIOD_US.to_string())?;
    }
    set(&cgroup, [("cpu.cfs_quota_us", old), ("cpu.max", new)])
}

/// Gives the cgroup so much memory; all there is where `mib` is `None`.
pub fn memory(name: &str, mib: Option<u64>) -> io::Result<()> {
    let cgroup = cgroup("memory", name)?;
    let bytes = mib.map(|mib| (mib << 20).to_string());
    let old = bytes.clone().unwrap_or("-1".into());
    let new = bytes.unwrap_or("max".into());
    set(&cgroup, [("memory.limit_in_bytes", old), ("memory.max", new)])
}

/// Removes the cgroups of a run whose processes are gone.
pub fn remove_cgroups(name: &str) {
    for controller in ["", "cpu", "memory"] {
        let _ = fs::remove_dir(Path::new(CGROUPS).join(controller).join(name));
    }
}

/// Lets the process have at most so many files open from now on; gives back what it was.
pub fn files(pid: u32, files: u64) -> io::Result<u64> {
    let raw = i32::try_from(pid).map_err(io::Error::other)?;
    let limits = Process::new(raw).and_then(|process| process.limits());
    let before = limits.map_err(io::Error::other)?.max_open_files;
    let number = |limit| match limit {
        LimitValue::Value(files) => Some(files),
        LimitValue::Unlimited => None,
    };
    let limit = Rlimit { current: Some(files), maximum: number(before.hard_limit) };
    prlimit(Pid::from_raw(raw), Resource::Nofile, limit)?;
    Ok(number(before.soft_limit).unwrap_or(u64::MAX))
}

/// A small disk at `path`, seen in the cell only.
pub fn disk(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    let options = format!("size={DISK_BYTES}");
    mount(Some("sim"), path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))?;
    Ok(())
}

/// Fills the disk, or makes room again.
pub fn fill(disk: &Path, full: bool) -> io::Result<()> {
    let ballast = disk.join("ballast");
    if !full {
        return fs::remove_file(ballast);
    }
    let mut file = fs::File::create(ballast)?;
    // Ends with the error that is wanted.
    let _ = io::copy(&mut io::repeat(0), &mut file);
    Ok(())
}

/// libfaketime, which makes a process see another wall clock (Debian's faketime).
pub fn faketime() -> Option<PathBuf> {
    let folders = ["x86_64-linux-gnu", "aarch64-linux-gnu"];
    let files = folders
        .map(|folder| Path::new("/usr/lib").join(folder).join("faketime/libfaketimeMT.so.1"));
    files.into_iter().find(|file| file.exists())
}
