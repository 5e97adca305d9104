//! RTSP as no player speaks it, before, between and after requests that are right.

use std::time::Duration;

use super::attack::{Attack, Door, Step};
use crate::common::Dice;

/// The camera's address, whatever the port.
pub const URL: &str = "rtsp://127.0.0.1/sim";

/// A request with these headers, each with its end of line.
pub fn request(method: &str, url: &str, cseq: u32, headers: &str) -> String {
    format!("{method} {url} RTSP/1.0\r\nCSeq: {cseq}\r\n{headers}\r\n")
}

fn setup(transport: &str) -> String {
    request("SETUP", &format!("{URL}/stream=0"), 2, &format!("Transport: {transport}\r\n"))
}

/// DESCRIBE and SETUP over TCP, then this.
fn once_set_up(form: &'static str, then: Vec<Step>) -> Attack {
    let describe = request("DESCRIBE", URL, 1, "Accept: application/sdp\r\n");
    let mut steps = vec![
        Step::Say(describe.into()),
        Step::Hear(1),
        Step::Say(setup("RTP/AVP/TCP;unicast;interleaved=0-1").into()),
        Step::Hear(2),
    ];
    steps.extend(then);
    steps.push(Step::End);
    Attack::steps(Door::Rtsp, form, steps)
}

/// The same, playing.
fn once_playing(form: &'static str, then: Vec<Step>) -> Attack {
    let play = request("PLAY", URL, 3, "Session: {session}\r\n");
    let mut steps = vec![Step::Say(play.into()), Step::Hear(3)];
    steps.extend(then);
    once_set_up(form, steps)
}

fn rtsp(form: &'static str, bytes: impl Into<Vec<u8>>) -> Attack {
    Attack::new(Door::Rtsp, form, bytes)
}

fn unfinished(form: &'static str, bytes: impl Into<Vec<u8>>) -> Attack {
    Attack::unfinished(Door::Rtsp, form, bytes)
}

/// One request of this door.
pub fn throw(dice: &mut Dice) -> Attack {
    match dice.below(15) {
        0 | 1 => speeds(dice),
        2 => interleaved(dice),
        3 => endless(dice),
        4 => half(dice),
        5 | 6 => transports(dice),
        7 => sequence_numbers(dice),
        8 => records(dice),
        9 => tunnels(dice),
        10 => sessions(dice),
        11 => floods(dice),
        12 => urls(dice),
        13 => lengths(dice),
        _ => odd_lines(dice),
    }
}

/// CVE-2024-44331: what PLAY is told of speed and place.
fn speeds(dice: &mut Dice) -> Attack {
    let number = dice.pick(&[
        "0",
        "-0",
        "-1",
        "1e308",
        "-1e308",
        "1e-320",
        "nan",
        "inf",
        "-inf",
        "",
        "x",
        "2.0",
        "0.0000001",
        "99999999999",
        "1,0",
        "0x10",
        "1.0.0",
    ]);
    let range = dice.pick(&[
        "npt=0-",
        "npt=now-",
        "npt=-",
        "npt=-1",
        "npt=5-1",
        "npt=1e400-",
        "npt=nan-inf",
        "npt=-5-",
        "npt=99:99:99-",
        "npt=99999999999999999999-",
        "clock=",
        "clock=20240101T000000Z-",
        "clock=99999999T999999Z-",
        "clock=-",
        "smpte=",
        "smpte=25:99:99:99-",
        "smpte-30-drop=0:0:0-",
        "",
        "x",
        "=-=",
        "npt=0-;time=20240101T000000Z",
        "npt=0-1-2-3",
        "npt=:::-",
        "npt=0-\u{1}",
        "clock=19961108T142300Z-19961108T143520Z;time=x",
    ]);
    let headers = match dice.below(5) {
        0 => format!("Scale: {number}\r\n"),
        1 => format!("Speed: {number}\r\n"),
        2 => format!("Range: {range}\r\n"),
        3 => format!("Scale: {number}\r\nSpeed: {number}\r\nRange: {range}\r\n"),
        _ => format!(
            "Seek-Style: {number}\r\nRange: {range}\r\nRate-Control: no\r\nBlocksize: {number}\r\nBandwidth: {number}\r\n"
        ),
    };
    let play = |cseq| request("PLAY", URL, cseq, &format!("Session: {{session}}\r\n{headers}"));
    match dice.below(3) {
        0 => {
            let pause = request("PAUSE", URL, 4, "Session: {session}\r\n");
            let then = [pause, play(5)].concat();
            once_playing("Scale, Speed and Range", vec![Step::Say(then.into()), Step::Hear(5)])
        }
        1 => once_playing("Scale, Speed and Range", vec![Step::Say(play(4).into()), Step::Hear(4)]),
        _ => once_set_up("Scale, Speed and Range", vec![Step::Say(play(3).into()), Step::Hear(3)]),
    }
}

