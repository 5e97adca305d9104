//! What is wrong with the configuration, in words that say what to do.

use std::fmt;

use super::tree::Origin;
use crate::error::Error;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Name of the file, where there is one.
    pub file: Option<String>,
    /// Where in the file, or which variable or option.
    pub origin: Origin,
    /// The key, like `camera[0].encoder.bitrate_kbps`; empty where it is about the whole file.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.origin, &self.file) {
            (Origin::Line(line), Some(file)) => write!(f, "{file}:{line}: ")?,
            (Origin::Line(line), None) => write!(f, "line {line}: ")?,
            (Origin::Variable(name), _) => write!(f, "{name}: ")?,
            (Origin::Argument(name), _) => write!(f, "{name}: ")?,
            (Origin::Default, Some(file)) => write!(f, "{file}: ")?,
            (Origin::Default, None) => {}
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}; {}", self.message, self.remedy)
    }
}

/// Everything that is wrong, in the order of the file; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "{problem}")?;
        }
        match self.0.len() {
            1 => f.write_str("1 problem in the configuration"),
            count => write!(f, "{count} problems in the configuration"),
        }
    }
}

impl From<Problems> for Error {
    fn from(problems: Problems) -> Self {
        Self::Config(problems.to_string())
    }
}
