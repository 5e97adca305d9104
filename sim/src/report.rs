//! What came of a run: a verdict, files for programs and pages for people.
//!
//! ```text
//! record ─ judge ─▶ verdict ─ write ─▶ FOLDER/report.json, report.html
//!                                        └─ summary ─▶ summary.json, summary.html
//!                                                        └─ compare ─▶ two versions side by side
//! ```

mod compare;
mod figures;
mod judge;
mod measure;
mod page;
mod plots;
mod summary;
mod words;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::words::Group;
pub use compare::{CompareArgs, cli_compare, compare};
pub use judge::{Finding, Outcome, Verdict, judge};
pub use summary::{Summary, SummaryArgs, SummaryRow, cli_summary, summary};

use crate::record::Record;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file or folder cannot be read or written.
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    /// A file is none that was written here.
    #[error("{0}: {1}")]
    Json(PathBuf, serde_json::Error),
    /// A folder without a report.
    #[error("{0}: there is no report.json in its folders; `sim run` writes them")]
    Nothing(PathBuf),
}

/// `report.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Report<R, V> {
    verdict: V,
    record: R,
}

/// Writes `report.json` and `report.html` into the folder, which is made if need be.
///
/// # Errors
/// Where they cannot be written.
pub fn write(record: &Record, verdict: &Verdict, folder: &Path) -> Result<(), ReportError> {
    std::fs::create_dir_all(folder).map_err(|error| ReportError::File(folder.into(), error))?;
    write_json(&folder.join("report.json"), &Report { verdict, record })?;
    replace(&folder.join("report.html"), page::page(record, verdict).as_bytes())
}

fn write_json(path: &Path, content: &impl Serialize) -> Result<(), ReportError> {
    let json =
        serde_json::to_vec(content).map_err(|error| ReportError::Json(path.into(), error))?;
    replace(path, &json)
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, ReportError> {
    let json = std::fs::read(path).map_err(|error| ReportError::File(path.into(), error))?;
    serde_json::from_slice(&json).map_err(|error| ReportError::Json(path.into(), error))
}

fn replace(path: &Path, content: &[u8]) -> Result<(), ReportError> {
    lensline_soak::page::replace(path, content)
        .map_err(|error| ReportError::File(path.into(), error))
}

#[cfg(test)]
mod tests;
