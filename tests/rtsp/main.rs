//! RTSP as recorders and players meet it: real clients, and clients that behave badly.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it saw"
)]

mod clients;
mod house;
mod users;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use house::{House, LIMITS, belongings, eventually};
use lensline::admission::Limits;
use lensline::catalog::Health;
use lensline::clock::Timestamp;
use lensline::egress::rtsp::REQUEST_BYTES_MAX;
use lensline::egress::session::End;
use lensline_clients::{RtspConversation as Viewer, unit_types};

const IDR: u8 = 5;

#[test]
fn the_first_picture_is_an_idr_and_the_answer_to_play_announces_its_first_packet() {
    let house = House::open();
    for _ in 0..3 {
        let mut viewer = Viewer::connect(house.address, "/cam");
        let setup = viewer.set_up();
        let answer = viewer.ask("PLAY", "", &[]);
        let info = &answer.headers["rtp-info"];
        let first = viewer.picture().unwrap();
        assert_eq!(u32::from(first[0].seq), number(info, "seq="), "{info}");
        assert_eq!(first[0].timestamp, number(info, "rtptime="), "{info}");
        let ssrc = format!("ssrc={:08X}", first[0].ssrc);
        assert!(setup.headers["transport"].contains(&ssrc), "{setup:?} {ssrc}");
        let types = unit_types(&first);
        // The encoder may put a delimiter (9) in front and its own words (SEI, 6) in between.
        let coded: Vec<u8> = types.iter().copied().filter(|kind| ![6, 9].contains(kind)).collect();
        assert!(coded.starts_with(&[7, 8, IDR]), "{types:?}");

        let (mut seq, mut timestamp) = (first.last().unwrap().seq, first[0].timestamp);
        for _ in 0..20 {
            let picture = viewer.picture().unwrap();
            let step = picture[0].timestamp.wrapping_sub(timestamp);
            assert!((1000..30_000).contains(&step), "a step of {step} at 90 kHz");
            timestamp = picture[0].timestamp;
            for packet in picture {
                assert_eq!(packet.seq, seq.wrapping_add(1));
                seq = packet.seq;
            }
        }
    }
    house.empties();
    assert_eq!(house.ended("rtsp_tcp", "left"), 3);
    let send = house.metrics.stage_seconds.with_label_values(&["cam", "send"]);
    assert!(send.get_sample_count() > 40, "{} frames timed", send.get_sample_count());
    println!("mean of send: {} s", send.get_sample_sum() / send.get_sample_count() as f64);
}

/// The number after `name` in an RTP-Info header.
fn number(info: &str, name: &str) -> u32 {
    let value = info.split(';').find_map(|field| field.strip_prefix(name)).expect(info);
    value.parse().expect(info)
}

#[test]
fn pause_stops_the_pictures_and_play_goes_on_with_a_new_idr() {
    let house = House::open();
    let (mut viewer, _) = Viewer::play(house.address, "/cam/main");
    for _ in 0..2 {
        let before = viewer.picture().unwrap()[0].timestamp;
        assert_eq!(viewer.ask("PAUSE", "", &[]).status, 200);
        assert_eq!(house.registry.list().len(), 1, "a paused viewer is still one");
        std::thread::sleep(Duration::from_millis(300));
        let answer = viewer.ask("PLAY", "", &[("Range", "npt=now-")]);
        assert_eq!(answer.status, 200);
        let first = viewer.picture().unwrap();
        assert_eq!(u32::from(first[0].seq), number(&answer.headers["rtp-info"], "seq="));
        assert!(unit_types(&first).contains(&IDR));
        assert_ne!(first[0].timestamp, before);
    }
    assert_eq!(viewer.ask("TEARDOWN", "", &[]).status, 200);
    eventually("the session has ended", || house.ended("rtsp_tcp", "left") == 1);
    drop(viewer);
    house.empties();
}

#[test]
fn the_description_is_complete_and_the_same_each_time() {
    let house = House::open();
    let describe = |path| {
        let mut viewer = Viewer::connect(house.address, path);
        let answer = viewer.ask("DESCRIBE", "", &[("Accept", "application/sdp")]);
        assert_eq!(answer.status, 200);
        answer.body
    };
    let sdp = describe("/cam");
    for part in [
        "s=cam/main",
        "packetization-mode=1",
        "profile-level-id=42c0",
        "sprop-parameter-sets=",
        "a=control:stream=0",
        "a=framerate:30",
        "a=framesize:96 320-180",
        "H264/90000",
    ] {
        assert!(sdp.contains(part), "no {part} in {sdp}");
    }
    let host = std::fs::read_to_string("/etc/hostname").unwrap();
    assert!(!sdp.contains(host.trim()), "{sdp}");
    for _ in 0..3 {
        assert_eq!(describe("/cam"), sdp);
    }
    assert_eq!(describe("/cam/main"), sdp);
    house.empties();
}

