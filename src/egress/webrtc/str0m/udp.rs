//! The UDP sockets that all of this engine's sessions share: one for each address of the machine.
//!
//! What comes in goes to the session that its ICE name or its sender belongs to. A socket lives
//! as long as a session uses it, so an address that the machine loses and gets again is no matter.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};
use prometheus::IntCounter;
use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::stun;
use crate::config::PortRange;
use crate::rate::Rate;

/// Longest datagram that is looked at; peers keep to some 1,300 bytes.
const DATAGRAM_BYTES_MAX: usize = 2048;

/// Datagrams that may wait for one session: reports and checks, a few dozen a second.
const WAITING_DATAGRAMS_MAX: usize = 128;

/// Addresses that one session's datagrams may come from; a browser with two networks, IPv4 and
/// IPv6, behind a router that changes ports, has a dozen.
const PEERS_MAX: usize = 32;

/// Checks a second from addresses that a session does not know yet.
const STRANGERS_PER_SECOND_MAX: u32 = 64;

/// Datagrams a second from the viewer itself. Feedback on every frame, checks and reports are some
/// two hundred.
const DATAGRAMS_PER_SECOND_MAX: u32 = 1_000;

/// What the kernel is asked to hold in each direction; it may grant less. A key frame for fifty
/// viewers is some megabytes.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// Datagrams of one burst, which the kernel limits to 64 (`UDP_MAX_SEGMENTS`), and their bytes,
/// with headers less than the 65,535 of an IP packet.
const BURST_DATAGRAMS_MAX: usize = 60;
const BURST_BYTES_MAX: usize = 64_000;

/// How long a socket that fails is left alone.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// One datagram for a session.
#[derive(Debug)]
pub struct Datagram {
    /// When it came.
    pub at: Instant,
    /// Who sent it.
    pub source: SocketAddr,
    /// Which of our addresses it came to.
    pub destination: SocketAddr,
    /// What it holds.
    pub bytes: Box<[u8]>,
}

/// Every socket that is open.
#[derive(Debug)]
pub struct Sockets {
    open: Mutex<HashMap<IpAddr, Weak<Socket>>>,
    refused: IntCounter,
}

impl Sockets {
    /// None yet. What is not let through to a session is counted in `refused`.
    pub fn new(refused: IntCounter) -> Self {
        Self { open: Mutex::default(), refused }
    }

    /// The socket on an address, opened where no session has it open.
    ///
    /// # Errors
    /// Where the machine does not have the address, or no port of the range is free on it.
    pub fn at(&self, address: IpAddr, ports: Option<PortRange>) -> io::Result<Arc<Socket>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(socket) = open.get(&address).and_then(Weak::upgrade) {
            return Ok(socket);
        }
        let socket = Arc::new(Socket::open(address, ports, self.refused.clone())?);
        open.retain(|_, socket| socket.strong_count() > 0);
        open.insert(address, Arc::downgrade(&socket));
        Ok(socket)
    }
}

/// A socket that sessions share.
#[derive(Debug)]
pub struct Socket {
    /// Where it listens.
    pub address: SocketAddr,
    udp: Arc<UdpSocket>,
    /// Whether the kernel takes several datagrams at a time.
    segments: AtomicBool,
    routes: Arc<Mutex<Routes>>,
    reader: AbortHandle,
}

impl Socket {
    fn open(address: IpAddr, ports: Option<PortRange>, refused: IntCounter) -> io::Result<Self> {
        let udp = Arc::new(UdpSocket::from_std(bind(address, ports)?.into())?);
        let routes = Arc::new(Mutex::new(Routes::new(refused)));
        let address = udp.local_addr()?;
        let reader = tokio::spawn(read(Arc::clone(&udp), address, Arc::clone(&routes)));
        let segments = AtomicBool::new(true);
        Ok(Self { address, udp, segments, routes, reader: reader.abort_handle() })
    }

