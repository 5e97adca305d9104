//! One viewer, as far as it can be told without a network.

use std::net::IpAddr;
use std::time::Duration;

use super::agenda::Who;
use super::net::Media;
use super::receiver::Receiver;
use super::tcp;
use crate::plan::ViewerKind;
use crate::record::{Account, ViewerRow};

/// A time without a picture that is noted.
const GAP: Duration = Duration::from_millis(200);

/// Where a viewer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not here, but may come.
    Away,
    Joining,
    Watching,
    /// Not here, and will not come again.
    Gone,
}

/// One viewer.
pub struct Viewer {
    pub name: String,
    pub kind: ViewerKind,
    pub host: IpAddr,
    pub nat: bool,
    pub route: usize,
    pub phase: Phase,
    /// Which of its joins this is; none before the first.
    pub attempt: u32,
    /// The step of joining that was not answered yet.
    pub step: u8,
    pub began: Duration,
    /// The number of its address: another with each change.
    pub address: u32,
    /// How many faults have it stand still.
    pub still: u32,
    pub datagrams: Receiver,
    pub stream: tcp::Receiver<Media>,
    /// When the last packet came.
    pub last_packet: Duration,
    last_picture: Option<Duration>,
    /// Whether a picture came in this join.
    sees: bool,
    pub account: Account,
    pub row: ViewerRow,
    latencies: Vec<f64>,
    lost_before: u32,
}

impl Viewer {
    pub fn new(name: String, kind: ViewerKind, nat: bool, host: IpAddr, route: usize) -> Self {
        Self {
            name,
            kind,
            host,
            nat,
            route,
            phase: Phase::Away,
            attempt: 0,
            step: 0,
            began: Duration::ZERO,
            address: 0,
            still: 0,
            datagrams: Receiver::default(),
            stream: tcp::Receiver::default(),
            last_packet: Duration::ZERO,
            last_picture: None,
            sees: false,
            account: Account::default(),
            row: ViewerRow::default(),
            latencies: Vec::new(),
            lost_before: 0,
        }
    }

    /// Its present join.
    pub fn who(&self, viewer: usize) -> Who {
        Who { viewer, attempt: self.attempt }
    }

    /// It asks to come in, with nothing left of before.
    pub fn join(&mut self, now: Duration) {
        if self.attempt == 0 {
            self.account.joined_s = now.as_secs_f64();
        } else {
            self.account.rejoins += 1;
        }
        self.attempt += 1;
        self.phase = Phase::Joining;
        self.step = 0;
        self.began = now;
        self.last_packet = now;
        self.datagrams = Receiver::default();
        self.stream = tcp::Receiver::default();
        self.lost_before = 0;
        self.sees = false;
    }

    /// A frame was published; it counts for who sees pictures already.
    pub fn published(&mut self) {
        self.account.published += u64::from(self.phase == Phase::Watching && self.sees);
    }

    /// A picture is seen, when `newest` is the newest of the streamer.
    pub fn see(&mut self, now: Duration, media: &Media, newest: u64) {
        let latency_ms = now.saturating_sub(media.captured).as_secs_f64() * 1e3;
        let account = &mut self.account;
        account.frames += 1;
        account.first_frame_s.get_or_insert(now.as_secs_f64());
        if !std::mem::replace(&mut self.sees, true) {
            account.published += (newest + 1).saturating_sub(media.seq);
        }
        account.latencies.push((now.as_secs_f32(), latency_ms as f32));
        self.gap(now);
        self.last_picture = Some(now);
        self.latencies.push(latency_ms);
        self.row.frames += 1;
        self.row.kbps += f64::from(media.picture_bytes) / 125.0;
    }

    /// Notes the time without a picture that is over now.
    pub fn gap(&mut self, now: Duration) {
        let gap = self.last_picture.map_or(Duration::ZERO, |last| now.saturating_sub(last));
        if gap > GAP {
            self.account.gaps.push((now.as_secs_f64(), gap.as_secs_f64() * 1e3));
        }
    }

    /// The second that is over; none where it was not here.
    pub fn second(&mut self) -> Option<ViewerRow> {
        let mut row = std::mem::take(&mut self.row);
        let mut latencies = std::mem::take(&mut self.latencies);
        latencies.sort_by(f64::total_cmp);
        row.latency_ms = latencies.get(latencies.len() / 2).copied();
        row.latency_max_ms = latencies.last().copied();
        let lost = self.datagrams.lost();
        row.lost = u64::from(lost.saturating_sub(self.lost_before));
        self.lost_before = lost;
        matches!(self.phase, Phase::Joining | Phase::Watching).then_some(row)
    }
}
