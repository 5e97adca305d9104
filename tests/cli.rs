//! The program through its public face: exit codes, messages and what it prints.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// However slow the machine: what takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(60);

/// `lensline` with these arguments and, of ours, only these variables in its environment.
fn lensline(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lensline"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LENSLINE_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).envs(variables.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + TIMEOUT;
    // What is printed here fits into a pipe, so nothing need be read meanwhile.
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("lensline {arguments:?} did not end: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn assert_refused(output: &Output, code: i32, parts: &[&str]) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    for part in parts {
        assert!(stderr(output).contains(part), "{part} is not in\n{}", stderr(output));
    }
}

struct File {
    folder: tempfile::TempDir,
}

impl File {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.toml"), text).unwrap();
        Self { folder }
    }

    fn path(&self) -> String {
        self.folder.path().join("config.toml").to_str().unwrap().to_owned()
    }
}

#[test]
fn wrong_arguments_exit_2() {
    assert_refused(&lensline(&[], &[]), 2, &["Usage"]);
    assert_refused(&lensline(&["fly"], &[]), 2, &["fly"]);
    assert_refused(&lensline(&["run", "--listen", "localhost"], &[]), 2, &["--listen"]);
    assert_refused(&lensline(&["run", "--log-format", "xml"], &[]), 2, &["text", "json"]);
}

