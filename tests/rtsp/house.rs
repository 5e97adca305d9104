//! A camera, a catalog and an RTSP server, in this process.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gst::prelude::*;
use lensline::admission::{Admission, Limits};
use lensline::auth::Auth;
use lensline::catalog::{Camera, Catalog, Format, Health, Rendition};
use lensline::clock::Timestamp;
use lensline::config::{Rtsp, RtspTransport};
use lensline::distributor;
use lensline::egress::rtsp::RtspServer;
use lensline::egress::session::Registry;
use lensline::frame::Frame;
use lensline::guard::{Pipeline, Teardowns, live};
use lensline::metrics::Metrics;
use lensline::shutdown::Shutdown;

pub const LIMITS: Limits = Limits {
    webrtc_sessions_max: 1,
    rtsp_sessions_max: 24,
    sessions_per_address_max: 24,
    sessions_per_user_max: 24,
    joins_per_second_max: 1000,
};

const FRAMERATE: u32 = 30;

/// One test at a time: threads and file descriptors are counted for the whole process.
static ALONE: Mutex<()> = Mutex::new(());

pub struct House {
    pub runtime: Option<tokio::runtime::Runtime>,
    pub server: Option<RtspServer>,
    pub address: SocketAddr,
    catalog: Arc<Catalog>,
    pub camera: Arc<Camera>,
    pub registry: Registry,
    pub admission: Admission,
    pub auth: Auth,
    pub metrics: Arc<Metrics>,
    pub teardowns: Teardowns,
    pub shutdown: Shutdown,
    source: Option<Pipeline>,
    _alone: MutexGuard<'static, ()>,
}

impl House {
    pub fn open() -> Self {
        Self::open_with(LIMITS, true)
    }

    pub fn open_with(limits: Limits, with_pictures: bool) -> Self {
        Self::open_at(([127, 0, 0, 1], 0).into(), limits, with_pictures)
    }

    pub fn open_at(listen: SocketAddr, limits: Limits, with_pictures: bool) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        gst::init().unwrap();
        // GLib keeps threads for a while in case they are needed again; here they are counted.
        glib::ThreadPool::set_max_unused_threads(Some(0));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let ring = distributor::Limits {
            ring_frames: 128,
            subscribers_max: 64,
            lag_frames_max: 60,
            join_frames_max: 15,
        };
        let (publisher, hub) = distributor::channel(ring).unwrap();
        let rendition = Rendition::new("cam".into(), "main".into(), hub);
        let watchdog = Duration::from_secs(2);
        let (camera, _) = Camera::new("cam".into(), vec![rendition], "test".into(), watchdog);
        let source = with_pictures.then(|| {
            camera.update_status(|status| status.health = Health::Running);
            source(&runtime, Arc::clone(&camera.renditions[0]), publisher)
        });
        let metrics = Arc::new(Metrics::new().unwrap());
        let registry = Registry::new(Arc::clone(&metrics));
        let (admission, shutdown) = (Admission::new(limits), Shutdown::new());
        let auth = Auth::new(&lensline::config::Auth::default());
        let teardowns = Teardowns::new(metrics.teardowns_stuck.clone());
        let catalog = Arc::new(Catalog::new(vec![Arc::clone(&camera)]));
        let server = RtspServer::bind(
            &config(listen),
            Arc::clone(&catalog),
            admission.clone(),
            auth.clone(),
            registry.clone(),
            Arc::clone(&metrics),
            teardowns.clone(),
            runtime.handle().clone(),
            shutdown.listen(),
        )
        .unwrap();
        let house = Self {
            address: server.address(),
            runtime: Some(runtime),
            server: Some(server),
            catalog,
            camera,
            registry,
            admission,
            auth,
            metrics,
            teardowns,
            shutdown,
            source,
            _alone: alone,
        };
        if with_pictures {
            eventually("the format is known", || house.camera.renditions[0].format().is_some());
        }
        house
    }

    /// Another server on the same address.
    pub fn bind_another(&self) -> Result<RtspServer, lensline::error::Error> {
        RtspServer::bind(
            &config(self.address),
            Arc::clone(&self.catalog),
            self.admission.clone(),
            self.auth.clone(),
            self.registry.clone(),
            Arc::clone(&self.metrics),
            self.teardowns.clone(),
            self.runtime().handle().clone(),
            self.shutdown.listen(),
        )
    }

    pub fn url(&self, path: &str) -> String {
        format!("rtsp://{}{path}", self.address)
    }

    pub fn runtime(&self) -> &tokio::runtime::Runtime {
        self.runtime.as_ref().unwrap()
    }

    pub fn rendition(&self) -> &Arc<Rendition> {
        &self.camera.renditions[0]
    }

    /// How many sessions ended so.
    pub fn ended(&self, transport: &str, end: &str) -> u64 {
        self.metrics.sessions_ended.with_label_values(&["cam", transport, end]).get()
    }

    /// Waits until nobody is inside.
    pub fn empties(&self) {
        eventually("everybody has left", || {
            self.registry.list().is_empty()
                && self.admission.sessions(lensline::admission::Kind::Rtsp) == 0
                && self.teardowns.pending() == 0
                && self.rendition().hub.subscribers() == 0
        });
    }

    /// The camera delivers no more, and nobody has noticed.
    pub fn freeze(&mut self) {
        drop(self.source.take());
    }

    pub fn stop(&mut self) {
        self.shutdown.stop();
        if let (Some(runtime), Some(server)) = (&self.runtime, self.server.take()) {
            assert!(runtime.block_on(server.stopped()), "the server has not stopped");
        }
    }
}

