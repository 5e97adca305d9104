//! The simulated camera: a picture of adjustable difficulty, stamped, with faults on demand.
//!
//! A thread of its own paints picture n while there is time, waits for the instant n is due
//! (start + n / framerate on the monotonic clock, so that nothing drifts) and only then pushes it.
//! The stamp is burned in right before each encoder ([`burn_into`]), after crop, flip and scaling.

mod faults;
mod picture;
pub mod stamp;
mod text;

use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use gst::prelude::*;
use gst_video::prelude::*;

use super::plan::{Feed, Media, Pads};
use super::spec::Spec;
use crate::clock::Timestamp;
use crate::config;
use faults::Schedule;
use picture::{Picture, Planes};

/// Pictures that may be under way at a time: one being painted, one due, one in the appsrc and
/// one in each of a few encoders.
const POOL_BUFFERS: u32 = 8;

/// The simulated camera across rebuilds: its schedule of faults and its textures, painted once.
#[derive(Debug)]
pub(super) struct Simulator {
    config: config::Simulated,
    width: u32,
    height: u32,
    framerate: u32,
    schedule: Schedule,
    picture: OnceLock<Picture>,
}

/// Why the simulated camera could not be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    /// The fault of that name is on.
    #[error("the simulated camera is unplugged")]
    Unplugged,
    /// GStreamer could not make a pool of buffers.
    #[error("no buffers for the simulated camera: {0}")]
    Pool(#[from] glib::BoolError),
    /// The system gave no thread.
    #[error("no thread for the simulated camera: {0}")]
    Thread(#[from] std::io::Error),
}

/// The thread that delivers pictures; it is stopped and joined when dropped.
#[derive(Debug)]
pub(super) struct Driver {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

/// What the thread works with.
struct Worker {
    simulator: Arc<Simulator>,
    appsrc: glib::WeakRef<gst_app::AppSrc>,
    pool: gst::BufferPool,
    info: gst_video::VideoInfo,
    stop: Arc<Stop>,
}

impl Simulator {
    /// A camera whose pictures have this size before crop and flip.
    pub(super) fn new(
        config: config::Simulated,
        (width, height): (u32, u32),
        framerate: u32,
    ) -> Self {
        let schedule = Schedule::new(config.faults.clone());
        let picture = OnceLock::new();
        Self { config, width, height, framerate: framerate.max(1), schedule, picture }
    }

    /// Opens the camera: paints its textures when it is done for the first time.
    ///
    /// # Errors
    /// While the camera is unplugged.
    pub(super) fn open(&self) -> Result<(), OpenError> {
        self.picture();
        if self.schedule.at(Timestamp::now()).unplug {
            return Err(OpenError::Unplugged);
        }
        Ok(())
    }

    /// Starts delivering pictures into `appsrc`.
    ///
    /// # Errors
    /// Where GStreamer or the system refuse.
    pub(super) fn start(self: &Arc<Self>, appsrc: &gst_app::AppSrc) -> Result<Driver, OpenError> {
        let info = self.info()?;
        let pool = pool(&info)?;
        let stop = Arc::new(Stop::default());
        let worker = Worker {
            simulator: Arc::clone(self),
            appsrc: appsrc.downgrade(),
            pool,
            info,
            stop: Arc::clone(&stop),
        };
        let thread =
            std::thread::Builder::new().name("sim-camera".into()).spawn(move || worker.run())?;
        Ok(Driver { stop, thread: Some(thread) })
    }

    /// Caps of the pictures.
    fn caps(&self) -> String {
        format!(
            "video/x-raw,format=I420,width={},height={},framerate={}/1,colorimetry=bt709,\
             interlace-mode=progressive,pixel-aspect-ratio=1/1",
            self.width, self.height, self.framerate
        )
    }

    /// Whether the encoder's output is to be spoilt now and then ([`Simulator::spoil`]).
    pub(super) fn spoils(&self) -> bool {
        self.schedule.has_garbage()
    }

    /// What comes instead of the encoded picture `original` while the camera gives garbage.
    pub(super) fn spoil(&self, original: &gst::BufferRef, now: Timestamp) -> Option<gst::Buffer> {
        if !self.schedule.at(now).garbage {
            return None;
        }
        let number = self.number_before(now);
        let mut buffer = gst::Buffer::from_mut_slice(faults::garbage(number, original.size()));
        let target = buffer.get_mut()?;
        target.set_pts(original.pts());
        target.set_flags(original.flags());
        Some(buffer)
    }

    fn info(&self) -> Result<gst_video::VideoInfo, glib::BoolError> {
        gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, self.width, self.height)
            .fps(gst::Fraction::new(i32::try_from(self.framerate).unwrap_or(30), 1))
            .build()
    }

    fn picture(&self) -> &Picture {
        self.picture
            .get_or_init(|| Picture::new(&self.config, self.width as usize, self.height as usize))
    }

    /// When picture `number` is taken.
    fn instant(&self, number: u64) -> Timestamp {
        let started = self.schedule.started(Timestamp::now());
        let nanoseconds = u128::from(number) * 1_000_000_000 / u128::from(self.framerate);
        started.plus(Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)))
    }

    /// The newest picture taken at or before `now`.
    fn number_before(&self, now: Timestamp) -> u64 {
        let elapsed = now.since(self.schedule.started(now)).as_nanos();
        u64::try_from(elapsed * u128::from(self.framerate) / 1_000_000_000).unwrap_or(u64::MAX)
    }

    /// The picture taken nearest to `captured`.
    fn number_at(&self, captured: Timestamp) -> u64 {
        self.number_before(captured.plus(self.interval() / 2))
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(1) / self.framerate
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        *self.stop.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // The thread catches nothing and panics nowhere; were it to, it is gone all the same.
            let _ = thread.join();
        }
    }
}

