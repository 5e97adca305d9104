//! What viewers do: they join, watch, ask, leave, and come again.

use std::time::Duration;

use super::World;
use crate::tier_a::agenda::{Event, Timer, Who};
use crate::tier_a::net::{Answer, Body, Media, Packet, To};
use crate::tier_a::receiver::Ask;
use crate::tier_a::viewer::Phase;

/// Round trips from the first packet to the first picture. WebRTC: TCP, WHEP, ICE, and two of
/// DTLS. RTSP: TCP, OPTIONS, DESCRIBE, SETUP, PLAY.
pub const STEPS: u8 = 5;

/// A packet of signalling, with all that is around it.
pub const CONTROL_BYTES: usize = 600;

/// A packet of RTCP, with all that is around it.
const FEEDBACK_BYTES: usize = 100;

/// How often a goodbye is said.
pub const GOODBYES: u8 = 3;

/// From one goodbye to the next.
const GOODBYE_EVERY: Duration = Duration::from_millis(300);

/// How long an answer is waited for.
const REPEAT_AFTER: Duration = Duration::from_secs(1);

/// How long joining may take.
const JOIN_MAX: Duration = Duration::from_secs(10);

/// How long nothing may come.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Before joining again.
const PAUSE: Duration = Duration::from_secs(2);

/// How often it is told how it goes.
const REPORT_EVERY: Duration = Duration::from_secs(1);

