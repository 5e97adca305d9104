//! The control plane through real HTTP, with a WebRTC engine that only pretends.

mod api;
mod door;
mod gate;
mod health;
mod server;
mod snapshot;
mod tls;
mod whep;
mod ws;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::signalling::{Candidate, CandidateError, OpenError, Opened, Signalling, Viewer};
use super::{About, Http, serve};
use crate::admission::{Admission, Limits};
use crate::auth::Auth;
use crate::catalog::{Camera, Catalog, Control, ControlError, ControlRequest, Rendition};
use crate::clock::Timestamp;
use crate::config;
use crate::descriptors::Guest;
use crate::distributor::{self, Publisher};
use crate::egress::session::{Registry, SessionId, Transport};
use crate::egress::webrtc::servers::IceServer;
use crate::frame::Frame;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::tls::Identity;

const OFFER: &str = "v=0\r\na=ice-ufrag:abcd\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n";
const ANSWER: &str = "v=0\r\ns=the answer\r\n";
const OURS: &str = "candidate:1 1 UDP 2130706431 192.0.2.1 5000 typ host";
const LIMITS: Limits = Limits {
    webrtc_sessions_max: 3,
    rtsp_sessions_max: 3,
    sessions_per_address_max: 3,
    sessions_per_user_max: 3,
    joins_per_second_max: 100,
};

/// Takes every offer but those that say what is wrong with them.
struct Pretender {
    registry: Registry,
    heard: Arc<Mutex<Vec<Candidate>>>,
}

impl Signalling for Pretender {
    fn guest(&self) -> Guest {
        Guest::Http
    }

    fn open(&self, viewer: Viewer) -> BoxFuture<'static, Result<Opened, OpenError>> {
        let registry = self.registry.clone();
        Box::pin(async move {
            match viewer.offer.split(' ').next() {
                Some("bad") => return Err(OpenError::Malformed("no v= line".into())),
                Some("vp8") => return Err(OpenError::NoH264("only VP8".into())),
                Some("full") => return Err(OpenError::Full),
                Some("broken") => return Err(OpenError::Failed("no element".into())),
                Some("slow") => return Err(OpenError::Timeout),
                _ => {}
            }
            let registration = registry.register(
                Transport::Webrtc,
                viewer.rendition,
                viewer.address,
                viewer.permit.user(),
            );
            let session = Arc::clone(registration.session());
            let (sender, mut candidates) = mpsc::channel(4);
            if viewer.trickle {
                let candidate = OURS.to_owned();
                let _ =
                    sender.try_send(Candidate { candidate, mid: Some("0".into()), mline_index: 0 });
            }
            let (watched, permit) = (Arc::clone(&session), viewer.permit);
            tokio::spawn(async move {
                watched.ending().await;
                drop((registration, permit));
            });
            let candidates = stream::poll_fn(move |context| candidates.poll_recv(context)).boxed();
            Ok(Opened { session, answer: ANSWER.into(), candidates })
        })
    }

    fn add_candidate(&self, session: &SessionId, one: Candidate) -> Result<(), CandidateError> {
        if self.registry.get(session.as_str()).is_none() {
            return Err(CandidateError::Gone);
        }
        if one.candidate.contains("one-too-many") {
            return Err(CandidateError::TooMany);
        }
        if one.candidate.contains("nonsense") {
            return Err(CandidateError::Malformed("nonsense".into()));
        }
        self.heard.lock().unwrap().push(one);
        Ok(())
    }
}

/// A server on a loopback port, with a camera `sim` that runs and a camera `dead` that does not.
struct Site {
    address: SocketAddr,
    scheme: &'static str,
    registry: Registry,
    auth: Auth,
    metrics: Arc<Metrics>,
    heard: Arc<Mutex<Vec<Candidate>>>,
    sim: Arc<Camera>,
    publisher: Publisher<Frame>,
    controls: Arc<Mutex<Vec<Control>>>,
    shutdown: Shutdown,
    served: JoinHandle<Result<(), std::io::Error>>,
    client: reqwest::Client,
}

impl Site {
    async fn open() -> Self {
        Self::open_with(LIMITS).await
    }

    async fn open_with(limits: Limits) -> Self {
        Self::open_for(&config::Auth::default(), limits).await
    }

    /// A server for these users.
    async fn open_for(auth: &config::Auth, limits: Limits) -> Self {
        Self::open_as(auth, limits, None).await
    }

