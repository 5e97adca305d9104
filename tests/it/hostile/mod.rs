//! Hostile requests at every door, mixed with five viewers who only want to watch.
//!
//! Each request is made by dice of its own, from the seed and its number: what was said is printed
//! where an answer may not be, and `LENSLINE_SEED=… LENSLINE_HOSTILE_ONLY=NUMBER` says it again.
//! `LENSLINE_HOSTILE_REQUESTS` is how many (`ci/hostile` sends 10,000), `LENSLINE_HOSTILE_DOOR` (`Rtsp`)
//! leaves all doors out but one.

mod attack;
mod corpus;
mod honest;
mod http;
mod reply;
mod rtsp;
mod slow;
mod target;
mod udp;
mod whep;
mod ws;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lensline_clients::Lensline;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use self::attack::{Attack, Door, Outcome};
use self::honest::Honest;
use self::slow::Slow;
use self::target::Target;
use crate::common::{Dice, Held, SMALL, SOON, alone, start};

/// Requests where nobody says how many.
const REQUESTS: u64 = 1_000;

/// What is asked where nobody says otherwise: a gate asks the same each time, `ci/hostile` looks for
/// more.
const SEED: u64 = 2026;

/// The first warms pools up, the others are held against each other.
const ROUNDS: u64 = 3;

/// Requests under way at most, and in a second.
const UNDER_WAY_MAX: usize = 16;
const PER_SECOND: u32 = 60;

/// After so many requests the attackers take another session of their own, and look for ports.
const RENEW_EVERY: u64 = 60;

/// How long the server may take to come to rest: RTSP's session pool has 30 s, idle threads more.
const REST_TIMEOUT: Duration = Duration::from_secs(120);

/// What memory may grow between the last two rounds. Allocators and pools move by some of it.
const GROWTH_BYTES_MAX: u64 = 8 << 20;

/// How long an honest request may take, in the midst of it all, on a busy machine.
const HONEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Seats for everybody, so that attacks get further than to a `503`. That seats run out is the
/// scenario of `limits`.
const CONFIG: &str = "[webrtc]\nnegotiation_timeout_ms = 5000\n[limits]\nwebrtc_sessions_max = 400\n\
    rtsp_sessions_max = 400\nsessions_per_address_max = 400\njoins_per_second_max = 500\n";

/// What became of the requests so far.
#[derive(Default)]
struct Ledger {
    forms: BTreeMap<String, u64>,
    codes: BTreeMap<u16, u64>,
    failures: Vec<String>,
    slowest: Duration,
}

impl Ledger {
    fn note(
        &mut self,
        name: &str,
        attack: &Attack,
        outcome: Result<Outcome, String>,
        took: Duration,
    ) {
        *self.forms.entry(format!("{:?}: {}", attack.door, attack.form)).or_default() += 1;
        self.slowest = self.slowest.max(took);
        match outcome {
            Ok(outcome) => {
                outcome
                    .codes
                    .into_iter()
                    .for_each(|code| *self.codes.entry(code).or_default() += 1);
            }
            Err(why) => {
                let steps: Vec<String> =
                    attack.steps.iter().map(|step| format!("{step:?}")).collect();
                let said: String = steps.join("\n    ").chars().take(6_000).collect();
                let failure =
                    format!("{name} ({:?}, {}): {why}\n    {said}", attack.door, attack.form);
                println!("{failure}");
                self.failures.push(failure);
            }
        }
    }
}

/// A number from the environment.
fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|number| number.parse().ok())
}

/// The numbers of one round's requests.
fn numbers(round: u64) -> Vec<u64> {
    if let Some(only) = given("LENSLINE_HOSTILE_ONLY") {
        return vec![only];
    }
    let all = given("LENSLINE_HOSTILE_REQUESTS").unwrap_or(REQUESTS);
    (all * round / ROUNDS..all * (round + 1) / ROUNDS).collect()
}

