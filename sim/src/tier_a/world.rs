//! All of it together: takes one event after the other, and has each side do what it does.

mod faults;
mod rows;
mod serve;
mod traffic;
mod watch;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::task::Context;
use std::time::Duration;

use lensline::config::Config;

use super::agenda::{Agenda, Event, Flow, Timer, Who};
use super::camera::Camera;
use super::check::Checker;
use super::log::Log;
use super::net::{Net, Packet, To};
use super::streamer::{Streamer, door};
use super::viewer::{Phase, Viewer};
use super::wake::{Task, Woken};
use super::{Options, Run};
use crate::plan::{Plan, PlanError};
use crate::record::ROW_S;
use rows::Books;
use traffic::Noise;

/// A stream of random numbers of its own for each thing that needs one, so that leaving one thing
/// out does not change the others (FNV-1a).
pub fn seed(seed: u64, name: &str) -> u64 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    name.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), mix)
}

/// Seconds of a plan as a time of the run.
pub fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// A run under way.
pub struct World<'a> {
    plan: &'a Plan,
    seed: u64,
    now: Duration,
    agenda: Agenda,
    net: Net,
    woken: Woken,
    streamer: Streamer,
    viewers: Vec<Viewer>,
    noise: Vec<Noise>,
    check: Checker,
    log: Log,
    books: Books,
}

impl<'a> World<'a> {
    /// A run that is about to begin.
    pub fn new(plan: &'a Plan, run_seed: u64, options: Options) -> Result<Self, PlanError> {
        let wrong = |what: String| PlanError::Wrong(plan.name.clone(), what);
        let config: Config = toml::Value::Table(plan.streamer.config.clone())
            .try_into()
            .map_err(|error: toml::de::Error| wrong(format!("streamer.config: {error}")))?;
        let mut net = Net::new(&plan.link, &|name| seed(run_seed, name));
        let viewers = viewers(plan, &mut net);
        let noise = traffic::noise(plan, run_seed, &mut net);
        let watchdog = config.camera.first().map(|camera| camera.watchdog.clone());
        let camera = Camera::new(
            plan.camera.clone(),
            watchdog.unwrap_or_default(),
            seed(run_seed, "camera"),
        );
        let (interval, limits, woken) = (camera.interval(), door(&config), Woken::default());
        let streamer = Streamer::new(config, camera, plan.camera.framerate, &woken)
            .map_err(|error| wrong(format!("streamer.config: {error}")))?;
        let names = viewers.iter().map(|viewer| viewer.name.as_str());
        let check = Checker::new(names, streamer.ring, interval, limits);
        let mut world = Self {
            plan,
            seed: run_seed,
            now: Duration::ZERO,
            agenda: Agenda::default(),
            net,
            woken,
            streamer,
            viewers,
            noise,
            check,
            log: Log::new(options.keep),
            books: Books::default(),
        };
        world.begin();
        Ok(world)
    }

    fn begin(&mut self) {
        self.agenda.put(Duration::ZERO, Event::Open);
        self.agenda.put(Duration::ZERO, Event::Picture);
        self.agenda.put(seconds(ROW_S), Event::Second);
        for (link, pair) in self.plan.link.values().enumerate() {
            for (index, change) in pair.change.iter().enumerate() {
                self.agenda.put(seconds(change.at_s), Event::Change(link, index));
            }
        }
        for (index, fault) in self.plan.fault.iter().enumerate() {
            self.plan_fault(index, fault);
        }
        let mut number = 0;
        for viewer in &self.plan.viewer {
            for (_, at_s) in viewer.each() {
                let who = Who { viewer: number, attempt: 0 };
                self.agenda.put(seconds(at_s), Event::Viewer(who, Timer::Join));
                if let Some(leave_s) = viewer.leave_s {
                    let leave = Timer::Leave(watch::GOODBYES);
                    self.agenda.put(seconds(leave_s), Event::Viewer(who, leave));
                }
                number += 1;
            }
        }
        for (index, traffic) in self.plan.traffic.iter().enumerate() {
            let first = traffic::first(&self.plan.traffic, index);
            for copy in 0..traffic.count as usize {
                self.agenda.put(seconds(traffic.at_s), Event::Traffic(first + copy));
            }
        }
        self.key_frames();
    }

