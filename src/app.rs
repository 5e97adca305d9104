//! The composition root: the only file that knows every stage.
//!
//! Order of the start: ports first, so that an address in use is told before a camera moves;
//! then the engine's warm-up and the cameras; `ready` when every camera has delivered or its
//! time to do so is over. Order of the stop: viewers are told, then the doors close, then the
//! cameras stop; all of it within [`STOP_TIMEOUT`].

mod reload;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::admission::{self, Admission};
use crate::auth::Auth;
use crate::camera;
use crate::catalog::Catalog;
use crate::clock::Timestamp;
use crate::config::{self, Config, Loaded};
use crate::descriptors::{self, Guest};
use crate::egress::rtsp::RtspServer;
use crate::egress::session::{End, Registry};
use crate::egress::webrtc::{self, WebrtcServer};
use crate::error::Error;
use crate::guard::Teardowns;
use crate::http::{self, About, Http};
use crate::log;
use crate::metrics::Metrics;
use crate::shutdown::{Shutdown, Stopping};
use crate::tls::{self, Identity};
use crate::workarounds::{self, Version};

pub use reload::Load;
use reload::Reload;

/// How long `ready` waits for the first frame of every camera.
const FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(5);

/// The contract's bound on a clean stop is 5 s; what is left is for the process to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);

/// How often stuck teardowns are looked for.
const TEARDOWN_CHECK: Duration = Duration::from_secs(1);

/// With so many teardowns stuck, each holding threads and descriptors that cannot be had back,
/// a restart is the better service.
const TEARDOWNS_STUCK_MAX: usize = 16;

/// Everything that runs.
struct App {
    catalog: Arc<Catalog>,
    registry: Registry,
    teardowns: Teardowns,
    shutdown: Shutdown,
    rtsp: RtspServer,
    /// HTTP and the cameras; none ends before the stop.
    tasks: JoinSet<Result<(), Error>>,
    reload: Reload,
    addresses: Addresses,
}

struct Addresses {
    /// `http://` or `https://`, and the address.
    http: String,
    /// `rtsp://` or `rtsps://`, and the address.
    rtsp: String,
}

/// Runs everything that the configuration asks for until SIGINT or SIGTERM. On SIGHUP, `load` gives
/// it anew.
///
/// # Errors
/// What kept it from starting, or ended it otherwise.
pub async fn run(loaded: Loaded, load: Load) -> Result<(), Error> {
    let mut signals = Signals::new()?;
    let mut app = App::start(loaded, load).await?;
    tokio::select! {
        () = app.frames_flow() => app.say_ready()?,
        () = signals.stop() => return app.stop(Ok(())).await,
    }
    let outcome = app.watch(&mut signals).await;
    app.stop(outcome).await
}

impl App {
    async fn start(loaded: Loaded, load: Load) -> Result<Self, Error> {
        let Loaded { config, file, .. } = loaded;
        let started = Timestamp::now();
        have_descriptors(&config);
        let metrics =
            Arc::new(Metrics::new().map_err(|error| Error::Internal(format!("metrics: {error}")))?);
        let shutdown = Shutdown::new();
        let registry = Registry::new(Arc::clone(&metrics));
        let teardowns = Teardowns::new(metrics.teardowns_stuck.clone());
        let auth = Auth::new(&config.auth);
        let admission = Admission::new(limits(&config.limits));
        admission.set_session_limits(session_limits(&config.limits));
        let listener = listen(config.server.listen).await?;

        let mut tasks = JoinSet::new();
        let catalog = open_cameras(&config, &metrics, &teardowns, &shutdown, &mut tasks)?;
        let rtsp = RtspServer::bind(
            &config.rtsp,
            Arc::clone(&catalog),
            admission.clone(),
            auth.clone(),
            registry.clone(),
            Arc::clone(&metrics),
            teardowns.clone(),
            tokio::runtime::Handle::current(),
            shutdown.listen(),
        )?;
        let tls = http_identity(&config.server)?;
        let engine = WebrtcServer::new(
            config.webrtc.clone(),
            Arc::clone(&metrics),
            registry.clone(),
            teardowns.clone(),
            shutdown.listen(),
        );
        engine.warm_up().await?;
        let http = Http {
            catalog: Arc::clone(&catalog),
            registry: registry.clone(),
            admission: admission.clone(),
            metrics: Arc::clone(&metrics),
            ice_servers: webrtc::servers::list(&config.webrtc),
            signalling: Arc::new(engine),
            auth: auth.clone(),
            allowed_origins: config.server.allowed_origins.clone(),
            allowed_hosts: config.server.allowed_hosts.clone(),
            tls: tls.clone(),
            workarounds: workarounds(),
            started,
            about: about(&config, file, &rtsp),
        };
        let addresses = Addresses::new(local_address(&listener)?, tls.is_some(), &rtsp);
        let identities: Vec<_> = tls.into_iter().chain(rtsp.identity().cloned()).collect();
        tasks.spawn(serve(listener, http, shutdown.listen()));
        tasks.spawn(watch_certificates(identities.clone(), shutdown.listen()));
        let reload = Reload {
            load,
            places: config.limits.webrtc_sessions_max + config.limits.rtsp_sessions_max,
            running: config,
            admission,
            auth,
            identities,
            metrics,
            catalog: Arc::clone(&catalog),
            registry: registry.clone(),
        };
        Ok(Self { reload, catalog, registry, teardowns, shutdown, rtsp, tasks, addresses })
    }

