//! The pipeline of one viewer, and what can be asked of its parts.

use gst::prelude::*;
use gst_rtp::prelude::*;
use gst_webrtc::{WebRTCBundlePolicy, WebRTCRTPTransceiver, WebRTCRTPTransceiverDirection};

use super::super::engine::{EngineError, Opening, Settings};
use super::super::offer::Codec;
use super::failed;
use crate::clock;
use crate::config;
use crate::egress::feed;
use crate::error::Error;
use crate::guard::Pipeline;

/// Bytes of an RTP packet before SRTP, as browsers send them: fits 1280 with all that is added.
const MTU_BYTES: u32 = 1200;

/// Elements that a session needs, with the Debian package that carries each.
const ELEMENTS: [(&str, &str); 7] = [
    ("appsrc", "gstreamer1.0-plugins-base"),
    ("rtph264pay", "gstreamer1.0-plugins-good"),
    ("rtpbin", "gstreamer1.0-plugins-good"),
    ("webrtcbin", "gstreamer1.0-plugins-bad"),
    ("dtlsdec", "gstreamer1.0-plugins-bad"),
    ("srtpenc", "gstreamer1.0-plugins-bad"),
    ("nicesink", "gstreamer1.0-nice"),
];

/// Checks that every element is there.
///
/// # Errors
/// Names the first that is missing, and its package.
fn require() -> Result<(), Error> {
    for (element, package) in ELEMENTS {
        if gst::ElementFactory::find(element).is_none() {
            return Err(Error::MissingElement { element: element.into(), package });
        }
    }
    Ok(())
}

/// Makes what is made once in a process: the RSA key of the DTLS certificate, which takes 0.1 s
/// to seconds. Blocks for that long.
///
/// # Errors
/// Where an element is missing.
pub fn warm_up() -> Result<(), Error> {
    require()?;
    let made = gst::ElementFactory::make("dtlsdec").build();
    made.map(drop).map_err(|error| Error::Internal(error.to_string()))
}

/// A pipeline that is not running yet.
#[derive(Debug)]
pub struct Built {
    /// The pipeline.
    pub pipeline: Pipeline,
    /// The webrtcbin in it.
    pub bin: gst::Element,
    /// Where frames go in.
    pub appsrc: gst_app::AppSrc,
    /// What makes packets of them.
    pub payloader: gst::Element,
    /// Our synchronisation source.
    pub ssrc: u32,
    /// Our canonical name.
    pub cname: String,
}

impl Built {
    /// Builds a pipeline that can answer the offer.
    pub fn new(opening: &Opening, settings: &Settings) -> Result<Self, EngineError> {
        let pipeline = gst::Pipeline::with_name(&format!("webrtc-{}", opening.name));
        clock::rule(&pipeline);
        let appsrc = feed::appsrc();
        let (ssrc, cname) = (random_ssrc(), uuid::Uuid::new_v4().simple().to_string());
        let offer = &opening.offer;
        let payloader = payloader(offer.codec.payload_type, offer.extensions.transport_cc, ssrc)?;
        let bin = gst::ElementFactory::make("webrtcbin")
            .name("webrtcbin")
            .property("bundle-policy", WebRTCBundlePolicy::MaxBundle)
            .property("latency", 0u32)
            .build()
            .map_err(failed)?;
        anonymous(&bin, &cname);
        ice(&bin, opening, &settings.config)?;
        let elements = [appsrc.upcast_ref(), &payloader, &bin];
        pipeline.add_many(elements).map_err(failed)?;
        let pipeline = Pipeline::new(pipeline);
        appsrc.link(&payloader).map_err(failed)?;
        payloader.link_pads(Some("src"), &bin, Some("sink_0")).map_err(failed)?;
        transceiver(&bin, &opening.offer.codec)?;
        Ok(Self { pipeline, bin, appsrc, payloader, ssrc, cname })
    }
}

/// What makes packets, with a number across all streams on each where that extension has an id.
pub fn payloader(
    payload_type: u8,
    transport_cc: Option<u8>,
    ssrc: u32,
) -> Result<gst::Element, EngineError> {
    let payloader = gst::ElementFactory::make("rtph264pay")
        .property_from_str("aggregate-mode", "zero-latency")
        .property("config-interval", -1i32)
        .property("mtu", MTU_BYTES)
        .property("pt", u32::from(payload_type))
        .property("ssrc", ssrc)
        .property("auto-header-extension", false)
        .build()
        .map_err(failed)?;
    if let Some(id) = transport_cc {
        let extension = gst::ElementFactory::make("rtphdrexttwcc").build().map_err(failed)?;
        let extension = extension.downcast::<gst_rtp::RTPHeaderExtension>();
        let extension = extension.map_err(|_| failed("rtphdrexttwcc is no header extension"))?;
        extension.set_id(id.into());
        payloader.emit_by_name::<()>("add-extension", &[&extension]);
    }
    Ok(payloader)
}

