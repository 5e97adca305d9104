//! A plan carried out, from the first namespace to the last row.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lensline_clients::load_average;

use super::crowd::{Person, Place, Said, send_away};
use super::host::Host;
use super::machine;
use super::observe::Observer;
use super::roles::{traffic_arguments, turn_server, viewer_arguments};
use super::router::{Router, Side, Way};
use super::schedule::{Action, schedule, words};
use super::streamer::{HTTP_PORT, Streamer};
use crate::link::Counts;
use crate::people::line::Line;
use crate::plan::{Plan, Tier, Viewer};
use crate::record::{Event, Held, LinkRow, ROW_S, Record, Row};

/// From one look at what is to be done to the next.
const TURN_EVERY: Duration = Duration::from_millis(20);

/// How long the streamer may take to give back what those who left have held.
const REST_TIMEOUT: Duration = Duration::from_secs(20);

/// Threads and descriptors more than before that are no reason to wait: Tokio keeps threads for
/// blocking work for ten seconds.
const REST_MARGIN: u64 = 2;

/// A look before anybody comes.
const REST: Duration = Duration::from_millis(1500);

const STOP_TIMEOUT: Duration = Duration::from_secs(6);

pub(super) const STREAMER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);

/// Where the first of the others is; those behind a translation are seen at 10.10 instead of 10.9.
const PEOPLE: u32 = 0x0a09_0100;

/// How a plan is carried out.
#[derive(Clone, Debug)]
pub struct Options {
    /// Lensline's binary.
    pub lensline: PathBuf,
    /// Where logs go; it is there.
    pub folder: PathBuf,
    /// The name under which cgroups may be made: the cell's.
    pub cell: String,
    /// What this is a run of.
    pub version: String,
    /// Set where the run is to end early.
    pub stop: Arc<AtomicBool>,
}

/// Why a plan could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Something that a run needs was not to be had.
    #[error("{0}: {1}")]
    Io(&'static str, io::Error),
}

fn at(what: &'static str) -> impl Fn(io::Error) -> RunError {
    move |error| RunError::Io(what, error)
}

/// Everything that is there while a plan is carried out.
pub(super) struct Run<'a> {
    pub plan: &'a Plan,
    pub options: &'a Options,
    pub router: Router,
    pub streamer_host: Host,
    pub streamer: Streamer,
    observer: Observer,
    pub people: BTreeMap<String, Person>,
    /// Sources, sinks, attackers and the one who asks for health.
    others: BTreeMap<String, Person>,
    turn: Option<(Host, Child)>,
    pub said: mpsc::Sender<Said>,
    hearing: mpsc::Receiver<Said>,
    began: Instant,
    began_unix_ms: f64,
    pub record: Record,
    counts: BTreeMap<(String, Way), Counts>,
    traffic: BTreeMap<String, (u64, u64)>,
    hosts: u32,
    /// Faults that have begun and not ended.
    lasting: BTreeSet<usize>,
    /// Whether the run is over, and only those who are there are sent away.
    pub ending: bool,
    /// Whose cable is pulled when.
    pub cuts: Vec<(f64, String)>,
    /// When the streamer is to come again.
    pub restart_at_s: Option<f64>,
    /// Files the streamer might have open before a fault took them.
    pub files_before: Option<u64>,
}

