//! `[webrtc]`: servers, ports, interfaces and times.

use super::Findings;
use crate::config::{Limits, PortRange, Webrtc, WebrtcEngine};

/// The longest name of a network interface (`IFNAMSIZ` less its end).
const INTERFACE_BYTES_MAX: usize = 15;

pub(super) fn check(found: &mut Findings, webrtc: &Webrtc, limits: &Limits) {
    for (index, server) in webrtc.stun_servers.iter().enumerate() {
        if !server.strip_prefix("stun:").is_some_and(is_host_port) {
            found.add(
                &format!("webrtc.stun_servers[{index}]"),
                format!("`{server}` is no STUN server"),
                "write it like \"stun:stun.example.org:3478\" (RFC 7064)",
            );
        }
    }
    turn_servers(found, webrtc);
    if webrtc.engine == WebrtcEngine::Str0m {
        engine(found, webrtc);
    }
    if let Some(range) = webrtc.udp_ports {
        ports(found, webrtc, range, limits.webrtc_sessions_max);
    }
    for (index, name) in webrtc.interfaces.iter().enumerate() {
        let fits = (1..=INTERFACE_BYTES_MAX).contains(&name.len())
            && !name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control());
        if !fits {
            found.add(
                &format!("webrtc.interfaces[{index}]"),
                format!("`{name}` is no network interface"),
                "name one as `ip link` lists it, like \"eth0\"",
            );
        }
    }
    found.range("webrtc.negotiation_timeout_ms", webrtc.negotiation_timeout_ms, 1_000..=120_000);
    found.range("webrtc.silence_timeout_ms", webrtc.silence_timeout_ms, 2_000..=120_000);
}

fn turn_servers(found: &mut Findings, webrtc: &Webrtc) {
    for (index, server) in webrtc.turn_servers.iter().enumerate() {
        let path = |key: &str| format!("webrtc.turn_servers[{index}].{key}");
        let rest = ["turn:", "turns:"].iter().find_map(|scheme| server.url.strip_prefix(scheme));
        let right = rest.is_some_and(|rest| match rest.split_once('?') {
            Some((host, "transport=udp" | "transport=tcp")) => is_host_port(host),
            Some(_) => false,
            None => is_host_port(rest),
        });
        if !right {
            // Not repeated here: some write the password into it.
            found.add(
                &path("url"),
                "is no TURN server",
                "write it like \"turn:turn.example.org:3478?transport=udp\" (RFC 7065), with \
                 username and credential as keys of their own",
            );
        }
        for (key, value) in
            [("username", &*server.username), ("credential", server.credential.reveal())]
        {
            if value.is_empty() {
                let message = "is empty, and a TURN server lets nobody in without it";
                found.add(&path(key), message, format!("add {key} = \"…\""));
            }
        }
    }
}

/// str0m has host candidates only.
fn engine(found: &mut Findings, webrtc: &Webrtc) {
    let servers =
        [("stun_servers", webrtc.stun_servers.len()), ("turn_servers", webrtc.turn_servers.len())];
    for (key, count) in servers {
        if count > 0 {
            found.between(
                &["webrtc.engine", &format!("webrtc.{key}")],
                "is \"str0m\", which asks no STUN or TURN server for candidates".to_owned(),
                format!("leave webrtc.engine out, or webrtc.{key}"),
            );
        }
    }
}

/// With webrtcbin, every session takes a port of its own on each interface; str0m needs one.
fn ports(found: &mut Findings, webrtc: &Webrtc, range: PortRange, sessions_max: usize) {
    if range.first < 1_024 {
        let message = "reaches below 1024, where only root may listen";
        found.add("webrtc.udp_ports", message, "begin at 1024 or above, like \"50000-50199\"");
    }
    let ports = usize::from(range.last - range.first) + 1;
    if webrtc.uses_webrtcbin() && ports < sessions_max {
        found.between(
            &["webrtc.udp_ports", "limits.webrtc_sessions_max"],
            format!("has {ports} ports for {sessions_max} sessions, and each needs its own"),
            format!(
                "widen it to {sessions_max} ports or more, or set limits.webrtc_sessions_max = \
                 {ports}"
            ),
        );
    }
}

/// Whether `text` is `host` or `host:port`, the host a name, an IPv4 address or an IPv6 address in
/// brackets.
pub(super) fn is_host_port(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, port)) if host.parse::<std::net::Ipv6Addr>().is_ok() => ("ipv6", port),
            _ => return false,
        },
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let host_fits =
        !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    let port_fits = match port.strip_prefix(':') {
        Some(port) => port.parse::<u16>().is_ok_and(|port| port > 0),
        None => port.is_empty(),
    };
    host_fits && port_fits
}
