//! Liveness and readiness while the camera stands still.

use std::time::Duration;

use lensline_clients::{Lensline, until};
use serde_json::Value;

use crate::common::{SOON, beside_others, start};

async fn ready(server: &Lensline) -> (u16, Value) {
    let answer = server.client.get(server.url("readyz")).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_falls_while_the_camera_is_frozen_and_comes_back_and_liveness_stays() {
    let _machine = beside_others().await;
    let faults = "{ at_ms = 6000, kind = \"freeze\", for_ms = 6000 }";
    let server = start(&format!(
        "[[camera]]\nid = \"sim\"\nwidth = 640\nheight = 360\n\
         source = {{ kind = \"simulated\", faults = [{faults}] }}\n"
    ))
    .await;
    until("ready at first", SOON, async || (ready(&server).await.0 == 200).then_some(())).await;
    let (_, why) = until("unready while frozen", SOON, async || {
        Some(ready(&server).await).filter(|(status, _)| *status == 503)
    })
    .await;
    assert!(why.to_string().contains("sim"), "the reason names the camera: {why}");
    let alive = server.client.get(server.url("healthz")).send().await.unwrap();
    assert_eq!(alive.status(), 200);
    until("ready again", Duration::from_secs(30), async || {
        (ready(&server).await.0 == 200).then_some(())
    })
    .await;
}
