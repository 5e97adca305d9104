//! The network between the hosts: every IP packet that one of them sends comes through here.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::nat::Nat;
use crate::link::{Counts, Link, Shape};
use crate::plan::Pair;

/// The longest wait, after which hosts that have come since are seen.
const WAIT_MAX: Duration = Duration::from_millis(5);

/// Packets taken from one host before another has its turn.
const BURST_MAX: usize = 64;

const PACKET_MAX: usize = 2048;

/// A host's place in the network.
pub type HostId = usize;

/// Which way through a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Towards the viewers.
    Down,
    /// Towards the streamer.
    Up,
}

/// Where a host stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Side {
    /// Behind these links as they are passed on the way to it; viewers, sinks.
    Viewer(Vec<String>),
    /// Before them; the streamer.
    Streamer(Vec<String>),
    /// Between the streamer's links and everybody else's.
    Core,
}

/// What is on its way.
#[derive(Clone, Debug)]
struct Packet {
    bytes: Arc<[u8]>,
    to: HostId,
    path: Arc<[(usize, Way)]>,
    hop: usize,
    /// A bit of it is to be flipped at its end.
    spoilt: bool,
}

struct Host {
    device: Arc<tun_rs::SyncDevice>,
    side: Side,
    nat: Option<Nat>,
    /// Speaks UDP with the core only.
    turn_only: bool,
    /// Nothing comes or goes any more.
    cut: bool,
}

/// One link's two directions.
struct Both {
    down: Link<Packet>,
    up: Link<Packet>,
}

impl Both {
    fn way(&mut self, way: Way) -> &mut Link<Packet> {
        match way {
            Way::Down => &mut self.down,
            Way::Up => &mut self.up,
        }
    }
}

/// The network.
pub struct Network {
    began: Instant,
    names: Vec<String>,
    links: Vec<Both>,
    hosts: Vec<Host>,
    by_address: BTreeMap<Ipv4Addr, HostId>,
    random: fastrand::Rng,
}

