//! What the control plane needs of a WebRTC engine: an offer in, an answer out, candidates.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use tokio::sync::mpsc;

use crate::admission::Permit;
use crate::catalog::Rendition;
use crate::descriptors::Guest;
use crate::egress::session::{Session, SessionId};
use crate::egress::webrtc::engine::EngineError;
use crate::egress::webrtc::{self, Trickle, WebrtcServer};

/// A WebRTC engine.
pub trait Signalling: Send + Sync + 'static {
    /// What a viewer takes of the process's descriptors.
    fn guest(&self) -> Guest;

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
pub struct Opened {
    /// The session.
    pub session: Arc<Session>,
    /// Our SDP.
    pub answer: String,
    /// Our candidates as they are found; closed after the last. Without `trickle` it has none.
    pub candidates: BoxStream<'static, Candidate>,
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
    #[error("these are more candidates than one session may have")]
    TooMany,
}

/// Candidates of ours that may wait for a WebSocket to take them.
const CANDIDATES_MAX: usize = 32;

impl Signalling for WebrtcServer {
    fn guest(&self) -> Guest {
        self.guest()
    }

    fn open(&self, viewer: Viewer) -> BoxFuture<'static, Result<Opened, OpenError>> {
        let server = self.clone();
        Box::pin(async move {
            let Viewer { rendition, address, permit, offer, trickle } = viewer;
            let (sender, candidates) = mpsc::channel(CANDIDATES_MAX);
            let trickle = if trickle { Trickle::Trickle(sender) } else { Trickle::Gathered };
            let opened = server.open(rendition, address, permit, &offer, trickle).await?;
            let (session, answer) = (opened.session, opened.answer_sdp);
            let candidates = placed(candidates, &answer);
            Ok(Opened { session, answer, candidates })
        })
    }

    fn add_candidate(
        &self,
        session: &SessionId,
        candidate: Candidate,
    ) -> Result<(), CandidateError> {
        self.add_candidate(session, &candidate.candidate).map_err(|error| match error {
            webrtc::CandidateError::NoSession => CandidateError::Gone,
            webrtc::CandidateError::Malformed(why) => CandidateError::Malformed(why.to_string()),
            webrtc::CandidateError::TooMany => CandidateError::TooMany,
        })
    }
}

impl From<webrtc::OpenError> for OpenError {
    fn from(error: webrtc::OpenError) -> Self {
        let words = error.to_string();
        match error {
            webrtc::OpenError::Offer(offer) if offer.is_not_acceptable() => Self::NoH264(words),
            webrtc::OpenError::Offer(_) => Self::Malformed(words),
            webrtc::OpenError::Engine(EngineError::Timeout { .. }) => Self::Timeout,
            _ => Self::Failed(words),
        }
    }
}

/// Our candidates with the media section of `answer` that they belong to: the one that is sent.
fn placed(
    mut candidates: mpsc::Receiver<webrtc::candidate::Candidate>,
    answer: &str,
) -> BoxStream<'static, Candidate> {
    let (mid, mline_index) = sent_section(answer);
    stream::poll_fn(move |context| candidates.poll_recv(context))
        .map(move |candidate| Candidate {
            candidate: candidate.to_string(),
            mid: mid.clone(),
            mline_index,
        })
        .boxed()
}

/// Identification tag and index of the media section that is not refused (port 0).
fn sent_section(answer: &str) -> (Option<String>, u32) {
    let sections = answer.split("\nm=").skip(1);
    let refused = |section: &str| section.split(' ').nth(1) == Some("0");
    let Some((index, section)) = (0u32..).zip(sections).find(|(_, section)| !refused(section))
    else {
        return (None, 0);
    };
    let mid = section.lines().find_map(|line| line.strip_prefix("a=mid:"));
    (mid.map(str::to_owned), index)
}

#[cfg(test)]
mod tests {
    use super::sent_section;

    #[test]
    fn candidates_go_to_the_section_that_is_sent() {
        let answer = "v=0\r\nm=audio 0 UDP/TLS/RTP/SAVPF 111\r\na=mid:a\r\n\
            m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:v\r\n";
        assert_eq!(sent_section(answer), (Some("v".into()), 1));
        assert_eq!(sent_section("v=0\r\n"), (None, 0));
    }
}
