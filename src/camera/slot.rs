//! The place of a rendition's encoder: it holds what was asked of the encoder while the camera is
//! rebuilt, and refuses what it cannot do.

use std::sync::{Mutex, PoisonError};

use prometheus::Gauge;

use super::encoder::Encoder;
use crate::catalog::ControlError;

/// Where the encoder of one rendition is to be found while the camera runs.
#[derive(Debug)]
pub(super) struct Slot {
    bitrate_min_bps: u32,
    bitrate_max_bps: u32,
    gauge: Gauge,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bitrate_bps: u32,
    encoder: Option<Encoder>,
}

impl Slot {
    /// An empty place, for an encoder at `bitrate_bps` that may be set between the bounds;
    /// `gauge` shows the bitrate in force.
    pub(super) fn new(bitrate_bps: u32, (min, max): (u32, u32), gauge: Gauge) -> Self {
        let state = Mutex::new(State { bitrate_bps, encoder: None });
        Self { bitrate_min_bps: min, bitrate_max_bps: max, gauge, state }
    }

    /// The bitrate in force, which the next encoder starts with.
    pub(super) fn bitrate_bps(&self) -> u32 {
        self.lock().bitrate_bps
    }

    /// The most that may be asked for.
    pub(super) fn bitrate_max_bps(&self) -> u32 {
        self.bitrate_max_bps
    }

    /// The camera was built: this is its encoder. One that encodes shows its bitrate from now on.
    pub(super) fn install(&self, encoder: Encoder) {
        let mut state = self.lock();
        if encoder.set_bitrate(state.bitrate_bps) {
            self.gauge.set(f64::from(state.bitrate_bps));
        }
        state.encoder = Some(encoder);
    }

    /// The camera is gone, and its encoder with it.
    pub(super) fn clear(&self) {
        self.lock().encoder = None;
    }

    /// Asks the encoder, where there is one, for a key frame.
    pub(super) fn force_key_frame(&self) {
        if let Some(encoder) = &self.lock().encoder {
            encoder.force_key_frame();
        }
    }

    /// Encodes at this rate from now on, also after a rebuild.
    ///
    /// # Errors
    /// Where the bounds forbid it, nothing is encoded here, or the camera is down.
    pub(super) fn set_bitrate(&self, bitrate_bps: u32) -> Result<(), ControlError> {
        let (min, max) = (self.bitrate_min_bps, self.bitrate_max_bps);
        if !(min..=max).contains(&bitrate_bps) {
            return Err(ControlError::Refused(format!(
                "{bitrate_bps} bit/s is outside of the camera's {min} to {max} bit/s \
                 (camera.encoder.bitrate_min_kbps, bitrate_max_kbps)"
            )));
        }
        let mut state = self.lock();
        let encoder = state.encoder.as_ref().ok_or(ControlError::NotRunning)?;
        if !encoder.set_bitrate(bitrate_bps) {
            return Err(ControlError::Refused(
                "this camera's own H.264 is passed through; set the bitrate in the camera".into(),
            ));
        }
        state.bitrate_bps = bitrate_bps;
        self.gauge.set(f64::from(bitrate_bps));
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
