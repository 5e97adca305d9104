//! Every problem is found, placed and answered.

use std::ffi::OsString;
use std::io::Write as _;
use std::net::SocketAddr;

use super::*;
use crate::config::{AuthMode, EncoderKind};

fn variables(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    variables.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn load_text(
    text: &str,
    environment: &[(&str, &str)],
    overrides: &Overrides,
) -> Result<Config, Vec<String>> {
    let mut reading = Reading::new(Some("c.toml".into()), text);
    reading.overlay_environment(variables(environment));
    reading.overlay_arguments(overrides);
    reading
        .finish(overrides.simulate)
        .map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
}

fn problems(text: &str) -> Vec<String> {
    load_text(text, &[], &Overrides::default()).unwrap_err()
}

/// The only problem of `text` has all of `parts` in it.
fn assert_problem(text: &str, parts: &[&str]) {
    let problems = problems(text);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    for part in parts {
        assert!(problems[0].contains(part), "{} lacks {part}", problems[0]);
    }
}

#[test]
fn nothing_written_is_the_default() {
    assert_eq!(load_text("", &[], &Overrides::default()), Ok(Config::default()));
}

#[test]
fn every_problem_is_reported_with_line_key_and_remedy() {
    let text = r#"
[server]
lisen = "127.0.0.1:80"
[webrtc]
silence_timeout_ms = "long"
[[camera]]
id = "a b"
source = { kind = "libcamera", nam = "x" }
width = 1281
height = -2
[camera.encoder]
bitrate_kbps = 1.5
kind = "x265"
"#;
    let found = problems(text);
    let expected = [
        ("c.toml:3: server.lisen: ", "did you mean `listen`?"),
        ("c.toml:5: webrtc.silence_timeout_ms: is text; ", "write a whole number"),
        ("c.toml:7: camera[0].id: ", "letters, digits"),
        ("c.toml:8: camera[0].source.nam: ", "did you mean `name`?"),
        ("c.toml:9: camera[0].width: ", "1282"),
        ("c.toml:10: camera[0].height: cannot be -2; ", "whole number"),
        ("c.toml:12: camera[0].encoder.bitrate_kbps: ", "whole number"),
        ("c.toml:13: camera[0].encoder.kind: there is no \"x265\"; ", "did you mean \"x264\"?"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (problem, (start, remedy)) in found.iter().zip(expected) {
        assert!(problem.starts_with(start), "{problem}");
        assert!(problem.contains(remedy), "{problem}");
    }
}

#[test]
fn what_is_not_toml_is_reported_beside_what_is_wrong_with_the_rest() {
    let found = problems("[server]\nlisten = \n[log]\nlevl = 'info'\n");
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].starts_with("c.toml:2: is not TOML: "), "{}", found[0]);
    assert!(found[1].starts_with("c.toml:4: log.levl: "), "{}", found[1]);
}

#[test]
fn a_faulty_value_does_not_make_the_default_in_its_place_look_wrong() {
    // The default, 2500, would lie above this maximum.
    let text = "[[camera]]\nid='a'\nsource.kind='libcamera'\n[camera.encoder]\n\
                bitrate_kbps='2M'\nbitrate_max_kbps=2000\n";
    assert_problem(text, &["c.toml:5: camera[0].encoder.bitrate_kbps: is text"]);
}

#[test]
fn entries_behind_a_faulty_one_are_not_blamed_under_its_number() {
    assert_problem("camera = [3, { id = 'a b' }]\n", &["camera[0]: is a whole number"]);
}

#[test]
fn what_a_later_version_brings_is_named_as_that() {
    for (text, path) in
        [("[[sensor]]\nkind = 'imu'", "sensor"), ("[telemetry]\nrate = 1", "telemetry")]
    {
        assert_problem(text, &[path, "this version does not have", "yet; "]);
    }
}

#[test]
fn tls_names_two_files_that_belong_together() {
    let credentials = lensline_clients::Credentials::new();
    let right = credentials.toml();
    for section in ["server", "rtsp"] {
        let with = |tls: &str| format!("[{section}]\n{tls}");
        let config = load_text(&with(&right), &[], &Overrides::default()).unwrap();
        let tls = [config.server.tls, config.rtsp.tls].into_iter().flatten().next().unwrap();
        assert_eq!(
            (tls.certificate, tls.key),
            (credentials.certificate.clone(), credentials.key.clone())
        );
        let key = format!("{section}.tls.key: ");
        assert_problem(&with("tls = true"), &[&format!("c.toml:2: {section}.tls: "), "a table"]);
        assert_problem(&with("tls = { certificate = 'x' }"), &["`key` is missing"]);
        let strange = right.replace("key =", "kye =");
        assert!(problems(&with(&strange))[0].contains("did you mean `key`?"));
        let swapped =
            format!("tls = {{ certificate = {0:?}, key = {0:?} }}", credentials.certificate);
        assert_problem(&with(&swapped), &["c.toml:2: ", &key, "no private key", "; name the key"]);
        let nowhere = right.replace("cert.pem", "nowhere.pem");
        assert_problem(&with(&nowhere), &[&format!("{section}.tls.certificate: "), "no file"]);
    }
    let rtsp = |transports: &str| format!("[rtsp]\ntransports = {transports}\n{right}");
    assert_problem(&rtsp("['udp']"), &["rtsp.transports: has no \"tcp\"", "add \"tcp\""]);
    assert_problem(&rtsp("['tcp', 'multicast']"), &["rtsp.transports[1]: ", "TLS"]);
    assert!(load_text(&rtsp("['udp', 'tcp']"), &[], &Overrides::default()).is_ok());
}

#[test]
fn what_keeps_nothing_from_running_is_a_warning_with_its_place() {
    let credentials = lensline_clients::Credentials::new();
    credentials.renew(2020, 2021);
    let text = format!("[rtsp]\n{}", credentials.toml());
    let mut reading = Reading::new(Some("c.toml".into()), &text);
    assert!(reading.finish(false).is_ok());
    let said: Vec<_> = reading.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("c.toml:2: rtsp.tls.certificate: "), "{said:?}");
    assert!(said[0].contains("expired on 2021-01-01"), "{said:?}");
}

