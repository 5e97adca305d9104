//! What a receiver saw of the stream: which pictures, in which order, which not.
//!
//! Two looks at it: the stamp burned into every picture of the simulated camera (needs decoding),
//! or the RTP headers (cheap, for many receivers at a time).

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_video::prelude::*;

/// How closely a receiver looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Decodes every picture and reads the stamp.
    Stamps,
    /// Reads the RTP headers; pictures come at this many a second.
    Packets {
        /// Pictures a second.
        framerate: u32,
    },
}

/// The stamp of one picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Capture time, milliseconds since the Unix epoch.
    pub captured_unix_ms: u64,
    /// Frame number, modulo 65536.
    pub number: u16,
}

impl Stamp {
    /// Reads the stamp from a plane of luma; `None` where the two rows contradict each other.
    pub fn read(luma: &[u8], stride: usize, width: usize) -> Option<Self> {
        let side = width / 160;
        let row = |row: usize| {
            (0..64).try_fold(0u64, |bits, column| {
                let at = (row * side + side / 2) * stride + column * side + side / 2;
                Some(bits << 1 | u64::from(*luma.get(at)? >= 126))
            })
        };
        let (bits, check) = (row(0)?, row(1)?);
        let number = u16::try_from(bits & 0xffff).ok()?;
        (bits == !check).then_some(Self { captured_unix_ms: bits >> 16, number })
    }
}

/// How long one picture took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// When it was here.
    pub arrived: Instant,
    /// From its capture until then, in milliseconds. Below zero where clocks disagree.
    pub ms: f64,
}

/// A time without a picture of more than [`GAP_MIN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// When it was over.
    pub ended: Instant,
    /// From the last picture before it to the first after.
    pub lasted: Duration,
}

/// What counts as a gap: six pictures at 30 a second.
pub const GAP_MIN: Duration = Duration::from_millis(200);

/// Counts of what came.
#[derive(Clone, Default)]
pub struct Tally {
    /// Pictures that came.
    pub frames: u64,
    /// Pictures that were due between the first and the last that came, and did not come. The
    /// camera itself may have left them out, on a busy machine: see [`Tally::lacks`].
    pub missed: u64,
    /// Pictures whose stamp could not be read.
    pub unreadable: u64,
    /// Pictures that came out of order or twice.
    pub disordered: u64,
    /// RTP packets that did not come.
    pub packets_lost: u64,
    /// Bytes of media that came, without the headers of RTP and below.
    pub bytes: u64,
    /// Capture to arrival here of each picture (stamps, or capture times sent beside them).
    pub latencies: Vec<Latency>,
    /// When the first came.
    pub first: Option<Instant>,
    /// When the last came.
    pub last: Option<Instant>,
    /// Pictures that decode by themselves.
    pub key_frames: u64,
    /// The longest time without a picture between the first and the last.
    pub longest_gap: Duration,
    /// When that time was over.
    pub longest_gap_end: Option<Instant>,
    /// The longer times without a picture.
    pub gaps: Vec<Gap>,
    /// The numbers of the pictures that came, not wrapped (stamps only).
    numbers: Vec<i64>,
    newest_sequence: Option<u16>,
    newest_time: Option<u32>,
}

impl Tally {
    /// A picture with this stamp came.
    pub fn saw_number(&mut self, number: u16, now: Instant) {
        let newest = self.numbers.last().copied();
        // The low 16 bits of the last number are what its stamp said.
        let step = newest.map_or(1, |newest| i64::from(number.wrapping_sub(newest as u16) as i16));
        self.arrived(step, now);
        if step > 0 {
            self.numbers.push(newest.map_or(i64::from(number), |newest| newest + step));
        }
    }

    /// A picture that came now was captured so many milliseconds ago.
    pub fn saw_latency(&mut self, ms: f64) {
        self.latencies.push(Latency { arrived: Instant::now(), ms });
    }

    /// A decoded picture came, with this stamp, or with one that cannot be read.
    pub fn saw_stamp(&mut self, stamp: Option<Stamp>) {
        let Some(stamp) = stamp else {
            self.unreadable += 1;
            return;
        };
        let unix = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        self.saw_latency(unix.as_secs_f64() * 1e3 - stamp.captured_unix_ms as f64);
        self.saw_number(stamp.number, Instant::now());
    }

    /// The latencies' milliseconds.
    pub fn latency_ms(&self) -> Vec<f64> {
        self.latencies.iter().map(|latency| latency.ms).collect()
    }

