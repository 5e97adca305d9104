//! ffmpeg as a viewer: it decodes, and hands on the stamp of every picture.

use std::io;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStderr, ChildStdout};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::command::mortal;
use crate::frames::{Stamp, Tally, Watch};
use crate::process::send_signal;
use crate::whep::JoinError;

/// How long it may take to leave.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The rows of the stamp, as they are: nothing else of a picture is handed on.
const STRIP: &str = "crop=iw:2*trunc(iw/160):0:0,extractplanes=y";

/// An ffmpeg that watches. Dropping it kills it.
#[derive(Debug)]
pub struct Ffmpeg {
    child: Child,
    watch: Watch,
    /// What it complained of last.
    complaint: Arc<Mutex<String>>,
    /// Its pipe never ends: we hold both ends of it.
    counter: JoinHandle<()>,
    _directory: TempDir,
}

impl Ffmpeg {
    /// Starts to watch `url` over `transport`: `tcp` or `udp`.
    ///
    /// # Errors
    /// Where it is not installed, or there is no pipe for it.
    pub fn start(url: &str, transport: &str) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        // What it received goes there as it is, and is counted.
        let media = directory.path().join("media");
        mkfifo(&media, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let media_out = pipe::OpenOptions::new().read_write(true).open_receiver(&media)?;
        let mut command = mortal("ffmpeg");
        command.args(["-nostdin", "-hide_banner", "-loglevel", "repeat+warning", "-y"]);
        command.args(["-fflags", "nobuffer", "-flags", "low_delay", "-threads", "1"]);
        command.args(["-rtsp_transport", transport, "-i", url]);
        command.args(["-map", "0:v", "-vf", STRIP, "-fps_mode", "passthrough", "-c:v", "pgm"]);
        command.args(["-f", "image2pipe", "-flush_packets", "1", "pipe:1"]);
        command.args(["-map", "0:v", "-c", "copy", "-f", "h264", "-flush_packets", "1"]);
        command.arg(&media);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (watch, complaint) = (Watch::default(), Arc::default());
        if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
            tokio::spawn(read_pictures(stdout, watch.clone()));
            tokio::spawn(read_complaints(stderr, watch.clone(), Arc::clone(&complaint)));
        }
        let counter = tokio::spawn(count_media(media_out, watch.clone()));
        Ok(Self { child, watch, complaint, counter, _directory: directory })
    }

    /// What came so far, as [`Tally::take`] gives it.
    pub fn take(&self) -> Tally {
        self.watch.take()
    }

    /// Why it has ended, where it has.
    pub fn ended(&mut self) -> Option<JoinError> {
        let status = self.child.try_wait().ok().flatten()?;
        let said = self.complaint.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // As in "method DESCRIBE failed: 453 Not Enough Bandwidth".
        let refusal = said.split_once(" failed: ").and_then(|(_, answer)| answer.get(..3));
        Some(match refusal.and_then(|status| status.parse().ok()) {
            Some(status) => JoinError::Refused { status, retry_after: None, body: said },
            None => JoinError::Failed(format!("ffmpeg ended with {status}; it said: {said}")),
        })
    }

    /// Leaves politely, with TEARDOWN.
    ///
    /// # Errors
    /// Where it does not end in time.
    pub async fn leave(mut self) -> Result<(), JoinError> {
        if let Some(pid) = self.child.id() {
            send_signal(pid, Signal::INT);
        }
        let left = timeout(LEAVE_TIMEOUT, self.child.wait()).await;
        left.map(drop).map_err(|_| JoinError::Failed("ffmpeg does not leave".into()))
    }
}

impl Drop for Ffmpeg {
    fn drop(&mut self) {
        self.counter.abort();
    }
}

/// Reads PGM pictures one after the other: `P5`, width and height, 255, each in a line; then luma.
async fn read_pictures(stdout: ChildStdout, watch: Watch) {
    let mut pictures = BufReader::new(stdout);
    let mut luma = Vec::new();
    while let Some((width, height)) = read_header(&mut pictures).await {
        luma.resize(width * height, 0);
        if pictures.read_exact(&mut luma).await.is_err() {
            return;
        }
        watch.note(|tally| tally.saw_stamp(Stamp::read(&luma, width, width)));
    }
}

async fn read_header(pictures: &mut BufReader<ChildStdout>) -> Option<(usize, usize)> {
    let mut header = String::new();
    for _ in 0..3 {
        pictures.read_line(&mut header).await.ok().filter(|bytes| *bytes > 0)?;
    }
    let mut words = header.split_whitespace().skip(1);
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

async fn read_complaints(stderr: ChildStderr, watch: Watch, last: Arc<Mutex<String>>) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        // As in "RTP: missed 5 packets".
        let missed = line.split_once("RTP: missed ").and_then(|(_, rest)| rest.split(' ').next());
        if let Some(missed) = missed.and_then(|missed| missed.parse::<u64>().ok()) {
            watch.note(|tally| tally.packets_lost += missed);
        }
        // The reason of a refusal comes before the words that nothing can be done.
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if !last.contains(" failed: ") {
            *last = line;
        }
    }
}

async fn count_media(mut media: pipe::Receiver, watch: Watch) {
    let mut buffer = vec![0; 65_536];
    while let Ok(bytes @ 1..) = media.read(&mut buffer).await {
        watch.note(|tally| tally.bytes += bytes as u64);
    }
}
