//! The lightest WebRTC viewer there is: str0m on a task of its own, which counts packets and throws
//! them away. For crowds, where webrtcbin's eight threads a viewer would be what is measured.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::config::CryptoProvider;
use str0m::format::Codec;
use str0m::media::{Direction, MediaKind};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{Extension, RtpPacket};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::datagram;
use crate::frames::{Tally, Watch};
use crate::whep::JoinError;

/// An RTP packet of the video.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// When the kernel took its datagram in, since the Unix epoch. On one machine, that is when it
    /// was sent.
    pub taken_in: Duration,
    /// Its number, not wrapped. One that is not above all before it was sent again.
    pub sequence: u64,
    /// Whether it is the last of its picture.
    pub marker: bool,
    /// What it carries.
    pub payload: &'a [u8],
}

/// An extension's number that str0m's own do not take.
const CAPTURE_TIME_ID: u8 = 6;

/// Is shown the packets as they come.
type Observer = Box<dyn FnMut(&Arrival<'_>) + Send>;

/// An offer that nobody has seen yet.
pub struct LightOffer {
    /// Boxed: it is some 10 KB, which every future that holds an offer would hold.
    rtc: Box<Rtc>,
    pending: SdpPendingOffer,
    socket: UdpSocket,
    local: SocketAddr,
    observer: Option<Observer>,
    /// The offer.
    pub sdp: String,
}

/// A viewer that counts what comes. Dropping it vanishes.
#[derive(Debug)]
pub struct LightReceiver {
    tally: Watch,
    moves: Arc<Notify>,
    task: JoinHandle<()>,
    door: Door,
}

/// Where it came in, which is where it can say that it leaves.
#[derive(Debug)]
enum Door {
    /// The resource of a WHEP session.
    Whep(String),
    /// A socket with which the session ends: who listens to it, and how to have it closed.
    WebSocket { listener: JoinHandle<()>, hang_up: oneshot::Sender<()> },
    /// Somebody else's business.
    Other,
}

type Signalling = WebSocketStream<MaybeTlsStream<TcpStream>>;

impl LightOffer {
    /// An offer to receive H.264 at the local address `from`.
    ///
    /// # Panics
    /// Where this machine has no socket for it.
    pub async fn new(from: IpAddr) -> Self {
        Self::with(from, &[]).await.expect("a UDP port")
    }

    /// The same, and asks to be told when each picture was captured (abs-capture-time), from which
    /// the tally has latencies: until the last packet of a picture is here.
    ///
    /// # Errors
    /// Where this machine has no such address, or no socket for it.
    pub async fn timed(from: IpAddr) -> io::Result<Self> {
        Self::with(from, &[(CAPTURE_TIME_ID, Extension::AbsoluteCaptureTime)]).await
    }

    async fn with(from: IpAddr, extensions: &[(u8, Extension)]) -> io::Result<Self> {
        let socket = UdpSocket::bind((from, 0)).await?;
        let local = socket.local_addr()?;
        let crypto = CryptoProvider {
            dtls_provider: str0m_openssl::default_provider().dtls_provider,
            ..str0m_aws_lc_rs::default_provider()
        };
        let config = Rtc::builder().set_crypto_provider(Arc::new(crypto)).set_rtp_mode(true);
        let config = config.clear_codecs().enable_h264(true);
        let add = |config: RtcConfig, (id, extension): &(u8, Extension)| {
            config.set_extension(*id, extension.clone())
        };
        let mut rtc = extensions.iter().fold(config, add).build(Instant::now());
        rtc.add_local_candidate(Candidate::host(local, Protocol::Udp).expect("a local address"));
        let mut change = rtc.sdp_api();
        change.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
        let (offer, pending) = change.apply().expect("there is something to offer");
        let (rtc, sdp) = (Box::new(rtc), offer.to_sdp_string());
        Ok(Self { rtc, pending, socket, local, observer: None, sdp })
    }

    /// Has `observer` see every packet of the video, in the order in which they come.
    ///
    /// # Errors
    /// Where the kernel does not tell when datagrams come.
    pub fn observed(
        mut self,
        observer: impl FnMut(&Arrival<'_>) + Send + 'static,
    ) -> io::Result<Self> {
        datagram::note_times(&self.socket)?;
        self.observer = Some(Box::new(observer));
        Ok(self)
    }

    /// Sends the offer to the WHEP address `url`, and receives.
    ///
    /// # Errors
    /// Where the server refuses.
    pub async fn whep(
        self,
        http: &reqwest::Client,
        url: &str,
        framerate: u32,
    ) -> Result<LightReceiver, JoinError> {
        let request = http.post(url).header("content-type", "application/sdp");
        let reply = request.body(self.sdp.clone()).send().await.map_err(failed)?;
        let header = |name: &str| Some(reply.headers().get(name)?.to_str().ok()?.to_owned());
        let retry_after = header("retry-after").and_then(|text| text.parse().ok());
        let location = header("location");
        let (status, base) = (reply.status().as_u16(), reply.url().clone());
        let body = reply.text().await.map_err(failed)?;
        if status != 201 {
            return Err(JoinError::Refused { status, retry_after, body });
        }
        let location = location.ok_or_else(|| failed("201 without Location"))?;
        let door = Door::Whep(base.join(&location).map_err(failed)?.to_string());
        let (mut receiver, _) = self.accept(&body, framerate)?;
        receiver.door = door;
        Ok(receiver)
    }

    /// Signals by the WebSocket at `url`, which begins with `ws://`, and receives.
    ///
    /// # Errors
    /// Where the server refuses.
    pub async fn websocket(self, url: &str, framerate: u32) -> Result<LightReceiver, JoinError> {
        let (mut socket, _) = connect_async(url).await.map_err(failed)?;
        let offer = json!({ "type": "offer", "data": { "type": "offer", "sdp": self.sdp } });
        socket.send(Message::text(offer.to_string())).await.map_err(failed)?;
        let answer = loop {
            let (kind, data) = said(&mut socket).await.ok_or_else(|| failed("hung up"))?;
            match kind.as_str() {
                "answer" => break data,
                "error" => return Err(refused(&data)),
                _ => {}
            }
        };
        let sdp = answer["sdp"].as_str().ok_or_else(|| failed("an answer without SDP"))?;
        let (mut receiver, candidates) = self.accept(sdp, framerate)?;
        let (hang_up, hung_up) = oneshot::channel();
        let listener = tokio::spawn(listen(socket, candidates, hung_up));
        receiver.door = Door::WebSocket { listener, hang_up };
        Ok(receiver)
    }

    /// Takes an answer that came in some other way, and receives. What is sent on the channel are
    /// candidates that were not in the answer.
    ///
    /// # Errors
    /// Where the answer does not fit the offer.
    pub fn accept(
        mut self,
        answer: &str,
        framerate: u32,
    ) -> Result<(LightReceiver, UnboundedSender<Candidate>), JoinError> {
        let answer = SdpAnswer::from_sdp_string(answer).map_err(failed)?;
        self.rtc.sdp_api().accept_answer(self.pending, answer).map_err(failed)?;
        let (tally, moves) = (Watch::default(), Arc::new(Notify::new()));
        let (sender, candidates) = mpsc::unbounded_channel();
        let moved = Arc::clone(&moves);
        let place = Place { socket: self.socket, local: self.local, moves: moved, candidates };
        let view = View {
            tally: tally.clone(),
            framerate,
            newest: None,
            captured: None,
            observer: self.observer,
        };
        let task = tokio::spawn(receive(self.rtc, place, view));
        Ok((LightReceiver { tally, moves, task, door: Door::Other }, sender))
    }
}

impl LightReceiver {
    /// Offers itself to the WHEP address `url`, from the local address `from`, and receives.
    ///
    /// # Errors
    /// Where the server refuses.
    ///
    /// # Panics
    /// Where this machine has no socket for it.
    pub async fn join(
        http: &reqwest::Client,
        url: &str,
        from: IpAddr,
        framerate: u32,
    ) -> Result<Self, JoinError> {
        LightOffer::new(from).await.whep(http, url, framerate).await
    }

    /// Goes on from another port, and does not know: what a router does that forgets a viewer's
    /// mapping and makes another.
    pub fn rebind(&self) {
        self.moves.notify_one();
    }

    /// What came so far.
    pub fn tally(&self) -> Tally {
        self.tally.tally()
    }

    /// What came so far, as [`Tally::take`] gives it.
    pub fn take(&self) -> Tally {
        self.tally.take()
    }

    /// Leaves politely: with DELETE, or by closing the WebSocket.
    ///
    /// # Errors
    /// Where the server does not take it.
    pub async fn leave(mut self, http: &reqwest::Client) -> Result<(), JoinError> {
        match std::mem::replace(&mut self.door, Door::Other) {
            Door::Whep(location) => {
                let answer = http.delete(location).send().await.map_err(failed)?;
                answer.error_for_status().map(drop).map_err(failed)
            }
            Door::WebSocket { listener, hang_up } => {
                // Where the listener is gone, the socket was closed by the server.
                let _ = hang_up.send(());
                listener.await.map_err(failed)
            }
            Door::Other => Ok(()),
        }
    }
}

impl Drop for LightReceiver {
    fn drop(&mut self) {
        self.task.abort();
        if let Door::WebSocket { listener, .. } = &self.door {
            listener.abort();
        }
    }
}

/// The address of this machine at which a server on `host` reaches it. A server on this machine
/// offers the address that leads outwards, or loopback where there is none. Connecting a UDP socket
/// sends nothing.
pub fn own_address(host: IpAddr) -> IpAddr {
    let outside = IpAddr::from([192, 0, 2, 1]);
    let towards = if host.is_loopback() { outside } else { host };
    let any = SocketAddr::new(if towards.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() }, 0);
    let socket = std::net::UdpSocket::bind(any);
    let own = socket.and_then(|socket| {
        socket.connect((towards, 9))?;
        socket.local_addr()
    });
    own.map_or(host, |address| address.ip())
}

fn failed(error: impl ToString) -> JoinError {
    JoinError::Failed(error.to_string())
}

/// What a problem that came by WebSocket would have been as an HTTP answer.
fn refused(problem: &Value) -> JoinError {
    let status = problem["status"].as_u64().and_then(|status| status.try_into().ok());
    JoinError::Refused {
        status: status.unwrap_or_default(),
        retry_after: problem["retry_after_s"].as_u64(),
        body: problem.to_string(),
    }
}

/// Keeps a socket open, answers its pings, and passes on the candidates that come one by one.
async fn listen(
    mut socket: Signalling,
    candidates: UnboundedSender<Candidate>,
    mut hung_up: oneshot::Receiver<()>,
) {
    loop {
        let said = tokio::select! {
            said = said(&mut socket) => said,
            _ = &mut hung_up => {
                // One that is closed already is as good.
                let _ = socket.close(None).await;
                return;
            }
        };
        let Some((_, data)) = said else { return };
        let candidate = data["candidate"].as_str().unwrap_or_default();
        // An empty one is the end of them; other messages have none.
        if let Ok(candidate) = Candidate::from_sdp_string(candidate) {
            let _ = candidates.send(candidate);
        }
    }
}

/// The type and the data of the next message.
async fn said(socket: &mut Signalling) -> Option<(String, Value)> {
    loop {
        let Message::Text(text) = socket.next().await?.ok()? else { continue };
        let mut message: Value = serde_json::from_str(&text).ok()?;
        let kind = message["type"].as_str()?.to_owned();
        return Some((kind, message["data"].take()));
    }
}

/// Where a viewer is: the address that it thinks it has, and the socket that it sends by.
struct Place {
    socket: UdpSocket,
    local: SocketAddr,
    moves: Arc<Notify>,
    candidates: UnboundedReceiver<Candidate>,
}

/// What becomes of the packets.
struct View {
    tally: Watch,
    framerate: u32,
    /// The highest number of a packet that came.
    newest: Option<u64>,
    /// Of the picture with this time stamp, when it was captured.
    captured: Option<(u32, SystemTime)>,
    observer: Option<Observer>,
}

impl View {
    fn saw(&mut self, packet: &RtpPacket, taken_in: Duration) {
        let marker = packet.header.marker;
        if let Some(observer) = &mut self.observer {
            let (sequence, payload) = (*packet.seq_no, &*packet.payload);
            observer(&Arrival { taken_in, sequence, marker, payload });
        }
        let sequence = *packet.seq_no;
        let newest = self.newest.unwrap_or(sequence.saturating_sub(1));
        self.newest = Some(newest.max(sequence));
        let time = packet.header.timestamp;
        // The first packet of a picture has it.
        if let Some(captured) = packet.header.ext_vals.abs_capture_time {
            self.captured = Some((time, captured.capture_time));
        }
        self.tally.note(|tally| {
            tally.bytes += packet.payload.len() as u64;
            match sequence.checked_sub(newest + 1) {
                Some(missing) => tally.packets_lost += missing,
                // One that was missing has come late, or again.
                None => tally.packets_lost = tally.packets_lost.saturating_sub(1),
            }
            if marker {
                if let Some((_, captured)) = self.captured.filter(|(of, _)| *of == time) {
                    tally.saw_latency(ms_since(captured));
                }
                tally.saw_time(time, self.framerate, Instant::now());
            }
        });
    }
}

/// Milliseconds from `then` to now; below zero where it lies ahead.
fn ms_since(then: SystemTime) -> f64 {
    match SystemTime::now().duration_since(then) {
        Ok(past) => past.as_secs_f64() * 1e3,
        Err(ahead) => ahead.duration().as_secs_f64() * -1e3,
    }
}

async fn receive(mut rtc: Box<Rtc>, mut place: Place, mut view: View) {
    let mut buffer = vec![0; 2048];
    // What comes out of the connection was in the datagram that went in last.
    let mut taken_in = Duration::ZERO;
    while rtc.is_alive() {
        let wake_at = match rtc.poll_output().expect("the connection goes on") {
            Output::Transmit(packet) => {
                // A lost packet is the network's business.
                let _ = place.socket.send_to(&packet.contents, packet.destination).await;
                continue;
            }
            Output::Event(Event::RtpPacket(packet)) => {
                if is_video(&rtc, &packet) {
                    view.saw(&packet, taken_in);
                }
                continue;
            }
            Output::Event(_) => continue,
            Output::Timeout(at) => at,
        };
        let wait = wake_at.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let came = tokio::select! {
            came = tokio::time::timeout(wait, datagram::receive(&place.socket, &mut buffer)) => came,
            Some(candidate) = place.candidates.recv() => {
                rtc.add_remote_candidate(candidate);
                continue;
            }
            () = place.moves.notified() => {
                let address = (place.local.ip(), 0);
                place.socket = UdpSocket::bind(address).await.expect("a UDP port");
                if view.observer.is_some() {
                    datagram::note_times(&place.socket).expect("as on the one before");
                }
                continue;
            }
        };
        let input = match came {
            Ok(Ok(datagram)) => {
                taken_in = datagram.taken_in;
                let bytes = &buffer[..datagram.bytes];
                match Receive::new(Protocol::Udp, datagram.source, place.local, bytes) {
                    Ok(received) => Input::Receive(Instant::now(), received),
                    Err(_) => continue,
                }
            }
            Ok(Err(_)) | Err(_) => Input::Timeout(Instant::now()),
        };
        rtc.handle_input(input).expect("the connection goes on");
    }
}

/// Retransmissions and padding have payload types of their own.
fn is_video(rtc: &Rtc, packet: &RtpPacket) -> bool {
    let payload_type = packet.header.payload_type;
    let mut params = rtc.codec_config().params().iter();
    params.any(|one| one.pt() == payload_type && one.spec().codec == Codec::H264)
}
