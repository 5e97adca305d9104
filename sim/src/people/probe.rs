//! Measures a path between two who share a clock: what gets through, how fast, how late. For the
//! simulator's own conformance.

use std::collections::HashSet;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::line::{Line, Received, Spread, say};

/// How often it says what it has measured.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// How often a client pings.
const PING_EVERY: Duration = Duration::from_millis(20);

/// How long a client waits for what is still on its way.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often the end is told, as any of it may be lost.
const ENDS: u32 = 20;

/// Bytes of UDP's and IPv4's headers.
const HEADERS: usize = 28;

/// A number, a time and what it is for.
const HEAD_BYTES: usize = 17;

const STREAM: u8 = 0;
const PING: u8 = 1;
const END: u8 = 2;

/// Which side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Receives and measures, and sends pings back.
    Server,
    /// Sends at a rate; its server measures.
    Client,
    /// Sends fifty packets a second, measures what comes back.
    Ping,
}

/// One side of a probe.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Which side.
    #[arg(long)]
    role: Role,
    /// Where the server is.
    #[arg(long)]
    address: SocketAddr,
    /// How long a client sends.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// IP packets in kilobits a second.
    #[arg(long, default_value_t = 1000.0)]
    rate_kbps: f64,
    /// Of an IP packet.
    #[arg(long, default_value_t = 1200, value_parser = clap::value_parser!(u16).range(64..=1500))]
    packet_bytes: u16,
}

/// Measures: a server for ever, a client for its seconds.
pub(super) async fn run(args: Args) -> Result<(), String> {
    // Threads of its own, not timers of a runtime, which are coarser than what is measured.
    let probing = tokio::task::spawn_blocking(move || match args.role {
        Role::Server => serve(args.address),
        Role::Client => send(&args),
        Role::Ping => ping(&args),
    });
    let probed = probing.await.map_err(|error| error.to_string())?;
    probed.map_err(|error| error.to_string())
}

/// What a packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    what: u8,
    number: u64,
    sent_ns: u64,
}

impl Head {
    fn write(self, packet: &mut [u8]) {
        let numbers = self.number.to_be_bytes().into_iter().chain(self.sent_ns.to_be_bytes());
        let bytes = numbers.chain([self.what]);
        packet.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
    }

    fn read(packet: &[u8]) -> Option<Self> {
        let number = |from: usize| {
            let bytes = packet.get(from..from + 8)?.try_into().ok()?;
            Some(u64::from_be_bytes(bytes))
        };
        let what = *packet.get(HEAD_BYTES - 1)?;
        Some(Self { what, number: number(0)?, sent_ns: number(8)? })
    }
}

/// The clock that all namespaces of a machine share.
fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

fn ms_since(sent_ns: u64) -> f64 {
    now_ns().saturating_sub(sent_ns) as f64 / 1e6
}

/// What a server keeps.
#[derive(Default)]
struct Seen {
    numbers: HashSet<u64>,
    /// How many were sent as far as is known.
    sent: u64,
    duplicated: u64,
    reordered: u64,
    bytes: u64,
    delays_ms: Vec<f64>,
    /// When the first and the last came.
    span: Option<(Instant, Instant)>,
    over: bool,
}

impl Seen {
    fn saw(&mut self, head: Head, bytes: usize, now: Instant) {
        if head.what == END {
            (self.sent, self.over) = (self.sent.max(head.number), true);
            return;
        }
        if !self.numbers.insert(head.number) {
            self.duplicated += 1;
            return;
        }
        self.reordered += u64::from(head.number + 1 < self.sent);
        self.sent = self.sent.max(head.number + 1);
        self.bytes += (bytes + HEADERS) as u64;
        self.delays_ms.push(ms_since(head.sent_ns));
        self.span = Some((self.span.map_or(now, |(first, _)| first), now));
    }

    fn received(&self) -> Received {
        let count = self.numbers.len() as u64;
        let seconds = self.span.map_or(0.0, |(first, last)| (last - first).as_secs_f64());
        // The first packet begins the time, and is not in it.
        let bytes = self.bytes as f64 * count.saturating_sub(1) as f64 / count.max(1) as f64;
        Received {
            received: count,
            lost: self.sent - count,
            duplicated: self.duplicated,
            reordered: self.reordered,
            kbps: if seconds > 0.0 { bytes * 8e-3 / seconds } else { 0.0 },
            delay_ms: Spread::of(&self.delays_ms),
            over: self.over,
        }
    }
}

