//! The subcommands of `sim` that carry plans out.

pub mod run;
pub mod search;

/// Why a subcommand could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The plan.
    #[error(transparent)]
    Plan(#[from] crate::plan::PlanError),
    /// There can be no tier B here.
    #[error(transparent)]
    Cell(#[from] crate::tier_b::CellError),
    /// Tier B did not get what it takes.
    #[error(transparent)]
    Run(#[from] crate::tier_b::RunError),
    /// A report could not be written.
    #[error(transparent)]
    Report(#[from] crate::report::ReportError),
    /// A file could not be read or written.
    #[error("{0}: {1}")]
    File(std::path::PathBuf, std::io::Error),
    /// Something could not be written.
    #[error("{0}")]
    Output(#[from] std::io::Error),
    /// It was asked for what there is not.
    #[error("{0}")]
    Usage(String),
}
