//! Each rule finds what it is for, at its key, and nothing else.

use super::*;
use crate::config::{
    AuthMode, Camera, Crop, EncoderKind, Fault, FaultKind, Flip, PortRange, RenditionConfig,
    RtspTransport, Simulated, Source, TurnServer, WebrtcEngine,
};

fn config(camera: impl FnOnce(&mut Camera)) -> Config {
    let mut one = Camera { id: "a".into(), ..Camera::default() };
    camera(&mut one);
    Config { camera: vec![one], ..Config::default() }
}

fn paths(config: &Config) -> Vec<String> {
    findings(config).into_iter().map(|finding| finding.paths[0].clone()).collect()
}

/// With this change to the default, exactly this key is wrong.
fn assert_wrong(path: &str, change: impl FnOnce(&mut Config)) {
    let mut config = config(|_| ());
    change(&mut config);
    assert_eq!(paths(&config), [path]);
}

/// With this change to the default camera, exactly this key is wrong.
fn assert_camera_wrong(path: &str, change: impl FnOnce(&mut Camera)) {
    assert_eq!(paths(&config(change)), [path]);
}

fn assert_camera_right(change: impl FnOnce(&mut Camera)) {
    let found = findings(&config(change));
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn only_loopback_or_a_written_out_none_may_be_listened_on() {
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 8080));
    assert_wrong("server.listen", |config| config.server.listen = everywhere);
    assert_wrong("rtsp.listen", |config| config.rtsp.listen.set_ip([192, 168, 1, 2].into()));
    let mut open = config(|_| ());
    open.server.listen = everywhere;
    let remedy = &findings(&open)[0].remedy;
    assert!(remedy.contains("mode = \"none\" under [auth]"), "{remedy}");
    assert!(remedy.contains("127.0.0.1:8080"), "{remedy}");
    open.auth.mode = Some(AuthMode::None);
    assert!(findings(&open).is_empty());
}

#[test]
fn users_let_other_machines_in_and_must_make_sense() {
    use crate::config::User;
    let hash = crate::password::hash("secret").unwrap();
    let user = |name: &str| User {
        name: name.into(),
        password_hash: hash.clone().into(),
        ..User::default()
    };
    let mut config = config(|_| ());
    config.server.listen = SocketAddr::from(([0, 0, 0, 0], 8080));
    config.auth.users = vec![user("anna"), user("otto")];
    assert!(findings(&config).is_empty());
    assert_wrong("server.allowed_hosts[0]", |config| {
        config.server.allowed_hosts = vec!["https://camera.example".into()];
    });
    for (path, change) in [
        ("auth.users[1].name", |config| config.auth.users[1].name = "anna".into()),
        ("auth.users[0].name", |config| config.auth.users[0].name = "an:na".into()),
        ("auth.users[0].name", |config| config.auth.users[0].name = String::new()),
        ("auth.users[0].cameras[0]", |config| {
            config.auth.users[0].cameras = Some(vec!["cellar".into()]);
        }),
        ("auth.users[0].digest_ha1", |config| {
            config.auth.users[0].digest_ha1 = Some("x".to_owned().into());
        }),
        ("auth.mode", |config| config.auth.mode = Some(AuthMode::None)),
        ("auth.users", |config| {
            config.auth.users = (0..101)
                .map(|n| User { name: n.to_string(), ..config.auth.users[0].clone() })
                .collect();
        }),
    ] as [(&str, fn(&mut Config)); 7]
    {
        let mut wrong = config.clone();
        change(&mut wrong);
        assert_eq!(paths(&wrong), [path]);
    }
    assert_wrong("auth.mode", |config| config.auth.mode = Some(AuthMode::Users));
}

#[test]
fn http_and_rtsp_need_addresses_of_their_own() {
    assert_wrong("rtsp.listen", |config| config.rtsp.listen = config.server.listen);
    let mut config = config(|_| ());
    config.auth.mode = Some(AuthMode::None);
    config.rtsp.listen = SocketAddr::from(([0, 0, 0, 0], 8080));
    assert_eq!(paths(&config), ["rtsp.listen"], "everywhere includes loopback");
    config.server.listen.set_port(0);
    config.rtsp.listen.set_port(0);
    assert!(findings(&config).is_empty(), "two free ports are never the same");
}