#[test]
fn a_sender_report_gives_the_wall_time_of_the_capture() {
    let house = House::open();
    let (mut viewer, _) = Viewer::play(house.address, "/cam");
    let first = viewer.packet().unwrap().timestamp;
    // The viewer began with the newest key frame; the next comes later.
    let key = house.rendition().hub.newest_key().unwrap();
    let (ntp, rtp) = viewer.sender_report();
    // The report may lie before or after the packet: the distance is signed.
    let distance = f64::from(rtp.wrapping_sub(first).cast_signed()) / 90_000.0;
    let reported =
        (ntp >> 32) as f64 + (ntp & 0xffff_ffff) as f64 / f64::from(u32::MAX) - 2_208_988_800.0;
    let captured = key.captured.to_unix().as_secs_f64();
    let error_ms = (reported - distance - captured) * 1000.0;
    assert!(error_ms.abs() < 5.0, "{error_ms} ms beside the time of capture");
}

#[test]
fn what_is_not_there_is_not_found_and_a_camera_that_is_down_is_unavailable_at_once() {
    let house = House::open();
    for path in ["/", "/other", "/cam/other", "/cam/main/more", "/../cam", "/%00"] {
        let status = Viewer::connect(house.address, path).ask("DESCRIBE", "", &[]).status;
        assert!(status == 404 || status == 400, "{path}: {status}");
    }
    house.camera.update_status(|status| {
        status.health = Health::Lost { reason: "unplugged".into() };
    });
    let asked = Instant::now();
    let mut viewer = Viewer::connect(house.address, "/cam");
    assert_eq!(viewer.ask("DESCRIBE", "", &[]).status, 503);
    let transport = ("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1");
    assert_eq!(viewer.ask("SETUP", "/stream=0", &[transport]).status, 503);
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    drop(viewer);
    drop(house);

    let never_started = House::open_with(LIMITS, false);
    let mut viewer = Viewer::connect(never_started.address, "/cam");
    assert_eq!(viewer.ask("DESCRIBE", "", &[]).status, 503);
}

#[test]
fn a_camera_that_stops_between_setup_and_play_is_answered_within_its_bound() {
    let mut house = House::open();
    let mut viewer = Viewer::connect(house.address, "/cam");
    viewer.set_up();
    house.freeze();
    let rendition = std::sync::Arc::clone(house.rendition());
    let asked = Instant::now();
    // Frames have stopped, which the watchdog has not noticed yet, and no key frame is retained
    // that a viewer could begin with.
    rendition.saw_frame(Timestamp::now().plus(Duration::from_secs(5)));
    let status = viewer.ask("PLAY", "", &[]).status;
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    assert!(status == 503 || status == 200, "{status}");
    drop(viewer);
    house.empties();
}

#[test]
fn hostile_headers_are_refused_or_passed_over_and_the_server_goes_on() {
    let house = House::open();
    let hostile = [
        ("Scale", "0"),
        ("Scale", "-1"),
        ("Scale", "nan"),
        ("Scale", "1e308"),
        ("Scale", "2"),
        ("Speed", "0"),
        ("Speed", "-3"),
        ("Speed", "inf"),
        ("Speed", "x"),
        ("Speed", "1e-300"),
        ("Range", "npt=5-1"),
        ("Range", "npt=now-now"),
        ("Range", "npt=-"),
        ("Range", "clock="),
        ("Range", "smpte=99999999:99:99-"),
        ("Range", "npt=99999999999999999999-"),
        ("Blocksize", "0"),
        ("Blocksize", "1"),
        ("Require", "play.basic"),
        ("Session", "other"),
    ];
    for header in hostile {
        let mut viewer = Viewer::connect(house.address, "/cam");
        viewer.set_up();
        for _ in 0..2 {
            viewer.send("PLAY", "", &[header]);
            viewer.answer().unwrap_or_else(|| panic!("{header:?}: no answer"));
        }
    }
    for garbage in [
        &b"\0\0\0\0"[..],
        b"$\0\xff\xff",
        b"GET / HTTP/1.0\r\n\r\n",
        &[b'A'; 70_000],
        b"PLAY rtsp://x RTSP/9.9\r\nCSeq: -5\r\n\r\n",
        b"SETUP * RTSP/1.0\r\nContent-Length: 99999999\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(house.address).unwrap();
        // The server may close it before everything is written.
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(Shutdown::Both);
    }
    for method in ["ANNOUNCE", "RECORD"] {
        let status = Viewer::connect(house.address, "/cam").ask(method, "", &[]).status;
        assert!((400..500).contains(&status), "{method}: {status}");
    }
    let (mut viewer, _) = Viewer::play(house.address, "/cam");
    assert!(unit_types(&viewer.picture().unwrap()).contains(&IDR));
    drop(viewer);
    house.empties();
}

