//! GStreamer's webrtcbin as the engine: one pipeline per viewer, `appsrc ! rtph264pay !
//! webrtcbin`.

mod build;
mod packets;
mod promise;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gst::prelude::*;
use gst_webrtc::{WebRTCSDPType, WebRTCSessionDescription};

use super::answer::{Source, Transport};
use super::candidate::Candidate;
use super::engine::{Accepted, Engine, EngineError, Event, Opening, Settings};
use super::fingerprint;
use super::liveness::Connection;
use crate::distributor::Subscriber;
use crate::egress::feed::{self, FeedEnd};
use crate::egress::session::Session;
use crate::frame::Frame;
use crate::guard::{BusWatch, Pipeline, Signal, Stack, Teardowns};
use crate::metrics::{self, Metrics};

pub use build::warm_up;

/// Bound on each step of taking an offer; the steps take a few milliseconds.
const STEP_TIMEOUT: Duration = Duration::from_secs(3);

/// Rounds and bound of the barrier before a pipeline stops.
const BARRIER_ROUNDS: usize = 3;
const BARRIER_TIMEOUT: Duration = Duration::from_millis(500);

/// A pipeline that takes no frame for so long is broken: sending over UDP does not wait.
const STALL_TIMEOUT: Duration = Duration::from_secs(5);

/// One viewer's webrtcbin.
#[derive(Debug)]
pub struct Webrtcbin {
    name: String,
    /// Set first of all at the end: callbacks that still run do nothing.
    closed: Arc<AtomicBool>,
    /// Handlers and probes, which go before what they are on.
    guards: Stack,
    bin: gst::Element,
    appsrc: gst_app::AppSrc,
    pipeline: Option<Pipeline>,
    teardowns: Teardowns,
}

impl Engine for Webrtcbin {
    async fn open(opening: Opening, settings: &Settings) -> Result<(Self, Accepted), EngineError> {
        // Building takes milliseconds, but loads plugins the first time.
        let (settings, metrics) = (settings.clone(), Arc::clone(&settings.metrics));
        let built = tokio::task::spawn_blocking(move || {
            let built = build::Built::new(&opening, &settings)?;
            let source = (built.ssrc, built.cname.clone());
            let engine = Self::watch(built, &opening, &settings)?;
            engine.pipeline.as_ref().map(Pipeline::start).transpose().map_err(failed)?;
            Ok::<_, EngineError>((engine, opening, source))
        });
        let (mut engine, opening, (ssrc, cname)) = built.await.map_err(failed)??;
        let transport = engine.negotiate(&opening).await?;
        let rtx_ssrc = build::retransmit(&engine.bin, ssrc);
        engine.hear_goodbye(&opening);
        engine.listen(ssrc, opening, &metrics)?;
        Ok((engine, Accepted { transport, source: Source { ssrc, rtx_ssrc, cname } }))
    }

    fn add_candidate(&self, candidate: &Candidate) {
        self.bin.emit_by_name::<()>("add-ice-candidate", &[&0u32, &candidate.to_string()]);
    }

    fn feed(
        &self,
        subscriber: Subscriber<Frame>,
        session: Arc<Session>,
        metrics: Arc<Metrics>,
    ) -> impl Future<Output = FeedEnd> + Send + 'static {
        let appsrc = self.appsrc.clone();
        async move { feed::run(subscriber, appsrc, session, &metrics, STALL_TIMEOUT).await }
    }

    async fn close(self) {
        drop(self);
    }
}

impl Drop for Webrtcbin {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Release);
        let leaving = Leaving {
            guards: std::mem::take(&mut self.guards),
            bin: self.bin.clone(),
            _pipeline: self.pipeline.take(),
        };
        self.teardowns.take(&self.name, leaving);
    }
}

/// What is left of a session; its drop waits, so it belongs on a thread of its own.
struct Leaving {
    guards: Stack,
    bin: gst::Element,
    _pipeline: Option<Pipeline>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        drop(std::mem::take(&mut self.guards));
        // webrtcbin 1.22 leaks itself, threads and sockets with it, where it is stopped with
        // tasks pending on its own thread, as when a request is given up before its answer.
        // Promises are answered on that thread in order, so an answer means that what was
        // pending is done.
        for _ in 0..BARRIER_ROUNDS {
            let stats = |promise: &gst::Promise| {
                self.bin.emit_by_name::<()>("get-stats", &[&None::<gst::Pad>, promise]);
            };
            if !promise::answered(BARRIER_TIMEOUT, stats) {
                tracing::debug!(bin = %self.bin.name(), "the barrier before stopping did not answer");
            }
        }
    }
}

impl Webrtcbin {
    /// Connects the handlers; each holds the channel only, never the element.
    fn watch(
        built: build::Built,
        opening: &Opening,
        settings: &Settings,
    ) -> Result<Self, EngineError> {
        let build::Built { pipeline, bin, appsrc, payloader, .. } = built;
        let mut guards = Stack::new();
        let closed = Arc::new(AtomicBool::new(false));
        let news = News { events: opening.events.clone(), closed: Arc::clone(&closed) };
        let fingerprint = opening.offer.transport.fingerprint.clone();
        let stamps = packets::stamp(&payloader, opening.offer.extensions, &opening.offer.mid);
        guards.push(stamps);
        let watch = BusWatch::add(&pipeline, {
            let news = news.clone();
            move |message| news.bus(message)
        });
        guards.push(watch);
        for signal in news.connect(&bin, fingerprint) {
            guards.push(signal);
        }
        let (name, teardowns) = (opening.name.clone(), settings.teardowns.clone());
        Ok(Self { name, closed, guards, bin, appsrc, pipeline: Some(pipeline), teardowns })
    }