#[test]
fn origins_are_scheme_host_and_port_and_nothing_else() {
    for right in ["https://example.org", "http://nas.lan:8123", "http://[::1]:80"] {
        let mut config = config(|_| ());
        config.server.allowed_origins = vec![right.into()];
        assert!(findings(&config).is_empty(), "{right}");
    }
    for wrong in ["*", "example.org", "https://example.org/", "https://Example.org", "ftp://x"] {
        assert_wrong("server.allowed_origins[0]", |config| {
            config.server.allowed_origins = vec![wrong.into()];
        });
    }
}

#[test]
fn transports_are_some_and_each_once() {
    assert_wrong("rtsp.transports", |config| config.rtsp.transports.clear());
    assert_wrong("rtsp.transports[1]", |config| {
        config.rtsp.transports = vec![RtspTransport::Tcp, RtspTransport::Tcp];
    });
}

#[test]
fn stun_and_turn_have_the_form_of_their_rfcs() {
    for right in ["stun:h", "stun:stun.example.org:3478", "stun:[2001:db8::1]:3478"] {
        let mut config = config(|_| ());
        config.webrtc.stun_servers = vec![right.into()];
        assert!(findings(&config).is_empty(), "{right}");
    }
    for wrong in
        ["", "h:3478", "stun:", "stun://h", "stun:h:0", "stun:h:99999", "stun:[::1", "turn:h"]
    {
        assert_wrong("webrtc.stun_servers[0]", |config| {
            config.webrtc.stun_servers = vec![wrong.into()];
        });
    }
    let turn = |url: &str, username: &str| TurnServer {
        url: url.into(),
        username: username.into(),
        credential: "secret".to_owned().into(),
    };
    for right in ["turn:h", "turns:h:5349", "turn:h?transport=tcp"] {
        let mut config = config(|_| ());
        config.webrtc.turn_servers = vec![turn(right, "u")];
        assert!(findings(&config).is_empty(), "{right}");
    }
    for wrong in ["turn://h", "turn:u:p@h", "turn:h?transport=sctp", "stun:h"] {
        assert_wrong("webrtc.turn_servers[0].url", |config| {
            config.webrtc.turn_servers = vec![turn(wrong, "u")];
        });
    }
    assert_wrong("webrtc.turn_servers[0].username", |config| {
        config.webrtc.turn_servers = vec![turn("turn:h", "")];
    });
}

#[test]
fn every_session_of_webrtcbin_has_a_port_and_str0m_needs_one() {
    let range = |first, last| Some(PortRange { first, last });
    assert_wrong("webrtc.udp_ports", |config| {
        config.webrtc.engine = WebrtcEngine::Webrtcbin;
        config.webrtc.udp_ports = range(50_000, 50_062);
    });
    assert_wrong("webrtc.udp_ports", |config| config.webrtc.udp_ports = range(1_000, 1_100));
    let mut config = config(|_| ());
    config.webrtc.udp_ports = range(50_000, 50_000);
    assert!(findings(&config).is_empty(), "one port for 64 sessions of str0m");
    config.webrtc.engine = WebrtcEngine::Webrtcbin;
    config.webrtc.udp_ports = range(50_000, 50_063);
    assert!(findings(&config).is_empty(), "64 ports for 64 sessions of webrtcbin");
}

#[test]
fn str0m_asks_no_server_for_candidates() {
    assert_wrong("webrtc.engine", |config| {
        config.webrtc.engine = WebrtcEngine::Str0m;
        config.webrtc.stun_servers = vec!["stun:stun.example.org".into()];
    });
    assert_wrong("webrtc.engine", |config| {
        let (username, credential) = ("u".to_owned(), "p".to_owned().into());
        config.webrtc.engine = WebrtcEngine::Str0m;
        config.webrtc.turn_servers =
            vec![TurnServer { url: "turn:h".into(), username, credential }];
    });
}