#[test]
fn joins_and_leaves_at_every_stage_leave_nothing_behind() {
    let house = House::open();
    // The first ones make what is made once: the threads of pools, GStreamer's own.
    for stage in 0..12 {
        leave_at(&house, stage);
    }
    house.empties();
    // Threads that gst-rtsp-server and GLib let go of stay for some seconds.
    let mut before = belongings();
    eventually("no thread of a session is left", || {
        before = belongings();
        !before.0.iter().any(|name| name.starts_with("pool-") || name.ends_with(":src"))
    });
    for stage in 0..36 {
        leave_at(&house, stage);
    }
    house.empties();
    let mut after = belongings();
    let deadline = Instant::now() + Duration::from_secs(10);
    while after != before && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
        after = belongings();
    }
    assert_eq!(after, before, "threads, file descriptors, guards");
}

/// A viewer that goes at one of twelve stages, six of them without a word.
fn leave_at(house: &House, stage: u32) {
    let mut viewer = Viewer::connect(house.address, "/cam");
    let transport = ("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1");
    let udp = ("Transport", "RTP/AVP;unicast;client_port=45000-45001");
    let polite = stage.is_multiple_of(2);
    match (stage / 2) % 6 {
        0 => {}
        1 if polite => drop(viewer.ask("DESCRIBE", "", &[])),
        1 => viewer.send("DESCRIBE", "", &[]),
        2 => {
            viewer.ask("DESCRIBE", "", &[]);
            viewer.send("SETUP", "/stream=0", &[transport]);
        }
        3 => {
            viewer.set_up();
            viewer.send("PLAY", "", &[]);
        }
        4 => {
            viewer.ask("DESCRIBE", "", &[]);
            assert_eq!(viewer.ask("SETUP", "/stream=0", &[udp]).status, 200);
            assert_eq!(viewer.ask("PLAY", "", &[]).status, 200);
        }
        _ => {
            viewer.set_up();
            viewer.ask("PLAY", "", &[]);
            viewer.picture().unwrap();
        }
    }
    if polite {
        viewer.send("TEARDOWN", "", &[]);
        let _ = viewer.answer();
    }
}

#[test]
fn a_viewer_that_stops_reading_is_closed_and_another_misses_no_frame() {
    let house = House::open();
    let (_stalled, _) = Viewer::play_with_small_buffer(house.address, "/cam");
    let (mut steady, _) = Viewer::play(house.address, "/cam");
    let mut timestamps = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    while house.ended("rtsp_tcp", "backlog") == 0 {
        assert!(Instant::now() < deadline, "the stalled viewer was not closed");
        timestamps.push(steady.picture().unwrap()[0].timestamp);
    }
    for pair in timestamps.windows(2) {
        let step = pair[1].wrapping_sub(pair[0]);
        assert!(step < 90_000 / 30 * 2 - 500, "a frame is missing: a step of {step}");
    }
    assert!(timestamps.len() > 30);
    assert_eq!(house.registry.list().len(), 1);
    drop(steady);
    house.empties();
}

#[test]
fn who_is_one_too_many_gets_a_503_that_says_when_to_come_back() {
    let house = House::open_with(Limits { rtsp_sessions_max: 1, ..LIMITS }, true);
    let (viewer, _) = Viewer::play(house.address, "/cam");
    let mut refused = Viewer::connect(house.address, "/cam");
    let answer = refused.ask("OPTIONS", "", &[]);
    assert_eq!(answer.status, 503);
    assert_eq!(answer.headers["cseq"], "1");
    assert!(answer.headers["retry-after"].parse::<u32>().unwrap() > 0);
    drop(viewer);
    house.empties();
    let (mut next, _) = Viewer::play(house.address, "/cam");
    assert!(next.picture().is_some());
}

