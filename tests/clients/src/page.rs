//! The viewer page in Chromium as a viewer.

use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::chromium::Chromium;
use crate::frames::{Latency, Tally};
use crate::whep::JoinError;

/// Keeps the page's connections, which the page keeps to itself, for their statistics.
const KEEP_CONNECTIONS: &str = "{
    const Plain = RTCPeerConnection;
    window.connections = [];
    window.RTCPeerConnection = class extends Plain {
        constructor(...options) { super(...options); connections.push(this); }
    };
}";

/// What all connections together received, and the pictures shown since the last look.
const LOOK: &str = "return (async () => {
    if (!window.lensline) return {};
    const samples = lensline.samples();
    lensline.clear();
    const shown = lensline.stats().frames;
    for (const one of connections) {
        for (const stat of (await one.getStats()).values()) {
            if (stat.type === 'inbound-rtp' && stat.kind === 'video') one.received = stat;
        }
    }
    const all = connections.map((one) => one.received ?? {});
    const sum = (name) => all.reduce((sum, one) => sum + (one[name] ?? 0), 0);
    return {
        samples, shown, frames: sum('framesDecoded'), bytes: sum('bytesReceived'),
        lost: sum('packetsLost'),
    };
})()";

/// A count of pictures alone.
const COUNT: &str = "const video = document.querySelector('video');
    return { frames: video ? video.getVideoPlaybackQuality().totalVideoFrames : 0 };";

/// A browser that watches. Dropping it ends the browser.
#[derive(Debug)]
pub struct PageViewer {
    browser: Chromium,
    closely: bool,
    asleep: bool,
    tally: Tally,
    /// Pictures shown, with a stamp or without.
    shown: u64,
}

impl PageViewer {
    /// Starts the browser. Closely, every picture's stamp is read, and the connections' statistics
    /// are.
    ///
    /// # Panics
    /// Where Chromium does not start.
    pub async fn start(closely: bool) -> Self {
        let browser = Chromium::start(false).await;
        if closely {
            let script = json!({ "source": KEEP_CONNECTIONS });
            browser.devtools("Page.addScriptToEvaluateOnNewDocument", script).await;
        }
        Self { browser, closely, asleep: false, tally: Tally::default(), shown: 0 }
    }

    /// Opens `page`, an address with a query.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub async fn open(&self, page: &str) -> Result<(), JoinError> {
        let measure = if self.closely { "&measure=1" } else { "" };
        self.browser.try_open(&format!("{page}{measure}")).await.map_err(JoinError::Failed)
    }

    /// What came so far, as [`Tally::take`] gives it. Latency is from capture until the picture is
    /// handed to the compositor; bytes are RTP payloads. Pictures count when decoded, whether or not
    /// the page is seen.
    ///
    /// # Panics
    /// Where the page does not answer, unless it is asleep.
    pub async fn take(&mut self) -> Tally {
        if !self.asleep {
            let seen = self.browser.script(if self.closely { LOOK } else { COUNT }).await;
            self.note(&seen);
        }
        self.tally.take()
    }

    fn note(&mut self, seen: &Value) {
        let samples = seen["samples"].as_array().map(Vec::as_slice).unwrap_or_default();
        let before = self.tally.frames;
        for sample in samples {
            let number = sample["frame"].as_u64().unwrap_or_default();
            let (captured, shown) = (&sample["unixMs"], &sample["presentedUnixMs"]);
            if let (Some(captured), Some(shown)) = (captured.as_f64(), shown.as_f64()) {
                let arrived = past(shown);
                self.tally.latencies.push(Latency { arrived, ms: shown - captured });
                // The stamp has 16 bits for it.
                self.tally.saw_number(number as u16, arrived);
            }
        }
        let shown = seen["shown"].as_u64().unwrap_or(self.shown);
        let count = samples.len() as u64;
        // The first pictures cannot be timed before the page knows the server's clock.
        if before > 0 && count > 0 {
            self.tally.unreadable += shown.saturating_sub(self.shown + count);
        }
        self.shown = shown;
        // What was decoded and never shown came all the same.
        let decoded = seen["frames"].as_u64().unwrap_or(0);
        match decoded.saturating_sub(before) {
            more if samples.is_empty() => self.tally.saw_pictures(more, Instant::now()),
            _ => self.tally.frames = decoded.max(before),
        }
        self.tally.bytes = seen["bytes"].as_u64().unwrap_or(self.tally.bytes);
        self.tally.packets_lost = seen["lost"].as_u64().unwrap_or(self.tally.packets_lost);
    }

    /// Has the page stand still: see [`Chromium::sleep`].
    ///
    /// # Panics
    /// Where the browser refuses.
    pub async fn sleep(&mut self) {
        self.browser.sleep().await;
        self.asleep = true;
    }

    /// Has the page go on, and be seen.
    ///
    /// # Panics
    /// Where the browser refuses.
    pub async fn wake(&mut self) {
        self.browser.wake().await;
        self.asleep = false;
    }

    /// Ends the browser as a user does, by closing it.
    pub async fn leave(self) {
        self.browser.close().await;
    }
}

/// The moment that the wall clock showed as `unix_ms`; now, where that lies ahead.
fn past(unix_ms: f64) -> Instant {
    let unix = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let ago = unix.saturating_sub(Duration::from_secs_f64((unix_ms / 1e3).max(0.0)));
    Instant::now().checked_sub(ago).unwrap_or_else(Instant::now)
}
