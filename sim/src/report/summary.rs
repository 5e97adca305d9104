//! All runs of a folder on one page.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use lensline_soak::page::escape;
use serde::{Deserialize, Serialize};

use super::figures::{FIGURES, figures};
use super::judge::{Outcome, Verdict};
use super::page::{head, pill};
use super::words::Group;
use super::{Report, ReportError, read_json, replace, write_json};
use crate::plan::Tier;
use crate::record::Record;

/// Folders in folders that are looked through.
const DEPTH_MAX: usize = 4;

/// `summary.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// A row a run, the broken first, then by name.
    pub rows: Vec<SummaryRow>,
}

/// A run in a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SummaryRow {
    /// The plan's name, or its case's.
    pub plan: String,
    /// For a person.
    pub title: String,
    /// In which tier.
    pub tier: Tier,
    /// From which seed.
    pub seed: u64,
    /// Of which version.
    pub version: String,
    /// What came of it.
    pub outcome: Outcome,
    /// What does not hold as it should, each with its outcome, the worst first.
    pub findings: Vec<(Outcome, String)>,
    /// The figures by their keys; what was not measured is left out.
    pub figures: BTreeMap<String, f64>,
    /// The report's page, from the summary's folder.
    pub report: PathBuf,
}

impl SummaryRow {
    fn of(record: &Record, verdict: &Verdict, report: PathBuf) -> Self {
        let mut findings: Vec<_> = Group::all(verdict)
            .into_iter()
            .filter(|group| group.outcome() != Outcome::Holds)
            .map(|group| (group.outcome(), group.line()))
            .collect();
        findings.sort_by_key(|(outcome, _)| std::cmp::Reverse(*outcome));
        Self {
            plan: record.plan.name.clone(),
            title: record.plan.title.clone(),
            tier: record.tier,
            seed: record.seed,
            version: record.version.clone(),
            outcome: verdict.outcome,
            findings,
            figures: figures(record),
            report,
        }
    }
}

/// `sim summary`
#[derive(Clone, Debug, clap::Args)]
pub struct SummaryArgs {
    /// The folder that the runs' folders lie in
    pub folder: PathBuf,
}

/// Carries out `sim summary`; says where the page is.
///
/// # Errors
/// Where there is no report that can be read, or the summary cannot be written.
pub fn cli_summary(args: &SummaryArgs) -> Result<PathBuf, ReportError> {
    summary(&args.folder)?;
    Ok(args.folder.join("summary.html"))
}

/// Takes the reports in a folder's folders together, and writes `summary.json` and `summary.html`
/// beside them.
///
/// # Errors
/// Where there is no report that can be read, or the summary cannot be written.
pub fn summary(folder: &Path) -> Result<Summary, ReportError> {
    let mut rows = Vec::new();
    for path in reports(folder, DEPTH_MAX)? {
        // One that is of another version, or cut off, is no reason to tell of none.
        let Ok(report) = read_json::<Report<Record, Verdict>>(&path) else { continue };
        let page = path.with_extension("html");
        let page = page.strip_prefix(folder).unwrap_or(&page).to_owned();
        rows.push(SummaryRow::of(&report.record, &report.verdict, page));
    }
    if rows.is_empty() {
        return Err(ReportError::Nothing(folder.into()));
    }
    rows.sort_by(|one, other| {
        let key = |row: &SummaryRow| (std::cmp::Reverse(row.outcome), row.plan.clone(), row.tier);
        key(one).cmp(&key(other))
    });
    let summary = Summary { rows };
    write_json(&folder.join("summary.json"), &summary)?;
    replace(&folder.join("summary.html"), page(&summary).as_bytes())?;
    Ok(summary)
}

/// Every `report.json` in the folder's folders, in the order of their names.
fn reports(folder: &Path, depth: usize) -> Result<Vec<PathBuf>, ReportError> {
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(|error| ReportError::File(folder.into(), error))?;
    let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() && depth > 0 {
            found.extend(reports(&path, depth - 1)?);
        } else if path.file_name().is_some_and(|name| name == "report.json") {
            found.push(path);
        }
    }
    Ok(found)
}

fn page(summary: &Summary) -> String {
    let mut page = head("All plans", None);
    let mut versions: Vec<&str> = summary.rows.iter().map(|row| row.version.as_str()).collect();
    versions.sort_unstable();
    versions.dedup();
    let _ = writeln!(page, "<p class=\"faint\">Lensline {}</p>", escape(&versions.join(", ")));
    counts(&mut page, summary);
    page.push_str("<div class=\"wide\"><table>\n<tr><th></th><th>plan</th><th>tier</th>");
    for figure in FIGURES {
        let _ = write!(page, "<th>{}</th>", figure.name);
    }
    page.push_str("</tr>\n");
    for row in &summary.rows {
        let _ = write!(
            page,
            "<tr><td>{}</td><td class=\"plan\"><a href=\"{}\">{}</a>{}</td><td>{:?}</td>",
            pill(row.outcome),
            escape(&row.report.to_string_lossy()),
            escape(&row.plan),
            lines(row),
            row.tier
        );
        for figure in FIGURES {
            let shown = row.figures.get(figure.key).map(|value| figure.unit.show(*value));
            let _ = write!(page, "<td class=\"number\">{}</td>", shown.unwrap_or_default());
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table></div>\n");
    page
}

/// How many of each tier there are of each outcome.
fn counts(page: &mut String, summary: &Summary) {
    page.push_str("<table>\n<tr><th>tier</th>");
    for outcome in Outcome::ALL {
        let _ = write!(page, "<th>{}</th>", pill(outcome));
    }
    page.push_str("<th>of</th></tr>\n");
    for tier in [Tier::A, Tier::B] {
        let of_tier = || summary.rows.iter().filter(|row| row.tier == tier);
        if of_tier().next().is_none() {
            continue;
        }
        let _ = write!(page, "<tr><td>{tier:?}</td>");
        for outcome in Outcome::ALL {
            let count = of_tier().filter(|row| row.outcome == outcome).count();
            let _ = write!(page, "<td class=\"number\">{count}</td>");
        }
        let _ = writeln!(page, "<td class=\"number\">{}</td></tr>", of_tier().count());
    }
    page.push_str(
        "</table>\n<p class=\"faint\">missing: does not hold, and the plan names what is \
         known not to exist yet. unclear: not measured, or a fault could not be carried out.</p>\n",
    );
}

/// What does not hold, below the plan's name.
fn lines(row: &SummaryRow) -> String {
    const SHOWN: usize = 4;
    let mut lines = String::new();
    for (outcome, line) in row.findings.iter().take(SHOWN) {
        let line = escape(line);
        let _ = write!(lines, "<br><small class=\"faint\">{}: {line}</small>", outcome.as_str());
    }
    if row.findings.len() > SHOWN {
        let more = row.findings.len() - SHOWN;
        let _ = write!(lines, "<br><small class=\"faint\">and {more} more</small>");
    }
    lines
}