    async fn open_as(auth: &config::Auth, limits: Limits, tls: Option<Identity>) -> Self {
        gst::init().unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let registry = Registry::new(Arc::clone(&metrics));
        let (sim, publisher, controls) = camera("sim");
        let (dead, _, _) = camera("dead");
        for rendition in &sim.renditions {
            rendition.saw_frame(Timestamp::now().plus(Duration::from_secs(3600)));
        }
        let heard = Arc::default();
        let signalling = Pretender { registry: registry.clone(), heard: Arc::clone(&heard) };
        let auth = Auth::new(auth);
        let http = Http {
            catalog: Arc::new(Catalog::new(vec![Arc::clone(&sim), dead])),
            registry: registry.clone(),
            admission: Admission::new(limits),
            metrics: Arc::clone(&metrics),
            signalling: Arc::new(signalling),
            auth: auth.clone(),
            allowed_origins: vec!["https://friend.example".into()],
            allowed_hosts: Vec::new(),
            tls: tls.clone(),
            ice_servers: vec![turn()],
            workarounds: vec!["a workaround".into()],
            started: Timestamp::now(),
            about: About {
                rtsp: "127.0.0.1:8554".parse().unwrap(),
                webrtc_engine: "pretender",
                config_file: Some("/etc/lensline/config.toml".into()),
            },
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let served = tokio::spawn(serve(listener, http, shutdown.listen()));
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .tls_danger_accept_invalid_certs(true)
            .build()
            .unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        Self {
            address,
            scheme,
            registry,
            auth,
            metrics,
            heard,
            sim,
            publisher,
            controls,
            shutdown,
            served,
            client,
        }
    }

    fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.client.request(method, format!("{}://{}{path}", self.scheme, self.address))
    }

    async fn get(&self, path: &str) -> Response {
        self.request("GET", path).send().await.unwrap()
    }

    async fn offer(&self, path: &str, sdp: impl Into<reqwest::Body>) -> Response {
        let request = self.request("POST", path).header("content-type", "application/sdp");
        request.body(sdp).send().await.unwrap()
    }

    /// Waits, with a bound, until the registry holds this many sessions.
    async fn sessions(&self, expected: usize) {
        let wait = async {
            while self.registry.list().len() != expected {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), wait).await.expect("sessions come and go");
    }
}

fn turn() -> IceServer {
    IceServer {
        url: "turn:turn.example:3478?transport=udp".into(),
        username: Some("me".into()),
        credential: Some("pass\"word".into()),
    }
}

fn camera(id: &str) -> (Arc<Camera>, Publisher<Frame>, Arc<Mutex<Vec<Control>>>) {
    let limits = distributor::Limits {
        ring_frames: 256,
        subscribers_max: 64,
        lag_frames_max: 30,
        join_frames_max: 15,
    };
    let id: Arc<str> = id.into();
    let (publisher, hub) = distributor::channel(limits).unwrap();
    let (_, low) = distributor::channel(limits).unwrap();
    let main = Rendition::new(Arc::clone(&id), "main".into(), hub);
    let low = Rendition::new(Arc::clone(&id), "low".into(), low);
    let (camera, requests) =
        Camera::new(id, vec![main, low], "simulated".into(), Duration::from_secs(2));
    let controls = Arc::default();
    tokio::spawn(obey(requests, Arc::clone(&controls)));
    (camera, publisher, controls)
}

/// A camera's ear for changes: takes what is asked up to 8 Mbit/s.
async fn obey(mut requests: mpsc::Receiver<ControlRequest>, controls: Arc<Mutex<Vec<Control>>>) {
    while let Some(ControlRequest { control, answer }) = requests.recv().await {
        let too_much =
            matches!(control, Control::Bitrate { bitrate_bps, .. } if bitrate_bps > 8_000_000);
        let result = match too_much {
            true => Err(ControlError::Refused("at most 8000 kbit/s".into())),
            false => Ok(()),
        };
        controls.lock().unwrap().push(control);
        let _ = answer.send(result);
    }
}

/// Asserts that the answer is a problem as the contract has it; its JSON.
async fn problem(response: Response, status: u16, kind: &str) -> Value {
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let retry_after = response.headers().get("retry-after").cloned();
    let json: Value = response.json().await.unwrap();
    assert_eq!(json["type"], format!("urn:lensline:problem:{kind}"), "{json}");
    assert_eq!(json["status"], status, "{json}");
    for member in ["title", "detail", "remedy"] {
        assert!(json[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {json}");
    }
    if matches!(status, 409 | 429 | 503) {
        let seconds: u64 = retry_after.expect("Retry-After").to_str().unwrap().parse().unwrap();
        assert!(seconds >= 1);
        assert_eq!(json["retry_after_s"], seconds, "{json}");
    }
    json
}
