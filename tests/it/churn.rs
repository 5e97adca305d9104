//! Joins and leaves at random stages, polite and vanishing: threads, descriptors and guards come
//! back to where they were. `LENSLINE_CHURN_JOINS=300` runs the long form.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lensline_clients::{
    Exposition, Lensline, Look, Recorder, RecorderTransport, RtspReceiver, Usage, WhepOffer,
    WhepReceiver, load_average, slope,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::common::{Dice, SMALL, SOON, alone, frames_come, start};

const LOOK: Look = Look::Packets { framerate: 30 };

/// Joins where the environment does not say otherwise.
const JOINS: usize = 40;

/// Joins before the baseline is taken: pools are filled, plugins are loaded.
const WARM_UP: usize = 12;

/// How long the server may take to come to rest: its timeouts here are 2 s, those of RTSP's
/// session pool and of idle threads in tokio and GLib are longer.
const REST_TIMEOUT: Duration = Duration::from_secs(90);

const CONFIG: &str = "[webrtc]\nnegotiation_timeout_ms = 2000\nsilence_timeout_ms = 2000\n\
    [limits]\njoins_per_second_max = 200\n";

/// What must come back.
#[derive(Clone, Debug)]
struct Held {
    usage: Usage,
    guards: BTreeMap<String, f64>,
    sessions: f64,
}

impl Held {
    async fn by(server: &Lensline) -> Self {
        let metrics: Exposition = server.metrics().await;
        Self {
            usage: server.usage(),
            guards: metrics.by("lensline_guards_live", "kind"),
            sessions: metrics.sum("lensline_sessions", &[]),
        }
    }

    /// The least that is held within `bound`, ended early when nothing is above `goal`.
    async fn at_rest(server: &Lensline, goal: Option<&Self>, bound: Duration) -> Self {
        let end = Instant::now() + bound;
        let mut least = Self::by(server).await;
        while Instant::now() < end && !goal.is_some_and(|goal| least.within(goal)) {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let now = Self::by(server).await;
            if now.sessions <= least.sessions && now.usage.threads <= least.usage.threads {
                least = now;
            }
        }
        least
    }

    /// Whether no more is held than at `baseline`. Two threads of slack: pools keep a thread or
    /// two for a while, whoever used them.
    fn within(&self, baseline: &Self) -> bool {
        self.sessions == 0.0
            && self
                .guards
                .iter()
                .all(|(kind, live)| *live <= *baseline.guards.get(kind).unwrap_or(&0.0))
            && self.usage.threads <= baseline.usage.threads + 2
            && self.usage.open_fds <= baseline.usage.open_fds + 2
    }
}

/// One join and leave.
async fn come_and_go(server: &Lensline, offer: &str, dice: &mut Dice) -> &'static str {
    let whep = server.url("whep/sim");
    let rtsp = &server.rtsp[0];
    match dice.below(9) {
        0 => {
            hang_up_before_the_answer(server, offer).await;
            "WHEP, gone before the answer"
        }
        1 => {
            drop(post(server, offer).await);
            "WHEP, gone after the answer"
        }
        2 => {
            let location = post(server, offer).await;
            assert_eq!(server.client.delete(location).send().await.unwrap().status(), 200);
            "WHEP, DELETE before ICE"
        }
        3 => {
            let viewer = WhepReceiver::join(&server.client, &whep, LOOK).await.unwrap();
            tokio::time::sleep(Duration::from_millis(dice.below(120))).await;
            drop(viewer);
            "WHEP, vanished in ICE or DTLS"
        }
        4 => {
            let viewer = WhepReceiver::join(&server.client, &whep, LOOK).await.unwrap();
            tokio::time::sleep(Duration::from_millis(dice.below(120))).await;
            viewer.leave(&server.client).await.unwrap();
            "WHEP, DELETE in ICE or DTLS"
        }
        stage @ (5 | 6) => {
            let viewer = WhepReceiver::join(&server.client, &whep, LOOK).await.unwrap();
            frames_come("WHEP", 5, || viewer.tally()).await;
            if stage == 5 {
                return "WHEP, vanished while streaming";
            }
            viewer.leave(&server.client).await.unwrap();
            "WHEP, DELETE while streaming"
        }
        7 => {
            let mut viewer = Recorder::join(rtsp, RecorderTransport::Tcp, 30).await.unwrap();
            viewer.take(1 + dice.below(10), SOON).await.unwrap();
            "RTSP, connection closed while streaming"
        }
        _ => {
            let viewer = RtspReceiver::start(rtsp, "tcp", LOOK);
            frames_come("RTSP", 1 + dice.below(10), || viewer.tally()).await;
            "RTSP, TEARDOWN"
        }
    }
}

async fn post(server: &Lensline, offer: &str) -> String {
    let request = server.client.post(server.url("whep/sim"));
    let request = request.header("content-type", "application/sdp").body(offer.to_owned());
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 201);
    let location = answer.headers()["location"].to_str().unwrap();
    answer.url().join(location).unwrap().to_string()
}

async fn hang_up_before_the_answer(server: &Lensline, offer: &str) {
    let host = server.http.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(host).await.unwrap();
    let length = offer.len();
    let request = format!(
        "POST /whep/sim HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/sdp\r\n\
         Content-Length: {length}\r\n\r\n{offer}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_and_goes_at_any_stage_leaves_nothing_behind() {
    let _machine = alone().await;
    let given = std::env::var("LENSLINE_CHURN_JOINS").ok().and_then(|joins| joins.parse().ok());
    let joins: usize = given.unwrap_or(JOINS);
    let server = start(&format!("{CONFIG}{SMALL}")).await;
    let mut dice = Dice::thrown();
    let offer = WhepOffer::new(LOOK).await.sdp.clone();
    for _ in 0..WARM_UP {
        come_and_go(&server, &offer, &mut dice).await;
    }
    let baseline = Held::at_rest(&server, None, Duration::from_secs(25)).await;
    assert_eq!(baseline.sessions, 0.0, "{baseline:?}\n{}", server.log());
    println!("baseline {baseline:?}");
    let mut resident = Vec::new();
    let mut kinds = BTreeMap::new();
    for join in 0..joins {
        *kinds.entry(come_and_go(&server, &offer, &mut dice).await).or_insert(0) += 1;
        resident.push((join as f64, server.usage().resident_bytes as f64));
    }
    let rest = Held::at_rest(&server, Some(&baseline), REST_TIMEOUT).await;
    let growth = rest.usage.resident_bytes as f64 - baseline.usage.resident_bytes as f64;
    println!("after {joins} joins {rest:?}\n{kinds:#?}");
    // The allocator's pools grow to the most that was ever held at once, ever more slowly: the
    // second half says more of a leak than the first.
    let half = resident.len() / 2;
    println!(
        "RSS slope a session: {:.1} KB over the run, {:.1} over its second half, {:.1} from rest \
         to rest; load average {}",
        slope(&resident) / 1024.0,
        slope(&resident[half..]) / 1024.0,
        growth / joins as f64 / 1024.0,
        load_average()
    );
    let metrics = server.metrics().await;
    println!("ends: {:?}", metrics.by("lensline_sessions_total", "end"));
    let log = server.log();
    log.lines().filter(|line| !line.contains("INFO")).for_each(|line| println!("{line}"));
    assert_eq!(metrics.sum("lensline_teardowns_stuck_total", &[]), 0.0);
    assert!(rest.within(&baseline), "{rest:?} of {baseline:?}\n{}", server.log());
    assert_eq!(server.stop().await.code, Some(0));
}
