//! Why a camera is rebuilt.

use std::fmt;
use std::time::Duration;

use super::watchdog::Stall;

/// A camera stopped delivering, or could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub cause: Cause,
    /// In words for the operator, without passwords.
    pub reason: String,
}

/// The cause as `lensline_camera_restarts_total` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It could not be opened.
    Open,
    /// An element failed.
    Error,
    /// The stream ended.
    Eos,
    /// No picture came.
    Stall,
    /// The encoder gave nothing.
    EncoderStall,
    /// What came was no picture.
    Garbage,
    /// An operator asked for it.
    Restart,
}

impl Cause {
    /// Every cause.
    pub(super) const ALL: [Self; 7] = [
        Self::Open,
        Self::Error,
        Self::Eos,
        Self::Stall,
        Self::EncoderStall,
        Self::Garbage,
        Self::Restart,
    ];

    /// The name used in metrics.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Error => "error",
            Self::Eos => "eos",
            Self::Stall => "stall",
            Self::EncoderStall => "encoder_stall",
            Self::Garbage => "garbage",
            Self::Restart => "restart",
        }
    }
}

impl Lost {
    pub(super) fn new(cause: Cause, reason: impl Into<String>) -> Self {
        Self { cause, reason: reason.into() }
    }

    /// It could not be opened.
    pub(super) fn open(reason: impl Into<String>) -> Self {
        Self::new(Cause::Open, reason)
    }

    /// The watchdog saw it stop; `renditions` are the names to tell which.
    pub(super) fn stalled(stall: Stall, renditions: &[&str]) -> Self {
        let name = |index: usize| renditions.get(index).copied().unwrap_or("?");
        let seconds = |silent: Duration| format!("{:.1} s", silent.as_secs_f64());
        match stall {
            Stall::Arrival(silent) => Self::new(
                Cause::Stall,
                format!("no picture has come from the camera for {}", seconds(silent)),
            ),
            Stall::Encoder(index, silent) => Self::new(
                Cause::EncoderStall,
                format!("the encoder of {} gave nothing for {}", name(index), seconds(silent)),
            ),
            Stall::Garbage(index, silent) => Self::new(
                Cause::Garbage,
                format!(
                    "nothing that can be decoded has come for {} for {}",
                    name(index),
                    seconds(silent)
                ),
            ),
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}
