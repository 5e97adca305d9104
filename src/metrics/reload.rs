//! What SIGHUP came to.

use prometheus::{IntCounterVec, IntGauge};

use super::Family;

/// The figures of the configuration that is read again.
#[derive(Debug)]
pub struct Reload {
    /// `lensline_config_reloads_total{outcome="applied"|"refused"}`
    pub outcomes: IntCounterVec,
    /// `lensline_config_reloaded_seconds`: when last one was applied, since the Unix epoch; 0 never.
    pub applied: IntGauge,
}

impl Reload {
    pub(super) fn new(family: &Family<'_>) -> Result<Self, prometheus::Error> {
        let outcomes = family.counter(
            "lensline_config_reloads_total",
            "Times the configuration was read again, by whether it was applied or refused",
            &["outcome"],
        )?;
        // At zero from the start, so that the first is seen as a rise.
        for outcome in ["applied", "refused"] {
            outcomes.with_label_values(&[outcome]).inc_by(0);
        }
        let applied = family.plain(
            "lensline_config_reloaded_seconds",
            "When the configuration was last reloaded, in seconds since the Unix epoch; 0 never",
        )?;
        Ok(Self { outcomes, applied })
    }
}
