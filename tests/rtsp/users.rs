//! RTSP with users: who gets in, by which proof, and what everybody else hears.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use lensline::admission::Limits;
use lensline::config::{Auth, Role, User};
use lensline::password::{self, md5, rtsp_digest};
use lensline_clients::{RtspAnswer, RtspConversation as Viewer};
use retina::client::{Credentials, Session, SessionOptions};

use crate::house::{House, LIMITS, eventually};

/// Otto may watch `cam`, Dora another.
fn users(digest: bool) -> Auth {
    let user = |name: &str, camera: &str| User {
        name: name.into(),
        password_hash: password::hash("secret").unwrap().into(),
        digest_ha1: digest.then(|| rtsp_digest(name, "secret").into()),
        cameras: Some(vec![camera.into()]),
        role: Role::Viewer,
    };
    Auth { mode: None, users: vec![user("otto", "cam"), user("dora", "other")] }
}

fn house(digest: bool) -> House {
    let house = House::open();
    house.auth.reload(&users(digest));
    house
}

/// `name:secret` in base64.
fn basic(name: &str) -> (&'static str, &'static str) {
    let value = match name {
        "otto" => "Basic b3R0bzpzZWNyZXQ=",
        "dora" => "Basic ZG9yYTpzZWNyZXQ=",
        _ => "Basic bm9ib2R5OnNlY3JldA==",
    };
    ("Authorization", value)
}

fn describe(house: &House, headers: &[(&str, &str)]) -> RtspAnswer {
    Viewer::connect(house.address, "/cam").ask("DESCRIBE", "", headers)
}

#[test]
fn a_stranger_hears_how_to_prove_himself_and_nothing_of_the_camera() {
    let house = house(true);
    let mut stranger = Viewer::connect(house.address, "/cam");
    assert_eq!(stranger.ask("OPTIONS", "", &[]).status, 200);
    for method in ["DESCRIBE", "SETUP", "PLAY", "PAUSE", "TEARDOWN", "GET_PARAMETER"] {
        let answer = stranger.ask(method, "", &[]);
        assert_eq!(answer.status, 401, "{method}");
        assert!(answer.headers["www-authenticate"].contains("realm=\"Lensline\""), "{answer:?}");
    }
    let elsewhere = Viewer::connect(house.address, "/nosuch").ask("DESCRIBE", "", &[]);
    assert_eq!(elsewhere.status, 401, "not even that there is no such camera");
    drop(stranger);
    house.empties();
}

#[test]
fn credentials_open_the_cameras_that_are_theirs() {
    let house = house(false);
    assert_eq!(describe(&house, &[basic("otto")]).status, 200);
    assert_eq!(describe(&house, &[basic("dora")]).status, 403);
    assert_eq!(describe(&house, &[basic("nobody")]).status, 401);
    for garbage in ["Basic", "Basic !!", "Digest", "Digest username=\"otto\"", "Bearer", "\u{7f}"] {
        assert_eq!(describe(&house, &[("Authorization", garbage)]).status, 401, "{garbage:?}");
    }
    let bearer = describe(&house, &[("Authorization", "Bearer otto:secret")]);
    assert_eq!(bearer.status, 200);
    house.empties();
}

#[test]
fn who_has_proved_himself_once_on_a_connection_is_known_there_until_the_users_change() {
    let house = house(false);
    let mut viewer = Viewer::connect(house.address, "/cam");
    assert_eq!(viewer.ask("GET_PARAMETER", "", &[basic("otto")]).status, 200);
    viewer.set_up();
    assert_eq!(viewer.ask("PLAY", "", &[]).status, 200);
    assert!(viewer.picture().is_some());
    let session = &house.registry.list()[0];
    assert_eq!(session.user.as_deref(), Some("otto"));
    house.auth.reload(&Auth { mode: None, users: users(false).users.split_off(1) });
    assert_eq!(viewer.ask("GET_PARAMETER", "", &[]).status, 401);
    drop(viewer);
    house.empties();
}