    /// Waits until every rendition has shown what it is like, at most [`FIRST_FRAME_TIMEOUT`].
    async fn frames_flow(&self) {
        let deadline = Instant::now() + FIRST_FRAME_TIMEOUT;
        for camera in self.catalog.cameras() {
            for rendition in &camera.renditions {
                if timeout_at(deadline, rendition.format_known()).await.is_err() {
                    tracing::warn!(
                        camera = %camera.id, rendition = %rendition.name,
                        "no frame yet; viewers are let in when there is one"
                    );
                }
            }
        }
    }

    /// The one line on stdout that says where everything is.
    fn say_ready(&self) -> Result<(), Error> {
        let Addresses { http, rtsp } = &self.addresses;
        let mut line = format!("ready {http}/");
        for camera in self.catalog.cameras() {
            line.push_str(&format!(" {rtsp}/{}", camera.id));
        }
        tracing::info!("{line}");
        writeln!(std::io::stdout(), "{line}")
            .map_err(|error| Error::Internal(format!("cannot write to stdout: {error}")))
    }

    /// Waits for the end: a signal, or something that cannot go on.
    async fn watch(&mut self, signals: &mut Signals) -> Result<(), Error> {
        let mut hangup = on(SignalKind::hangup())?;
        let mut check = tokio::time::interval(TEARDOWN_CHECK);
        loop {
            tokio::select! {
                () = signals.stop() => return Ok(()),
                _ = hangup.recv() => self.reload.reload().await,
                Some(ended) = self.tasks.join_next() => return Err(cut_short(ended)),
                _ = check.tick() => {
                    log::tell_suppressed();
                    self.tell_expiry();
                    let stuck = self.teardowns.check();
                    if stuck > TEARDOWNS_STUCK_MAX {
                        return Err(Error::Internal(format!("{stuck} teardowns are stuck")));
                    }
                }
            }
        }
    }

    fn tell_expiry(&self) {
        for identity in &self.reload.identities {
            let expires =
                self.reload.metrics.tls.certificate_expires.with_label_values(&[identity.door()]);
            expires.set(i64::try_from(identity.not_after().as_secs()).unwrap_or(i64::MAX));
        }
    }

    /// Stops everything in order, and gives `outcome` back, or that something did not stop.
    async fn stop(mut self, outcome: Result<(), Error>) -> Result<(), Error> {
        tracing::info!(sessions = self.registry.list().len(), "stopping");
        let deadline = Instant::now() + STOP_TIMEOUT;
        self.registry.end_all(End::Shutdown);
        self.shutdown.stop();
        let rtsp_stopped = self.rtsp.stopped().await;
        let tasks_stopped =
            timeout_at(deadline, async { while self.tasks.join_next().await.is_some() {} })
                .await
                .is_ok();
        let left = deadline.saturating_duration_since(Instant::now());
        let torn_down = self.teardowns.finished(left).await;
        if rtsp_stopped && tasks_stopped && torn_down {
            tracing::info!("stopped");
        } else {
            tracing::error!(
                rtsp_stopped,
                tasks_stopped,
                torn_down,
                "not everything stopped in time"
            );
        }
        outcome
    }
}

impl Addresses {
    fn new(http: SocketAddr, tls: bool, rtsp: &RtspServer) -> Self {
        Self {
            http: url("http", tls, http),
            rtsp: url("rtsp", rtsp.identity().is_some(), rtsp.address()),
        }
    }
}

fn about(config: &Config, config_file: Option<String>, rtsp: &RtspServer) -> About {
    let webrtc_engine = if config.webrtc.uses_webrtcbin() { "webrtcbin" } else { "str0m" };
    About { rtsp: rtsp.address(), webrtc_engine, config_file }
}

