//! The configuration as types: parsed once, before any port or camera is opened.
//!
//! Keys, sections and defaults are the contract's (`interface.md`). [`load`] reads the file, lays
//! the environment and the command line over it (`tree`, `parse`), turns that into these types
//! (`de`) and looks at what the values mean together (`check`). Whatever is wrong comes back as
//! [`Problems`], all at once.

mod check;
mod de;
mod example;
mod parse;
mod problem;
mod source;
mod tree;

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

pub use check::{CANDIDATES_MAX, suits_hardware_encoder};
pub use example::EXAMPLE;
pub use parse::{DEFAULT_PATH, Loaded, Overrides, load, load_text};
pub use problem::{Problem, Problems};
pub use source::{Fault, FaultKind, Pattern, Simulated, Source};
pub use tree::Origin;

use crate::tls;

/// Everything that can be configured.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The HTTP side.
    pub server: Server,
    /// Who may come in.
    pub auth: Auth,
    /// The RTSP side.
    pub rtsp: Rtsp,
    /// The WebRTC side.
    pub webrtc: Webrtc,
    /// How many may come in.
    pub limits: Limits,
    /// The cameras.
    pub camera: Vec<Camera>,
    /// The log.
    pub log: Log,
}

/// `[server]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Where the pages, WHEP and the API are served.
    pub listen: SocketAddr,
    /// Origins besides our own whose pages may use us, as `scheme://host[:port]`.
    pub allowed_origins: Vec<String>,
    /// Names under which browsers may ask for us besides addresses and local names, as `host`.
    pub allowed_hosts: Vec<String>,
    /// With it HTTPS is served, and nothing else.
    pub tls: Option<Tls>,
}

/// `server.tls`, `rtsp.tls`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate, then those that signed it, as PEM.
    pub certificate: PathBuf,
    /// Its private key, as PEM.
    pub key: PathBuf,
}

impl From<&Tls> for tls::Files {
    fn from(tls: &Tls) -> Self {
        Self { certificate: tls.certificate.clone(), key: tls.key.clone() }
    }
}

/// `[auth]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// `none`, written out, lets anybody in also from other machines. Not given, it is `users`
    /// where there are some.
    pub mode: Option<AuthMode>,
    /// Who may come in.
    pub users: Vec<User>,
}

/// `[[auth.users]]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The name.
    pub name: String,
    /// The argon2id hash of the password, as `lensline hash-password` prints it.
    pub password_hash: Secret,
    /// MD5(name:realm:password) in hexadecimal, for RTSP players that speak Digest only.
    #[serde(default)]
    pub digest_ha1: Option<Secret>,
    /// The cameras they may watch, by id; all where not given.
    #[serde(default)]
    pub cameras: Option<Vec<String>>,
    /// What they may do.
    #[serde(default)]
    pub role: Role,
}

/// `auth.users.role`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// They look.
    #[default]
    Viewer,
    /// They change things too, and end sessions.
    Operator,
}

/// Text that is never shown: not in logs, messages or answers.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Auth {
    /// Whether `address` may be listened on: others than this machine come in by name and password,
    /// or where it is written out that everybody may.
    pub fn lets_listen_on(&self, address: SocketAddr) -> bool {
        address.ip().is_loopback() || self.mode.is_some() || !self.users.is_empty()
    }
}

impl Secret {
    /// The text, for who must use it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// How visitors prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// They do not.
    None,
    /// By name and password of one of the users.
    Users,
}

/// `[rtsp]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rtsp {
    /// Where RTSP is served.
    pub listen: SocketAddr,
    /// How media may travel. With TLS it travels in the connection, and no other way.
    pub transports: Vec<RtspTransport>,
    /// With it RTSPS is served, and nothing else.
    pub tls: Option<Tls>,
}

/// One way for RTSP's media to travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RtspTransport {
    /// In the RTSP connection.
    Tcp,
    /// Beside it, in UDP packets.
    Udp,
    /// To a multicast group.
    Multicast,
}