    /// Carries it out to its end, or to its first violation where that is asked for.
    pub fn run(mut self, options: Options) -> Run {
        let end = seconds(self.plan.duration_s);
        while let Some((at, event)) = self.agenda.take(end) {
            self.check.time(at);
            self.now = at;
            self.log.note(at, format_args!("{event:?}"));
            self.step(event);
            self.settle();
            if options.stop_at_violation && !self.check.violations().is_empty() {
                return self.finish();
            }
        }
        self.now = end;
        self.check.time(end);
        self.close();
        self.finish()
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Way(way) => self.net.look(self.now, way, &mut self.agenda),
            Event::Picture => self.picture(),
            Event::Pace => self.pace(),
            Event::Open => self.open(),
            Event::Look(who) => self.look(who),
            Event::Timeout(Flow::Session(who)) => self.timeout(who),
            Event::Timeout(Flow::Traffic(index)) => self.noise_timeout(index),
            Event::Viewer(who, timer) => self.timer(who, timer),
            Event::Traffic(index) => self.noise(index),
            Event::Fault(index, begins) => self.fault(index, begins),
            Event::Change(link, index) => self.change(link, index),
            Event::Second => self.second(),
        }
    }

    /// Has everybody do what follows from a step: packets that arrived, tasks that were woken.
    fn settle(&mut self) {
        loop {
            if let Some(packet) = self.net.arrived.pop_front() {
                self.arrive(packet);
            } else if !self.wake() {
                break;
            }
        }
    }

    fn arrive(&mut self, packet: Packet) {
        self.log.note(self.now, format_args!("  arrives {:?} {:?}", packet.to, packet.body));
        match packet.to {
            To::Streamer(who, address) => self.serve(who, address, packet.body),
            To::Viewer(who, address) => self.watch(who, address, packet.body),
            To::Traffic(_) => self.noise_arrives(&packet),
        }
    }

    /// Polls those who were woken; whether there were any.
    fn wake(&mut self) -> bool {
        let woken = self.woken.take();
        for task in &woken {
            match task {
                Task::Feed(who) => {
                    self.check.woken(*who);
                    if let Some(feed) =
                        self.streamer.sessions.get_mut(who).and_then(|s| s.feed.as_mut())
                    {
                        feed.flag.lower();
                        feed.asleep = false;
                    }
                    self.pump(*who);
                }
                Task::Camera => self.key_frames(),
            }
        }
        !woken.is_empty()
    }

    /// Hears who asks for key frames, and waits to be woken by the next who does.
    fn key_frames(&mut self) {
        self.streamer.camera_flag.lower();
        if !self.streamer.runs() {
            return;
        }
        let mut context = Context::from_waker(&self.streamer.camera_waker);
        while pin!(self.streamer.hub.key_frame_requested()).poll(&mut context).is_ready() {
            self.streamer.camera.request(self.now);
        }
        self.pace();
    }

    fn send(&mut self, packet: Packet) {
        self.net.send(self.now, packet, &mut self.agenda);
    }

    fn change(&mut self, link: usize, index: usize) {
        let change = self.plan.link.values().nth(link).and_then(|pair| pair.change.get(index));
        if let Some(change) = change {
            let shape = |direction, shape: &_| match direction {
                0 => change.down.of(shape),
                _ => change.up.of(shape),
            };
            self.net.change(self.now, link, shape, &mut self.agenda);
        }
    }

    /// Everybody leaves; nothing may be left.
    fn close(&mut self) {
        for viewer in &mut self.viewers {
            if matches!(viewer.phase, Phase::Watching) {
                viewer.gap(self.now);
            }
        }
        if self.streamer.up {
            self.stop_streamer();
        }
    }

    fn finish(self) -> Run {
        let violations = self.check.violations().to_vec();
        let record = self.books.record(self.plan, self.seed, self.viewers, &violations);
        Run { record, violations, trace: self.log.into_lines() }
    }
}

/// Everybody who watches, each at an address of its own.
fn viewers(plan: &Plan, net: &mut Net) -> Vec<Viewer> {
    let mut viewers = Vec::new();
    for viewer in &plan.viewer {
        for (name, _) in viewer.each() {
            let route = net.route(plan.streamer.via.iter().chain(&viewer.via));
            let number = u32::try_from(viewers.len()).unwrap_or(u32::MAX >> 8);
            let host = IpAddr::V4(Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 1)) + number));
            viewers.push(Viewer::new(name, viewer.kind, viewer.nat, host, route));
        }
    }
    viewers
}

/// How many there are of each name, for what is counted in a second.
type ByName<T> = BTreeMap<String, T>;
