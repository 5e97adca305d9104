//! Draws a plan: who watches, what changes and what goes wrong, from a seed, within the bounds of
//! the plan's `[chaos]`. All that is drawn is an item of a list, which [`crate::search`] can leave
//! out again.

use crate::link::{Change, Loss};
use crate::plan::{CameraFault, ChangeAt, Chaos, Fault, FaultKind, Plan, Viewer, ViewerKind};

/// What is drawn from where the plan names no kinds.
const LIGHT_KINDS: [ViewerKind; 5] = [
    ViewerKind::Light,
    ViewerKind::Websocket,
    ViewerKind::Recorder,
    ViewerKind::FfmpegTcp,
    ViewerKind::FfmpegUdp,
];

/// The plan that `seed` makes of one with `[chaos]`; one without it stays as it is.
///
/// What the plan has already stays, and stands before what is drawn.
pub fn draw(plan: &Plan, seed: u64) -> Plan {
    let mut drawn = plan.clone();
    let Some(chaos) = drawn.chaos.take() else { return drawn };
    drawn.name = format!("{}-{seed}", plan.name);
    let links: Vec<_> = plan.link.keys().cloned().collect();
    let random = fastrand::Rng::with_seed(seed ^ 0x0063_6861_6f73);
    let mut dice = Dice { random, duration_s: plan.duration_s, links };
    let viewers = dice.up_to(chaos.viewers_max);
    for number in 0..viewers {
        drawn.viewer.push(dice.viewer(number, &chaos));
    }
    for _ in 0..dice.up_to(chaos.changes_max) {
        if let Some(link) = dice.link()
            && let Some(pair) = drawn.link.get_mut(&link)
        {
            pair.change.push(dice.change());
        }
    }
    for pair in drawn.link.values_mut() {
        pair.change.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    }
    let names: Vec<_> = drawn.viewer.iter().flat_map(Viewer::each).map(|(name, _)| name).collect();
    let translated: Vec<_> = drawn
        .viewer
        .iter()
        .filter(|viewer| viewer.nat)
        .flat_map(Viewer::each)
        .map(|(name, _)| name)
        .collect();
    for _ in 0..dice.up_to(chaos.faults_max) {
        if let Some(kind) = dice.fault(&chaos, &names, &translated) {
            let (at_s, for_s) = (dice.moment(0.9), dice.amount(0.1, 10.0));
            drawn.fault.push(Fault { at_s, for_s, kind });
        }
    }
    drawn
}

/// A number of which the logarithm is anywhere between those of `low` and `high`.
fn between(random: &mut fastrand::Rng, low: f64, high: f64) -> f64 {
    low * (high / low).powf(random.f64())
}

struct Dice {
    random: fastrand::Rng,
    duration_s: f64,
    links: Vec<String>,
}

impl Dice {
    fn up_to(&mut self, most: u32) -> u32 {
        if most == 0 { 0 } else { self.random.u32(1..=most) }
    }

    /// Figures that a person can read.
    fn round(&self, value: f64) -> f64 {
        (value * 100.0).round() / 100.0
    }

    fn amount(&mut self, low: f64, high: f64) -> f64 {
        let value = between(&mut self.random, low, high);
        self.round(value)
    }

    /// A moment in the first `share` of the plan.
    fn moment(&mut self, share: f64) -> f64 {
        let moment = self.random.f64() * share * self.duration_s;
        self.round(moment)
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.random.f64() < probability
    }

