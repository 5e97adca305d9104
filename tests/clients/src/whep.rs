//! A light WHEP viewer on webrtcbin, for many viewers at a time and for viewers that misbehave.

use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_webrtc::{WebRTCRTPTransceiverDirection, WebRTCSDPType, WebRTCSessionDescription};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::frames::{Look, Tally, Watch};

/// How long one step of the negotiation may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// An offer that nobody has seen yet, and the machinery behind it.
#[derive(Debug)]
pub struct WhepOffer {
    pipeline: gst::Pipeline,
    webrtc: gst::Element,
    watch: Watch,
    /// The offer.
    pub sdp: String,
}

/// A viewer whose offer was answered. Dropping it vanishes without a word to the server's HTTP.
#[derive(Debug)]
pub struct WhepReceiver {
    offer: WhepOffer,
    /// The resource that the server made for us.
    pub location: String,
    /// The answer.
    pub answer: String,
    /// When the offer was sent.
    pub asked: Instant,
}

/// Why a viewer did not get in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// The server answered with this status and text.
    Refused {
        /// The HTTP status.
        status: u16,
        /// What `Retry-After` says, in seconds.
        retry_after: Option<u64>,
        /// The body.
        body: String,
    },
    /// Something else, in words.
    Failed(String),
}

impl WhepOffer {
    /// An offer to receive H.264, with all its candidates gathered, and 100 ms for packets that
    /// come late or again.
    ///
    /// # Panics
    /// Where GStreamer's WebRTC elements are missing or give no offer.
    pub async fn new(look: Look) -> Self {
        Self::with_latency(look, 100).await
    }

    /// The same with another time for late packets. With none, what comes is seen as it comes.
    ///
    /// # Panics
    /// Where GStreamer's WebRTC elements are missing or give no offer.
    pub async fn with_latency(look: Look, latency_ms: u32) -> Self {
        gst::init().expect("GStreamer starts");
        let pipeline = gst::Pipeline::new();
        let webrtc = gst::ElementFactory::make("webrtcbin")
            .property_from_str("bundle-policy", "max-bundle")
            .property("latency", latency_ms)
            .build()
            .expect("webrtcbin is installed");
        quieten_ice(&webrtc);
        let watch = Watch::default();
        let receiver = watch.receiver(look);
        pipeline.add_many([&webrtc, &receiver]).expect("both are new");
        link_later(&webrtc, &receiver);
        let caps = "application/x-rtp,media=video,encoding-name=H264,clock-rate=90000,payload=96,\
            packetization-mode=(string)1,profile-level-id=(string)42e01f,\
            level-asymmetry-allowed=(string)1,rtcp-fb-nack=true,rtcp-fb-nack-pli=true";
        let caps: gst::Caps = caps.parse().expect("the caps are well-formed");
        let direction = WebRTCRTPTransceiverDirection::Recvonly;
        webrtc.emit_by_name::<Option<gst_webrtc::WebRTCRTPTransceiver>>(
            "add-transceiver",
            &[&direction, &caps],
        );
        pipeline.set_state(gst::State::Playing).expect("the pipeline starts");
        let reply = ask(|promise| {
            webrtc.emit_by_name::<()>("create-offer", &[&None::<gst::Structure>, &promise]);
        });
        let reply = reply.await.expect("webrtcbin answers").expect("create-offer replies");
        let offer = reply.get::<WebRTCSessionDescription>("offer").expect("an offer");
        let set = ask(|promise| {
            webrtc.emit_by_name::<()>("set-local-description", &[&offer, &promise]);
        });
        set.await.expect("the local description is set");
        let sdp = gathered(&webrtc).await;
        Self { pipeline, webrtc, watch, sdp }
    }

    /// Sends the offer to the WHEP address `url` and takes the answer.
    ///
    /// # Errors
    /// Where the server refuses, or does not answer in time.
    pub async fn send(self, http: &reqwest::Client, url: &str) -> Result<WhepReceiver, JoinError> {
        let asked = Instant::now();
        let request = http.post(url).header("content-type", "application/sdp");
        let answer = request.body(self.sdp.clone()).send().await.map_err(failed)?;
        let status = answer.status().as_u16();
        let header = |name: &str| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
        let retry_after = header("retry-after").and_then(|text| text.parse().ok());
        let location = header("location");
        let base = answer.url().clone();
        let body = answer.text().await.map_err(failed)?;
        if status != 201 {
            return Err(JoinError::Refused { status, retry_after, body });
        }
        let location = location.ok_or_else(|| failed("201 without Location"))?;
        let location = base.join(&location).map_err(failed)?.to_string();
        let sdp = gst_sdp::SDPMessage::parse_buffer(body.as_bytes()).map_err(failed)?;
        let description = WebRTCSessionDescription::new(WebRTCSDPType::Answer, sdp);
        let set = ask(|promise| {
            self.webrtc.emit_by_name::<()>("set-remote-description", &[&description, &promise]);
        });
        set.await.map_err(failed)?;
        Ok(WhepReceiver { offer: self, location, answer: body, asked })
    }
}

