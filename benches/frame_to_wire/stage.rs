//! The server's side, from the tap on: a publisher at a camera's rate, and both servers.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use lensline::admission::{Admission, Kind, Limits};
use lensline::auth::Auth;
use lensline::catalog::{Camera, Catalog, Format, Health, Rendition};
use lensline::clock::Timestamp;
use lensline::config::{self, RtspTransport, WebrtcEngine};
use lensline::distributor::{self, Publisher};
use lensline::egress::rtsp::RtspServer;
use lensline::egress::session::Registry;
use lensline::egress::webrtc::{Trickle, WebrtcServer};
use lensline::frame::Frame;
use lensline::guard::Teardowns;
use lensline::metrics::Metrics;
use lensline::shutdown::Shutdown;
use lensline_clients::until;

use crate::{VIEWERS_MAX, mark};

/// What is published, in words.
pub const PICTURES: &str = "30 frames/s of 10 kB, every 2 s a key frame of 40 kB";

pub const FRAMERATE: u32 = 30;
const GOP_FRAMES: u64 = 60;
const FRAME_BYTES: usize = 10_000;
const KEY_FRAME_BYTES: usize = 40_000;

/// Parameter sets of x264, constrained baseline, 1280x720: clients read them.
const SPS: &[u8] =
    b"\x67\x42\xc0\x1f\xda\x01\x40\x16\xec\x05\xa8\x08\x08\x0a\0\0\x03\0\x02\0\0\x03\
    \0\x79\x1e\x30\x65\x40";
const PPS: &[u8] = b"\x68\xce\x3c\x80";
const IDR_SLICE: u8 = 0x65;
const SLICE: u8 = 0x41;
const START_CODE: &[u8] = &[0, 0, 0, 1];

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// Bound on the end of all sessions.
const SOON: Duration = Duration::from_secs(20);

pub struct Stage {
    rendition: Arc<Rendition>,
    admission: Admission,
    metrics: Arc<Metrics>,
    registry: Registry,
    teardowns: Teardowns,
    shutdown: Shutdown,
    rtsp: RtspServer,
    tap: Tap,
}

/// Offers are answered here.
pub struct Webrtc<'a> {
    stage: &'a Stage,
    server: WebrtcServer,
}

impl Stage {
    pub fn open() -> Self {
        let ring = distributor::Limits {
            ring_frames: 128,
            subscribers_max: VIEWERS_MAX,
            lag_frames_max: 60,
            join_frames_max: 30,
        };
        let (publisher, hub) = distributor::channel(ring).unwrap();
        let rendition = Rendition::new("cam".into(), "main".into(), hub);
        let (width, height, framerate) = (1280, 720, (30, 1));
        let (sps, pps) = (SPS.to_vec(), PPS.to_vec());
        rendition.set_format(Format { width, height, framerate, sps, pps });
        let renditions = vec![Arc::clone(&rendition)];
        let (camera, _) = Camera::new("cam".into(), renditions, "bench".into(), SOON);
        camera.update_status(|status| status.health = Health::Running);
        let tap = Tap::start(Arc::clone(&rendition), publisher);
        let admission = Admission::new(Limits {
            webrtc_sessions_max: VIEWERS_MAX,
            rtsp_sessions_max: VIEWERS_MAX,
            sessions_per_address_max: VIEWERS_MAX,
            sessions_per_user_max: VIEWERS_MAX,
            joins_per_second_max: 1000,
        });
        let metrics = Arc::new(Metrics::new().unwrap());
        let registry = Registry::new(Arc::clone(&metrics));
        let teardowns = Teardowns::new(metrics.teardowns_stuck.clone());
        let shutdown = Shutdown::new();
        let transports = vec![RtspTransport::Tcp];
        let rtsp = RtspServer::bind(
            &config::Rtsp { listen: (LOOPBACK, 0).into(), transports, tls: None },
            Arc::new(Catalog::new(vec![camera])),
            admission.clone(),
            Auth::new(&config::Auth::default()),
            registry.clone(),
            Arc::clone(&metrics),
            teardowns.clone(),
            tokio::runtime::Handle::current(),
            shutdown.listen(),
        );
        let rtsp = rtsp.unwrap();
        Self { rendition, admission, metrics, registry, teardowns, shutdown, rtsp, tap }
    }

    pub fn rtsp_url(&self) -> String {
        format!("rtsp://{}/cam", self.rtsp.address())
    }

    /// A WebRTC server on loopback.
    pub async fn webrtc(&self, engine: WebrtcEngine) -> Webrtc<'_> {
        let interfaces = vec!["lo".to_owned()];
        let server = WebrtcServer::new(
            config::Webrtc { engine, interfaces, ..config::Webrtc::default() },
            Arc::clone(&self.metrics),
            self.registry.clone(),
            self.teardowns.clone(),
            self.shutdown.listen(),
        );
        server.warm_up().await.unwrap();
        Webrtc { stage: self, server }
    }

    /// Ends every session, and waits until each has gone.
    pub async fn close(self) {
        self.shutdown.stop();
        assert!(self.rtsp.stopped().await, "the RTSP server has not stopped");
        until("every session is gone", SOON, async || {
            self.registry.list().is_empty().then_some(())
        })
        .await;
        assert!(self.teardowns.finished(SOON).await, "a teardown does not finish");
        self.tap.stop();
    }
}

impl Webrtc<'_> {
    /// Opens a session; the answer.
    pub async fn answer(&self, offer: &str) -> String {
        let permit = self.stage.admission.admit(Kind::Webrtc, LOOPBACK, Duration::ZERO).unwrap();
        let rendition = Arc::clone(&self.stage.rendition);
        let viewer = (LOOPBACK, 9).into();
        let opened = self.server.open(rendition, viewer, permit, offer, Trickle::Gathered).await;
        opened.unwrap().answer_sdp
    }
}

/// Hands out frames on a thread of its own, as an encoder's does.
struct Tap {
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Tap {
    fn start(rendition: Arc<Rendition>, mut publisher: Publisher<Frame>) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let thread = std::thread::spawn(move || {
            let interval = Duration::from_secs(1) / FRAMERATE;
            let mut captured = Timestamp::now();
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(captured.since(Timestamp::now()));
                let now = Timestamp::now();
                rendition.saw_frame(now);
                let key = publisher.published().is_multiple_of(GOP_FRAMES);
                publisher.publish(key, Frame::new(captured, now, key, payload(key, captured)));
                captured = captured.plus(interval);
            }
        });
        Self { stopping, thread }
    }

    fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

/// An access unit whose last bytes say when it was handed over: marked last of all, so that its
/// making does not count.
fn payload(key: bool, captured: Timestamp) -> gst::Buffer {
    let mut bytes = Vec::with_capacity(KEY_FRAME_BYTES);
    if key {
        bytes.extend([START_CODE, SPS, START_CODE, PPS].concat());
    }
    bytes.extend_from_slice(START_CODE);
    bytes.push(if key { IDR_SLICE } else { SLICE });
    let length = if key { KEY_FRAME_BYTES } else { FRAME_BYTES };
    bytes.resize(length - mark::BYTES, 0xa5);
    bytes.extend(mark::write(SystemTime::UNIX_EPOCH.elapsed().unwrap()));
    let mut buffer = gst::Buffer::from_mut_slice(bytes);
    let metadata = buffer.get_mut().unwrap();
    metadata.set_pts(gst::ClockTime::from(captured));
    if !key {
        metadata.set_flags(gst::BufferFlags::DELTA_UNIT);
    }
    buffer
}
