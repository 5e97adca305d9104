use serde_json::json;

use super::*;
use crate::catalog::Health;
use crate::distributor::Cause;
use crate::http::routes;

async fn change(site: &Site, change: Value) -> Response {
    site.request("PATCH", "/api/v1/cameras/sim").json(&change).send().await.unwrap()
}

#[tokio::test]
async fn the_status_tells_versions_cameras_encoders_and_sessions() {
    let site = Site::open().await;
    site.sim.update_status(|status| {
        status.health = Health::Running;
        status.encoder = "x264enc".into();
    });
    assert_eq!(site.offer("/whep/sim", OFFER).await.status(), 201);
    let status: Value = site.get("/api/v1/status").await.json().await.unwrap();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert!(status["gstreamer"].as_str().unwrap().contains("GStreamer 1."));
    assert_eq!(status["encoders"], json!(["x264enc"]));
    assert_eq!(status["sessions"], json!({ "total": 1, "webrtc": 1, "rtsp": 0 }));
    assert_eq!(status["workarounds"], json!(["a workaround"]));
    assert_eq!(status["cameras"][0]["id"], "sim");
    assert!(status["uptime_s"].is_u64());
    assert_eq!(status["listening"]["http"], site.address.to_string());
    assert_eq!(status["configuration"]["file"], "/etc/lensline/config.toml");
    assert_eq!(status["limits"]["webrtc_sessions"], json!({ "used": 1, "max": 3 }));
    assert_eq!(status["limits"]["sessions_per_address"], json!({ "used": 1, "max": 3 }));
    assert!(status["limits"]["http_connections"]["used"].as_u64().unwrap() >= 1);
    for figure in ["resident_memory_bytes", "open_fds", "open_fds_max", "threads"] {
        assert!(status["process"][figure].as_u64().unwrap() > 0, "{figure}: {status}");
    }
    assert_eq!(status["refusals"], json!([]));
    for _ in 0..3 {
        site.offer("/whep/sim", OFFER).await;
    }
    let status: Value = site.get("/api/v1/status").await.json().await.unwrap();
    let refused = json!({ "transport": "webrtc", "reason": "sessions_max", "count": 1 });
    assert_eq!(status["refusals"], json!([refused]));
    assert!(!status.to_string().contains(r#"pass"#), "the TURN password is not for the status");
}

#[tokio::test]
async fn cameras_tell_whether_they_are_there_and_what_they_send() {
    let site = Site::open().await;
    let all: Value = site.get("/api/v1/cameras").await.json().await.unwrap();
    let [sim, dead] = [&all["cameras"][0], &all["cameras"][1]];
    assert_eq!((&sim["ready"], &sim["reason"]), (&json!(true), &Value::Null));
    assert_eq!((&dead["ready"], &dead["health"]["state"]), (&json!(false), &json!("starting")));
    assert!(dead["reason"].as_str().unwrap().contains("no frame"));
    let names: Vec<&Value> =
        sim["renditions"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["main", "low"]);
    assert_eq!(all["ice_servers"][0]["username"], "me");
    let one: Value = site.get("/api/v1/cameras/sim").await.json().await.unwrap();
    assert_eq!(one["source"], "simulated");
    problem(site.get("/api/v1/cameras/nosuch").await, 404, "unknown-camera").await;
}

#[tokio::test]
async fn a_camera_is_changed_while_it_runs() {
    let site = Site::open().await;
    let wanted = json!({ "bitrate_kbps": 1200, "rendition": "low", "keyframe": true });
    assert_eq!(change(&site, wanted).await.status(), 200);
    let bitrate = Control::Bitrate { rendition: "low".into(), bitrate_bps: 1_200_000 };
    assert_eq!(*site.controls.lock().unwrap(), [bitrate]);
    assert_eq!(site.sim.renditions[1].hub.key_frame_requests(Cause::Operator), 1);
    assert_eq!(change(&site, json!({ "restart": true })).await.status(), 200);
    assert_eq!(site.controls.lock().unwrap()[1], Control::Restart);
}

#[tokio::test]
async fn changes_that_make_no_sense_are_refused_with_a_remedy() {
    let site = Site::open().await;
    for (body, status, kind) in [
        (json!({}), 422, "bad-change"),
        (json!({ "bitrate": 5 }), 422, "bad-change"),
        (json!({ "bitrate_kbps": 0 }), 422, "bad-change"),
        (json!({ "bitrate_kbps": -1 }), 422, "bad-change"),
        (json!({ "bitrate_kbps": u32::MAX }), 422, "bad-change"),
        (json!({ "bitrate_kbps": 8001 }), 422, "control-refused"),
        (json!({ "keyframe": true, "rendition": "nosuch" }), 404, "unknown-rendition"),
    ] {
        problem(change(&site, body).await, status, kind).await;
    }
    let large = json!({ "rendition": "x".repeat(70_000) });
    problem(change(&site, large).await, 413, "body-too-large").await;
    let text = site.request("PATCH", "/api/v1/cameras/sim").body("{}").send().await.unwrap();
    problem(text, 415, "wrong-content-type").await;
}

#[tokio::test]
async fn sessions_are_listed_shown_and_ended() {
    let site = Site::open().await;
    assert_eq!(site.offer("/whep/sim", OFFER).await.status(), 201);
    let all: Value = site.get("/api/v1/sessions").await.json().await.unwrap();
    let session = &all["sessions"][0];
    assert_eq!((&session["transport"], &session["camera"]), (&json!("webrtc"), &json!("sim")));
    for figure in ["age_ms", "delivered", "skipped", "estimate_bps", "rtt_us", "packets_lost"] {
        assert!(session[figure].is_u64(), "{figure}: {session}");
    }
    let path = format!("/api/v1/sessions/{}", session["id"].as_str().unwrap());
    assert_eq!(site.get(&path).await.status(), 200);
    assert_eq!(site.request("DELETE", &path).send().await.unwrap().status(), 204);
    site.sessions(0).await;
    problem(site.get(&path).await, 404, "unknown-session").await;
    problem(site.request("DELETE", &path).send().await.unwrap(), 404, "unknown-session").await;
}

#[tokio::test]
async fn the_description_names_every_route_and_method_and_no_other() {
    let site = Site::open().await;
    let described: Value = site.get("/api/v1/openapi.json").await.json().await.unwrap();
    let described = described["paths"].as_object().unwrap();
    let name = |path: &str| path.replace("/snapshot/{file}", "/snapshot/{camera}.jpg");
    let mut paths: Vec<String> = routes::table().iter().map(|(path, ..)| name(path)).collect();
    paths.sort();
    assert_eq!(paths, described.keys().cloned().collect::<Vec<_>>());

    for path in paths {
        let methods = described[&path].as_object().unwrap();
        let address = path.replace("{camera}", "sim").replace("{file}", "viewer.js");
        let address = address.replace("{id}", "sim").replace("{session}", "nosuch");
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            let implied = method == "HEAD" && methods.contains_key("get");
            let expected = implied || methods.contains_key(&method.to_lowercase());
            let status = site.request(method, &address).send().await.unwrap().status();
            assert_eq!(status != 405, expected, "{method} {path}: {status}");
        }
    }
}
