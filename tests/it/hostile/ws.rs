//! WebSockets that are none, and what is said over those that are.

use std::time::Duration;

use serde_json::json;

use super::attack::{Attack, Door, Step};
use super::target::Target;
use super::whep::{candidate, mutated};
use crate::common::Dice;

const HANDSHAKE: &str = "GET /ws/sim HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const TEXT: u8 = 0x81;

/// One frame as a client sends it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ ..126 => frame.push(0x80 | length as u8),
        length @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([1, 2, 3, 4]);
    frame.extend(payload.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A handshake, these bytes, and as many answers as are worth waiting for.
pub fn after_handshake(form: &'static str, bytes: Vec<u8>, answers: usize) -> Attack {
    let steps = vec![
        Step::Say(HANDSHAKE.into()),
        Step::Hear(1),
        Step::Say(bytes),
        Step::Hear(1 + answers),
        Step::End,
    ];
    Attack::steps(Door::WebSocket, form, steps)
}

/// One request of this door.
pub fn throw(dice: &mut Dice, target: &Target) -> Attack {
    match dice.below(8) {
        0 => handshake(dice),
        1 | 2 => broken_frames(dice),
        3 => pieces(dice),
        4 => floods(dice),
        5 => closes(dice),
        _ => messages(dice, target),
    }
}

fn handshake(dice: &mut Dice) -> Attack {
    let bytes = match dice.below(10) {
        0 => HANDSHAKE.replace("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
        1 => HANDSHAKE.replace("13", dice.pick(&["12", "0", "-1", "13, 8", ""])),
        2 => HANDSHAKE.replace("dGhlIHNhbXBsZSBub25jZQ==", dice.pick(&["", "x", "\u{ff}", "AAAA"])),
        3 => HANDSHAKE.replace("Upgrade: websocket", "Upgrade: h2c"),
        4 => HANDSHAKE.replace("GET", dice.pick(&["POST", "HEAD", "OPTIONS", "PUT"])),
        5 => HANDSHAKE.replace("HTTP/1.1", "HTTP/1.0"),
        6 => HANDSHAKE.replace(
            "\r\n\r\n",
            &format!("\r\nSec-WebSocket-Protocol: {}\r\n\r\n", "p,".repeat(3_000)),
        ),
        7 => HANDSHAKE.replace(
            "\r\n\r\n",
            "\r\nSec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=99\r\n\r\n",
        ),
        8 => HANDSHAKE.replace("\r\n\r\n", "\r\nOrigin: http://evil.example\r\n\r\n"),
        _ => HANDSHAKE.replace(
            "/ws/sim",
            dice.pick(&["/ws/none", "/ws/sim?rendition=none", "/ws/", "/telemetry/sim"]),
        ),
    };
    let mut attack = Attack::new(Door::WebSocket, "bad handshakes", bytes);
    attack.bodyless = attack
        .steps
        .first()
        .is_some_and(|step| matches!(step, Step::Say(bytes) if bytes.starts_with(b"HEAD")));
    attack
}

fn broken_frames(dice: &mut Dice) -> Attack {
    let bytes = match dice.below(14) {
        // Not masked.
        0 => vec![TEXT, 2, b'{', b'}'],
        // Reserved bits and operations.
        1 => frame(0xc1, b"{}"),
        2 => frame(0xf1, b"{}"),
        3 => frame(0x83 + dice.below(5) as u8, b"x"),
        4 => frame(0x8b + dice.below(5) as u8, b"x"),
        // Control frames that are too long, or in pieces.
        5 => frame(0x89, &[b'p'; 126]),
        6 => frame(0x09, b"p"),
        7 => frame(0x88, &[b'c'; 200]),
        // Lengths that nobody has, and more than is taken.
        8 => vec![TEXT, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4],
        9 => vec![TEXT, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4],
        10 => frame(TEXT, &vec![b'x'; 65_537 + dice.below(100_000) as usize]),
        // A continuation of nothing.
        11 => frame(0x80, b"x"),
        12 => frame(TEXT, b"\xff\xfe\xc0\x80"),
        _ => {
            let noise = dice.bytes(600);
            // What is noise may be the beginning of something long.
            let steps =
                vec![Step::Say(HANDSHAKE.into()), Step::Hear(1), Step::Say(noise), Step::End];
            return Attack::steps(Door::WebSocket, "broken frames", steps);
        }
    };
    after_handshake("broken frames", bytes, 1)
}

fn pieces(dice: &mut Dice) -> Attack {
    let mut bytes = Vec::new();
    match dice.below(4) {
        0 => {
            bytes.extend(frame(0x01, b"{\"type\":"));
            bytes.extend(frame(0x89, b"between"));
            bytes.extend(frame(0x80, b"\"ping\"}"));
        }
        1 => {
            bytes.extend(frame(0x01, b""));
            (0..dice.below(5_000)).for_each(|_| bytes.extend(frame(0x00, b"")));
            bytes.extend(frame(0x80, b"{\"type\":\"ping\"}"));
        }
        2 => {
            bytes.extend(frame(0x01, b"x"));
            (0..70).for_each(|_| bytes.extend(frame(0x00, &[b'y'; 1_000])));
            bytes.extend(frame(0x80, b"z"));
        }
        _ => {
            bytes.extend(frame(0x01, b"{"));
            bytes.extend(frame(TEXT, b"{}"));
        }
    }
    after_handshake("messages in pieces", bytes, 1)
}

fn floods(dice: &mut Dice) -> Attack {
    let (kind, payload): (u8, &[u8]) = match dice.below(4) {
        0 => (0x89, b"ping"),
        1 => (0x8a, b"pong"),
        2 => (TEXT, b"{\"type\":\"ping\",\"data\":{}}"),
        _ => (0x82, b"binary"),
    };
    let bytes = frame(kind, payload).repeat(101 + dice.below(400) as usize);
    // More than a hundred in a second are told so, or cut off.
    after_handshake("floods of messages", bytes, 1)
}

fn closes(dice: &mut Dice) -> Attack {
    let code = [0, 999, 1000, 1004, 1005, 1006, 1011, 1015, 2999, 3000, 4999, 5000, 65_535]
        [dice.below(13) as usize];
    let reason: &[u8] = dice.pick(&[&b""[..], b"bye", b"\xff\xff", &[b'r'; 123]]);
    let payload = match dice.below(4) {
        0 => vec![3],
        1 => Vec::new(),
        _ => [&u16::to_be_bytes(code), reason].concat(),
    };
    let mut bytes = frame(0x88, &payload);
    if dice.below(2) == 0 {
        bytes.extend(frame(TEXT, b"{\"type\":\"ping\"}"));
    }
    after_handshake("bad closes", bytes, 1)
}

fn messages(dice: &mut Dice, target: &Target) -> Attack {
    let text = match dice.below(12) {
        0 => "[".repeat(dice.below(60_000) as usize),
        1 => format!("{{\"type\":\"ping\",\"data\":{}", "{\"a\":".repeat(dice.below(10_000) as usize)),
        2 => {
            // The echo lies one deeper, and its reader here has a limit of 127.
            let depth = dice.below(124) as usize;
            format!("{{\"type\":\"ping\",\"data\":{}{}}}", "[".repeat(depth), "]".repeat(depth))
        }
        3 => json!({ "type": "ice-candidate", "data": { "candidate": candidate(dice), "sdpMLineIndex": dice.below(1 << 33), "sdpMid": "\0" } }).to_string(),
        4 => "{\"type\":\"ping\",\"data\":1e999}".into(),
        5 => "{\"type\":\"ping\",\"type\":\"offer\",\"data\":null,\"data\":1}".into(),
        6 => dice.pick(&["", " ", "null", "1", "\"x\"", "{}", "{\"type\":null}", "{\"type\":\"answer\"}", "{\"type\":\"\\ud800\"}"]).into(),
        7 => json!({ "type": "offer", "data": { "type": "offer", "sdp": "x".repeat(60_000) } }).to_string(),
        8 => json!({ "type": "offer", "data": [[], {}, null] }).to_string(),
        _ => {
            let offer = String::from_utf8_lossy(&mutated(dice, target.offer)).into_owned();
            json!({ "type": "offer", "data": { "sdp": offer } }).to_string()
        }
    };
    let mut bytes = frame(TEXT, text.as_bytes());
    bytes.truncate(bytes.len().min(65_000));
    let whole = bytes.len() == frame(TEXT, text.as_bytes()).len();
    if dice.below(3) == 0 {
        // Another one behind it, whatever came of the first.
        let second = json!({ "type": "offer", "data": target.offer }).to_string();
        bytes.extend(frame(TEXT, second.as_bytes()));
    }
    let mut attack = after_handshake("messages", bytes, usize::from(whole));
    if dice.below(4) == 0 {
        attack.steps.pop();
        attack.steps.extend([Step::Wait(Duration::from_millis(20)), Step::Reset]);
    }
    attack
}
