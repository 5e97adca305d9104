//! What the streamer does: pictures, sessions, and what viewers send it.

use std::task::{Context, Poll};
use std::time::Duration;

use lensline::distributor::{Cause, Delivery};
use lensline::egress::feed::FeedEnd;
use lensline::egress::rtsp;
use lensline::egress::session::End;
use lensline::egress::webrtc::course::{self, LOOK_EVERY, Step};
use lensline::egress::webrtc::liveness::Connection;
use lensline::egress::webrtc::rtcp::Report;

use super::World;
use super::watch::{CONTROL_BYTES, STEPS};
use crate::tier_a::agenda::{Event, Flow, Who};
use crate::tier_a::camera::{Brought, Picture, stamp};
use crate::tier_a::check::Rule;
use crate::tier_a::net::{Answer, Body, Packet, To};
use crate::tier_a::streamer::{Lane, OVERHEAD_BYTES, Session, length};
use crate::tier_a::tcp;

impl World<'_> {
    /// The camera takes a picture.
    pub(super) fn picture(&mut self) {
        let next = self.now + self.streamer.camera.interval();
        self.agenda.put(next, Event::Picture);
        let runs = self.streamer.runs();
        self.check.steady(runs && self.streamer.camera.is_well());
        if !runs {
            return;
        }
        match self.streamer.camera.picture(self.now) {
            Brought::Nothing => {}
            Brought::Lost(again) => {
                self.books.event(self.now, "the camera is lost");
                self.agenda.put(again, Event::Open);
            }
            Brought::Picture(picture) => self.publish(picture),
        }
        self.pace();
    }

    fn publish(&mut self, picture: Picture) {
        let Some(publisher) = &mut self.streamer.publisher else { return };
        let seq = publisher.publish(picture.key, picture);
        self.log.note(self.now, format_args!("  publishes {seq} {picture:?}"));
        self.check.published(seq, picture.key, picture.captured);
        self.books.published(&picture);
        for viewer in &mut self.viewers {
            viewer.published();
        }
    }

    /// The camera is opened, or tried to be.
    pub(super) fn open(&mut self) {
        if !self.streamer.runs() {
            return;
        }
        if let Some(again) = self.streamer.camera.open(self.now) {
            self.agenda.put(again, Event::Open);
        }
    }

    /// Heeds requests for key frames.
    pub(super) fn pace(&mut self) {
        if self.streamer.runs()
            && let Some(again) = self.streamer.camera.pace(self.now)
        {
            self.agenda.put(again, Event::Pace);
        }
    }

    /// Gives a session's frames on, until there are no more or there is no room.
    pub(super) fn pump(&mut self, who: Who) {
        while self.streamer.still == 0 {
            let now = self.now;
            let Some(session) = self.streamer.sessions.get_mut(&who) else { return };
            let Some(feed) = &mut session.feed else { return };
            if let Lane::Stream(stream) = &mut session.lane {
                stream.fill(now);
                if !stream.has_room() {
                    self.check.full(who);
                    break;
                }
            }
            if feed.asleep {
                break;
            }
            match feed.subscriber.poll_next(&mut Context::from_waker(&feed.waker)) {
                Poll::Pending => {
                    feed.asleep = true;
                    self.check.rested(who, feed.subscriber.counts());
                }
                Poll::Ready(None) => {
                    self.end(who, course::feed_end(None, FeedEnd::Finished));
                    return;
                }
                Poll::Ready(Some(delivery)) => self.give(who, &delivery),
            }
        }
        self.transmit(who);
    }

    fn give(&mut self, who: Who, delivery: &Delivery<Picture>) {
        let Delivery { seq, key, skipped, .. } = *delivery;
        self.log.note(self.now, format_args!("  gives {who:?} {seq} key={key} skipped={skipped}"));
        self.check.delivered(who, seq, key, skipped);
        self.books.skipped(skipped);
        let now = self.now;
        let Some(session) = self.streamer.sessions.get_mut(&who) else { return };
        let (route, address) = (session.route, session.address);
        let Some(packets) = session.feed.as_mut().map(|feed| feed.packets(delivery)) else {
            return;
        };
        match &mut session.lane {
            Lane::Stream(stream) => {
                stream.waiting.push_back(packets);
                let waiting = stream.waiting.len() as u64;
                let most = lensline::egress::feed::WAITING_FRAMES_MAX;
                self.check.hold(waiting <= most, Rule::Bound, || {
                    format!("{waiting} frames wait in an appsrc; {most} may")
                });
                return;
            }
            Lane::Webrtc { sent, .. } => packets.iter().for_each(|media| sent.note(now, *media)),
            Lane::Datagrams => {}
        }
        for media in packets {
            let bytes = length(&media) + OVERHEAD_BYTES;
            let to = To::Viewer(who, address);
            self.send(Packet { to, route, up: false, hop: 0, bytes, body: Body::Media(media) });
        }
    }

    /// Sends what TCP lets through.
    fn transmit(&mut self, who: Who) {
        let now = self.now;
        while let Some(session) = self.streamer.sessions.get_mut(&who)
            && let Lane::Stream(stream) = &mut session.lane
        {
            let (route, address) = (session.route, session.address);
            let Some((number, media)) = stream.sender.poll(now) else {
                if let Some(due) = stream.sender.due()
                    && stream.armed.is_none()
                {
                    stream.armed = Some(due);
                    self.agenda.put(due, Event::Timeout(Flow::Session(who)));
                }
                return;
            };
            let bytes = length(&media) + tcp::HEADER_BYTES;
            let (to, body) = (To::Viewer(who, address), Body::Segment(number, media));
            self.send(Packet { to, route, up: false, hop: 0, bytes, body });
        }
    }

    /// A session's TCP timer.
    pub(super) fn timeout(&mut self, who: Who) {
        if let Some(session) = self.streamer.sessions.get_mut(&who)
            && let Lane::Stream(stream) = &mut session.lane
        {
            stream.armed = None;
            stream.sender.timeout(self.now);
        }
        self.transmit(who);
    }

    /// A session is looked at.
    pub(super) fn look(&mut self, who: Who) {
        let Some(session) = self.streamer.sessions.get(&who) else { return };
        self.agenda.put(self.now + LOOK_EVERY, Event::Look(who));
        if self.streamer.still > 0 {
            return;
        }
        let end = match &session.lane {
            Lane::Webrtc { course, .. } => match course.look(stamp(self.now)) {
                Step::End(end) => Some(end),
                Step::Wait | Step::Feed => None,
            },
            Lane::Stream(stream) => {
                let stalled = stream.stalled.map_or(Duration::ZERO, |since| self.now - since);
                if stream.sender.unacknowledged(self.now) > rtsp::UNACKNOWLEDGED_MAX {
                    Some(End::Vanished)
                } else if stalled >= rtsp::STALL_TIMEOUT {
                    Some(course::feed_end(None, FeedEnd::Stalled))
                } else {
                    session.is_idle(self.now).then_some(End::Idle)
                }
            }
            Lane::Datagrams => session.is_idle(self.now).then_some(End::Idle),
        };
        if let Some(end) = end {
            self.end(who, end);
        }
    }

    /// A session ends, says so, and gives back what it held.
    pub(super) fn end(&mut self, who: Who, end: End) {
        let Some(session) = self.streamer.sessions.remove(&who) else { return };
        let name = self.viewers[who.viewer].name.clone();
        self.books.event(self.now, &format!("the session of {name} ends: {}", end.as_str()));
        self.log.note(self.now, format_args!("  ends {who:?} {}", end.as_str()));
        self.say(&session, who, Body::Bye);
        drop(session);
        self.check.ended(who, end);
    }

    /// Sends a session's viewer something that is no picture.
    pub(super) fn say(&mut self, session: &Session, who: Who, body: Body) {
        let to = To::Viewer(who, session.address);
        let (route, bytes) = (session.route, CONTROL_BYTES);
        self.send(Packet { to, route, up: false, hop: 0, bytes, body });
    }

    /// A packet of a viewer has come, from its address of that number.
    pub(super) fn serve(&mut self, who: Who, address: u32, body: Body) {
        let now = self.now;
        // While the process stands still, its kernel goes on with TCP; datagrams are lost.
        let by_kernel = matches!(body, Body::Ack(..)) && self.streamer.up;
        if !self.streamer.runs() && !by_kernel {
            return;
        }
        if let Body::Join(step) = body {
            self.join(who, address, step);
            return;
        }
        let Some(session) = self.streamer.sessions.get_mut(&who) else { return };
        let known = session.address == address;
        let Lane::Webrtc { heard, stats, sent, course } = &mut session.lane else {
            if known || matches!(session.lane, Lane::Datagrams) {
                self.serve_rtsp(who, body);
            }
            return;
        };
        // The peer's path is learnt from what it sends; from elsewhere than where pictures go, it
        // is no sign that they arrive.
        session.address = address;
        let heard = |report| heard.hear(stats, report, stamp(now));
        match body {
            Body::Report(lost) if known => {
                heard(Report { packets_lost: Some(lost), ..Report::default() });
                self.check.heard(who);
            }
            Body::Pli => {
                self.check.heard(who);
                self.check.asked(who);
                if heard(Report { key_frame_requests: 1, ..Report::default() }) {
                    self.streamer.hub.request_key_frame(Cause::Viewer);
                }
            }
            Body::Nack(first, last) => {
                let (again, route) = (sent.again(now, first, last), session.route);
                for media in again {
                    let (to, bytes) = (To::Viewer(who, address), length(&media) + OVERHEAD_BYTES);
                    let body = Body::Media(media);
                    self.send(Packet { to, route, up: false, hop: 0, bytes, body });
                }
            }
            Body::Bye => match course.connection(Connection::Closed, stamp(now)) {
                Step::End(end) => self.end(who, end),
                Step::Wait | Step::Feed => {}
            },
            _ => {}
        }
    }

    fn serve_rtsp(&mut self, who: Who, body: Body) {
        let now = self.now;
        let Some(session) = self.streamer.sessions.get_mut(&who) else { return };
        match (body, &mut session.lane) {
            (Body::Report(_), _) => {
                session.asked = Some(now);
                self.check.heard(who);
            }
            (Body::Ack(next, window), Lane::Stream(stream)) => {
                if stream.sender.acknowledge(now, next, window) {
                    self.check.heard(who);
                }
                self.pump(who);
            }
            (Body::Bye, _) => self.end(who, End::Left),
            _ => {}
        }
    }

    /// A step of joining; the right one lets the viewer in, the last one begins its frames.
    fn join(&mut self, who: Who, address: u32, step: u8) {
        let viewer = &self.viewers[who.viewer];
        let (kind, host, route) = (viewer.kind, viewer.host, viewer.route);
        // RTSP's door lets connections in, WHEP's lets requests in.
        let admission = u8::from(kind.is_webrtc());
        let mut answer = Answer::Go;
        if step == admission && !self.streamer.sessions.contains_key(&who) {
            match self.streamer.admit(self.now, kind, host, (route, address)) {
                Ok(session) => {
                    let patience = self.streamer.patience(kind);
                    self.check.admitted(who, session.kind, host, patience);
                    self.streamer.sessions.insert(who, session);
                    self.agenda.put(self.now + LOOK_EVERY, Event::Look(who));
                }
                Err(refusal) => {
                    self.check.refused(who, refusal, host);
                    answer = Answer::Refused(refusal.retry_after().as_secs() as u8);
                }
            }
        } else if step > admission && !self.streamer.sessions.contains_key(&who) {
            answer = Answer::Refused(1);
        }
        self.log.note(self.now, format_args!("  answers {who:?} step {step}: {answer:?}"));
        let to = To::Viewer(who, address);
        let (body, bytes) = (Body::Joined(step, answer), CONTROL_BYTES);
        self.send(Packet { to, route, up: false, hop: 0, bytes, body });
        if answer == Answer::Go && step >= admission {
            self.step_of(who, address, step + 1 == STEPS);
        }
    }

    /// A session's viewer took a step; with the last one its frames begin.
    fn step_of(&mut self, who: Who, address: u32, last: bool) {
        let now = self.now;
        let Some(session) = self.streamer.sessions.get_mut(&who) else { return };
        session.asked = Some(now);
        if !last || session.feed.is_some() {
            return;
        }
        if let Lane::Webrtc { course, .. } = &mut session.lane {
            session.address = address;
            match course.connection(Connection::Connected, stamp(now)) {
                Step::Feed => {}
                Step::Wait => return,
                Step::End(end) => {
                    self.end(who, end);
                    return;
                }
            }
        }
        match self.streamer.hub.subscribe() {
            Ok(subscriber) => {
                session.feed(who, subscriber, &self.woken);
                self.check.subscribed(who);
                self.check.fed(who);
                self.pump(who);
            }
            Err(full) => {
                let inside = self.streamer.sessions.len();
                self.check.hold(false, Rule::Bound, || {
                    format!("no seat for a session that was let in ({inside} inside): {full}")
                });
                self.end(who, End::Failed);
            }
        }
    }
}