/// `[webrtc]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Webrtc {
    /// What carries the media.
    pub engine: WebrtcEngine,
    /// `stun:host:port` URIs.
    pub stun_servers: Vec<String>,
    /// TURN servers.
    pub turn_servers: Vec<TurnServer>,
    /// Range of local UDP ports, `"first-last"`; any where not given.
    pub udp_ports: Option<PortRange>,
    /// Network interfaces whose addresses are offered, by name; all where empty.
    pub interfaces: Vec<String>,
    /// Bound on the time from the offer to the connection, in milliseconds.
    pub negotiation_timeout_ms: u64,
    /// A viewer of whom nothing was heard for so long is gone, in milliseconds.
    pub silence_timeout_ms: u64,
}

/// `webrtc.engine`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WebrtcEngine {
    /// The one that suits the rest of the configuration: see [`Webrtc::uses_webrtcbin`].
    #[default]
    Auto,
    /// str0m: one socket for all viewers, no thread for any; host candidates only.
    Str0m,
    /// GStreamer's webrtcbin: a pipeline, threads and sockets for every viewer; candidates of STUN
    /// and TURN servers too.
    Webrtcbin,
}

impl Webrtc {
    /// Whether webrtcbin carries the media: where it is asked for, and where candidates of STUN or
    /// TURN servers are.
    pub fn uses_webrtcbin(&self) -> bool {
        match self.engine {
            WebrtcEngine::Auto => !self.stun_servers.is_empty() || !self.turn_servers.is_empty(),
            WebrtcEngine::Str0m => false,
            WebrtcEngine::Webrtcbin => true,
        }
    }
}

/// One TURN server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TurnServer {
    /// `turn:host:port` or `turns:host:port`, with `?transport=udp|tcp` where needed.
    pub url: String,
    /// The user name.
    #[serde(default)]
    pub username: String,
    /// The password.
    #[serde(default)]
    pub credential: Secret,
}

/// An inclusive range of ports, written `"first-last"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PortRange {
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// WebRTC sessions at a time.
    pub webrtc_sessions_max: usize,
    /// RTSP sessions at a time.
    pub rtsp_sessions_max: usize,
    /// Sessions at a time from one address.
    pub sessions_per_address_max: usize,
    /// Sessions at a time of one user.
    pub sessions_per_user_max: usize,
    /// Joins a second.
    pub joins_per_second_max: u32,
    /// ICE candidates of one WebRTC viewer.
    pub candidates_per_session_max: usize,
    /// Messages of one viewer's signalling a second.
    pub messages_per_second_max: u32,
    /// File descriptors that are kept back from newcomers.
    pub descriptors_reserve: u64,
}

/// `[[camera]]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Camera {
    /// The name in every address: letters, digits, `-` and `_`.
    pub id: String,
    /// Where the pictures come from.
    pub source: Source,
    /// Width of the main rendition in pixels.
    pub width: u32,
    /// Height of the main rendition in pixels.
    pub height: u32,
    /// Pictures a second.
    pub framerate: u32,
    /// Turn and mirror.
    pub flip: Flip,
    /// What to cut off at each side before scaling.
    pub crop: Crop,
    /// How the main rendition is encoded.
    pub encoder: Encoder,
    /// Further renditions.
    pub rendition: Vec<RenditionConfig>,
    /// When a camera counts as stalled.
    pub watchdog: Watchdog,
}

/// `camera.flip`: the eight ways to lay a rectangle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flip {
    /// As it comes.
    #[default]
    None,
    /// A quarter turn clockwise.
    Clockwise,
    /// A half turn.
    Rotate180,
    /// A quarter turn counter-clockwise.
    Counterclockwise,
    /// Mirrored left to right.
    Horizontal,
    /// Mirrored top to bottom.
    Vertical,
    /// Mirrored over the diagonal from the upper left.
    UpperLeftDiagonal,
    /// Mirrored over the diagonal from the upper right.
    UpperRightDiagonal,
}

