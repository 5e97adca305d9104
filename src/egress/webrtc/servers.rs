//! STUN and TURN servers: as browsers are told of them, and as libnice wants them.

use serde::Serialize;
use utoipa::ToSchema;

use crate::config::{TurnServer, Webrtc};

/// A server as a browser's `RTCPeerConnection` takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct IceServer {
    /// `stun:…`, `turn:…`, `turns:…`
    #[serde(rename = "urls")]
    pub url: String,
    /// The user name, for TURN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password, for TURN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

/// The servers of the configuration, in its order.
pub fn list(config: &Webrtc) -> Vec<IceServer> {
    let stun = config.stun_servers.iter().map(|url| IceServer {
        url: url.clone(),
        username: None,
        credential: None,
    });
    let turn = config.turn_servers.iter().map(|server| IceServer {
        url: server.url.clone(),
        username: Some(server.username.clone()),
        credential: Some(server.credential.reveal().to_owned()),
    });
    stun.chain(turn).collect()
}

/// `stun://host:port`, as webrtcbin wants it.
pub fn stun(url: &str) -> String {
    let rest = url.strip_prefix("stun:").unwrap_or(url);
    format!("stun://{}", rest.trim_start_matches('/'))
}

/// `turn://user:password@host:port`, as webrtcbin wants it.
pub fn turn(server: &TurnServer) -> String {
    let (scheme, rest) = server.url.split_once(':').unwrap_or(("turn", &server.url));
    let (user, password) = (escape(&server.username), escape(server.credential.reveal()));
    format!("{scheme}://{user}:{password}@{}", rest.trim_start_matches('/'))
}

/// Percent-encoding of all but RFC 3986's unreserved characters.
fn escape(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libnice_s_uris_carry_escaped_credentials() {
        let server = TurnServer {
            url: "turn:turn.example:3478?transport=udp".into(),
            username: "1700000000:me".into(),
            credential: "a/b=@".to_owned().into(),
        };
        assert_eq!(
            turn(&server),
            "turn://1700000000%3Ame:a%2Fb%3D%40@turn.example:3478?transport=udp"
        );
        assert_eq!(stun("stun:stun.example:3478"), "stun://stun.example:3478");
    }
}
