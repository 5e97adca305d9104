//! Control plane: the viewer page, WHEP and WebSocket signalling, the API, health and metrics.
//!
//! Every request passes the `gate` first (from which page, for how long), then the `door` of its
//! route (who asks, and may they), then a handler of the route table in `routes`; every error leaves as a [`problem::Problem`]. Nothing here
//! touches media: what a viewer's pipeline is made of is behind [`signalling::Signalling`].

mod api;
mod door;
mod extract;
mod gate;
mod health;
mod openapi;
pub mod problem;
mod routes;
pub mod sdp;
mod seats;
mod server;
pub mod signalling;
mod snapshot;
mod status;
mod viewer;
mod whep;
pub mod ws;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::admission::Admission;
use crate::auth::{Auth, Visitor};
use crate::catalog::{Camera, Catalog, Rendition};
use crate::clock::Timestamp;
use crate::egress::session::{Registry, Session};
use crate::egress::webrtc::servers::IceServer;
use crate::metrics::{self, Metrics};
use crate::shutdown::Stopping;
use crate::tls::Identity;

pub use server::{CONNECTIONS_MAX, serve};

use problem::Problem;
use seats::Seats;
use signalling::Signalling;

/// The door's name in metrics.
const DOOR: &str = metrics::HTTP_DOOR;

/// What the control plane works on; the composition root fills it in.
pub struct Http {
    /// What there is to watch.
    pub catalog: Arc<Catalog>,
    /// Who watches.
    pub registry: Registry,
    /// How many may.
    pub admission: Admission,
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// The WebRTC engine.
    pub signalling: Arc<dyn Signalling>,
    /// Who may come in.
    pub auth: Auth,
    /// Origins besides our own whose pages may use us, as `scheme://host[:port]`.
    pub allowed_origins: Vec<String>,
    /// Names besides the local ones under which we may be asked.
    pub allowed_hosts: Vec<String>,
    /// What it shows of itself; without it, plain HTTP is served.
    pub tls: Option<Identity>,
    /// STUN and TURN servers that viewers are told of.
    pub ice_servers: Vec<IceServer>,
    /// Workarounds in force, in words, for `/api/v1/status`.
    pub workarounds: Vec<String>,
    /// When the program started.
    pub started: Timestamp,
    /// What else an operator asks first.
    pub about: About,
}

/// What is fixed from the start, for `/api/v1/status`.
#[derive(Clone, Debug)]
pub struct About {
    /// Where RTSP is listened for.
    pub rtsp: SocketAddr,
    /// The WebRTC engine in use: `str0m` or `webrtcbin`.
    pub webrtc_engine: &'static str,
    /// The configuration file that was read; none where the defaults were taken.
    pub config_file: Option<String>,
}

/// Everything a handler can reach.
struct Shared {
    http: Http,
    whep: whep::Whep,
    snapshots: snapshot::Snapshots,
    health: health::Health,
    gate: gate::Gate,
    /// Where this is served.
    address: SocketAddr,
    /// HTTP connections, and WebSockets, which outlive them.
    connections: Seats,
    sockets: Seats,
    stopping: Stopping,
}

impl Shared {
    fn camera(&self, id: &str) -> Result<&Arc<Camera>, Problem> {
        self.http.catalog.camera(id).ok_or_else(|| Problem::unknown_camera(id))
    }

    /// The cameras that the visitor may watch.
    fn cameras(&self, visitor: &Visitor) -> Vec<&Arc<Camera>> {
        let cameras = self.http.catalog.cameras().iter();
        cameras.filter(|camera| visitor.may_watch(&camera.id)).collect()
    }

    /// The sessions that watch a camera which the visitor may watch too.
    fn sessions(&self, visitor: &Visitor) -> Vec<Arc<Session>> {
        let mut sessions = self.http.registry.list();
        sessions.retain(|session| visitor.may_watch(&session.rendition.camera));
        sessions
    }

    /// The session called `id`, if it watches a camera which the visitor may watch too.
    fn session(&self, visitor: &Visitor, id: &str) -> Result<Arc<Session>, Problem> {
        let session = self.http.registry.get(id);
        let seen = session.filter(|session| visitor.may_watch(&session.rendition.camera));
        seen.ok_or_else(Problem::unknown_session)
    }

    fn rendition(&self, camera: &str, name: Option<&str>) -> Result<Arc<Rendition>, Problem> {
        let camera = self.camera(camera)?;
        let found = camera.rendition(name).cloned();
        found.ok_or_else(|| Problem::unknown_rendition(camera, name.unwrap_or_default()))
    }
}