    fn one_of<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        self.random.choice(of).cloned()
    }

    fn link(&mut self) -> Option<String> {
        let links = self.links.clone();
        self.one_of(&links)
    }

    fn viewer(&mut self, number: u32, chaos: &Chaos) -> Viewer {
        let kinds = if chaos.kinds.is_empty() { &LIGHT_KINDS[..] } else { &chaos.kinds };
        // Many come at once, as they do when a link is shared.
        let at_s = if self.chance(0.3) { 1.0 } else { self.moment(0.7) };
        let leaves = self.chance(0.3).then(|| self.amount(0.5, self.duration_s));
        Viewer {
            name: format!("guest{number}"),
            kind: self.one_of(kinds).unwrap_or(ViewerKind::Light),
            count: 1,
            at_s,
            every_s: 0.0,
            leave_s: leaves.map(|stay| self.round(at_s + stay)),
            via: self.link().into_iter().collect(),
            nat: self.chance(0.3),
            turn_only: false,
            lost_after_s: 15.0,
        }
    }

    fn change(&mut self) -> ChangeAt {
        let mut change = ChangeAt { at_s: self.moment(0.9), ..ChangeAt::default() };
        let which = self.random.u8(0..3);
        if which != 1 {
            change.down = self.new_shape();
        }
        if which != 0 {
            change.up = self.new_shape();
        }
        change
    }

    fn new_shape(&mut self) -> Change {
        let mut change = Change::default();
        match self.random.u8(0..8) {
            0 | 1 => change.rate_kbps = Some(self.amount(100.0, 20_000.0)),
            2 => change.delay_ms = Some(self.amount(1.0, 400.0)),
            3 => change.jitter_ms = Some(self.amount(1.0, 50.0)),
            4 => change.loss = Some(Loss::Independent(self.amount(0.01, 0.4))),
            5 => {
                change.loss = Some(Loss::Bursts {
                    good_packets: self.amount(50.0, 2_000.0),
                    bad_packets: self.amount(2.0, 50.0),
                    bad_loss: self.amount(0.5, 1.0),
                    good_loss: 0.0,
                });
            }
            6 => change.reorder = Some(self.amount(0.01, 0.2)),
            _ => {
                change.duplicate = Some(self.amount(0.01, 0.2));
                change.corrupt = Some(self.amount(0.01, 0.1));
            }
        }
        change
    }

    fn fault(&mut self, chaos: &Chaos, names: &[String], nat: &[String]) -> Option<FaultKind> {
        use CameraFault::{Freeze, Garbage, PtsJump, Slow, Unplug};
        let kinds = if chaos.machine { 18 } else { 13 };
        let connections = self.random.u32(1..=30);
        Some(match self.random.u8(0..kinds) {
            0 | 1 => {
                let what = self.one_of(&[Freeze, Garbage, PtsJump, Slow, Unplug])?;
                FaultKind::Camera { what }
            }
            2 | 3 => FaultKind::Blackout { link: self.link()? },
            4 => FaultKind::StopViewer { viewer: self.one_of(names)? },
            5 => FaultKind::KillViewer { viewer: self.one_of(names)? },
            6 => FaultKind::Roam { viewer: self.one_of(names)? },
            7 => FaultKind::Rebind { viewer: self.one_of(nat)? },
            8 => FaultKind::RestartStreamer,
            9 => FaultKind::KillStreamer,
            10 => FaultKind::StopStreamer,
            11 => FaultKind::SlowlorisHttp { connections },
            12 => FaultKind::HalfOpen { connections },
            13 => FaultKind::Cpu { cores: self.amount(0.1, 1.0) },
            14 => FaultKind::Memory { mib: self.random.u64(64..=256) },
            15 => FaultKind::FdLimit { files: self.random.u64(40..=200) },
            16 => FaultKind::DiskFull,
            _ => FaultKind::ClockStep { by_s: f64::from(self.random.i32(-3600..=3600)) },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::plan::PlanError;

    const PLAN: &str = r#"
title = "chaos"
duration_s = 30
[link.a]
[link.b]
[chaos]
viewers_max = 12
faults_max = 6
changes_max = 8
"#;

    #[test]
    fn what_is_drawn_follows_from_the_seed_keeps_the_bounds_and_is_a_plan() -> Result<(), PlanError>
    {
        let plan = Plan::parse("chaos", PLAN, Path::new("."))?;
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..300 {
            let drawn = draw(&plan, seed);
            assert_eq!(drawn, draw(&plan, seed));
            assert!(drawn.chaos.is_none());
            assert!((1..=12).contains(&drawn.viewer.len()));
            assert!(drawn.fault.len() <= 6);
            let changes: usize = drawn.link.values().map(|pair| pair.change.len()).sum();
            assert!(changes <= 8);
            let text = toml::to_string(&drawn).unwrap_or_default();
            let read = Plan::parse(&drawn.name, &text, Path::new("."))?;
            assert_eq!(read, drawn);
            kinds.extend(
                drawn.fault.iter().map(|fault| format!("{:?}", fault.kind)[..4].to_owned()),
            );
        }
        assert_ne!(draw(&plan, 1), draw(&plan, 2));
        assert!(kinds.len() >= 9, "{kinds:?}");
        assert!(!kinds.contains("Disk"), "machine faults were not asked for");
        Ok(())
    }
}
