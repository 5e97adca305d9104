//! Sessions with a peer in this process.

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use super::*;
use crate::admission::{Admission, Kind, Limits};
use crate::distributor::Cause;
use crate::egress::session::End;
use crate::shutdown::Shutdown;

mod peer;
mod source;

use peer::Peer;
use source::Source;

const BOUND: Duration = Duration::from_secs(10);

const EXTENSIONS: [(u8, &str); 4] = [
    (2, "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"),
    (3, "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"),
    (4, "urn:ietf:params:rtp-hdrext:sdes:mid"),
    (5, "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"),
];

struct Bench {
    server: WebrtcServer,
    source: Source,
    admission: Admission,
    metrics: Arc<Metrics>,
    registry: Registry,
    teardowns: Teardowns,
    _shutdown: Shutdown,
}

impl Bench {
    fn new() -> Self {
        Self::with(config::Webrtc::default())
    }

    fn with(config: config::Webrtc) -> Self {
        let source = Source::start();
        warm_up().unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let registry = Registry::new(Arc::clone(&metrics));
        let teardowns = Teardowns::new(metrics.teardowns_stuck.clone());
        let shutdown = Shutdown::new();
        let limits = Limits {
            webrtc_sessions_max: 64,
            rtsp_sessions_max: 1,
            sessions_per_address_max: 64,
            joins_per_second_max: 1000,
        };
        let server = WebrtcServer::new(
            config,
            Arc::clone(&metrics),
            registry.clone(),
            teardowns.clone(),
            shutdown.listen(),
        );
        let admission = Admission::new(limits);
        Self { server, source, admission, metrics, registry, teardowns, _shutdown: shutdown }
    }

    async fn open(&self, offer: &str, trickle: Trickle) -> Result<Opened, OpenError> {
        let address = IpAddr::from([127, 0, 0, 1]);
        let permit = self.admission.admit(Kind::Webrtc, address, Duration::ZERO).unwrap();
        let rendition = Arc::clone(&self.source.rendition);
        self.server.open(rendition, (address, 9).into(), permit, offer, trickle).await
    }

    async fn join(&self) -> (Peer, Opened) {
        let peer = Peer::new();
        let opened = self.open(&peer.offer().await, Trickle::Gathered).await.unwrap();
        peer.accept(&opened.answer_sdp).await;
        (peer, opened)
    }

    /// Waits until every session has gone and its pipeline has stopped.
    async fn empty(&self) {
        until("every session is gone", || self.registry.list().is_empty()).await;
        assert!(self.teardowns.finished(BOUND).await, "a teardown does not finish");
        assert_eq!(self.admission.sessions(Kind::Webrtc), 0);
        assert_eq!(self.server.sessions(), 0);
    }

    fn ended(&self, end: End) -> u64 {
        self.metrics.sessions_ended.with_label_values(&["cam", "webrtc", end.as_str()]).get()
    }
}

async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + BOUND;
    while !reached() {
        assert!(Instant::now() < deadline, "not within {BOUND:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_gets_an_idr_first_and_decodes_what_follows() {
    let bench = Bench::new();
    let peer = Peer::new();
    let offer = peer.offer().await;
    let begin = Instant::now();
    let opened = bench.open(&offer, Trickle::Gathered).await.unwrap();
    let answered = begin.elapsed();
    println!("{offer}\n---- {answered:?}\n{}", opened.answer_sdp);
    peer.accept(&opened.answer_sdp).await;
    until("pictures", || peer.pictures() > 0).await;
    println!("first picture after {:?}", begin.elapsed());
    until("pictures", || peer.pictures() >= 20).await;
    let nal_types = peer.seen.nal_types.lock().unwrap().clone();
    // SPS and PPS, in one packet or each in its own, then the slices of an IDR.
    println!("{nal_types:?}");
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        print!("{} ", std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap().trim());
    }
    println!("{:?}", peer.seen.extensions.lock().unwrap());
    println!("{:?}", opened.session.stats);
    opened.session.end(End::Left);
    bench.empty().await;
    peer.vanish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_plis_becomes_one_request_and_the_picture_recovers() {
    let bench = Bench::new();
    let (peer, opened) = bench.join().await;
    until("pictures", || peer.pictures() >= 5).await;
    let hub = &bench.source.rendition.hub;
    let before = hub.key_frame_requests(Cause::Viewer);
    let key_frames = bench.source.key_frames.load(Ordering::Relaxed);
    for _ in 0..5 {
        peer.ask_for_key_frame();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    until("a key frame", || bench.source.key_frames.load(Ordering::Relaxed) > key_frames).await;
    assert!(opened.session.stats.keyframe_requests.get() >= 1);
    assert_eq!(hub.key_frame_requests(Cause::Viewer), before + 1);
    opened.session.end(End::Left);
    bench.empty().await;
    peer.vanish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_vanishes_is_noticed_by_its_silence() {
    let config = config::Webrtc { silence_timeout_ms: 3_000, ..config::Webrtc::default() };
    let bench = Bench::with(config);
    let (peer, opened) = bench.join().await;
    until("pictures", || peer.pictures() >= 5).await;
    // Longer than the silence that is allowed: the peer's reports are heard.
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    assert_eq!(opened.session.end_reason(), None);
    assert!(opened.session.stats.rtt_us.get() > 0);
    peer.vanish().await;
    bench.empty().await;
    let ended = [End::Vanished, End::Left].map(|end| bench.ended(end));
    assert_eq!(ended.iter().sum::<u64>(), 1, "{:?}", opened.session.end_reason());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_never_connects_is_ended() {
    let config = config::Webrtc { negotiation_timeout_ms: 600, ..config::Webrtc::default() };
    let bench = Bench::with(config);
    let peer = Peer::new();
    bench.open(&peer.offer().await, Trickle::Gathered).await.unwrap();
    assert_eq!(bench.server.sessions(), 1);
    bench.empty().await;
    assert_eq!(bench.ended(End::NegotiationTimeout), 1);
    peer.vanish().await;
}
