//! What may be wrong with a plan.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Expect, Fault, FaultKind, Plan, Tier, Traffic, TrafficKind, Viewer};
use crate::link::ShapeError;

/// Letters of a name at most.
const NAME_MAX: usize = 64;

/// Of a kind at most.
const COUNT_MAX: u32 = 1_000;

/// Logs and processes of tier B's own.
const RESERVED: [&str; 3] = ["health", "lensline", "turnserver"];

/// Why a plan cannot be carried out.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// Its file cannot be read.
    #[error("{0}: {1}")]
    Unreadable(PathBuf, String),
    /// It is no TOML, or has keys that there are not.
    #[error("{0}: {1}")]
    Syntax(String, String),
    /// A link's figures are wrong.
    #[error("{plan}: link.{link}: {error}")]
    Shape {
        /// The plan.
        plan: String,
        /// The link.
        link: String,
        /// What is wrong.
        error: ShapeError,
    },
    /// Something else is wrong.
    #[error("{0}: {1}")]
    Wrong(String, String),
}

impl Plan {
    /// Checks names and figures, and reads the files it names.
    pub(super) fn prepare(&mut self, folder: &Path) -> Result<(), PlanError> {
        let wrong = |what: String| Err(PlanError::Wrong(self.name.clone(), what));
        if !(self.duration_s.is_finite() && self.duration_s > 0.0) {
            return wrong("duration_s: a plan takes some seconds".into());
        }
        if self.tiers.is_empty() {
            return wrong("tiers: name at least one of \"a\" and \"b\"".into());
        }
        for link in self.vias() {
            if !self.link.contains_key(&link) {
                let known: Vec<_> = self.link.keys().map(String::as_str).collect();
                let known = known.join(", ");
                return wrong(format!("via: there is no link {link}; there are: {known}"));
            }
        }
        let mut names = BTreeSet::new();
        let viewers = self.viewer.iter().flat_map(|viewer| viewer.each()).map(|(name, _)| name);
        for name in viewers.chain(self.traffic.iter().map(|traffic| traffic.name.clone())) {
            if !is_name(&name) || RESERVED.contains(&name.as_str()) {
                return wrong(format!(
                    "the name {name:?}: names are letters, digits, -, _ and ., at most \
                     {NAME_MAX}; {} are taken",
                    RESERVED.join(", ")
                ));
            }
            if !names.insert(name.clone()) {
                return wrong(format!("two are called {name}"));
            }
        }
        if let Some(what) = self.figures() {
            return wrong(what);
        }
        for fault in &self.fault {
            if let Some(what) = self.unknown_in(&fault.kind, &names) {
                return wrong(format!("fault at {} s: {what}", fault.at_s));
            }
        }
        for expect in &self.expect {
            if expect.min.is_none() && expect.max.is_none() {
                return wrong(format!("expect {:?}: give min, max or both", expect.what));
            }
        }
        let name = self.name.clone();
        for (link, pair) in &mut self.link {
            let shape = |error| PlanError::Shape { plan: name.clone(), link: link.clone(), error };
            pair.down.prepare(folder).map_err(shape)?;
            pair.up.prepare(folder).map_err(shape)?;
            for change in &pair.change {
                change.down.of(&pair.down).prepare(folder).map_err(shape)?;
                change.up.of(&pair.up).prepare(folder).map_err(shape)?;
            }
        }
        Ok(())
    }

    /// The first figure that means nothing.
    fn figures(&self) -> Option<String> {
        let camera = &self.camera;
        if [camera.width, camera.height, camera.framerate, camera.bitrate_kbps].contains(&0) {
            return Some("camera: nothing of it is 0".into());
        }
        let viewer = self.viewer.iter().find_map(|viewer| self.viewer_figures(viewer));
        let traffic = || self.traffic.iter().find_map(|traffic| self.traffic_figures(traffic));
        let faults = || {
            let wrong = |fault: &&Fault| !(self.within(fault.at_s) && is_amount(fault.for_s));
            let at = self.fault.iter().find(wrong)?.at_s;
            Some(format!("fault at {at} s: at_s: within duration_s; for_s: 0 or more"))
        };
        let expects = || self.expect.iter().find_map(expect_figures);
        viewer.or_else(traffic).or_else(faults).or_else(expects)
    }

    fn within(&self, at_s: f64) -> bool {
        (0.0..=self.duration_s).contains(&at_s)
    }

    fn viewer_figures(&self, viewer: &Viewer) -> Option<String> {
        let wrong = if !(self.within(viewer.at_s) && is_amount(viewer.every_s)) {
            "at_s and every_s: within duration_s"
        } else if viewer.leave_s.is_some_and(|leave_s| leave_s.is_nan() || leave_s <= viewer.at_s) {
            "leave_s: after at_s"
        } else if !(1..=COUNT_MAX).contains(&viewer.count) {
            "count: 1 to 1000"
        } else if !is_amount(viewer.lost_after_s) || viewer.lost_after_s == 0.0 {
            "lost_after_s: above 0"
        } else {
            return None;
        };
        Some(format!("viewer {}: {wrong}", viewer.name))
    }

    fn traffic_figures(&self, traffic: &Traffic) -> Option<String> {
        let constant = traffic.kind == TrafficKind::UdpCbr && traffic.count > 0;
        let wrong = if !self.within(traffic.at_s) {
            "at_s: within duration_s"
        } else if traffic.count > COUNT_MAX {
            "count: at most 1000"
        } else if !is_amount(traffic.rate_kbps) || (constant && traffic.rate_kbps == 0.0) {
            "rate_kbps: udp-cbr needs one above 0"
        } else {
            return None;
        };
        Some(format!("traffic {}: {wrong}", traffic.name))
    }

    fn vias(&self) -> BTreeSet<String> {
        let viewers = self.viewer.iter().flat_map(|viewer| &viewer.via);
        let traffic = self.traffic.iter().flat_map(|traffic| &traffic.via);
        viewers.chain(traffic).chain(&self.streamer.via).cloned().collect()
    }

    /// What a fault names and there is not.
    fn unknown_in(&self, kind: &FaultKind, names: &BTreeSet<String>) -> Option<String> {
        match kind {
            FaultKind::Blackout { link } if !self.link.contains_key(link) => {
                Some(format!("there is no link {link}"))
            }
            FaultKind::StopViewer { viewer }
            | FaultKind::KillViewer { viewer }
            | FaultKind::Roam { viewer }
            | FaultKind::Rebind { viewer }
            | FaultKind::TabAsleep { viewer }
                if !names.iter().any(|name| matches(viewer, name)) =>
            {
                Some(format!("there is no viewer {viewer}"))
            }
            _ => None,
        }
    }

    /// Whether this tier carries it out.
    pub fn runs_in(&self, tier: Tier) -> bool {
        self.tiers.contains(&tier)
    }
}

fn expect_figures(expect: &Expect) -> Option<String> {
    let upside_down =
        |low: Option<f64>, high: Option<f64>| low.zip(high).is_some_and(|(low, high)| low > high);
    (upside_down(expect.min, expect.max) || upside_down(expect.from_s, expect.to_s))
        .then(|| format!("expect {:?}: the lower above the upper", expect.what))
}

/// Seconds and kilobits that somebody could mean.
fn is_amount(value: f64) -> bool {
    (0.0..=1e7).contains(&value)
}

/// Names are files' too, and arguments of processes.
fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=NAME_MAX).contains(&name.len()) && name.chars().all(fits) && !name.starts_with(['.', '-'])
}

/// Whether `name` is meant by `pattern`, which may end in `*`.
pub fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }
}
