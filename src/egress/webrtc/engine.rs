//! What a WebRTC engine must do: take an offer, give an answer, exchange candidates, be fed, be
//! heard, end. Two stand behind it, [`str0m`](super::str0m) and [`webrtcbin`](super::webrtcbin),
//! and are measured against each other by `benches/viewers_cost.rs`.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::answer::{Source, Transport};
use super::candidate::Candidate;
use super::liveness::Connection;
use super::offer::Offer;
use super::rtcp;
use super::str0m::Shared;
use crate::config;
use crate::distributor::Subscriber;
use crate::egress::feed::FeedEnd;
use crate::egress::session::Session;
use crate::guard::Teardowns;
use crate::metrics::Metrics;

/// What every session of a server has in common.
#[derive(Clone, Debug)]
pub struct Settings {
    /// STUN, TURN, ports, interfaces, timeouts.
    pub config: Arc<config::Webrtc>,
    /// The figures.
    pub metrics: Arc<Metrics>,
    /// Where pipelines stop.
    pub teardowns: Teardowns,
    /// What str0m's sessions share.
    pub shared: Arc<Shared>,
}

/// What an engine says while it runs. One that finds the channel full drops the news and logs it.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// One of our candidates.
    Candidate(Candidate),
    /// There are no more candidates.
    Gathered,
    /// The connection changed its state.
    Connection(Connection),
    /// The peer's certificate is not the one that its offer promised; said in the place of
    /// `Connected`, before any frame is asked for.
    Impostor,
    /// The engine cannot go on.
    Failed(String),
}

/// What an engine hands every report of the viewer to; called on the engine's own threads, so it
/// must not block.
pub type Listener = Box<dyn Fn(rtcp::Report) + Send + Sync>;

/// What a session gives its engine.
pub struct Opening {
    /// What to answer.
    pub offer: Offer,
    /// The addresses to offer candidates on.
    pub addresses: Vec<IpAddr>,
    /// The session's name, for logs.
    pub name: String,
    /// Where the engine's news go.
    pub events: mpsc::Sender<Event>,
    /// Who hears the viewer's reports.
    pub listener: Listener,
}

/// The engine's part of an answer.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// ICE and DTLS.
    pub transport: Transport,
    /// What will be sent.
    pub source: Source,
}

/// Why an engine did not take an offer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// An element is missing or refused.
    #[error("{0}")]
    Failed(String),
    /// It did not answer within the bound.
    #[error("the WebRTC engine did not {step} within {} ms", bound.as_millis())]
    Timeout {
        /// What it was to do.
        step: &'static str,
        /// The bound.
        bound: Duration,
    },
}

/// A WebRTC engine for one viewer. Dropping it without [`Engine::close`] stops it all the same.
pub trait Engine: Send + Sync + Sized + 'static {
    /// Takes an offer and begins to gather candidates.
    fn open(
        opening: Opening,
        settings: &Settings,
    ) -> impl Future<Output = Result<(Self, Accepted), EngineError>> + Send;

    /// Takes one of the viewer's candidates. Never blocks.
    fn add_candidate(&self, candidate: &Candidate);

    /// Sends frames to the viewer until one side ends.
    fn feed(
        &self,
        subscriber: Subscriber<crate::frame::Frame>,
        session: Arc<Session>,
        metrics: Arc<Metrics>,
    ) -> impl Future<Output = FeedEnd> + Send + 'static;

    /// Ends: nothing is heard of it any more, and what it holds is given back elsewhere.
    fn close(self) -> impl Future<Output = ()> + Send;
}
