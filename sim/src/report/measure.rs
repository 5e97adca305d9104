//! What a record says of a viewer, a link or the streamer, as figures.

use lensline_clients::quantile;

use crate::plan::{Expect, Measure};
use crate::record::{Account, Held, ROW_S, Record, Row, ViewerRow};

/// A time without a picture counts as a freeze from here on, in milliseconds.
const FREEZE_MS: f64 = 500.0;
/// Gaps that are shorter are not in a record, in milliseconds.
const GAP_MIN_MS: f64 = 200.0;
/// Rows of real time are not seconds to the millisecond.
const SLACK_S: f64 = 0.25 * ROW_S;

/// What came of a measurement.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// A figure, in the measure's unit.
    Value(f64),
    /// Nothing to measure, because what should be there never came.
    Absent(String),
    /// It was not measured.
    Unknown(String),
}

impl Seen {
    /// The figure, if it is one.
    pub fn value(&self) -> Option<f64> {
        match self {
            Self::Value(value) => Some(*value),
            Self::Absent(_) | Self::Unknown(_) => None,
        }
    }

    fn unknown(why: &str) -> Self {
        Self::Unknown(why.into())
    }
}

/// From when until when is measured, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    from: f64,
    to: f64,
    /// Whether it is all of the run.
    whole: bool,
}

impl Window {
    /// All of the run.
    pub fn whole(record: &Record) -> Self {
        let end = record.rows.last().map_or(0.0, |row| row.at_s);
        Self { from: 0.0, to: end.max(record.plan.duration_s), whole: true }
    }

    /// What the expectation asks for.
    pub fn of(expect: &Expect, record: &Record) -> Self {
        let whole = Self::whole(record);
        Self {
            from: expect.from_s.unwrap_or(whole.from),
            to: expect.to_s.unwrap_or(whole.to),
            whole: expect.from_s.is_none() && expect.to_s.is_none(),
        }
    }

    fn holds(&self, at: f64) -> bool {
        (self.from..=self.to).contains(&at)
    }

    /// The rows that lie in it.
    fn rows<'a>(&self, record: &'a Record) -> impl Iterator<Item = &'a Row> {
        let (from, to) = (self.from - SLACK_S, self.to + SLACK_S);
        record.rows.iter().filter(move |row| row.at_s - ROW_S >= from && row.at_s <= to)
    }

    /// How much of a gap that was over at `end` lies in it, in milliseconds.
    fn part_of(&self, (end, length_ms): (f64, f64)) -> f64 {
        let begin = (end - length_ms / 1e3).max(self.from);
        ((end.min(self.to) - begin) * 1e3).clamp(0.0, length_ms)
    }
}

/// Clients tell of their pictures five times a second: what was published in so long at the end of a
/// window may not be told of yet, and is not held against them.
const UNTOLD_S: f64 = 0.2;

/// A figure of a viewer.
pub fn of_viewer(record: &Record, name: &str, what: Measure, window: Window) -> Seen {
    let Some(account) = record.viewers.get(name) else {
        return Seen::Unknown(format!("{name} did not take part"));
    };
    if what == Measure::Rejoins {
        return Seen::Value(f64::from(account.rejoins));
    }
    let Some(first_s) = account.first_frame_s else {
        let said = account.said.as_ref().map(|said| format!(": {said}")).unwrap_or_default();
        return Seen::Absent(format!("no picture came{said}"));
    };
    let viewer = Viewer { record, name, account, window, first_s };
    match what {
        Measure::FramesShare => viewer.frames_share(),
        Measure::LongestGapMs => viewer.longest_gap(),
        Measure::FirstFrameMs => Seen::Value((first_s - account.joined_s) * 1e3),
        Measure::LatencyP50Ms => viewer.latency(0.5),
        Measure::LatencyP95Ms => viewer.latency(0.95),
        Measure::GoodputKbps => viewer.goodput(),
        Measure::Freezes => viewer.freezes(),
        Measure::Damaged => viewer.damaged(),
        _ => Seen::unknown("this is no measure of a viewer"),
    }
}

struct Viewer<'a> {
    record: &'a Record,
    name: &'a str,
    account: &'a Account,
    window: Window,
    first_s: f64,
}

