//! What the scenarios share: the program under test, its usual configurations, and their dice.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use lensline_clients::{Exposition, Lensline, Tally, Usage, load_average, until};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The program under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_lensline");

/// Bound on what should come about within a second or two on an idle machine.
pub const SOON: Duration = Duration::from_secs(20);

/// A camera whose pictures are cheap to decode ten times over.
pub const SMALL: &str = "[[camera]]\nid = \"sim\"\nwidth = 640\nheight = 360\n\
    source = { kind = \"simulated\" }\n[camera.encoder]\nbitrate_kbps = 800\n";

static MACHINE: RwLock<()> = RwLock::const_new(());

/// The machine for this scenario alone, while the guard lives.
pub async fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().await
}

/// The machine beside other scenarios, while the guard lives.
pub async fn beside_others() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().await
}

/// Starts the program with this configuration.
pub async fn start(config: &str) -> Lensline {
    Lensline::start(BINARY, config).await
}

/// Waits until a receiver has seen `frames` pictures.
pub async fn frames_come(what: &str, frames: u64, tally: impl Fn() -> Tally) -> Tally {
    let what = format!("{frames} frames at {what}");
    until(&what, SOON, async || Some(tally()).filter(|tally| tally.frames >= frames)).await
}

/// Every picture came, in order, whole. The camera itself may leave pictures out on a busy machine,
/// which the server has then skipped for nobody.
pub async fn assert_complete(server: &Lensline, tally: &Tally) {
    let spoilt = (tally.disordered, tally.unreadable, tally.packets_lost);
    assert_eq!(spoilt, (0, 0, 0), "{tally:?}");
    if tally.missed > 0 {
        let skipped = server.metrics().await.sum("lensline_frames_skipped_total", &[]);
        assert_eq!(skipped, 0.0, "{tally:?}\n{}", server.log());
    }
}

/// Frames that each live session was not given, by the session's name.
pub async fn skipped(server: &Lensline) -> BTreeMap<String, u64> {
    let sessions = server.sessions().await.into_iter();
    let pairs = sessions.map(|session| {
        let name = session["id"].as_str().expect("a session has a name").to_owned();
        (name, session["skipped"].as_u64().expect("a session counts what it skipped"))
    });
    pairs.collect()
}

/// Who watched with these tallies got every frame: the server skipped none for the sessions of
/// `before`, none was lost on the way, and no viewer saw a picture that another did not. Pictures
/// that the camera left out, on a busy machine, are missed by all alike.
pub async fn assert_missed_nothing(
    server: &Lensline,
    before: &BTreeMap<String, u64>,
    tallies: &[(&str, Tally)],
) {
    let after = skipped(server).await;
    println!("load average {}", load_average());
    for (session, count) in before {
        assert_eq!(after.get(session), Some(count), "frames skipped by {session}: {after:?}");
    }
    for (name, tally) in tallies {
        println!("{name}: {tally:?}");
        let lost = (tally.packets_lost, tally.unreadable, tally.disordered);
        assert_eq!(lost, (0, 0, 0), "{name}: {tally:?}");
        let fresh = tally.last.is_some_and(|last| last.elapsed() < Duration::from_secs(2));
        assert!(fresh, "{name} sees nothing any more: {tally:?}");
        let lacking = tallies.iter().map(|(_, other)| tally.lacks(other)).max();
        assert_eq!(lacking, Some(0), "{name} lacks pictures that others saw: {tally:?}");
    }
}

/// What must come back.
#[derive(Clone, Debug)]
pub struct Held {
    pub usage: Usage,
    pub guards: BTreeMap<String, f64>,
    pub sessions: f64,
}

impl Held {
    /// What it holds now.
    pub async fn by(server: &Lensline) -> Self {
        let metrics: Exposition = server.metrics().await;
        Self {
            usage: server.usage(),
            guards: metrics.by("lensline_guards_live", "kind"),
            sessions: metrics.sum("lensline_sessions", &[]),
        }
    }

    /// The least that is held within `bound`; with a `goal`, what is held once nothing is above it,
    /// or at last.
    pub async fn at_rest(server: &Lensline, goal: Option<&Self>, bound: Duration) -> Self {
        let end = Instant::now() + bound;
        let mut least = Self::by(server).await;
        while Instant::now() < end && !goal.is_some_and(|goal| least.within(goal)) {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let now = Self::by(server).await;
            if goal.is_some()
                || now.sessions <= least.sessions && now.usage.threads <= least.usage.threads
            {
                least = now;
            }
        }
        least
    }

    /// Whether no more is held than at `baseline`. Two threads of slack: pools keep a thread or
    /// two for a while, whoever used them.
    pub fn within(&self, baseline: &Self) -> bool {
        self.sessions <= baseline.sessions
            && self
                .guards
                .iter()
                .all(|(kind, live)| *live <= *baseline.guards.get(kind).unwrap_or(&0.0))
            && self.usage.threads <= baseline.usage.threads + 2
            && self.usage.open_fds <= baseline.usage.open_fds + 2
    }
}

/// Numbers that look random and can be had again by their seed (SplitMix64, Steele et al. 2014).
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice with the seed of `LENSLINE_SEED`, or of the time; prints it.
    pub fn thrown() -> Self {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().subsec_nanos();
        Self(Self::seed_or(now.into()))
    }

    /// The seed of `LENSLINE_SEED`, or this one; prints it.
    pub fn seed_or(seed: u64) -> u64 {
        let given = std::env::var("LENSLINE_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or(seed);
        println!("LENSLINE_SEED={seed}");
        seed
    }

    /// The dice of the `index`th throw of many with one seed: each can be had again by itself.
    pub fn nth(seed: u64, index: u64) -> Self {
        let mut dice = Self(seed ^ index.wrapping_mul(0xd6e8_feb8_6659_fd93));
        Self(dice.below(u64::MAX))
    }

    /// One of these.
    pub fn pick<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len() as u64) as usize]
    }

    /// Between none and `most` bytes of any kind.
    pub fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.below(256) as u8).collect()
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
