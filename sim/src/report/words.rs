//! Findings in words, for people.

use super::judge::Verdict;
use super::judge::{Finding, Outcome};
use crate::plan::Measure;

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Of all, 0 to 1; shown in percent.
    Share,
    /// Of one another, 0 to 1.
    Ratio,
    /// Milliseconds.
    Milliseconds,
    /// Kilobits a second.
    Kbps,
    /// MiB.
    Mib,
    /// Cores kept busy.
    Cores,
    /// A number of things.
    Count,
}

impl Unit {
    /// The figure with its unit.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Share => format!("{:.2} %", value * 100.0),
            Self::Ratio => format!("{value:.3}"),
            Self::Milliseconds if value.abs() < 10.0 => format!("{value:.1} ms"),
            Self::Milliseconds => format!("{value:.0} ms"),
            Self::Kbps => format!("{value:.0} kbit/s"),
            Self::Mib => format!("{value:.0} MiB"),
            Self::Cores => format!("{value:.2}"),
            Self::Count => format!("{value:.0}"),
        }
    }
}

/// What a measure is called, and its unit.
pub const fn words(what: Measure) -> (&'static str, Unit) {
    match what {
        Measure::FramesShare => ("share of the frames", Unit::Share),
        Measure::LongestGapMs => ("longest time without a new picture", Unit::Milliseconds),
        Measure::FirstFrameMs => ("first picture after", Unit::Milliseconds),
        Measure::LatencyP50Ms => ("capture to decoded, median", Unit::Milliseconds),
        Measure::LatencyP95Ms => ("capture to decoded, p95", Unit::Milliseconds),
        Measure::GoodputKbps => ("goodput", Unit::Kbps),
        Measure::Freezes => ("freezes over 500 ms", Unit::Count),
        Measure::Damaged => ("damaged pictures", Unit::Count),
        Measure::QueueP95Ms => ("queue, p95", Unit::Milliseconds),
        Measure::Fairness => ("fairness: least by most", Unit::Ratio),
        Measure::Rejoins => ("times joined again", Unit::Count),
        Measure::SessionsLeft => ("sessions left", Unit::Count),
        Measure::ThreadsLeft => ("threads left", Unit::Count),
        Measure::DescriptorsLeft => ("descriptors left", Unit::Count),
        Measure::GuardsLeft => ("guards left", Unit::Count),
        Measure::Crashes => ("crashes", Unit::Count),
        Measure::RssMib => ("memory at most", Unit::Mib),
        Measure::HealthFailures => ("/healthz unanswered", Unit::Count),
    }
}

/// Findings of one expectation with one outcome, taken together: a crowd is one line.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// The finding whose figure is worst.
    pub worst: &'a Finding,
    /// Whose they are.
    pub whose: Vec<&'a str>,
}

impl<'a> Group<'a> {
    /// The findings of a verdict, in their order, taken together.
    pub fn all(verdict: &'a Verdict) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for finding in &verdict.findings {
            match groups.iter_mut().find(|group| alike(group.worst, finding)) {
                Some(group) => group.add(finding),
                None => groups.push(Self {
                    worst: finding,
                    whose: finding.whose.as_deref().into_iter().collect(),
                }),
            }
        }
        groups
    }

    fn add(&mut self, finding: &'a Finding) {
        self.whose.extend(finding.whose.as_deref());
        let worse = match (finding.value, self.worst.value) {
            (Some(value), Some(worst)) if finding.min.is_some() => value < worst,
            (Some(value), Some(worst)) => value > worst,
            _ => false,
        };
        if worse {
            self.worst = finding;
        }
    }

    /// What was measured.
    pub fn what(&self) -> &'static str {
        self.worst.what.map_or("never", |what| words(what).0)
    }

    /// Whose: the first few names, and how many more.
    pub fn whose(&self) -> String {
        const NAMED: usize = 4;
        match self.whose.len() {
            many if many > NAMED => {
                format!("{} and {} more", self.whose[..NAMED - 1].join(", "), many + 1 - NAMED)
            }
            _ => self.whose.join(", "),
        }
    }

    /// The worst figure.
    pub fn value(&self) -> String {
        let Some((what, value)) = self.worst.what.zip(self.worst.value) else {
            return String::new();
        };
        let shown = words(what).1.show(value);
        match what {
            // No shorter gap is in a record.
            Measure::LongestGapMs if value <= 200.0 => format!("≤ {shown}"),
            _ => shown,
        }
    }

    /// What was asked for.
    pub fn bound(&self) -> String {
        let Some(what) = self.worst.what else { return String::new() };
        let show = |sign: &str, bound: Option<f64>| {
            bound.map(|bound| format!("{sign} {}", words(what).1.show(bound)))
        };
        let bounds = [show("≥", self.worst.min), show("≤", self.worst.max)];
        bounds.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// From when until when, where it is not all of the run.
    pub fn when(&self) -> String {
        match (self.worst.from_s, self.worst.to_s) {
            (None, None) => String::new(),
            (Some(from), None) => format!("from {from} s"),
            (None, Some(to)) => format!("to {to} s"),
            (Some(from), Some(to)) => format!("{from} to {to} s"),
        }
    }

    /// All of it in a line.
    pub fn line(&self) -> String {
        let why = self.worst.why.clone().unwrap_or_default();
        if self.worst.what.is_none() {
            return why;
        }
        let mut line = self.what().to_owned();
        for (before, part) in [(" of ", self.whose()), (", ", self.when())] {
            if !part.is_empty() {
                line = format!("{line}{before}{part}");
            }
        }
        let seen = if self.worst.value.is_some() { self.value() } else { why };
        format!("{line}: {seen}, not {}", self.bound())
    }

    /// What came of it.
    pub fn outcome(&self) -> Outcome {
        self.worst.outcome
    }
}

/// Whether two findings are of one expectation, with one outcome.
fn alike(one: &Finding, other: &Finding) -> bool {
    let key = |finding: &Finding| {
        (finding.what, finding.min, finding.max, finding.from_s, finding.to_s, finding.outcome)
    };
    one.what.is_some() && key(one) == key(other) && one.why == other.why
}
