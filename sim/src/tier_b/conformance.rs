//! The simulator measured from outside: real sockets, ping and iperf3 see the links that a plan
//! asks for. Needs what tier B needs.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::host::Host;
use super::router::{Router, Side, Way};
use crate::link::{Loss, Shape};
use crate::plan::Pair;

const STREAMER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const VIEWER: Ipv4Addr = Ipv4Addr::new(10, 9, 1, 1);

/// A streamer's host and a viewer's, and the link between them.
struct Bench {
    router: Router,
    streamer: Host,
    viewer: Host,
    viewer_id: usize,
}

impl Bench {
    fn new(down: Shape, up: Shape) -> io::Result<Self> {
        let pair = Pair { down, up, change: Vec::new() };
        let router = Router::start(&BTreeMap::from([("link".to_owned(), pair)]), 7)?;
        let (streamer, viewer) = (Host::new(STREAMER)?, Host::new(VIEWER)?);
        let streamer_device = Arc::clone(&streamer.device);
        router.network().add(STREAMER, streamer_device, Side::Streamer(Vec::new()), false);
        let (device, side) = (Arc::clone(&viewer.device), Side::Viewer(vec!["link".into()]));
        let viewer_id = router.network().add(VIEWER, device, side, false);
        Ok(Self { router, streamer, viewer, viewer_id })
    }

    fn socket(host: &Host) -> io::Result<UdpSocket> {
        let address = SocketAddr::from((host.address, 5000));
        let socket = host.inside(move || UdpSocket::bind(address))??;
        socket.set_read_timeout(Some(Duration::from_millis(600)))?;
        Ok(socket)
    }

    /// Sends `count` packets of `bytes` (with their headers) from the streamer, one every `every`;
    /// gives back the numbers that came and how long each took.
    fn probe(&self, count: u32, bytes: usize, every: Duration) -> io::Result<Vec<(u32, Duration)>> {
        self.send(5000, count, bytes, every)
    }

    /// The same to another port, with packets of 100 bytes, one a millisecond.
    fn probe_to(&self, port: u16, count: u32) -> io::Result<Vec<(u32, Duration)>> {
        self.send(port, count, 100, Duration::from_millis(1))
    }

    fn send(
        &self,
        port: u16,
        count: u32,
        bytes: usize,
        every: Duration,
    ) -> io::Result<Vec<(u32, Duration)>> {
        let (sender, receiver) = (Self::socket(&self.streamer)?, Self::socket(&self.viewer)?);
        let began = Instant::now();
        let sending = std::thread::spawn(move || -> io::Result<()> {
            let mut packet = vec![0; bytes - 28];
            for number in 0..count {
                std::thread::sleep((every * number).saturating_sub(began.elapsed()));
                packet[..4].copy_from_slice(&number.to_be_bytes());
                let sent = u64::try_from(began.elapsed().as_nanos()).unwrap_or(0);
                packet[4..12].copy_from_slice(&sent.to_be_bytes());
                sender.send_to(&packet, (VIEWER, port))?;
            }
            Ok(())
        });
        let mut came = Vec::new();
        let mut buffer = [0; 2048];
        while let Ok((len, _)) = receiver.recv_from(&mut buffer) {
            if len < 12 {
                continue;
            }
            let number = buffer[..4].try_into().map(u32::from_be_bytes).unwrap_or(0);
            let sent = buffer[4..12].try_into().map(u64::from_be_bytes).unwrap_or(0);
            came.push((number, began.elapsed().saturating_sub(Duration::from_nanos(sent))));
        }
        sending.join().map_err(|_| io::Error::other("the sender failed"))??;
        Ok(came)
    }
}

fn median_ms(came: &[(u32, Duration)]) -> f64 {
    let mut took: Vec<_> = came.iter().map(|(_, took)| took.as_secs_f64() * 1e3).collect();
    took.sort_by(f64::total_cmp);
    took.get(took.len() / 2).copied().unwrap_or(f64::NAN)
}

#[test]
fn a_link_of_1_mbit_50_ms_and_5_percent_loss_is_measured_as_such() -> io::Result<()> {
    let down = Shape {
        rate_kbps: Some(1000.0),
        delay_ms: 50.0,
        loss: Loss::Independent(0.05),
        ..Shape::default()
    };
    let bench = Bench::new(down, Shape { delay_ms: 50.0, ..Shape::default() })?;
    // 250 bytes every 4 ms are 500 kbit/s: half of what the link carries.
    let came = bench.probe(1500, 250, Duration::from_millis(4))?;
    let lost = 1.0 - came.len() as f64 / 1500.0;
    assert!((0.03..0.07).contains(&lost), "lost {lost}");
    let took = median_ms(&came);
    // 50 ms, 2 ms on the link, and what the machine adds.
    assert!((51.5..80.0).contains(&took), "took {took} ms");
    // 1000 bytes every 4 ms are 2 Mbit/s: twice as much.
    let began = Instant::now();
    let came = bench.probe(1000, 1000, Duration::from_millis(4))?;
    let seconds = began.elapsed().as_secs_f64() - 0.6;
    let kbps = came.len() as f64 * 8.0 / seconds;
    assert!((700.0..1050.0).contains(&kbps), "{kbps} kbit/s");
    let longest = came.iter().map(|(_, took)| took.as_millis()).max().unwrap_or(0);
    assert!((330..500).contains(&longest), "the queue of 300 ms made it {longest} ms");
    Ok(())
}

