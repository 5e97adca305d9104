//! retina, the RTSP client of the recorder moonfire-nvr, as a viewer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use retina::client::{
    Demuxed, PlayOptions, Session, SessionGroup, SessionOptions, SetupOptions, Transport,
};
use retina::codec::{CodecItem, VideoFrame};
use tokio::time::timeout;
use url::Url;

use crate::frames::Tally;
use crate::whep::JoinError;

/// How long the server may take to answer TEARDOWN.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How RTP reaches the recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecorderTransport {
    /// In the RTSP connection.
    Tcp,
    /// Beside it.
    Udp,
}

/// A recording client.
pub struct Recorder {
    /// Where retina does its parting words.
    session: Arc<SessionGroup>,
    demuxed: std::pin::Pin<Box<Demuxed>>,
    framerate: u32,
    /// What came so far.
    pub tally: Tally,
    /// Whether the first frame was a random access point; `None` before it came.
    pub first_is_key: Option<bool>,
    /// The SDP that DESCRIBE answered with.
    pub sdp: String,
}

impl Recorder {
    /// DESCRIBE, SETUP and PLAY.
    ///
    /// # Errors
    /// What the server answered, or that it did not within 10 s.
    pub async fn join(
        url: &str,
        transport: RecorderTransport,
        framerate: u32,
    ) -> Result<Self, JoinError> {
        let joined = timeout(Duration::from_secs(10), play(url, transport)).await;
        let late = |_| JoinError::Failed("no answer within 10 s".into());
        let (session, demuxed, sdp) = joined.map_err(late)??;
        let tally = Tally::default();
        Ok(Self { session, demuxed: Box::pin(demuxed), framerate, tally, first_is_key: None, sdp })
    }

    /// Leaves politely, with TEARDOWN.
    ///
    /// # Errors
    /// Where the server does not take it.
    pub async fn leave(self) -> Result<(), JoinError> {
        drop(self.demuxed);
        let torn_down = timeout(LEAVE_TIMEOUT, self.session.await_teardown()).await;
        torn_down.map_err(|_| JoinError::Failed("no answer to TEARDOWN".into()))?.map_err(refused)
    }

    /// Takes the next frame.
    ///
    /// # Errors
    /// What broke the stream, or that it ended.
    pub async fn next(&mut self) -> Result<VideoFrame, String> {
        loop {
            let item = self.demuxed.next().await.ok_or("the stream ended")?;
            if let CodecItem::VideoFrame(frame) = item.map_err(|error| error.to_string())? {
                self.first_is_key.get_or_insert(frame.is_random_access_point());
                self.tally.packets_lost += u64::from(frame.loss());
                self.tally.bytes += frame.data().len() as u64;
                // 32 bits of it are what the wire carried.
                let time = frame.timestamp().timestamp() as u32;
                self.tally.saw_time(time, self.framerate, Instant::now());
                return Ok(frame);
            }
        }
    }

    /// Takes frames until `count` have come in all.
    ///
    /// # Errors
    /// What broke the stream, or that the frames did not come within `bound`.
    pub async fn take(&mut self, count: u64, bound: Duration) -> Result<(), String> {
        let all = async {
            while self.tally.frames < count {
                self.next().await?;
            }
            Ok(())
        };
        let taken = timeout(bound, all).await;
        taken.map_err(|_| format!("{} of {count} frames came", self.tally.frames))?
    }
}

async fn play(
    url: &str,
    transport: RecorderTransport,
) -> Result<(Arc<SessionGroup>, Demuxed, String), JoinError> {
    let url = Url::parse(url).map_err(|error| JoinError::Failed(error.to_string()))?;
    let group = Arc::new(SessionGroup::default());
    let options = SessionOptions::default().session_group(Arc::clone(&group));
    let session = Session::describe(url, options).await;
    let mut session = session.map_err(refused)?;
    let sdp = String::from_utf8_lossy(session.sdp()).into_owned();
    let transport = match transport {
        RecorderTransport::Tcp => Transport::Tcp(Default::default()),
        RecorderTransport::Udp => Transport::Udp(Default::default()),
    };
    let options = SetupOptions::default().transport(transport);
    session.setup(0, options).await.map_err(refused)?;
    let playing = session.play(PlayOptions::default()).await.map_err(refused)?;
    Ok((group, playing.demuxed().map_err(refused)?, sdp))
}

fn refused(error: retina::Error) -> JoinError {
    let body = error.to_string();
    match error.status_code() {
        Some(status) => JoinError::Refused { status, retry_after: None, body },
        None => JoinError::Failed(body),
    }
}
