//! How the programs that take part are started.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use super::host::Host;
use super::router::{Router, Side};
use super::run::{Options, STREAMER};
use super::streamer::{CAMERA, HTTP_PORT, RTSP_PORT, TURN};
use crate::plan::{Plan, Traffic, TrafficKind, Viewer};

/// What a viewer's process is told.
pub fn viewer_arguments(viewer: &Viewer, plan: &Plan) -> Vec<String> {
    let kind = serde_json::to_value(viewer.kind).ok();
    let kind = kind.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default();
    let http = format!("http://{STREAMER}:{HTTP_PORT}/");
    let rtsp = format!("rtsp://{STREAMER}:{RTSP_PORT}/{CAMERA}");
    let framerate = plan.camera.framerate.to_string();
    let lost_after = viewer.lost_after_s.to_string();
    let words = [
        "viewer",
        "--kind",
        kind,
        "--http",
        &http,
        "--rtsp",
        &rtsp,
        "--framerate",
        &framerate,
        "--rejoin",
        "--lost-after-s",
        &lost_after,
        "--wait",
    ];
    words.map(String::from).to_vec()
}

/// What a source's and a sink's process are told.
pub fn traffic_arguments(traffic: &Traffic, role: &str, sink: Ipv4Addr, seed: u64) -> Vec<String> {
    let kind = match traffic.kind {
        TrafficKind::TcpLong => "tcp-long",
        TrafficKind::TcpShort => "tcp-short",
        TrafficKind::UdpCbr => "udp-cbr",
    };
    let (address, count) = (format!("{sink}:5001"), traffic.count.to_string());
    let (rate, seed) = (traffic.rate_kbps.to_string(), seed.to_string());
    let words = [
        "traffic",
        "--kind",
        kind,
        "--role",
        role,
        "--address",
        &address,
        "--count",
        &count,
        "--rate-kbps",
        &rate,
        "--seed",
        &seed,
    ];
    words.map(String::from).to_vec()
}

/// A TURN server in the core.
pub fn turn_server(router: &Router, options: &Options) -> Result<(Host, Child), String> {
    let (address, user, password) = TURN;
    let start = || -> io::Result<(Host, Child)> {
        let own = address.parse().map_err(io::Error::other)?;
        let host = Host::new(own)?;
        router.network().add(own, Arc::clone(&host.device), Side::Core, false);
        let log = std::fs::File::create(options.folder.join("turnserver.log"))?;
        let mut command = Command::new("turnserver");
        command.args(["-n", "--listening-ip", address, "--relay-ip", address, "--lt-cred-mech"]);
        command.args(["--user", &format!("{user}:{password}"), "--realm", "lensline"]);
        command.args(["--no-tls", "--no-dtls", "--no-cli", "--log-file", "stdout"]);
        command.args(["--pidfile", &turn_pidfile(&options.folder)]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = host.spawn(command)?;
        Ok((host, child))
    };
    start().map_err(|error| format!("turn_only: coturn: {error}; install Debian's coturn"))
}

fn turn_pidfile(folder: &Path) -> String {
    folder.join("turnserver.pid").display().to_string()
}