#[test]
fn strangers_take_no_places_and_have_few_connections() {
    let house = House::open_with(Limits { rtsp_sessions_max: 1, ..LIMITS }, true);
    house.auth.reload(&users(false));
    let mut strangers: Vec<Viewer> =
        (0..15).map(|_| Viewer::connect(house.address, "/cam")).collect();
    for stranger in &mut strangers {
        assert_eq!(stranger.ask("OPTIONS", "", &[]).status, 200);
    }
    let mut otto = Viewer::connect(house.address, "/cam");
    assert_eq!(otto.ask("DESCRIBE", "", &[basic("otto")]).status, 200, "the one place is his");
    strangers.push(Viewer::connect(house.address, "/cam"));
    let mut one_more = Viewer::connect(house.address, "/cam");
    let answer = one_more.ask("OPTIONS", "", &[]);
    assert_eq!(answer.status, 503);
    assert!(answer.headers.contains_key("retry-after"));
    let deadline = Instant::now() + Duration::from_secs(60);
    while !strangers.is_empty() {
        assert!(Instant::now() < deadline, "{} strangers are still there", strangers.len());
        std::thread::sleep(Duration::from_millis(100));
        strangers.retain_mut(|stranger| stranger.is_open());
    }
    drop((otto, one_more));
    house.empties();
}

#[test]
fn a_connection_is_one_user_s() {
    let house = house(false);
    let mut both = users(false);
    both.users[1].cameras = None;
    house.auth.reload(&both);
    let mut viewer = Viewer::connect(house.address, "/cam");
    assert_eq!(viewer.ask("DESCRIBE", "", &[basic("otto")]).status, 200);
    assert_eq!(viewer.ask("DESCRIBE", "", &[basic("dora")]).status, 403);
    drop(viewer);
    house.empties();
}