fn config(listen: SocketAddr) -> Rtsp {
    Rtsp { listen, transports: vec![RtspTransport::Tcp, RtspTransport::Udp], tls: None }
}

impl Drop for House {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
        drop(self.source.take());
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(2));
        }
    }
}

/// Asserts that `condition` comes true within ten seconds.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Threads and file descriptors of this process, and live guards.
pub fn belongings() -> (Vec<String>, usize, i64) {
    // A thread that ends meanwhile can hide another (proc(5) promises no snapshot): without the one
    // that looks it is no list.
    let own = thread_name(Path::new("/proc/thread-self"));
    let names = std::iter::repeat_with(thread_names).find(|names| names.contains(&own)).unwrap();
    let fds = std::fs::read_dir("/proc/self/fd").unwrap().count();
    (names, fds, live().map(|(_, count)| count).sum())
}

fn thread_names() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let mut names: Vec<String> = tasks.map(|task| thread_name(&task.path())).collect();
    names.retain(|name| !name.is_empty());
    names.sort();
    names
}

/// Empty where it has ended.
fn thread_name(task: &Path) -> String {
    std::fs::read_to_string(task.join("comm")).unwrap_or_default().trim().to_owned()
}

/// `videotestsrc` through `x264enc` into `publisher`, as the camera's tap does it.
fn source(
    runtime: &tokio::runtime::Runtime,
    rendition: Arc<Rendition>,
    mut publisher: distributor::Publisher<Frame>,
) -> Pipeline {
    let description = format!(
        "videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=180,framerate={FRAMERATE}/1 \
         ! x264enc name=encoder tune=zerolatency speed-preset=ultrafast key-int-max=60 bitrate=800 \
         ! video/x-h264,profile=constrained-baseline ! h264parse config-interval=-1 \
         ! video/x-h264,stream-format=byte-stream,alignment=au ! appsink name=tap sync=false"
    );
    let pipeline = gst::parse::launch(&description).unwrap().downcast::<gst::Pipeline>().unwrap();
    lensline::clock::rule(&pipeline);
    let encoder = pipeline.by_name("encoder").unwrap().downgrade();
    let hub = rendition.hub.clone();
    runtime.spawn(async move {
        loop {
            hub.key_frame_requested().await;
            let Some(encoder) = encoder.upgrade() else { return };
            let event = gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true).build();
            encoder.send_event(event);
        }
    });
    let tap = pipeline.by_name("tap").unwrap().downcast::<gst_app::AppSink>().unwrap();
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |tap| {
        let sample = tap.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        let segment = sample.segment().unwrap().downcast_ref::<gst::ClockTime>().unwrap();
        let buffer = sample.buffer().unwrap();
        let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let captured = segment.to_running_time(buffer.pts().unwrap()).unwrap();
        let mut payload = buffer.copy_deep().unwrap();
        let metadata = payload.get_mut().unwrap();
        metadata.set_pts(captured);
        metadata.set_dts(None);
        if key {
            rendition.set_format(format_of(&payload));
        }
        let now = Timestamp::now();
        rendition.saw_frame(now);
        publisher.publish(key, Frame::new(captured.into(), now, key, payload));
        Ok(gst::FlowSuccess::Ok)
    });
    tap.set_callbacks(callbacks.build());
    let pipeline = Pipeline::new(pipeline);
    pipeline.start().unwrap();
    pipeline
}

fn format_of(payload: &gst::Buffer) -> Format {
    let map = payload.map_readable().unwrap();
    let mut parameter_sets = [Vec::new(), Vec::new()];
    let starts: Vec<usize> =
        map.windows(3).enumerate().filter(|(_, w)| *w == [0, 0, 1]).map(|(at, _)| at + 3).collect();
    for (index, &start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).map_or(map.len(), |next| next - 3);
        let mut unit = map[start..end].to_vec();
        while unit.last() == Some(&0) {
            unit.pop();
        }
        match unit[0] & 31 {
            7 => parameter_sets[0] = unit,
            8 => parameter_sets[1] = unit,
            _ => {}
        }
    }
    let [sps, pps] = parameter_sets;
    assert!(!sps.is_empty() && !pps.is_empty());
    Format { width: 320, height: 180, framerate: (FRAMERATE, 1), sps, pps }
}
