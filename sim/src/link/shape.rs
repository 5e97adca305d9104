//! What a link is like, as plans write it.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use str0m_netem::{GilbertElliot, LossModel, Probability, RandomLoss};

use super::bottleneck::Trace;

/// The slowest link, a modem's for teletypes.
const RATE_MIN_KBPS: f64 = 0.1;

/// Beyond any delay (11 days) and any rate (a terabit a second).
const AMOUNT_MAX: f64 = 1e9;

/// One direction of a link. Probabilities are per packet, 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shape {
    /// What it carries, in kilobits of IP packets a second; as much as comes where it is left out.
    pub rate_kbps: Option<f64>,
    /// How much waits at most, in milliseconds at the rate; what comes on top is dropped.
    pub queue_ms: f64,
    /// One-way delay without a queue.
    pub delay_ms: f64,
    /// Standard deviation of the delay; the mean rises by three of it. It does not reorder.
    pub jitter_ms: f64,
    /// Packets that are lost.
    pub loss: Loss,
    /// Packets that come twice.
    pub duplicate: f64,
    /// Packets that are overtaken by those of the next [`Shape::reorder_ms`].
    pub reorder: f64,
    /// How long those are held back.
    pub reorder_ms: f64,
    /// Packets of which a bit is flipped.
    pub corrupt: f64,
    /// Nothing goes through.
    pub blackout: bool,
    /// Moments at which 1500 bytes leave (Mahimahi's format), instead of a rate.
    pub trace: Option<Trace>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            rate_kbps: None,
            queue_ms: 300.0,
            delay_ms: 0.0,
            jitter_ms: 0.0,
            loss: Loss::default(),
            duplicate: 0.0,
            reorder: 0.0,
            reorder_ms: 20.0,
            corrupt: 0.0,
            blackout: false,
            trace: None,
        }
    }
}

/// Which packets are lost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Loss {
    /// Each with this probability.
    Independent(f64),
    /// In bursts (Gilbert 1960, Elliott 1963): two states that last for so many packets on average.
    Bursts {
        /// Packets from burst to burst.
        good_packets: f64,
        /// Packets in a burst.
        bad_packets: f64,
        /// Lost in a burst.
        bad_loss: f64,
        /// Lost between bursts.
        #[serde(default)]
        good_loss: f64,
    },
}

impl Default for Loss {
    fn default() -> Self {
        Self::Independent(0.0)
    }
}

impl Loss {
    pub(super) fn model(self) -> Option<LossModel> {
        let probability = |value: f64| Probability::new(value as f32);
        match self {
            Self::Independent(loss) if loss <= 0.0 => None,
            Self::Independent(loss) => Some(RandomLoss::new(probability(loss)).into()),
            Self::Bursts { good_packets, bad_packets, bad_loss, good_loss } => Some(
                GilbertElliot::new()
                    .good_duration(good_packets as f32)
                    .bad_duration(bad_packets as f32)
                    .loss_in_bad(probability(bad_loss))
                    .loss_in_good(probability(good_loss))
                    .into(),
            ),
        }
    }

    /// The share of packets that is lost in the long run.
    pub fn mean(self) -> f64 {
        match self {
            Self::Independent(loss) => loss,
            Self::Bursts { good_packets, bad_packets, bad_loss, good_loss } => {
                (good_packets * good_loss + bad_packets * bad_loss) / (good_packets + bad_packets)
            }
        }
    }
}

/// What is wrong with a shape.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ShapeError {
    /// A probability that is none.
    #[error("{0} is a probability, from 0 to 1")]
    Probability(&'static str),
    /// A time or a rate below zero, or none at all.
    #[error("{0} is below zero, above {AMOUNT_MAX} or no number")]
    Negative(&'static str),
    /// A rate of nothing.
    #[error(
        "rate_kbps is below {RATE_MIN_KBPS}: for a link that carries nothing, write blackout = true"
    )]
    NoRate,
    /// Two ways to say how fast it is.
    #[error("trace and rate_kbps: give one of them")]
    TraceAndRate,
    /// Bursts of less than a packet.
    #[error("good_packets and bad_packets count packets: at least 1")]
    Bursts,
    /// A trace without a delivery.
    #[error("the trace has no line, or one that is no number of milliseconds")]
    Trace,
    /// A trace that cannot be read.
    #[error("the trace {0} cannot be read: {1}")]
    TraceFile(String, String),
}