    /// Sends a burst, and waits where the kernel has no room for it.
    ///
    /// # Errors
    /// What the system says: mostly that there is no way to the destination.
    async fn send(&self, burst: &Burst) -> io::Result<()> {
        if burst.datagrams() > 1 && self.segments.load(Ordering::Relaxed) {
            match self.send_segments(burst).await {
                // Not here: an old kernel, or a network device without checksums of its own.
                Err(error) if is_unsupported(&error) => {
                    tracing::info!(address = %self.address, %error, "UDP goes datagram by datagram");
                    self.segments.store(false, Ordering::Relaxed);
                }
                sent => return sent,
            }
        }
        for datagram in burst.bytes.chunks(burst.datagram_bytes) {
            self.udp.send_to(datagram, burst.to).await?;
        }
        Ok(())
    }

    /// The whole burst in one system call, which the kernel cuts up as late as it can
    /// (`UDP_SEGMENT`, Linux 4.18).
    async fn send_segments(&self, burst: &Burst) -> io::Result<()> {
        let size = u16::try_from(burst.datagram_bytes).map_err(io::Error::other)?;
        let (size, to) = ([ControlMessage::UdpGsoSegments(&size)], SockaddrStorage::from(burst.to));
        let bytes = [io::IoSlice::new(&burst.bytes)];
        let send = || {
            let descriptor = self.udp.as_raw_fd();
            sendmsg(descriptor, &bytes, &size, MsgFlags::empty(), Some(&to))
                .map_err(io::Error::from)
        };
        self.udp.async_io(Interest::WRITABLE, send).await.map(drop)
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    let known = [Errno::EIO, Errno::EINVAL, Errno::ENOPROTOOPT, Errno::EOPNOTSUPP];
    known.iter().any(|errno| error.raw_os_error() == Some(*errno as i32))
}

/// Datagrams from one address to another, all of one length but the last, which may be shorter.
#[derive(Debug)]
pub struct Burst {
    from: SocketAddr,
    to: SocketAddr,
    datagram_bytes: usize,
    bytes: Vec<u8>,
}

impl Burst {
    /// A burst of one.
    pub fn new(from: SocketAddr, to: SocketAddr, datagram: &[u8]) -> Self {
        Self { from, to, datagram_bytes: datagram.len().max(1), bytes: datagram.to_vec() }
    }

    /// Adds a datagram, where it fits behind the others.
    pub fn push(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) -> bool {
        let fits = (self.from, self.to) == (from, to)
            && self.bytes.len().is_multiple_of(self.datagram_bytes)
            && (1..=self.datagram_bytes).contains(&datagram.len())
            && self.datagrams() < BURST_DATAGRAMS_MAX
            && self.bytes.len() + datagram.len() <= BURST_BYTES_MAX;
        if fits {
            self.bytes.extend_from_slice(datagram);
        }
        fits
    }

