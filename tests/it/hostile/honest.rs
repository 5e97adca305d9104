//! The five who only want to watch.

use std::collections::BTreeMap;

use lensline_clients::{
    Lensline, LightOffer, LightReceiver, Look, RtspReceiver, Tally, WhepReceiver, own_address,
};

use crate::common::{SOON, assert_missed_nothing, frames_come, skipped};

const FRAMERATE: u32 = 30;
const LOOK: Look = Look::Packets { framerate: FRAMERATE };

/// Five viewers by every door; two decode and read the stamps, of whom each is held against the
/// other, and all count packets.
pub struct Honest {
    whep: WhepReceiver,
    light: LightReceiver,
    socket: LightReceiver,
    tcp: RtspReceiver,
    udp: RtspReceiver,
    /// What their sessions had skipped when all had come in.
    skipped: BTreeMap<String, u64>,
}

impl Honest {
    pub async fn join(server: &Lensline) -> Self {
        let whep = server.url("whep/sim");
        let ws = server.url("ws/sim").replacen("http://", "ws://", 1);
        let from = own_address([127, 0, 0, 1].into());
        let offer = async || LightOffer::new(from).await;
        let mut honest = Self {
            whep: WhepReceiver::join(&server.client, &whep, Look::Stamps).await.unwrap(),
            light: offer().await.whep(&server.client, &whep, FRAMERATE).await.unwrap(),
            socket: offer().await.websocket(&ws, FRAMERATE).await.unwrap(),
            tcp: RtspReceiver::start(&server.rtsp[0], "tcp", Look::Stamps),
            udp: RtspReceiver::start(&server.rtsp[0], "udp", LOOK),
            skipped: BTreeMap::new(),
        };
        for at in 0..5 {
            frames_come(honest.tallies()[at].0, 10, || honest.tallies().swap_remove(at).1).await;
        }
        server.sessions_are(5, SOON).await;
        honest.skipped = skipped(server).await;
        honest
    }

    pub fn tallies(&self) -> Vec<(&'static str, Tally)> {
        vec![
            ("webrtcbin by WHEP, decoding", self.whep.tally()),
            ("str0m by WHEP", self.light.tally()),
            ("str0m by WebSocket", self.socket.tally()),
            ("rtspsrc over TCP, decoding", self.tcp.tally()),
            ("rtspsrc over UDP", self.udp.tally()),
        ]
    }

    /// Nothing was skipped for them, lost on the way or came twice, and those who read the stamps
    /// saw the same pictures.
    pub async fn assert_missed_nothing(&self, server: &Lensline) {
        assert_missed_nothing(server, &self.skipped, &self.tallies()).await;
    }

    /// Frames that each of them has seen and missed.
    pub fn frames(&self) -> Vec<(u64, u64)> {
        self.tallies().iter().map(|(_, tally)| (tally.frames, tally.missed)).collect()
    }
}