    /// The counts so far, and the latencies and gaps since the last call, which are forgotten here,
    /// as are all pictures' numbers but the last: for one who watches for days, and would keep all
    /// of them otherwise.
    pub fn take(&mut self) -> Self {
        self.numbers.drain(..self.numbers.len().saturating_sub(1));
        let (latencies, gaps) =
            (std::mem::take(&mut self.latencies), std::mem::take(&mut self.gaps));
        Self { latencies, gaps, ..self.clone() }
    }

    /// Pictures that `other` saw in our time, and we did not (stamps only). Both must have begun
    /// in the same 65536 pictures.
    pub fn lacks(&self, other: &Self) -> usize {
        let (Some(first), Some(last)) = (self.numbers.first(), self.numbers.last()) else {
            return 0;
        };
        let ours = |number: &&i64| (first..=last).contains(number);
        let lacking = |number: &&i64| self.numbers.binary_search(number).is_err();
        other.numbers.iter().filter(ours).filter(lacking).count()
    }

    /// An RTP packet came; `packet` holds at least its header. Pictures are counted by it where
    /// their rate is given.
    pub fn saw_packet(&mut self, packet: &[u8], framerate: Option<u32>, now: Instant) {
        let Some(header) = packet.get(..12) else { return };
        let sequence = u16::from_be_bytes([header[2], header[3]]);
        let time = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        if let Some(newest) = self.newest_sequence {
            let step = sequence.wrapping_sub(newest);
            if step == 0 || step > 0x8000 {
                return;
            }
            self.packets_lost += u64::from(step - 1);
        }
        self.newest_sequence = Some(sequence);
        let marked = header[1] & 0x80 != 0;
        if let Some(framerate) = framerate.filter(|_| marked) {
            self.saw_time(time, framerate, now);
        }
    }

    /// A picture with this RTP time stamp came: it is as many steps after the last one as frame
    /// intervals have passed, rounded.
    pub fn saw_time(&mut self, time: u32, framerate: u32, now: Instant) {
        let interval = f64::from(90_000 / framerate.max(1));
        let ticks = self.newest_time.map(|newest| time.wrapping_sub(newest).cast_signed());
        let step = ticks.map_or(1, |ticks| {
            let steps = (f64::from(ticks) / interval).round() as i64;
            if ticks > 0 { steps.max(1) } else { steps.min(0) }
        });
        self.arrived(step, now);
        if step > 0 {
            self.newest_time = Some(time);
        }
    }

    /// So many pictures came of which no more is known.
    pub fn saw_pictures(&mut self, count: u64, now: Instant) {
        if count > 0 {
            self.frames += count;
            self.was_there(now);
        }
    }

    fn arrived(&mut self, step: i64, now: Instant) {
        self.frames += 1;
        self.was_there(now);
        match u64::try_from(step) {
            Ok(step) if step > 0 => self.missed += step - 1,
            _ => self.disordered += 1,
        }
    }

    fn was_there(&mut self, now: Instant) {
        self.first.get_or_insert(now);
        if let Some(last) = self.last.replace(now) {
            let gap = now.duration_since(last);
            if gap > self.longest_gap {
                (self.longest_gap, self.longest_gap_end) = (gap, Some(now));
            }
            if gap > GAP_MIN {
                self.gaps.push(Gap { ended: now, lasted: gap });
            }
        }
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tally")
            .field("frames", &self.frames)
            .field("missed", &self.missed)
            .field("unreadable", &self.unreadable)
            .field("disordered", &self.disordered)
            .field("packets_lost", &self.packets_lost)
            .field("key_frames", &self.key_frames)
            .field("longest_gap", &self.longest_gap)
            .field("numbers", &(self.numbers.first(), self.numbers.last()))
            .finish_non_exhaustive()
    }
}

/// A tally that a receiver fills while others read it.
#[derive(Clone, Debug, Default)]
pub struct Watch(Arc<Mutex<Tally>>);

impl Watch {
    /// The counts as they are now.
    pub fn tally(&self) -> Tally {
        self.lock().clone()
    }

    /// The counts as they are now, as [`Tally::take`] gives them.
    pub fn take(&self) -> Tally {
        self.lock().take()
    }

