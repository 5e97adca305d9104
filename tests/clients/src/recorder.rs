//! retina, the RTSP client of the recorder moonfire-nvr, as a viewer.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use retina::client::{Demuxed, PlayOptions, Session, SessionOptions, SetupOptions, Transport};
use retina::codec::{CodecItem, VideoFrame};
use tokio::time::timeout;
use url::Url;

use crate::frames::Tally;

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
    ) -> Result<Self, String> {
        let joined = timeout(Duration::from_secs(10), play(url, transport)).await;
        let (demuxed, sdp) = joined.map_err(|_| "no answer within 10 s".to_owned())??;
        let tally = Tally::default();
        Ok(Self { demuxed: Box::pin(demuxed), framerate, tally, first_is_key: None, sdp })
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

async fn play(url: &str, transport: RecorderTransport) -> Result<(Demuxed, String), String> {
    let url = Url::parse(url).map_err(|error| error.to_string())?;
    let session = Session::describe(url, SessionOptions::default()).await;
    let mut session = session.map_err(|error| error.to_string())?;
    let sdp = String::from_utf8_lossy(session.sdp()).into_owned();
    let transport = match transport {
        RecorderTransport::Tcp => Transport::Tcp(Default::default()),
        RecorderTransport::Udp => Transport::Udp(Default::default()),
    };
    let options = SetupOptions::default().transport(transport);
    session.setup(0, options).await.map_err(|error| error.to_string())?;
    let playing = session.play(PlayOptions::default()).await;
    let playing = playing.map_err(|error| error.to_string())?;
    Ok((playing.demuxed().map_err(|error| error.to_string())?, sdp))
}