#[test]
fn a_source_takes_only_the_keys_of_its_kind() {
    let with = |source: &str| format!("[[camera]]\nid = 'a'\nsource = {{ {source} }}\n");
    assert_problem(&with("kind = 'v4l2'"), &["c.toml:3: camera[0].source: ", "needs `device`"]);
    assert_problem(&with("kind = 'rtsp'"), &["needs `url`"]);
    assert_problem(&with("device = '/dev/video0'"), &["camera[0].source: `kind` is missing"]);
    assert_problem(
        &with("kind = 'rtsp', url = 'rtsp://h', seed = 1"),
        &["has `url`", "not `seed`"],
    );
    assert_problem(
        &with("kind = 'simulated', faults = [{ at_ms = 1, kind = 'frezee', for_ms = 1 }]"),
        &["camera[0].source.faults[0].kind", "did you mean \"freeze\"?"],
    );
    assert_problem(&with("kind = 'simulated', noise = nan"), &["source.noise", "0.0 "]);
}

#[test]
fn a_camera_without_a_source_is_not_taken_for_a_simulated_one() {
    let text = "[[camera]]\nid = 'a'\n";
    assert_problem(text, &["c.toml:1: camera[0].source: is not given; "]);
    let simulate = Overrides { simulate: true, ..Overrides::default() };
    assert!(load_text(text, &[], &simulate).is_ok());
}

