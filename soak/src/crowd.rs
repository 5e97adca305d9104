//! Viewers who stay, of every kind, each watched over: one that loses the picture is told of, and
//! joins again.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lensline_clients::{Attention, Faces, JoinError, Newcomer, Player, Viewer};
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

/// What viewers watch with, and what it is called.
const PLAYERS: [(Player, &str); 7] = [
    (Player::Light, "webrtc"),
    (Player::Websocket, "websocket"),
    (Player::Webrtcbin, "webrtcbin"),
    (Player::RtspTcp, "rtsp-tcp"),
    (Player::RtspUdp, "rtsp-udp"),
    (Player::Recorder, "recorder"),
    (Player::Chromium, "chromium"),
];

/// So many of a kind, as `webrtc=2` or `webrtc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// With this they watch.
    pub player: Player,
    /// So many.
    pub count: usize,
}

impl FromStr for Group {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, count) = text.split_once('=').unwrap_or((text, "1"));
        let player = PLAYERS.iter().find(|(_, known)| *known == name).map(|(player, _)| *player);
        let known: Vec<_> = PLAYERS.iter().map(|(_, name)| *name).collect();
        let player =
            player.ok_or(format!("no viewer is called {name}; there are {}", known.join(", ")))?;
        let number = count.parse().ok().filter(|count| *count > 0);
        let count = number.ok_or_else(|| format!("{count} is no number of viewers"))?;
        Ok(Self { player, count })
    }
}

fn name(player: Player) -> &'static str {
    PLAYERS.iter().find(|(known, _)| *known == player).map_or("", |(_, name)| name)
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
        let all = groups.iter().flat_map(|group| (1..=group.count).map(|n| (group.player, n)));
        let seats = all.map(|(player, number)| {
            let seen = Arc::new(Seen {
                name: format!("{} {number}", name(player)),
                frames: AtomicU64::new(0),
                latency_ms: Mutex::default(),
            });
            let watch = watch(player, faces.clone(), Arc::clone(&seen), events.clone());
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
async fn watch(player: Player, faces: Faces, seen: Arc<Seen>, events: UnboundedSender<String>) {
    // The run that listens may be over; then nobody wants to know.
    let tell = |what: String| drop(events.send(format!("{} {what}", seen.name)));
    // Of one that decodes the latency is known; one such kind is enough.
    let attention = Attention { framerate: FRAMERATE, closely: player == Player::Webrtcbin };
    let mut refused = false;
    loop {
        let there = faces.clone();
        // A client that panics is a viewer that did not get in.
        let joined =
            tokio::spawn(async move { Newcomer::new(player, attention).join(&there).await }).await;
        let words = |error: JoinError| format!("{error:?}");
        match joined.map_err(|panic| panic.to_string()).and_then(|joined| joined.map_err(words)) {
            Ok(mut viewer) => {
                refused = false;
                look(&mut viewer, &seen).await;
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

/// Counts its pictures until none have come for too long.
async fn look(viewer: &mut Viewer, seen: &Seen) {
    let (mut counted, mut last) = (0, Instant::now());
    while last.elapsed() < LOST_AFTER {
        let Ok(tally) = viewer.look(LOOK_EVERY).await else {
            // A stream that has ended would say so at once, again and again.
            sleep(LOOK_EVERY).await;
            continue;
        };
        if tally.frames > counted {
            seen.frames.fetch_add(tally.frames - counted, Ordering::Relaxed);
            (counted, last) = (tally.frames, Instant::now());
        }
        let mut all = seen.latency_ms.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(tally.latency_ms());
    }
}
