//! What is left out of a plan, and how that is written: `--keep v3:2,f1 --until 12.5` keeps two
//! of the fourth viewer entry, the second fault, no change of a link and no other traffic, and
//! ends after 12.5 s.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::plan::{FaultKind, Plan, Viewer, matches};

/// An entry of a plan that can be left out, by its number from 0 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// `v3`: of `viewer`.
    Viewer(usize),
    /// `f3`: of `fault`.
    Fault(usize),
    /// `c3`: of the changes of all links, in the order of the links' names.
    Change(usize),
    /// `t3`: of `traffic`.
    Traffic(usize),
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (letter, number) = match self {
            Self::Viewer(number) => ('v', number),
            Self::Fault(number) => ('f', number),
            Self::Change(number) => ('c', number),
            Self::Traffic(number) => ('t', number),
        };
        write!(f, "{letter}{number}")
    }
}

/// A list of items that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no item: write v0, f0, c0 or t0, and v0:2 for two of that viewer; none for nothing"
)]
pub struct CutError(String);

/// What is kept of a plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cut {
    /// The items that are kept, and how many of each where that is fewer than there are. All are
    /// kept where this is left out.
    pub keep: Option<Keep>,
    /// When it ends, in seconds, if before its own end.
    pub until_s: Option<f64>,
}

/// Items, and how many of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keep(pub BTreeMap<Item, Option<u32>>);

impl FromStr for Keep {
    type Err = CutError;

    fn from_str(text: &str) -> Result<Self, CutError> {
        if text == "none" {
            return Ok(Self::default());
        }
        let item = |text: &str| {
            let wrong = || CutError(text.to_owned());
            let (name, count) = match text.split_once(':') {
                Some((name, count)) => (name, Some(count.parse().map_err(|_| wrong())?)),
                None => (text, None),
            };
            let number = name.get(1..).and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
            let item = match name.as_bytes().first() {
                Some(b'v') => Item::Viewer(number),
                Some(b'f') => Item::Fault(number),
                Some(b'c') => Item::Change(number),
                Some(b't') => Item::Traffic(number),
                _ => return Err(wrong()),
            };
            Ok((item, count))
        };
        text.split(',').map(item).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (index, (item, count)) in self.0.iter().enumerate() {
            f.write_str(if index > 0 { "," } else { "" })?;
            write!(f, "{item}")?;
            if let Some(count) = count {
                write!(f, ":{count}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(keep) = &self.keep {
            write!(f, " --keep {keep}")?;
        }
        match self.until_s {
            Some(until_s) => write!(f, " --until {until_s}"),
            None => Ok(()),
        }
    }
}

impl Keep {
    /// All items of a plan.
    pub fn all(plan: &Plan) -> Self {
        let changes: usize = plan.link.values().map(|pair| pair.change.len()).sum();
        let viewers = (0..plan.viewer.len()).map(Item::Viewer);
        let faults = (0..plan.fault.len()).map(Item::Fault);
        let traffic = (0..plan.traffic.len()).map(Item::Traffic);
        let all = viewers.chain(faults).chain((0..changes).map(Item::Change)).chain(traffic);
        Self(all.map(|item| (item, None)).collect())
    }
}

impl Cut {
    /// What is left of a plan. Faults of viewers that are left out go with them.
    pub fn apply(&self, plan: &Plan) -> Plan {
        let mut left = plan.clone();
        left.duration_s = self.until_s.map_or(plan.duration_s, |end| end.min(plan.duration_s));
        let Some(Keep(keep)) = &self.keep else { return left };
        retain(&mut left.viewer, |number| keep.contains_key(&Item::Viewer(number)));
        retain(&mut left.fault, |number| keep.contains_key(&Item::Fault(number)));
        retain(&mut left.traffic, |number| keep.contains_key(&Item::Traffic(number)));
        let mut first = 0;
        for pair in left.link.values_mut() {
            let here = pair.change.len();
            retain(&mut pair.change, |number| keep.contains_key(&Item::Change(first + number)));
            first += here;
        }
        let counts = |kind: fn(&Item) -> bool| keep.iter().filter(move |(item, _)| kind(item));
        let viewers = counts(|item| matches!(item, Item::Viewer(_)));
        for (viewer, (_, count)) in left.viewer.iter_mut().zip(viewers) {
            viewer.count = count.map_or(viewer.count, |count| count.min(viewer.count));
        }
        let traffic = counts(|item| matches!(item, Item::Traffic(_)));
        for (traffic, (_, count)) in left.traffic.iter_mut().zip(traffic) {
            traffic.count = count.map_or(traffic.count, |count| count.min(traffic.count));
        }
        let names: Vec<_> =
            left.viewer.iter().flat_map(Viewer::each).map(|(name, _)| name).collect();
        left.fault.retain(|fault| match &fault.kind {
            FaultKind::StopViewer { viewer }
            | FaultKind::KillViewer { viewer }
            | FaultKind::Roam { viewer }
            | FaultKind::Rebind { viewer }
            | FaultKind::TabAsleep { viewer } => names.iter().any(|name| matches(viewer, name)),
            _ => true,
        });
        left
    }
}

/// Keeps those entries of whose number `keep` says so.
fn retain<T>(list: &mut Vec<T>, keep: impl Fn(usize) -> bool) {
    let mut number = 0;
    list.retain(|_| {
        number += 1;
        keep(number - 1)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_written_and_read_again() {
        for text in ["v3:2,f1", "none", "v0,f2,c1,t0:3"] {
            assert_eq!(text.parse::<Keep>().map(|keep| keep.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "v", "x1", "v1:x", "v1,,f2"] {
            assert!(text.parse::<Keep>().is_err(), "{text}");
        }
        let keep = "v1".parse().ok();
        assert_eq!(Cut { keep, until_s: Some(1.5) }.to_string(), " --keep v1 --until 1.5");
    }
}
