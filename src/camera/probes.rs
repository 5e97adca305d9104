//! What is done to buffers in passing: marks for the watchdog, stamps that can be relied on, and
//! what the simulated camera adds to its pictures.

use std::sync::{Arc, Mutex, PoisonError};

use gst::PadProbeData;
use gst::prelude::*;

use super::simulated::{self, Simulator};
use super::timeline::Timeline;
use super::watchdog::Marks;
use crate::clock::Timestamp;
use crate::guard::Probe;

/// Both ways in which a pad is pushed to.
const FLOW: gst::PadProbeType = gst::PadProbeType::BUFFER.union(gst::PadProbeType::BUFFER_LIST);

/// Marks every picture that comes from the source by `pad` and, where asked to, puts its stamp
/// right before an encoder gets to see it: encoders take stamps that jump badly.
pub(super) fn arrival(pad: &gst::Pad, marks: &Arc<Marks>, restamp: bool) -> Option<Probe> {
    let marks = Arc::downgrade(marks);
    let timeline = Mutex::new(Timeline::default());
    let corrected = move |buffer: &gst::BufferRef, now| {
        let claimed = buffer.pts().map(Timestamp::from);
        let mut timeline = timeline.lock().unwrap_or_else(PoisonError::into_inner);
        let placed = timeline.place(claimed, now);
        (claimed != Some(placed)).then(|| gst::ClockTime::from(placed))
    };
    Probe::add(pad, FLOW, move |pad, info| {
        let now = Timestamp::now_on(pad);
        if let Some(marks) = marks.upgrade() {
            marks.arrived.set(now);
        }
        match &mut info.data {
            _ if !restamp => {}
            Some(PadProbeData::Buffer(buffer)) => {
                if let Some(pts) = corrected(buffer, now) {
                    buffer.make_mut().set_pts(pts);
                }
            }
            Some(PadProbeData::BufferList(list)) => {
                let list = list.make_mut();
                for index in 0..list.len() {
                    if let Some(buffer) = list.get_mut(index)
                        && let Some(pts) = corrected(buffer, now)
                    {
                        buffer.set_pts(pts);
                    }
                }
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    })
}

/// Marks everything that comes by `pad` from the encoder of the rendition of that `index`, or from
/// its parser where there is no encoder.
pub(super) fn encoded(pad: &gst::Pad, marks: &Arc<Marks>, index: usize) -> Option<Probe> {
    let marks = Arc::downgrade(marks);
    Probe::add(pad, FLOW, move |pad, _| {
        let marks = marks.upgrade();
        if let Some(rendition) = marks.as_ref().and_then(|marks| marks.renditions.get(index)) {
            rendition.encoded.set(Timestamp::now_on(pad));
        }
        gst::PadProbeReturn::Ok
    })
}

/// Burns the stamp into every picture that goes into an encoder by `pad`. Of a list, which no
/// encoder takes as such, GStreamer hands the pictures on one by one.
pub(super) fn stamp(pad: &gst::Pad, simulator: &Arc<Simulator>) -> Option<Probe> {
    let simulator = Arc::downgrade(simulator);
    Probe::add(pad, gst::PadProbeType::BUFFER, move |pad, info| {
        if let (Some(simulator), Some(caps), Some(buffer)) =
            (simulator.upgrade(), pad.current_caps(), info.buffer_mut())
        {
            simulated::burn_into(buffer, &caps, &simulator);
        }
        gst::PadProbeReturn::Ok
    })
}

/// Puts garbage in the place of the encoded pictures that come by `pad` while the simulated camera
/// is told to. No probe where it never is.
pub(super) fn spoil(pad: &gst::Pad, simulator: &Arc<Simulator>) -> Option<Probe> {
    if !simulator.spoils() {
        return None;
    }
    let simulator = Arc::downgrade(simulator);
    Probe::add(pad, gst::PadProbeType::BUFFER, move |pad, info| {
        if let (Some(simulator), Some(buffer)) = (simulator.upgrade(), info.buffer_mut())
            && let Some(garbage) = simulator.spoil(buffer, Timestamp::now_on(pad))
        {
            *buffer = garbage;
        }
        gst::PadProbeReturn::Ok
    })
}

#[cfg(test)]
mod harness;
