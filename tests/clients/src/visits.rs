//! Visitors who come and leave, politely or not, at any stage of coming in.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use url::Url;

use crate::conversation::RtspConversation;
use crate::frames::{Look, Tally};
use crate::light::{LightOffer, LightReceiver, own_address};
use crate::recorder::{Recorder, RecorderTransport};
use crate::rtsp::RtspReceiver;
use crate::whep::{JoinError, WhepReceiver};

/// How long pictures may take to come.
const PICTURES_TIMEOUT: Duration = Duration::from_secs(20);

/// What the RTP time stamps are read by. Visitors count no missing pictures, so it need not be
/// exact.
const FRAMERATE: u32 = 30;

/// Where visitors find a streamer.
#[derive(Clone, Debug)]
pub struct Faces {
    /// Its pages, with a slash at the end.
    pub http: String,
    /// The camera they look at.
    pub rtsp: String,
    /// For their requests.
    pub client: reqwest::Client,
}

/// How far a visitor comes, by which door, and how it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each says what it is, and `name` in words")]
pub enum Stage {
    WhepGoneBeforeAnswer,
    WhepGoneAfterAnswer,
    WhepDeleteBeforeIce,
    WhepVanishedInHandshake,
    WhepDeleteInHandshake,
    WhepVanishedStreaming,
    WhepDeleteStreaming,
    WhepWebrtcbinVanishedStreaming,
    WebSocketGoneBeforeOffer,
    WebSocketGoneBeforeAnswer,
    WebSocketVanishedInHandshake,
    WebSocketVanishedStreaming,
    WebSocketClosedStreaming,
    RtspGoneAfterConnect,
    RtspGoneAfterDescribe,
    RtspGoneAfterSetup,
    RtspGoneStreaming,
    RtspTeardownStreaming,
    RtspUdpTeardownStreaming,
    RtspRecorderGoneStreaming,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::WhepGoneBeforeAnswer,
        Self::WhepGoneAfterAnswer,
        Self::WhepDeleteBeforeIce,
        Self::WhepVanishedInHandshake,
        Self::WhepDeleteInHandshake,
        Self::WhepVanishedStreaming,
        Self::WhepDeleteStreaming,
        Self::WhepWebrtcbinVanishedStreaming,
        Self::WebSocketGoneBeforeOffer,
        Self::WebSocketGoneBeforeAnswer,
        Self::WebSocketVanishedInHandshake,
        Self::WebSocketVanishedStreaming,
        Self::WebSocketClosedStreaming,
        Self::RtspGoneAfterConnect,
        Self::RtspGoneAfterDescribe,
        Self::RtspGoneAfterSetup,
        Self::RtspGoneStreaming,
        Self::RtspTeardownStreaming,
        Self::RtspUdpTeardownStreaming,
        Self::RtspRecorderGoneStreaming,
    ];

    /// It in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::WhepGoneBeforeAnswer => "WHEP, gone before the answer",
            Self::WhepGoneAfterAnswer => "WHEP, gone after the answer",
            Self::WhepDeleteBeforeIce => "WHEP, DELETE before ICE",
            Self::WhepVanishedInHandshake => "WHEP, vanished in ICE or DTLS",
            Self::WhepDeleteInHandshake => "WHEP, DELETE in ICE or DTLS",
            Self::WhepVanishedStreaming => "WHEP, vanished while streaming",
            Self::WhepDeleteStreaming => "WHEP, DELETE while streaming",
            Self::WhepWebrtcbinVanishedStreaming => "WHEP by webrtcbin, vanished while streaming",
            Self::WebSocketGoneBeforeOffer => "WebSocket, gone before the offer",
            Self::WebSocketGoneBeforeAnswer => "WebSocket, gone before the answer",
            Self::WebSocketVanishedInHandshake => "WebSocket, vanished in ICE or DTLS",
            Self::WebSocketVanishedStreaming => "WebSocket, vanished while streaming",
            Self::WebSocketClosedStreaming => "WebSocket, closed while streaming",
            Self::RtspGoneAfterConnect => "RTSP, gone after connecting",
            Self::RtspGoneAfterDescribe => "RTSP, gone after DESCRIBE",
            Self::RtspGoneAfterSetup => "RTSP, gone after SETUP",
            Self::RtspGoneStreaming => "RTSP, gone while streaming",
            Self::RtspTeardownStreaming => "RTSP, TEARDOWN while streaming",
            Self::RtspUdpTeardownStreaming => "RTSP over UDP, TEARDOWN while streaming",
            Self::RtspRecorderGoneStreaming => "RTSP by retina, gone while streaming",
        }
    }

    /// Comes, stays for `linger` at its stage, and leaves.
    ///
    /// # Errors
    /// Where it was not let in, or saw no pictures.
    pub async fn visit(self, faces: &Faces, linger: Duration) -> Result<(), JoinError> {
        match self {
            Self::WhepGoneBeforeAnswer => faces.hang_up_on_whep().await,
            Self::WhepGoneAfterAnswer => faces.whep().await.map(drop),
            Self::WhepDeleteBeforeIce => faces.delete_at_once().await,
            Self::WhepVanishedInHandshake => {
                let viewer = faces.whep().await?;
                sleep(linger).await;
                drop(viewer);
                Ok(())
            }
            Self::WhepDeleteInHandshake => {
                let viewer = faces.whep().await?;
                sleep(linger).await;
                viewer.leave(&faces.client).await
            }
            Self::WhepVanishedStreaming => streams(&faces.whep().await?, linger).await,
            Self::WhepDeleteStreaming => {
                let viewer = faces.whep().await?;
                streams(&viewer, linger).await?;
                viewer.leave(&faces.client).await
            }
            Self::WhepWebrtcbinVanishedStreaming => faces.webrtcbin(linger).await,
            Self::WebSocketGoneBeforeOffer => {
                connect_async(faces.socket()).await.map(drop).map_err(failed)
            }
            Self::WebSocketGoneBeforeAnswer => faces.hang_up_on_socket().await,
            Self::WebSocketVanishedInHandshake => {
                let viewer = faces.websocket().await?;
                sleep(linger).await;
                drop(viewer);
                Ok(())
            }
            Self::WebSocketVanishedStreaming => streams(&faces.websocket().await?, linger).await,
            Self::WebSocketClosedStreaming => {
                let viewer = faces.websocket().await?;
                streams(&viewer, linger).await?;
                viewer.leave(&faces.client).await
            }
            Self::RtspGoneAfterConnect
            | Self::RtspGoneAfterDescribe
            | Self::RtspGoneAfterSetup
            | Self::RtspGoneStreaming
            | Self::RtspTeardownStreaming => faces.converse(self, linger).await,
            Self::RtspUdpTeardownStreaming => {
                let viewer =
                    RtspReceiver::start(&faces.rtsp, "udp", Look::Packets { framerate: FRAMERATE });
                let seen = pictures(|| viewer.tally()).await;
                sleep(linger).await;
                // To stop blocks until the server has answered.
                tokio::task::spawn_blocking(move || drop(viewer)).await.map_err(failed)?;
                seen
            }
            Self::RtspRecorderGoneStreaming => {
                let joined = Recorder::join(&faces.rtsp, RecorderTransport::Tcp, FRAMERATE).await;
                let mut viewer = joined?;
                viewer.take(2, PICTURES_TIMEOUT).await.map_err(JoinError::Failed)
            }
        }
    }
}