impl WhepReceiver {
    /// Makes an offer, sends it to `url`, and takes the answer.
    ///
    /// # Errors
    /// Where the server refuses, or does not answer in time.
    pub async fn join(http: &reqwest::Client, url: &str, look: Look) -> Result<Self, JoinError> {
        WhepOffer::new(look).await.send(http, url).await
    }

    /// What came so far.
    pub fn tally(&self) -> Tally {
        self.offer.watch.tally()
    }

    /// What came so far, as [`Tally::take`] gives it.
    pub fn take(&self) -> Tally {
        self.offer.watch.take()
    }

    /// Asks for a key frame, as a decoder does that has lost its way (PLI).
    pub fn request_key_frame(&self) {
        let Some(receiver) = self.offer.pipeline.iterate_sinks().next().ok().flatten() else {
            return;
        };
        let structure = gst::Structure::builder("GstForceKeyUnit").field("all-headers", true);
        let event = gst::event::CustomUpstream::new(structure.build());
        // A viewer that gets nothing yet has nowhere to send it.
        let _ = receiver.send_event(event);
    }

    /// Leaves politely, with DELETE; gives the status of the answer.
    ///
    /// # Errors
    /// Where no answer comes in time.
    pub async fn leave(self, http: &reqwest::Client) -> Result<u16, JoinError> {
        let answer = http.delete(&self.location).send().await.map_err(failed)?;
        Ok(answer.status().as_u16())
    }
}

impl Drop for WhepOffer {
    fn drop(&mut self) {
        // To NULL can block for a while; not on the thread of whoever drops us.
        let pipeline = self.pipeline.clone();
        std::thread::spawn(move || pipeline.set_state(gst::State::Null));
    }
}

fn failed(error: impl ToString) -> JoinError {
    JoinError::Failed(error.to_string())
}

/// No UPnP, no ICE over TCP: neither is ever needed on this machine, and both cost time.
fn quieten_ice(webrtc: &gst::Element) {
    let ice = webrtc.property::<gst::glib::Object>("ice-agent");
    ice.set_property("ice-tcp", false);
    let agent = ice.property::<gst::glib::Object>("agent");
    agent.set_property("upnp", false);
}

fn link_later(webrtc: &gst::Element, receiver: &gst::Element) {
    let receiver = receiver.downgrade();
    webrtc.connect_pad_added(move |_, pad| {
        let entry = receiver.upgrade().and_then(|receiver| receiver.static_pad("sink"));
        if let Some(entry) = entry.filter(|entry| !entry.is_linked()) {
            // A stream that does not fit shows as a tally without frames.
            let _ = pad.link(&entry);
        }
    });
}

/// Hands a promise to webrtcbin and waits for the reply.
async fn ask(operation: impl FnOnce(gst::Promise)) -> Result<Option<gst::Structure>, String> {
    let (sender, reply) = oneshot::channel();
    operation(gst::Promise::with_change_func(move |reply| {
        let reply = reply.map(|reply| reply.map(ToOwned::to_owned));
        let _ = sender.send(reply.map_err(|error| format!("{error:?}")));
    }));
    let reply = timeout(STEP_TIMEOUT, reply).await.map_err(|_| "webrtcbin does not reply")?;
    let reply = reply.map_err(|_| "webrtcbin dropped the promise")??;
    match reply.as_ref().and_then(|reply| reply.get::<gst::glib::Error>("error").ok()) {
        Some(error) => Err(error.to_string()),
        None => Ok(reply),
    }
}

/// Waits until all candidates are in the local description, and gives it.
async fn gathered(webrtc: &gst::Element) -> String {
    let complete = gst_webrtc::WebRTCICEGatheringState::Complete;
    for _ in 0..500 {
        let state = webrtc.property::<gst_webrtc::WebRTCICEGatheringState>("ice-gathering-state");
        if state == complete {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let local = webrtc.property::<WebRTCSessionDescription>("local-description");
    local.sdp().as_text().expect("a description can be written")
}