#[test]
fn a_header_that_is_no_text_or_is_there_twice_is_refused_like_a_wrong_one() {
    let house = House::open();
    for header in
        [&b"Scale: nan\xff"[..], b"Speed: inf\xff", b"Range: npt=0-5\xff", b"Scale: 1\r\nScale: 0"]
    {
        let mut stream = TcpStream::connect(house.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let start = format!("PLAY {} RTSP/1.0\r\nCSeq: 1\r\n", house.url("/cam"));
        stream.write_all(&[start.as_bytes(), header, b"\r\n\r\n"].concat()).unwrap();
        let mut answer = [0; 64];
        let length = stream.read(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
        assert!(answer.starts_with("RTSP/1.0 45"), "{header:?}: {answer}");
        assert!(!answer.starts_with("RTSP/1.0 454"), "{header:?}: {answer}");
    }
    house.empties();
}

#[test]
fn digest_is_offered_where_every_user_has_it_and_an_answer_is_worth_nothing_elsewhere() {
    let without = house(false);
    let challenge = describe(&without, &[]).headers["www-authenticate"].clone();
    assert!(challenge.starts_with("Basic"), "{challenge}");
    drop(without);

    let house = house(true);
    let mut viewer = Viewer::connect(house.address, "/cam");
    let challenge = viewer.ask("DESCRIBE", "", &[]).headers["www-authenticate"].clone();
    assert!(challenge.contains("Digest") && challenge.contains("Basic"), "{challenge}");
    let nonce = challenge.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap();
    let uri = house.url("/cam");
    let ha2 = md5(&["DESCRIBE", &uri]);
    let response = md5(&[&rtsp_digest("otto", "secret"), nonce, &ha2]);
    let answer = format!(
        "Digest username=\"otto\", realm=\"Lensline\", nonce=\"{nonce}\", uri=\"{uri}\", \
         response=\"{response}\""
    );
    let proof = [("Authorization", &*answer)];
    assert_eq!(viewer.ask("DESCRIBE", "", &proof).status, 200);
    assert_eq!(viewer.ask("SETUP", "/stream=0", &proof).status, 401, "signed for another method");
    assert_eq!(describe(&house, &proof).status, 401, "signed for another connection");
    drop(viewer);
    house.empties();
}

#[test]
fn wrong_passwords_are_slowed_down_with_a_503_that_says_when_to_come_back() {
    let house = house(false);
    for _ in 0..5 {
        assert_eq!(describe(&house, &[basic("nobody")]).status, 401);
    }
    let answer = describe(&house, &[basic("otto")]);
    assert_eq!(answer.status, 503, "not listened to, although right");
    assert!(answer.headers["retry-after"].parse::<u64>().unwrap() >= 1);
    house.empties();
}

#[test]
fn one_user_may_have_so_many_connections_and_no_more() {
    let house = House::open_with(Limits { sessions_per_user_max: 1, ..LIMITS }, true);
    house.auth.reload(&users(false));
    let mut first = Viewer::connect(house.address, "/cam");
    assert_eq!(first.ask("DESCRIBE", "", &[basic("otto")]).status, 200);
    let answer = describe(&house, &[basic("otto")]);
    assert_eq!(answer.status, 503);
    assert!(answer.headers.contains_key("retry-after"));
    drop(first);
    house.empties();
    assert_eq!(describe(&house, &[basic("otto")]).status, 200);
    house.empties();
}

#[test]
fn ffmpeg_gstreamer_and_retina_prove_themselves_by_basic_and_by_digest() {
    for digest in [false, true] {
        let house = house(digest);
        let url = house.url("/cam").replace("rtsp://", "rtsp://otto:secret@");
        let probe = Command::new("timeout")
            .args(["20", "ffprobe", "-v", "error", "-rtsp_transport", "tcp"])
            .args(["-show_entries", "stream=width", &url])
            .output()
            .unwrap();
        let shown = String::from_utf8_lossy(&probe.stdout);
        assert!(shown.contains("width=320"), "digest {digest}: {probe:?}");
        let pipeline = format!(
            "rtspsrc location={} user-id=otto user-pw=secret protocols=tcp ! \
             fakesink num-buffers=5",
            house.url("/cam")
        );
        let words = ["20", "gst-launch-1.0", "-q"].into_iter().chain(pipeline.split_whitespace());
        let played = Command::new("timeout").args(words).output().unwrap();
        assert!(played.status.success(), "digest {digest}: {played:?}");
        let retina = house.runtime().block_on(retina_describes(&house.url("/cam")));
        assert!(retina.is_ok(), "digest {digest}: {retina:?}");
        house.empties();
    }
}

async fn retina_describes(url: &str) -> Result<(), retina::Error> {
    let credentials = Credentials { username: "otto".into(), password: "secret".into() };
    let options = SessionOptions::default().creds(Some(credentials));
    Session::describe(url.parse().unwrap(), options).await.map(drop)
}

#[test]
fn packets_go_to_the_viewer_wherever_he_says_they_should_go() {
    let house = House::open();
    let victim = UdpSocket::bind("127.0.0.9:0").unwrap();
    victim.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let port = victim.local_addr().unwrap().port();
    let own = UdpSocket::bind(("127.0.0.1", port));
    let mut attacker = Viewer::connect(house.address, "/cam");
    let transport = format!(
        "RTP/AVP;unicast;destination=127.0.0.9;source=127.0.0.9;client_port={port}-{}",
        port.wrapping_add(1).max(1)
    );
    let setup = attacker.ask("SETUP", "/stream=0", &[("Transport", &transport)]);
    assert_eq!(setup.status, 200, "{setup:?}");
    assert!(!setup.headers["transport"].contains("127.0.0.9"), "{setup:?}");
    let session = setup.headers["session"].split(';').next().unwrap().to_owned();
    assert_eq!(attacker.ask("PLAY", "", &[("Session", &session)]).status, 200);
    let own = own.unwrap();
    own.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut packet = [0; 2048];
    assert!(own.recv(&mut packet).is_ok(), "the one who asked gets them");
    assert!(victim.recv(&mut packet).is_err(), "a stranger got packets");
    drop(attacker);
    eventually("the session has ended", || house.registry.list().is_empty());
    house.empties();
}