/// A running network. Dropping it stops it.
pub struct Router {
    network: Arc<Mutex<Network>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Router {
    /// Starts a network of these links.
    pub fn start(links: &BTreeMap<String, Pair>, seed: u64) -> io::Result<Self> {
        let both = |(number, pair): (usize, &Pair)| Both {
            down: Link::new(pair.down.clone(), seed.wrapping_add(2 * number as u64)),
            up: Link::new(pair.up.clone(), seed.wrapping_add(2 * number as u64 + 1)),
        };
        let network = Arc::new(Mutex::new(Network {
            began: Instant::now(),
            names: links.keys().cloned().collect(),
            links: links.values().enumerate().map(both).collect(),
            hosts: Vec::new(),
            by_address: BTreeMap::new(),
            random: fastrand::Rng::with_seed(seed),
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopping) = (Arc::clone(&network), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("router".into()).spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                turn(&shared);
            }
        })?;
        Ok(Self { network, stop, thread: Some(thread) })
    }

    /// The network, to look at it or to change it.
    pub fn network(&self) -> MutexGuard<'_, Network> {
        lock(&self.network)
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(network: &Mutex<Network>) -> MutexGuard<'_, Network> {
    network.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for packets or for the next one due, and moves all that can be moved.
fn turn(network: &Mutex<Network>) {
    let (devices, wait) = {
        let network = lock(network);
        let devices: Vec<_> = network.hosts.iter().map(|host| Arc::clone(&host.device)).collect();
        let now = network.began.elapsed();
        let due = network.due().map_or(WAIT_MAX, |due| due.saturating_sub(now));
        (devices, due.min(WAIT_MAX))
    };
    let mut polled: Vec<_> =
        devices.iter().map(|device| PollFd::new(device.as_fd(), PollFlags::POLLIN)).collect();
    // An error, as when a signal came, means that there is nothing to read just now.
    let ready = ppoll(&mut polled, Some(TimeSpec::from_duration(wait)), None).unwrap_or(0);
    let readable: Vec<_> = polled.iter().map(|fd| fd.any().unwrap_or(false)).collect();
    let mut network = lock(network);
    // What was due before goes before what comes now: a link's time does not go back.
    network.carry();
    if ready > 0 {
        for host in (0..readable.len()).filter(|host| readable[*host]) {
            network.take(host);
        }
    }
    network.carry();
}

impl Network {
    /// Puts a host on the network; its packets come and go by `device`, which must not block.
    pub fn add(
        &mut self,
        address: Ipv4Addr,
        device: Arc<tun_rs::SyncDevice>,
        side: Side,
        turn_only: bool,
    ) -> HostId {
        self.hosts.push(Host { device, side, nat: None, turn_only, cut: false });
        let id = self.hosts.len() - 1;
        self.by_address.insert(address, id);
        id
    }

    /// Time since the network began.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Puts a translation between the host and everybody: it is seen at `outside`.
    pub fn translate(&mut self, host: HostId, inside: Ipv4Addr, outside: Ipv4Addr) {
        self.hosts[host].nat = Some(Nat::new(inside, outside));
        self.by_address.remove(&inside);
        self.by_address.insert(outside, host);
    }

    /// The host's translation forgets all it knew.
    pub fn rebind(&mut self, host: HostId) {
        if let Some(nat) = &mut self.hosts[host].nat {
            nat.forget();
        }
    }

    /// The host is found at `new` from now on; behind another translation, which is seen at
    /// `outside`, where it was behind one.
    pub fn roam(&mut self, host: HostId, new: Ipv4Addr, outside: Ipv4Addr) {
        self.by_address.retain(|_, id| *id != host);
        let translated = self.hosts[host].nat.is_some();
        self.hosts[host].nat = translated.then(|| Nat::new(new, outside));
        self.by_address.insert(if translated { outside } else { new }, host);
    }

    /// The host's cable is pulled, for good.
    pub fn cut(&mut self, host: HostId) {
        self.hosts[host].cut = true;
    }

    /// The shape of a link's direction.
    pub fn shape(&self, link: &str, way: Way) -> Option<Shape> {
        let both = &self.links[self.index(link)?];
        Some(if way == Way::Down { &both.down } else { &both.up }.shape().clone())
    }

    /// Changes a link's direction.
    pub fn reshape(&mut self, link: &str, way: Way, shape: Shape) {
        let now = self.now();
        if let Some(index) = self.index(link) {
            self.links[index].way(way).reshape(now, shape);
        }
    }

    /// The links' directions: name, way, counts, queue and shape.
    pub fn look(&self) -> Vec<(String, Way, Counts, Duration, Shape)> {
        let now = self.now();
        let one = |name: &String, way, link: &Link<Packet>| {
            (name.clone(), way, link.counts(), link.queue_delay(now), link.shape().clone())
        };
        let pairs = self.names.iter().zip(&self.links);
        pairs
            .flat_map(|(name, both)| {
                [one(name, Way::Down, &both.down), one(name, Way::Up, &both.up)]
            })
            .collect()
    }

    fn index(&self, link: &str) -> Option<usize> {
        self.names.iter().position(|name| name == link)
    }

    fn due(&self) -> Option<Duration> {
        self.links.iter().flat_map(|both| [both.down.due(), both.up.due()]).flatten().min()
    }

    /// The links from one host to another.
    fn path(&self, from: &Side, to: &Side) -> Arc<[(usize, Way)]> {
        let numbered = |links: &[String], way| -> Vec<_> {
            links.iter().filter_map(|link| Some((self.index(link)?, way))).collect()
        };
        let mut path = match from {
            Side::Streamer(links) => numbered(links, Way::Down),
            Side::Viewer(links) => numbered(links, Way::Up).into_iter().rev().collect(),
            Side::Core => Vec::new(),
        };
        path.extend(match to {
            Side::Viewer(links) => numbered(links, Way::Down),
            Side::Streamer(links) => numbered(links, Way::Up).into_iter().rev().collect(),
            Side::Core => Vec::new(),
        });
        path.into()
    }

    /// Takes what a host has sent.
    fn take(&mut self, from: HostId) {
        let mut buffer = [0; PACKET_MAX];
        let device = Arc::clone(&self.hosts[from].device);
        for _ in 0..BURST_MAX {
            // Would-block is the usual end; a host that has gone has nothing to say either.
            let Ok(len) = device.recv(&mut buffer) else { return };
            self.sent(from, buffer[..len].to_vec());
        }
    }

    /// A host sends a packet.
    fn sent(&mut self, from: HostId, mut bytes: Vec<u8>) {
        if self.hosts[from].cut || bytes.first().is_none_or(|first| first >> 4 != 4) {
            return;
        }
        if let Some(nat) = &mut self.hosts[from].nat
            && !nat.outwards(&mut bytes)
        {
            return;
        }
        let Some(to) = destination(&bytes).and_then(|address| self.by_address.get(&address)) else {
            return;
        };
        let to = *to;
        let between = |one: &Host, other: &Host| {
            one.turn_only && matches!(other.side, Side::Streamer(_)) && is_udp(&bytes)
        };
        let (sender, receiver) = (&self.hosts[from], &self.hosts[to]);
        if receiver.cut || between(sender, receiver) || between(receiver, sender) {
            return;
        }
        let path = self.path(&sender.side, &receiver.side);
        let packet = Packet { bytes: bytes.into(), to, path, hop: 0, spoilt: false };
        self.forward(self.now(), packet);
    }

    /// Hands a packet to its next link, or to its host.
    fn forward(&mut self, at: Duration, packet: Packet) {
        match packet.path.get(packet.hop).copied() {
            Some((link, way)) => {
                let len = packet.bytes.len();
                self.links[link].way(way).send(at, packet, len);
            }
            None => self.deliver(packet),
        }
    }

    fn deliver(&mut self, packet: Packet) {
        let host = &mut self.hosts[packet.to];
        let mut bytes = packet.bytes.to_vec();
        if host.cut || host.nat.as_ref().is_some_and(|nat| !nat.inwards(&mut bytes)) {
            return;
        }
        if packet.spoilt {
            // After the translation, which would put the checksum right.
            spoil(&mut bytes, &mut self.random);
        }
        // A host whose queue is full loses the packet, as hosts do.
        let _ = host.device.send(&bytes);
    }

    /// Moves every packet that is due, in the order of time.
    fn carry(&mut self) {
        let now = self.now();
        while let Some(due) = self.due().filter(|due| *due <= now) {
            for index in 0..self.links.len() {
                for way in [Way::Down, Way::Up] {
                    while let Some(arrival) = self.links[index].way(way).receive(due) {
                        let mut packet = arrival.packet;
                        packet.spoilt |= arrival.corrupt;
                        packet.hop += 1;
                        self.forward(due, packet);
                    }
                }
            }
        }
    }
}

/// Flips a bit behind the IP header, which routers on the way would have checked.
fn spoil(bytes: &mut [u8], random: &mut fastrand::Rng) {
    let header = 20.min(bytes.len().saturating_sub(1));
    let at = random.usize(header..bytes.len());
    bytes[at] ^= 1 << random.u8(0..8);
}

fn destination(bytes: &[u8]) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = bytes.get(16..20)?.try_into().ok()?;
    Some(octets.into())
}

fn is_udp(bytes: &[u8]) -> bool {
    bytes.get(9) == Some(&17)
}