    /// Changes the counts.
    pub fn note(&self, change: impl FnOnce(&mut Tally)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A bin that takes H.264 in RTP and keeps the counts, looking as closely as asked.
    pub fn receiver(&self, look: Look) -> gst::Element {
        let description = match look {
            Look::Stamps => {
                "rtph264depay name=depay ! h264parse ! avdec_h264 max-threads=1 ! \
                 video/x-raw,format=I420 ! appsink name=end sync=false max-buffers=8"
            }
            Look::Packets { .. } => "rtph264depay name=depay ! fakesink sync=false async=false",
        };
        let bin = gst::parse::bin_from_description(description, false)
            .expect("rtph264depay, h264parse and avdec_h264 are installed");
        let depay = bin.by_name("depay").expect("it was just made");
        let entry = depay.static_pad("sink").expect("rtph264depay has a sink pad");
        self.watch_media(&depay.static_pad("src").expect("rtph264depay has a source pad"));
        match look {
            Look::Stamps => {
                self.watch_pictures(&bin);
                self.watch_packets(&entry, None);
            }
            Look::Packets { framerate } => self.watch_packets(&entry, Some(framerate)),
        }
        let ghost = gst::GhostPad::with_target(&entry).expect("a free pad can be shown outside");
        bin.add_pad(&ghost).expect("the bin has no pad yet");
        bin.upcast()
    }

    fn watch_pictures(&self, bin: &gst::Bin) {
        let end = bin.by_name("end").and_downcast::<gst_app::AppSink>().expect("it is an appsink");
        let watch = self.clone();
        let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |end| {
            let sample = end.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            let info = sample.caps().and_then(|caps| gst_video::VideoInfo::from_caps(caps).ok());
            let (Some(info), Some(buffer)) = (info, sample.buffer()) else {
                return Ok(gst::FlowSuccess::Ok);
            };
            if let Ok(frame) = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info) {
                let stride = usize::try_from(frame.plane_stride()[0]).unwrap_or(0);
                let luma = frame.plane_data(0).unwrap_or_default();
                let stamp = Stamp::read(luma, stride, info.width() as usize);
                watch.note(|tally| tally.saw_stamp(stamp));
            }
            Ok(gst::FlowSuccess::Ok)
        });
        end.set_callbacks(callbacks.build());
    }

    fn watch_media(&self, pad: &gst::Pad) {
        let watch = self.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            if let Some(buffer) = info.buffer() {
                let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
                watch.note(|tally| {
                    tally.key_frames += u64::from(key);
                    tally.bytes += buffer.size() as u64;
                });
            }
            gst::PadProbeReturn::Ok
        });
    }

    fn watch_packets(&self, pad: &gst::Pad, framerate: Option<u32>) {
        let watch = self.clone();
        let count = move |buffer: &gst::BufferRef| {
            let mut header = [0; 12];
            if buffer.copy_to_slice(0, &mut header).is_ok() {
                watch.note(|tally| tally.saw_packet(&header, framerate, Instant::now()));
            }
        };
        let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
        pad.add_probe(kinds, move |_, info| {
            match &info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => count(buffer),
                Some(gst::PadProbeData::BufferList(list)) => list.iter().for_each(&count),
                _ => {}
            }
            gst::PadProbeReturn::Ok
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence: u16, time: u32) -> Vec<u8> {
        let mut packet = vec![0x80, 0x80 | 96];
        packet.extend(sequence.to_be_bytes());
        packet.extend(time.to_be_bytes());
        packet.extend([0; 4]);
        packet
    }

    #[test]
    fn missing_pictures_and_packets_are_counted_over_the_wrap() {
        let mut tally = Tally::default();
        let now = Instant::now();
        for number in [65_534, 65_535, 0, 3, 3, 4] {
            tally.saw_number(number, now);
        }
        assert_eq!((tally.frames, tally.missed, tally.disordered), (6, 2, 1));
        let mut other = Tally::default();
        (65_500..=65_535).chain(0..10).for_each(|number| other.saw_number(number, now));
        assert_eq!((tally.lacks(&other), other.lacks(&tally)), (2, 0));
        let mut tally = Tally::default();
        for (sequence, time) in [(65_535, u32::MAX - 2_000), (0, 1_100), (2, 3_980), (3, 13_000)] {
            tally.saw_packet(&packet(sequence, time), Some(30), now);
        }
        assert_eq!((tally.frames, tally.missed, tally.packets_lost), (4, 2, 1));
    }

    #[test]
    fn a_stamp_is_read_back_and_a_spoilt_one_is_not_taken_for_another() {
        let (width, side) = (320, 2);
        let bits = 1_700_000_000_123u64 << 16 | 4_711;
        let mut luma = vec![128; width * 4];
        for (row, bits) in [(0, bits), (1, !bits)] {
            for column in 0..64 {
                let value = if bits >> (63 - column) & 1 == 1 { 235 } else { 16 };
                for y in row * side..(row + 1) * side {
                    luma[y * width + column * side..][..side].fill(value);
                }
            }
        }
        let stamp = Stamp { captured_unix_ms: 1_700_000_000_123, number: 4_711 };
        assert_eq!(Stamp::read(&luma, width, width), Some(stamp));
        luma[side / 2 * width + side / 2 + 63 * side] ^= 255;
        assert_eq!(Stamp::read(&luma, width, width), None);
    }
}
