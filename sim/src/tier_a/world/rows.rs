//! What is written down: a row each second, events, accounts.

use std::time::Duration;

use super::{ByName, World, seconds};
use crate::plan::{Plan, Tier};
use crate::record::{Event, ROW_S, Record, Row, StreamerRow};
use crate::tier_a::agenda;
use crate::tier_a::camera::Picture;
use crate::tier_a::check::Violation;
use crate::tier_a::viewer::Viewer;

/// What was written down so far.
#[derive(Default)]
pub struct Books {
    rows: Vec<Row>,
    events: Vec<Event>,
    undone: Vec<String>,
    streamer: StreamerRow,
}

impl Books {
    pub fn event(&mut self, now: Duration, what: &str) {
        self.events.push(Event { at_s: now.as_secs_f64(), what: what.to_owned() });
    }

    pub fn undone(&mut self, what: String) {
        if !self.undone.contains(&what) {
            self.undone.push(what);
        }
    }

    pub fn published(&mut self, picture: &Picture) {
        self.streamer.published += 1;
        self.streamer.encoded_kbps += f64::from(picture.bytes) / 125.0 / ROW_S;
    }

    pub fn skipped(&mut self, frames: u64) {
        self.streamer.skipped += frames;
    }

    /// All of it.
    pub fn record(
        self,
        plan: &Plan,
        seed: u64,
        viewers: Vec<Viewer>,
        violations: &[Violation],
    ) -> Record {
        Record {
            plan: plan.clone(),
            tier: Tier::A,
            seed,
            version: String::new(),
            began_unix_s: 0,
            conditions: String::new(),
            rows: self.rows,
            events: self.events,
            viewers: viewers.into_iter().map(|viewer| (viewer.name, viewer.account)).collect(),
            before: None,
            after: None,
            crashes: 0,
            health: (0, 0),
            undone: self.undone,
            violations: violations.iter().map(ToString::to_string).collect(),
        }
    }
}

impl World<'_> {
    /// A second is over.
    pub(super) fn second(&mut self) {
        self.agenda.put(self.now + seconds(ROW_S), agenda::Event::Second);
        if self.streamer.runs() {
            self.check.overdue();
            self.account();
        }
        let streamer = StreamerRow {
            sessions: self.streamer.sessions.len() as u64,
            ..std::mem::take(&mut self.books.streamer)
        };
        let viewers = self.viewers.iter_mut();
        let viewers: ByName<_> =
            viewers.filter_map(|viewer| Some((viewer.name.clone(), viewer.second()?))).collect();
        let kbps = |bytes: u64| bytes as f64 / 125.0 / ROW_S;
        let traffic_kbps = self
            .noise
            .iter_mut()
            .map(|noise| (noise.name.clone(), kbps(std::mem::take(&mut noise.bytes))))
            .collect();
        let links = self.net.rows(self.now, ROW_S);
        let at_s = self.now.as_secs_f64();
        self.books.rows.push(Row { at_s, links, viewers, traffic_kbps, streamer });
    }
}