fn interleaved(dice: &mut Dice) -> Attack {
    let mut bytes = Vec::new();
    for _ in 0..=dice.below(60) {
        let payload = match dice.below(3) {
            0 => dice.bytes(200),
            1 => super::udp::rtcp(dice),
            _ => vec![0x80; dice.below(20_000) as usize],
        };
        let length =
            if dice.below(8) == 0 { dice.below(65_536) as u16 } else { payload.len() as u16 };
        bytes.extend([b'$', dice.below(256) as u8]);
        bytes.extend(length.to_be_bytes());
        bytes.extend(payload);
    }
    let steps = vec![Step::Say(bytes), Step::Wait(Duration::from_millis(dice.below(100)))];
    match dice.below(3) {
        0 => Attack::steps(Door::Rtsp, "interleaved garbage", [steps, vec![Step::End]].concat()),
        1 => once_set_up("interleaved garbage", steps),
        _ => once_playing("interleaved garbage", steps),
    }
}

fn endless(dice: &mut Dice) -> Attack {
    let begin = format!("OPTIONS {URL} RTSP/1.0\r\nCSeq: 1\r\n");
    let bytes = match dice.below(4) {
        0 => begin + &"X-Endless: y\r\n".repeat(dice.below(20_000) as usize),
        1 => begin + "X: " + &"y".repeat(dice.below(200_000) as usize),
        2 => "O".repeat(dice.below(200_000) as usize),
        _ => {
            begin
                + &"CSeq: 1\r\nSession: x\r\nTransport: x\r\n".repeat(dice.below(2_000) as usize)
                + "\r\n"
        }
    };
    unfinished("endless headers", bytes)
}

fn half(dice: &mut Dice) -> Attack {
    let whole = [
        request("DESCRIBE", URL, 1, "Accept: application/sdp\r\n"),
        setup("RTP/AVP/TCP;unicast;interleaved=0-1"),
    ]
    .concat();
    let cut = dice.below(whole.len() as u64) as usize;
    let mut attack = unfinished("half a request", &whole.as_bytes()[..cut]);
    if dice.below(2) == 0 {
        attack.steps = vec![Step::Say(whole.as_bytes()[..cut].to_vec()), Step::Reset];
    }
    attack
}

