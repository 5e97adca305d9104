//! The streamer: the product's own distributor, admission and decisions, between models of the
//! camera and of the engines that carry packets.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use lensline::admission::{self, Admission, Kind, Permit};
use lensline::camera;
use lensline::config::Config;
use lensline::distributor::{self, Delivery, Hub, LimitsError, Publisher, Subscriber};
use lensline::egress::feed::WAITING_FRAMES_MAX;
use lensline::egress::rtsp;
use lensline::egress::rtsp::idle::Activity;
use lensline::egress::session::Stats;
use lensline::egress::webrtc::course::{Course, Heard};

use super::agenda::Who;
use super::camera::{Camera, Picture, stamp};
use super::check::Patience;
use super::net::Media;
use super::tcp;
use super::wake::{Flag, Task, Woken};
use crate::plan::ViewerKind;

/// What a packet of pictures carries at most.
const PAYLOAD_BYTES: usize = 1200;

/// What is around it: IPv4, UDP, RTP with its extensions, SRTP's tag.
pub const OVERHEAD_BYTES: usize = 58;

/// What str0m keeps for retransmission, and where it stops: see `egress::webrtc::str0m`.
const RETRANSMIT_AGE: Duration = Duration::from_secs(1);
const RETRANSMIT_SHARE_MAX: f64 = 0.25;

/// Frames on their way to one session.
pub struct Feed {
    pub subscriber: Subscriber<Picture>,
    pub waker: Waker,
    pub flag: Arc<Flag>,
    /// Polled, and told to wait to be woken.
    pub asleep: bool,
    /// Pictures sent.
    ordinal: u64,
    /// Packets sent.
    number: u64,
}

/// How a session's frames travel, with what decides over it.
pub enum Lane {
    Webrtc {
        course: Box<Course>,
        heard: Arc<Heard>,
        stats: Box<Stats>,
        sent: Sent,
    },
    /// RTSP with the media over UDP.
    Datagrams,
    /// RTSP with the media in it.
    Stream(Box<Stream>),
}

/// What was sent and may be asked for again.
#[derive(Default)]
pub struct Sent {
    packets: VecDeque<(Duration, Media)>,
    first: u64,
    again: u64,
}

/// An appsrc, and a socket behind it.
#[derive(Default)]
pub struct Stream {
    pub waiting: VecDeque<Vec<Media>>,
    pub sender: tcp::Sender<Media>,
    /// When its timer is looked at.
    pub armed: Option<Duration>,
    /// Since when nothing was taken that waits.
    pub stalled: Option<Duration>,
}

/// One viewer's session.
pub struct Session {
    pub kind: Kind,
    pub opened: Duration,
    /// What the viewer's last request was, of RTSP.
    pub asked: Option<Duration>,
    pub lane: Lane,
    pub feed: Option<Feed>,
    pub route: usize,
    /// The viewer's address that packets are sent to.
    pub address: u32,
    _permit: Permit,
}

/// The streamer's process.
pub struct Streamer {
    pub config: Config,
    pub ring: distributor::Limits,
    pub publisher: Option<Publisher<Picture>>,
    pub hub: Hub<Picture>,
    pub admission: Admission,
    pub camera: Camera,
    pub camera_waker: Waker,
    pub camera_flag: Arc<Flag>,
    pub sessions: BTreeMap<Who, Session>,
    pub up: bool,
    /// How many faults have it stand still.
    pub still: u32,
}

/// The limits of admission, of the configuration.
pub fn door(config: &Config) -> admission::Limits {
    let limits = &config.limits;
    admission::Limits {
        webrtc_sessions_max: limits.webrtc_sessions_max,
        rtsp_sessions_max: limits.rtsp_sessions_max,
        sessions_per_address_max: limits.sessions_per_address_max,
        sessions_per_user_max: limits.sessions_per_user_max,
        joins_per_second_max: limits.joins_per_second_max,
    }
}

impl Streamer {
    pub fn new(
        config: Config,
        camera: Camera,
        rate: u32,
        woken: &Woken,
    ) -> Result<Self, LimitsError> {
        let ring = camera::ring(&config.limits, rate);
        let (publisher, hub) = distributor::channel(ring)?;
        let (camera_waker, camera_flag) = woken.waker(Task::Camera);
        Ok(Self {
            admission: Admission::new(door(&config)),
            config,
            ring,
            publisher: Some(publisher),
            hub,
            camera,
            camera_waker,
            camera_flag,
            sessions: BTreeMap::new(),
            up: true,
            still: 0,
        })
    }

    /// Whether it runs, and is not stopped.
    pub fn runs(&self) -> bool {
        self.up && self.still == 0
    }

    /// Lets a viewer in that is reached by this route, at its address of that number.
    pub fn admit(
        &mut self,
        now: Duration,
        viewer: ViewerKind,
        host: IpAddr,
        (route, address): (usize, u32),
    ) -> Result<Session, admission::Refusal> {
        let kind = if viewer.is_webrtc() { Kind::Webrtc } else { Kind::Rtsp };
        let permit = self.admission.admit(kind, host, now)?;
        let lane = match (kind, viewer.is_tcp()) {
            (Kind::Webrtc, _) => {
                let heard = Arc::new(Heard::default());
                let course = Course::new(stamp(now), &self.config.webrtc, Arc::clone(&heard));
                let (course, stats) = (Box::new(course), Box::default());
                Lane::Webrtc { course, heard, stats, sent: Sent::default() }
            }
            (Kind::Rtsp, true) => Lane::Stream(Box::default()),
            (Kind::Rtsp, false) => Lane::Datagrams,
        };
        Ok(Session {
            kind,
            opened: now,
            asked: None,
            lane,
            feed: None,
            route,
            address,
            _permit: permit,
        })
    }