/// Carries out a plan in real time. To be called in a cell.
///
/// # Errors
/// Where the machine does not give what it takes. What goes wrong with the streamer or its viewers
/// is no error, but in the record.
pub fn run(plan: &Plan, seed: u64, options: &Options) -> Result<Record, RunError> {
    let mut run = Run::new(plan, seed, options)?;
    run.invite();
    // Its camera's faults count from its start: nothing but the rest is between that and the run's.
    run.streamer.start(&run.streamer_host, -REST.as_secs_f64()).map_err(at("the streamer"))?;
    run.rest();
    run.record.before = run.observer.held();
    run.begin();
    run.carry_out();
    run.finish();
    Ok(run.record)
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan, seed: u64, options: &'a Options) -> Result<Self, RunError> {
        let router = Router::start(&plan.link, seed).map_err(at("the router"))?;
        let mut undone = Vec::new();
        let streamer_host = Host::new(STREAMER).map_err(at("the streamer's host"))?;
        let side = Side::Streamer(plan.streamer.via.clone());
        let device = Arc::clone(&streamer_host.device);
        router.network().add(STREAMER, device, side, false);
        let turn = match plan.viewer.iter().any(|viewer| viewer.turn_only) {
            true => turn_server(&router, options).map_err(|error| undone.push(error)).ok(),
            false => None,
        };
        let streamer = Streamer::new(plan, options, &mut undone).map_err(at("the streamer"))?;
        let began = Instant::now();
        let observer = Observer::start(&streamer_host, began).map_err(at("the observer"))?;
        let (said, hearing) = mpsc::channel();
        Ok(Self {
            plan,
            options,
            router,
            streamer_host,
            streamer,
            observer,
            people: BTreeMap::new(),
            others: BTreeMap::new(),
            turn,
            said,
            hearing,
            began,
            began_unix_ms: 0.0,
            record: empty(plan, seed, options, undone),
            counts: BTreeMap::new(),
            traffic: BTreeMap::new(),
            hosts: 0,
            lasting: BTreeSet::new(),
            ending: false,
            cuts: Vec::new(),
            restart_at_s: None,
            files_before: None,
        })
    }

    /// Nobody is there yet.
    fn rest(&mut self) {
        std::thread::sleep(REST);
        self.observer.catch_up();
    }

    fn begin(&mut self) {
        self.began = Instant::now();
        self.observer.restart(self.began);
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.record.began_unix_s = unix.as_secs();
        self.began_unix_ms = unix.as_secs_f64() * 1e3;
        let url = format!("http://{STREAMER}:{HTTP_PORT}/healthz");
        let arguments = ["health", "--url", &url].map(String::from).to_vec();
        self.start_other("health", Side::Core, arguments);
    }

    /// Seconds since the run began.
    pub fn now_s(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Notes that something happened.
    pub fn note(&mut self, what: impl Into<String>) {
        let (at_s, what) = (self.now_s(), what.into());
        self.record.events.push(Event { at_s, what });
    }

    fn carry_out(&mut self) {
        let mut ahead = schedule(self.plan).into_iter().peekable();
        let mut rows = 1;
        let mut end_s = self.plan.duration_s;
        while self.now_s() < end_s {
            if self.options.stop.load(Ordering::Relaxed) {
                self.note("stopped before its end");
                self.record.undone.push("the run was stopped before its end".into());
                end_s = 0.0;
            }
            while let Some((_, action)) = ahead.next_if(|(at_s, _)| *at_s <= self.now_s()) {
                self.act(action);
            }
            self.listen();
            self.pull_cables();
            self.watch_streamer();
            if self.now_s() >= f64::from(rows) * ROW_S {
                rows += 1;
                self.row();
            }
            std::thread::sleep(TURN_EVERY);
        }
        self.row();
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Join(name) => {
                let now_s = self.now_s();
                if let Some(person) = self.people.get_mut(&name) {
                    person.join(now_s);
                }
            }
            Action::Leave(name) => {
                if let Some(person) = self.people.get_mut(&name) {
                    person.tell("leave");
                }
            }
            Action::Change(link, index) => self.change(&link, index),
            Action::TrafficBegins(index) => self.begin_traffic(index),
            Action::TrafficEnds(index) => self.end_traffic(index),
            Action::FaultBegins(index) | Action::FaultEnds(index) => {
                self.fault_at(index, matches!(action, Action::FaultBegins(_)));
            }
        }
    }

    /// Lets a fault begin or end. Of several alike at a time, the first begins and the last ends.
    fn fault_at(&mut self, index: usize, begins: bool) {
        let plan = self.plan;
        let fault = &plan.fault[index];
        let what = words(&fault.kind);
        let alike = |lasting: &BTreeSet<usize>| {
            lasting.iter().any(|other| plan.fault[*other].kind == fault.kind)
        };
        let acts = if begins {
            let first = !alike(&self.lasting);
            if fault.for_s > 0.0 {
                self.lasting.insert(index);
            }
            first
        } else {
            self.lasting.remove(&index) && !alike(&self.lasting)
        };
        self.note(format!("{}{what}", if begins { "" } else { "end of " }));
        let done = if acts { self.fault(fault, begins) } else { Ok(()) };
        if let Err(error) = done {
            let undone = format!("{what}: {error}");
            if !self.record.undone.contains(&undone) {
                self.record.undone.push(undone);
            }
        }
    }

    /// What lasts at the end of the run is ended, so that everybody can leave in good order.
    fn end_faults(&mut self) {
        let lasting = std::mem::take(&mut self.lasting);
        self.ending = true;
        for index in lasting {
            let plan = self.plan;
            // What cannot be ended goes with the cell.
            let _ = self.fault(&plan.fault[index], false);
        }
        if self.restart_at_s.is_some() {
            self.restart_at_s = Some(0.0);
            self.watch_streamer();
        }
    }

    fn change(&mut self, link: &str, index: usize) {
        let Some(change) = self.plan.link.get(link).and_then(|pair| pair.change.get(index)) else {
            return;
        };
        let mut network = self.router.network();
        for (way, change) in [(Way::Down, &change.down), (Way::Up, &change.up)] {
            if let Some(shape) = network.shape(link, way) {
                network.reshape(link, way, change.of(&shape));
            }
        }
        drop(network);
        self.note(format!("{link} changes"));
    }

    /// An address that nobody has had yet.
    pub fn new_address(&mut self) -> Ipv4Addr {
        self.hosts += 1;
        Ipv4Addr::from_bits(PEOPLE + self.hosts)
    }

    /// Puts everybody's machine on the network, and starts the viewers, who wait to be told to
    /// join: neither takes part of what is measured.
    fn invite(&mut self) {
        let plan = self.plan;
        for viewer in &plan.viewer {
            for (name, _) in viewer.each() {
                if let Err(error) = self.invite_one(viewer, &name) {
                    self.record.undone.push(format!("{name}: {error}"));
                }
            }
        }
    }

    fn invite_one(&mut self, viewer: &Viewer, name: &str) -> io::Result<()> {
        let address = self.new_address();
        let outside = viewer.nat.then(|| outside(address));
        let side = Side::Viewer(viewer.via.clone());
        let place = Place { address, side, outside, turn_only: viewer.turn_only };
        let log = self.options.folder.join(format!("{name}.log"));
        let arguments = viewer_arguments(viewer, self.plan);
        let mut person = Person::new(&self.router, place, arguments, &log)?;
        person.until_s = viewer.leave_s.unwrap_or(f64::INFINITY);
        person.start(name, &self.said)?;
        self.people.insert(name.into(), person);
        Ok(())
    }

    /// Starts somebody who is no viewer.
    pub fn start_other(&mut self, name: &str, side: Side, arguments: Vec<String>) {
        let place = Place { address: self.new_address(), side, outside: None, turn_only: false };
        let log = self.options.folder.join(format!("{name}.log"));
        let started = Person::new(&self.router, place, arguments, &log).and_then(|mut person| {
            person.start(name, &self.said)?;
            Ok(person)
        });
        match started {
            Ok(person) => drop(self.others.insert(name.into(), person)),
            Err(error) => self.record.undone.push(format!("{name}: {error}")),
        }
    }

    /// Sends somebody who is no viewer away.
    pub fn end_other(&mut self, name: &str) {
        if let Some(mut person) = self.others.remove(name) {
            self.router.network().cut(person.id);
            person.kill();
        }
    }

    fn pull_cables(&mut self) {
        let now_s = self.now_s();
        for (_, name) in self.cuts.extract_if(.., |(at_s, _)| *at_s <= now_s) {
            if let Some(person) = self.others.get(&name) {
                self.router.network().cut(person.id);
            }
        }
    }

    fn begin_traffic(&mut self, index: usize) {
        let traffic = &self.plan.traffic[index];
        let sink = format!("{} sink", traffic.name);
        // The sink is the next to come.
        let address = Ipv4Addr::from_bits(PEOPLE + self.hosts + 1);
        let of = |role| traffic_arguments(traffic, role, address, self.record.seed);
        let (to, from) = (of("sink"), of("source"));
        self.start_other(&sink, Side::Viewer(traffic.via.clone()), to);
        // It listens within a moment, and sources try again.
        self.start_other(&traffic.name, Side::Core, from);
        self.note(format!("{} begins", traffic.name));
    }

    fn end_traffic(&mut self, index: usize) {
        let name = &self.plan.traffic[index].name;
        self.end_other(name);
        self.end_other(&format!("{name} sink"));
        self.note(format!("{name} ends"));
    }

    fn listen(&mut self) {
        self.observer.catch_up();
        while let Ok((name, at, line)) = self.hearing.try_recv() {
            let at_s = at.saturating_duration_since(self.began).as_secs_f64();
            match (line, self.people.get_mut(&name)) {
                (Some(line), Some(person)) => {
                    let words = words_of(&line);
                    person.hear(line, at_s, self.began_unix_ms);
                    if let Some(words) = words {
                        self.note(format!("{name} {words}"));
                    }
                }
                (None, Some(person)) => {
                    let early = at_s < person.until_s && !person.killed;
                    person.gone();
                    if early {
                        self.note(format!("the process of {name} has ended"));
                    }
                }
                (Some(Line::Ended { why }), None) if !why.contains("stdin was closed") => {
                    self.record.undone.push(format!("{name}: {why}"));
                }
                (Some(Line::Health { asked, failed }), None) => {
                    self.record.health = (failed, asked);
                }
                (Some(Line::Bytes { total }), None) => {
                    let name = name.trim_end_matches(" sink").to_owned();
                    self.traffic.entry(name).or_default().0 = total;
                }
                _ => {}
            }
        }
    }

    fn watch_streamer(&mut self) {
        if let Some(how) = self.streamer.ended() {
            self.note(format!("the streamer ended: {how}"));
            // As its service manager would.
            self.restart_at_s = Some(self.now_s() + 1.0);
        }
        if self.restart_at_s.is_some_and(|at_s| at_s <= self.now_s()) {
            self.restart_at_s = None;
            let now_s = self.now_s();
            match self.streamer.start(&self.streamer_host, now_s) {
                Ok(()) => self.note("the streamer is ready again"),
                Err(error) => self.record.undone.push(error.to_string()),
            }
        }
        self.record.crashes = self.streamer.crashes;
    }

    fn row(&mut self) {
        let at_s = self.now_s();
        let seconds = at_s - self.record.rows.last().map_or(0.0, |row| row.at_s);
        if seconds <= 0.0 {
            return;
        }
        let mut row = Row { at_s, streamer: self.observer.row(), ..Row::default() };
        for (link, way, counts, queue, shape) in self.router.network().look() {
            let before = self.counts.insert((link.clone(), way), counts).unwrap_or_default();
            let kbps = |now: u64, before: u64| (now - before) as f64 * 8e-3 / seconds;
            let name = if way == Way::Up { format!("{link} up") } else { link };
            let one = LinkRow {
                capacity_kbps: if shape.blackout { 0.0 } else { shape.rate_kbps.unwrap_or(0.0) },
                offered_kbps: kbps(counts.offered_bytes, before.offered_bytes),
                delivered_kbps: kbps(counts.delivered_bytes, before.delivered_bytes),
                queue_ms: queue.as_secs_f64() * 1e3,
                lost: counts.lost - before.lost,
                dropped: counts.dropped - before.dropped,
            };
            row.links.insert(name, one);
        }
        let observer = &self.observer;
        for (name, person) in self.people.iter_mut().filter(|(_, person)| person.is_due(at_s)) {
            let seen = person.row(at_s, seconds, |at_s| observer.published_by(at_s));
            row.viewers.insert(name.clone(), seen);
        }
        for (name, (total, before)) in &mut self.traffic {
            let more = total.saturating_sub(std::mem::replace(before, *total));
            row.traffic_kbps.insert(name.clone(), more as f64 * 8e-3 / seconds);
        }
        self.record.rows.push(row);
    }

    fn finish(&mut self) {
        let end_s = self.now_s();
        self.end_faults();
        send_away(&mut self.others);
        send_away(&mut self.people);
        let rested = self.wait_for_rest();
        self.record.after = rested;
        self.note("everybody has left");
        for (name, person) in &self.people {
            let account = person.account(end_s, |at_s| self.observer.published_by(at_s));
            self.record.viewers.insert(name.clone(), account);
        }
        if let Some(how) = self.streamer.stop(STOP_TIMEOUT) {
            self.record.crashes += 1;
            self.note(how);
        }
        // Also here: the outer process may be gone.
        machine::remove_cgroups(&self.options.cell);
        if let Some((_, mut server)) = self.turn.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        self.record.conditions = format!("{cores} cores, load average {}", load_average());
    }

    /// What the streamer holds once it holds no more than before, or does not get there.
    fn wait_for_rest(&mut self) -> Option<Held> {
        let deadline = Instant::now() + REST_TIMEOUT;
        loop {
            std::thread::sleep(Duration::from_millis(250));
            self.observer.catch_up();
            let (before, now) = (self.record.before?, self.observer.held());
            let Some(now) = now else {
                if Instant::now() > deadline {
                    return None;
                }
                continue;
            };
            let rests = now.sessions <= before.sessions
                && now.threads <= before.threads + REST_MARGIN
                && now.descriptors <= before.descriptors + REST_MARGIN
                && now.guards <= before.guards;
            if rests || Instant::now() > deadline {
                return Some(now);
            }
        }
    }
}

/// Where a host behind a translation is seen.
pub(super) fn outside(address: Ipv4Addr) -> Ipv4Addr {
    Ipv4Addr::from_bits(address.to_bits() + (1 << 16))
}

/// What is worth an entry among the events.
fn words_of(line: &Line) -> Option<String> {
    match line {
        Line::Refused { status, why, .. } => Some(format!("is refused with {status}: {why}")),
        Line::Failed { why } => Some(format!("does not get in: {why}")),
        Line::Rejoining { why } => Some(format!("joins again: {why}")),
        Line::Ended { why } => Some(format!("ends: {why}")),
        _ => None,
    }
}

fn empty(plan: &Plan, seed: u64, options: &Options, undone: Vec<String>) -> Record {
    Record {
        plan: plan.clone(),
        tier: Tier::B,
        seed,
        version: options.version.clone(),
        began_unix_s: 0,
        conditions: String::new(),
        rows: Vec::new(),
        events: Vec::new(),
        viewers: BTreeMap::new(),
        before: None,
        after: None,
        crashes: 0,
        health: (0, 0),
        undone,
        violations: Vec::new(),
    }
}
