//! Offers, fragments and sessions as no browser has them.

use super::attack::{Attack, Door};
use super::http::request;
use super::target::Target;
use crate::common::Dice;

const SDP: &str = "Content-Type: application/sdp\r\n";
const FRAGMENT: &str = "Content-Type: application/trickle-ice-sdpfrag\r\n";

/// What an offer may be answered with.
const JOIN: &[u16] = &[201, 400, 406, 409, 422, 429, 503];

/// One request of this kind.
pub fn throw(dice: &mut Dice, target: &Target) -> Attack {
    match dice.below(8) {
        0..4 => {
            let offer = mutated(dice, target.offer);
            join(dice.pick(&["/whep/sim", "/whep/sim?rendition=main"]), &offer)
        }
        4 | 5 => fragment(dice, target),
        6 => if_match(dice, target),
        _ => strangers(dice, target),
    }
}

fn join(path: &str, offer: &[u8]) -> Attack {
    let codes = [JOIN, &[404, 413]].concat();
    Attack::new(Door::Http, "offers", request("POST", path, SDP, offer)).only(&codes)
}

/// A text with some of its lines, or of its bytes, changed.
pub fn mutated(dice: &mut Dice, text: &str) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> =
        text.split_inclusive('\n').map(|line| line.as_bytes().to_vec()).collect();
    for _ in 0..=dice.below(4) {
        let at = dice.below(lines.len() as u64) as usize;
        match dice.below(14) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[at].clone()),
            2 => {
                let other = dice.below(lines.len() as u64) as usize;
                lines.swap(at, other);
            }
            3 => lines[at] = dice.bytes(80),
            4 => lines.truncate(at + 1),
            5 => lines
                .insert(at, format!("a={}\r\n", "x".repeat(dice.below(30_000) as usize)).into()),
            6 => lines.insert(at, value(dice).as_bytes().to_vec()),
            7 => {
                let number = dice.pick(&[
                    "-1",
                    "0",
                    "99999999999999999999",
                    "4294967296",
                    "NaN",
                    "%n%s",
                    "\0",
                ]);
                let line = String::from_utf8_lossy(&lines[at]).into_owned();
                let digits = |c: char| c.is_ascii_digit();
                let begin = line.find(digits).unwrap_or(line.len());
                let end = line[begin..].find(|c| !digits(c)).map_or(line.len(), |end| begin + end);
                lines[at] = format!("{}{number}{}", &line[..begin], &line[end..]).into();
            }
            8 => {
                let times = dice.below(400) as usize;
                let line = lines[at].clone();
                lines.splice(at..at, std::iter::repeat_n(line, times));
            }
            9 => lines[at].retain(|byte| *byte != b'\r'),
            10 => lines
                .insert(at, b"m=video 9 UDP/TLS/RTP/SAVPF 96\r\n".repeat(dice.below(60) as usize)),
            11 => lines.insert(
                at,
                b"a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n".repeat(dice.below(300) as usize),
            ),
            _ => {
                let byte = dice.below(lines[at].len() as u64 + 1) as usize;
                let new = dice.below(256) as u8;
                if let Some(old) = lines[at].get_mut(byte) {
                    *old = new;
                }
            }
        }
        if lines.is_empty() {
            break;
        }
    }
    let mut bytes = lines.concat();
    // One byte too many is the length limit's matter, and in its own form.
    bytes.truncate(64 * 1024);
    bytes
}

/// Lines with which others fell.
fn value(dice: &mut Dice) -> &'static str {
    const LINES: &[&str] = &[
        "a=fingerprint:sha-256 00\r\n",
        "a=fingerprint:md5 00:11\r\n",
        "a=setup:holdconn\r\n",
        "a=ice-lite\r\n",
        "a=ice-ufrag:\r\n",
        "a=ice-pwd:x\r\n",
        "a=ice-ufrag:a\rb\r\n",
        "a=mid:\r\n",
        "a=mid:../../x\r\n",
        "a=group:BUNDLE 0 0 0 0\r\n",
        "a=group:BUNDLE nothing\r\n",
        "a=rtpmap:96 H264/0\r\n",
        "a=rtpmap:999 H264/90000\r\n",
        "a=fmtp:96 profile-level-id=zzzzzz;packetization-mode=9\r\n",
        "a=fmtp:96 ;;;=;=\r\n",
        "a=extmap:0 x\r\n",
        "a=extmap:99999 urn:x\r\n",
        "a=ssrc:4294967296 cname:x\r\n",
        "a=simulcast:recv a;b\r\n",
        "a=rid:a recv\r\n",
        "a=sctp-port:5000\r\n",
        "a=max-message-size:-1\r\n",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n",
        "m=video 0 UDP/TLS/RTP/SAVPF 96\r\n",
        "m=audio 9 RTP/AVP 0\r\n",
        "c=IN IP4 999.1.1.1\r\n",
        "b=AS:-5\r\n",
        "t=18446744073709551616 0\r\n",
        "a=candidate:1 1 udp 1 255.255.255.255 1 typ host\r\n",
        "a=sendonly\r\n",
        "a=candidate:1 1 udp 1 127.0.0.1 22 typ host\r\n",
        "a=inactive\r\n",
        "a=end-of-candidates\r\n",
        "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n",
        "a=identity:x\r\n",
        "a=rtcp-fb:* \r\n",
        "=\r\n",
        "\r\n\r\n",
    ];
    dice.pick(LINES)
}

