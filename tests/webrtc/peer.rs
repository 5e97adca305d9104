//! A viewer for tests: a recvonly webrtcbin that decodes what it gets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_webrtc::{
    WebRTCBundlePolicy, WebRTCRTPTransceiver, WebRTCRTPTransceiverDirection, WebRTCSDPType,
    WebRTCSessionDescription,
};

use lensline::egress::webrtc::candidate::Candidate;
use lensline::guard::{Pipeline, Signal, Stack};

const BOUND: Duration = Duration::from_secs(5);

/// What arrived, counted where packets come out of the peer.
#[derive(Default)]
pub struct Seen {
    pub pictures: AtomicU64,
    pub packets: AtomicU64,
    /// Datagrams of encrypted media, counted as they come off the socket.
    pub srtp: AtomicU64,
    /// The first NAL unit types that arrived.
    pub nal_types: Mutex<Vec<u8>>,
    /// Identifier and bytes of the one-byte header extensions that arrived, at most 64.
    pub extensions: Mutex<Vec<(u8, Vec<u8>)>>,
}

pub struct Peer {
    pub seen: Arc<Seen>,
    pub bin: gst::Element,
    pub candidates: Arc<Mutex<Vec<String>>>,
    guards: Stack,
    pipeline: Pipeline,
}

impl Peer {
    pub fn new() -> Self {
        Self::on(None)
    }

    /// A peer that offers this address only.
    pub fn on(address: Option<&str>) -> Self {
        let pipeline = gst::Pipeline::new();
        let bin = gst::ElementFactory::make("webrtcbin")
            .property("bundle-policy", WebRTCBundlePolicy::MaxBundle)
            .property("latency", 0u32)
            .build()
            .unwrap();
        let ice = bin.property::<gst::Object>("ice-agent");
        ice.set_property("ice-tcp", false);
        ice.property::<glib::Object>("agent").set_property("upnp", false);
        if let Some(address) = address {
            assert!(ice.emit_by_name::<bool>("add-local-ip-address", &[&address]));
        }
        pipeline.add(&bin).unwrap();
        let caps = "application/x-rtp,media=video,encoding-name=H264,payload=103,clock-rate=90000,\
                    packetization-mode=(string)1,profile-level-id=(string)42e01f,\
                    rtcp-fb-nack-pli=true,rtcp-fb-nack=true,rtcp-fb-ccm-fir=true,rtcp-fb-transport-cc=true";
        let caps: gst::Caps = caps.parse().unwrap();
        let direction = WebRTCRTPTransceiverDirection::Recvonly;
        let transceiver =
            bin.emit_by_name::<WebRTCRTPTransceiver>("add-transceiver", &[&direction, &caps]);
        transceiver.set_property("do-nack", true);
        let (seen, candidates) = (Arc::new(Seen::default()), Arc::default());
        let mut guards = Stack::new();
        guards.push(receive(&pipeline, &bin, &seen));
        let ours: Arc<Mutex<Vec<String>>> = Arc::clone(&candidates);
        let id = bin.connect("on-ice-candidate", false, move |values| {
            ours.lock().unwrap().push(values[2].get().unwrap());
            None
        });
        guards.push(Signal::new(&bin, id));
        let pipeline = Pipeline::new(pipeline);
        pipeline.start().unwrap();
        Self { seen, bin, candidates, guards, pipeline }
    }