#[test]
fn jitter_does_not_reorder_and_a_blackout_stops_everything() -> io::Result<()> {
    let down = Shape { delay_ms: 10.0, jitter_ms: 4.0, ..Shape::default() };
    let bench = Bench::new(down, Shape::default())?;
    let came = bench.probe(500, 100, Duration::from_millis(2))?;
    assert_eq!(came.len(), 500);
    assert!(came.is_sorted_by_key(|(number, _)| *number));
    let mut network = bench.router.network();
    if let Some(shape) = network.shape("link", Way::Down) {
        network.reshape("link", Way::Down, Shape { blackout: true, ..shape });
    }
    drop(network);
    assert!(bench.probe(50, 100, Duration::from_millis(2))?.is_empty());
    Ok(())
}

#[test]
fn duplicates_reordering_and_corruption_arrive_as_such() -> io::Result<()> {
    let down = Shape { duplicate: 0.2, ..Shape::default() };
    let came = Bench::new(down, Shape::default())?.probe(500, 100, Duration::from_millis(1))?;
    assert!((560..640).contains(&came.len()), "{} of 500 with a fifth twice", came.len());
    let down = Shape { reorder: 0.1, reorder_ms: 10.0, ..Shape::default() };
    let came = Bench::new(down, Shape::default())?.probe(500, 100, Duration::from_millis(1))?;
    assert!(came.len() == 500 && !came.is_sorted_by_key(|(number, _)| *number));
    // A flipped bit is caught by the receiver's kernel, by UDP's checksum.
    for translated in [false, true] {
        let down = Shape { corrupt: 0.2, ..Shape::default() };
        let bench = Bench::new(down, Shape::default())?;
        if translated {
            // A translation that wrote checksums of what is spoilt let it pass, once.
            let mut network = bench.router.network();
            network.translate(bench.viewer_id, VIEWER, VIEWER);
            drop(network);
            let viewer = Bench::socket(&bench.viewer)?;
            viewer.send_to(b"here I am", (STREAMER, 5000))?;
            std::thread::sleep(Duration::from_millis(50));
        }
        let came = bench.probe_to(if translated { 20_001 } else { 5000 }, 500)?;
        assert!((340..450).contains(&came.len()), "{} of 500 with a fifth spoilt", came.len());
    }
    Ok(())
}

#[test]
fn ping_and_iperf3_see_the_link_too() -> io::Result<()> {
    let shape = Shape { rate_kbps: Some(2000.0), delay_ms: 25.0, ..Shape::default() };
    let bench = Bench::new(shape.clone(), shape)?;
    let mut ping = Command::new("ping");
    ping.args(["-c", "10", "-i", "0.2", "-q", "10.9.0.1"]).stdout(Stdio::piped());
    let said = bench.viewer.spawn(ping)?.wait_with_output()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    // rtt min/avg/max/mdev = 50.4/50.7/…
    let mean = said.rsplit(" = ").next().and_then(|times| times.split('/').nth(1));
    let mean: f64 = mean.and_then(|mean| mean.parse().ok()).unwrap_or(f64::NAN);
    assert!((50.0..80.0).contains(&mean), "{said}");
    let mut server = Command::new("iperf3");
    server.args(["--server", "--one-off"]).stdout(Stdio::null());
    let mut server = bench.streamer.spawn(server)?;
    std::thread::sleep(Duration::from_millis(500));
    let mut client = Command::new("iperf3");
    client.args(["--client", "10.9.0.1", "--reverse", "--time", "5", "--json"]);
    client.stdout(Stdio::piped());
    let said = bench.viewer.spawn(client)?.wait_with_output()?;
    let _ = server.kill();
    server.wait()?;
    let said: serde_json::Value = serde_json::from_slice(&said.stdout)?;
    let bps = said["end"]["sum_received"]["bits_per_second"].as_f64().unwrap_or(0.0);
    // TCP's payload on a link of 2 Mbit/s of IP packets, of which the first second is slow start.
    assert!((1.2e6..2.0e6).contains(&bps), "{said}");
    Ok(())
}

#[test]
fn a_viewer_behind_a_translation_is_reached_and_after_a_rebinding_at_another_port() -> io::Result<()>
{
    let bench = Bench::new(Shape::default(), Shape::default())?;
    let outside = Ipv4Addr::new(10, 10, 1, 1);
    bench.router.network().translate(bench.viewer_id, VIEWER, outside);
    let (streamer, viewer) = (Bench::socket(&bench.streamer)?, Bench::socket(&bench.viewer)?);
    let mut seen = Vec::new();
    for word in [b"one", b"two"] {
        viewer.send_to(word, (STREAMER, 5000))?;
        let mut buffer = [0; 16];
        let (_, from) = streamer.recv_from(&mut buffer)?;
        assert_eq!(from.ip(), outside);
        streamer.send_to(b"answer", from)?;
        assert_eq!(viewer.recv(&mut buffer)?, 6);
        seen.push(from.port());
        bench.router.network().rebind(bench.viewer_id);
    }
    assert_ne!(seen[0], seen[1]);
    // What still goes to the port of before is lost.
    streamer.send_to(b"late", (outside, seen[0]))?;
    assert!(viewer.recv(&mut [0; 16]).is_err());
    Ok(())
}