    /// How long a session of this kind may take, by the configuration.
    pub fn patience(&self, viewer: ViewerKind) -> Patience {
        if viewer.is_webrtc() {
            let ms = Duration::from_millis;
            let silence = ms(self.config.webrtc.silence_timeout_ms);
            let connect = ms(self.config.webrtc.negotiation_timeout_ms);
            return Patience { connect, silence, vanish: silence };
        }
        let connect = rtsp::idle::SILENT_MAX;
        if viewer.is_tcp() {
            // Where nothing is sent, silence is no sign.
            return Patience {
                connect,
                silence: Duration::MAX / 2,
                vanish: rtsp::UNACKNOWLEDGED_MAX,
            };
        }
        let silence = Duration::from_secs(rtsp::SESSION_TIMEOUT_SECONDS.into());
        Patience { connect, silence, vanish: silence }
    }
}

impl Session {
    /// Frames begin.
    pub fn feed(&mut self, who: Who, subscriber: Subscriber<Picture>, woken: &Woken) {
        let (waker, flag) = woken.waker(Task::Feed(who));
        self.feed = Some(Feed { subscriber, waker, flag, asleep: false, ordinal: 0, number: 0 });
    }

    /// Whether an RTSP session is to be closed for want of requests: as its own activity says
    /// until it plays, and by the timeout of a session from then on.
    pub fn is_idle(&self, now: Duration) -> bool {
        let playing = self.feed.is_some();
        let activity =
            Activity { opened: stamp(self.opened), asked: self.asked.map(stamp), playing };
        let timeout = Duration::from_secs(rtsp::SESSION_TIMEOUT_SECONDS.into());
        let silent = playing && matches!(self.lane, Lane::Datagrams);
        activity.is_idle(stamp(now))
            || silent && self.asked.is_some_and(|asked| now - asked > timeout)
    }
}

impl Feed {
    /// The packets of a picture.
    pub fn packets(&mut self, delivery: &Delivery<Picture>) -> Vec<Media> {
        let picture = delivery.item;
        let of = (picture.bytes as usize).div_ceil(PAYLOAD_BYTES).clamp(1, usize::from(u16::MAX));
        let (ordinal, number) = (self.ordinal, self.number);
        self.ordinal += 1;
        self.number += of as u64;
        let packet = |index: usize| Media {
            number: number + index as u64,
            ordinal,
            seq: delivery.seq,
            key: picture.key,
            index: index as u16,
            of: of as u16,
            picture_bytes: picture.bytes,
            captured: picture.captured,
        };
        (0..of).map(packet).collect()
    }
}

/// A packet's length on the wire, of a picture that is cut evenly.
pub fn length(media: &Media) -> usize {
    (media.picture_bytes as usize).div_ceil(usize::from(media.of.max(1)))
}

impl Sent {
    /// A packet is sent for the first time.
    pub fn note(&mut self, now: Duration, media: Media) {
        self.first += 1;
        self.packets.push_back((now, media));
        while self.packets.front().is_some_and(|(at, _)| now - *at > RETRANSMIT_AGE) {
            self.packets.pop_front();
        }
    }

    /// The packets of these numbers that may be sent again.
    pub fn again(&mut self, now: Duration, first: u64, last: u64) -> Vec<Media> {
        let most = (self.first as f64 * RETRANSMIT_SHARE_MAX) as u64;
        let left = most.saturating_sub(self.again) as usize;
        let start = self.packets.partition_point(|(_, media)| media.number < first);
        let wanted = self.packets.iter().skip(start).take_while(|(_, media)| media.number <= last);
        let young = wanted.filter(|(at, _)| now - *at <= RETRANSMIT_AGE);
        let again: Vec<_> = young.map(|(_, media)| *media).take(left).collect();
        self.again += again.len() as u64;
        again
    }
}

impl Stream {
    /// Whether the feed may hand over another frame.
    pub fn has_room(&self) -> bool {
        (self.waiting.len() as u64) < WAITING_FRAMES_MAX
    }

    /// Moves what waits into the socket, as far as that takes it. A picture goes whole: what the
    /// socket holds is above its bounds by one picture at most.
    pub fn fill(&mut self, now: Duration) {
        let segments = |bytes: usize| (bytes / tcp::SEGMENT_BYTES) as u64;
        let unsent = segments(rtsp::UNSENT_BYTES_MAX as usize);
        let held = segments(rtsp::SEND_BUFFER_BYTES);
        while self.sender.unsent() < unsent && self.sender.held() < held {
            let Some(picture) = self.waiting.pop_front() else { break };
            picture.into_iter().for_each(|segment| self.sender.push(segment));
            self.stalled = None;
        }
        if self.has_room() {
            self.stalled = None;
        } else {
            self.stalled.get_or_insert(now);
        }
    }
}