    /// An offer with its candidates in it, and the header extensions browsers offer.
    pub async fn offer(&self) -> String {
        let create = |promise: &gst::Promise| {
            self.bin.emit_by_name::<()>("create-offer", &[&None::<gst::Structure>, promise]);
        };
        let reply = ask(BOUND, create).await.flatten().unwrap();
        let offer = reply.get::<WebRTCSessionDescription>("offer").unwrap();
        let set = |promise: &gst::Promise| {
            self.bin.emit_by_name::<()>("set-local-description", &[&offer, promise]);
        };
        ask(BOUND, set).await.unwrap();
        let deadline = Instant::now() + BOUND;
        let complete = gst_webrtc::WebRTCICEGatheringState::Complete;
        while self.bin.property::<gst_webrtc::WebRTCICEGatheringState>("ice-gathering-state")
            != complete
        {
            assert!(Instant::now() < deadline, "the peer does not gather");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let mut text = offer.sdp().as_text().unwrap();
        for (id, uri) in super::EXTENSIONS {
            text.push_str(&format!("a=extmap:{id} {uri}\r\n"));
        }
        for candidate in self.candidates.lock().unwrap().iter() {
            text.push_str(&format!("a={candidate}\r\n"));
        }
        text
    }

    pub async fn accept(&self, answer: &str) {
        let sdp = gst_sdp::SDPMessage::parse_buffer(answer.as_bytes()).unwrap();
        let description = WebRTCSessionDescription::new(WebRTCSDPType::Answer, sdp);
        let set = |promise: &gst::Promise| {
            self.bin.emit_by_name::<()>("set-remote-description", &[&description, promise]);
        };
        self.count_srtp();
        ask(BOUND, set).await.unwrap();
        for line in answer.lines().filter_map(|line| line.strip_prefix("a=")) {
            if line.starts_with("candidate:") {
                self.add_candidate(&Candidate::parse(line).unwrap());
            }
        }
    }

    pub fn add_candidate(&self, candidate: &Candidate) {
        self.bin.emit_by_name::<()>("add-ice-candidate", &[&0u32, &candidate.to_string()]);
    }

    /// Counts what comes off the socket as media (RFC 7983, RFC 5761), whatever becomes of it.
    fn count_srtp(&self) {
        let bin = self.bin.downcast_ref::<gst::Bin>().unwrap();
        for source in bin.iterate_all_by_element_factory_name("nicesrc") {
            let seen = Arc::clone(&self.seen);
            // Not guarded: it goes with its pad.
            source.unwrap().static_pad("src").unwrap().add_probe(
                gst::PadProbeType::BUFFER,
                move |_, info| {
                    let datagram = info.buffer().unwrap().map_readable().unwrap();
                    if let [128..=191, kind, ..] = *datagram.as_slice()
                        && !(192..=223).contains(&kind)
                    {
                        seen.srtp.fetch_add(1, Ordering::Relaxed);
                    }
                    gst::PadProbeReturn::Ok
                },
            );
        }
    }

    pub fn pictures(&self) -> u64 {
        self.seen.pictures.load(Ordering::Relaxed)
    }

    /// Asks for a key frame as a decoder in trouble does.
    pub fn ask_for_key_frame(&self) {
        let structure = gst::Structure::builder("GstForceKeyUnit").field("all-headers", true);
        let event = gst::event::CustomUpstream::new(structure.build());
        let pad = self.bin.src_pads().into_iter().next().expect("the peer receives nothing yet");
        pad.send_event(event);
    }

    /// Stops like a killed browser: not a word, not a packet more.
    pub async fn vanish(self) {
        let Self { bin, guards, pipeline, .. } = self;
        drop(guards);
        for _ in 0..3 {
            let stats = |promise: &gst::Promise| {
                bin.emit_by_name::<()>("get-stats", &[&None::<gst::Pad>, promise]);
            };
            let _ = ask(Duration::from_millis(500), stats).await;
        }
        tokio::task::spawn_blocking(move || drop((bin, pipeline))).await.unwrap();
    }
}

/// Decodes what webrtcbin gives, and counts it.
fn receive(pipeline: &gst::Pipeline, bin: &gst::Element, seen: &Arc<Seen>) -> Signal {
    let (pipeline, seen) = (pipeline.downgrade(), Arc::clone(seen));
    let id = bin.connect_pad_added(move |_, pad| {
        let Some(pipeline) = pipeline.upgrade() else { return };
        let description = "rtph264depay ! avdec_h264 ! appsink name=sink sync=false";
        let decoder = gst::parse::bin_from_description(description, true).unwrap();
        let sink = decoder.by_name("sink").unwrap().downcast::<gst_app::AppSink>().unwrap();
        let pictures = Arc::clone(&seen);
        let take = move |sink: &gst_app::AppSink| {
            sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            pictures.pictures.fetch_add(1, Ordering::Relaxed);
            Ok(gst::FlowSuccess::Ok)
        };
        sink.set_callbacks(gst_app::AppSinkCallbacks::builder().new_sample(take).build());
        pipeline.add(&decoder).unwrap();
        decoder.sync_state_with_parent().unwrap();
        let packets = Arc::clone(&seen);
        // Not guarded: it goes with its pad.
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            if let Some(gst::PadProbeData::Buffer(packet)) = &info.data {
                packets.look(packet);
            }
            gst::PadProbeReturn::Ok
        });
        pad.link(&decoder.static_pad("sink").unwrap()).unwrap();
    });
    Signal::new(bin, id)
}

impl Seen {
    fn look(&self, packet: &gst::Buffer) {
        self.packets.fetch_add(1, Ordering::Relaxed);
        let rtp = gst_rtp::RTPBuffer::from_buffer_readable(packet).unwrap();
        let mut nal_types = self.nal_types.lock().unwrap();
        if nal_types.len() < 16 {
            nal_types.extend(rtp.payload().unwrap().first().map(|byte| byte & 0x1f));
        }
        let mut extensions = self.extensions.lock().unwrap();
        for id in 1..15 {
            if let Some(bytes) =
                rtp.extension_onebyte_header(id, 0).filter(|_| extensions.len() < 64)
            {
                extensions.push((id, bytes.to_vec()));
            }
        }
    }
}

/// What webrtcbin promises, if it answers in time.
async fn ask(bound: Duration, emit: impl FnOnce(&gst::Promise)) -> Option<Option<gst::Structure>> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let promise = gst::Promise::with_change_func(move |reply| {
        let _ = sender.send(reply.ok().map(|reply| reply.map(ToOwned::to_owned)));
    });
    emit(&promise);
    tokio::time::timeout(bound, receiver).await.ok()?.ok()?
}
