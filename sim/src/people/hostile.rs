//! Connections that are held and not used.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{interval, sleep, timeout};

use super::line::{Line, say};

/// How often a byte is sent, and how often it is told what became of the connections.
const EVERY: Duration = Duration::from_secs(1);

/// How long the server may take to let one in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// A request over HTTP that never ends, a byte a second; a connection that is closed is opened
    /// again.
    SlowlorisHttp,
    /// The same over RTSP.
    SlowlorisRtsp,
    /// Half a request, over HTTP to the first address and over RTSP to the second, and not a word
    /// more.
    HalfOpen,
}

/// One who is hostile.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What it does.
    #[arg(long)]
    kind: Kind,
    /// To whom.
    #[arg(long)]
    address: SocketAddr,
    /// To whom also.
    #[arg(long)]
    second: Option<SocketAddr>,
    /// So many connections to each.
    #[arg(long)]
    connections: u64,
}

#[derive(Default)]
struct Held {
    open: AtomicU64,
    closed: AtomicU64,
    failed: AtomicU64,
}

/// Holds connections for ever.
pub(super) async fn run(args: Args) -> Result<(), String> {
    let held = Arc::new(Held::default());
    for (address, rtsp) in [(Some(args.address), false), (args.second, true)] {
        let Some(address) = address else { continue };
        let words = request(args.kind, address, rtsp);
        for _ in 0..args.connections {
            tokio::spawn(hold(args.kind, address, words.clone(), Arc::clone(&held)));
        }
    }
    let mut ticks = interval(EVERY);
    loop {
        ticks.tick().await;
        let [open, closed, failed] =
            [&held.open, &held.closed, &held.failed].map(|count| count.load(Ordering::Relaxed));
        say(&Line::Held { open, closed, failed });
    }
}

/// The beginning of a request.
fn request(kind: Kind, address: SocketAddr, rtsp: bool) -> String {
    let http = format!("GET /api/v1/status HTTP/1.1\r\nHost: {address}\r\nX-Patience: ");
    let rtsp_words = format!("OPTIONS rtsp://{address}/ RTSP/1.0\r\nCSeq: 1\r\nX-Patience: ");
    match kind {
        Kind::SlowlorisHttp => http,
        Kind::SlowlorisRtsp => rtsp_words,
        Kind::HalfOpen if rtsp => rtsp_words,
        // Its head is whole: what is missing is the body, for which servers have more patience.
        Kind::HalfOpen => format!(
            "POST /whep/sim HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/sdp\r\n\
             Content-Length: 1000\r\n\r\nv=0\r\n"
        ),
    }
}

async fn hold(kind: Kind, address: SocketAddr, words: String, held: Arc<Held>) {
    loop {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                held.open.fetch_add(1, Ordering::Relaxed);
                match kind {
                    Kind::HalfOpen => say_half(stream, &words).await,
                    Kind::SlowlorisHttp | Kind::SlowlorisRtsp => say_slowly(stream, &words).await,
                }
                held.open.fetch_sub(1, Ordering::Relaxed);
                held.closed.fetch_add(1, Ordering::Relaxed);
            }
            _ => {
                held.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        if kind == Kind::HalfOpen {
            return;
        }
        sleep(EVERY).await;
    }
}

/// Says the words a byte a second, and then a header that never ends, until the server closes.
async fn say_slowly(stream: TcpStream, words: &str) {
    let (mut heard, mut voice) = stream.into_split();
    let speak = async {
        for byte in words.bytes().chain(std::iter::repeat(b'.')) {
            if voice.write_all(&[byte]).await.is_err() {
                return;
            }
            sleep(EVERY).await;
        }
    };
    tokio::select! {
        () = speak => {}
        () = until_closed(&mut heard) => {}
    }
}

/// Says the words and waits until the server closes.
async fn say_half(stream: TcpStream, words: &str) {
    let (mut heard, mut voice) = stream.into_split();
    // Where it cannot be written it is closed, which is seen at once.
    let _ = voice.write_all(words.as_bytes()).await;
    until_closed(&mut heard).await;
}

async fn until_closed(heard: &mut (impl AsyncReadExt + Unpin)) {
    let mut answer = [0; 1024];
    while let Ok(1..) = heard.read(&mut answer).await {}
}
