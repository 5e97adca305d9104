//! The people: each a process on a host of its own, and what it says of itself.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use lensline_clients::GAP_MIN;
use rustix::process::Signal;

use super::host::Host;
use super::router::{HostId, Router, Side};
use crate::people::line::{Line, Look};
use crate::record::{Account, ViewerRow};

/// Who has said nothing for so long sees nothing: they tell five times a second.
const SILENCE_S: f64 = 0.5;

/// How long somebody who was asked to go may take.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);

/// Who said what when; nothing, where nothing more will come.
pub type Said = (String, Instant, Option<Line>);

/// One of the people.
pub struct Person {
    /// The machine it sits at.
    pub host: Host,
    /// That machine's place in the network.
    pub id: HostId,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
    stdin: Option<ChildStdin>,
    /// Whether it has been told to join.
    joined: bool,
    /// When it is to be gone, by the plan.
    pub until_s: f64,
    /// Whether a fault has killed it, and may bring it back.
    pub killed: bool,
    /// What came of it.
    pub account: Account,
    seen: Seen,
}

/// What is known of a viewer between two looks.
#[derive(Default)]
struct Seen {
    /// Counts of processes before this one, where it was killed and came again.
    before: Totals,
    now: Totals,
    /// At the last row.
    row: Totals,
    /// Frames published by the look that the last row counted up to.
    row_published: Option<u64>,
    /// Whether it has asked to come in: later attempts are of the same joining.
    asked: bool,
    /// When its last picture came.
    last_picture_s: Option<f64>,
    /// When it first and last said that it had seen pictures, and how many.
    first_look: Option<(f64, u64)>,
    last_look: Option<(f64, u64)>,
    /// Latencies since the last row.
    latencies_ms: Vec<f64>,
}

#[derive(Clone, Copy, Default)]
struct Totals {
    frames: u64,
    kbits: f64,
    lost: u64,
    damaged: u64,
}

impl Totals {
    fn plus(self, other: Self) -> Self {
        Self {
            frames: self.frames + other.frames,
            kbits: self.kbits + other.kbits,
            lost: self.lost + other.lost,
            damaged: self.damaged + other.damaged,
        }
    }
}

/// How somebody comes into the network.
pub struct Place {
    /// Its address.
    pub address: Ipv4Addr,
    /// Where it stands.
    pub side: Side,
    /// The address it is seen at, where there is a translation.
    pub outside: Option<Ipv4Addr>,
    /// Whether it speaks UDP with the core only.
    pub turn_only: bool,
}

impl Person {
    /// Puts somebody's machine on the network. `arguments` are those of this program.
    pub fn new(
        router: &Router,
        place: Place,
        arguments: Vec<String>,
        log: &Path,
    ) -> io::Result<Self> {
        let host = Host::new(place.address)?;
        let device = std::sync::Arc::clone(&host.device);
        let mut network = router.network();
        let id = network.add(place.address, device, place.side, place.turn_only);
        if let Some(outside) = place.outside {
            network.translate(id, place.address, outside);
        }
        drop(network);
        Ok(Self {
            host,
            id,
            arguments,
            log: log.into(),
            child: None,
            stdin: None,
            joined: false,
            until_s: f64::INFINITY,
            killed: false,
            account: Account::default(),
            seen: Seen::default(),
        })
    }

    /// Starts the process; what it says goes to `said` under `name`.
    pub fn start(&mut self, name: &str, said: &mpsc::Sender<Said>) -> io::Result<()> {
        self.seen.before = self.seen.before.plus(std::mem::take(&mut self.seen.now));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(&self.arguments).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = self.host.spawn(command)?;
        self.stdin = child.stdin.take();
        let stdout = child.stdout.take().map(BufReader::new);
        self.child = Some(child);
        let (name, said) = (name.to_owned(), said.clone());
        std::thread::Builder::new().name("listener".into()).spawn(move || {
            for line in stdout.into_iter().flat_map(BufRead::lines).map_while(Result::ok) {
                if let Ok(line) = serde_json::from_str(&line)
                    && said.send((name.clone(), Instant::now(), Some(line))).is_err()
                {
                    return;
                }
            }
            let _ = said.send((name, Instant::now(), None));
        })?;
        Ok(())
    }

    /// Whether it has joined, and its process runs.
    pub fn is_there(&self) -> bool {
        self.joined && self.child.is_some()
    }

    /// Whether it is to be there now.
    pub fn is_due(&self, now_s: f64) -> bool {
        self.joined && now_s <= self.until_s && !self.killed
    }

    /// Lets a viewer join, whose process waits for that since it was started.
    pub fn join(&mut self, at_s: f64) {
        if !std::mem::replace(&mut self.joined, true) {
            self.account.joined_s = at_s;
        }
        self.tell("join");
    }

    /// Says something to it.
    pub fn tell(&mut self, word: &str) {
        if let Some(stdin) = &mut self.stdin {
            // Who is gone does not hear it.
            let _ = writeln!(stdin, "{word}");
        }
    }

