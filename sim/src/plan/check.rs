//! What may be wrong with a plan.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{FaultKind, Plan, Tier};
use crate::link::ShapeError;

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
        for name in self.viewer.iter().flat_map(|viewer| viewer.each()).map(|(name, _)| name) {
            if !names.insert(name.clone()) {
                return wrong(format!("viewer: two are called {name}"));
            }
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

/// Whether `name` is meant by `pattern`, which may end in `*`.
pub fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }
}
