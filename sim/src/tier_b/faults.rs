//! What goes wrong, done to real processes and their machines.

use std::io;
use std::time::Duration;

use rustix::process::Signal;

use super::machine;
use super::router::{Side, Way};
use super::run::{Run, outside};
use super::streamer::{HTTP_PORT, RTSP_PORT};
use crate::link::Change;
use crate::plan::{Fault, FaultKind, matches};

const STOP_TIMEOUT: Duration = Duration::from_secs(6);

/// After how long those who are to be half open lose their network, in seconds.
const HALF_OPEN_AFTER_S: f64 = 3.0;

impl Run<'_> {
    /// Lets a fault begin, or end.
    pub fn fault(&mut self, fault: &Fault, begins: bool) -> io::Result<()> {
        match &fault.kind {
            FaultKind::Camera { .. } => Ok(()),
            FaultKind::Blackout { link } => {
                self.blackout(link, begins);
                Ok(())
            }
            FaultKind::StopViewer { viewer } => {
                let signal = if begins { Signal::STOP } else { Signal::CONT };
                self.each(viewer, |person| person.signal(signal));
                Ok(())
            }
            FaultKind::KillViewer { viewer } => self.kill_viewer(viewer, begins),
            FaultKind::TabAsleep { viewer } => {
                self.each(viewer, |person| person.tell(if begins { "sleep" } else { "wake" }));
                Ok(())
            }
            FaultKind::Roam { viewer } if begins => self.roam(viewer),
            FaultKind::Rebind { viewer } if begins => {
                for id in self.ids(viewer) {
                    self.router.network().rebind(id);
                }
                Ok(())
            }
            FaultKind::SlowlorisHttp { .. }
            | FaultKind::SlowlorisRtsp { .. }
            | FaultKind::HalfOpen { .. } => {
                self.attack(fault, begins);
                Ok(())
            }
            kind => self.streamer_fault(kind, fault, begins),
        }
    }

    fn streamer_fault(&mut self, kind: &FaultKind, fault: &Fault, begins: bool) -> io::Result<()> {
        let pid = self.streamer.pid();
        let pid = pid.ok_or_else(|| io::Error::other("the streamer is not there"));
        match kind {
            FaultKind::RestartStreamer if begins => {
                if let Some(how) = self.streamer.stop(STOP_TIMEOUT) {
                    self.note(how);
                }
                self.restart_at_s = Some(fault.at_s + fault.for_s);
            }
            FaultKind::KillStreamer if begins => {
                self.streamer.kill();
                self.restart_at_s = Some(fault.at_s + fault.for_s);
            }
            FaultKind::StopStreamer => {
                self.streamer.signal(if begins { Signal::STOP } else { Signal::CONT });
            }
            FaultKind::Cpu { cores } => {
                machine::cpu(&self.options.cell, begins.then_some(*cores))?;
            }
            FaultKind::Memory { mib } => {
                machine::memory(&self.options.cell, begins.then_some(*mib))?;
            }
            FaultKind::FdLimit { files } => {
                let limit = if begins { Some(*files) } else { self.files_before.take() };
                if let Some(limit) = limit {
                    let before = machine::files(pid?, limit)?;
                    self.files_before = begins.then_some(before);
                }
            }
            FaultKind::DiskFull => {
                let disk = self.streamer.disk.as_deref();
                machine::fill(disk.ok_or_else(|| io::Error::other("no disk"))?, begins)?;
            }
            FaultKind::ClockStep { by_s } => {
                self.streamer.step_clock(if begins { *by_s } else { 0.0 })?;
            }
            _ => {}
        }
        Ok(())
    }

    fn blackout(&mut self, link: &str, begins: bool) {
        let change = Change { blackout: Some(begins), ..Change::default() };
        let mut network = self.router.network();
        for way in [Way::Down, Way::Up] {
            if let Some(shape) = network.shape(link, way) {
                network.reshape(link, way, change.of(&shape));
            }
        }
    }

    fn each(&mut self, viewer: &str, mut change: impl FnMut(&mut super::crowd::Person)) {
        let named = self.people.iter_mut().filter(|(name, _)| matches(viewer, name));
        named.for_each(|(_, person)| change(person));
    }

    fn ids(&self, viewer: &str) -> Vec<super::router::HostId> {
        let named = self.people.iter().filter(|(name, _)| matches(viewer, name));
        named.map(|(_, person)| person.id).collect()
    }

    /// Kills the viewers who are there; at the end of the fault those of them come again who are to
    /// be there still.
    fn kill_viewer(&mut self, viewer: &str, begins: bool) -> io::Result<()> {
        let (said, now_s) = (self.said.clone(), self.now_s());
        for (name, person) in self.people.iter_mut().filter(|(name, _)| matches(viewer, name)) {
            if begins && person.is_there() {
                person.killed = true;
                person.kill();
            } else if !begins && !self.ending && person.killed && now_s < person.until_s {
                person.killed = false;
                person.account.rejoins += 1;
                person.start(name, &said)?;
                person.join(now_s);
            }
        }
        Ok(())
    }

    fn roam(&mut self, viewer: &str) -> io::Result<()> {
        let names: Vec<_> =
            self.people.keys().filter(|name| matches(viewer, name)).cloned().collect();
        for name in names {
            let new = self.new_address();
            if let Some(person) = self.people.get_mut(&name) {
                person.host.roam(new)?;
                self.router.network().roam(person.id, new, outside(new));
            }
        }
        Ok(())
    }

    /// Starts an attacker, or sends it away. Those who are to be half open lose their network
    /// after a moment, without a word.
    fn attack(&mut self, fault: &Fault, begins: bool) {
        let (kind, port, connections) = match fault.kind {
            FaultKind::SlowlorisHttp { connections } => ("slowloris-http", HTTP_PORT, connections),
            FaultKind::SlowlorisRtsp { connections } => ("slowloris-rtsp", RTSP_PORT, connections),
            FaultKind::HalfOpen { connections } => ("half-open", HTTP_PORT, connections),
            _ => return,
        };
        let name = format!("{kind} at {} s", fault.at_s);
        if !begins {
            return self.end_other(&name);
        }
        let address = |port: u16| format!("10.9.0.1:{port}");
        let (first, second, count) = (address(port), address(RTSP_PORT), connections.to_string());
        let mut words =
            vec!["hostile", "--kind", kind, "--address", &first, "--connections", &count];
        if kind == "half-open" {
            words.extend(["--second", &second]);
            self.cuts.push((self.now_s() + HALF_OPEN_AFTER_S, name.clone()));
        }
        self.start_other(&name, Side::Core, words.into_iter().map(String::from).collect());
    }
}
