//! Control plane: the viewer page, WHEP and WebSocket signalling, the API, health and metrics.
//!
//! Every request passes the `gate` first (who asks, from where, for how long), then a handler
//! of the route table in `routes`; every error leaves as a [`problem::Problem`]. Nothing here
//! touches media: what a viewer's pipeline is made of is behind [`signalling::Signalling`].

mod api;
mod gate;
mod health;
pub mod problem;
mod routes;
mod sdp;
mod seats;
mod server;
pub mod signalling;
mod snapshot;
mod viewer;
mod whep;
mod ws;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::admission::Admission;
use crate::catalog::{Camera, Catalog, Rendition};
use crate::clock::Timestamp;
use crate::egress::session::Registry;
use crate::egress::webrtc::servers::IceServer;
use crate::metrics::{self, Metrics};
use crate::shutdown::Stopping;

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
    /// Origins besides our own whose pages may use us, as `scheme://host[:port]`.
    pub allowed_origins: Vec<String>,
    /// STUN and TURN servers that viewers are told of.
    pub ice_servers: Vec<IceServer>,
    /// Workarounds in force, in words, for `/api/v1/status`.
    pub workarounds: Vec<String>,
    /// When the program started.
    pub started: Timestamp,
}

/// Everything a handler can reach.
struct Shared {
    http: Http,
    whep: whep::Whep,
    snapshots: snapshot::Snapshots,
    health: health::Health,
    gate: gate::Gate,
    sockets: Seats,
    stopping: Stopping,
}

impl Shared {
    fn camera(&self, id: &str) -> Result<&Arc<Camera>, Problem> {
        self.http.catalog.camera(id).ok_or_else(|| Problem::unknown_camera(id))
    }

    fn rendition(&self, camera: &str, name: Option<&str>) -> Result<Arc<Rendition>, Problem> {
        let camera = self.camera(camera)?;
        let found = camera.rendition(name).cloned();
        found.ok_or_else(|| Problem::unknown_rendition(camera, name.unwrap_or_default()))
    }
}
