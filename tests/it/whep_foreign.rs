//! WHEP clients with no line of ours: aiortc with a Bearer token, and a page of another origin that
//! was written from the draft alone.

use std::time::Duration;

use lensline::password;
use lensline_clients::{Chromium, Lensline, Tally, aiortc, until};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::common::{SMALL, SOON, alone, assert_complete, start};
use crate::whep_clients::note;

const PLAYER: &str = include_str!("whep_foreign/player.html");

/// Otto, who may watch `sim`, and Anna, who may ask for everything.
fn users() -> String {
    let hash = password::hash("sesame").expect("a hash");
    format!(
        "[[auth.users]]\nname = \"otto\"\npassword_hash = \"{hash}\"\nrole = \"viewer\"\n\
         cameras = [\"sim\"]\n\
         [[auth.users]]\nname = \"anna\"\npassword_hash = \"{hash}\"\nrole = \"operator\"\n"
    )
}

async fn left(server: &Lensline) -> f64 {
    let ends = server.metrics().await.by("lensline_sessions_total", "end");
    ends.get("left").copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aiortc_with_a_bearer_token_watches_with_and_without_trickle() {
    let _machine = alone().await;
    let mut server = start(&format!("{SMALL}{}", users())).await;
    server.authorize("Bearer anna:sesame");
    let whep = server.url("whep/sim");
    let mut refused = aiortc(&whep, &[]);
    let failed = refused.next(SOON).await.expect("aiortc says that it failed");
    assert_eq!((&failed["event"], &failed["status"]), (&"failed".into(), &401.into()), "{failed}");
    for trickle in [false, true] {
        let options = ["--seconds", "4", "--bearer", "otto:sesame", "--trickle"];
        let mut viewer = aiortc(&whep, &options[..4 + usize::from(trickle)]);
        let mut tally = Tally::default();
        let mut patched = None;
        let done = loop {
            let line = viewer.next(SOON).await.expect("aiortc ends with `done`");
            match line["event"].as_str() {
                Some("frame") => note(&mut tally, &line),
                Some("patched") => patched = line["status"].as_u64(),
                Some("done") => break line,
                Some("failed") => panic!("{line}\n{}", server.log()),
                _ => {}
            }
        };
        println!("trickle {trickle}: {} frames", tally.frames);
        assert_eq!(patched, trickle.then_some(204));
        assert!(tally.frames >= 45, "{tally:?}");
        assert_complete(&server, &tally).await;
        assert_eq!(done["delete_status"], 200, "{done}");
    }
    server.sessions_are(0, SOON).await;
    assert_eq!(left(&server).await, 2.0, "{}", server.log());
}

/// Serves the player under whatever path is asked for; gives its origin.
async fn serve_player() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n",
                PLAYER.len()
            );
            // A browser that does not wait for the page is its own business.
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all((head + PLAYER).as_bytes()).await;
        }
    });
    origin
}

async fn seen(browser: &Chromium) -> Value {
    browser.script("return window.seen || {}").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_player_of_another_origin_shows_the_camera_if_it_is_listed_and_not_if_it_is_not() {
    let _machine = alone().await;
    let (listed, stranger) = (serve_player().await, serve_player().await);
    let mut server = start(&format!(
        "[server]\nallowed_origins = [\"{listed}\"]\n[webrtc]\nturn_servers = [{{ url = \
         \"turn:127.0.0.1:9?transport=udp\", username = 'al\"ice', credential = 'pa\\ss' }}]\n\
         {SMALL}{}",
        users(),
    ))
    .await;
    server.authorize("Bearer anna:sesame");
    let query = format!("?endpoint={}&token=otto:sesame", server.url("whep/sim"));
    let browser = Chromium::start(false).await;

    browser.open(&format!("{listed}/{query}")).await;
    let frames = async || {
        let count =
            "return document.getElementById('video').getVideoPlaybackQuality().totalVideoFrames";
        browser.script(count).await.as_u64().unwrap_or(0)
    };
    until("the picture moves", 2 * SOON, async || {
        let seen = seen(&browser).await;
        assert!(seen["error"].is_null(), "{seen}\n{}", server.log());
        (frames().await > 30).then_some(())
    })
    .await;
    let before = (frames().await, browser.script("return video.currentTime").await.as_f64());
    until("it goes on to move", SOON, async || (frames().await > before.0 + 60).then_some(()))
        .await;
    let after = browser.script("return video.currentTime").await.as_f64();
    assert!(after > before.1, "{before:?} {after:?}");
    let noted = seen(&browser).await;
    println!("{noted}");
    assert_eq!(noted["status"], 201, "{noted}");
    assert_eq!(noted["state"], "connected", "{noted}");
    let server_told = (&noted["iceServers"][0]["username"], &noted["iceServers"][0]["credential"]);
    assert_eq!(server_told, (&"al\"ice".into(), &"pa\\ss".into()), "{noted}");
    let patches = noted["patches"].as_array().unwrap();
    assert!(!patches.is_empty() && patches.iter().all(|status| *status == 204), "{noted}");
    let session = server.sessions_are(1, SOON).await;
    assert_eq!(session[0]["user"], "otto", "{session:?}");

    browser.open(&format!("{stranger}/{query}")).await;
    server.sessions_are(0, SOON).await;
    assert_eq!(left(&server).await, 1.0, "it says goodbye\n{}", server.log());
    let refused = until("the stranger is refused", SOON, async || {
        Some(seen(&browser).await).filter(|seen| seen["error"].is_string())
    })
    .await;
    println!("{refused}");
    assert!(refused["status"].is_null(), "it reads no answer: {refused}");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(server.sessions().await.is_empty());
    assert!(frames().await == 0);
}