impl Faces {
    /// The camera's name, which is the path of its RTSP address.
    pub fn camera(&self) -> &str {
        self.rtsp.rsplit('/').next().unwrap_or_default()
    }

    /// The camera's WHEP address.
    pub fn whep_url(&self) -> String {
        format!("{}whep/{}", self.http, self.camera())
    }

    /// The camera's WebSocket for signalling.
    pub fn socket(&self) -> String {
        format!("{}ws/{}", self.http.replacen("http", "ws", 1), self.camera())
    }

    /// The address of ours at which the streamer reaches us.
    pub fn own_address(&self) -> IpAddr {
        let url = Url::parse(&self.http).ok();
        let addresses = url.and_then(|url| url.socket_addrs(|| None).ok());
        let host = addresses.and_then(|addresses| addresses.first().map(SocketAddr::ip));
        own_address(host.unwrap_or(Ipv4Addr::LOCALHOST.into()))
    }

    async fn whep(&self) -> Result<LightReceiver, JoinError> {
        let offer = LightOffer::new(self.own_address()).await;
        offer.whep(&self.client, &self.whep_url(), FRAMERATE).await
    }

    async fn websocket(&self) -> Result<LightReceiver, JoinError> {
        LightOffer::new(self.own_address()).await.websocket(&self.socket(), FRAMERATE).await
    }

