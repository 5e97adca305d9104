//! What a plan expects, against what a run left behind.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::measure::{Seen, Window, fairness, of_streamer, of_viewer, queue_p95};
use crate::plan::{Expect, Measure, matches};
use crate::record::Record;

/// How a run compares with its plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The worst of the findings'.
    pub outcome: Outcome,
    /// One for each expectation and everybody it is about, then what must never be.
    pub findings: Vec<Finding>,
}

/// What came of an expectation, the better before the worse.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    clap::ValueEnum,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It holds.
    Holds,
    /// It does not, and the plan says what is known to be missing.
    Missing,
    /// It was not measured, or a fault was not carried out.
    Unclear,
    /// It does not.
    Broken,
}

impl Outcome {
    /// All, in this order.
    pub const ALL: [Self; 4] = [Self::Holds, Self::Missing, Self::Unclear, Self::Broken];

    /// The word for it, in pages and as their style's class.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Missing => "missing",
            Self::Unclear => "unclear",
            Self::Broken => "broken",
        }
    }
}

/// What came of one expectation for one of those it is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What was measured; nothing for what must never be.
    pub what: Option<Measure>,
    /// Whose: a viewer, a link, or those whose fairness it is.
    pub whose: Option<String>,
    /// The figure, in the measure's unit.
    pub value: Option<f64>,
    /// At least.
    pub min: Option<f64>,
    /// At most.
    pub max: Option<f64>,
    /// From when on it was measured, in seconds.
    pub from_s: Option<f64>,
    /// Until when.
    pub to_s: Option<f64>,
    /// What came of it.
    pub outcome: Outcome,
    /// Why there is no figure, what is missing, or what must never be.
    pub why: Option<String>,
}

impl Finding {
    fn never(outcome: Outcome, why: String) -> Self {
        Self {
            what: None,
            whose: None,
            value: None,
            min: None,
            max: None,
            from_s: None,
            to_s: None,
            outcome,
            why: Some(why),
        }
    }

    fn of(expect: &Expect, whose: Option<String>, seen: Seen) -> Self {
        let (value, (outcome, why)) = match seen {
            Seen::Value(value) if inside(expect, value) => (Some(value), (Outcome::Holds, None)),
            Seen::Value(value) => (Some(value), outside(expect, None)),
            Seen::Absent(why) => (None, outside(expect, Some(why))),
            Seen::Unknown(why) => (None, (Outcome::Unclear, Some(why))),
        };
        Self {
            what: Some(expect.what),
            whose,
            value,
            min: expect.min,
            max: expect.max,
            from_s: expect.from_s,
            to_s: expect.to_s,
            outcome,
            why,
        }
    }
}

fn inside(expect: &Expect, value: f64) -> bool {
    expect.min.is_none_or(|min| value >= min) && expect.max.is_none_or(|max| value <= max)
}

/// Broken, unless the plan says what is missing.
fn outside(expect: &Expect, why: Option<String>) -> (Outcome, Option<String>) {
    match (&expect.missing, why) {
        (None, why) => (Outcome::Broken, why),
        (Some(missing), None) => (Outcome::Missing, Some(missing.clone())),
        (Some(missing), Some(why)) => (Outcome::Missing, Some(format!("{why}; {missing}"))),
    }
}

/// Judges a run. Crashes and violated invariants are broken whatever the plan says; what was not
/// carried out of it leaves open what would have come of it.
pub fn judge(record: &Record) -> Verdict {
    let in_tier = |expect: &&Expect| expect.tier.is_none_or(|tier| tier == record.tier);
    let expects = record.plan.expect.iter().filter(in_tier);
    let mut findings: Vec<_> = expects.flat_map(|expect| look(expect, record)).collect();
    let crashed = |finding: &Finding| {
        finding.what == Some(Measure::Crashes) && finding.outcome == Outcome::Broken
    };
    if record.crashes > 0 && !findings.iter().any(crashed) {
        let why = format!("the streamer ended {} times without being told to", record.crashes);
        findings.push(Finding::never(Outcome::Broken, why));
    }
    let violations = record.violations.iter();
    findings.extend(violations.map(|why| Finding::never(Outcome::Broken, why.clone())));
    let undone = record.undone.iter().map(|what| format!("not carried out: {what}"));
    findings.extend(undone.map(|why| Finding::never(Outcome::Unclear, why)));
    let outcome = findings.iter().map(|finding| finding.outcome).max();
    Verdict { outcome: outcome.unwrap_or(Outcome::Holds), findings }
}

/// One finding for each whom the expectation is about.
fn look(expect: &Expect, record: &Record) -> Vec<Finding> {
    let window = Window::of(expect, record);
    let each = |names: Vec<String>, of: &dyn Fn(&str) -> Seen| {
        if names.is_empty() {
            let nobody = Seen::Unknown("there is nobody of this name".into());
            return vec![Finding::of(expect, Some(expect.of.clone()), nobody)];
        }
        let finding = |name: String| {
            let seen = of(&name);
            Finding::of(expect, Some(name), seen)
        };
        names.into_iter().map(finding).collect()
    };
    match expect.what {
        Measure::FramesShare
        | Measure::LongestGapMs
        | Measure::FirstFrameMs
        | Measure::LatencyP50Ms
        | Measure::LatencyP95Ms
        | Measure::GoodputKbps
        | Measure::Freezes
        | Measure::Damaged
        | Measure::Rejoins => {
            each(viewers(record, &expect.of), &|name| of_viewer(record, name, expect.what, window))
        }
        Measure::QueueP95Ms => {
            each(links(record, &expect.of), &|name| queue_p95(record, name, window))
        }
        Measure::Fairness => {
            let seen = fairness(record, &viewers(record, &expect.of), window);
            vec![Finding::of(expect, Some(expect.of.clone()), seen)]
        }
        Measure::SessionsLeft
        | Measure::ThreadsLeft
        | Measure::DescriptorsLeft
        | Measure::GuardsLeft
        | Measure::Crashes
        | Measure::RssMib
        | Measure::HealthFailures => {
            vec![Finding::of(expect, None, of_streamer(record, expect.what, window))]
        }
    }
}

/// The viewers that are meant: of the plan, in its order, and those of the record besides.
fn viewers(record: &Record, pattern: &str) -> Vec<String> {
    let planned = record.plan.viewer.iter().flat_map(|viewer| viewer.each()).map(|(name, _)| name);
    let mut known = BTreeSet::new();
    let all = planned.chain(record.viewers.keys().cloned());
    all.filter(|name| matches(pattern, name) && known.insert(name.clone())).collect()
}

/// The links that are meant, towards the viewers.
fn links(record: &Record, pattern: &str) -> Vec<String> {
    let links = record.plan.link.keys().filter(|name| matches(pattern, name));
    links.cloned().collect()
}