fn serve(address: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind(address)?;
    let (mut seen, mut told, mut packet) = (Seen::default(), Instant::now(), [0; 2048]);
    loop {
        let rest = TELL_EVERY.saturating_sub(told.elapsed());
        socket.set_read_timeout(Some(rest.max(Duration::from_millis(1))))?;
        let came = socket.recv_from(&mut packet);
        if let Ok((bytes, from)) = came
            && let Some(head) = Head::read(packet.get(..bytes).unwrap_or_default())
        {
            if head.what == PING {
                // One that does not get back is what the client measures.
                let _ = socket.send_to(packet.get(..bytes).unwrap_or_default(), from);
            } else {
                let was_over = seen.over;
                seen.saw(head, bytes, Instant::now());
                if seen.over && !was_over {
                    say(&Line::Received(seen.received()));
                }
            }
        }
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            say(&Line::Received(seen.received()));
        }
    }
}

fn connect(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr =
        if address.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    Ok(socket)
}

fn payload(args: &Args) -> Vec<u8> {
    vec![0; usize::from(args.packet_bytes) - HEADERS]
}

fn send(args: &Args) -> io::Result<()> {
    let socket = connect(args.address)?;
    let mut packet = payload(args);
    let every = f64::from(args.packet_bytes) * 8e-3 / args.rate_kbps;
    let (began, mut number) = (Instant::now(), 0u64);
    while began.elapsed().as_secs_f64() < args.seconds {
        Head { what: STREAM, number, sent_ns: now_ns() }.write(&mut packet);
        // What the network does not take is lost, as is what it takes and loses.
        let _ = socket.send(&packet);
        number += 1;
        sleep_until(began + Duration::from_secs_f64(every * number as f64));
    }
    std::thread::sleep(PATIENCE);
    for _ in 0..ENDS {
        Head { what: END, number, sent_ns: now_ns() }.write(&mut packet);
        let _ = socket.send(&packet);
        std::thread::sleep(PING_EVERY);
    }
    Ok(())
}

fn ping(args: &Args) -> io::Result<()> {
    let socket = connect(args.address)?;
    let receiver = socket.try_clone()?;
    let mut packet = payload(args);
    let count = (args.seconds / PING_EVERY.as_secs_f64()) as u64;
    let (trips, came_back) = std::sync::mpsc::channel();
    std::thread::spawn(move || listen(&receiver, &trips));
    let (began, mut told, mut trips_ms) = (Instant::now(), Instant::now(), Vec::new());
    let tell = |sent, trips_ms: &[f64]| {
        let received = trips_ms.len() as u64;
        say(&Line::Pinged { sent, received, trip_ms: Spread::of(trips_ms) });
    };
    for number in 0..count {
        Head { what: PING, number, sent_ns: now_ns() }.write(&mut packet);
        let _ = socket.send(&packet);
        trips_ms.extend(came_back.try_iter());
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            tell(number + 1, &trips_ms);
        }
        sleep_until(began + PING_EVERY * u32::try_from(number + 1).unwrap_or(u32::MAX));
    }
    std::thread::sleep(PATIENCE);
    trips_ms.extend(came_back.try_iter());
    tell(count, &trips_ms);
    Ok(())
}

/// Tells the round trip of every packet that comes back, once.
fn listen(socket: &UdpSocket, trips: &std::sync::mpsc::Sender<f64>) {
    let (mut packet, mut seen) = ([0; 2048], HashSet::new());
    loop {
        // A server that is not there yet is told of by an error.
        let Ok(bytes) = socket.recv(&mut packet) else { continue };
        let Some(head) = Head::read(packet.get(..bytes).unwrap_or_default()) else { continue };
        if seen.insert(head.number) && trips.send(ms_since(head.sent_ns)).is_err() {
            return;
        }
    }
}

fn sleep_until(due: Instant) {
    std::thread::sleep(due.saturating_duration_since(Instant::now()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_comes_again_or_late_is_counted() {
        let mut seen = Seen::default();
        let now = Instant::now();
        for number in [0, 1, 3, 2, 2, 6] {
            let mut packet = [0; HEAD_BYTES];
            Head { what: STREAM, number, sent_ns: now_ns() }.write(&mut packet);
            assert_eq!(Head::read(&packet).map(|head| head.number), Some(number));
            seen.saw(Head { what: STREAM, number, sent_ns: now_ns() }, 100, now);
        }
        let received = seen.received();
        assert_eq!((received.received, received.lost), (5, 2));
        assert_eq!((received.duplicated, received.reordered), (1, 1));
        seen.saw(Head { what: END, number: 10, sent_ns: 0 }, 100, now);
        assert_eq!((seen.received().lost, seen.received().over), (5, true));
    }
}