    async fn webrtcbin(&self, linger: Duration) -> Result<(), JoinError> {
        let look = Look::Packets { framerate: FRAMERATE };
        let viewer = WhepReceiver::join(&self.client, &self.whep_url(), look).await?;
        let seen = pictures(|| viewer.tally()).await;
        sleep(linger).await;
        seen
    }

    async fn delete_at_once(&self) -> Result<(), JoinError> {
        self.whep().await?.leave(&self.client).await
    }

    async fn hang_up_on_whep(&self) -> Result<(), JoinError> {
        let offer = LightOffer::new(self.own_address()).await.sdp;
        let host = self.http.trim_start_matches("http://").trim_end_matches('/');
        let mut stream = TcpStream::connect(host).await.map_err(failed)?;
        let request = format!(
            "POST /whep/{} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{offer}",
            self.camera(),
            offer.len()
        );
        stream.write_all(request.as_bytes()).await.map_err(failed)?;
        sleep(Duration::from_millis(2)).await;
        Ok(())
    }

    async fn hang_up_on_socket(&self) -> Result<(), JoinError> {
        let offer = LightOffer::new(self.own_address()).await.sdp;
        let (mut socket, _) = connect_async(self.socket()).await.map_err(failed)?;
        let message = json!({ "type": "offer", "data": { "type": "offer", "sdp": offer } });
        socket.send(Message::text(message.to_string())).await.map_err(failed)?;
        // Whatever has come meanwhile is not waited for.
        let _ = tokio::time::timeout(Duration::from_millis(2), socket.next()).await;
        Ok(())
    }

    async fn converse(&self, stage: Stage, linger: Duration) -> Result<(), JoinError> {
        let url = Url::parse(&self.rtsp).map_err(failed)?;
        let path = url.path().to_owned();
        let conversation = move || -> Result<(), JoinError> {
            let address = *url
                .socket_addrs(|| Some(554))
                .map_err(failed)?
                .first()
                .ok_or_else(|| failed("no address"))?;
            if stage == Stage::RtspGoneAfterConnect {
                return std::net::TcpStream::connect(address).map(drop).map_err(failed);
            }
            let mut viewer = RtspConversation::connect(address, &path);
            let mut ask = |method: &str, control: &str, header: &[(&str, &str)]| {
                let answer = viewer.ask(method, control, header);
                let (status, body) = (answer.status, answer.body);
                match status {
                    200 => Ok(()),
                    _ => Err(JoinError::Refused { status, retry_after: None, body }),
                }
            };
            ask("DESCRIBE", "", &[("Accept", "application/sdp")])?;
            if stage == Stage::RtspGoneAfterDescribe {
                return Ok(());
            }
            let transport = ("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1");
            ask("SETUP", "/stream=0", &[transport])?;
            if stage == Stage::RtspGoneAfterSetup {
                return Ok(());
            }
            ask("PLAY", "", &[])?;
            let until = Instant::now() + linger;
            while viewer.picture().is_some() && Instant::now() < until {}
            if stage == Stage::RtspTeardownStreaming {
                viewer.ask("TEARDOWN", "", &[]);
            }
            Ok(())
        };
        // What panics is a conversation that did not go as it should.
        tokio::task::spawn_blocking(conversation).await.map_err(failed)?
    }
}

/// Waits for pictures, and then some.
async fn streams(viewer: &LightReceiver, linger: Duration) -> Result<(), JoinError> {
    pictures(|| viewer.tally()).await?;
    sleep(linger).await;
    Ok(())
}

async fn pictures(tally: impl Fn() -> Tally) -> Result<(), JoinError> {
    let until = Instant::now() + PICTURES_TIMEOUT;
    while tally().frames < 2 {
        if Instant::now() > until {
            return Err(failed("no pictures came"));
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn failed(error: impl ToString) -> JoinError {
    JoinError::Failed(error.to_string())
}
