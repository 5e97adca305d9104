//! HTTPS: the same inside TLS, and nothing outside it.

use std::time::Instant;

use lensline_clients::Credentials;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::config::Auth;
use crate::tls::Files;

/// How long what comes at once may take on a busy machine.
const SOON: Duration = Duration::from_secs(30);

fn identity(credentials: &Credentials) -> Identity {
    let (certificate, key) = (credentials.certificate.clone(), credentials.key.clone());
    Identity::load("http", Files { certificate, key }, &[b"http/1.1"]).unwrap()
}

async fn secure() -> Site {
    Site::open_as(&Auth::default(), LIMITS, Some(identity(&Credentials::new()))).await
}

/// All that comes until the connection is closed.
async fn rest(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut text)).await;
    // A reset ends it too.
    let _ = read.expect("the connection is closed");
    String::from_utf8_lossy(&text).into_owned()
}

fn handshakes(site: &Site, outcome: &str) -> u64 {
    site.metrics.tls.handshakes.with_label_values(&["http", outcome]).get()
}

#[tokio::test]
async fn over_tls_everything_is_there_and_browsers_are_told_to_stay_with_it() {
    let site = secure().await;
    let response = site.get("/api/v1/status").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.version(), reqwest::Version::HTTP_11);
    assert_eq!(response.headers()["strict-transport-security"], "max-age=31536000");
    let created = site.offer("/whep/sim", OFFER).await;
    assert_eq!(created.status(), 201);
    assert!(created.headers()["location"].to_str().unwrap().starts_with("/whep/sim/"));
    assert!(handshakes(&site, "done") >= 1);
    let plain = Site::open().await;
    assert!(!plain.get("/").await.headers().contains_key("strict-transport-security"));
}

#[tokio::test]
async fn who_does_not_speak_tls_is_told_to() {
    let site = secure().await;
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let answer = rest(stream).await;
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{answer}");
    assert!(body.contains("https://"), "{answer}");
    assert_eq!(handshakes(&site, "plain"), 1);
}

#[tokio::test]
async fn a_page_that_came_unencrypted_is_not_ours() {
    let site = secure().await;
    let from = async |origin: String| {
        site.request("GET", "/api/v1/status").header("origin", origin).send().await.unwrap()
    };
    assert_eq!(from(format!("https://{}", site.address)).await.status(), 200);
    assert_eq!(from("https://friend.example".into()).await.status(), 200);
    problem(from(format!("http://{}", site.address)).await, 403, "foreign-origin").await;
    let response = site.request("GET", "/").header("host", "evil.example").send().await.unwrap();
    let said = problem(response, 403, "wrong-host").await;
    assert!(said["remedy"].as_str().unwrap().contains("https://localhost"), "{said}");
}

#[tokio::test]
async fn garbage_and_half_handshakes_keep_nobody_out_and_end_with_a_stop() {
    let site = secure().await;
    let mut held = Vec::new();
    for said in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"] {
        for _ in 0..20 {
            let mut stream = TcpStream::connect(site.address).await.unwrap();
            stream.write_all(said).await.unwrap();
            held.push(stream);
        }
    }
    for garbage in [&b"\x16\x03\x01\xff\xff"[..], b"\x16garbage, and more of it", b"\0\0\0\0"] {
        let mut stream = TcpStream::connect(site.address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        rest(stream).await;
    }
    assert_eq!(site.get("/healthz").await.status(), 200);
    let began = Instant::now();
    site.shutdown.stop();
    let served = tokio::time::timeout(SOON, site.served).await;
    served.expect("stopped in time").unwrap().unwrap();
    assert!(began.elapsed() < crate::tls::HANDSHAKE_TIMEOUT, "{:?}", began.elapsed());
}

#[tokio::test]
async fn newcomers_see_a_new_certificate_and_who_is_in_stays() {
    let credentials = Credentials::new();
    let identity = identity(&credentials);
    let site = Site::open_as(&Auth::default(), LIMITS, Some(identity.clone())).await;
    let trusting = |pem: &str| {
        let root = reqwest::Certificate::from_pem(pem.as_bytes()).unwrap();
        let builder = reqwest::Client::builder().timeout(SOON).pool_max_idle_per_host(1);
        builder.tls_certs_only([root]).build().unwrap()
    };
    let read = || std::fs::read_to_string(&credentials.certificate).unwrap();
    let url = format!("https://localhost:{}/healthz", site.address.port());
    let get =
        async |client: &reqwest::Client| client.get(&url).send().await.map(|one| one.status());
    let before = trusting(&read());
    assert_eq!(get(&before).await.unwrap(), 200);
    let done = handshakes(&site, "done");

    credentials.renew(2020, 2080);
    let after = trusting(&read());
    assert!(get(&after).await.is_err(), "the old one is shown until it is read anew");
    identity.reload().unwrap();
    assert_eq!(get(&after).await.unwrap(), 200);
    assert_eq!(get(&before).await.unwrap(), 200, "by the connection from before");
    assert!(get(&trusting(&Credentials::pair(2020, 2080).0)).await.is_err());
    assert_eq!(handshakes(&site, "done"), done + 1);
}