    /// Offer in, answer out; the candidates follow as events.
    async fn negotiate(&mut self, opening: &Opening) -> Result<Transport, EngineError> {
        let offer = gst_sdp::SDPMessage::parse_buffer(opening.offer.reduced().as_bytes());
        let offer = WebRTCSessionDescription::new(WebRTCSDPType::Offer, offer.map_err(failed)?);
        let set_remote = |promise: &gst::Promise| {
            self.bin.emit_by_name::<()>("set-remote-description", &[&offer, promise]);
        };
        promise::ask("take the offer", STEP_TIMEOUT, set_remote).await?;
        let create = |promise: &gst::Promise| {
            self.bin.emit_by_name::<()>("create-answer", &[&None::<gst::Structure>, promise]);
        };
        let reply = promise::ask("write an answer", STEP_TIMEOUT, create).await?;
        let answer = reply.and_then(|reply| reply.get::<WebRTCSessionDescription>("answer").ok());
        let answer = answer.ok_or_else(|| failed("webrtcbin wrote no answer"))?;
        let set_local = |promise: &gst::Promise| {
            self.bin.emit_by_name::<()>("set-local-description", &[&answer, promise]);
        };
        promise::ask("take its own answer", STEP_TIMEOUT, set_local).await?;
        let text = answer.sdp().as_text().map_err(failed)?;
        Transport::parse(&text)
            .ok_or_else(|| failed("webrtcbin's answer has no transport parameters"))
    }

    /// Hears the viewer close the DTLS session, which webrtcbin 1.22 does not count as the end of
    /// the connection.
    fn hear_goodbye(&mut self, opening: &Opening) {
        let Some(transport) = build::dtls_transport(&self.bin) else { return };
        let closed = Arc::clone(&self.closed);
        let news = News { events: opening.events.clone(), closed };
        let id = transport.connect_state_notify(move |transport| {
            if transport.state() == gst_webrtc::WebRTCDTLSTransportState::Closed {
                news.say(Event::Connection(Connection::Closed));
            }
        });
        self.guards.push(Signal::new(&transport, id));
    }

    /// Hears the viewer's RTCP.
    fn listen(
        &mut self,
        ssrc: u32,
        opening: Opening,
        metrics: &Metrics,
    ) -> Result<(), EngineError> {
        let pad = build::rtcp_pad(&self.bin).ok_or_else(|| failed("webrtcbin has no RTCP pad"))?;
        let labels = [metrics::WEBRTC_DOOR, "reports"];
        let refused = metrics.requests_refused.with_label_values(&labels);
        self.guards.push(packets::listen(&pad, ssrc, opening.listener, refused));
        Ok(())
    }
}

/// Where callbacks put what they have to say.
#[derive(Clone)]
struct News {
    events: tokio::sync::mpsc::Sender<Event>,
    closed: Arc<AtomicBool>,
}

impl News {
    fn say(&self, event: Event) {
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        if let Err(error) = self.events.try_send(event) {
            tracing::warn!(%error, "a session does not take its engine's news");
        }
    }

    fn bus(&self, message: &gst::Message) {
        if let gst::MessageView::Error(error) = message.view() {
            let source = error.src().map(|source| source.path_string()).unwrap_or_default();
            self.say(Event::Failed(format!("{source}: {}", error.error())));
        }
    }

    fn connect(&self, bin: &gst::Element, fingerprint: String) -> [Signal; 3] {
        let news = self.clone();
        let candidate = bin.connect("on-ice-candidate", false, move |values| {
            let line = values.get(2).and_then(|value| value.get::<String>().ok());
            match line.as_deref().map(Candidate::parse) {
                Some(Ok(candidate)) => news.say(Event::Candidate(candidate)),
                other => tracing::debug!(?other, "candidate of ours not offered"),
            }
            None
        });
        let news = self.clone();
        let gathering = bin.connect_notify(Some("ice-gathering-state"), move |bin, _| {
            let state = bin.property::<gst_webrtc::WebRTCICEGatheringState>("ice-gathering-state");
            if state == gst_webrtc::WebRTCICEGatheringState::Complete {
                news.say(Event::Gathered);
            }
        });
        let news = self.clone();
        let connection = bin.connect_notify(Some("connection-state"), move |bin, _| {
            let connection = connection(bin.property("connection-state"));
            // webrtcbin before 1.28 connects to whoever shakes hands.
            if connection == Connection::Connected && !is_promised(bin, &fingerprint) {
                return news.say(Event::Impostor);
            }
            news.say(Event::Connection(connection));
        });
        [candidate, gathering, connection].map(|id| Signal::new(bin, id))
    }
}

/// Whether the certificate that the peer has shown has this fingerprint.
fn is_promised(bin: &gst::Element, fingerprint: &str) -> bool {
    let shown = build::dtls_transport(bin).and_then(|transport| transport.remote_certificate());
    shown.is_some_and(|pem| fingerprint::matches(fingerprint, &pem))
}

fn connection(state: gst_webrtc::WebRTCPeerConnectionState) -> Connection {
    use gst_webrtc::WebRTCPeerConnectionState as State;
    match state {
        State::Connected => Connection::Connected,
        State::Disconnected => Connection::Disconnected,
        State::Failed => Connection::Failed,
        State::Closed => Connection::Closed,
        _ => Connection::Connecting,
    }
}

fn failed(error: impl std::fmt::Display) -> EngineError {
    EngineError::Failed(error.to_string())
}
