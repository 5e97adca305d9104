//! WebRTC sessions with a peer in this process: one after the other, since threads, file
//! descriptors and guards are counted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test and its helpers: a panic is how they fail"
)]

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lensline::admission::{Admission, Kind, Limits, SessionLimits};
use lensline::config::{self, WebrtcEngine};
use lensline::distributor::Cause;
use lensline::egress::session::{End, Registry};
use lensline::egress::webrtc::candidate::Candidate;
use lensline::egress::webrtc::offer::OfferError;
use lensline::egress::webrtc::{CandidateError, OpenError, Opened, Trickle, WebrtcServer};
use lensline::guard::Teardowns;
use lensline::metrics::Metrics;
use lensline::shutdown::Shutdown;

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
    _turn: tokio::sync::MutexGuard<'static, ()>,
}

/// One test at a time.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

impl Bench {
    async fn new(engine: WebrtcEngine) -> Self {
        Self::with(config::Webrtc { engine, ..config::Webrtc::default() }).await
    }

    async fn with(config: config::Webrtc) -> Self {
        let turn = TURN.lock().await;
        let source = Source::start();
        let metrics = Arc::new(Metrics::new().unwrap());
        let registry = Registry::new(Arc::clone(&metrics));
        let teardowns = Teardowns::new(metrics.teardowns_stuck.clone());
        let shutdown = Shutdown::new();
        let limits = Limits {
            webrtc_sessions_max: 64,
            rtsp_sessions_max: 1,
            sessions_per_address_max: 64,
            sessions_per_user_max: 64,
            joins_per_second_max: 1000,
        };
        let server = WebrtcServer::new(
            config,
            Arc::clone(&metrics),
            registry.clone(),
            teardowns.clone(),
            shutdown.listen(),
        );
        server.warm_up().await.unwrap();
        let admission = Admission::new(limits);
        Self {
            server,
            source,
            admission,
            metrics,
            registry,
            teardowns,
            _shutdown: shutdown,
            _turn: turn,
        }
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
        // A session gives its permit back last, a moment after its place in the registry.
        until("every permit is back", || self.admission.sessions(Kind::Webrtc) == 0).await;
        assert_eq!(self.server.sessions(), 0);
    }

    fn ended(&self, end: End) -> u64 {
        self.metrics.sessions_ended.with_label_values(&["cam", "webrtc", end.as_str()]).get()
    }
}

async fn until(what: &str, reached: impl FnMut() -> bool) {
    within(BOUND, what, reached).await;
}

