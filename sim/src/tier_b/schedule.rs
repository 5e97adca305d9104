//! What is to be done when, from a plan.

use crate::plan::{FaultKind, Plan};

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A viewer joins.
    Join(String),
    /// It leaves.
    Leave(String),
    /// A change of a link: its name, and which of [`crate::plan::Pair::change`].
    Change(String, usize),
    /// Which of [`Plan::traffic`] begins.
    TrafficBegins(usize),
    /// It ends.
    TrafficEnds(usize),
    /// Which of [`Plan::fault`] begins.
    FaultBegins(usize),
    /// It ends.
    FaultEnds(usize),
}

/// All that a plan asks for, in the order of time.
pub fn schedule(plan: &Plan) -> Vec<(f64, Action)> {
    let mut all = Vec::new();
    for viewer in &plan.viewer {
        for (name, at_s) in viewer.each() {
            all.push((at_s, Action::Join(name.clone())));
            all.extend(viewer.leave_s.map(|leave_s| (leave_s, Action::Leave(name))));
        }
    }
    for (name, pair) in &plan.link {
        let changes = pair.change.iter().enumerate();
        all.extend(changes.map(|(at, change)| (change.at_s, Action::Change(name.clone(), at))));
    }
    for (index, traffic) in plan.traffic.iter().enumerate() {
        all.push((traffic.at_s, Action::TrafficBegins(index)));
        all.extend(traffic.until_s.map(|until_s| (until_s, Action::TrafficEnds(index))));
    }
    for (index, fault) in plan.fault.iter().enumerate() {
        // The camera has its own faults in its configuration; they are only noted.
        all.push((fault.at_s, Action::FaultBegins(index)));
        if fault.for_s > 0.0 {
            all.push((fault.at_s + fault.for_s, Action::FaultEnds(index)));
        }
    }
    all.retain(|(at_s, _)| *at_s <= plan.duration_s);
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    all
}

/// A fault in a few words.
pub fn words(kind: &FaultKind) -> String {
    let text = toml::to_string(kind).unwrap_or_default();
    text.lines().map(|line| line.replace("kind = ", "")).collect::<Vec<_>>().join(", ")
}