/// `camera.crop`: pixels to cut off, of the picture as the source gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Crop {
    /// From the left.
    pub left: u32,
    /// From the right.
    pub right: u32,
    /// From the top.
    pub top: u32,
    /// From the bottom.
    pub bottom: u32,
}

/// `[camera.encoder]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Encoder {
    /// Which encoder.
    pub kind: EncoderKind,
    /// Bits a second of the main rendition, in thousands.
    pub bitrate_kbps: u32,
    /// The least that adaptation or the API may ask for.
    pub bitrate_min_kbps: u32,
    /// The most that adaptation or the API may ask for.
    pub bitrate_max_kbps: u32,
    /// Frames from one key frame to the next where nobody asks for one.
    pub keyframe_interval: u32,
}

/// Which encoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncoderKind {
    /// The best there is here.
    #[default]
    Auto,
    /// The hardware encoder of a Pi up to 4, `v4l2h264enc`.
    V4l2,
    /// `x264enc`
    X264,
    /// `openh264enc`
    Openh264,
}

/// `[[camera.rendition]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RenditionConfig {
    /// The name in its address: letters, digits, `-` and `_`; not `main`.
    pub name: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Pictures a second; the camera's where not given.
    pub framerate: Option<u32>,
    /// Bits a second, in thousands.
    pub bitrate_kbps: u32,
}

/// `[camera.watchdog]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Watchdog {
    /// A running camera that gave nothing for so long is rebuilt, in milliseconds.
    pub timeout_ms: u64,
    /// The same for a camera that has given nothing yet, in milliseconds.
    pub start_timeout_ms: u64,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// What is logged, in `tracing`'s filter language: `info`, `lensline=debug,info`, …
    pub level: String,
    /// How.
    pub format: LogFormat,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            allowed_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            tls: None,
        }
    }
}

impl Default for Rtsp {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8554)),
            transports: vec![RtspTransport::Tcp, RtspTransport::Udp],
            tls: None,
        }
    }
}

impl Default for Webrtc {
    fn default() -> Self {
        Self {
            engine: WebrtcEngine::Auto,
            stun_servers: Vec::new(),
            turn_servers: Vec::new(),
            udp_ports: None,
            interfaces: Vec::new(),
            negotiation_timeout_ms: 10_000,
            silence_timeout_ms: 8_000,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            webrtc_sessions_max: 64,
            rtsp_sessions_max: 64,
            sessions_per_address_max: 64,
            sessions_per_user_max: 64,
            joins_per_second_max: 50,
            candidates_per_session_max: 64,
            messages_per_second_max: 50,
            descriptors_reserve: 64,
        }
    }
}

impl Default for Camera {
    fn default() -> Self {
        Self {
            id: String::new(),
            source: Source::Simulated(Simulated::default()),
            width: 1280,
            height: 720,
            framerate: 30,
            flip: Flip::None,
            crop: Crop::default(),
            encoder: Encoder::default(),
            rendition: Vec::new(),
            watchdog: Watchdog::default(),
        }
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            kind: EncoderKind::Auto,
            bitrate_kbps: 2_500,
            bitrate_min_kbps: 150,
            bitrate_max_kbps: 8_000,
            keyframe_interval: 60,
        }
    }
}

impl Default for RenditionConfig {
    fn default() -> Self {
        Self { name: String::new(), width: 640, height: 360, framerate: None, bitrate_kbps: 600 }
    }
}

impl Default for Watchdog {
    fn default() -> Self {
        Self { timeout_ms: 2_000, start_timeout_ms: 15_000 }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

impl TryFrom<String> for PortRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let range = text.split_once('-').and_then(|(first, last)| {
            Some(Self { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? })
        });
        range
            .filter(|range| range.first > 0 && range.first <= range.last)
            .ok_or_else(|| format!("`{text}` is no range of ports; write it like \"50000-50100\""))
    }
}
