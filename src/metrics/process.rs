//! What the process uses and how hot the machine is, read when somebody asks.

use std::fs;
use std::path::Path;

use procfs::process::LimitValue;
use prometheus::{CounterVec, GaugeVec, IntGauge};
use serde::Serialize;
use utoipa::ToSchema;

use super::Family;

/// Where Linux shows its thermal zones.
const THERMAL: &str = "/sys/class/thermal";

/// What the process uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Usage {
    /// Resident memory in bytes.
    pub resident_memory_bytes: i64,
    /// Open file descriptors.
    pub open_fds: i64,
    /// File descriptors that the system allows.
    pub open_fds_max: i64,
    /// Threads.
    pub threads: i64,
}

#[derive(Debug)]
pub(super) struct Process {
    resident_memory_bytes: IntGauge,
    open_fds: IntGauge,
    max_fds: IntGauge,
    threads: IntGauge,
    cpu_seconds: CounterVec,
    temperature_celsius: GaugeVec,
}

impl Process {
    pub(super) fn new(family: &Family<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            resident_memory_bytes: family
                .plain("process_resident_memory_bytes", "Resident memory in bytes")?,
            open_fds: family.plain("process_open_fds", "Open file descriptors")?,
            max_fds: family.plain("process_max_fds", "File descriptors that may be open")?,
            threads: family.plain("process_threads", "Threads")?,
            cpu_seconds: family.seconds("process_cpu_seconds_total", "CPU time used", &["mode"])?,
            temperature_celsius: family.float(
                "lensline_temperature_celsius",
                "Temperature of a thermal zone of the machine",
                &["zone"],
            )?,
        })
    }

    /// What was read last.
    pub(super) fn usage(&self) -> Usage {
        Usage {
            resident_memory_bytes: self.resident_memory_bytes.get(),
            open_fds: self.open_fds.get(),
            open_fds_max: self.max_fds.get(),
            threads: self.threads.get(),
        }
    }

    /// Reads `/proc/self` and the thermal zones; what cannot be read keeps its last value.
    pub(super) fn read(&self) {
        for (zone, celsius) in temperatures(Path::new(THERMAL)) {
            self.temperature_celsius.with_label_values(&[&zone]).set(celsius);
        }
        let Ok(process) = procfs::process::Process::myself() else { return };
        if let Ok(stat) = process.stat() {
            let resident = stat.rss.saturating_mul(procfs::page_size());
            self.resident_memory_bytes.set(i64::try_from(resident).unwrap_or(i64::MAX));
            self.threads.set(stat.num_threads);
            let ticks = procfs::ticks_per_second().max(1) as f64;
            for (mode, used) in [("user", stat.utime), ("system", stat.stime)] {
                let counter = self.cpu_seconds.with_label_values(&[mode]);
                counter.inc_by((used as f64 / ticks - counter.get()).max(0.0));
            }
        }
        if let Ok(count) = process.fd_count() {
            self.open_fds.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        if let Ok(limits) = process.limits()
            && let LimitValue::Value(count) = limits.max_open_files.soft_limit
        {
            self.max_fds.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

/// The machine's thermal zones and their temperatures; none in most virtual machines.
fn temperatures(directory: &Path) -> Vec<(String, f64)> {
    let zones = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut temperatures: Vec<_> = zones.filter_map(|zone| temperature(&zone.path())).collect();
    // Of zones of one name the hottest.
    temperatures.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
    temperatures.dedup_by(|later, first| later.0 == first.0);
    temperatures
}

/// A zone's name and temperature (Linux, Documentation/ABI/testing/sysfs-class-thermal: `temp` is
/// in thousandths of a degree Celsius).
fn temperature(zone: &Path) -> Option<(String, f64)> {
    let millidegrees: f64 = fs::read_to_string(zone.join("temp")).ok()?.trim().parse().ok()?;
    let name = fs::read_to_string(zone.join("type")).ok()?.trim().to_owned();
    Some((name, millidegrees / 1000.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn the_contract_s_process_figures_are_there_and_true() {
        let text = Metrics::new().unwrap().render().unwrap();
        for name in [
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_max_fds",
            "process_threads",
        ] {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            let value: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
            assert!(value >= 1.0, "{line}");
        }
    }

    #[test]
    fn thermal_zones_are_read_and_what_is_none_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        for (zone, kind, millidegrees) in [
            ("thermal_zone0", "cpu-thermal", "48312\n"),
            ("thermal_zone1", "cpu-thermal", "39000\n"),
            ("cooling_device0", "fan", "off\n"),
        ] {
            let zone = directory.path().join(zone);
            fs::create_dir(&zone).unwrap();
            fs::write(zone.join("type"), format!("{kind}\n")).unwrap();
            fs::write(zone.join("temp"), millidegrees).unwrap();
        }
        assert_eq!(temperatures(directory.path()), [("cpu-thermal".to_owned(), 48.312)]);
        assert_eq!(temperatures(&directory.path().join("none")), []);
    }
}