impl Viewer<'_> {
    /// The rows of its window in which it was there all the time, from its first picture on.
    fn rows(&self) -> impl Iterator<Item = (&Row, ViewerRow)> {
        let groups = self.record.plan.viewer.iter();
        let mut mine = groups.filter(|group| group.each().any(|(name, _)| name == self.name));
        let leaves = mine.next().and_then(|group| group.leave_s).unwrap_or(f64::INFINITY);
        let there = move |row: &&Row| row.at_s - ROW_S >= self.first_s && row.at_s <= leaves;
        self.window.rows(self.record).filter(there).map(|row| {
            // Who is away for a moment, to join again, gets nothing.
            (row, row.viewers.get(self.name).copied().unwrap_or_default())
        })
    }

    fn frames_share(&self) -> Seen {
        let (frames, published) = match self.window.whole {
            true => (self.account.frames, self.account.published),
            false => {
                let all = self.rows().fold((0, 0), |(frames, published), (row, mine)| {
                    let meanwhile = mine.published.unwrap_or(row.streamer.published);
                    (frames + mine.frames, published + meanwhile)
                });
                let untold = (f64::from(self.record.plan.camera.framerate) * UNTOLD_S) as u64;
                (all.0, all.1.saturating_sub(untold).max(all.0.min(all.1)))
            }
        };
        match published {
            0 => Seen::unknown("nothing was published while it was there"),
            _ => Seen::Value(frames as f64 / published as f64),
        }
    }

    fn longest_gap(&self) -> Seen {
        let gaps = self.account.gaps.iter().map(|gap| self.window.part_of(*gap));
        // Shorter ones than those of the record may have been there.
        Seen::Value(gaps.fold(GAP_MIN_MS, f64::max))
    }

    fn freezes(&self) -> Seen {
        let long = |gap: &&(f64, f64)| gap.1 > FREEZE_MS && self.window.part_of(**gap) > 0.0;
        Seen::Value(self.account.gaps.iter().filter(long).count() as f64)
    }

    fn latency(&self, q: f64) -> Seen {
        let known = self.account.latencies.iter();
        let known = known.filter(|(at, _)| self.window.holds(f64::from(*at)));
        let values: Vec<f64> = known.map(|(_, ms)| f64::from(*ms)).collect();
        match values.is_empty() {
            true => Seen::unknown("its client gives no latency"),
            false => Seen::Value(quantile(&values, q)),
        }
    }

    fn goodput(&self) -> Seen {
        let rows: Vec<ViewerRow> = self.rows().map(|(_, mine)| mine).collect();
        let kbps: f64 = rows.iter().map(|row| row.kbps).sum();
        if rows.is_empty() {
            return Seen::unknown("it was not there for a second");
        }
        if kbps == 0.0 && rows.iter().any(|row| row.frames > 0) {
            return Seen::unknown("its client does not tell what came");
        }
        Seen::Value(kbps / rows.len() as f64)
    }

    fn damaged(&self) -> Seen {
        let damaged: u64 = self.rows().map(|(_, mine)| mine.damaged).sum();
        if damaged == 0 && self.account.latencies.is_empty() {
            return Seen::unknown("its client does not look at the pictures");
        }
        Seen::Value(damaged as f64)
    }
}

/// The queue of a link towards the viewers, the 95th in a hundred of the rows, in milliseconds.
pub fn queue_p95(record: &Record, link: &str, window: Window) -> Seen {
    let rows = window.rows(record).filter_map(|row| row.links.get(link));
    let queues: Vec<f64> = rows.map(|row| row.queue_ms).collect();
    match queues.is_empty() {
        true => Seen::unknown("the link was not watched"),
        false => Seen::Value(quantile(&queues, 0.95)),
    }
}

/// The smallest by the greatest goodput of those named.
pub fn fairness(record: &Record, names: &[String], window: Window) -> Seen {
    let mut goodputs = Vec::new();
    for name in names {
        match of_viewer(record, name, Measure::GoodputKbps, window) {
            Seen::Value(kbps) => goodputs.push(kbps),
            Seen::Absent(_) => goodputs.push(0.0),
            Seen::Unknown(why) => return Seen::Unknown(format!("{name}: {why}")),
        }
    }
    let greatest = goodputs.iter().copied().fold(0.0, f64::max);
    let smallest = goodputs.iter().copied().fold(f64::INFINITY, f64::min);
    match greatest > 0.0 {
        true => Seen::Value(smallest / greatest),
        false => Seen::unknown("nobody got anything"),
    }
}

/// A figure of the streamer.
pub fn of_streamer(record: &Record, what: Measure, window: Window) -> Seen {
    let left = |of: fn(&Held) -> u64| match (&record.before, &record.after) {
        (Some(before), Some(after)) => Seen::Value(of(after) as f64 - of(before) as f64),
        _ => Seen::unknown("not counted before and after"),
    };
    match what {
        Measure::SessionsLeft => left(|held| held.sessions),
        Measure::ThreadsLeft => left(|held| held.threads),
        Measure::DescriptorsLeft => left(|held| held.descriptors),
        Measure::GuardsLeft => left(|held| held.guards),
        Measure::Crashes => Seen::Value(f64::from(record.crashes)),
        Measure::RssMib => {
            let rss = window.rows(record).map(|row| row.streamer.rss_mib).fold(0.0, f64::max);
            if rss > 0.0 { Seen::Value(rss) } else { Seen::unknown("memory was not looked at") }
        }
        Measure::HealthFailures => match record.health {
            (_, 0) => Seen::unknown("nobody asked for /healthz"),
            (failed, _) => Seen::Value(f64::from(failed)),
        },
        _ => Seen::unknown("this is no measure of the streamer"),
    }
}