#[test]
fn limits_times_interfaces_and_filters_have_bounds() {
    assert_wrong("limits.webrtc_sessions_max", |config| config.limits.webrtc_sessions_max = 0);
    assert_wrong("limits.rtsp_sessions_max", |config| config.limits.rtsp_sessions_max = 1_001);
    assert_wrong("limits.sessions_per_address_max", |config| {
        config.limits.sessions_per_address_max = 0;
    });
    assert_wrong("limits.joins_per_second_max", |config| config.limits.joins_per_second_max = 0);
    for candidates in [0, 257] {
        assert_wrong("limits.candidates_per_session_max", |config| {
            config.limits.candidates_per_session_max = candidates;
        });
    }
    assert_wrong("limits.messages_per_second_max", |config| {
        config.limits.messages_per_second_max = 4;
    });
    assert_wrong("limits.descriptors_reserve", |config| config.limits.descriptors_reserve = 15);
    assert_wrong("webrtc.negotiation_timeout_ms", |config| {
        config.webrtc.negotiation_timeout_ms = 999;
    });
    assert_wrong("webrtc.silence_timeout_ms", |config| {
        config.webrtc.silence_timeout_ms = 120_001;
    });
    assert_wrong("webrtc.interfaces[0]", |config| config.webrtc.interfaces = vec!["".into()]);
    assert_wrong("log.level", |config| config.log.level = "lensline=loud".into());
}

#[test]
fn names_fit_into_addresses_and_are_unique() {
    for wrong in ["", "a b", "a/b", "ü", "..", &"x".repeat(65)] {
        assert_camera_wrong("camera[0].id", |camera| camera.id = wrong.into());
    }
    assert_wrong("camera[1].id", |config| config.camera.push(config.camera[0].clone()));
    let named = |name: &str| RenditionConfig { name: name.into(), ..RenditionConfig::default() };
    for wrong in ["", "main", "a/b"] {
        assert_camera_wrong("camera[0].rendition[0].name", |camera| {
            camera.rendition = vec![named(wrong)];
        });
    }
    assert_camera_wrong("camera[0].rendition[1].name", |camera| {
        camera.rendition = vec![named("low"), named("low")];
    });
}

#[test]
fn sizes_are_even_and_within_bounds() {
    for wrong in [0, 14, 1281, 4098] {
        assert_camera_wrong("camera[0].width", |camera| camera.width = wrong);
        assert_camera_wrong("camera[0].height", |camera| camera.height = wrong);
    }
    assert_camera_right(|camera| (camera.width, camera.height) = (16, 4096));
}

#[test]
fn what_hangs_the_hardware_encoder_is_refused_where_it_was_chosen_and_auto_passes_over_it() {
    let low = |framerate| {
        let (name, framerate) = ("low".into(), Some(framerate));
        vec![RenditionConfig { name, framerate, ..RenditionConfig::default() }]
    };
    assert!(suits_hardware_encoder(&Camera::default()));
    let assert_hangs = |path: &str, change: &dyn Fn(&mut Camera)| {
        assert_camera_wrong(path, |camera| {
            camera.encoder.kind = EncoderKind::V4l2;
            change(camera);
        });
        assert_camera_right(change);
        let mut camera = Camera::default();
        change(&mut camera);
        assert!(!suits_hardware_encoder(&camera), "{path}");
    };
    assert_hangs("camera[0].framerate", &|camera| camera.framerate = 8);
    assert_hangs("camera[0].encoder.keyframe_interval", &|camera| {
        camera.encoder.keyframe_interval = 1;
    });
    assert_hangs("camera[0].rendition[0].framerate", &|camera| camera.rendition = low(5));
    assert_hangs("camera[0].width", &|camera| camera.width = 2560);
    assert_camera_wrong("camera[0].framerate", |camera| camera.framerate = 0);
    assert_camera_wrong("camera[0].framerate", |camera| camera.framerate = 121);
}

#[test]
fn bitrates_lie_between_their_bounds() {
    assert_camera_wrong("camera[0].encoder.bitrate_kbps", |camera| {
        camera.encoder.bitrate_kbps = 8_001;
    });
    assert_camera_wrong("camera[0].encoder.bitrate_min_kbps", |camera| {
        camera.encoder.bitrate_min_kbps = 9_000;
    });
    assert_camera_wrong("camera[0].encoder.bitrate_max_kbps", |camera| {
        camera.encoder.bitrate_max_kbps = 25_001;
    });
    assert_camera_wrong("camera[0].encoder.bitrate_min_kbps", |camera| {
        camera.encoder.bitrate_min_kbps = 24;
    });
}

#[test]
fn crop_leaves_a_picture() {
    let crop = Crop { left: 700, right: 566, ..Crop::default() };
    assert_camera_wrong("camera[0].crop.left", |camera| camera.crop = crop);
    assert_camera_right(|camera| camera.crop = Crop { right: 564, ..crop });
    assert_camera_wrong("camera[0].crop.left", |camera| {
        camera.crop = Crop { left: 705, ..Crop::default() };
        camera.flip = Flip::Clockwise;
    });
    assert_camera_wrong("camera[0].crop.top", |camera| camera.crop.top = u32::MAX - 1);
}

