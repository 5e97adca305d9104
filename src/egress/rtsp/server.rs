//! The RTSP server as the rest of the program sees it.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use gst_rtsp::RTSPLowerTrans;
use gst_rtsp_server::prelude::*;
use gst_rtsp_server::subclass::prelude::*;
use gst_rtsp_server::{
    RTSPAddressPool, RTSPClient, RTSPMountPoints, RTSPSessionPool, RTSPThreadPool,
};
use tokio::runtime::Handle;

use super::address::Place;
use super::client::Client;
use super::connection::Connection;
use super::door::Door;
use super::factory::Factory;
use super::hop::Hops;
use super::intake::REQUEST_BYTES_MAX;
use super::warden::Warden;
use crate::admission::Admission;
use crate::auth::Auth;
use crate::catalog::Catalog;
use crate::config::{self, RtspTransport};
use crate::egress::session::Registry;
use crate::error::Error;
use crate::guard::Teardowns;
use crate::metrics::Metrics;
use crate::shutdown::Stopping;
use crate::tls::Identity;

/// Threads on which requests are answered. One answer may wait for a key frame
/// ([`super::media`]): with several, nobody waits behind it for long.
const CLIENT_THREADS_MAX: i32 = 4;

/// Bound on the wait for the door's thread; it bounds itself more tightly.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);

/// How often the wait for the door's thread looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Multicast groups and ports to choose from: RFC 2365's organisation-local scope.
const MULTICAST_GROUPS: (&str, &str) = ("239.192.77.1", "239.192.77.250");
const MULTICAST_PORTS: (u16, u16) = (5000, 5099);
const MULTICAST_HOPS_MAX: u8 = 4;

/// What every part of the RTSP side needs.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) catalog: Arc<Catalog>,
    pub(super) registry: Registry,
    pub(super) metrics: Arc<Metrics>,
    pub(super) teardowns: Teardowns,
    pub(super) runtime: Handle,
    pub(super) transports: RTSPLowerTrans,
    pub(super) auth: Auth,
    pub(super) admission: Admission,
}

/// The running server. It stops when the signal it was given says so; [`RtspServer::stopped`]
/// waits for that.
#[derive(Debug)]
pub struct RtspServer {
    address: SocketAddr,
    identity: Option<Identity>,
    door: JoinHandle<()>,
}

impl RtspServer {
    /// Listens, and serves every camera of `catalog` from then on. Frames are fed on `runtime`.
    ///
    /// # Errors
    /// [`Error::Config`] where TLS is asked for and its files cannot be used,
    /// [`Error::AddressInUse`] where the address cannot be listened on, [`Error::MissingElement`]
    /// where GStreamer has no RTP, and [`Error::Internal`] where no thread can be had.
    #[expect(clippy::too_many_arguments, reason = "each is a different part of the house")]
    pub fn bind(
        config: &config::Rtsp,
        catalog: Arc<Catalog>,
        admission: Admission,
        auth: Auth,
        registry: Registry,
        metrics: Arc<Metrics>,
        teardowns: Teardowns,
        runtime: Handle,
        stopping: Stopping,
    ) -> Result<Self, Error> {
        require_elements()?;
        let identity = config
            .tls
            .as_ref()
            .map(|tls| Identity::load("rtsp", tls.into(), &[]))
            .transpose()
            .map_err(|flaw| Error::Config(format!("rtsp.tls: {flaw}")))?;
        let in_use = |reason| Error::AddressInUse {
            what: "RTSP",
            address: config.listen,
            reason,
            option: "--rtsp-listen",
        };
        let listener = TcpListener::bind(config.listen).map_err(in_use)?;
        listener.set_nonblocking(true).map_err(in_use)?;
        let address = listener.local_addr().map_err(in_use)?;
        let mut transports = lower_transports(&config.transports);
        if identity.is_some() {
            // Media beside the connection would not be encrypted.
            transports &= RTSPLowerTrans::TCP;
        }
        let hops = identity.clone().map(|identity| Hops {
            identity,
            metrics: Arc::clone(&metrics),
            runtime: runtime.clone(),
        });
        let shared =
            Shared { catalog, registry, metrics, teardowns, runtime, transports, auth, admission };
        let shared = Arc::new(shared);
        let pool = RTSPSessionPool::new();
        let server = Server::new(&shared, &pool)?;
        let door = Door {
            listener,
            server,
            pool,
            shared,
            hops,
            connections: Vec::new(),
            refusals: Vec::new(),
        };
        let door = std::thread::Builder::new()
            .name("rtsp-door".into())
            .spawn(move || door.keep(&stopping))
            .map_err(|error| Error::Internal(format!("no thread for RTSP: {error}")))?;
        Ok(Self { address, identity, door })
    }

