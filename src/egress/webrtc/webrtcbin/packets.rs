//! What is done per packet: header extensions on the way out, reports on the way in.

use std::sync::Mutex;

use gst::prelude::*;
use gst_rtp::RTPBuffer;
use gst_rtp::rtp_buffer::Writable;
use prometheus::IntCounter;

use super::super::engine::Listener;
use super::super::offer::Extensions;
use super::super::rtcp;
use crate::clock::Timestamp;
use crate::guard::Probe;
use crate::rate::Rate;

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

/// Reports a second, and packets a second asked for again, that are looked at: above what a viewer
/// on a bad path has cause to send. rtprtxsend has no bound of its own.
const REPORTS_PER_SECOND_MAX: u32 = 200;
const PACKETS_WANTED_PER_SECOND_MAX: u32 = 500;

/// Hands what the viewer reports on `pad` about the stream `ssrc` to `listener`. What comes too fast
/// goes no further, and is counted in `refused`.
pub fn listen(pad: &gst::Pad, ssrc: u32, listener: Listener, refused: IntCounter) -> Option<Probe> {
    let rates = Mutex::new(Rates::default());
    let mask = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
    Probe::add(pad, mask, move |pad, info| {
        let now = Timestamp::now_on(pad);
        let hear = |packet: &gst::BufferRef| {
            let Ok(bytes) = packet.map_readable() else { return true };
            let report = rtcp::read(bytes.as_slice(), ssrc, now.to_unix());
            let passes = rates.lock().is_ok_and(|mut rates| rates.pass(report, now));
            if passes {
                listener(report);
            } else {
                refused.inc();
            }
            passes
        };
        let passes = match &info.data {
            Some(gst::PadProbeData::Buffer(packet)) => hear(packet),
            // One that is too much takes the rest of its list along.
            Some(gst::PadProbeData::BufferList(list)) => list.iter().all(hear),
            _ => true,
        };
        if passes { gst::PadProbeReturn::Ok } else { gst::PadProbeReturn::Drop }
    })
}

/// How fast one viewer may report.
struct Rates {
    reports: Rate,
    packets_wanted: Rate,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            reports: Rate::new(REPORTS_PER_SECOND_MAX),
            packets_wanted: Rate::new(PACKETS_WANTED_PER_SECOND_MAX),
        }
    }
}

impl Rates {
    fn pass(&mut self, report: rtcp::Report, now: Timestamp) -> bool {
        let now = now.since(Timestamp::default());
        self.reports.take(now) && self.packets_wanted.take_many(report.packets_wanted, now)
    }
}

#[cfg(test)]
mod harness;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_may_ask_again_for_so_many_packets_a_second_and_not_one_more() {
        let mut rates = Rates::default();
        let now = Timestamp::from_nanos(5_000_000_000);
        let nack = |packets_wanted| rtcp::Report { packets_wanted, ..Default::default() };
        assert!(rates.pass(nack(499), now) && rates.pass(nack(1), now));
        assert!(!rates.pass(nack(1), now));
        assert!((3..200).all(|_| rates.pass(nack(0), now)));
        assert!(!rates.pass(nack(0), now), "the two-hundred-and-first report");
        let later = now.plus(std::time::Duration::from_secs(1));
        assert!(rates.pass(nack(500), later));
    }

    #[test]
    fn capture_time_is_ntp_in_32_32() {
        let now = Timestamp::now();
        let (seconds, fraction) = (ntp(now) >> 32, ntp(now) & 0xffff_ffff);
        let unix = now.to_unix();
        assert!((seconds - NTP_EPOCH_SECONDS).abs_diff(unix.as_secs()) <= 1);
        assert!(fraction < 1 << 32);
    }
}