impl Stop {
    /// Waits until `instant`; false where the camera is to stop.
    fn wait_until(&self, instant: Timestamp) -> bool {
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        while !*stopped {
            let left = instant.since(Timestamp::now());
            if left.is_zero() {
                return true;
            }
            let waited = self.changed.wait_timeout(stopped, left);
            stopped = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }
}

impl Worker {
    fn run(self) {
        let mut next = self.simulator.number_before(Timestamp::now()) + 1;
        while self.deliver(next) {
            next = self.simulator.number_before(Timestamp::now()).max(next) + 1;
        }
        // Deactivated, the pool lets its buffers go as they come back.
        if let Err(error) = self.pool.set_active(false) {
            tracing::warn!(%error, "the simulated camera's buffers were not released");
        }
    }

    /// Paints picture `number` and pushes it when it is due; false where the camera ends.
    fn deliver(&self, number: u64) -> bool {
        let simulator = &*self.simulator;
        let instant = simulator.instant(number);
        // Painted late in the idle time, not early: by then the encoder is done with the picture
        // before, and this one is still in the processor's cache when it is encoded.
        let lead = simulator.interval() / 4;
        let paint_at = Timestamp::from_nanos(
            instant.as_nanos().saturating_sub(u64::try_from(lead.as_nanos()).unwrap_or(0)),
        );
        if !self.stop.wait_until(paint_at) {
            return false;
        }
        let wrong = simulator.schedule.at(instant);
        if wrong.unplug {
            return self.unplug();
        }
        if wrong.freeze || (wrong.slow && !number.is_multiple_of(faults::SLOW_FACTOR)) {
            return true;
        }
        let stamp = if wrong.pts_jump { instant.plus(faults::JUMP) } else { instant };
        // No free buffer means that those downstream hold them all: this picture is lost to them.
        let Some(buffer) = self.paint(number, stamp) else { return true };
        if !self.stop.wait_until(instant) {
            return false;
        }
        let Some(appsrc) = self.appsrc.upgrade() else { return false };
        appsrc.push_buffer(buffer).is_ok()
    }

    fn unplug(&self) -> bool {
        if let Some(appsrc) = self.appsrc.upgrade() {
            gst::element_error!(
                appsrc,
                gst::ResourceError::NotFound,
                ("the simulated camera was unplugged")
            );
        }
        false
    }

