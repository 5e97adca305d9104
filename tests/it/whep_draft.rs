//! WHEP by the book: draft-ietf-wish-whep-03, one requirement after the other, by raw HTTP.

mod endpoint;
mod raw;
mod session;
mod stage;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Mutex;

use lensline::password;
use lensline_clients::Lensline;
use tokio::runtime::Handle;

use crate::common::{SMALL, beside_others, start};
use stage::{Stage, Verdict};

/// One requirement.
struct Row {
    /// The section of the draft.
    section: &'static str,
    /// How strong it is, in the draft's word.
    level: &'static str,
    requirement: &'static str,
    check: fn(&Stage) -> Verdict,
    /// Why it is known not to be met.
    missing: Option<&'static str>,
}

/// A requirement that is met.
const fn row(
    section: &'static str,
    level: &'static str,
    requirement: &'static str,
    check: fn(&Stage) -> Verdict,
) -> Row {
    Row { section, level, requirement, check, missing: None }
}

impl Row {
    const fn missing(mut self, reason: &'static str) -> Self {
        self.missing = Some(reason);
        self
    }

    /// What the last column says, and whether it was to be expected.
    fn result(&self, stage: &Stage) -> (String, bool) {
        match ((self.check)(stage), self.missing) {
            (Ok(seen), None) => (format!("met: {seen}"), true),
            (Err(_), Some(reason)) => (format!("not met: {reason}"), true),
            (Ok(seen), Some(_)) => (format!("MET UNEXPECTEDLY: {seen}"), false),
            (Err(why), None) => (format!("FAILED: {why}"), false),
        }
    }
}

fn user(name: &str) -> String {
    let hash = password::hash(&format!("{name}-secret")).expect("a hash");
    format!("[[auth.users]]\nname = \"{name}\"\npassword_hash = \"{hash}\"\nrole = \"operator\"\n")
}

fn config() -> String {
    let away = "[[camera]]\nid = \"away\"\nwidth = 320\nheight = 240\nsource = { kind = \
        \"simulated\", faults = [{ at_ms = 1, kind = \"freeze\", for_ms = 3600000 }] }\n";
    let users = [user("otto"), user("dora")].concat();
    format!(
        "[server]\nallowed_origins = [\"https://friend.example\"]\n\
         [limits]\nsessions_per_user_max = 6\njoins_per_second_max = 1000\n\
         [webrtc]\ninterfaces = [\"lo\"]\nsilence_timeout_ms = 2000\n{SMALL}{away}{users}"
    )
}

/// ICE servers that do not answer are waited for before each answer: not where many are asked for.
fn config_with_ice_servers() -> String {
    format!(
        "[webrtc]\nstun_servers = [\"stun:127.0.0.1:9\"]\n\
         turn_servers = [{{ url = \"turn:127.0.0.1:9?transport=udp\", username = 'al\"ice', \
         credential = 'pa\\ss' }}]\n{SMALL}"
    )
}

fn address(server: &Lensline) -> SocketAddr {
    server.http["http://".len()..].trim_end_matches('/').parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_requirement_of_the_draft_is_met_or_known_not_to_be() {
    let _machine = beside_others().await;
    let mut server = start(&config()).await;
    server.authorize(stage::OTTO.1);
    let with_ice_servers = start(&config_with_ice_servers()).await;
    let stage = Stage {
        address: address(&server),
        with_ice_servers: address(&with_ice_servers),
        client: server.client.clone(),
        runtime: Handle::current(),
        statuses: Mutex::new(BTreeSet::new()),
    };
    let rows = || endpoint::ROWS.iter().chain(session::ROWS).chain(LAST);
    let results = tokio::task::spawn_blocking(move || {
        rows().map(|row| (row, row.result(&stage))).collect::<Vec<_>>()
    });
    let results = results.await.unwrap();
    println!("| section | level | requirement | result |\n|---|---|---|---|");
    for (Row { section, level, requirement, .. }, (result, _)) in &results {
        println!("| {section} | {level} | {requirement} | {result} |");
    }
    let unexpected = results.iter().filter(|(_, (_, expected))| !expected).count();
    let missing = results.iter().filter(|(row, _)| row.missing.is_some()).count();
    println!("{} requirements, {missing} known not to be met", results.len());
    assert_eq!(unexpected, 0, "see the table\n{}", server.log());
}

/// What is asked once everything else has been.
const LAST: &[Row] = &[row(
    "4.6",
    "MUST NOT",
    "301 and 302 are never answered, nor any other redirection",
    |stage| {
        for path in ["/whep", "/whep/", "/whep/sim/", "//whep/sim", "/whep/./sim", "/WHEP/sim"] {
            stage.ask("POST", path, &[stage::OTTO, stage::SDP], stage::OFFER)?;
            stage.ask("GET", path, &[stage::OTTO], "")?;
        }
        let statuses = stage.statuses.lock().unwrap();
        match statuses.iter().find(|status| (300..400).contains(*status)) {
            Some(status) => Err(format!("{status} was answered")),
            None => Ok(format!("only {statuses:?} were answered")),
        }
    },
)];