#[test]
fn simulate_replaces_sources_and_keeps_everything_else() {
    let text = "[[camera]]\nid='a'\nwidth=640\nheight=360\nsource={kind='v4l2',device='/dev/x'}\n\
                [[camera.rendition]]\nname='low'\n\
                [[camera]]\nid='b'\nsource={kind='simulated',seed=7}\n\
                [[camera]]\nid='c'\nflip='vertical'\nsource={kind='rtsp',url='rtsp://h/s'}\n";
    let simulate = Overrides { simulate: true, ..Overrides::default() };
    let config = load_text(text, &[], &simulate).unwrap();
    let simulated = |seed| Source::Simulated(Simulated { seed, ..Simulated::default() });
    let ids: Vec<_> = config.camera.iter().map(|camera| &camera.id[..]).collect();
    assert_eq!(ids, ["a", "b", "c"]);
    assert_eq!(config.camera[0].source, simulated(0));
    assert_eq!((config.camera[0].width, config.camera[0].rendition.len()), (640, 1));
    assert_eq!(config.camera[1].source, simulated(7));
}

#[test]
fn simulate_with_no_camera_is_one_of_720p30_named_sim() {
    let simulate = Overrides { simulate: true, ..Overrides::default() };
    let config = load_text("", &[], &simulate).unwrap();
    let camera = &config.camera[0];
    assert_eq!(config.camera.len(), 1);
    assert_eq!(camera.id, "sim");
    assert_eq!((camera.width, camera.height, camera.framerate), (1280, 720, 30));
}

#[test]
fn variables_override_the_file_and_extend_it() {
    let text = "[server]\nlisten='127.0.0.1:1'\n[[camera]]\nid='a'\nsource.kind='libcamera'\n";
    let config = load_text(
        text,
        &[
            ("LENSLINE_SERVER__LISTEN", "127.0.0.1:2"),
            ("LENSLINE_CAMERA__0__ENCODER__BITRATE_KBPS", "4000"),
            ("LENSLINE_CAMERA__0__ENCODER__KIND", "x264"),
            ("LENSLINE_CAMERA__1__SOURCE", "{ kind = 'simulated', seed = 3 }"),
            ("LENSLINE_CAMERA__1__ID", "7"),
            ("LENSLINE_AUTH__MODE", "\"none\""),
            ("LENSLINE_SERVER__ALLOWED_ORIGINS", "['https://example.org']"),
            ("PATH", "/bin"),
        ],
        &Overrides::default(),
    )
    .unwrap();
    assert_eq!(config.server.listen.port(), 2);
    assert_eq!(config.camera[0].encoder.bitrate_kbps, 4000);
    assert_eq!(config.camera[0].encoder.kind, EncoderKind::X264);
    assert_eq!(config.camera[1].id, "7", "a number is text where text is wanted");
    assert_eq!(config.auth.mode, Some(AuthMode::None));
    assert_eq!(config.server.allowed_origins, ["https://example.org"]);
}

#[test]
fn a_problem_from_a_variable_names_the_variable() {
    let found = load_text(
        "",
        &[
            ("LENSLINE_SERVER__LISTEN", "localhost:8080"),
            ("LENSLINE_LIMITS__RTSP_SESSIONS_MAX", "0"),
            ("LENSLINE_LOG__LEVL", "debug"),
            ("LENSLINE_CAMERA__2__ID", "x"),
            ("LENSLINE_LOG__LEVEL__DEEP", "x"),
            ("LENSLINE_", "x"),
        ],
        &Overrides::default(),
    )
    .unwrap_err();
    let all = found.join("\n");
    for start in [
        "LENSLINE_SERVER__LISTEN: server.listen: ",
        "LENSLINE_LIMITS__RTSP_SESSIONS_MAX: limits.rtsp_sessions_max: cannot be 0; ",
        "LENSLINE_LOG__LEVL: log.levl: there is no such key; did you mean `level`?",
        "LENSLINE_CAMERA__2__ID: camera[2].id: has 0 entries",
        "LENSLINE_LOG__LEVEL__DEEP: log.level",
        "LENSLINE_: ",
    ] {
        assert!(all.contains(start), "{start} is not in\n{all}");
    }
}

