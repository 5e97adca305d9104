use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::egress::session::End;

async fn raw(site: &Site, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// The status line that comes, or nothing where the connection is closed without one.
async fn status_line(mut stream: TcpStream) -> String {
    let mut text = String::new();
    let read = async {
        let mut bytes = [0; 1024];
        while !text.contains("\r\n") {
            match stream.read(&mut bytes).await {
                Ok(0) | Err(_) => break,
                Ok(count) => text.push_str(&String::from_utf8_lossy(&bytes[..count])),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), read).await.unwrap();
    text.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_request_head_beyond_its_bounds_is_refused() {
    let site = Site::open().await;
    let head = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n";
    assert_eq!(status_line(raw(&site, &format!("{head}\r\n")).await).await, "HTTP/1.1 200 OK");
    let long = format!("{head}X: {}\r\n\r\n", "x".repeat(20_000));
    assert!(status_line(raw(&site, &long).await).await.contains("431"));
    // `Host` is one of the 64 that there may be.
    let headers = |count: usize| format!("{head}{}\r\n", "X: y\r\n".repeat(count - 1));
    assert_eq!(status_line(raw(&site, &headers(64)).await).await, "HTTP/1.1 200 OK");
    assert!(status_line(raw(&site, &headers(65)).await).await.contains("431"));
    assert!(status_line(raw(&site, "\x16\x03\x01 no HTTP\r\n\r\n").await).await.contains("400"));
    let metrics = site.get("/metrics").await.text().await.unwrap();
    for (reason, count) in [("head-too-large", 2), ("unreadable-head", 1)] {
        let labels = format!("{{door=\"http\",reason=\"{reason}\"}} {count}\n");
        assert!(metrics.contains(&labels), "{labels}{metrics}");
    }
    let nameless = "GET /healthz HTTP/1.1\r\n\r\n";
    assert!(status_line(raw(&site, nameless).await).await.contains("403"));
}

#[tokio::test]
async fn a_stop_ends_idle_connections_half_requests_and_sockets_within_its_bound() {
    let site = Site::open().await;
    let url = format!("ws://{}/ws/sim", site.address);
    let (_socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let _idle = raw(&site, "").await;
    let _half = raw(&site, "POST /whep/sim HTTP/1.1\r\nHost: localhost\r\nContent-").await;
    assert_eq!(site.get("/healthz").await.status(), 200);
    let began = Instant::now();
    site.shutdown.stop();
    let served = tokio::time::timeout(Duration::from_secs(4), site.served).await;
    served.expect("stopped in time").unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(4));
    assert!(TcpStream::connect(site.address).await.is_err(), "still listening");
}

#[tokio::test]
async fn a_stop_is_told_to_who_watches() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;
    let site = Site::open().await;
    let url = format!("ws://{}/ws/sim", site.address);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let offer = serde_json::json!({ "type": "offer", "data": OFFER }).to_string();
    socket.send(Message::text(offer)).await.unwrap();
    site.sessions(1).await;
    let session = site.registry.list().remove(0);
    site.shutdown.stop();
    let mut said = Vec::new();
    while let Ok(Some(Ok(message))) =
        tokio::time::timeout(Duration::from_secs(3), socket.next()).await
    {
        said.push(message.to_string());
    }
    assert!(said.iter().any(|text| text.contains("urn:lensline:problem:stopping")), "{said:?}");
    assert_eq!(session.end_reason(), Some(End::Shutdown));
}