/// Every camera of `config`, each run by a task of its own.
fn open_cameras(
    config: &Config,
    metrics: &Arc<Metrics>,
    teardowns: &Teardowns,
    shutdown: &Shutdown,
    tasks: &mut JoinSet<Result<(), Error>>,
) -> Result<Arc<Catalog>, Error> {
    let mut cameras = Vec::new();
    for camera in &config.camera {
        let (camera, runner) = camera::open(
            camera,
            &config.limits,
            Arc::clone(metrics),
            teardowns.clone(),
            shutdown.listen(),
        )?;
        cameras.push(camera);
        tasks.spawn(async move {
            runner.run().await;
            Ok(())
        });
    }
    Ok(Arc::new(Catalog::new(cameras)))
}

fn workarounds() -> Vec<String> {
    workarounds::active(Version::running())
        .map(|workaround| format!("{} ({}): {}", workaround.id, workaround.bug, workaround.what))
        .collect()
}

/// The certificate of the HTTP side, which speaks no other HTTP than 1.1.
fn http_identity(config: &config::Server) -> Result<Option<Identity>, Error> {
    let tls = config.tls.as_ref();
    tls.map(|tls| Identity::load("http", tls.into(), &[b"http/1.1"]))
        .transpose()
        .map_err(|flaw| Error::Config(format!("server.tls: {flaw}")))
}

fn url(scheme: &str, tls: bool, address: SocketAddr) -> String {
    format!("{scheme}{}://{address}", if tls { "s" } else { "" })
}

/// Has them read again as their files change. Where there is none, that is nothing to do.
async fn watch_certificates(identities: Vec<Identity>, stopping: Stopping) -> Result<(), Error> {
    tls::watch(identities, stopping).await;
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|reason| Error::AddressInUse {
        what: "HTTP",
        address,
        reason,
        option: "--listen",
    })
}

fn local_address(listener: &TcpListener) -> Result<SocketAddr, Error> {
    listener.local_addr().map_err(|error| Error::Internal(format!("HTTP address: {error}")))
}

async fn serve(listener: TcpListener, http: Http, stopping: Stopping) -> Result<(), Error> {
    http::serve(listener, http, stopping)
        .await
        .map_err(|error| Error::Internal(format!("HTTP: {error}")))
}

fn limits(limits: &config::Limits) -> admission::Limits {
    admission::Limits {
        webrtc_sessions_max: limits.webrtc_sessions_max,
        rtsp_sessions_max: limits.rtsp_sessions_max,
        sessions_per_address_max: limits.sessions_per_address_max,
        sessions_per_user_max: limits.sessions_per_user_max,
        joins_per_second_max: limits.joins_per_second_max,
    }
}

/// Takes all file descriptors that there may be, and says where they may be too few.
fn have_descriptors(config: &Config) {
    descriptors::keep(config.limits.descriptors_reserve);
    match descriptors::raise_limit() {
        Ok((before, now)) => tracing::info!(before, now, "limit of open files"),
        Err(error) => tracing::warn!(%error, "the limit of open files stays as it was"),
    }
    let webrtc = WebrtcServer::guest_of(&config.webrtc);
    let needs = |sessions: usize, guest: Guest| sessions as u64 * guest.needs();
    let webrtc_needs = needs(config.limits.webrtc_sessions_max, webrtc);
    let rtsp_needs = needs(config.limits.rtsp_sessions_max, Guest::Rtsp);
    let http_needs = http::CONNECTIONS_MAX as u64;
    let reserve = config.limits.descriptors_reserve;
    let limit = descriptors::limit();
    if webrtc_needs + rtsp_needs + http_needs + reserve > limit {
        tracing::warn!(
            limit,
            webrtc_needs,
            rtsp_needs,
            http_needs,
            reserve,
            "limits.* let in more than there are file descriptors for; newcomers are turned away \
             before they run out; raise the hard limit (LimitNOFILE in systemd) or lower limits.*"
        );
    }
}

fn session_limits(limits: &config::Limits) -> admission::SessionLimits {
    admission::SessionLimits {
        candidates_max: limits.candidates_per_session_max,
        messages_per_second_max: limits.messages_per_second_max,
    }
}

/// Why a task that should run until the stop ended before it.
fn cut_short(ended: Result<Result<(), Error>, tokio::task::JoinError>) -> Error {
    match ended {
        Ok(Ok(())) => Error::Internal("a part of the server ended by itself".into()),
        Ok(Err(error)) => error,
        Err(panic) => Error::Internal(format!("a part of the server failed: {panic}")),
    }
}

/// The signals that end the program.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
        })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn on(kind: SignalKind) -> Result<Signal, Error> {
    signal(kind).map_err(|error| Error::Internal(format!("signals: {error}")))
}
