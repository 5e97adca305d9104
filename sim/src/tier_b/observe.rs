//! What the streamer's metrics say, asked for from beside it, so that no link is in the way.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use lensline_clients::Exposition;
use lensline_soak::rows::Sample;
use lensline_soak::target::{seen, since};

use super::host::Host;
use super::streamer::HTTP_PORT;
use crate::record::{Held, StreamerRow};

const LOOK_EVERY: Duration = Duration::from_millis(200);

const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Looks at the metrics until it is dropped.
pub struct Observer {
    looks: Receiver<(Instant, Exposition)>,
    stop: Arc<AtomicBool>,
    began: Instant,
    /// Frames published by seconds of the run, over all lives of the streamer.
    published: Vec<(f64, f64)>,
    /// What earlier lives had published.
    earlier: f64,
    newest: Option<(Instant, Exposition)>,
    row_began: Option<(Instant, Exposition)>,
}

impl Observer {
    /// Looks from `host`, where the streamer runs.
    pub fn start(host: &Host, began: Instant) -> io::Result<Self> {
        let (sender, looks) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        // A thread is in the network of the one that starts it.
        host.inside(move || {
            std::thread::Builder::new().name("observer".into()).spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let client = reqwest::Client::builder().timeout(ANSWER_TIMEOUT).build();
                let (Ok(runtime), Ok(client)) = (runtime, client) else { return };
                while !stopped.load(Ordering::Relaxed) {
                    let looked = Instant::now();
                    if let Some(look) = runtime.block_on(scrape(&client))
                        && sender.send((Instant::now(), look)).is_err()
                    {
                        return;
                    }
                    std::thread::sleep(LOOK_EVERY.saturating_sub(looked.elapsed()));
                }
            })
        })??;
        Ok(Self {
            looks,
            stop,
            began,
            published: Vec::new(),
            earlier: 0.0,
            newest: None,
            row_began: None,
        })
    }

    /// The run begins only now.
    pub fn restart(&mut self, began: Instant) {
        self.catch_up();
        self.began = began;
        self.published.clear();
        self.row_began = self.newest.clone();
    }

    /// Takes in what was seen since the last call.
    pub fn catch_up(&mut self) {
        while let Ok((at, look)) = self.looks.try_recv() {
            let count = look.sum("lensline_frames_published_total", &[]);
            if let Some((_, last)) = &self.newest {
                let before = last.sum("lensline_frames_published_total", &[]);
                if count < before {
                    // Another life, which counts from nothing.
                    self.earlier += before;
                    self.row_began = None;
                }
            }
            let at_s = at.saturating_duration_since(self.began).as_secs_f64();
            self.published.push((at_s, self.earlier + count));
            self.row_began.get_or_insert_with(|| (at, look.clone()));
            self.newest = Some((at, look));
        }
    }

    /// Frames published up to a moment, between two looks in proportion.
    pub fn published_by(&self, at_s: f64) -> f64 {
        let after = self.published.partition_point(|(at, _)| *at < at_s);
        let before = after.checked_sub(1).and_then(|index| self.published.get(index));
        match (before, self.published.get(after)) {
            (Some((t0, n0)), Some((t1, n1))) => n0 + (n1 - n0) * (at_s - t0) / (t1 - t0).max(1e-9),
            (Some((_, n)), None) => *n,
            (None, first) => first.map_or(0.0, |(_, n)| *n),
        }
    }

    /// The row since the last one; zeros where the streamer did not answer.
    pub fn row(&mut self) -> StreamerRow {
        let Some((at, look)) = self.newest.clone() else { return StreamerRow::default() };
        let Some((from, earlier)) = self.row_began.replace((at, look.clone())) else {
            return StreamerRow::default();
        };
        let seconds = at.saturating_duration_since(from).as_secs_f64();
        if seconds <= 0.0 {
            return StreamerRow::default();
        }
        let mut sample: Sample = seen(&look, 0);
        since(&mut sample, &look, &earlier, seconds);
        let [added_p50_ms, added_p99_ms] = sample.send_ms.unwrap_or_default();
        StreamerRow {
            published: (sample.published_fps.unwrap_or(0.0) * seconds).round() as u64,
            skipped: (sample.skipped_per_s.unwrap_or(0.0) * seconds).round() as u64,
            encoded_kbps: sample.encoder_bitrate_bps / 1e3,
            sessions: sample.sessions as u64,
            cpu: sample.cpu_percent.unwrap_or(0.0) / 100.0,
            rss_mib: sample.rss_bytes / f64::from(1 << 20),
            threads: sample.threads as u64,
            descriptors: sample.fds as u64,
            added_p50_ms,
            added_p99_ms,
        }
    }

    /// What the streamer holds, by the newest look; nothing where that is old.
    pub fn held(&self) -> Option<Held> {
        let newest = self.newest.as_ref().filter(|(at, _)| at.elapsed() < 2 * ANSWER_TIMEOUT);
        let sample = seen(&newest?.1, 0);
        Some(Held {
            sessions: sample.sessions as u64,
            threads: sample.threads as u64,
            descriptors: sample.fds as u64,
            guards: sample.guards.values().sum::<f64>() as u64,
        })
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

async fn scrape(client: &reqwest::Client) -> Option<Exposition> {
    let url = format!("http://127.0.0.1:{HTTP_PORT}/metrics");
    let text = client.get(url).send().await.ok()?.text().await.ok()?;
    Some(Exposition::parse(&text))
}