fn transports(dice: &mut Dice) -> Attack {
    let transport = dice.pick(&[
        "",
        ";",
        "RTP",
        "RTP/AVP",
        "RTP/AVP;unicast",
        "RTP/AVP;unicast;client_port=0-0",
        "RTP/AVP;unicast;client_port=65535-65536",
        "RTP/AVP;unicast;client_port=-1--2",
        "RTP/AVP;unicast;client_port=9",
        "RTP/AVP;unicast;client_port=1-65535",
        "RTP/AVP;unicast;destination=192.0.2.1;client_port=5000-5001",
        "RTP/AVP;unicast;source=192.0.2.1;client_port=5000-5001",
        "RTP/AVP;multicast;destination=224.0.0.1;port=5000-5001;ttl=255",
        "RTP/AVP;multicast;ttl=99999",
        "RTP/AVP;multicast",
        "RTP/AVP/TCP;interleaved=0-0",
        "RTP/AVP/TCP;interleaved=254-255",
        "RTP/AVP/TCP;interleaved=300-301",
        "RTP/AVP/TCP;interleaved=-1-0",
        "RTP/AVP/TCP;interleaved=0",
        "RTP/AVP/TCP;interleaved=x-y",
        "RTP/AVP/TCP;interleaved=1-0",
        "RTP/AVP/TCP;unicast;mode=record;interleaved=0-1",
        "RTP/AVP/TCP;unicast;mode=\"PLAY,RECORD\";interleaved=0-1",
        "RTP/SAVP;unicast;client_port=5000-5001",
        "RTP/SAVPF/TCP;interleaved=0-1",
        "RAW/RAW/UDP;unicast;client_port=5000-5001",
        "x-real-rdt/udp;client_port=1-2",
        "RTP/AVP/TCP;unicast;ssrc=zzzzzzzz;interleaved=0-1",
        "RTP/AVP;unicast;layers=-1;client_port=1-2",
        "RTP/AVP;unicast;client_port=\u{e9}",
        "RTP/AVP;unicast;append;append;append;client_port=5000-5001",
        "RTP/AVP;unicast;client_port=99999999999999999999-5",
        "RTP/AVP/TCP;unicast;server_port=1-2;interleaved=0-1",
    ]);
    let transport = match dice.below(6) {
        0 => vec![transport; 300].join(","),
        1 => format!("{transport};{}", "x=y;".repeat(2_000)),
        _ => transport.to_owned(),
    };
    let stream = dice.pick(&[
        "/stream=0",
        "/stream=0",
        "/stream=1",
        "/stream=-1",
        "/stream=4294967296",
        "",
        "/",
        "/stream=0/stream=0",
        "/stream=%00",
    ]);
    let headers = format!("Transport: {transport}\r\n");
    let bytes = request("SETUP", &format!("{URL}{stream}"), 1, &headers);
    if dice.below(3) == 0 {
        let play = request("PLAY", URL, 2, "Session: {session}\r\n");
        let steps = vec![
            Step::Say(bytes.into()),
            Step::Hear(1),
            Step::Say(play.into()),
            Step::Hear(2),
            Step::End,
        ];
        return Attack::steps(Door::Rtsp, "bad Transport", steps);
    }
    rtsp("bad Transport", bytes)
}

fn sequence_numbers(dice: &mut Dice) -> Attack {
    let cseq = dice.pick(&[
        "-1",
        "4294967295",
        "4294967296",
        "99999999999999999999999",
        "x",
        "",
        "1.5",
        "\u{1}",
        "1 2",
    ]);
    let method = dice.pick(&["OPTIONS", "DESCRIBE", "TEARDOWN"]);
    let bytes = match dice.below(4) {
        0 => format!("{method} {URL} RTSP/1.0\r\n\r\n"),
        1 => format!("{method} {URL} RTSP/1.0\r\nCSeq: 1\r\nCSeq: 2\r\n\r\n"),
        2 => format!("{method} {URL} RTSP/1.0\r\nCSeq: {}\r\n\r\n", "9".repeat(30_000)),
        _ => format!("{method} {URL} RTSP/1.0\r\nCSeq: {cseq}\r\n\r\n"),
    };
    rtsp("odd CSeq", bytes)
}

