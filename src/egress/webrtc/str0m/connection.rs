//! One viewer's connection: str0m, told what our own reader of offers understood. No socket, no
//! task; the time comes from outside.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use str0m::format::{Codec, FormatParams};
use str0m::media::{Frequency, MediaKind, MediaTime, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{AbsCaptureTime, Extension, ExtensionMap, ExtensionValues, RtpWrite, Ssrc};
use str0m::{Candidate as IceCandidate, IceCreds, Input, Output, Rtc, RtcConfig, RtcError};

use super::super::answer::{Source, Transport};
use super::super::candidate::Candidate;
use super::super::engine::{Accepted, EngineError};
use super::super::offer::{Extensions, Offer};
use super::udp::{Datagram, Socket};
use super::{Identity, failed};
use crate::clock::Timestamp;
use crate::frame::Frame;

/// RTP's clock for video, in hertz.
const CLOCK_RATE: u64 = 90_000;

/// How often loss and round-trip time are told.
const STATS_EVERY: Duration = Duration::from_secs(1);

/// What is kept for retransmission: as many packets as two seconds of 8 Mbit/s hold, and no older
/// than a viewer without delay has use for. The bytes themselves are shared by all viewers.
const RETRANSMIT_PACKETS: usize = 2_048;
const RETRANSMIT_AGE: Duration = Duration::from_secs(1);

/// Retransmissions stop where they would be more than this share of what is sent: on such a path
/// a key frame helps, and more packets do not.
const RETRANSMIT_SHARE_MAX: f32 = 0.25;

/// Longest name of a section that fits a one-byte header extension (RFC 8285), and that str0m
/// writes as it is.
const MID_BYTES_MAX: usize = 16;

/// str0m, with what every packet needs.
#[derive(Debug)]
pub struct Connection {
    rtc: Rtc,
    ssrc: Ssrc,
    payload_type: u8,
    extensions: Extensions,
    retransmit: bool,
    next_sequence: u64,
}

impl Connection {
    /// Answers an offer, with a host candidate on each socket.
    pub fn new(
        offer: &Offer,
        identity: &Identity,
        sockets: &[Arc<Socket>],
    ) -> Result<(Self, Accepted), EngineError> {
        let now = Instant::now();
        let mut rtc = configure(offer, identity).build(now);
        for socket in sockets {
            let candidate = IceCandidate::host(socket.address, Protocol::Udp).map_err(failed)?;
            rtc.add_local_candidate(candidate);
        }
        let mut direct = rtc.direct_api();
        direct.set_ice_controlling(false);
        direct.set_remote_ice_credentials(IceCreds {
            ufrag: offer.transport.ufrag.clone(),
            pass: offer.transport.pwd.clone(),
        });
        direct.set_remote_fingerprint(offer.transport.fingerprint.parse().map_err(failed)?);
        let active = offer.transport.setup != "active";
        direct.start_dtls(active).map_err(failed)?;
        let mid = mid(&offer.mid).unwrap_or_else(|| "0".into());
        let cname = direct.declare_media(mid, MediaKind::Video).cname().to_owned();
        let (ssrc, rtx_ssrc) = (direct.new_ssrc(), direct.new_ssrc());
        let rtx_ssrc = offer.codec.rtx_payload_type.is_some().then_some(rtx_ssrc);
        direct.declare_stream_tx(ssrc, rtx_ssrc, mid, None).set_rtx_cache(
            RETRANSMIT_PACKETS,
            RETRANSMIT_AGE,
            Some(RETRANSMIT_SHARE_MAX),
        );
        let ours = direct.local_ice_credentials();
        let transport = Transport {
            ufrag: ours.ufrag,
            pwd: ours.pass,
            fingerprint: direct.local_dtls_fingerprint().to_string(),
            setup: if active { "active" } else { "passive" }.to_owned(),
        };
        let source = Source { ssrc: *ssrc, rtx_ssrc: rtx_ssrc.map(|ssrc| *ssrc), cname };
        rtc.handle_input(Input::Timeout(now)).map_err(failed)?;
        let connection = Self {
            rtc,
            ssrc,
            payload_type: offer.codec.payload_type,
            extensions: offer.extensions,
            retransmit: rtx_ssrc.is_some(),
            // RFC 3550 section 5.1 wants it random. The upper half is left free, as a first
            // number near the end would wrap before the peer has its bearings (RFC 3711 3.3.1).
            next_sequence: u64::from(fresh() & 0x7fff),
        };
        Ok((connection, Accepted { transport, source }))
    }

    /// What str0m has to say next.
    pub fn poll(&mut self) -> Result<Output, RtcError> {
        self.rtc.poll_output()
    }

    /// Time has passed.
    pub fn wake(&mut self) -> Result<(), RtcError> {
        self.rtc.handle_input(Input::Timeout(Instant::now()))
    }

    /// A datagram came. What cannot be read is passed over; an error means that the connection is
    /// at its end.
    pub fn receive(&mut self, datagram: &Datagram) -> Result<(), RtcError> {
        let Datagram { at, source, destination, bytes } = datagram;
        let Ok(receive) = Receive::new(Protocol::Udp, *source, *destination, bytes) else {
            return Ok(());
        };
        let handled = self.rtc.handle_input(Input::Receive(*at, receive));
        // A stranger who forges datagrams must not end a session.
        if self.rtc.is_alive() { Ok(()) } else { handled }
    }

    /// Takes one of the viewer's candidates.
    pub fn add_candidate(&mut self, candidate: &Candidate) {
        match IceCandidate::from_sdp_string(&candidate.to_string()) {
            Ok(candidate) => self.rtc.add_remote_candidate(candidate),
            Err(error) => tracing::debug!(%candidate, %error, "candidate not taken"),
        }
    }

    /// Queues a frame's packets; they leave with the next [`Connection::poll`].
    pub fn write(&mut self, frame: &Frame) -> Result<(), RtcError> {
        let now = Instant::now();
        let age = Timestamp::now().since(frame.captured);
        let wallclock = now.checked_sub(age).unwrap_or(now);
        let time = rtp_time(frame.captured);
        let packets = frame.packets();
        let mut direct = self.rtc.direct_api();
        let Some(stream) = direct.stream_tx(&self.ssrc) else { return Ok(()) };
        for (index, payload) in packets.iter().enumerate() {
            // Receivers keep a playout delay until they are told another, and take a capture time
            // per frame: the first packet carries them.
            let values =
                if index == 0 { self.extensions.values(frame) } else { Default::default() };
            let packet = RtpWrite::new(
                self.payload_type.into(),
                self.next_sequence.into(),
                time,
                wallclock,
                Arc::clone(payload),
            );
            let last = index + 1 == packets.len();
            stream.write_rtp(packet.marker(last).ext_vals(values).nackable(self.retransmit));
            self.next_sequence += 1;
        }
        self.rtc.handle_input(Input::Timeout(now))
    }

    /// Says goodbye: RTCP BYE and DTLS close_notify leave with the next [`Connection::poll`].
    pub fn close(&mut self) -> Result<(), RtcError> {
        self.rtc.close()
    }

    /// Whether there is anything left to do.
    pub fn is_alive(&self) -> bool {
        self.rtc.is_alive()
    }
}

impl Extensions {
    fn values(self, frame: &Frame) -> ExtensionValues {
        let mut values = ExtensionValues::default();
        if self.playout_delay.is_some() {
            values.play_delay_min = Some(MediaTime::ZERO);
            values.play_delay_max = Some(MediaTime::ZERO);
        }
        if self.abs_capture_time.is_some() {
            let capture_time = SystemTime::UNIX_EPOCH + frame.captured.to_unix();
            values.abs_capture_time = Some(AbsCaptureTime { capture_time, clock_offset: None });
        }
        values
    }

    fn map(self, mid: &str) -> ExtensionMap {
        let mut map = ExtensionMap::empty();
        let wanted = [
            (self.playout_delay, Extension::PlayoutDelay),
            (self.abs_capture_time, Extension::AbsoluteCaptureTime),
            (self.transport_cc, Extension::TransportSequenceNumber),
            (self.mid.filter(|_| self::mid(mid).is_some()), Extension::RtpMid),
        ];
        for (id, extension) in wanted {
            if let Some(id) = id {
                map.set(id, extension);
            }
        }
        map
    }
}

fn configure(offer: &Offer, identity: &Identity) -> RtcConfig {
    let mut config = Rtc::builder()
        .set_crypto_provider(Arc::clone(&identity.crypto))
        .set_dtls_cert(identity.certificate.clone())
        .set_rtp_mode(true)
        .set_stats_interval(Some(STATS_EVERY))
        .set_extension_map(offer.extensions.map(&offer.mid))
        .clear_codecs();
    let parameters = FormatParams {
        packetization_mode: Some(1),
        profile_level_id: u32::from_str_radix(&offer.codec.profile_level_id, 16).ok(),
        ..FormatParams::default()
    };
    config.codec_config().add_config(
        offer.codec.payload_type.into(),
        offer.codec.rtx_payload_type.map(Into::into),
        Codec::H264,
        Frequency::NINETY_KHZ,
        None,
        parameters,
    );
    config
}

/// The name of a section as str0m has it, where it can write it into packets.
fn mid(name: &str) -> Option<Mid> {
    let fits = name.len() <= MID_BYTES_MAX && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    fits.then(|| name.into())
}

/// The same for every viewer, so that a picture has one name on all wires.
fn rtp_time(captured: Timestamp) -> u32 {
    let ticks = u128::from(captured.as_nanos()) * u128::from(CLOCK_RATE) / 1_000_000_000;
    u32::try_from(ticks & u128::from(u32::MAX)).unwrap_or(0)
}

fn fresh() -> u16 {
    let [high, low, ..] = *uuid::Uuid::new_v4().as_bytes();
    u16::from_be_bytes([high, low])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rtp_time_counts_ninety_thousand_a_second_and_wraps() {
        assert_eq!(rtp_time(Timestamp::from_nanos(0)), 0);
        assert_eq!(rtp_time(Timestamp::from_nanos(1_000_000_000)), 90_000);
        let wraps = Timestamp::from_nanos((1 << 32) * 100_000 / 9 + 1_000_000_000);
        assert!(rtp_time(wraps).abs_diff(90_000) <= 1, "{}", rtp_time(wraps));
    }

    #[test]
    fn a_name_that_cannot_be_written_into_packets_is_left_out() {
        assert!(mid("video0").is_some());
        assert!(mid("video-0").is_none());
        assert!(mid("seventeen-letters").is_none());
        let extensions = Extensions { mid: Some(4), ..Extensions::default() };
        assert!(extensions.map("0").id_of(Extension::RtpMid).is_some());
        assert!(extensions.map("a/b").id_of(Extension::RtpMid).is_none());
    }
}
