//! Watches a Lensline for minutes or days, and says whether anything of it grows.
//!
//! ```text
//! target (spawned, or live by its address) ─ looked at every second ─▶ rows (JSON lines, kept at once)
//!    ▲ crowd: viewers who stay   ▲ churn: visitors who leave at every stage       │
//!                                             budgets.toml ─▶ verdict ◀─ trend ◀──┘
//!                                                                │
//!                                                  report.json and report.html
//! ```
//!
//! Three programs share it: `churn` (so many joins, then rest), `endurance` (minutes to days) and
//! `heap` (dhat on the same application in-process). A fourth, `leaky`, is a Lensline that leaks on
//! purpose, to show that the verdict notices.

pub mod budget;
pub mod churn;
pub mod crowd;
pub mod page;
pub mod plot;
pub mod report;
pub mod rows;
pub mod run;
pub mod target;
pub mod tracer;
pub mod trend;
pub mod verdict;
