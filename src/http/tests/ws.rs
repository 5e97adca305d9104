use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::*;
use crate::egress::session::End;

type Socket =
    tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn connect(site: &Site, path: &str) -> Socket {
    let url = format!("ws://{}{path}", site.address);
    tokio_tungstenite::connect_async(url).await.unwrap().0
}

/// The status with which an upgrade is refused.
async fn refused(site: &Site, path: &str, origin: Option<&'static str>) -> u16 {
    let mut request = format!("ws://{}{path}", site.address).into_client_request().unwrap();
    if let Some(origin) = origin {
        request.headers_mut().insert("origin", origin.parse().unwrap());
    }
    match tokio_tungstenite::connect_async(request).await {
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(other) => panic!("{other}"),
        Ok(_) => 101,
    }
}

async fn say(socket: &mut Socket, value: Value) {
    socket.send(Message::text(value.to_string())).await.unwrap();
}

async fn next(socket: &mut Socket) -> Message {
    loop {
        let next = tokio::time::timeout(Duration::from_secs(5), socket.next());
        let message = next.await.expect("an answer in time").expect("no end").unwrap();
        if !matches!(message, Message::Ping(_) | Message::Pong(_)) {
            return message;
        }
    }
}

async fn hear(socket: &mut Socket) -> Value {
    serde_json::from_str(next(socket).await.to_text().unwrap()).unwrap()
}

/// The problem that ends the conversation, and the code of the close that follows it.
async fn farewell(socket: &mut Socket) -> (Value, CloseCode) {
    let error = hear(socket).await;
    assert_eq!(error["type"], "error", "{error}");
    match next(socket).await {
        Message::Close(Some(frame)) => (error["data"].clone(), frame.code),
        other => panic!("{other:?}"),
    }
}

async fn joined(site: &Site) -> Socket {
    let mut socket = connect(site, "/ws/sim").await;
    say(&mut socket, json!({ "type": "offer", "data": { "type": "offer", "sdp": OFFER } })).await;
    assert_eq!(hear(&mut socket).await["type"], "answer");
    assert_eq!(hear(&mut socket).await["type"], "ice-candidate");
    socket
}

#[tokio::test]
async fn a_conversation_from_offer_to_goodbye() {
    let site = Site::open().await;
    let mut socket = connect(&site, "/ws/sim?rendition=low").await;
    say(&mut socket, json!({ "type": "offer", "data": { "type": "offer", "sdp": OFFER } })).await;
    let answer = hear(&mut socket).await;
    assert_eq!(answer["type"], "answer");
    assert_eq!(
        (&answer["data"]["type"], &answer["data"]["sdp"]),
        (&json!("answer"), &json!(ANSWER))
    );
    let session = site.registry.get(answer["data"]["session"].as_str().unwrap()).unwrap();
    assert_eq!(&*session.rendition.name, "low");

    let data = json!({ "candidate": OURS, "sdpMid": "0", "sdpMLineIndex": 0 });
    assert_eq!(hear(&mut socket).await, json!({ "type": "ice-candidate", "data": data }));
    let end = json!({ "candidate": "", "sdpMid": null, "sdpMLineIndex": 0 });
    assert_eq!(hear(&mut socket).await, json!({ "type": "ice-candidate", "data": end }));

    let theirs = json!({ "candidate": "candidate:9", "sdpMid": "0", "sdpMLineIndex": 0 });
    say(&mut socket, json!({ "type": "ice-candidate", "data": theirs })).await;
    say(&mut socket, json!({ "type": "ice-candidate", "data": null })).await;
    say(&mut socket, json!({ "type": "ping", "data": { "t": 1.5 } })).await;
    let pong = hear(&mut socket).await;
    assert_eq!((&pong["type"], &pong["data"]["t"]), (&json!("pong"), &json!(1.5)));
    let now_ms = Timestamp::now().to_unix().as_secs_f64() * 1000.0;
    assert!((pong["data"]["server_ms"].as_f64().unwrap() - now_ms).abs() < 5000.0);
    let heard: Vec<String> =
        site.heard.lock().unwrap().iter().map(|one| one.candidate.clone()).collect();
    assert_eq!(heard, ["candidate:9", ""]);

    socket.close(None).await.unwrap();
    site.sessions(0).await;
    assert_eq!(session.end_reason(), Some(End::Left));
}

#[tokio::test]
async fn an_offer_may_be_bare_text_and_a_ping_may_carry_nothing() {
    let site = Site::open().await;
    let mut socket = connect(&site, "/ws/sim").await;
    say(&mut socket, json!({ "type": "ping" })).await;
    assert!(hear(&mut socket).await["data"]["server_ms"].is_number());
    say(&mut socket, json!({ "type": "offer", "data": OFFER })).await;
    assert_eq!(hear(&mut socket).await["type"], "answer");
}