#[test]
fn help_and_version_exit_0() {
    let help = lensline(&["run", "--help"], &[]);
    assert_eq!(help.status.code(), Some(0));
    for option in ["--config", "--simulate", "--listen", "--rtsp-listen", "--log-format"] {
        assert!(stdout(&help).contains(option), "{option}");
    }
    let version = lensline(&["--version"], &[]);
    assert_eq!(stdout(&version).trim(), concat!("lensline ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn check_prints_every_problem_with_line_key_and_remedy() {
    let file = File::new("[server]\nlisen = \"x\"\n\n[[camera]]\nid = \"a b\"\nframerate = 0\n");
    let output = lensline(&["check", "--config", &file.path()], &[]);
    let path = file.path();
    assert_refused(
        &output,
        2,
        &[
            &format!("{path}:2: server.lisen: there is no such key; did you mean `listen`?"),
            &format!("{path}:5: camera[0].id: "),
            &format!("{path}:6: camera[0].framerate: cannot be 0; choose from 1 to 120"),
            &format!("{path}:4: camera[0].source: is not given; "),
            "4 problems in the configuration",
        ],
    );
}

#[test]
fn run_refuses_what_check_refuses_before_it_starts_anything() {
    let file = File::new("[limits]\nrtsp_sessions_max = 0\n");
    let remedy = "limits.rtsp_sessions_max: cannot be 0; choose from 1 to 1000";
    let arguments = ["run", "--simulate", "--config", &file.path()];
    assert_refused(&lensline(&arguments, &[]), 2, &[":2: ", remedy]);
}

#[test]
fn check_refuses_certificates_that_run_would_refuse_or_only_warn_of() {
    let credentials = lensline_clients::Credentials::new();
    let file = File::new(&format!("[server]\n{}", credentials.toml()));
    let check = || lensline(&["check", "--config", &file.path()], &[]);
    assert_eq!(check().status.code(), Some(0), "{:?}", check());
    credentials.renew(2020, 2021);
    let said = ["config.toml:2: server.tls.certificate: ", "expired on 2021", "; renew it"];
    assert_refused(&check(), 2, &said);
    let (_, another) = lensline_clients::Credentials::pair(2020, 2090);
    credentials.replace(&credentials.key, &another);
    assert_refused(&check(), 2, &["config.toml:2: server.tls.key: ", "does not belong"]);
    let run = lensline(&["run", "--simulate", "--config", &file.path()], &[]);
    assert_refused(&run, 2, &["config.toml:2: server.tls.key: ", "does not belong"]);
}

#[test]
fn check_says_what_it_read() {
    let file = File::new("[[camera]]\nid = \"a\"\nsource = { kind = \"libcamera\" }\n");
    let variables = [("LENSLINE_LOG__LEVEL", "debug")];
    let output = lensline(&["check", "--config", &file.path()], &variables);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = stdout(&output);
    for part in [&file.path()[..], "LENSLINE_LOG__LEVEL", "1 camera"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
}

#[test]
fn a_configuration_that_cannot_be_read_exits_2() {
    let file = File::new("");
    let folder = file.folder.path().to_str().unwrap();
    let missing = format!("{folder}/missing.toml");
    for (path, part) in [(&missing[..], "No such file"), (folder, "Is a directory")] {
        assert_refused(&lensline(&["check", "--config", path], &[]), 2, &[path, part]);
        assert_refused(&lensline(&["run", "--config", path], &[]), 2, &[path, part]);
    }
}

#[test]
fn variables_override_and_their_problems_name_them() {
    let file = File::new("[limits]\nrtsp_sessions_max = 0\n");
    let check = ["check", "--config", &file.path()];
    let good = lensline(&check, &[("LENSLINE_LIMITS__RTSP_SESSIONS_MAX", "5")]);
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    let bad = lensline(
        &check,
        &[("LENSLINE_LIMITS__RTSP_SESSIONS_MAX", "many"), ("LENSLINE_SERVR__LISTEN", "x")],
    );
    assert_refused(
        &bad,
        2,
        &[
            "LENSLINE_LIMITS__RTSP_SESSIONS_MAX: limits.rtsp_sessions_max: is text; ",
            "LENSLINE_SERVR__LISTEN: servr: there is no such key; did you mean `server`?",
        ],
    );
}

#[test]
fn other_machines_are_let_in_only_where_that_is_written_out() {
    for option in ["--listen", "--rtsp-listen"] {
        let output = lensline(&["run", "--simulate", option, "0.0.0.0:0"], &[]);
        let remedy = "write mode = \"none\" under [auth]";
        assert_refused(&output, 2, &[&format!("{option}: "), remedy]);
    }
    let variables = [("LENSLINE_SERVER__LISTEN", "[::]:8080"), ("LENSLINE_AUTH__MODE", "none")];
    let output = lensline(&["check", "--config", &File::new("").path()], &variables);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn the_printed_configuration_is_a_configuration() {
    let example = lensline(&["config"], &[]);
    assert_eq!(example.status.code(), Some(0));
    let text = stdout(&example);
    for section in ["[server]", "[auth]", "[rtsp]", "[webrtc]", "[limits]", "[log]", "[[camera]]"] {
        assert!(text.contains(section), "{section}");
    }
    let file = File::new(&text);
    let output = lensline(&["check", "--config", &file.path()], &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn probe_lists_encoders_workarounds_and_the_choice() {
    let text = lensline(&["probe"], &[]);
    assert_eq!(text.status.code(), Some(0), "{text:?}");
    for part in ["GStreamer", "Cameras", "x264enc", "Workarounds", "would choose"] {
        assert!(stdout(&text).contains(part), "{part} is not in {}", stdout(&text));
    }
    let json = lensline(&["probe", "--json"], &[]);
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(report["gstreamer"].is_string(), "{report}");
    assert!(report["cameras"].is_array(), "{report}");
    assert_eq!(report["encoders"].as_array().unwrap().len(), 3);
    assert!(report["choice"].is_object(), "{report}");
}

#[test]
fn without_a_camera_it_exits_3_and_says_what_to_do() {
    let probe = lensline(&["probe", "--json"], &[]);
    let report: serde_json::Value = serde_json::from_slice(&probe.stdout).unwrap();
    if report["choice"]["camera"].is_object() {
        // This machine has a camera: `run` would stream it.
        return;
    }
    let file = File::new("");
    for format in ["text", "json"] {
        let arguments = ["run", "--log-format", format, "--config", &file.path()];
        assert_refused(&lensline(&arguments, &[]), 3, &["--simulate", "lensline probe"]);
    }
    // Also where nothing is logged, the reason is told.
    let silent = lensline(&["run"], &[("LENSLINE_LOG__LEVEL", "off")]);
    if !Path::new("/etc/lensline/config.toml").exists() {
        assert_refused(&silent, 3, &["--simulate", "lensline probe"]);
    }
}
