//! What the values mean, alone and together: everything that can be wrong with a configuration
//! whose types are right.

mod auth;
mod camera;
mod tls;
mod webrtc;

use std::net::SocketAddr;

pub(super) use tls::{Certificates, certificates};

use super::{Config, Limits, Log, Rtsp};

/// Sessions at a time of one kind: beyond, threads and file descriptors run out first.
const SESSIONS_MAX: usize = 1_000;

/// ICE candidates of one viewer: beyond, checking them all takes longer than the negotiation may.
pub const CANDIDATES_MAX: usize = 256;

/// One thing that is wrong.
#[derive(Debug)]
pub(super) struct Finding {
    /// The key it is about, then the others it depends on.
    pub(super) paths: Vec<String>,
    /// What is wrong.
    pub(super) message: String,
    /// What to do about it.
    pub(super) remedy: String,
}

/// Everything that is wrong with `config`.
pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let mut found = Findings(Vec::new());
    listening(&mut found, config);
    auth::check(&mut found, &config.auth, &config.camera);
    origins(&mut found, &config.server.allowed_origins);
    hosts(&mut found, &config.server.allowed_hosts);
    transports(&mut found, &config.rtsp);
    tls::transports(&mut found, &config.rtsp);
    webrtc::check(&mut found, &config.webrtc, &config.limits);
    limits(&mut found, &config.limits);
    log(&mut found, &config.log);
    camera::check(&mut found, &config.camera);
    found.0
}

/// The list being made.
struct Findings(Vec<Finding>);

/// Whether the Pi's hardware encoder could encode what this camera gives; it hangs on some of it.
pub fn suits_hardware_encoder(camera: &super::Camera) -> bool {
    let mut found = Findings(Vec::new());
    camera::hardware_encoder(&mut found, "", camera);
    found.0.is_empty()
}

impl Findings {
    /// Notes something wrong at one key.
    fn add(&mut self, path: &str, message: impl Into<String>, remedy: impl Into<String>) {
        self.between(&[path], message, remedy);
    }

    /// Notes something wrong between several keys; it is reported at the first.
    fn between(&mut self, paths: &[&str], message: impl Into<String>, remedy: impl Into<String>) {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        self.0.push(Finding { paths, message: message.into(), remedy: remedy.into() });
    }

    /// Notes a number that lies outside `bounds`.
    fn range(&mut self, path: &str, value: u64, bounds: std::ops::RangeInclusive<u64>) {
        if !bounds.contains(&value) {
            self.add(
                path,
                format!("cannot be {value}"),
                format!("choose from {} to {}", bounds.start(), bounds.end()),
            );
        }
    }
}

fn listening(found: &mut Findings, config: &Config) {
    let (http, rtsp) = (config.server.listen, config.rtsp.listen);
    for (path, address) in [("server.listen", http), ("rtsp.listen", rtsp)] {
        if !config.auth.lets_listen_on(address) {
            found.between(
                &[path, "auth.mode"],
                format!("other machines can reach {address}, and no authentication is configured"),
                format!(
                    "add [[auth.users]], or write mode = \"none\" under [auth] to let everybody in, \
                     or listen on 127.0.0.1:{}",
                    address.port()
                ),
            );
        }
    }
    if same_address(http, rtsp) {
        found.between(
            &["rtsp.listen", "server.listen"],
            format!("{rtsp} is HTTP's address already"),
            "choose another port, like 8554",
        );
    }
}

/// Whether two cannot both be listened on. Port 0 is a free one, chosen by the system.
fn same_address(one: SocketAddr, other: SocketAddr) -> bool {
    let everywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (everywhere || one.ip() == other.ip())
}

fn origins(found: &mut Findings, origins: &[String]) {
    for (index, origin) in origins.iter().enumerate() {
        let host = ["https://", "http://"].iter().find_map(|scheme| origin.strip_prefix(scheme));
        let right = host.is_some_and(webrtc::is_host_port)
            && !origin.bytes().any(|byte| byte.is_ascii_uppercase());
        if !right {
            found.add(
                &format!("server.allowed_origins[{index}]"),
                format!("`{origin}` is no origin"),
                "write scheme and host as browsers send them, like \"https://example.org\" or \
                 \"http://nas.lan:8123\", without a path",
            );
        }
    }
}

fn hosts(found: &mut Findings, hosts: &[String]) {
    for (index, host) in hosts.iter().enumerate() {
        let right = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty()
            || !host.contains(|c: char| c.is_ascii_alphanumeric())
            || !host.chars().all(right)
        {
            found.add(
                &format!("server.allowed_hosts[{index}]"),
                format!("`{host}` is no host name"),
                "write a name without scheme and port, like \"camera.example.org\"",
            );
        }
    }
}

fn transports(found: &mut Findings, rtsp: &Rtsp) {
    if rtsp.transports.is_empty() {
        found.add("rtsp.transports", "is empty", "allow \"tcp\", \"udp\" or both");
    }
    for (index, transport) in rtsp.transports.iter().enumerate() {
        if rtsp.transports[..index].contains(transport) {
            found.add(&format!("rtsp.transports[{index}]"), "is there twice", "take one out");
        }
    }
}

fn limits(found: &mut Findings, limits: &Limits) {
    let sessions = 1..=SESSIONS_MAX as u64;
    let own = [
        ("limits.webrtc_sessions_max", limits.webrtc_sessions_max),
        ("limits.rtsp_sessions_max", limits.rtsp_sessions_max),
    ];
    for (path, value) in own {
        found.range(path, value as u64, sessions.clone());
    }
    let per_address = limits.sessions_per_address_max as u64;
    let both_kinds = 1..=2 * SESSIONS_MAX as u64;
    found.range("limits.sessions_per_address_max", per_address, both_kinds.clone());
    found.range("limits.sessions_per_user_max", limits.sessions_per_user_max as u64, both_kinds);
    found.range("limits.joins_per_second_max", limits.joins_per_second_max.into(), 1..=10_000);
    let candidates = limits.candidates_per_session_max as u64;
    found.range("limits.candidates_per_session_max", candidates, 1..=CANDIDATES_MAX as u64);
    // The viewer's page alone needs a few in its first second.
    let messages = limits.messages_per_second_max.into();
    found.range("limits.messages_per_second_max", messages, 5..=10_000);
    found.range("limits.descriptors_reserve", limits.descriptors_reserve, 16..=100_000);
}

fn log(found: &mut Findings, log: &Log) {
    if let Err(error) = tracing_subscriber::EnvFilter::builder().parse(&log.level) {
        found.add(
            "log.level",
            format!("`{}` is no filter: {error}", log.level),
            "write off, error, warn, info, debug or trace, or one per target like \
             \"info,lensline=debug\"",
        );
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