/// Sends one round's requests, a few at a time.
async fn assail(
    server: &mut Lensline,
    target: &mut Target,
    seed: u64,
    round: u64,
    ledger: &mut Ledger,
) {
    let under_way = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    let mut ticks = interval(Duration::from_secs(1) / PER_SECOND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut attacks = JoinSet::new();
    for (sent, number) in (0..).zip(numbers(round)) {
        ticks.tick().await;
        if sent % RENEW_EVERY == 0 {
            target.renew(server).await;
            assert_eq!(server.ended(), None, "it has crashed:\n{}", server.log());
        }
        let mut dice = Dice::nth(seed, number);
        let attack = target.throw(&mut dice);
        let door = format!("{:?}", attack.door);
        if std::env::var("LENSLINE_HOSTILE_DOOR").is_ok_and(|only| only != door) {
            continue;
        }
        let Some(to) = target.at(&attack, &mut dice) else { continue };
        let from = Ipv4Addr::new(127, 0, 2 + dice.below(4) as u8, 1 + dice.below(250) as u8);
        let permit = Arc::clone(&under_way).acquire_owned().await.unwrap();
        attacks.spawn(async move {
            let began = Instant::now();
            let outcome = attack.carry_out(to, from).await;
            drop(permit);
            (number, attack, outcome, began.elapsed())
        });
        while let Some(Ok((number, attack, outcome, took))) = attacks.try_join_next() {
            ledger.note(&format!("request {number}"), &attack, outcome, took);
        }
    }
    while let Some(done) = attacks.join_next().await {
        let (number, attack, outcome, took) = done.unwrap();
        ledger.note(&format!("request {number}"), &attack, outcome, took);
    }
}

/// Somebody who asks for something at both doors every quarter of a second, and is answered.
async fn ask_all_the_while(target: Target) {
    let http = Attack::new(Door::Http, "honest", http::request("GET", "/healthz", "", b""));
    let rtsp = Attack::new(Door::Rtsp, "honest", rtsp::request("DESCRIBE", rtsp::URL, 1, ""));
    let mut longest = Duration::ZERO;
    loop {
        for (attack, to) in [(&http, target.http), (&rtsp, target.rtsp)] {
            let began = Instant::now();
            let asked = attack.carry_out(to, Ipv4Addr::LOCALHOST);
            let answer = timeout(HONEST_TIMEOUT, asked).await;
            let codes = answer.map(|answer| answer.map(|outcome| outcome.codes));
            assert_eq!(codes, Ok(Ok(vec![200])), "kept out of {:?}", attack.door);
            if began.elapsed() > longest {
                longest = began.elapsed();
                println!("an honest request took {longest:?}, {:?}", attack.door);
            }
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_hostile_requests_cost_honest_viewers_nothing_and_leave_nothing_behind() {
    let _machine = alone().await;
    let seed = Dice::seed_or(SEED);
    let mut server = start(&format!("{CONFIG}{SMALL}")).await;
    let empty = Held::by(&server).await;
    let honest = Honest::join(&server).await;
    let mut target = Target::of(&server).await;
    let mut ledger = Ledger::default();
    // The decoder that the first snapshot needs stays, and is some 40 MB.
    let snapshot = server.client.get(server.url("snapshot/sim.jpg")).send().await;
    assert_eq!(snapshot.unwrap().status(), 200);
    corpus::replay(&target, &mut ledger).await;
    let mut rests: Vec<Held> = Vec::new();
    for round in 0..ROUNDS {
        let slow = Slow::start(&target);
        let asking = tokio::spawn(ask_all_the_while(target.clone()));
        let began = Instant::now();
        assail(&mut server, &mut target, seed, round, &mut ledger).await;
        assert!(!asking.is_finished(), "an honest request was not answered");
        asking.abort();
        let (took, held) = (began.elapsed(), slow.count());
        println!("round {round}: {took:.0?}, {held} connections held, {} in all", slow.opened());
        drop(slow);
        let bound = if round == 0 { Duration::from_secs(50) } else { REST_TIMEOUT };
        let rest = Held::at_rest(&server, rests.first(), bound).await;
        println!(
            "at rest after round {round}: {rest:?}; frames seen, missed: {:?}",
            honest.frames()
        );
        let all = server.log();
        all.lines().filter(|line| !line.contains("INFO")).for_each(|line| println!("{line}"));
        honest.assert_missed_nothing(&server).await;
        assert_eq!(rest.sessions, 5.0, "the five, and nobody else: {rest:?}");
        rests.push(rest);
    }
    println!("{:#?}\ncodes {:?}\nslowest {:?}", ledger.forms, ledger.codes, ledger.slowest);
    assert!(ledger.failures.is_empty(), "seed {seed}:\n{}", ledger.failures.join("\n"));
    let [first, before, after] = rests.as_slice() else { panic!("{rests:?}") };
    assert!(before.within(first) && after.within(first), "{rests:?}\n{}", server.log());
    let growth = after.usage.resident_bytes.saturating_sub(before.usage.resident_bytes);
    assert!(growth <= GROWTH_BYTES_MAX, "{growth} bytes in one round: {rests:?}");
    let metrics = server.metrics().await;
    println!("ends {:?}", metrics.by("lensline_sessions_total", "end"));
    assert_eq!(metrics.sum("lensline_teardowns_stuck_total", &[]), 0.0, "{}", server.log());
    drop(honest);
    let left = Held::at_rest(&server, Some(&empty), REST_TIMEOUT).await;
    println!("before anybody {empty:?}\nafter everybody {left:?}");
    assert_eq!((left.sessions, &left.guards), (0.0, &empty.guards), "{}", server.log());
    server.sessions_are(0, SOON).await;
    let stopped = server.stop().await;
    assert_eq!(stopped.code, Some(0), "{}", stopped.log);
    let panics = stopped.log.lines().filter(|line| line.contains("panicked"));
    assert_eq!(panics.collect::<Vec<_>>(), Vec::<&str>::new());
}