#[test]
fn a_source_has_what_it_needs() {
    assert_camera_wrong("camera[0].source.device", |camera| {
        camera.source = Source::V4l2 { device: "video0".into() };
    });
    assert_camera_wrong("camera[0].source.name", |camera| {
        camera.source = Source::Libcamera { name: Some(" ".into()) };
    });
    for wrong in ["", "http://h", "rtsp://", "rtsp://h h/", "rtsp://u:p@/x"] {
        assert_camera_wrong("camera[0].source.url", |camera| {
            camera.source = Source::Rtsp { url: wrong.into() };
        });
    }
    for right in ["rtsp://h", "rtsps://u:p@h:322/a?b", "rtsp://[::1]:554/x"] {
        assert_camera_right(|camera| camera.source = Source::Rtsp { url: right.into() });
    }
}

#[test]
fn faults_of_the_simulated_camera_last_and_end() {
    let simulated = |noise, at_ms, for_ms| {
        let faults = vec![Fault { at_ms, kind: FaultKind::Freeze, for_ms }];
        Source::Simulated(Simulated { noise, faults, ..Simulated::default() })
    };
    assert_camera_wrong("camera[0].source.faults[0].for_ms", |camera| {
        camera.source = simulated(0.0, 5, 0);
    });
    assert_camera_wrong("camera[0].source.faults[0].for_ms", |camera| {
        camera.source = simulated(0.0, u64::MAX, 1);
    });
    assert_camera_wrong("camera[0].source.noise", |camera| camera.source = simulated(1.1, 0, 1));
}

#[test]
fn nothing_can_be_done_to_a_picture_that_is_passed_through() {
    let source = || Source::Rtsp { url: "rtsp://h/s".into() };
    assert_camera_wrong("camera[0].flip", |camera| {
        (camera.source, camera.flip) = (source(), Flip::Rotate180);
    });
    assert_camera_wrong("camera[0].crop", |camera| {
        (camera.source, camera.crop.left) = (source(), 8);
    });
    assert_camera_wrong("camera[0].encoder", |camera| {
        (camera.source, camera.encoder.bitrate_kbps) = (source(), 1_000);
    });
    assert_camera_wrong("camera[0].rendition", |camera| {
        camera.source = source();
        camera.rendition = vec![RenditionConfig { name: "low".into(), ..Default::default() }];
    });
}

#[test]
fn two_cameras_cannot_share_one_device_by_whatever_name() {
    let folder = tempfile::tempdir().unwrap();
    let (device, link) = (folder.path().join("video0"), folder.path().join("by-id"));
    std::fs::write(&device, "").unwrap();
    std::os::unix::fs::symlink(&device, &link).unwrap();
    assert_wrong("camera[1].source", |config| {
        config.camera[0].source = Source::V4l2 { device };
        let source = Source::V4l2 { device: link };
        config.camera.push(Camera { id: "b".into(), source, ..Camera::default() });
    });
    assert_wrong("camera[1].source", |config| {
        config.camera[0].source = Source::Libcamera { name: None };
        let source = Source::Libcamera { name: None };
        config.camera.push(Camera { id: "b".into(), source, ..Camera::default() });
    });
}

#[test]
fn the_watchdog_gives_a_camera_time() {
    assert_camera_wrong("camera[0].watchdog.timeout_ms", |camera| {
        camera.watchdog.timeout_ms = 100;
    });
    assert_camera_wrong("camera[0].watchdog.timeout_ms", |camera| {
        camera.encoder.kind = EncoderKind::X264;
        (camera.framerate, camera.watchdog.timeout_ms) = (2, 1_400);
    });
    assert_camera_wrong("camera[0].watchdog.start_timeout_ms", |camera| {
        camera.watchdog.start_timeout_ms = 1_500;
    });
}

#[test]
fn cameras_and_renditions_are_bounded_in_number() {
    assert_wrong("camera", |config| {
        for index in 1..17 {
            config.camera.push(Camera { id: format!("c{index}"), ..Camera::default() });
        }
    });
    assert_camera_wrong("camera[0].rendition", |camera| {
        let one = |index| RenditionConfig { name: format!("r{index}"), ..Default::default() };
        camera.rendition = (0..5).map(one).collect();
    });
}