    /// Where it listens; the port is the one the system gave where 0 was asked for.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it shows of itself, where RTSPS is served.
    pub const fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Waits, with a bound, until the server has stopped after its signal said so; whether it has.
    pub async fn stopped(self) -> bool {
        let deadline = tokio::time::Instant::now() + STOP_TIMEOUT;
        while !self.door.is_finished() {
            if tokio::time::Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        true
    }
}

fn require_elements() -> Result<(), Error> {
    const NEEDED: [(&str, &str); 4] = [
        ("appsrc", "gstreamer1.0-plugins-base"),
        ("rtph264pay", "gstreamer1.0-plugins-good"),
        ("rtpbin", "gstreamer1.0-plugins-good"),
        ("multiudpsink", "gstreamer1.0-plugins-good"),
    ];
    for (element, package) in NEEDED {
        if gst::ElementFactory::find(element).is_none() {
            return Err(Error::MissingElement { element: element.into(), package });
        }
    }
    Ok(())
}

fn lower_transports(transports: &[RtspTransport]) -> RTSPLowerTrans {
    transports.iter().fold(RTSPLowerTrans::empty(), |all, transport| {
        all | match transport {
            RtspTransport::Tcp => RTSPLowerTrans::TCP,
            RtspTransport::Udp => RTSPLowerTrans::UDP,
            RtspTransport::Multicast => RTSPLowerTrans::UDP_MCAST,
        }
    })
}

glib::wrapper! {
    /// gst-rtsp-server's server, with clients of our own.
    pub struct Server(ObjectSubclass<imp::Server>) @extends gst_rtsp_server::RTSPServer;
}

impl Server {
    fn new(shared: &Arc<Shared>, pool: &RTSPSessionPool) -> Result<Self, Error> {
        let server: Self = glib::Object::new();
        // A new object's cell is empty.
        let _ = server.imp().shared.set(Arc::clone(shared));
        server.set_auth(Some(&Warden::new(shared)));
        let threads = RTSPThreadPool::new();
        threads.set_max_threads(CLIENT_THREADS_MAX);
        server.set_thread_pool(Some(&threads));
        server.set_session_pool(Some(pool));
        // A body is allocated as soon as its length is read.
        server.set_content_length_limit(REQUEST_BYTES_MAX as u32);
        let mounts = RTSPMountPoints::new();
        let groups = multicast_groups(shared.transports)?;
        for (place, paths) in Place::all(&shared.catalog) {
            for path in paths {
                let factory = Factory::new(shared, &place.rendition);
                factory.set_address_pool(groups.as_ref());
                mounts.add_factory(&path, factory);
            }
        }
        server.set_mount_points(Some(&mounts));
        Ok(server)
    }

    /// Notes whose socket is handed over next. One thread does that, one socket at a time.
    pub(super) fn expect(&self, connection: Arc<Connection>) {
        *self.imp().expected.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
    }
}

fn multicast_groups(transports: RTSPLowerTrans) -> Result<Option<RTSPAddressPool>, Error> {
    if !transports.contains(RTSPLowerTrans::UDP_MCAST) {
        return Ok(None);
    }
    let groups = RTSPAddressPool::new();
    let ((first, last), (low, high)) = (MULTICAST_GROUPS, MULTICAST_PORTS);
    groups
        .add_range(first, last, low, high, MULTICAST_HOPS_MAX)
        .map_err(|error| Error::Internal(error.to_string()))?;
    Ok(Some(groups))
}

mod imp {
    use super::*;

    #[derive(Default)]
    pub struct Server {
        pub(super) shared: OnceLock<Arc<Shared>>,
        pub(super) expected: Mutex<Option<Arc<Connection>>>,
    }

    #[glib::object_subclass]
    impl ObjectSubclass for Server {
        const NAME: &'static str = "LenslineRtspServer";
        type Type = super::Server;
        type ParentType = gst_rtsp_server::RTSPServer;
    }

    impl ObjectImpl for Server {}

    impl RTSPServerImpl for Server {
        fn create_client(&self) -> Option<RTSPClient> {
            let expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner).take()?;
            let server = self.obj();
            let client = Client::new(self.shared.get()?, expected);
            client.set_session_pool(server.session_pool().as_ref());
            client.set_mount_points(server.mount_points().as_ref());
            client.set_thread_pool(server.thread_pool().as_ref());
            client.set_auth(server.auth().as_ref());
            Some(client.upcast())
        }
    }
}
