//! The lightest WHEP viewer there is: str0m on a task of its own, which counts packets and throws
//! them away. For crowds, where webrtcbin's eight threads a viewer would be what is measured.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use str0m::change::SdpAnswer;
use str0m::config::CryptoProvider;
use str0m::format::Codec;
use str0m::media::{Direction, MediaKind};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc};
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::frames::Tally;
use crate::whep::JoinError;

/// A viewer that counts what comes. Dropping it vanishes.
#[derive(Debug)]
pub struct LightReceiver {
    tally: Arc<Mutex<Tally>>,
    moves: Arc<Notify>,
    task: JoinHandle<()>,
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
        let failed = |error: &dyn std::fmt::Display| JoinError::Failed(error.to_string());
        let socket = UdpSocket::bind((from, 0)).await.expect("a UDP port");
        let local = socket.local_addr().expect("it is bound");
        let crypto = CryptoProvider {
            dtls_provider: str0m_openssl::default_provider().dtls_provider,
            ..str0m_aws_lc_rs::default_provider()
        };
        let mut rtc = Rtc::builder()
            .set_crypto_provider(Arc::new(crypto))
            .set_rtp_mode(true)
            .clear_codecs()
            .enable_h264(true)
            .build(Instant::now());
        rtc.add_local_candidate(Candidate::host(local, Protocol::Udp).expect("a local address"));
        let mut change = rtc.sdp_api();
        change.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
        let (offer, pending) = change.apply().expect("there is something to offer");
        let request = http.post(url).header("content-type", "application/sdp");
        let reply = request.body(offer.to_sdp_string()).send().await;
        let reply = reply.map_err(|error| failed(&error))?;
        let status = reply.status().as_u16();
        let body = reply.text().await.map_err(|error| failed(&error))?;
        if status != 201 {
            return Err(JoinError::Refused { status, retry_after: None, body });
        }
        let answer = SdpAnswer::from_sdp_string(&body).map_err(|error| failed(&error))?;
        rtc.sdp_api().accept_answer(pending, answer).map_err(|error| failed(&error))?;
        let tally = Arc::new(Mutex::new(Tally::default()));
        let moves = Arc::new(Notify::new());
        let place = Place { socket, local, moves: Arc::clone(&moves) };
        let task = tokio::spawn(receive(rtc, place, Arc::clone(&tally), framerate));
        Ok(Self { tally, moves, task })
    }

    /// Goes on from another port, and does not know: what a router does that forgets a viewer's
    /// mapping and makes another.
    pub fn rebind(&self) {
        self.moves.notify_one();
    }

    /// What came so far.
    pub fn tally(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for LightReceiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where a viewer is: the address that it thinks it has, and the socket that it sends by.
struct Place {
    socket: UdpSocket,
    local: SocketAddr,
    moves: Arc<Notify>,
}

async fn receive(mut rtc: Rtc, mut place: Place, tally: Arc<Mutex<Tally>>, framerate: u32) {
    let mut buffer = vec![0; 2048];
    while rtc.is_alive() {
        let wake_at = match rtc.poll_output().expect("the connection goes on") {
            Output::Transmit(packet) => {
                // A lost packet is the network's business.
                let _ = place.socket.send_to(&packet.contents, packet.destination).await;
                continue;
            }
            Output::Event(Event::RtpPacket(packet)) => {
                // Retransmissions and padding have payload types of their own.
                let params = rtc.codec_config().params();
                let payload_type = packet.header.payload_type;
                let is_video = params
                    .iter()
                    .any(|one| one.pt() == payload_type && one.spec().codec == Codec::H264);
                if is_video && packet.header.marker {
                    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                    tally.saw_time(packet.header.timestamp, framerate, Instant::now());
                }
                continue;
            }
            Output::Event(_) => continue,
            Output::Timeout(at) => at,
        };
        let wait = wake_at.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let came = tokio::select! {
            came = tokio::time::timeout(wait, place.socket.recv_from(&mut buffer)) => came,
            () = place.moves.notified() => {
                let address = (place.local.ip(), 0);
                place.socket = UdpSocket::bind(address).await.expect("a UDP port");
                continue;
            }
        };
        let input = match came {
            Ok(Ok((length, source))) => {
                match Receive::new(Protocol::Udp, source, place.local, &buffer[..length]) {
                    Ok(received) => Input::Receive(Instant::now(), received),
                    Err(_) => continue,
                }
            }
            Ok(Err(_)) | Err(_) => Input::Timeout(Instant::now()),
        };
        rtc.handle_input(input).expect("the connection goes on");
    }
}
