//! What an operator has: a dashboard and alerts that name what there is, and a log that tells of each
//! session from start to end.

use std::collections::BTreeSet;
use std::path::Path;

use lensline_clients::{Launch, Lensline, Look, Recorder, RecorderTransport, WhepReceiver};
use serde_json::Value;

use crate::common::{BINARY, SMALL, SOON, beside_others, frames_come};

const LOOK: Look = Look::Packets { framerate: 30 };

/// What the scrape itself adds, and what an expression says besides metrics and labels.
const NOT_OURS: [&str; 3] = ["up", "instance", "job"];

fn package(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ci/package").join(file);
    std::fs::read_to_string(path).unwrap()
}

/// Names of metrics in an expression, and of labels: those before a comparison or in `by (…)`.
fn names(expression: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let quoted = expression.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
    let is_name = |text: &str| text.contains("lensline_") || text.contains("process_");
    let word = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    let words = quoted.split(word).filter(|text| is_name(text));
    let metrics = words.map(str::to_owned).collect();
    let compared = quoted.match_indices("=~\"").chain(quoted.match_indices("=\""));
    let mut labels: BTreeSet<String> = compared
        .chain(quoted.match_indices("!=\""))
        .filter_map(|(at, _)| quoted[..at].rsplit(word).find(|text| !text.is_empty()))
        .map(str::to_owned)
        .collect();
    for rest in quoted.split("by (").skip(1) {
        let grouped = rest.split(')').next().unwrap().split(',');
        labels.extend(grouped.map(|label| label.trim().to_owned()));
    }
    (metrics, labels)
}

#[test]
fn names_are_found_in_an_expression() {
    let expression =
        "sum by (le, camera) (rate(lensline_a_bucket{end!=\"x=y\",job=\"b\"}[5m])) / up";
    let (metrics, labels) = names(expression);
    assert_eq!(Vec::from_iter(metrics), ["lensline_a_bucket"]);
    assert_eq!(Vec::from_iter(labels), ["camera", "end", "job", "le"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dashboard_and_alerts_name_metrics_and_labels_that_are_there() {
    let _machine = beside_others().await;
    let server = Lensline::start(BINARY, SMALL).await;
    let url = server.url("metrics");
    let text = server.client.get(url).send().await.unwrap().text().await.unwrap();
    let dashboard: Value = serde_json::from_str(&package("dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let mut expressions: Vec<String> =
        targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
    // A rule's expression ends where the next key begins; ci/alerts reads the file as YAML.
    let alerts = package("alerts.yml");
    let rules = alerts.split("expr:").skip(1);
    expressions.extend(rules.map(|rule| {
        let lines = rule.lines().take_while(|line| {
            !["for:", "labels:"].iter().any(|key| line.trim_start().starts_with(key))
        });
        lines.collect::<Vec<_>>().join(" ")
    }));
    assert!(expressions.len() > 30, "only {} expressions were found", expressions.len());
    for expression in expressions {
        let (metrics, labels) = names(&expression);
        for metric in &metrics {
            let samples: Vec<&str> =
                text.lines().filter(|line| line.split(['{', ' ']).next() == Some(metric)).collect();
            assert!(!samples.is_empty(), "there is no {metric}, which has: {expression}");
            for label in labels.iter().filter(|label| !NOT_OURS.contains(&label.as_str())) {
                let key = format!("{label}=\"");
                assert!(
                    samples.iter().all(|sample| sample.contains(&key)),
                    "{metric} has no label {label}, which has: {expression}"
                );
            }
        }
    }
}

/// Watches once by each transport, then reads what the log says of it.
async fn assert_told(engine: &str) {
    let config = format!("[webrtc]\nengine = \"{engine}\"\n[log]\nformat = \"json\"\n{SMALL}");
    let server = Lensline::launch(&Launch::new(BINARY, config)).await;
    let viewer = WhepReceiver::join(&server.client, &server.url("whep/sim"), LOOK).await.unwrap();
    frames_come("the viewer", 10, || viewer.tally()).await;
    assert!(viewer.leave(&server.client).await.unwrap() < 300);
    for transport in [RecorderTransport::Tcp, RecorderTransport::Udp] {
        let mut recorder = Recorder::join(&server.rtsp[0], transport, 30).await.unwrap();
        recorder.take(10, SOON).await.unwrap();
    }
    server.sessions_are(0, SOON).await;
    let log = server.stop().await.log;
    let lines: Vec<Value> =
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let told = |words: &str, transport: &str| {
        let fits = |line: &&Value| {
            let fields = &line["fields"];
            fields["message"] == words && fields["transport"] == transport
        };
        let found: Vec<&Value> = lines.iter().filter(fits).map(|line| &line["fields"]).collect();
        assert_eq!(found.len(), 1, "{words}, {transport}, {engine}:\n{log}");
        found[0].clone()
    };
    for transport in ["webrtc", "rtsp_tcp", "rtsp_udp"] {
        let (start, end) = (told("session starts", transport), told("session ends", transport));
        for field in ["session", "camera", "rendition", "address"] {
            assert_eq!(start[field], end[field], "{field} of {transport}");
        }
        assert!(end["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{end}");
        assert!(["left", "vanished"].contains(&end["end"].as_str().unwrap()), "{end}");
        assert!(end["delivered"].as_u64().unwrap() >= 10, "{end}");
        assert!(end["skipped"].is_u64() && end["bytes"].as_u64().unwrap() > 1_000, "{end}");
        assert!(end["age_ms"].as_u64().unwrap() > 100, "{end}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_has_one_line_for_the_start_and_one_for_the_end_of_each_session() {
    let _machine = beside_others().await;
    assert_told("str0m").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_tells_the_same_with_webrtcbin() {
    let _machine = beside_others().await;
    assert_told("webrtcbin").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_refused_requests_leaves_a_few_lines_in_the_log_and_their_number() {
    let _machine = beside_others().await;
    let server = Lensline::start(BINARY, SMALL).await;
    for _ in 0..300 {
        let request = server.client.post(server.url("whep/sim"));
        let answer = request.header("content-type", "application/sdp").body("v=0\r\n");
        assert!(answer.send().await.unwrap().status().is_client_error());
    }
    let address = server.rtsp[0].split('/').nth(2).unwrap().to_owned();
    for _ in 0..300 {
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let request = format!("DESCRIBE rtsp://{address}/nosuch RTSP/1.0\r\nCSeq: 1\r\n\r\n");
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
        let mut byte = [0];
        let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut byte).await;
    }
    // What was left out is told when ten seconds are over, though nothing more is refused.
    lensline_clients::until("the number of lines left out", SOON * 2, async || {
        server.log().contains("lines of one kind were left out").then_some(())
    })
    .await;
    let log = server.stop().await.log;
    let refused = log.lines().filter(|line| line.contains("refused")).count();
    assert!((1..100).contains(&refused), "{refused} lines of 600:\n{log}");
}