    /// Sends a signal to it and all it has started.
    pub fn signal(&self, signal: Signal) {
        let group = self.child.as_ref().and_then(|child| i32::try_from(child.id()).ok());
        if let Some(group) = group.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, signal);
        }
    }

    /// Kills it and all it has started.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.stdin = None;
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Notes that its process has ended.
    pub fn gone(&mut self) {
        self.stdin = None;
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    /// Takes in what it said at `at_s`.
    pub fn hear(&mut self, line: Line, at_s: f64, began_unix_ms: f64) {
        match line {
            // A browser takes a while until it can ask.
            Line::Joining if !std::mem::replace(&mut self.seen.asked, true) => {
                self.account.joined_s = at_s;
            }
            Line::Look(look) => self.look(look, at_s, began_unix_ms),
            Line::Refused { status, why, .. } => {
                self.account.said = Some(format!("refused with {status}: {why}"));
            }
            Line::Failed { why } | Line::Ended { why } => self.account.said = Some(why),
            Line::Rejoining { why } => {
                self.account.rejoins += 1;
                self.account.said = Some(why);
            }
            _ => {}
        }
    }

    fn look(&mut self, look: Look, at_s: f64, began_unix_ms: f64) {
        let run_s = |unix_ms: f64| (unix_ms - began_unix_ms) / 1e3;
        let seen = &mut self.seen;
        seen.now = Totals {
            frames: look.frames,
            kbits: look.kbits.unwrap_or(0.0),
            lost: look.lost,
            damaged: look.damaged,
        };
        if look.frames > 0 {
            // A look comes up to 200 ms after the picture.
            let picture_s = at_s - look.gap_ms / 1e3;
            seen.last_picture_s = Some(picture_s);
            self.account.first_frame_s.get_or_insert(picture_s);
        }
        self.account.gaps.extend(look.gaps.iter().map(|(unix_ms, ms)| (run_s(*unix_ms), *ms)));
        for (unix_ms, latency_ms) in look.latencies {
            self.account.latencies.push((run_s(unix_ms) as f32, latency_ms as f32));
            seen.latencies_ms.push(latency_ms);
        }
        self.account.frames = seen.before.plus(seen.now).frames;
        if self.account.frames > 0 {
            seen.last_look = Some((at_s, self.account.frames));
            seen.first_look = seen.first_look.or(seen.last_look);
        }
    }

    /// Up to when what it has seen is known at `now_s`: to its last look, which is a moment ago; or
    /// to now, where it says nothing, and sees nothing therefore.
    fn known_s(&self, now_s: f64) -> Option<f64> {
        let (looked_s, _) = self.seen.last_look?;
        let to_s = now_s.min(self.until_s);
        Some(if to_s - looked_s < SILENCE_S { looked_s } else { to_s })
    }

    /// Its account at the end of the run: the gap that lasts is in it, and what was published until
    /// it was to be gone, whether it was still there or not.
    pub fn account(&self, end_s: f64, published_by: impl Fn(f64) -> f64) -> Account {
        let mut account = self.account.clone();
        let Some(to_s) = self.known_s(end_s) else { return account };
        if let Some((from_s, frames)) = self.seen.first_look {
            // It began on a key frame that lay ready, with frames from before it came.
            let since = (published_by(to_s) - published_by(from_s)).max(0.0).round() as u64;
            account.published = frames + since;
        }
        let gap_ms = self.seen.last_picture_s.map_or(0.0, |last_s| (to_s - last_s) * 1e3);
        if gap_ms >= GAP_MIN.as_secs_f64() * 1e3 {
            account.gaps.push((to_s, gap_ms));
        }
        account
    }

    /// What was seen since the last row.
    pub fn row(
        &mut self,
        now_s: f64,
        seconds: f64,
        published_by: impl Fn(f64) -> f64,
    ) -> ViewerRow {
        let published = self.known_s(now_s).map(|at_s| published_by(at_s).round() as u64);
        let before = std::mem::replace(&mut self.seen.row_published, published);
        let published = published.zip(before).map(|(now, before)| now.saturating_sub(before));
        let total = self.seen.before.plus(self.seen.now);
        let row = std::mem::replace(&mut self.seen.row, total);
        let mut latencies = std::mem::take(&mut self.seen.latencies_ms);
        latencies.sort_by(f64::total_cmp);
        ViewerRow {
            frames: total.frames.saturating_sub(row.frames),
            published,
            kbps: (total.kbits - row.kbits).max(0.0) / seconds,
            latency_ms: latencies.get(latencies.len() / 2).copied(),
            latency_max_ms: latencies.last().copied(),
            lost: total.lost.saturating_sub(row.lost),
            damaged: total.damaged.saturating_sub(row.damaged),
        }
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Asks all of them to leave, and waits until they have; kills who stays.
pub fn send_away(people: &mut BTreeMap<String, Person>) {
    for person in people.values_mut() {
        person.tell("leave");
        person.signal(Signal::CONT);
    }
    let deadline = Instant::now() + LEAVE_TIMEOUT;
    let leaving = |person: &mut Person| {
        person.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    };
    while Instant::now() < deadline && people.values_mut().any(leaving) {
        std::thread::sleep(Duration::from_millis(20));
    }
    people.values_mut().for_each(Person::kill);
}
