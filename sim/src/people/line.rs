//! What they say.

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[expect(missing_docs, reason = "placeholder until merged")]
pub enum Line {
    Joining,
    Joined { ms: f64 },
    Refused { status: Option<u16>, retry_after_s: Option<f64>, why: String },
    Look(Look),
    Rejoining,
    Left,
    Ended { why: String },
    Bytes { total: u64 },
    Health { asked: u32, failed: u32 },
}

/// One look.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "placeholder until merged")]
pub struct Look {
    pub frames: u64,
    pub kbits: Option<f64>,
    pub lost: u64,
    pub damaged: u64,
    pub latencies: Vec<(f64, f64)>,
    pub gap_ms: f64,
}

impl Line {
    /// For events.
    pub fn words(&self) -> Option<String> {
        match self {
            Self::Refused { status, why, .. } => Some(format!("refused: {status:?} {why}")),
            Self::Rejoining => Some("joins again".into()),
            Self::Ended { why } => Some(format!("ended: {why}")),
            _ => None,
        }
    }
}