#[test]
fn an_operator_and_a_stop_end_a_session_with_their_reason() {
    let mut house = House::open();
    let (mut viewer, _) = Viewer::play(house.address, "/cam");
    house.registry.list()[0].end(End::Operator);
    while viewer.picture().is_some() {}
    eventually("the session has ended", || house.ended("rtsp_tcp", "operator") == 1);
    house.empties();

    let (mut viewer, _) = Viewer::play(house.address, "/cam");
    let asked = Instant::now();
    house.stop();
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    assert_eq!(house.ended("rtsp_tcp", "shutdown"), 1);
    while viewer.picture().is_some() {}
    assert!(TcpStream::connect(house.address).is_err(), "nobody listens any more");
    house.empties();
}

#[test]
fn a_connection_that_never_asks_is_closed() {
    let house = House::open();
    let mut mute = TcpStream::connect(house.address).unwrap();
    mute.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(mute.read(&mut [0; 16]).unwrap(), 0, "it is closed, not timed out");
    house.empties();
}

/// Sends `chunk` again and again until it is refused; how many bytes went out before that.
fn pour(stream: &mut TcpStream, chunk: &[u8]) -> u64 {
    stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut sent = 0;
    loop {
        match stream.write(chunk) {
            Ok(count) => sent += count as u64,
            Err(error) => {
                assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "not closed");
                return sent;
            }
        }
    }
}

#[test]
fn a_request_may_be_as_long_as_its_limit_and_one_without_end_is_cut_off() {
    let house = House::open();
    let (mut steady, _) = Viewer::play(house.address, "/cam");
    let line = format!("X-Filler: {}\r\n", "x".repeat(86));
    let mut long = Viewer::connect(house.address, "/cam");
    let fillers = REQUEST_BYTES_MAX as usize / line.len() - 4;
    let filler = "x".repeat(86);
    let headers: Vec<(&str, &str)> = (0..fillers).map(|_| ("X-Filler", &*filler)).collect();
    assert_eq!(long.ask("OPTIONS", "", &headers).status, 200);
    let endless = |first: &[u8], chunk: &[u8]| {
        let mut stream = TcpStream::connect(house.address).unwrap();
        stream.write_all(first).unwrap();
        pour(&mut stream, chunk)
    };
    let refused = ["rtsp", "request-too-large"];
    let refused = || house.metrics.requests_refused.with_label_values(&refused).get();
    let cases: [(&[u8], &[u8]); 3] = [
        (b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n", line.as_bytes()),
        (b"SETUP * RTSP/1.0\r\nCSeq: 1\r\nX: ", &[b'x'; 1_000]),
        (b"", b"$\x01\x00\x04abcd"),
    ];
    for (index, (first, chunk)) in cases.into_iter().enumerate() {
        let sent = endless(first, chunk);
        println!("cut off after {sent} bytes");
        eventually("it is counted", || refused() == index as u64 + 1);
    }
    assert!(steady.picture().is_some());
    drop((steady, long));
    house.empties();
}

#[test]
fn a_viewer_that_pours_reports_into_its_connection_is_closed() {
    let house = House::open();
    let (viewer, _) = Viewer::play(house.address, "/cam");
    pour(&mut viewer.into_stream(), b"$\x01\x00\x08\x80\xc9\x00\x01\x00\x00\x00\x07");
    eventually("the session has ended", || house.ended("rtsp_tcp", "flood") == 1);
    house.empties();
}

#[test]
fn an_address_that_is_taken_is_reported_with_the_option_that_changes_it() {
    let house = House::open();
    let error = house.bind_another().unwrap_err().to_string();
    assert!(error.contains("--rtsp-listen"), "{error}");
    assert!(error.contains(&house.address.to_string()), "{error}");
}

#[test]
fn ipv6_viewers_are_served_too() {
    let house = House::open_at(([0, 0, 0, 0, 0, 0, 0, 1], 0).into(), LIMITS, true);
    let (mut viewer, _) = Viewer::play(house.address, "/cam");
    assert!(unit_types(&viewer.picture().unwrap()).contains(&IDR));
    assert_eq!(house.registry.list()[0].address.ip(), house.address.ip());
    drop(viewer);
    house.empties();
}
