//! What goes wrong, as far as models can have it.

use lensline::admission::Kind;
use lensline::egress::session::End;

use super::{World, seconds, seed};
use crate::plan::{Fault, FaultKind, matches};
use crate::tier_a::agenda::{Event, Timer};
use crate::tier_a::camera::Camera;
use crate::tier_a::net::Body;
use crate::tier_a::streamer::{Lane, Streamer};
use crate::tier_a::viewer::Phase;

impl World<'_> {
    /// Puts a fault down, or notes that there is no model for it.
    pub(super) fn plan_fault(&mut self, index: usize, fault: &Fault) {
        let undone = match &fault.kind {
            FaultKind::Cpu { .. } => "CPU share",
            FaultKind::Memory { .. } => "memory limit",
            FaultKind::FdLimit { .. } => "descriptor limit",
            FaultKind::DiskFull => "full disk",
            FaultKind::ClockStep { .. } => "clock step",
            FaultKind::TabAsleep { .. } => "tab asleep",
            FaultKind::SlowlorisHttp { .. } | FaultKind::SlowlorisRtsp { .. } => "slow-loris",
            FaultKind::HalfOpen { .. } => "half-open TCP",
            _ => {
                self.agenda.put(seconds(fault.at_s), Event::Fault(index, true));
                let end = seconds(fault.at_s) + seconds(fault.for_s);
                self.agenda.put(end, Event::Fault(index, false));
                return;
            }
        };
        self.books.undone(format!("{undone}: tier A has no model of it"));
    }

    /// A fault begins or ends.
    pub(super) fn fault(&mut self, index: usize, begins: bool) {
        let Some(fault) = self.plan.fault.get(index) else { return };
        let word = if begins { "begins" } else { "ends" };
        self.books.event(self.now, &format!("{:?} {word}", fault.kind));
        match &fault.kind {
            FaultKind::Camera { what } => self.streamer.camera.fault(*what, begins),
            FaultKind::Blackout { link } => {
                if let Some(link) = self.net.link(link) {
                    self.net.blackout(self.now, link, begins, &mut self.agenda);
                }
            }
            FaultKind::StopViewer { viewer } => {
                self.each(viewer, |world, viewer| world.stand_still(viewer, begins));
            }
            FaultKind::KillViewer { viewer } if begins => self.each(viewer, Self::kill),
            FaultKind::KillViewer { viewer } if fault.for_s > 0.0 => {
                self.each(viewer, |world, viewer| {
                    if world.viewers[viewer].phase == Phase::Away {
                        let who = world.viewers[viewer].who(viewer);
                        world.agenda.put(world.now, Event::Viewer(who, Timer::Join));
                    }
                });
            }
            FaultKind::Roam { viewer } | FaultKind::Rebind { viewer } if begins => {
                let rebind = matches!(fault.kind, FaultKind::Rebind { .. });
                self.each(viewer, |world, viewer| {
                    // Only who is behind an address translation has one that can forget.
                    let viewer = &mut world.viewers[viewer];
                    viewer.address += u32::from(!rebind || viewer.nat);
                });
            }
            FaultKind::StopStreamer => self.stand_still_all(begins),
            FaultKind::RestartStreamer if begins && self.streamer.up => self.stop_streamer(),
            FaultKind::KillStreamer if begins && self.streamer.up => self.kill_streamer(),
            FaultKind::RestartStreamer | FaultKind::KillStreamer if !begins => {
                self.start_streamer()
            }
            _ => {}
        }
    }

    fn each(&mut self, pattern: &str, act: impl Fn(&mut Self, usize)) {
        for viewer in 0..self.viewers.len() {
            if matches(pattern, &self.viewers[viewer].name) {
                act(self, viewer);
            }
        }
    }

    fn stand_still(&mut self, viewer: usize, begins: bool) {
        let still = &mut self.viewers[viewer].still;
        *still = if begins { *still + 1 } else { still.saturating_sub(1) };
        if *still == 0 {
            self.go_on(viewer);
        }
    }

    /// SIGSTOP for the streamer, or SIGCONT.
    fn stand_still_all(&mut self, begins: bool) {
        let still = &mut self.streamer.still;
        *still = if begins { *still + 1 } else { still.saturating_sub(1) };
        if self.streamer.still > 0 || !self.streamer.up {
            return;
        }
        self.check.resumed();
        self.key_frames();
        // A camera that was to be opened meanwhile, or is up already.
        if !self.streamer.camera.is_up() {
            self.agenda.put(self.now, Event::Open);
        }
        let everybody: Vec<_> = self.streamer.sessions.keys().copied().collect();
        everybody.into_iter().for_each(|who| self.pump(who));
    }

    /// SIGTERM: everybody is told, and all is given back.
    pub(super) fn stop_streamer(&mut self) {
        self.streamer.still = 0;
        drop(self.streamer.publisher.take());
        self.settle();
        let left: Vec<_> = self.streamer.sessions.keys().copied().collect();
        for who in left {
            self.end(who, End::Shutdown);
        }
        self.settle();
        self.account();
        self.streamer.up = false;
    }

    /// Compares what the product holds with what it should.
    pub(super) fn account(&mut self) {
        let sessions = |kind| self.streamer.admission.sessions(kind);
        let subscribers = self.streamer.hub.subscribers();
        self.check.inside(sessions(Kind::Webrtc), sessions(Kind::Rtsp), subscribers);
    }

    /// SIGKILL: the kernel closes TCP, and nobody says goodbye.
    fn kill_streamer(&mut self) {
        let sessions = std::mem::take(&mut self.streamer.sessions);
        for (who, session) in &sessions {
            if matches!(session.lane, Lane::Stream(_)) {
                self.say(session, *who, Body::Bye);
            }
        }
        drop(sessions);
        self.streamer.up = false;
        self.check.restarted();
    }

    fn start_streamer(&mut self) {
        if self.streamer.up {
            return;
        }
        let watchdog = self.streamer.camera.watchdog();
        let number = seed(self.seed, "camera").wrapping_add(self.now.as_nanos() as u64);
        let mut camera = Camera::new(self.plan.camera.clone(), watchdog, number);
        camera.inherit(&self.streamer.camera);
        let config = self.streamer.config.clone();
        let rate = self.plan.camera.framerate;
        // The limits were good before.
        let Ok(streamer) = Streamer::new(config, camera, rate, &self.woken) else { return };
        self.streamer = streamer;
        self.check.restarted();
        self.agenda.put(self.now, Event::Open);
        self.key_frames();
    }
}
