//! The subcommands of `sim`, each in a module of its own. They write to whatever they are given,
//! and say whether all is well.

pub mod run;
pub mod search;

/// Why a subcommand could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The plan.
    #[error(transparent)]
    Plan(#[from] crate::plan::PlanError),
    /// Something could not be written.
    #[error("{0}")]
    Output(#[from] std::io::Error),
    /// It was asked for what there is not.
    #[error("{0}")]
    Usage(String),
}
