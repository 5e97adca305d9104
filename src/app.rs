//! The composition root: the only file that knows every stage.
//!
//! Order of the start: ports first, so that an address in use is told before a camera moves;
//! then the engine's warm-up and the cameras; `ready` when every camera has delivered or its
//! time to do so is over. Order of the stop: viewers are told, then the doors close, then the
//! cameras stop; all of it within [`STOP_TIMEOUT`].

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::admission::{self, Admission};
use crate::camera;
use crate::catalog::Catalog;
use crate::clock::Timestamp;
use crate::config::{self, Config};
use crate::descriptors::{self, Guest};
use crate::egress::rtsp::RtspServer;
use crate::egress::session::{End, Registry};
use crate::egress::webrtc::{self, WebrtcServer};
use crate::error::Error;
use crate::guard::Teardowns;
use crate::http::{self, Http};
use crate::metrics::Metrics;
use crate::shutdown::{Shutdown, Stopping};
use crate::workarounds::{self, Version};

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
    addresses: Addresses,
}

struct Addresses {
    http: SocketAddr,
    rtsp: SocketAddr,
}

/// Runs everything that `config` asks for until SIGINT or SIGTERM.
///
/// # Errors
/// What kept it from starting, or ended it otherwise.
pub async fn run(config: Config) -> Result<(), Error> {
    let mut signals = Signals::new()?;
    let mut app = App::start(&config).await?;
    tokio::select! {
        () = app.frames_flow() => app.say_ready()?,
        () = signals.stop() => return app.stop(Ok(())).await,
    }
    let outcome = app.watch(&mut signals).await;
    app.stop(outcome).await
}

impl App {
    async fn start(config: &Config) -> Result<Self, Error> {
        let started = Timestamp::now();
        have_descriptors(config);
        let metrics =
            Arc::new(Metrics::new().map_err(|error| Error::Internal(format!("metrics: {error}")))?);
        let shutdown = Shutdown::new();
        let registry = Registry::new(Arc::clone(&metrics));
        let teardowns = Teardowns::new(metrics.teardowns_stuck.clone());
        let admission = Admission::new(limits(&config.limits));
        admission.set_session_limits(session_limits(&config.limits));
        let listener = listen(config.server.listen).await?;

        let mut tasks = JoinSet::new();
        let mut cameras = Vec::new();
        for camera in &config.camera {
            let (camera, runner) = camera::open(
                camera,
                &config.limits,
                Arc::clone(&metrics),
                teardowns.clone(),
                shutdown.listen(),
            )?;
            cameras.push(camera);
            tasks.spawn(async move {
                runner.run().await;
                Ok(())
            });
        }
        let catalog = Arc::new(Catalog::new(cameras));

        let rtsp = RtspServer::bind(
            &config.rtsp,
            Arc::clone(&catalog),
            admission.clone(),
            registry.clone(),
            Arc::clone(&metrics),
            teardowns.clone(),
            tokio::runtime::Handle::current(),
            shutdown.listen(),
        )?;
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
            admission,
            metrics,
            ice_servers: webrtc::servers::list(&config.webrtc),
            signalling: Arc::new(engine),
            allowed_origins: config.server.allowed_origins.clone(),
            workarounds: workarounds(),
            started,
        };
        let addresses = Addresses { http: local_address(&listener)?, rtsp: rtsp.address() };
        tasks.spawn(serve(listener, http, shutdown.listen()));
        Ok(Self { catalog, registry, teardowns, shutdown, rtsp, tasks, addresses })
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
        let mut line = format!("ready http://{http}/");
        for camera in self.catalog.cameras() {
            line.push_str(&format!(" rtsp://{rtsp}/{}", camera.id));
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
                _ = hangup.recv() => {
                    tracing::warn!("SIGHUP: this version reloads nothing; restart to apply a change");
                }
                Some(ended) = self.tasks.join_next() => return Err(cut_short(ended)),
                _ = check.tick() => {
                    let stuck = self.teardowns.check();
                    if stuck > TEARDOWNS_STUCK_MAX {
                        return Err(Error::Internal(format!("{stuck} teardowns are stuck")));
                    }
                }
            }
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

fn workarounds() -> Vec<String> {
    workarounds::active(Version::running())
        .map(|workaround| format!("{} ({}): {}", workaround.id, workaround.bug, workaround.what))
        .collect()
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