async fn within(bound: Duration, what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + bound;
    while !reached() {
        assert!(Instant::now() < deadline, "not within {bound:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Every test below, once with each engine.
macro_rules! with_each_engine {
    ($($test:ident)*) => {
        with_each_engine!(str0m, WebrtcEngine::Str0m, $($test)*);
        with_each_engine!(webrtcbin, WebrtcEngine::Webrtcbin, $($test)*);
    };
    ($module:ident, $engine:expr, $($test:ident)*) => {
        mod $module {
            use super::WebrtcEngine;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test($engine).await;
                }
            )*
        }
    };
}

with_each_engine! {
    a_viewer_gets_an_idr_first_and_decodes_what_follows
    a_flood_of_plis_becomes_one_request_and_the_picture_recovers
    a_viewer_that_vanishes_is_noticed_by_its_silence
    a_viewer_that_never_connects_is_ended
    a_peer_that_is_not_who_its_offer_said_gets_not_one_packet
    an_offer_without_a_sha_256_fingerprint_is_refused
    sixty_viewers_that_come_and_go_at_any_stage_leave_nothing_behind
    candidates_can_follow_the_answer_one_by_one_both_ways
    a_viewer_may_name_so_many_candidates_and_not_one_more
    an_offer_that_cannot_be_answered_leaves_no_trace
    loopback_and_a_range_of_ports_serve_where_they_are_configured
}

async fn a_viewer_gets_an_idr_first_and_decodes_what_follows(engine: WebrtcEngine) {
    let bench = Bench::new(engine).await;
    let peer = Peer::new();
    let offer = peer.offer().await;
    let opened = bench.open(&offer, Trickle::Gathered).await.unwrap();
    let answer = &opened.answer_sdp;
    for line in ["a=candidate:", "a=end-of-candidates", "a=sendonly", "a=ssrc-group:FID ", "cname:"]
    {
        assert!(answer.contains(line), "{line} in {answer}");
    }
    for line in ["apt=103", "rtcp-fb:103 nack\r", "rtcp-fb:103 nack pli", "typ host"] {
        assert!(answer.contains(line), "{line} in {answer}");
    }
    for (id, uri) in EXTENSIONS {
        assert!(answer.contains(&format!("a=extmap:{id} {uri}")), "{uri} in {answer}");
    }
    for line in ["@", "TCP", " fe80"] {
        assert!(!answer.contains(line), "{line} in {answer}");
    }
    peer.accept(answer).await;
    until("pictures", || peer.pictures() >= 20).await;
    let delivered = opened.session.stats.delivered.get();
    assert!(peer.pictures() + 5 > delivered, "the first frames did not decode: {delivered}");
    assert_first_is_key(&peer.seen.nal_types.lock().unwrap());
    for (id, _) in EXTENSIONS {
        let seen = peer.seen.extensions.lock().unwrap();
        assert!(seen.iter().any(|(one, _)| *one == id), "extension {id} in {seen:?}");
    }
    let sent = bench.metrics.stage_seconds.with_label_values(&["cam", "send"]);
    assert!(sent.get_sample_count() > 10);
    opened.session.end(End::Left);
    bench.empty().await;
    peer.vanish().await;
}

/// SPS and PPS in an aggregate (24) or each alone (7), before any slice.
fn assert_first_is_key(nal_types: &[u8]) {
    assert!(matches!(nal_types.first(), Some(7 | 24)), "{nal_types:?}");
}

async fn a_flood_of_plis_becomes_one_request_and_the_picture_recovers(engine: WebrtcEngine) {
    let bench = Bench::new(engine).await;
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

async fn a_viewer_that_vanishes_is_noticed_by_its_silence(engine: WebrtcEngine) {
    let config = config::Webrtc { engine, silence_timeout_ms: 3_000, ..config::Webrtc::default() };
    let bench = Bench::with(config).await;
    let (peer, opened) = bench.join().await;
    until("pictures", || peer.pictures() >= 5).await;
    // Longer than the silence that is allowed: the peer's reports are heard.
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    assert_eq!(opened.session.end_reason(), None);
    // It takes a sender report there and a receiver report back, which rtpbin spaces at random,
    // some seconds apart (RFC 3550 section 6.3): ten seconds were once too short.
    within(4 * BOUND, "a round-trip time", || opened.session.stats.rtt_us.get() > 0).await;
    peer.vanish().await;
    bench.empty().await;
    let ended = [End::Vanished, End::Left].map(|end| bench.ended(end));
    assert_eq!(ended.iter().sum::<u64>(), 1, "{:?}", opened.session.end_reason());
}

async fn a_viewer_that_never_connects_is_ended(engine: WebrtcEngine) {
    let config =
        config::Webrtc { engine, negotiation_timeout_ms: 600, ..config::Webrtc::default() };
    let bench = Bench::with(config).await;
    let peer = Peer::new();
    bench.open(&peer.offer().await, Trickle::Gathered).await.unwrap();
    assert_eq!(bench.server.sessions(), 1);
    bench.empty().await;
    assert_eq!(bench.ended(End::NegotiationTimeout), 1);
    peer.vanish().await;
}

/// The offer with one digit of its fingerprint changed: what a peer sees that got between.
fn with_another_fingerprint(offer: &str) -> String {
    let line = offer.lines().find(|line| line.starts_with("a=fingerprint:sha-256 ")).unwrap();
    let (kept, last) = line.split_at(line.len() - 1);
    let lie = format!("{kept}{}", if last == "0" { "1" } else { "0" });
    offer.replace(line, &lie)
}

async fn a_peer_that_is_not_who_its_offer_said_gets_not_one_packet(engine: WebrtcEngine) {
    let bench = Bench::new(engine).await;
    let (liar, honest) = (Peer::new(), Peer::new());
    let offer = with_another_fingerprint(&liar.offer().await);
    let opened = bench.open(&offer, Trickle::Gathered).await.unwrap();
    liar.accept(&opened.answer_sdp).await;
    let twin = bench.open(&honest.offer().await, Trickle::Gathered).await.unwrap();
    honest.accept(&twin.answer_sdp).await;
    within(3 * BOUND, "pictures at the honest twin", || honest.pictures() >= 20).await;
    within(3 * BOUND, "the liar's end", || bench.ended(End::FingerprintMismatch) == 1).await;
    assert_eq!(opened.session.end_reason(), Some(End::FingerprintMismatch));
    assert_eq!(opened.session.stats.delivered.get(), 0);
    assert_eq!(liar.seen.srtp.load(Ordering::Relaxed), 0);
    assert_eq!(liar.seen.packets.load(Ordering::Relaxed), 0);
    assert!(honest.seen.srtp.load(Ordering::Relaxed) >= 20, "the count counts");
    assert_eq!(twin.session.end_reason(), None);
    twin.session.end(End::Left);
    bench.empty().await;
    assert_eq!(bench.ended(End::FingerprintMismatch), 1);
    liar.vanish().await;
    honest.vanish().await;
}

async fn an_offer_without_a_sha_256_fingerprint_is_refused(engine: WebrtcEngine) {
    let bench = Bench::new(engine).await;
    let peer = Peer::new();
    let offer = peer.offer().await;
    let line = offer.lines().find(|line| line.starts_with("a=fingerprint:")).unwrap();
    let weak = |hash: &str, bytes| format!("a=fingerprint:{hash} {}", vec!["A5"; bytes].join(":"));
    for other in [String::new(), weak("md5", 16), weak("sha-1", 20)] {
        let refused = bench.open(&offer.replace(line, &other), Trickle::Gathered).await;
        let expected = OpenError::Offer(OfferError::Attribute("fingerprint:sha-256"));
        assert_eq!(refused.unwrap_err(), expected);
    }
    bench.empty().await;
    peer.vanish().await;
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Those that end while they are listed are left out.
fn thread_names() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    tasks.flat_map(|task| std::fs::read_to_string(task.path().join("comm"))).collect()
}

fn fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Those that are closed while they are listed are left out.
fn fd_targets() -> Vec<std::path::PathBuf> {
    let fds = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    fds.flat_map(|fd| std::fs::read_link(fd.path())).collect()
}

/// Joins and leaves at a stage that depends on `round`.
async fn come_and_go(bench: &Bench, round: u64) {
    let peer = Peer::new();
    let offer = peer.offer().await;
    if round.is_multiple_of(5) {
        // The request is given up before the answer.
        let bound = Duration::from_micros(500 * (round % 7));
        let opened = tokio::time::timeout(bound, bench.open(&offer, Trickle::Gathered)).await;
        if let Ok(Ok(opened)) = opened {
            // It was there before we gave up.
            opened.session.end(End::Left);
        }
        return peer.vanish().await;
    }
    let opened = bench.open(&offer, Trickle::Gathered).await.unwrap();
    if round % 5 > 1 {
        peer.accept(&opened.answer_sdp).await;
        tokio::time::sleep(Duration::from_millis(round * 37 % 200)).await;
    }
    if round.is_multiple_of(2) {
        opened.session.end(End::Left);
    }
    peer.vanish().await;
    opened.session.end(End::Operator);
}

async fn sixty_viewers_that_come_and_go_at_any_stage_leave_nothing_behind(engine: WebrtcEngine) {
    let bench = Bench::new(engine).await;
    for round in 0..5 {
        come_and_go(&bench, round).await;
    }
    bench.empty().await;
    let guards = || lensline::guard::live().map(|(_, live)| live).sum::<i64>();
    let (before, fds_before, guards_before) = (threads(), fds(), guards());
    for round in 0..60 {
        come_and_go(&bench, round).await;
    }
    bench.empty().await;
    // Threads for blocking work stay for ten seconds, and the next test may have begun.
    let are_back = || threads() <= before + 4 && fds() <= fds_before + 2;
    let deadline = Instant::now() + 3 * BOUND;
    while !are_back() {
        assert!(
            Instant::now() < deadline,
            "{before} threads and {fds_before} fds became {:#?} and {:#?}",
            thread_names(),
            fd_targets()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    until("guards are back", || guards() <= guards_before).await;
}

async fn candidates_can_follow_the_answer_one_by_one_both_ways(engine: WebrtcEngine) {
    let bench = Bench::new(engine).await;
    let peer = Peer::new();
    let offer = peer.offer().await;
    let bare: Vec<&str> = offer.lines().filter(|line| !line.starts_with("a=candidate")).collect();
    let (sender, mut ours) = tokio::sync::mpsc::channel(32);
    let opened = bench.open(&(bare.join("\r\n") + "\r\n"), Trickle::Trickle(sender)).await.unwrap();
    assert!(!opened.answer_sdp.contains("a=candidate:"));
    peer.accept(&opened.answer_sdp).await;
    for line in peer.candidates.lock().unwrap().iter() {
        bench.server.add_candidate(&opened.session.id, line).unwrap();
    }
    bench.server.add_candidate(&opened.session.id, "").unwrap();
    let malformed = bench.server.add_candidate(&opened.session.id, "candidate:nonsense");
    assert!(matches!(malformed, Err(CandidateError::Malformed(_))), "{malformed:?}");
    while let Some(candidate) = tokio::time::timeout(BOUND, ours.recv()).await.unwrap() {
        peer.add_candidate(&candidate);
    }
    until("pictures", || peer.pictures() >= 5).await;
    opened.session.end(End::Left);
    bench.empty().await;
    let gone = bench.server.add_candidate(&opened.session.id, "candidate:1");
    assert_eq!(gone, Err(CandidateError::NoSession));
    peer.vanish().await;
}

async fn a_viewer_may_name_so_many_candidates_and_not_one_more(engine: WebrtcEngine) {
    let bench = Bench::new(engine).await;
    let candidates_max = 8;
    let limits = SessionLimits { candidates_max, ..SessionLimits::default() };
    bench.admission.set_session_limits(limits);
    let peer = Peer::new();
    let offer = peer.offer().await;
    let candidate = |port| format!("candidate:1 1 UDP 2015363327 192.0.2.7 {port} typ host");
    let mut bare: Vec<_> = offer.lines().filter(|line| !line.starts_with("a=cand")).collect();
    let own: Vec<String> = (1..4).map(|port| format!("a={}", candidate(port))).collect();
    bare.extend(own.iter().map(String::as_str));
    let opened = bench.open(&(bare.join("\r\n") + "\r\n"), Trickle::Gathered).await.unwrap();
    let add = |port| bench.server.add_candidate(&opened.session.id, &candidate(port));
    // Three were in the offer.
    assert!((1_003..1_003 + 5).all(|port| add(port).is_ok()));
    assert_eq!(add(1_008), Err(CandidateError::TooMany));
    assert_eq!(bench.server.add_candidate(&opened.session.id, ""), Ok(()), "the end of them");
    // It can be reached by its own checks all the same.
    peer.accept(&opened.answer_sdp).await;
    within(3 * BOUND, "pictures", || peer.pictures() >= 5).await;
    opened.session.end(End::Left);
    bench.empty().await;
    peer.vanish().await;
}

async fn an_offer_that_cannot_be_answered_leaves_no_trace(engine: WebrtcEngine) {
    let bench = Bench::new(engine).await;
    let refused = bench.open("hello", Trickle::Gathered).await.unwrap_err();
    assert!(matches!(refused, OpenError::Offer(_)), "{refused}");
    let peer = Peer::new();
    let offer = peer.offer().await.replace("H264", "VP8");
    let refused = bench.open(&offer, Trickle::Gathered).await.unwrap_err();
    assert!(matches!(refused, OpenError::Offer(OfferError::NoH264)), "{refused}");
    bench.empty().await;
    assert_eq!(
        bench.metrics.sessions_ended.with_label_values(&["cam", "webrtc", "failed"]).get(),
        0
    );
    peer.vanish().await;
}

async fn loopback_and_a_range_of_ports_serve_where_they_are_configured(engine: WebrtcEngine) {
    let ports = config::PortRange::try_from("47100-47119".to_owned()).unwrap();
    let (udp_ports, interfaces) = (Some(ports), vec!["lo".to_owned()]);
    let config = config::Webrtc { engine, udp_ports, interfaces, ..config::Webrtc::default() };
    let bench = Bench::with(config).await;
    let peer = Peer::on(Some("127.0.0.1"));
    let opened = bench.open(&peer.offer().await, Trickle::Gathered).await.unwrap();
    let candidates: Vec<Candidate> = opened
        .answer_sdp
        .lines()
        .filter(|line| line.starts_with("a=candidate:"))
        .map(|line| Candidate::parse(line).unwrap())
        .collect();
    assert!(!candidates.is_empty(), "{}", opened.answer_sdp);
    for candidate in candidates {
        assert!(candidate.address.is_loopback(), "{candidate}");
        assert!((47100..=47119).contains(&candidate.port), "{candidate}");
    }
    peer.accept(&opened.answer_sdp).await;
    until("pictures", || peer.pictures() >= 5).await;
    opened.session.end(End::Left);
    bench.empty().await;
    peer.vanish().await;
}
