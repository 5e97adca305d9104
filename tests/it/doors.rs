//! Who comes in: users in a browser, and a configuration that changes under viewers.

use std::time::Duration;

use lensline::password;
use lensline_clients::{Chromium, Lensline, Look, RtspReceiver, WhepReceiver, until};
use rustix::process::Signal;

use crate::common::{
    SMALL, SOON, alone, assert_missed_nothing, beside_others, frames_come, skipped, start,
};

const LOOK: Look = Look::Packets { framerate: 30 };

/// `otto:secret`
const OTTO: &str = "Basic b3R0bzpzZWNyZXQ=";

fn user(name: &str, cameras: &str, role: &str) -> String {
    let hash = password::hash("secret").expect("a hash");
    format!(
        "[[auth.users]]\nname = \"{name}\"\npassword_hash = \"{hash}\"\nrole = \"{role}\"\n{cameras}\n"
    )
}

async fn reload(server: &Lensline, config: &str) -> String {
    let before = server.log().len();
    server.configure(config);
    server.signal(Signal::HUP);
    until("the end of the reload", SOON, async || {
        let said = server.log()[before..].to_owned();
        (said.contains("reloaded")).then_some(said)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reload_changes_limits_users_and_bitrate_and_no_viewer_misses_a_frame() {
    let _machine = alone().await;
    let anna = user("anna", "", "operator");
    let otto = user("otto", "cameras = [\"sim\"]", "operator");
    let mut server = start(&format!("{SMALL}{anna}{otto}")).await;
    server.authorize(OTTO);
    let whep = server.url("whep/sim");
    let address = server.rtsp[0].replace("rtsp://", "rtsp://otto:secret@");
    let viewer = WhepReceiver::join(&server.client, &whep, LOOK).await.unwrap();
    let recorder = RtspReceiver::start(&address, "tcp", LOOK);
    // Anna's viewer will have to go.
    server.authorize("Bearer anna:secret");
    let guest = WhepReceiver::join(&server.client, &whep, LOOK).await.unwrap();
    frames_come("the viewer", 30, || viewer.tally()).await;
    frames_come("the recorder", 30, || recorder.tally()).await;
    frames_come("the guest", 10, || guest.tally()).await;
    server.authorize(OTTO);
    let mut before = skipped(&server).await;

    let broken = reload(&server, "[limits]\nwebrtc_sessions_max = 0\n").await;
    assert!(broken.contains("not reloaded") && broken.contains("webrtc_sessions_max"), "{broken}");

    let config = SMALL.replace("bitrate_kbps = 800", "bitrate_kbps = 500");
    let status = server.api("api/v1/status").await;
    assert!(status["configuration"]["reloaded_unix_s"].is_null(), "{status}");
    let limits = "[limits]\nwebrtc_sessions_max = 1\n[rtsp]\ntransports = [\"tcp\"]\n";
    let said = reload(&server, &format!("{limits}{config}{otto}")).await;
    for part in ["limits", "auth", "camera[0].encoder.bitrate_kbps", "rtsp has changed"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("$argon2"), "{said}");
    let sessions = server.sessions_are(2, SOON).await;
    before.retain(|id, _| sessions.iter().any(|session| session["id"] == **id));
    let status = server.api("api/v1/status").await;
    assert!(status["configuration"]["reloaded_unix_s"].as_u64() > Some(1_000_000_000), "{status}");
    let camera = server.api("api/v1/cameras/sim").await;
    assert_eq!(camera["renditions"][0]["bitrate_bps"], 500_000.0, "{camera}");
    let refused = WhepReceiver::join(&server.client, &whep, LOOK).await.err();
    assert!(format!("{refused:?}").contains("503"), "{refused:?}");
    let frames = viewer.tally().frames;
    frames_come("the viewer", frames + 60, || viewer.tally()).await;
    let tallies = [("viewer", viewer.tally()), ("recorder", recorder.tally())];
    assert_missed_nothing(&server, &before, &tallies).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_with_a_password_shows_the_picture_and_one_without_permission_does_not() {
    let _machine = alone().await;
    let two = SMALL.replace("sim", "porch").replace("porchulated", "simulated");
    let users = user("otto", "cameras = [\"sim\"]", "viewer");
    let server = start(&format!("{SMALL}{two}{users}")).await;
    let browser = Chromium::start(false).await;
    let page = |query: &str| server.url(query).replace("http://", "http://otto:secret@");
    let samples = async || {
        let count = "return window.lensline ? window.lensline.samples().length : 0";
        browser.script(count).await.as_u64().unwrap_or(0)
    };
    browser.open(&page("?camera=sim&measure=1")).await;
    until("the picture moves", 2 * SOON, async || (samples().await > 10).then_some(())).await;
    browser.open(&page("?camera=porch&measure=1")).await;
    let text = "return document.body.innerText";
    until("the page says why it shows nothing", SOON, async || {
        let shown = browser.script(text).await.to_string();
        shown.contains("credentials are not for this camera").then_some(())
    })
    .await;
    assert_eq!(samples().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_another_site_can_neither_read_nor_change_nor_embed_anything() {
    let _machine = beside_others().await;
    let server = start(SMALL).await;
    let stranger = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let site = format!("http://{}/", stranger.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = stranger.accept().await.unwrap();
            let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\
                        Connection: close\r\n\r\n<p>hi\n";
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 4096]).await;
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, page.as_bytes()).await;
        }
    });
    let browser = Chromium::start(false).await;
    browser.open(&site).await;
    let base = &server.http;
    let script = format!(
        "window.seen = {{}};
         const note = (name, promise) => promise.then(
             answer => {{ window.seen[name] = String(answer); }},
             error => {{ window.seen[name] = 'refused'; }});
         note('read', fetch('{base}api/v1/status').then(r => r.text()));
         note('change', fetch('{base}api/v1/cameras/sim', {{ method: 'PATCH',
             headers: {{ 'Content-Type': 'application/json' }}, body: '{{\"restart\":true}}' }}));
         note('join', fetch('{base}whep/sim', {{ method: 'POST', mode: 'no-cors', body: 'v=0' }})
             .then(r => r.type));
         const load = (tag, name, url) => note(name, new Promise((resolve, reject) => {{
             const element = document.createElement(tag);
             element.onload = () => resolve('loaded');
             element.onerror = reject;
             element.src = url;
             document.body.append(element);
         }}));
         load('img', 'picture', '{base}snapshot/sim.jpg');
         load('script', 'script', '{base}viewer/viewer.js');
         note('socket', new Promise((resolve, reject) => {{
             const socket = new WebSocket('{base}ws/sim'.replace('http', 'ws'));
             socket.onopen = () => resolve('open');
             socket.onerror = reject;
         }}));"
    );
    browser.script(&script).await;
    let seen = until("an answer to everything", SOON, async || {
        let seen = browser.script("return window.seen").await;
        (seen.as_object().is_some_and(|seen| seen.len() == 6)).then_some(seen)
    })
    .await;
    println!("{seen}");
    for name in ["read", "change", "join", "picture", "script", "socket"] {
        assert_eq!(seen[name], "refused", "{seen}");
    }
    assert!(server.sessions().await.is_empty());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(server.metrics().await.sum("lensline_camera_restarts_total", &[]), 0.0);
}
