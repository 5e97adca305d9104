//! Two versions side by side.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use lensline_soak::page::escape;

use super::figures::{FIGURES, Figure};
use super::page::{head, pill};
use super::summary::{Summary, SummaryRow};
use super::{ReportError, read_json, replace};
use crate::plan::Tier;

/// Less of a change is none: runs differ by as much on their own.
const LITTLE: f64 = 0.1;

/// `sim compare`
#[derive(Clone, Debug, clap::Args)]
pub struct CompareArgs {
    /// The older version's `summary.json`, or the folder that it lies in
    pub before: PathBuf,
    /// The newer version's
    pub after: PathBuf,
    /// Where the page goes
    #[arg(long, default_value = "compare.html")]
    pub out: PathBuf,
}

/// Carries out `sim compare`; says where the page is.
///
/// # Errors
/// Where a summary cannot be read, or the page cannot be written.
pub fn cli_compare(args: &CompareArgs) -> Result<PathBuf, ReportError> {
    let read = |path: &Path| -> Result<Summary, ReportError> {
        match path.is_dir() {
            true => read_json(&path.join("summary.json")),
            false => read_json(path),
        }
    };
    let page = compare(&read(&args.before)?, &read(&args.after)?);
    replace(&args.out, page.as_bytes())?;
    Ok(args.out.clone())
}

/// How a plan's run differs between the versions, in the order of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Worse,
    Better,
    New,
    Gone,
    Same,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Worse, Self::Better, Self::New, Self::Gone, Self::Same];

    const fn title(self) -> &'static str {
        match self {
            Self::Worse => "Worse outcome",
            Self::Better => "Better outcome",
            Self::New => "New",
            Self::Gone => "Gone",
            Self::Same => "The same outcome",
        }
    }
}

/// A plan's run in both versions.
struct Pair<'a> {
    before: Option<&'a SummaryRow>,
    after: Option<&'a SummaryRow>,
}

impl Pair<'_> {
    fn kind(&self) -> Kind {
        match (self.before, self.after) {
            (Some(before), Some(after)) if after.outcome > before.outcome => Kind::Worse,
            (Some(before), Some(after)) if after.outcome < before.outcome => Kind::Better,
            (Some(_), Some(_)) => Kind::Same,
            (None, _) => Kind::New,
            (Some(_), None) => Kind::Gone,
        }
    }

    fn values(&self, figure: &Figure) -> (Option<f64>, Option<f64>) {
        let value = |row: Option<&SummaryRow>| row?.figures.get(figure.key).copied();
        (value(self.before), value(self.after))
    }
}

/// A change of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Change {
    /// Less than runs differ by on their own.
    Little(f64),
    /// So much of what it was, for the better.
    Better(f64),
    /// The same, for the worse.
    Worse(f64),
}

/// How a figure has changed, by what it was.
pub(super) fn change(before: f64, after: f64, more_is_better: bool) -> Change {
    let relative = match before == after {
        true => 0.0,
        false => (after - before) / before.abs(),
    };
    match relative.abs() <= LITTLE {
        true => Change::Little(relative),
        false if (after > before) == more_is_better => Change::Better(relative),
        false => Change::Worse(relative),
    }
}

/// The page on which two versions stand side by side.
pub fn compare(before: &Summary, after: &Summary) -> String {
    let pairs = pairs(before, after);
    let mut page = head("Two versions", None);
    let versions = |summary: &Summary| {
        let mut versions: Vec<_> = summary.rows.iter().map(|row| row.version.clone()).collect();
        versions.sort();
        versions.dedup();
        versions.join(", ")
    };
    let _ = writeln!(
        page,
        "<p>Before: {}. After: {}.</p>",
        escape(&versions(before)),
        escape(&versions(after))
    );
    counts(&mut page, &pairs);
    for kind in Kind::ALL {
        let of_kind: Vec<_> = pairs.iter().filter(|pair| pair.kind() == kind).collect();
        if !of_kind.is_empty() {
            table(&mut page, kind, &of_kind);
        }
    }
    page
}