/// A trickle fragment for the session that is ours.
fn fragment(dice: &mut Dice, target: &Target) -> Attack {
    let ufrag = target.ufrag();
    let good = format!(
        "a=ice-ufrag:{ufrag}\r\na=ice-pwd:0123456789012345678901\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n\
         a=candidate:1 1 udp 2130706431 127.0.0.1 9 typ host\r\na=end-of-candidates\r\n"
    );
    let body = match dice.below(8) {
        0 => Vec::new(),
        1 => dice.bytes(2_000),
        2 => "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n"
            .repeat(1 + dice.below(1_400) as usize)
            .into(),
        3 => format!("a=ice-ufrag:{}\r\n", "u".repeat(dice.below(60_000) as usize)).into(),
        4 => format!("a=candidate:{}\r\n", candidate(dice)).into(),
        _ => mutated(dice, &good),
    };
    let tag = format!("If-Match: {}\r\n{FRAGMENT}", target.etag);
    let bytes = request("PATCH", &target.session, &tag, &body);
    Attack::new(Door::Http, "fragments", bytes).only(&[204, 400, 404, 412, 413, 422, 428, 429])
}

/// A candidate that leads nowhere, or to where nobody should be led.
pub fn candidate(dice: &mut Dice) -> String {
    let words = [
        dice.pick(&["1", "", "\u{e9}", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "-", "0"]),
        dice.pick(&["1", "2", "0", "256", "-1", "x"]),
        dice.pick(&["udp", "tcp", "UDP", "sctp", "\0"]),
        dice.pick(&["2130706431", "0", "4294967296", "-1", "1e9"]),
        dice.pick(&[
            "127.0.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "::1",
            "fe80::1%eth0",
            "::ffff:127.0.0.1",
            "x.local",
            "999.1.1.1",
            "[::1]",
        ]),
        dice.pick(&["9", "0", "65536", "-1", "22", "x"]),
        "typ",
        dice.pick(&["host", "srflx", "prflx", "relay", "ghost", ""]),
        dice.pick(&[
            "",
            "raddr 0.0.0.0 rport 9",
            "raddr x rport y",
            "raddr",
            "tcptype active",
            "generation 0 ufrag x",
        ]),
    ];
    words.join(dice.pick(&[" ", " ", " ", "  ", "\t"]))
}

fn if_match(dice: &mut Dice, target: &Target) -> Attack {
    let tag = dice.pick(&[
        "",
        "If-Match: \r\n",
        "If-Match: \"\"\r\n",
        "If-Match: W/\"x\"\r\n",
        "If-Match: ,,,\r\n",
        "If-Match: \"\u{ff}\"\r\n",
        "If-Match: \"a\"\r\nIf-Match: \"b\"\r\n",
        "If-None-Match: *\r\n",
        "If-Match: \"unclosed\r\n",
    ]);
    let bytes =
        request("PATCH", &target.session, &format!("{FRAGMENT}{tag}"), b"a=end-of-candidates\r\n");
    Attack::new(Door::Http, "If-Match", bytes).only(&[400, 404, 412, 428, 429])
}

/// Sessions that are not ours to touch, by names that are guessed.
fn strangers(dice: &mut Dice, target: &Target) -> Attack {
    let own = target.session.rsplit('/').next().unwrap_or_default();
    let near = match dice.below(6) {
        0 => own.to_uppercase() + "0",
        1 => own[1..].to_owned(),
        2 => format!("{own}%00"),
        3 => "00000000-0000-4000-8000-000000000000".into(),
        4 => format!("{own}/{own}"),
        _ => "*".into(),
    };
    let begin = dice.pick(&["/whep/sim/", "/whep/none/", "/api/v1/sessions/"]);
    let method = dice.pick(&["DELETE", "PATCH", "OPTIONS", "GET", "POST", "PUT"]);
    let headers = format!("If-Match: *\r\n{FRAGMENT}");
    let bytes = request(method, &format!("{begin}{near}"), &headers, b"a=end-of-candidates\r\n");
    Attack::new(Door::Http, "sessions of others", bytes).only(&[400, 404, 405])
}