impl World<'_> {
    /// Something that a viewer does by itself.
    pub(super) fn timer(&mut self, who: Who, timer: Timer) {
        let viewer = &self.viewers[who.viewer];
        let (phase, is_now) = (viewer.phase, viewer.attempt == who.attempt);
        let again = |world: &mut Self, after| {
            world.agenda.put(world.now + after, Event::Viewer(who, timer));
        };
        match timer {
            Timer::Leave(_) if viewer.still > 0 => again(self, REPEAT_AFTER),
            Timer::Leave(left) => self.leave(who, left),
            Timer::Join if phase == Phase::Away && is_now && viewer.still > 0 => {
                again(self, REPEAT_AFTER);
            }
            Timer::Join if phase == Phase::Away && is_now => {
                self.viewers[who.viewer].join(self.now);
                self.take_step(who.viewer);
            }
            Timer::Repeat(step) if phase == Phase::Joining && is_now && viewer.step == step => {
                if viewer.still > 0 {
                    again(self, REPEAT_AFTER);
                } else if self.now - viewer.began > JOIN_MAX {
                    self.give_up(who.viewer, "no answer within 10 s", PAUSE);
                } else {
                    self.take_step(who.viewer);
                }
            }
            Timer::Report if phase == Phase::Watching && is_now => {
                again(self, REPORT_EVERY);
                self.report(who.viewer);
            }
            Timer::Join | Timer::Repeat(_) | Timer::Report => {}
        }
    }

    /// Takes the step that is next in joining, and looks after a while whether it was answered.
    fn take_step(&mut self, viewer: usize) {
        let step = self.viewers[viewer].step;
        self.ask(viewer, Body::Join(step), CONTROL_BYTES);
        let who = self.viewers[viewer].who(viewer);
        self.agenda.put(self.now + REPEAT_AFTER, Event::Viewer(who, Timer::Repeat(step)));
    }

    /// Sends the streamer something.
    fn ask(&mut self, viewer: usize, body: Body, bytes: usize) {
        let from = &self.viewers[viewer];
        let to = To::Streamer(from.who(viewer), from.address);
        let route = from.route;
        self.send(Packet { to, route, up: true, hop: 0, bytes, body });
    }

    fn report(&mut self, viewer: usize) {
        let now = self.now;
        let here = &mut self.viewers[viewer];
        if here.still > 0 {
            return;
        }
        if now - here.last_packet > SILENCE_MAX {
            self.give_up(viewer, "nothing came for 10 s", PAUSE);
            return;
        }
        let ask = here.datagrams.look(now);
        let lost = here.datagrams.lost();
        self.ask(viewer, Body::Report(lost), FEEDBACK_BYTES);
        self.ask_again(viewer, ask);
    }

    /// It is away, and joins again after a while.
    fn give_up(&mut self, viewer: usize, said: &str, pause: Duration) {
        let here = &mut self.viewers[viewer];
        here.phase = Phase::Away;
        here.account.said = Some(said.to_owned());
        let who = here.who(viewer);
        self.books.event(self.now, &format!("{} is away: {said}", here.name));
        self.agenda.put(self.now + pause, Event::Viewer(who, Timer::Join));
    }

    /// Says goodbye, so many times; the first is the end.
    fn leave(&mut self, who: Who, left: u8) {
        let viewer = &mut self.viewers[who.viewer];
        let was = std::mem::replace(&mut viewer.phase, Phase::Gone);
        let first = left == GOODBYES;
        if first && matches!(was, Phase::Away | Phase::Gone) {
            return;
        }
        if first {
            let name = viewer.name.clone();
            self.books.event(self.now, &format!("{name} leaves"));
        }
        self.ask(who.viewer, Body::Bye, FEEDBACK_BYTES);
        if left > 1 {
            let next = Event::Viewer(who, Timer::Leave(left - 1));
            self.agenda.put(self.now + GOODBYE_EVERY, next);
        }
    }

    /// It is killed: WebRTC falls silent, the kernel closes TCP.
    pub(super) fn kill(&mut self, viewer: usize) {
        if !matches!(self.viewers[viewer].phase, Phase::Joining | Phase::Watching) {
            return;
        }
        if !self.viewers[viewer].kind.is_webrtc() {
            self.ask(viewer, Body::Bye, FEEDBACK_BYTES);
        }
        let here = &mut self.viewers[viewer];
        here.phase = Phase::Away;
        here.account.said = Some("killed".into());
    }

    /// It stood still, and goes on: what the kernel kept for it is read.
    pub(super) fn go_on(&mut self, viewer: usize) {
        self.viewers[viewer].last_packet = self.now;
        if self.viewers[viewer].kind.is_tcp() && self.viewers[viewer].phase == Phase::Watching {
            self.read(viewer);
            self.acknowledge(viewer);
        }
    }

    /// A packet has come to a viewer, at its address of that number.
    pub(super) fn watch(&mut self, who: Who, address: u32, body: Body) {
        let viewer = &mut self.viewers[who.viewer];
        if viewer.address != address {
            return;
        }
        let here = matches!(viewer.phase, Phase::Joining | Phase::Watching);
        if viewer.attempt != who.attempt || !here {
            if matches!(body, Body::Segment(..)) {
                // Its kernel knows of no such connection.
                let (to, route) = (To::Streamer(who, address), viewer.route);
                let (bytes, body) = (FEEDBACK_BYTES, Body::Bye);
                self.send(Packet { to, route, up: true, hop: 0, bytes, body });
            }
            return;
        }
        if viewer.still > 0 && !matches!(body, Body::Segment(..)) {
            return;
        }
        let now = self.now;
        viewer.last_packet = now;
        match body {
            Body::Joined(step, answer) => self.joined(who.viewer, step, answer),
            Body::Media(media) => {
                self.arrived(who.viewer);
                let mut seen = Vec::new();
                let viewer = &mut self.viewers[who.viewer];
                let ask = viewer.datagrams.receive(now, media, &mut seen);
                seen.iter().for_each(|media| self.see(who.viewer, media));
                self.ask_again(who.viewer, ask);
            }
            Body::Segment(number, media) => {
                self.arrived(who.viewer);
                self.viewers[who.viewer].stream.receive(number, media);
                if self.viewers[who.viewer].still == 0 {
                    self.read(who.viewer);
                }
                self.acknowledge(who.viewer);
            }
            Body::Bye => self.give_up(who.viewer, "the streamer said goodbye", PAUSE),
            _ => {}
        }
    }

    fn joined(&mut self, viewer: usize, step: u8, answer: Answer) {
        let here = &mut self.viewers[viewer];
        if here.phase != Phase::Joining || here.step != step {
            return;
        }
        match answer {
            Answer::Refused(after) => {
                self.give_up(viewer, "refused", Duration::from_secs(after.into()));
            }
            Answer::Go if step + 1 == STEPS => self.arrived(viewer),
            Answer::Go => {
                here.step += 1;
                self.take_step(viewer);
            }
        }
    }

    /// It is in: pictures come, or are about to.
    fn arrived(&mut self, viewer: usize) {
        let here = &mut self.viewers[viewer];
        if here.phase == Phase::Joining {
            here.phase = Phase::Watching;
            here.account.said = None;
            let who = here.who(viewer);
            self.agenda.put(self.now + REPORT_EVERY, Event::Viewer(who, Timer::Report));
        }
    }

    fn ask_again(&mut self, viewer: usize, ask: Option<Ask>) {
        if !self.viewers[viewer].kind.is_webrtc() {
            return;
        }
        match ask {
            Some(Ask::Again(first, last)) => {
                self.ask(viewer, Body::Nack(first, last), FEEDBACK_BYTES);
            }
            Some(Ask::KeyFrame) => self.ask(viewer, Body::Pli, FEEDBACK_BYTES),
            None => {}
        }
    }

    fn read(&mut self, viewer: usize) {
        while let Some(media) = self.viewers[viewer].stream.read() {
            if media.index + 1 == media.of {
                self.see(viewer, &media);
            }
        }
    }

    fn acknowledge(&mut self, viewer: usize) {
        let (next, window) = self.viewers[viewer].stream.acknowledgement();
        self.ask(viewer, Body::Ack(next, window), crate::tier_a::tcp::HEADER_BYTES);
    }

    fn see(&mut self, viewer: usize, media: &Media) {
        let here = &mut self.viewers[viewer];
        let who = here.who(viewer);
        here.see(self.now, media, self.streamer.hub.published());
        self.log.note(self.now, format_args!("  sees {who:?} {}", media.seq));
        self.check.seen(who, media.seq, media.key);
    }
}