/// Any but zero, which means that none is set.
fn random_ssrc() -> u32 {
    let (high, _) = uuid::Uuid::new_v4().as_u64_pair();
    u32::try_from(high >> 32).unwrap_or(1).max(1)
}

/// Keeps user@host out of RTCP.
fn anonymous(bin: &gst::Element, cname: &str) {
    let Some(rtpbin) = rtpbin(bin) else { return };
    let sdes = gst::Structure::builder("application/x-rtp-source-sdes").field("cname", cname);
    rtpbin.set_property("sdes", sdes.build());
}

fn ice(bin: &gst::Element, opening: &Opening, config: &config::Webrtc) -> Result<(), EngineError> {
    let ice = bin.property::<gst::Object>("ice-agent");
    ice.set_property("ice-tcp", false);
    if let Some(ports) = config.udp_ports {
        ice.set_property("min-rtp-port", u32::from(ports.first));
        ice.set_property("max-rtp-port", u32::from(ports.last));
    }
    // UPnP asks the router for a mapping that a viewer of a camera rarely needs, and costs a
    // thread and sockets per session.
    ice.property::<glib::Object>("agent").set_property("upnp", false);
    for address in &opening.addresses {
        if !ice.emit_by_name::<bool>("add-local-ip-address", &[&address.to_string()]) {
            return Err(failed(format_args!("the ICE agent refuses the address {address}")));
        }
    }
    if let Some(server) = config.stun_servers.first() {
        bin.set_property("stun-server", super::super::servers::stun(server));
    }
    for server in &config.turn_servers {
        let uri = super::super::servers::turn(server);
        if !bin.emit_by_name::<bool>("add-turn-server", &[&uri]) {
            tracing::warn!(url = server.url, "TURN server refused");
        }
    }
    Ok(())
}

fn transceiver(bin: &gst::Element, codec: &Codec) -> Result<(), EngineError> {
    let transceiver = bin.emit_by_name::<Option<WebRTCRTPTransceiver>>("get-transceiver", &[&0i32]);
    let transceiver = transceiver.ok_or_else(|| failed("webrtcbin made no transceiver"))?;
    transceiver.set_direction(WebRTCRTPTransceiverDirection::Sendonly);
    transceiver.set_property("do-nack", codec.rtx_payload_type.is_some());
    let preferences = gst::Caps::builder("application/x-rtp")
        .field("media", "video")
        .field("encoding-name", "H264")
        .field("clock-rate", 90_000i32)
        .field("payload", i32::from(codec.payload_type))
        .build();
    transceiver.set_codec_preferences(Some(&preferences));
    Ok(())
}

fn rtpbin(bin: &gst::Element) -> Option<gst::Element> {
    bin.downcast_ref::<gst::Bin>()?.by_name("rtpbin")
}

/// The DTLS session, once there is an answer.
pub fn dtls_transport(bin: &gst::Element) -> Option<gst_webrtc::WebRTCDTLSTransport> {
    let transceiver = bin.emit_by_name::<Option<WebRTCRTPTransceiver>>("get-transceiver", &[&0i32]);
    transceiver?.sender()?.transport()
}

/// Where RTCP of the viewer comes in, decrypted.
pub fn rtcp_pad(bin: &gst::Element) -> Option<gst::Pad> {
    rtpbin(bin)?.static_pad("recv_rtcp_sink_0")
}

/// Has retransmissions of `ssrc` sent under an SSRC of our choice, which is returned; `None` where
/// nothing is retransmitted. For before the first packet: webrtcbin 1.22 tells nobody its own
/// choice, and browsers assign retransmissions to a stream by what the answer declares.
pub fn retransmit(bin: &gst::Element, ssrc: u32) -> Option<u32> {
    let bin = bin.downcast_ref::<gst::Bin>()?;
    let sender = bin.iterate_all_by_element_factory_name("rtprtxsend").next().ok()??;
    let rtx_ssrc = random_ssrc();
    let map = gst::Structure::builder("application/x-rtp-ssrc-map");
    sender.set_property("ssrc-map", map.field(ssrc.to_string(), rtx_ssrc).build());
    Some(rtx_ssrc)
}
