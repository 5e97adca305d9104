//! Viewers who stay, of every kind, each watched over: one that loses the picture is told of, and
//! joins again.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lensline_clients::{
    Chromium, Faces, LightOffer, LightReceiver, Look, Recorder, RecorderTransport, RtspReceiver,
    WhepReceiver,
};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// How long a viewer may see nothing before it is taken for lost.
const LOST_AFTER: Duration = Duration::from_secs(15);

/// How often its pictures are counted.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long it waits before it tries again.
const TRY_EVERY: Duration = Duration::from_secs(2);

/// What RTP time stamps are read by; a viewer counts what comes, not what is missing.
const FRAMERATE: u32 = 30;

/// What kind of a viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// str0m, by WHEP.
    Webrtc,
    /// str0m, by WebSocket signalling.
    Websocket,
    /// webrtcbin, by WHEP; it decodes, and reads the stamp of simulated pictures.
    Webrtcbin,
    /// rtspsrc over TCP.
    RtspTcp,
    /// rtspsrc over UDP.
    RtspUdp,
    /// retina over TCP.
    Recorder,
    /// Chromium on the viewer page.
    Chromium,
}

impl Kind {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Webrtc, "webrtc"),
        (Self::Websocket, "websocket"),
        (Self::Webrtcbin, "webrtcbin"),
        (Self::RtspTcp, "rtsp-tcp"),
        (Self::RtspUdp, "rtsp-udp"),
        (Self::Recorder, "recorder"),
        (Self::Chromium, "chromium"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }
}

/// So many of a kind, as `webrtc=2` or `webrtc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Of this kind.
    pub kind: Kind,
    /// So many.
    pub count: usize,
}

impl FromStr for Group {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, count) = text.split_once('=').unwrap_or((text, "1"));
        let kind = Kind::ALL.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind);
        let known: Vec<_> = Kind::ALL.iter().map(|(_, name)| *name).collect();
        let kind =
            kind.ok_or(format!("no viewer is called {name}; there are {}", known.join(", ")))?;
        let number = count.parse().ok().filter(|count| *count > 0);
        let count = number.ok_or_else(|| format!("{count} is no number of viewers"))?;
        Ok(Self { kind, count })
    }
}

/// Everybody who watches. Dropping it sends them away.
#[derive(Debug, Default)]
pub struct Crowd {
    seats: Vec<Seat>,
}

#[derive(Debug)]
struct Seat {
    seen: Arc<Seen>,
    task: JoinHandle<()>,
    /// Pictures at the last look.
    counted: u64,
}

#[derive(Debug)]
struct Seen {
    name: String,
    frames: AtomicU64,
    /// Capture to decoded of each picture since the last look.
    latency_ms: Mutex<Vec<f64>>,
}

impl Crowd {
    /// Lets `groups` in. What happens to them is told by `events`.
    pub fn gather(faces: &Faces, groups: &[Group], events: &UnboundedSender<String>) -> Self {
        let kinds = groups.iter().flat_map(|group| (1..=group.count).map(|n| (group.kind, n)));
        let seats = kinds.map(|(kind, number)| {
            let seen = Arc::new(Seen {
                name: format!("{} {number}", kind.name()),
                frames: AtomicU64::new(0),
                latency_ms: Mutex::default(),
            });
            let watch = watch(kind, faces.clone(), Arc::clone(&seen), events.clone());
            Seat { seen, task: tokio::spawn(watch), counted: 0 }
        });
        Self { seats: seats.collect() }
    }

    /// Pictures that each got since the last look.
    pub fn frames(&mut self) -> BTreeMap<String, u64> {
        let frames = self.seats.iter_mut().map(|seat| {
            let now = seat.seen.frames.load(Ordering::Relaxed);
            let before = std::mem::replace(&mut seat.counted, now);
            (seat.seen.name.clone(), now - before)
        });
        frames.collect()
    }

    /// Capture to decoded of the pictures since the last look, of those who decode.
    pub fn latencies_ms(&mut self) -> Vec<f64> {
        let of = |seat: &Seat| {
            std::mem::take(
                &mut *seat.seen.latency_ms.lock().unwrap_or_else(PoisonError::into_inner),
            )
        };
        self.seats.iter().flat_map(of).collect()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.seats.iter().for_each(|seat| seat.task.abort());
    }
}

