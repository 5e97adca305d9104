//! What has crashed or misled somebody, somewhere, or us: `tests/corpus`, said first.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Instant;

use super::Ledger;
use super::attack::{Attack, Door, Step};
use super::http::request;
use super::target::Target;
use super::ws::after_handshake;

/// One entry: the file, and what may be answered, where anything.
struct Entry {
    name: String,
    bytes: Vec<u8>,
    codes: Vec<u16>,
    /// Whether nothing at all may be said before the end.
    may_close: bool,
}

/// The entries of a kind, as its file `expected` lists them: a name, codes, `closed`.
fn entries(kind: &str) -> Vec<Entry> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(kind);
    let expected = std::fs::read_to_string(folder.join("expected")).unwrap();
    let lines = expected.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let entries: Vec<Entry> = lines
        .map(|line| {
            let (name, answers) = line.split_once(' ').unwrap();
            Entry {
                name: format!("{kind}/{name}"),
                bytes: std::fs::read(folder.join(name)).unwrap(),
                codes: answers.split(' ').filter_map(|word| word.parse().ok()).collect(),
                may_close: answers.contains("closed"),
            }
        })
        .collect();
    let files = std::fs::read_dir(&folder).unwrap().count();
    assert_eq!(entries.len() + 1, files, "{kind}: each file is listed in `expected`");
    entries
}

impl Entry {
    fn attack(&self, kind: &str, target: &Target) -> Attack {
        let bytes = self.bytes.clone();
        let attack = match kind {
            "http" => Attack::new(Door::Http, "corpus", bytes),
            "rtsp" => Attack::new(Door::Rtsp, "corpus", bytes),
            // The handshake's own answer is none of the codes.
            "ws" => after_handshake("corpus", bytes, 1),
            _ => {
                let headers = format!(
                    "If-Match: {}\r\nContent-Type: application/trickle-ice-sdpfrag\r\n",
                    target.etag
                );
                let bytes = request("PATCH", &target.session, &headers, &bytes);
                Attack::new(Door::Http, "corpus", bytes)
            }
        };
        let mut attack = if kind == "ws" { attack } else { attack.only(&self.codes) };
        if self.may_close {
            attack.steps.retain(
                |step| !matches!(step, Step::Hear(count) if *count > usize::from(kind == "ws")),
            );
        }
        attack
    }
}

/// Says all of it, one after the other.
pub async fn replay(target: &Target, ledger: &mut Ledger) {
    for kind in ["http", "rtsp", "ws", "sdpfrag"] {
        for entry in entries(kind) {
            let attack = entry.attack(kind, target);
            let to = if kind == "rtsp" { target.rtsp } else { target.http };
            let began = Instant::now();
            let mut outcome = attack.carry_out(to, Ipv4Addr::new(127, 0, 3, 1)).await;
            if let Ok(done) = &outcome {
                let said = done.codes.iter().any(|code| entry.codes.contains(code));
                if !said && !entry.may_close {
                    outcome = Err(format!("answered with {:?}, not {:?}", done.codes, entry.codes));
                }
            }
            ledger.note(&entry.name, &attack, outcome, began.elapsed());
        }
    }
}