/// Runs of the same plan and tier; where there are several, in their order by seed.
fn pairs<'a>(before: &'a Summary, after: &'a Summary) -> Vec<Pair<'a>> {
    type Key<'a> = (&'a str, Tier, usize);
    fn keyed(summary: &Summary) -> BTreeMap<Key<'_>, &SummaryRow> {
        let mut rows: Vec<&SummaryRow> = summary.rows.iter().collect();
        rows.sort_by_key(|row| row.seed);
        let mut keyed = BTreeMap::new();
        for row in rows {
            let same = |key: &&Key<'_>| (key.0, key.1) == (row.plan.as_str(), row.tier);
            let number = keyed.keys().filter(same).count();
            keyed.insert((row.plan.as_str(), row.tier, number), row);
        }
        keyed
    }
    let (before, after) = (keyed(before), keyed(after));
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    let mut keys: Vec<Key<'_>> = after.keys().chain(gone).copied().collect();
    keys.sort_unstable();
    keys.iter()
        .map(|key| Pair { before: before.get(key).copied(), after: after.get(key).copied() })
        .collect()
}

fn counts(page: &mut String, pairs: &[Pair<'_>]) {
    let (mut better, mut worse) = (0, 0);
    for (pair, figure) in pairs.iter().flat_map(|pair| FIGURES.iter().map(move |f| (pair, f))) {
        let (Some(before), Some(after)) = pair.values(figure) else { continue };
        match change(before, after, figure.more_is_better) {
            Change::Better(_) => better += 1,
            Change::Worse(_) => worse += 1,
            Change::Little(_) => {}
        }
    }
    let kinds = Kind::ALL.map(|kind| {
        let count = pairs.iter().filter(|pair| pair.kind() == kind).count();
        format!("{}: {count}", kind.title())
    });
    let _ = writeln!(
        page,
        "<p>{}.</p>\n<p>Figures that changed by more than {:.0} %: <span class=\"better\">{better} \
         better</span>, <span class=\"worse\">{worse} worse</span>.</p>",
        kinds.join(" · "),
        LITTLE * 100.0
    );
}

fn table(page: &mut String, kind: Kind, pairs: &[&Pair<'_>]) {
    let _ = write!(
        page,
        "<h2>{}</h2>\n<div class=\"wide\"><table>\n<tr><th>plan</th><th>tier</th><th>before</th>\
         <th>after</th>",
        kind.title()
    );
    for figure in FIGURES {
        let _ = write!(page, "<th>{}</th>", figure.name);
    }
    page.push_str("</tr>\n");
    for pair in pairs {
        let Some(row) = pair.after.or(pair.before) else { continue };
        let _ = write!(
            page,
            "<tr><td class=\"plan\">{}{}</td><td>{:?}</td>",
            escape(&row.plan),
            new_findings(pair),
            row.tier
        );
        for side in [pair.before, pair.after] {
            let shown = side.map(|row| pill(row.outcome)).unwrap_or_default();
            let _ = write!(page, "<td>{shown}</td>");
        }
        for figure in FIGURES {
            let _ = write!(page, "<td class=\"number\">{}</td>", cell(pair, &figure));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table></div>\n");
}

/// What does not hold now, where the outcome is worse.
fn new_findings(pair: &Pair<'_>) -> String {
    let (Kind::Worse, Some(after)) = (pair.kind(), pair.after) else { return String::new() };
    let worst = after.findings.iter().filter(|(outcome, _)| *outcome == after.outcome);
    let lines = worst.take(3).map(|(_, line)| escape(line));
    lines.map(|line| format!("<br><small class=\"faint\">{line}</small>")).collect()
}

fn cell(pair: &Pair<'_>, figure: &Figure) -> String {
    let show = |value: f64| figure.unit.show(value);
    let (before, after) = match pair.values(figure) {
        (Some(before), Some(after)) => (before, after),
        (Some(before), None) => return format!("{} → ?", show(before)),
        (None, Some(after)) => return format!("? → {}", show(after)),
        (None, None) => return String::new(),
    };
    let (class, relative) = match change(before, after, figure.more_is_better) {
        Change::Little(relative) => ("little", relative),
        Change::Better(relative) => ("better", relative),
        Change::Worse(relative) => ("worse", relative),
    };
    let relative = match relative.is_finite() {
        true => format!("{:+.0} %", relative * 100.0),
        false => "from 0".to_owned(),
    };
    // The unit stands once.
    let before = show(before);
    let before = before.split(' ').next().unwrap_or_default();
    format!("{before} → {}<br><span class=\"{class}\">{relative}</span>", show(after))
}