#[tokio::test]
async fn a_dropped_connection_ends_the_session_as_vanished() {
    let site = Site::open().await;
    let socket = joined(&site).await;
    let session = site.registry.list().remove(0);
    drop(socket);
    site.sessions(0).await;
    assert_eq!(session.end_reason(), Some(End::Vanished));
}

#[tokio::test]
async fn an_upgrade_is_refused_with_the_same_codes_as_elsewhere() {
    let site = Site::open().await;
    assert_eq!(refused(&site, "/ws/nosuch", None).await, 404);
    assert_eq!(refused(&site, "/ws/sim?rendition=nosuch", None).await, 404);
    assert_eq!(refused(&site, "/ws/sim", Some("https://evil.example")).await, 403);
    assert_eq!(refused(&site, "/ws/sim", Some("https://friend.example")).await, 101);
    problem(site.get("/ws/sim").await, 426, "websocket-required").await;
}

#[tokio::test]
async fn refusals_come_as_problems_and_say_whether_to_try_again() {
    let site = Site::open_with(Limits { webrtc_sessions_max: 1, ..LIMITS }).await;
    let offer = |sdp: &str| json!({ "type": "offer", "data": { "sdp": sdp } });
    let mut dead = connect(&site, "/ws/dead").await;
    say(&mut dead, offer(OFFER)).await;
    let (problem, code) = farewell(&mut dead).await;
    assert_eq!((&problem["status"], code), (&json!(409), CloseCode::Again));
    let mut vp8 = connect(&site, "/ws/sim").await;
    say(&mut vp8, offer("vp8 only")).await;
    let (problem, code) = farewell(&mut vp8).await;
    assert_eq!((&problem["status"], code), (&json!(406), CloseCode::Policy));
    let _taken = joined(&site).await;
    let mut late = connect(&site, "/ws/sim").await;
    say(&mut late, offer(OFFER)).await;
    let (problem, code) = farewell(&mut late).await;
    assert_eq!((&problem["retry_after_s"], code), (&json!(5), CloseCode::Again));
}

#[tokio::test]
async fn nonsense_is_answered_and_costs_the_session_nothing() {
    let site = Site::open().await;
    let mut socket = connect(&site, "/ws/sim").await;
    for nonsense in [json!(1), json!({ "type": "shout" }), json!({ "type": "offer" })] {
        say(&mut socket, nonsense).await;
        assert_eq!(hear(&mut socket).await["data"]["status"], 422);
    }
    say(&mut socket, json!({ "type": "ice-candidate", "data": { "candidate": "c" } })).await;
    assert_eq!(hear(&mut socket).await["data"]["status"], 422);
    socket.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert_eq!(hear(&mut socket).await["data"]["status"], 422);

    let mut socket = joined(&site).await;
    let _end = hear(&mut socket).await;
    say(&mut socket, json!({ "type": "offer", "data": OFFER })).await;
    assert_eq!(hear(&mut socket).await["data"]["status"], 409);
    assert_eq!(site.registry.list().len(), 1);
}

#[tokio::test]
async fn a_message_of_64_kib_is_read_and_a_larger_one_ends_the_session() {
    let site = Site::open().await;
    let mut socket = joined(&site).await;
    let _end = hear(&mut socket).await;
    let frame = json!({ "type": "ping", "data": { "fill": "" } }).to_string().len();
    let ping =
        |bytes: usize| json!({ "type": "ping", "data": { "fill": "x".repeat(bytes - frame) } });
    say(&mut socket, ping(64 * 1024)).await;
    assert_eq!(hear(&mut socket).await["type"], "pong");
    say(&mut socket, ping(64 * 1024 + 1)).await;
    let (problem, code) = farewell(&mut socket).await;
    assert_eq!((&problem["status"], code), (&json!(413), CloseCode::Size));
    site.sessions(0).await;
}

#[tokio::test]
async fn a_flood_of_messages_ends_the_session() {
    let site = Site::open().await;
    let mut socket = joined(&site).await;
    let _end = hear(&mut socket).await;
    for _ in 0..300 {
        let candidate = json!({ "type": "ice-candidate", "data": { "candidate": "c" } });
        if socket.send(Message::text(candidate.to_string())).await.is_err() {
            break;
        }
    }
    site.sessions(0).await;
}

#[tokio::test]
async fn a_session_that_an_operator_ends_says_so() {
    let site = Site::open().await;
    let mut socket = joined(&site).await;
    let _end = hear(&mut socket).await;
    let id = site.registry.list()[0].id.to_string();
    let ended = site.request("DELETE", &format!("/api/v1/sessions/{id}")).send().await.unwrap();
    assert_eq!(ended.status(), 204);
    let (problem, code) = farewell(&mut socket).await;
    assert_eq!((&problem["end"], code), (&json!("operator"), CloseCode::Normal));
}
