//! What the control plane needs of a WebRTC engine: an offer in, an answer out, candidates.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use crate::admission::Permit;
use crate::catalog::Rendition;
use crate::egress::session::{Session, SessionId};

/// A WebRTC engine.
pub trait Signalling: Send + Sync + 'static {
    /// Lets a viewer in. The future bounds itself and may be dropped at any time: what it began
    /// is then undone.
    fn open(&self, viewer: Viewer) -> BoxFuture<'static, Result<Opened, OpenError>>;

    /// Hands over where a viewer may be reached. Never waits.
    ///
    /// # Errors
    /// Where the session is gone or the candidate is none.
    fn add_candidate(
        &self,
        session: &SessionId,
        candidate: Candidate,
    ) -> Result<(), CandidateError>;
}

/// Who wants to come in.
#[derive(Debug)]
pub struct Viewer {
    /// What to watch.
    pub rendition: Arc<Rendition>,
    /// The address of the signalling connection.
    pub address: SocketAddr,
    /// The right to a session; goes with the session.
    pub permit: Permit,
    /// The viewer's SDP.
    pub offer: String,
    /// Whether our candidates may follow the answer; otherwise they must be in it.
    pub trickle: bool,
}

/// A viewer who was let in.
#[derive(Debug)]
pub struct Opened {
    /// The session.
    pub session: Arc<Session>,
    /// Our SDP.
    pub answer: String,
    /// Our candidates as they are found; closed after the last. Without `trickle` it has none.
    pub candidates: mpsc::Receiver<Candidate>,
}

/// One place where a peer may be reached; an empty text says that no more will come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// `candidate:…` of RFC 8839, without `a=`.
    pub candidate: String,
    /// Identification tag of the media section, where known.
    pub mid: Option<String>,
    /// Index of the media section in the SDP, from 0.
    pub mline_index: u32,
}

/// Why a viewer was not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The offer does not parse or makes no sense.
    #[error("the offer does not parse: {0}")]
    Malformed(String),
    /// The offer has no H.264 that we could send.
    #[error("the offer cannot take what the camera sends: {0}")]
    NoH264(String),
    /// The camera delivers nothing.
    #[error("the camera is not running: {0}")]
    NotRunning(String),
    /// No room for one more viewer on this rendition.
    #[error("all seats of this rendition are taken")]
    Full,
    /// The engine did not come to an answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The engine failed.
    #[error("{0}")]
    Failed(String),
}

/// Why a candidate was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CandidateError {
    /// The session has ended.
    #[error("the session has ended")]
    Gone,
    /// Not a candidate.
    #[error("not a candidate: {0}")]
    Malformed(String),
    /// More candidates than a viewer can need.
    #[error("too many candidates")]
    TooMany,
}
