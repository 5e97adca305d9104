//! Ten viewers of mixed kinds at once, joining and leaving at random, one encoder running.

use std::time::{Duration, Instant};

use lensline_clients::{
    Chromium, Lensline, Lines, Look, Recorder, RecorderTransport, RtspReceiver, Tally,
    WhepReceiver, aiortc, until,
};

use crate::common::{Dice, SMALL, SOON, alone, assert_missed_nothing, skipped, start};

const LOOK: Look = Look::Packets { framerate: 30 };

/// How long viewers come and go beside those who stay.
const COMING_AND_GOING: Duration = Duration::from_secs(25);

/// Viewers that come and go beside the five who stay.
const GUESTS: usize = 5;

/// A viewer that leaves when it is dropped, politely or not.
enum Guest {
    Whep(WhepReceiver),
    Rtsp { _viewer: RtspReceiver },
    Recorder { _viewer: Box<Recorder> },
    Aiortc { _viewer: Lines },
}

impl Guest {
    async fn join(server: &Lensline, dice: &mut Dice) -> Self {
        let whep = server.url("whep/sim");
        let address = &server.rtsp[0];
        match dice.below(6) {
            0 | 1 => Self::Whep(WhepReceiver::join(&server.client, &whep, LOOK).await.unwrap()),
            2 => Self::Rtsp { _viewer: RtspReceiver::start(address, "tcp", LOOK) },
            3 => Self::Rtsp { _viewer: RtspReceiver::start(address, "udp", LOOK) },
            4 => {
                let joined = Recorder::join(address, RecorderTransport::Tcp, 30).await;
                Self::Recorder { _viewer: Box::new(joined.unwrap()) }
            }
            _ => Self::Aiortc { _viewer: aiortc(&whep, &["--seconds", "60"]) },
        }
    }

    async fn leave(self, server: &Lensline, dice: &mut Dice) {
        if let Self::Whep(viewer) = self
            && dice.below(2) == 0
        {
            viewer.leave(&server.client).await.unwrap();
        }
    }
}

/// The five who stay.
struct Stayers {
    whep: WhepReceiver,
    light: WhepReceiver,
    tcp: RtspReceiver,
    udp: RtspReceiver,
    chromium: Chromium,
}

impl Stayers {
    async fn join(server: &Lensline) -> Self {
        let whep = server.url("whep/sim");
        let chromium = Chromium::start(false).await;
        chromium.open(&server.url("?camera=sim&measure=1")).await;
        let stayers = Self {
            whep: WhepReceiver::join(&server.client, &whep, Look::Stamps).await.unwrap(),
            light: WhepReceiver::join(&server.client, &whep, LOOK).await.unwrap(),
            tcp: RtspReceiver::start(&server.rtsp[0], "tcp", Look::Stamps),
            udp: RtspReceiver::start(&server.rtsp[0], "udp", LOOK),
            chromium,
        };
        until("frames at all who stay", SOON, async || {
            let all = stayers.tallies();
            all.iter().all(|(_, tally)| tally.frames >= 10).then_some(())
        })
        .await;
        server.sessions_are(5, SOON).await;
        stayers
    }

    fn tallies(&self) -> [(&'static str, Tally); 4] {
        [
            ("webrtcbin, decoding", self.whep.tally()),
            ("webrtcbin", self.light.tally()),
            ("rtspsrc over TCP, decoding", self.tcp.tally()),
            ("rtspsrc over UDP", self.udp.tally()),
        ]
    }
}

async fn come_and_go(server: &Lensline) -> (usize, usize) {
    let mut dice = Dice::thrown();
    let mut guests = Vec::new();
    let (mut joins, mut most) = (0, 0);
    let end = Instant::now() + COMING_AND_GOING;
    while Instant::now() < end {
        if guests.len() < GUESTS && (guests.is_empty() || dice.below(3) > 0) {
            guests.push(Guest::join(server, &mut dice).await);
            joins += 1;
        } else {
            let which = dice.below(guests.len() as u64) as usize;
            guests.swap_remove(which).leave(server, &mut dice).await;
        }
        most = most.max(server.sessions().await.len());
        tokio::time::sleep(Duration::from_millis(100 + dice.below(500))).await;
    }
    (joins, most)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_viewers_of_mixed_kinds_come_and_go_and_who_stays_misses_nothing() {
    let _machine = alone().await;
    let server = start(SMALL).await;
    let stayers = Stayers::join(&server).await;
    let skipped = skipped(&server).await;
    let (before, began) = (server.metrics().await, Instant::now());
    let (joins, most) = come_and_go(&server).await;
    let (after, seconds) = (server.metrics().await, began.elapsed().as_secs_f64());
    println!("{joins} joins, at most {most} sessions");
    assert_missed_nothing(&server, &skipped, &stayers.tallies()).await;
    let samples = stayers.chromium.script("return window.lensline.samples().length").await;
    assert!(samples.as_u64() > Some(0), "Chromium shows pictures: {samples}");
    let grown =
        |name: &str, labels: &[(&str, &str)]| after.sum(name, labels) - before.sum(name, labels);
    let published = grown("lensline_frames_published_total", &[]);
    let encoded = grown("lensline_stage_seconds_count", &[("stage", "encode")]);
    println!("{:.1} frames a second published, {encoded} encodes", published / seconds);
    assert!((20.0..=33.0).contains(&(published / seconds)), "{published} in {seconds} s");
    assert!((encoded - published).abs() <= 3.0, "{encoded} encodes for {published} frames");
    let encoders = server.api("api/v1/status").await["encoders"].clone();
    assert_eq!(encoders.as_array().map(Vec::len), Some(1), "{encoders}");
    assert!(most >= 8, "the scenario had {most} at most");
}
