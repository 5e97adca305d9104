//! What happened, step by step, as text.

use std::collections::VecDeque;
use std::fmt::Arguments;
use std::time::Duration;

/// How much of the trace is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Nothing.
    #[default]
    Nothing,
    /// The last so many steps.
    Last(usize),
    /// Every step.
    All,
}

/// The trace.
pub struct Log {
    keep: Keep,
    lines: VecDeque<String>,
}

impl Log {
    pub fn new(keep: Keep) -> Self {
        Self { keep, lines: VecDeque::new() }
    }

    /// Notes a step, where steps are kept.
    pub fn note(&mut self, now: Duration, what: Arguments<'_>) {
        let most = match self.keep {
            Keep::Nothing => return,
            Keep::Last(most) => most,
            Keep::All => usize::MAX,
        };
        if self.lines.len() >= most {
            self.lines.pop_front();
        }
        let (seconds, nanoseconds) = (now.as_secs(), now.subsec_nanos());
        self.lines.push_back(format!("{seconds}.{nanoseconds:09} {what}"));
    }

    pub fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}
