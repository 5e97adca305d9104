//! Traffic that is not ours: what RFC 8867 and RFC 8868 send beside the media.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, sleep_until};

use super::line::{Line, say};

/// How often a sink says what it has received.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// How long a source waits whose connection broke.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// The pause between short transfers on average (RFC 8868).
const PAUSE_S: f64 = 10.0;

/// Bytes of a short transfer (RFC 8868).
const SHORT_BYTES: std::ops::RangeInclusive<usize> = 30_000..=50_000;

/// Bytes of UDP's and IPv4's headers.
const HEADERS: u64 = 28;

/// What a datagram carries: 1200 bytes as an IP packet.
const PAYLOAD: usize = 1172;

/// What it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// TCP transfers that never end.
    TcpLong,
    /// TCP transfers of 30 to 50 KB with pauses of 10 s on average between them.
    TcpShort,
    /// UDP at a constant rate.
    UdpCbr,
}

/// Which side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Sends.
    Source,
    /// Receives.
    Sink,
}

/// Traffic from a source to a sink.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What it is.
    #[arg(long)]
    kind: Kind,
    /// Which side.
    #[arg(long)]
    role: Role,
    /// Where the sink is.
    #[arg(long)]
    address: SocketAddr,
    /// How many of it a source sends.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// What each of it sends over UDP, as IP packets.
    #[arg(long, default_value_t = 0.0)]
    rate_kbps: f64,
    /// What pauses and sizes are drawn from.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Sends or receives for ever.
pub(super) async fn run(args: Args) -> Result<(), String> {
    match args.role {
        Role::Source => send(&args).await,
        Role::Sink => {
            let total = Arc::new(AtomicU64::new(0));
            tokio::select! {
                ended = sink(&args, Arc::clone(&total)) => ended.map_err(|error| error.to_string()),
                () = tell(&total) => Ok(()),
            }
        }
    }
}

async fn tell(total: &AtomicU64) {
    let mut ticks = interval(TELL_EVERY);
    loop {
        ticks.tick().await;
        say(&Line::Bytes { total: total.load(Ordering::Relaxed) });
    }
}

async fn sink(args: &Args, total: Arc<AtomicU64>) -> std::io::Result<()> {
    let mut buffer = vec![0; 65_536];
    if args.kind == Kind::UdpCbr {
        let socket = UdpSocket::bind(args.address).await?;
        loop {
            let bytes = socket.recv(&mut buffer).await? as u64;
            total.fetch_add(bytes + HEADERS, Ordering::Relaxed);
        }
    }
    let listener = TcpListener::bind(args.address).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        let (total, mut buffer) = (Arc::clone(&total), buffer.clone());
        tokio::spawn(async move {
            while let Ok(bytes @ 1..) = stream.read(&mut buffer).await {
                total.fetch_add(bytes as u64, Ordering::Relaxed);
            }
        });
    }
}

async fn send(args: &Args) -> Result<(), String> {
    if args.kind == Kind::UdpCbr && args.rate_kbps <= 0.0 {
        return Err("--rate-kbps is missing: udp-cbr sends at a rate".into());
    }
    let mut all = JoinSet::new();
    for index in 0..args.count {
        let (address, rate) = (args.address, args.rate_kbps);
        let draws = fastrand::Rng::with_seed(args.seed.wrapping_add(index));
        match args.kind {
            Kind::TcpLong => all.spawn(long(address)),
            Kind::TcpShort => all.spawn(short(address, draws)),
            Kind::UdpCbr => all.spawn(constant(address, rate)),
        };
    }
    // None of them ends, but by a panic.
    while let Some(ended) = all.join_next().await {
        ended.map_err(|error| error.to_string())?;
    }
    Ok(())
}

async fn long(address: SocketAddr) {
    loop {
        // Whatever breaks it, the network is to blame, and it begins again.
        if let Ok(mut stream) = TcpStream::connect(address).await {
            while stream.write_all(&[0; 16_384]).await.is_ok() {}
        }
        sleep(TRY_EVERY).await;
    }
}

async fn short(address: SocketAddr, mut draws: fastrand::Rng) {
    loop {
        sleep(Duration::from_secs_f64(-PAUSE_S * (1.0 - draws.f64()).ln())).await;
        let bytes = vec![0; draws.usize(SHORT_BYTES)];
        if let Ok(mut stream) = TcpStream::connect(address).await {
            // What did not get through is not sent again: the next transfer is another.
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
    }
}

async fn constant(address: SocketAddr, rate_kbps: f64) {
    let any: SocketAddr = ([0; 4], 0).into();
    let every = Duration::from_secs_f64((PAYLOAD as u64 + HEADERS) as f64 * 8e-3 / rate_kbps);
    loop {
        let Ok(socket) = UdpSocket::bind(any).await else {
            sleep(TRY_EVERY).await;
            continue;
        };
        let mut due = Instant::now();
        loop {
            // A network that is away takes nothing.
            let _ = socket.send_to(&[0; PAYLOAD], address).await;
            due += every;
            sleep_until(due).await;
        }
    }
}
