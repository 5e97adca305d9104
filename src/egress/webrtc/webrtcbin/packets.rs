//! What is done per packet: header extensions on the way out, reports on the way in.

use std::sync::Mutex;
use std::time::Duration;

use gst::prelude::*;
use gst_rtp::RTPBuffer;
use gst_rtp::rtp_buffer::Writable;

use super::super::engine::Listener;
use super::super::offer::Extensions;
use super::super::rtcp;
use crate::clock::Timestamp;
use crate::guard::Probe;

/// Seconds from NTP's epoch, 1900, to Unix'.
const NTP_EPOCH_SECONDS: u64 = 2_208_988_800;

/// Writes header extensions on the first packet of every frame.
///
/// Receivers keep a playout delay until they are told another, take a capture time per frame, and
/// need the mid until they have seen one; so one packet in ten carries them all. The extension
/// for transport-wide congestion control is on every packet, and the payloader's own business.
pub fn stamp(payloader: &gst::Element, extensions: Extensions, mid: &str) -> Option<Probe> {
    let Extensions { playout_delay, abs_capture_time, mid: mid_id, .. } = extensions;
    playout_delay.or(abs_capture_time).or(mid_id)?;
    let mid = mid.as_bytes().to_vec();
    let last = Mutex::new(gst::ClockTime::NONE);
    let stamp = move |packet: &mut gst::BufferRef| {
        let captured = packet.pts();
        let Ok(mut rtp) = RTPBuffer::from_buffer_writable(packet) else { return };
        if let Some(id) = playout_delay {
            extend(&mut rtp, id, &[0; 3]);
        }
        if let (Some(id), Some(captured)) = (abs_capture_time, captured) {
            extend(&mut rtp, id, &ntp(Timestamp::from(captured)).to_be_bytes());
        }
        if let Some(id) = mid_id {
            extend(&mut rtp, id, &mid);
        }
    };
    let is_first = move |pts: Option<gst::ClockTime>| match last.lock() {
        Ok(mut last) => std::mem::replace(&mut *last, pts) != pts,
        Err(_) => false,
    };
    let mask = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
    Probe::add(&payloader.static_pad("src")?, mask, move |_, info| {
        match &mut info.data {
            Some(gst::PadProbeData::Buffer(packet)) if is_first(packet.pts()) => {
                stamp(packet.make_mut());
            }
            Some(gst::PadProbeData::BufferList(list))
                if list.get(0).is_some_and(|packet| is_first(packet.pts())) =>
            {
                if let Some(packet) = list.make_mut().get_mut(0) {
                    stamp(packet);
                }
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    })
}

fn extend(rtp: &mut RTPBuffer<'_, Writable>, id: u8, data: &[u8]) {
    if let Err(error) = rtp.add_extension_onebyte_header(id, data) {
        tracing::debug!(%error, id, "header extension not written");
    }
}

/// A capture time as abs-capture-time has it: NTP's 32.32 fixed point.
fn ntp(captured: Timestamp) -> u64 {
    let unix = captured.to_unix();
    let fraction = (u64::from(unix.subsec_nanos()) << 32) / 1_000_000_000;
    (unix.as_secs() + NTP_EPOCH_SECONDS) << 32 | fraction
}

/// Hands what the viewer reports on `pad` about the stream `ssrc` to `listener`.
pub fn listen(pad: &gst::Pad, ssrc: u32, listener: Listener) -> Option<Probe> {
    let mask = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
    Probe::add(pad, mask, move |_, info| {
        let hear = |packet: &gst::BufferRef| {
            if let Ok(bytes) = packet.map_readable() {
                let now: Duration = Timestamp::now().to_unix();
                listener(rtcp::read(bytes.as_slice(), ssrc, now));
            }
        };
        match &info.data {
            Some(gst::PadProbeData::Buffer(packet)) => hear(packet),
            Some(gst::PadProbeData::BufferList(list)) => list.iter().for_each(hear),
            _ => {}
        }
        gst::PadProbeReturn::Ok
    })
}

#[cfg(test)]
mod harness;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capture_time_is_ntp_in_32_32() {
        let now = Timestamp::now();
        let (seconds, fraction) = (ntp(now) >> 32, ntp(now) & 0xffff_ffff);
        let unix = now.to_unix();
        assert!((seconds - NTP_EPOCH_SECONDS).abs_diff(unix.as_secs()) <= 1);
        assert!(fraction < 1 << 32);
    }
}
