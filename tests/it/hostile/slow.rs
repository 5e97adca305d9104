//! Those who take their time: connections that are held and hardly used, while a round lasts.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::target::Target;

/// How often a byte is sent.
const EVERY: Duration = Duration::from_millis(500);

/// How they hold a connection.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// A request that never ends, byte by byte.
    ByteByByte(&'static str),
    /// This, and not a word more; whatever comes is read.
    Silent(&'static str),
    /// This again and again, and nothing is read.
    Deaf(&'static str),
}

const HTTP_HEAD: &str = "GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nX-Patience: ";
const RTSP_HEAD: &str = "OPTIONS rtsp://127.0.0.1/sim RTSP/1.0\r\nCSeq: 1\r\nX-Patience: ";
const HALF_BODY: &str = "POST /whep/sim HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/sdp\r\n\
    Content-Length: 1000\r\n\r\nv=0\r\n";
const WS_HANDSHAKE: &str = "GET /ws/sim HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const LARGE: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
const RTSP_PLAY: &str = "DESCRIBE rtsp://127.0.0.1/sim RTSP/1.0\r\nCSeq: 1\r\n\r\n\
    SETUP rtsp://127.0.0.1/sim/stream=0 RTSP/1.0\r\nCSeq: 2\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n";

/// To whom, and how: eight of each.
const MANNERS: &[(bool, Manner)] = &[
    (false, Manner::ByteByByte(HTTP_HEAD)),
    (true, Manner::ByteByByte(RTSP_HEAD)),
    (false, Manner::ByteByByte(WS_HANDSHAKE)),
    (false, Manner::Silent("")),
    (true, Manner::Silent("")),
    (false, Manner::Silent(HALF_BODY)),
    (true, Manner::Silent(RTSP_HEAD)),
    (false, Manner::Silent(WS_HANDSHAKE)),
    (false, Manner::Deaf(LARGE)),
    (true, Manner::Deaf(RTSP_PLAY)),
];
const EACH: u8 = 8;

/// The slow ones of a round; dropping it lets them go.
pub struct Slow {
    tasks: JoinSet<()>,
    opened: Arc<AtomicU64>,
}

impl Slow {
    /// Begins to hold connections; one that is closed is opened again.
    pub fn start(target: &Target) -> Self {
        let (mut tasks, opened) = (JoinSet::new(), Arc::new(AtomicU64::new(0)));
        for (number, (rtsp, manner)) in (0..EACH).flat_map(|_| MANNERS).enumerate() {
            let to = if *rtsp { target.rtsp } else { target.http };
            let from = Ipv4Addr::new(127, 0, 1, 1 + (number % 200) as u8);
            let opened = Arc::clone(&opened);
            tasks.spawn(async move {
                loop {
                    // One that is turned away, or closed, tries again a little later.
                    let _ = hold(to, from, *manner, &opened).await;
                    tokio::time::sleep(EVERY).await;
                }
            });
        }
        Self { tasks, opened }
    }

    /// Connections that were held.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// How many are held at a time.
    pub fn count(&self) -> usize {
        self.tasks.len()
    }
}

async fn hold(
    to: SocketAddr,
    from: Ipv4Addr,
    manner: Manner,
    opened: &AtomicU64,
) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    // What is not read waits at the server's end soon.
    socket.set_recv_buffer_size(4096)?;
    socket.bind((from, 0).into())?;
    let mut stream = socket.connect(to).await?;
    opened.fetch_add(1, Ordering::Relaxed);
    match manner {
        Manner::ByteByByte(words) => {
            let (mut reader, mut writer) = stream.split();
            let speak = async {
                for byte in words.bytes().chain(std::iter::repeat(b'.')) {
                    writer.write_all(&[byte]).await?;
                    tokio::time::sleep(EVERY).await;
                }
                Ok(())
            };
            let mut buffer = [0; 1024];
            let listen = async {
                while reader.read(&mut buffer).await? > 0 {}
                Ok(())
            };
            tokio::select! { said = speak => said, heard = listen => heard }
        }
        Manner::Silent(words) => {
            stream.write_all(words.as_bytes()).await?;
            until_closed(&mut stream).await
        }
        Manner::Deaf(words) => loop {
            stream.write_all(words.as_bytes()).await?;
            tokio::time::sleep(EVERY / 10).await;
        },
    }
}

async fn until_closed(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}
