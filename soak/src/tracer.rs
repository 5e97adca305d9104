//! GStreamer's living objects by type, counted in another process by GStreamer's own `leaks` tracer.
//!
//! The tracer writes all that lives into GStreamer's log when it gets SIGUSR1. (Its signal
//! `get-live-objects` takes the caller a reference of every object: it is for the end of a program,
//! not for one that runs on; tried, and the streamer crashed.)

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lensline_clients::send_signal;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

/// How long the tracer may take to write.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How often the file is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(150);

/// What `st_blocks` counts in (inode(7)).
const BLOCK_BYTES: u64 = 512;

/// The file is cut where it takes more room than this.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The `leaks` tracer of one process.
#[derive(Debug)]
pub struct Tracer {
    log: PathBuf,
    /// Where the process writes next: the file itself may be shorter, where it was cut.
    seen: u64,
}

impl Tracer {
    /// A tracer that will write to `log`; [`Tracer::environment`] sets it up.
    pub fn new(log: PathBuf) -> Self {
        Self { log, seen: 0 }
    }

    /// What makes a process trace its objects.
    pub fn environment(log: &Path) -> Vec<(String, String)> {
        let pairs = [
            // Objects only: every buffer would be counted as well.
            ("GST_TRACERS", "leaks(filters=\"GstObject\")".into()),
            ("GST_LEAKS_TRACER_SIG", "1".into()),
            ("GST_DEBUG", "GST_TRACER:7".into()),
            ("GST_DEBUG_NO_COLOR", "1".into()),
            ("GST_DEBUG_FILE", log.display().to_string()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    /// A new process writes a new file.
    pub fn restarted(&mut self) {
        self.seen = 0;
    }

    /// What lives in the process now; `None` where it does not say so in time.
    pub async fn count(&mut self, pid: u32) -> Option<BTreeMap<String, u64>> {
        // What it logged on its own account is passed over.
        self.seen = std::fs::metadata(&self.log).ok()?.len().max(self.seen);
        send_signal(pid, Signal::USR1);
        let until = Instant::now() + TIMEOUT;
        let mut size = self.seen;
        loop {
            sleep(LOOK_EVERY).await;
            let now = std::fs::metadata(&self.log).ok()?.len();
            // It has written, and writes no more.
            if now > self.seen && now == size {
                break;
            }
            if Instant::now() > until {
                return None;
            }
            size = now;
        }
        let text = self.read().ok()?;
        Some(types(&text))
    }

    fn read(&mut self) -> io::Result<String> {
        let mut file = File::open(&self.log)?;
        file.seek(SeekFrom::Start(self.seen))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        self.seen += bytes.len() as u64;
        if file.metadata()?.blocks() * BLOCK_BYTES > FILE_BYTES_MAX {
            // The writer goes on at its own place, so the file has a hole there, which takes no room.
            File::options().write(true).open(&self.log)?.set_len(0)?;
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Counts what a log says is alive, by type.
fn types(log: &str) -> BTreeMap<String, u64> {
    let mut types = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains(" object-alive, ")) {
        let name = line.split_once("type-name=(string)").map(|(_, rest)| rest);
        if let Some(name) = name.and_then(|rest| rest.split(',').next()) {
            *types.entry(name.to_owned()).or_default() += 1;
        }
    }
    types
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn living_objects_are_counted_by_type() {
        let log = "0:00:05.0 1 0x5 TRACE GST_TRACER :0:: object-alive, type-name=(string)GstPad, \
            address=(gpointer)0x1, description=(string)<sink>, ref-count=(uint)1, trace=(string);\n\
            0:00:05.0 1 0x5 TRACE GST_TRACER :0:: object-alive, type-name=(string)GstPad, \
            address=(gpointer)0x2, description=(string)<src>, ref-count=(uint)1, trace=(string);\n\
            0:00:05.0 1 0x5 TRACE GST_TRACER :0:: object-alive, type-name=(string)GstBus, \
            address=(gpointer)0x3, description=(string)<bus0>, ref-count=(uint)7, trace=(string);\n\
            0:00:05.0 1 0x5 DEBUG GST_TRACER something else\n";
        assert_eq!(types(log), [("GstBus".into(), 1), ("GstPad".into(), 2)].into());
    }
}
