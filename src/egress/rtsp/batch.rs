//! All packets of a picture at once: one hand-over, one wake-up and one system call, not one for
//! each slice.
//!
//! The payloader pushes what it makes of a NAL unit as soon as it has it, and each push costs a
//! session two context switches and a system call on its way into the socket: of an encoder with
//! three slices a picture, 22 futex calls and 3.1 sends a picture, and 9.6 and 1 with one push.
//! Nothing waits for it: the access unit is there as a whole before its first packet is made.

use std::sync::{Mutex, PoisonError};

use gst::prelude::*;
use gst::{PadProbeData, PadProbeReturn, PadProbeType};

use crate::guard::Probe;

/// Packets gathered at most. A picture of more comes in several batches.
const PACKETS_MAX: usize = 512;

/// Gathers what `pad`, a payloader's source, pushes, up to each marker bit.
pub(super) fn gather(pad: &gst::Pad) -> Option<Probe> {
    let state = Mutex::new(Batch::default());
    let mask = PadProbeType::BUFFER | PadProbeType::BUFFER_LIST | PadProbeType::EVENT_FLUSH;
    Probe::add(pad, mask, move |pad, info| {
        let mut batch = state.lock().unwrap_or_else(PoisonError::into_inner);
        if batch.passing {
            return PadProbeReturn::Ok;
        }
        match &info.data {
            Some(PadProbeData::Buffer(packet)) => batch.packets.push(packet.clone()),
            Some(PadProbeData::BufferList(list)) => batch.packets.extend(list.iter_owned()),
            _ => {
                batch.packets.clear();
                return PadProbeReturn::Ok;
            }
        }
        if !batch.is_complete() {
            return PadProbeReturn::Drop;
        }
        let list = batch.packets.drain(..).collect::<gst::BufferList>();
        if let Some(PadProbeData::BufferList(data)) = &mut info.data {
            *data = list;
            return PadProbeReturn::Ok;
        }
        // A packet that came alone cannot become a list, so the list goes in its place. The lock
        // is not held meanwhile: the way down may be as long as the viewer is slow.
        batch.passing = true;
        drop(batch);
        info.flow_res = pad.push_list(list);
        state.lock().unwrap_or_else(PoisonError::into_inner).passing = false;
        PadProbeReturn::Handled
    })
}

/// Packets of the picture that is being made.
#[derive(Default)]
struct Batch {
    packets: Vec<gst::Buffer>,
    /// The batch itself is on its way through the pad.
    passing: bool,
}

impl Batch {
    /// Whether the last packet has the marker bit (RFC 3550, 5.1), or there is no room.
    fn is_complete(&self) -> bool {
        let marked = self.packets.last().is_some_and(|packet| {
            let mut head = [0; 2];
            packet.copy_to_slice(0, &mut head).is_ok() && head[1] & 0x80 != 0
        });
        marked || self.packets.len() >= PACKETS_MAX
    }
}

#[cfg(test)]
mod harness;