/// Keeps one viewer watching for ever.
async fn watch(kind: Kind, faces: Faces, seen: Arc<Seen>, events: UnboundedSender<String>) {
    // The run that listens may be over; then nobody wants to know.
    let tell = |what: String| drop(events.send(format!("{} {what}", seen.name)));
    let mut refused = false;
    loop {
        let (there, joining) = (faces.clone(), kind);
        // A client that panics is a viewer that did not get in.
        let joined = tokio::spawn(async move { Viewer::join(joining, &there).await }).await;
        match joined.unwrap_or_else(|panic| Err(panic.to_string())) {
            Ok(mut viewer) => {
                refused = false;
                viewer.watch(&seen).await;
                tell(format!("saw nothing for {} s and joins again", LOST_AFTER.as_secs()));
            }
            // Told once, not with every try.
            Err(why) if !std::mem::replace(&mut refused, true) => {
                tell(format!("does not get in: {why}"));
            }
            Err(_) => {}
        }
        sleep(TRY_EVERY).await;
    }
}

/// One that has come in.
enum Viewer {
    Light(LightReceiver),
    Webrtcbin(WhepReceiver),
    Rtsp(RtspReceiver),
    Recorder(Box<Recorder>),
    Chromium(Chromium),
}

impl Viewer {
    async fn join(kind: Kind, faces: &Faces) -> Result<Self, String> {
        let (client, whep) = (&faces.client, faces.whep_url());
        let words = |error: lensline_clients::JoinError| format!("{error:?}");
        let light = async || LightOffer::new(faces.own_address()).await;
        let rtsp = |protocols| {
            RtspReceiver::start(&faces.rtsp, protocols, Look::Packets { framerate: FRAMERATE })
        };
        Ok(match kind {
            Kind::Webrtc => {
                Self::Light(light().await.whep(client, &whep, FRAMERATE).await.map_err(words)?)
            }
            Kind::Websocket => {
                let socket = faces.socket();
                Self::Light(light().await.websocket(&socket, FRAMERATE).await.map_err(words)?)
            }
            Kind::Webrtcbin => {
                let joined = WhepReceiver::join(client, &whep, Look::Stamps).await;
                Self::Webrtcbin(joined.map_err(words)?)
            }
            Kind::RtspTcp => Self::Rtsp(rtsp("tcp")),
            Kind::RtspUdp => Self::Rtsp(rtsp("udp")),
            Kind::Recorder => {
                let joined = Recorder::join(&faces.rtsp, RecorderTransport::Tcp, FRAMERATE).await;
                Self::Recorder(Box::new(joined?))
            }
            Kind::Chromium => {
                let browser = Chromium::start(false).await;
                browser.open(&format!("{}?camera={}", faces.http, faces.camera())).await;
                Self::Chromium(browser)
            }
        })
    }

    /// Counts its pictures until none have come for too long.
    async fn watch(&mut self, seen: &Seen) {
        let (mut counted, mut last) = (0, Instant::now());
        while last.elapsed() < LOST_AFTER {
            let frames = self.frames(seen).await;
            if frames > counted {
                seen.frames.fetch_add(frames - counted, Ordering::Relaxed);
                (counted, last) = (frames, Instant::now());
            }
        }
    }

    /// Pictures so far; it takes about [`LOOK_EVERY`].
    async fn frames(&mut self, seen: &Seen) -> u64 {
        if let Self::Recorder(recorder) = self {
            let next = recorder.tally.frames + 1;
            if recorder.take(next, LOOK_EVERY).await.is_err() {
                // A stream that has ended would say so at once, again and again.
                sleep(LOOK_EVERY).await;
            }
            return recorder.tally.frames;
        }
        sleep(LOOK_EVERY).await;
        match self {
            Self::Light(viewer) => viewer.tally().frames,
            Self::Rtsp(viewer) => viewer.tally().frames,
            Self::Webrtcbin(viewer) => {
                let (frames, latency_ms) = viewer.take();
                let mut all = seen.latency_ms.lock().unwrap_or_else(PoisonError::into_inner);
                all.extend(latency_ms);
                frames
            }
            Self::Chromium(browser) => {
                let script = "const video = document.querySelector('video');\
                    return video ? video.getVideoPlaybackQuality().totalVideoFrames : 0";
                browser.script(script).await.as_u64().unwrap_or(0)
            }
            Self::Recorder(recorder) => recorder.tally.frames,
        }
    }
}
