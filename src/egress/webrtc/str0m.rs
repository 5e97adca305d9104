//! str0m as the engine: a viewer is a state machine in a task of its own, not a pipeline with
//! threads; all viewers share one socket for each address, and every picture is cut into packets
//! once for all of them.
//!
//! Host candidates only: where STUN or TURN servers are configured, webrtcbin serves.

mod connection;
mod driver;
mod stun;
mod udp;

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use str0m::config::{CryptoProvider, DtlsCert};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::candidate::Candidate;
use super::engine::{Accepted, Engine, EngineError, Opening, Settings};
use crate::config;
use crate::distributor::Subscriber;
use crate::egress::feed::FeedEnd;
use crate::egress::session::Session;
use crate::egress::tally::Tally;
use crate::frame::Frame;
use crate::metrics::{self, Metrics};
use connection::Connection;
use driver::{Command, Driver, Feeding};

/// Commands that may wait for a viewer's task: one feed, one goodbye, and its candidates.
const COMMANDS_MAX: usize = config::CANDIDATES_MAX + 2;

/// Bound on the goodbye, which takes less than a millisecond.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// What all sessions of a server share.
#[derive(Debug)]
pub struct Shared {
    sockets: udp::Sockets,
    identity: OnceLock<Identity>,
}

/// The certificate, and what computes with it.
#[derive(Clone, Debug)]
struct Identity {
    crypto: Arc<CryptoProvider>,
    certificate: DtlsCert,
}

impl Shared {
    /// Nothing yet.
    pub fn new(metrics: &Metrics) -> Self {
        let labels = [metrics::WEBRTC_DOOR, "datagrams"];
        let refused = metrics.requests_refused.with_label_values(&labels);
        Self { sockets: udp::Sockets::new(refused), identity: OnceLock::new() }
    }

    /// Makes the certificate.
    ///
    /// # Errors
    /// Where none can be made.
    pub fn warm_up(&self) -> Result<(), EngineError> {
        self.identity().map(drop)
    }

    /// Made once: a certificate for each session would protect nobody, as the fingerprint travels
    /// in its answer, and costs a millisecond.
    fn identity(&self) -> Result<Identity, EngineError> {
        if let Some(identity) = self.identity.get() {
            return Ok(identity.clone());
        }
        let crypto = Arc::new(crypto());
        let certificate = crypto.dtls_provider.generate_certificate();
        let certificate = certificate.ok_or_else(|| failed("no DTLS certificate can be made"))?;
        Ok(self.identity.get_or_init(|| Identity { crypto, certificate }).clone())
    }
}

/// OpenSSL shakes hands: GStreamer's own viewers have RSA certificates, which the handshake that
/// str0m brings along does not know. AWS-LC encrypts: OpenSSL 3.0 looks the cipher up by name for
/// every packet, which took two thirds of what a viewer costs.
fn crypto() -> CryptoProvider {
    let openssl = str0m_openssl::default_provider();
    CryptoProvider { dtls_provider: openssl.dtls_provider, ..str0m_aws_lc_rs::default_provider() }
}

/// One viewer's str0m.
#[derive(Debug)]
pub struct Str0m {
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
}

impl Engine for Str0m {
    async fn open(opening: Opening, settings: &Settings) -> Result<(Self, Accepted), EngineError> {
        let ports = settings.config.udp_ports;
        let shared = &settings.shared;
        let sockets = opening.addresses.iter().filter_map(|&address| {
            let socket = shared.sockets.at(address, ports);
            let refused = |error: &std::io::Error| {
                tracing::warn!(%address, %error, ?ports, "no UDP port for WebRTC on an address");
            };
            socket.inspect_err(refused).ok()
        });
        let sockets: Vec<_> = sockets.collect();
        if sockets.is_empty() {
            return Err(failed("no UDP port is free; see webrtc.udp_ports"));
        }
        let (connection, accepted) =
            Connection::new(&opening.offer, &shared.identity()?, &sockets)?;
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let driver = Driver::new(connection, &accepted, sockets, opening, inbox);
        Ok((Self { commands, task: tokio::spawn(driver.run()) }, accepted))
    }

    fn add_candidate(&self, candidate: &Candidate) {
        if self.commands.try_send(Command::Candidate(candidate.clone())).is_err() {
            tracing::debug!(%candidate, "candidate not taken");
        }
    }

    fn feed(
        &self,
        subscriber: Subscriber<Frame>,
        session: Arc<Session>,
        metrics: Arc<Metrics>,
    ) -> impl Future<Output = FeedEnd> + Send + 'static {
        let (ended, end) = oneshot::channel();
        let tally = Tally::new(session, &metrics);
        let feeding = Command::Feed(Box::new(Feeding { subscriber, tally, ended }));
        let taken = self.commands.try_send(feeding);
        async move {
            // Where the task has ended, an event has told why.
            let gone = FeedEnd::Refused(gst::FlowError::Flushing);
            if taken.is_ok() { end.await.unwrap_or(gone) } else { gone }
        }
    }

    async fn close(mut self) {
        let goodbye = async {
            let _ = self.commands.send(Command::Close).await;
            let _ = (&mut self.task).await;
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await.is_err() {
            tracing::debug!("the viewer's goodbye did not get out");
        }
    }
}

impl Drop for Str0m {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn failed(error: impl std::fmt::Display) -> EngineError {
    EngineError::Failed(error.to_string())
}