#[test]
fn the_command_line_overrides_and_is_checked_likewise() {
    let listen: SocketAddr = "0.0.0.0:9000".parse().unwrap();
    let overrides = Overrides {
        listen: Some(listen),
        rtsp_listen: Some("127.0.0.1:9001".parse().unwrap()),
        log_format: Some(LogFormat::Json),
        simulate: true,
    };
    let found = load_text("", &[], &overrides).unwrap_err();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with("--listen: server.listen: other machines"), "{}", found[0]);
    let config = load_text("auth.mode = 'none'", &[], &overrides).unwrap();
    assert_eq!((config.server.listen, config.rtsp.listen.port()), (listen, 9001));
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn no_password_is_repeated_in_a_problem() {
    let user = "[[auth.users]]\nname = 'a'\npassword_hash = 'hunter2'\ndigest_ha1 = 'hunter2'\n";
    let all = problems(user).join("\n");
    assert!(all.contains("auth.users[0].password_hash: is no PHC string"), "{all}");
    assert!(
        all.contains("auth.users[0].digest_ha1: is not 32") && !all.contains("hunter2"),
        "{all}"
    );
    let text = "[[webrtc.turn_servers]]\nurl='turn:u:hunter2@h'\nusername='u'\ncredential=123456\n\
                [[camera]]\nid='a'\nsource={kind='rtsp',url='http://u:hunter2@h/'}\n";
    let all = problems(text).join("\n");
    assert!(all.contains("turn_servers[0].credential") && all.contains("source.url"), "{all}");
    assert!(!all.contains("hunter2") && !all.contains("123456"), "{all}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let latin1 = folder.path().join("latin1.toml");
    std::fs::write(&latin1, b"# one\n# caf\xe9\n").unwrap();
    let mut large = std::fs::File::create(folder.path().join("large.toml")).unwrap();
    large.write_all(&vec![b'#'; (FILE_BYTES_MAX + 1) as usize]).unwrap();
    for (path, part) in [
        (folder.path().join("missing.toml"), "cannot be read: No such file"),
        (folder.path().to_owned(), "cannot be read: Is a directory"),
        (latin1, "is not UTF-8 on line 2"),
        (folder.path().join("large.toml"), "larger than 1 MiB"),
    ] {
        let problems = load(Some(&path), [], &Overrides::default()).unwrap_err();
        let text = problems.to_string();
        assert!(text.contains(part) && text.contains(path.to_str().unwrap()), "{text}");
    }
}

mod any_text {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn gives_a_configuration_or_problems_and_comes_to_an_end(
            lines in prop::collection::vec((
                prop::sample::select(EXAMPLE_LINES.to_vec()), 0usize..40, any::<char>()
            ), 0..20),
        ) {
            let mut text = String::new();
            for (line, at, change) in lines {
                let mut line: Vec<char> = line.chars().collect();
                if let Some(place) = line.get_mut(at) {
                    *place = change;
                }
                text.extend(line);
                text.push('\n');
            }
            if let Err(found) = load_text(&text, &[], &Overrides::default()) {
                prop_assert!(!found.is_empty());
            }
        }
    }

    const EXAMPLE_LINES: [&str; 16] = [
        "[server]",
        "listen = '127.0.0.1:8080'",
        "[[camera]]",
        "id = 'a'",
        "source = { kind = 'v4l2', device = '/dev/video0' }",
        "source = { kind = 'simulated', faults = [{ at_ms = 1, kind = 'slow', for_ms = 2 }] }",
        "width = 1280",
        "[camera.encoder]",
        "bitrate_kbps = 2500",
        "[[camera.rendition]]",
        "name = 'low'",
        "[webrtc]",
        "udp_ports = '50000-50100'",
        "turn_servers = [{ url = 'turn:h', username = 'u', credential = 'c' }]",
        "[log]",
        "camera = 3",
    ];
}