impl Shape {
    /// Checks the figures, and reads the trace's file, which lies in `folder`.
    ///
    /// # Errors
    /// Names the first key that is wrong.
    pub fn prepare(&mut self, folder: &Path) -> Result<(), ShapeError> {
        let (bad_loss, good_loss) = match self.loss {
            Loss::Independent(loss) => (loss, 0.0),
            Loss::Bursts { good_packets, bad_packets, bad_loss, good_loss } => {
                if !(good_packets >= 1.0 && bad_packets >= 1.0) {
                    return Err(ShapeError::Bursts);
                }
                (bad_loss, good_loss)
            }
        };
        let probabilities = [
            ("loss", bad_loss),
            ("good_loss", good_loss),
            ("duplicate", self.duplicate),
            ("reorder", self.reorder),
            ("corrupt", self.corrupt),
        ];
        for (name, value) in probabilities {
            if !(0.0..=1.0).contains(&value) {
                return Err(ShapeError::Probability(name));
            }
        }
        let amounts = [
            ("queue_ms", self.queue_ms),
            ("delay_ms", self.delay_ms),
            ("jitter_ms", self.jitter_ms),
            ("reorder_ms", self.reorder_ms),
            ("rate_kbps", self.rate_kbps.unwrap_or(1.0)),
        ];
        for (name, value) in amounts {
            if !(0.0..=AMOUNT_MAX).contains(&value) {
                return Err(ShapeError::Negative(name));
            }
        }
        if self.rate_kbps.is_some_and(|rate| rate < RATE_MIN_KBPS) {
            return Err(ShapeError::NoRate);
        }
        if self.trace.is_some() && self.rate_kbps.is_some() {
            return Err(ShapeError::TraceAndRate);
        }
        self.trace.as_mut().map_or(Ok(()), |trace| trace.prepare(folder))
    }

    pub(super) fn delay(&self) -> Duration {
        Duration::from_secs_f64(self.delay_ms / 1e3)
    }

    pub(super) fn reorder_by(&self) -> Duration {
        Duration::from_secs_f64(self.reorder_ms / 1e3)
    }
}

/// What changes of a shape; what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each is a key of Shape")]
pub struct Change {
    pub rate_kbps: Option<f64>,
    pub queue_ms: Option<f64>,
    pub delay_ms: Option<f64>,
    pub jitter_ms: Option<f64>,
    pub loss: Option<Loss>,
    pub duplicate: Option<f64>,
    pub reorder: Option<f64>,
    pub reorder_ms: Option<f64>,
    pub corrupt: Option<f64>,
    pub blackout: Option<bool>,
}

impl Change {
    /// The shape after the change.
    pub fn of(&self, shape: &Shape) -> Shape {
        let or = |new: Option<f64>, old: f64| new.unwrap_or(old);
        Shape {
            rate_kbps: self.rate_kbps.or(shape.rate_kbps),
            queue_ms: or(self.queue_ms, shape.queue_ms),
            delay_ms: or(self.delay_ms, shape.delay_ms),
            jitter_ms: or(self.jitter_ms, shape.jitter_ms),
            loss: self.loss.unwrap_or(shape.loss),
            duplicate: or(self.duplicate, shape.duplicate),
            reorder: or(self.reorder, shape.reorder),
            reorder_ms: or(self.reorder_ms, shape.reorder_ms),
            corrupt: or(self.corrupt, shape.corrupt),
            blackout: self.blackout.unwrap_or(shape.blackout),
            trace: shape.trace.clone(),
        }
    }
}