    fn paint(&self, number: u64, captured: Timestamp) -> Option<gst::Buffer> {
        let parameters =
            gst::BufferPoolAcquireParams::with_flags(gst::BufferPoolAcquireFlags::DONTWAIT);
        let mut buffer = self.pool.acquire_buffer(Some(&parameters)).ok()?;
        let target = buffer.get_mut()?;
        target.set_pts(gst::ClockTime::from(captured));
        target.set_duration(gst::ClockTime::try_from(self.simulator.interval()).ok());
        target.set_offset(number);
        let mut frame =
            gst_video::VideoFrameRef::from_buffer_ref_writable(target, &self.info).ok()?;
        let strides = [frame.plane_stride()[0], frame.plane_stride()[1]];
        let [luma_stride, chroma_stride] = strides.map(|s| usize::try_from(s).unwrap_or(0));
        let [luma, u, v, _] = frame.planes_data_mut();
        let mut planes = Planes { luma, luma_stride, chroma: [u, v], chroma_stride };
        self.simulator.picture().render(number, &mut planes);
        drop(frame);
        Some(buffer)
    }
}

/// By which element the simulated camera is read: its own queue drops the older picture rather
/// than make the camera wait.
pub(super) fn feed(simulator: &Simulator) -> Feed {
    let appsrc = Spec::new("appsrc")
        .with("caps", simulator.caps())
        .with("format", "time")
        .with("is-live", true)
        .with("max-buffers", 1)
        .with("max-bytes", 0)
        .with("leaky-type", "downstream");
    Feed { elements: vec![appsrc], media: Media::I420, pads: Pads::Always }
}

fn pool(info: &gst_video::VideoInfo) -> Result<gst::BufferPool, glib::BoolError> {
    let pool = gst_video::VideoBufferPool::new();
    let mut config = pool.config();
    let size = u32::try_from(info.size()).unwrap_or(u32::MAX);
    config.set_params(Some(&info.to_caps()?), size, 2, POOL_BUFFERS);
    pool.set_config(config)?;
    pool.set_active(true)?;
    Ok(pool.upcast())
}

/// Burns stamp and caption into a picture of `simulator` on its way into an encoder.
///
/// The time is the buffer's PTS, a running time on the one clock. The number is that of the
/// picture taken at that time, not the buffer's offset: a videorate on the way counts anew. Does
/// nothing to what is not an I420 picture with a PTS.
pub(super) fn burn_into(buffer: &mut gst::Buffer, caps: &gst::CapsRef, simulator: &Simulator) {
    let Some(pts) = buffer.pts() else { return };
    let number = simulator.number_at(Timestamp::from(pts));
    let Ok(info) = gst_video::VideoInfo::from_caps(caps) else { return };
    if info.format() != gst_video::VideoFormat::I420 {
        return;
    }
    let unix_ms = u64::try_from(Timestamp::from(pts).to_unix().as_millis()).unwrap_or(0);
    let Ok(mut frame) =
        gst_video::VideoFrameRef::from_buffer_ref_writable(buffer.make_mut(), &info)
    else {
        return;
    };
    let strides = [frame.plane_stride()[0], frame.plane_stride()[1]];
    let [luma_stride, chroma_stride] = strides.map(|s| usize::try_from(s).unwrap_or(0));
    let width = info.width() as usize;
    let rows = stamp::height(width) + text::letter(width);
    let [luma, u, v, _] = frame.planes_data_mut();
    let number_16 = u16::try_from(number & 0xffff).unwrap_or(0);
    stamp::burn(luma, luma_stride, width, unix_ms, number_16);
    let caption = text::caption(unix_ms, number);
    text::draw(luma, luma_stride, width, (0, stamp::height(width)), &caption);
    // Grey: what is tinted would not be read as black and white after conversion to RGB.
    let stamped = (stamp::side(width) * 64).div_ceil(2);
    for plane in [u, v] {
        for line in plane.chunks_mut(chroma_stride.max(1)).take(rows / 2) {
            let end = stamped.min(line.len());
            line[..end].fill(128);
        }
    }
}

/// A small generator of reproducible noise (SplitMix64, Steele et al. 2014), eight bytes a step.
#[derive(Debug)]
struct Random {
    state: u64,
    bytes: u64,
    left: u32,
}

impl Random {
    fn new(seed: u64) -> Self {
        Self { state: seed, bytes: 0, left: 0 }
    }

    fn byte(&mut self) -> u8 {
        if self.left == 0 {
            self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            self.bytes = mixed ^ (mixed >> 31);
            self.left = 8;
        }
        let byte = (self.bytes & 0xff) as u8;
        self.bytes >>= 8;
        self.left -= 1;
        byte
    }
}