fn records(dice: &mut Dice) -> Attack {
    let sdp = match dice.below(4) {
        0 => "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:stream=0\r\n".into(),
        1 => "m=video\r\n".repeat(2_000),
        2 => format!("v=0\r\na={}\r\n", "x".repeat(60_000)),
        _ => String::from_utf8_lossy(&dice.bytes(500)).into_owned(),
    };
    let kind = dice.pick(&["application/sdp", "text/parameters", "x"]);
    let method =
        dice.pick(&["ANNOUNCE", "RECORD", "SET_PARAMETER", "GET_PARAMETER", "REDIRECT", "OPTIONS"]);
    let headers = format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", sdp.len());
    rtsp("ANNOUNCE, RECORD and bodies", request(method, URL, 1, &headers) + &sdp)
}

fn tunnels(dice: &mut Dice) -> Attack {
    let cookie = match dice.below(4) {
        0 => "x".repeat(dice.below(3_000) as usize),
        1 => String::new(),
        2 => "\u{e9}\u{1}".into(),
        _ => format!("cookie{}", dice.below(3)),
    };
    let (get, accept) = ("GET /sim HTTP/1.0\r\n", "Accept: application/x-rtsp-tunnelled\r\n");
    let post = "POST /sim HTTP/1.0\r\nContent-Type: application/x-rtsp-tunnelled\r\nContent-Length: 32767\r\n";
    let bytes = match dice.below(5) {
        0 => format!("{get}x-sessioncookie: {cookie}\r\n{accept}\r\n"),
        1 => format!(
            "{post}x-sessioncookie: {cookie}\r\n\r\nT1BUSU9OUyAqIFJUU1AvMS4wDQpDU2VxOiAxDQoNCg=="
        ),
        2 => format!("{get}{accept}\r\n"),
        3 => format!("{get}x-sessioncookie: {cookie}\r\n{accept}\r\n").repeat(20),
        _ => format!("{post}x-sessioncookie: {cookie}\r\n\r\n{}", "!=\0?".repeat(500)),
    };
    unfinished("tunnels", bytes)
}

fn sessions(dice: &mut Dice) -> Attack {
    let session = match dice.below(6) {
        0 => "0".into(),
        1 => "x".repeat(dice.below(20_000) as usize),
        2 => ";timeout=-1".into(),
        3 => "\u{e9}%s%n".into(),
        4 => "{session}x".into(),
        _ => "00000000;timeout=99999999999999999999".to_owned(),
    };
    let method = dice.pick(&[
        "PLAY",
        "PAUSE",
        "TEARDOWN",
        "GET_PARAMETER",
        "SET_PARAMETER",
        "RECORD",
        "SETUP",
    ]);
    let headers = format!("Session: {session}\r\nTransport: RTP/AVP/TCP;interleaved=0-1\r\n");
    let bytes = request(method, URL, 3, &headers);
    if dice.below(2) == 0 {
        return once_set_up("Sessions of others", vec![Step::Say(bytes.into()), Step::Hear(3)]);
    }
    rtsp("Sessions of others", bytes)
}

fn floods(dice: &mut Dice) -> Attack {
    let method = dice.pick(&["OPTIONS", "GET_PARAMETER", "DESCRIBE", "X"]);
    let count = if method == "DESCRIBE" { 3 } else { 2 + dice.below(60) as u32 };
    let bytes: String = (1..=count).map(|cseq| request(method, URL, cseq, "")).collect();
    rtsp("floods of requests", bytes)
}