    fn datagrams(&self) -> usize {
        self.bytes.len().div_ceil(self.datagram_bytes)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

fn bind(address: IpAddr, ports: Option<PortRange>) -> io::Result<RawSocket> {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = RawSocket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    // The kernel clamps what is too much and says nothing.
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    let range = ports.map_or(0..=0, |ports| ports.first..=ports.last);
    let mut failed = io::Error::from(io::ErrorKind::AddrInUse);
    for port in range {
        match socket.bind(&SocketAddr::new(address, port).into()) {
            Ok(()) => return Ok(socket),
            Err(error) => failed = error,
        }
        if failed.kind() != io::ErrorKind::AddrInUse {
            break;
        }
    }
    Err(failed)
}

async fn read(udp: Arc<UdpSocket>, destination: SocketAddr, routes: Arc<Mutex<Routes>>) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        match udp.recv_from(&mut buffer).await {
            Ok((length, source)) => {
                let bytes = buffer.get(..length).unwrap_or_default();
                let Some(inbox) = lock(&routes).find(source, bytes) else { continue };
                let datagram =
                    Datagram { at: Instant::now(), source, destination, bytes: bytes.into() };
                // A session that does not keep up loses datagrams, as any network may.
                let _ = inbox.try_send(datagram);
            }
            Err(error) => {
                tracing::debug!(%destination, %error, "UDP socket");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}

/// Which session a datagram is for.
#[derive(Debug)]
struct Routes {
    /// By the name a session has in ICE, which peers put into their checks.
    by_name: HashMap<Arc<str>, Named>,
    /// By the address of the peer, and when that was learned. Only what the session sends is
    /// learned from: anybody may write anything into a check, and a sender's address as well.
    by_peer: HashMap<SocketAddr, (Arc<str>, u64)>,
    /// Peers learned so far.
    learned: u64,
    refused: IntCounter,
}

/// What is known of a session by its name.
#[derive(Debug)]
struct Named {
    inbox: mpsc::Sender<Datagram>,
    /// Checks from addresses that are not known.
    strangers: Rate,
    /// Datagrams from those that are.
    datagrams: Rate,
    since: Instant,
}

impl Routes {
    fn new(refused: IntCounter) -> Self {
        Self { by_name: HashMap::new(), by_peer: HashMap::new(), learned: 0, refused }
    }

    fn find(&mut self, source: SocketAddr, bytes: &[u8]) -> Option<mpsc::Sender<Datagram>> {
        let Some(name) = stun::local_name(bytes) else {
            let (name, _) = self.by_peer.get(&source)?;
            let named = self.by_name.get_mut(name)?;
            return named.admits(true, &self.refused);
        };
        let is_known = self.by_peer.get(&source).is_some_and(|(owner, _)| &**owner == name);
        self.by_name.get_mut(name)?.admits(is_known, &self.refused)
    }

    fn open(&mut self, name: &Arc<str>, inbox: mpsc::Sender<Datagram>) {
        let named = Named {
            inbox,
            strangers: Rate::new(STRANGERS_PER_SECOND_MAX),
            datagrams: Rate::new(DATAGRAMS_PER_SECOND_MAX),
            since: Instant::now(),
        };
        self.by_name.insert(Arc::clone(name), named);
    }

    /// The session sends to `peer`: what comes from there is its. Another's is taken over only
    /// where the session says that it has verified the peer.
    fn learn(&mut self, peer: SocketAddr, name: &Arc<str>, verified: bool) {
        match self.by_peer.get(&peer) {
            Some((owner, _)) if owner == name || !verified => return,
            _ => {}
        }
        let own = self.by_peer.iter().filter(|(_, (owner, _))| owner == name);
        if own.clone().count() >= PEERS_MAX {
            let oldest = own.min_by_key(|(_, (_, learned))| *learned).map(|(peer, _)| *peer);
            oldest.map(|oldest| self.by_peer.remove(&oldest));
        }
        self.learned += 1;
        self.by_peer.insert(peer, (Arc::clone(name), self.learned));
    }

    fn forget(&mut self, name: &str) {
        self.by_name.remove(name);
        self.by_peer.retain(|_, (owner, _)| &**owner != name);
    }
}

impl Named {
    /// Where a datagram goes, if it may. Each stranger costs the session a candidate to try, so they
    /// are let in slowly; and what a peer of its own sends is read only as fast as an honest one
    /// could have cause to send, so that a flood costs no more than its reception.
    fn admits(&mut self, is_known: bool, refused: &IntCounter) -> Option<mpsc::Sender<Datagram>> {
        let rate = if is_known { &mut self.datagrams } else { &mut self.strangers };
        if rate.take(self.since.elapsed()) {
            return Some(self.inbox.clone());
        }
        refused.inc();
        None
    }
}

fn lock(routes: &Mutex<Routes>) -> MutexGuard<'_, Routes> {
    routes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One session's part of the sockets; dropping it ends what comes in.
#[derive(Debug)]
pub struct Line {
    name: Arc<str>,
    sockets: Vec<Arc<Socket>>,
    /// The way it sent last, so that the route back need not be looked up for every burst.
    known: Option<(SocketAddr, SocketAddr)>,
}

impl Line {
    /// Takes what comes for the session called `name` on any of `sockets`.
    pub fn open(name: &str, sockets: Vec<Arc<Socket>>) -> (Self, mpsc::Receiver<Datagram>) {
        let (sender, receiver) = mpsc::channel(WAITING_DATAGRAMS_MAX);
        let name: Arc<str> = name.into();
        for socket in &sockets {
            lock(&socket.routes).open(&name, sender.clone());
        }
        (Self { name, sockets, known: None }, receiver)
    }

    /// The addresses it listens on.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.sockets.iter().map(|socket| socket.address)
    }

    /// Sends from one of its addresses.
    ///
    /// # Errors
    /// What the system says; also where the address is not the session's.
    pub async fn send(&mut self, burst: &Burst) -> io::Result<()> {
        let socket = self.sockets.iter().find(|socket| socket.address == burst.from);
        let socket = socket.ok_or(io::ErrorKind::AddrNotAvailable)?;
        let way = (burst.from, burst.to);
        // An answer to a check goes to a peer whose check was verified.
        let verified = stun::is_answer(&burst.bytes);
        if verified || self.known != Some(way) {
            lock(&socket.routes).learn(burst.to, &self.name, verified);
            self.known = Some(way);
        }
        socket.send(burst).await
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        for socket in &self.sockets {
            lock(&socket.routes).forget(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(5);
    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn counter() -> IntCounter {
        IntCounter::new("refused", "In a test").unwrap()
    }

    fn sockets() -> Sockets {
        Sockets::new(counter())
    }

    async fn received(inbox: &mut mpsc::Receiver<Datagram>) -> Datagram {
        tokio::time::timeout(BOUND, inbox.recv()).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn datagrams_find_the_session_by_name_and_then_by_sender() {
        let all = sockets();
        let socket = all.at(LOOPBACK, None).unwrap();
        let (mut first, mut first_inbox) = Line::open("first", vec![Arc::clone(&socket)]);
        let (mut second, mut second_inbox) = Line::open("second", vec![Arc::clone(&socket)]);
        let peer = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
        let from = peer.local_addr().unwrap();
        let answer = Burst::new(socket.address, from, &stun::ANSWER);
        peer.send_to(b"stray", socket.address).await.unwrap();
        peer.send_to(&stun::check("second:peer"), socket.address).await.unwrap();
        assert_eq!(*received(&mut second_inbox).await.bytes, *stun::check("second:peer"));
        second.send(&answer).await.unwrap();
        peer.send_to(b"report", socket.address).await.unwrap();
        let report = received(&mut second_inbox).await;
        assert_eq!((&*report.bytes, report.source), (&b"report"[..], from));
        // Another name in a check moves nothing until the check was verified, nor does sending.
        peer.send_to(&stun::check("first:peer"), socket.address).await.unwrap();
        received(&mut first_inbox).await;
        first.send(&Burst::new(socket.address, from, b"media")).await.unwrap();
        peer.send_to(b"report", socket.address).await.unwrap();
        assert_eq!(&*received(&mut second_inbox).await.bytes, b"report");
        // A browser that opened a new connection on the same port.
        first.send(&answer).await.unwrap();
        peer.send_to(b"report", socket.address).await.unwrap();
        assert_eq!(&*received(&mut first_inbox).await.bytes, b"report");
        drop(second);
        assert!(second_inbox.recv().await.is_none());
    }

    #[tokio::test]
    async fn answers_from_where_a_session_sent_to_find_it() {
        let all = sockets();
        let socket = all.at(LOOPBACK, None).unwrap();
        let (mut line, mut inbox) = Line::open("name", vec![Arc::clone(&socket)]);
        let peer = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
        let peer_address = peer.local_addr().unwrap();
        line.send(&Burst::new(socket.address, peer_address, b"check")).await.unwrap();
        peer.send_to(b"answer", socket.address).await.unwrap();
        assert_eq!(&*received(&mut inbox).await.bytes, b"answer");
        let nowhere = line.send(&Burst::new(peer_address, peer_address, b"x")).await.unwrap_err();
        assert_eq!(nowhere.kind(), io::ErrorKind::AddrNotAvailable);
    }

    /// A burst arrives as the datagrams it is made of, also where the kernel takes one at a time.
    #[tokio::test]
    async fn a_burst_arrives_as_datagrams() {
        let socket = sockets().at(LOOPBACK, None).unwrap();
        let (mut line, _inbox) = Line::open("name", vec![Arc::clone(&socket)]);
        let peer = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
        let to = peer.local_addr().unwrap();
        for segments in [true, false] {
            socket.segments.store(segments, Ordering::Relaxed);
            let mut burst = Burst::new(socket.address, to, &[1; 100]);
            assert!(burst.push(socket.address, to, &[2; 100]));
            assert!(!burst.push(socket.address, to, &[0; 101]), "longer than the first");
            assert!(!burst.push(to, socket.address, &[0; 100]), "another way");
            assert!(burst.push(socket.address, to, &[3; 40]));
            assert!(!burst.push(socket.address, to, &[0; 100]), "behind a shorter one");
            line.send(&burst).await.unwrap();
            let mut buffer = [0; 200];
            for (value, length) in [(1, 100), (2, 100), (3, 40)] {
                let received = tokio::time::timeout(BOUND, peer.recv(&mut buffer)).await.unwrap();
                assert_eq!((buffer[0], received.unwrap()), (value, length));
            }
        }
        let mut burst = Burst::new(socket.address, to, &[0; 1200]);
        while burst.push(socket.address, to, &[0; 1200]) {}
        assert_eq!(burst.datagrams(), 53);
        line.send(&burst).await.unwrap();
    }

    #[tokio::test]
    async fn one_socket_serves_all_and_closes_after_the_last() {
        let all = sockets();
        let port = std::net::UdpSocket::bind((LOOPBACK, 0)).unwrap().local_addr().unwrap().port();
        let range = Some(PortRange { first: port, last: port });
        let (one, two) = (all.at(LOOPBACK, range).unwrap(), all.at(LOOPBACK, range).unwrap());
        assert!(Arc::ptr_eq(&one, &two));
        assert_eq!(one.address.port(), port);
        let taken = sockets().at(LOOPBACK, range).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        drop((one, two));
        let again = tokio::time::timeout(BOUND, async {
            while all.at(LOOPBACK, range).is_err() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        again.await.unwrap();
    }

    #[test]
    fn a_session_has_so_many_peers_and_the_oldest_goes_first() {
        let mut routes = Routes::new(counter());
        let name: Arc<str> = "name".into();
        let peer = |port| SocketAddr::new(LOOPBACK, port);
        for port in 1..100 {
            routes.learn(peer(port), &name, true);
        }
        assert_eq!(routes.by_peer.len(), PEERS_MAX);
        assert!(routes.by_peer.contains_key(&peer(99)) && !routes.by_peer.contains_key(&peer(1)));
        routes.forget("name");
        assert!(routes.by_peer.is_empty());
    }

    #[test]
    fn strangers_with_the_right_name_are_let_in_slowly() {
        let mut routes = Routes::new(counter());
        let name: Arc<str> = "name".into();
        let (sender, _receiver) = mpsc::channel(1);
        routes.open(&name, sender);
        let check = stun::check("name:peer");
        let mut found = |port| routes.find(SocketAddr::new(LOOPBACK, port), &check).is_some();
        let admitted = (1..=1_000).filter(|&port| found(port)).count();
        assert!((64..=128).contains(&admitted), "{admitted}");
    }

    #[test]
    fn a_viewer_that_floods_is_read_as_fast_as_an_honest_one_could_send_and_no_faster() {
        let mut routes = Routes::new(counter());
        let (sender, _receiver) = mpsc::channel(1);
        for name in ["flood", "other"] {
            routes.open(&name.into(), sender.clone());
        }
        let (flood, other) = (SocketAddr::new(LOOPBACK, 1), SocketAddr::new(LOOPBACK, 2));
        routes.learn(flood, &"flood".into(), true);
        routes.learn(other, &"other".into(), true);
        let began = Instant::now();
        let passed = (0..20_000).filter(|_| routes.find(flood, b"\x81\xce").is_some()).count();
        let most = 1_000 * (2 + usize::try_from(began.elapsed().as_secs()).unwrap());
        assert!((1_000..=most).contains(&passed), "{passed}");
        assert_eq!(routes.refused.get(), 20_000 - passed as u64);
        assert!(routes.find(other, b"\x81\xce").is_some(), "another's are read");
    }
}
