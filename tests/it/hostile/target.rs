//! Where the server can be hit.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use lensline_clients::{Lensline, until};
use procfs::process::{FDTarget, Process};

use super::attack::{Attack, Door};
use super::{http, rtsp, udp, whep, ws};
use crate::common::{Dice, SOON};

/// What Chromium offers, shortened. Always the same, so that a request can be had again by its seed.
const OFFER: &str = include_str!("offer.sdp");

/// The server as its attackers know it.
#[derive(Clone, Debug)]
pub struct Target {
    pub http: SocketAddr,
    pub rtsp: SocketAddr,
    /// Every UDP port that it has open.
    pub udp: Vec<SocketAddr>,
    /// A right offer.
    pub offer: &'static str,
    /// A session that came of it, which never connects, and its ETag.
    pub session: String,
    pub etag: String,
}

impl Target {
    pub async fn of(server: &Lensline) -> Self {
        let host = |url: &str| url.split('/').nth(2).unwrap().parse().unwrap();
        let offer = OFFER;
        let (session, etag) = Default::default();
        let (http, rtsp) = (host(&server.http), host(&server.rtsp[0]));
        let mut target = Self { http, rtsp, udp: Vec::new(), offer, session, etag };
        until("a session", SOON, async || {
            target.renew(server).await;
            (!target.session.is_empty()).then_some(())
        })
        .await;
        target
    }

    /// Looks for its ports anew, and takes another session: it ends those that do not connect.
    pub async fn renew(&mut self, server: &Lensline) {
        self.udp = udp_ports(server.pid);
        let post =
            server.client.post(server.url("whep/sim")).header("content-type", "application/sdp");
        let answer = post.body(self.offer).send().await.unwrap();
        let header = |name: &str| Some(answer.headers().get(name)?.to_str().unwrap().to_owned());
        // With all seats taken by other attackers the old one, which has ended, has to do.
        if let Some((session, etag)) = header("location").zip(header("etag")) {
            (self.session, self.etag) = (session, etag);
        }
    }

    /// The offer's ICE name.
    pub fn ufrag(&self) -> &'static str {
        let line = self.offer.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:"));
        line.unwrap_or("none").trim()
    }

    /// A hostile request by these dice.
    pub fn throw(&self, dice: &mut Dice) -> Attack {
        match dice.below(20) {
            0..6 => http::throw(dice),
            6..10 => whep::throw(dice, self),
            10..14 => ws::throw(dice, self),
            14..18 => rtsp::throw(dice),
            _ => udp::throw(dice),
        }
    }

    /// Where it goes.
    pub fn at(&self, attack: &Attack, dice: &mut Dice) -> Option<SocketAddr> {
        match attack.door {
            Door::Http | Door::WebSocket => Some(self.http),
            Door::Rtsp => Some(self.rtsp),
            Door::Udp if self.udp.is_empty() => None,
            Door::Udp => Some(self.udp[dice.below(self.udp.len() as u64) as usize]),
        }
    }
}

/// The UDP ports that a process has open, IPv4 only.
fn udp_ports(pid: u32) -> Vec<SocketAddr> {
    let process = Process::new(pid.cast_signed()).unwrap();
    let fds = process.fd().into_iter().flatten().flatten();
    let sockets = fds.filter_map(|fd| match fd.target {
        FDTarget::Socket(inode) => Some(inode),
        _ => None,
    });
    let own: BTreeSet<u64> = sockets.collect();
    let all = process.udp().unwrap_or_default().into_iter();
    let all = all.filter(|entry| own.contains(&entry.inode));
    all.map(|entry| {
        let mut address = entry.local_address;
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        address
    })
    .collect()
}