fn urls(dice: &mut Dice) -> Attack {
    let url = match dice.below(4) {
        0 => format!("rtsp://127.0.0.1/{}", "a/".repeat(dice.below(15_000) as usize)),
        1 => format!("{URL}?{}", "a=b&".repeat(dice.below(4_000) as usize)),
        _ => dice
            .pick(&[
                "*",
                "",
                "/",
                "sim",
                "rtsp://",
                "rtsp:///sim",
                "rtsp://127.0.0.1",
                "rtsp://127.0.0.1:99999/sim",
                "rtsp://[::1/sim",
                "rtsp://user:pass@127.0.0.1/sim",
                "rtsp://127.0.0.1/%00",
                "rtsp://127.0.0.1/sim%00",
                "rtsp://127.0.0.1/sim\0x",
                "rtsp://127.0.0.1/../../etc/passwd",
                "rtsp://127.0.0.1/sim/../sim",
                "rtsp://127.0.0.1/%ff%fe",
                "rtsp://127.0.0.1//sim",
                "http://127.0.0.1/sim",
                "rtspu://127.0.0.1/sim",
                "rtsp://127.0.0.1/sim/stream=0/stream=0",
                "rtsp://127.0.0.1/SIM",
                "rtsp://evil.example/sim",
                "rtsp://127.0.0.1/sim#x",
                "rtsp://127.0.0.1/%",
                "rtsp://127.0.0.1/s%69m",
                "rtsp://127.0.0.1/sim/none",
            ])
            .to_owned(),
    };
    let method = dice.pick(&["DESCRIBE", "SETUP", "OPTIONS", "PLAY", "TEARDOWN"]);
    let headers = "Transport: RTP/AVP/TCP;interleaved=0-1\r\nSession: x\r\n";
    let headers = if dice.below(2) == 0 { headers } else { &headers[..headers.len() - 12] };
    rtsp("odd URLs", request(method, &url, 1, headers))
}

fn lengths(dice: &mut Dice) -> Attack {
    let length = dice.pick(&[
        "-1",
        "-2147483648",
        "2147483647",
        "2147483648",
        "4294967295",
        "4294967296",
        "18446744073709551615",
        "99999999999999999999",
        "x",
        "",
        "1e9",
        "5, 5",
        "10000000",
        "0x10",
    ]);
    let method = dice.pick(&["OPTIONS", "ANNOUNCE", "SET_PARAMETER", "DESCRIBE"]);
    let headers = format!("Content-Length: {length}\r\n");
    unfinished("odd lengths", request(method, URL, 1, &headers) + "body")
}

fn odd_lines(dice: &mut Dice) -> Attack {
    let bytes: Vec<u8> = match dice.below(14) {
        0 => format!("OPTIONS {URL} RTSP/2.0\r\nCSeq: 1\r\n\r\n").into(),
        1 => format!("OPTIONS {URL} RTSP/1.0\nCSeq: 1\n\n").into(),
        2 => format!("OPTIONS {URL} RTSP/1.0\rCSeq: 1\r\r").into(),
        3 => format!("OPTIONS {URL}\r\nCSeq: 1\r\n\r\n").into(),
        4 => format!("OPTIONS  {URL}  RTSP/1.0\r\nCSeq : 1\r\n\r\n").into(),
        5 => format!("OPTIONS {URL} RTSP/1.0\r\nCSeq: 1\r\nX: a\r\n b\r\n\r\n").into(),
        6 => format!("OPTIONS {URL} RTSP/1.0\r\nCSeq: 1\r\nX: a\0b\r\n\r\n").into(),
        7 => b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n".to_vec(),
        8 => b"\r\n\r\n\r\n".to_vec(),
        9 => [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &dice.bytes(400)].concat(),
        10 => dice.bytes(3_000),
        11 => {
            format!("{} {URL} RTSP/1.0\r\nCSeq: 1\r\n\r\n", "M".repeat(dice.below(10_000) as usize))
                .into()
        }
        12 => format!(
            "OPTIONS {URL} RTSP/1.0\r\nCSeq: 1\r\nRequire: {}\r\nProxy-Require: x\r\n\r\n",
            "x,".repeat(dice.below(500) as usize)
        )
        .into(),
        _ => format!(
            "DESCRIBE {URL} RTSP/1.0\r\nCSeq: 1\r\nAccept: {}\r\nAuthorization: Digest {}\r\n\r\n",
            "x/y,".repeat(300),
            "a=\"".repeat(300)
        )
        .into(),
    };
    unfinished("odd lines", bytes)
}
