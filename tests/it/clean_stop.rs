//! SIGTERM with viewers of every kind: they are told, and it is over within 5 s.

use std::time::Duration;

use lensline_clients::{Look, RtspReceiver, WhepReceiver, until};

use crate::common::{SMALL, SOON, alone, frames_come, start};

const LOOK: Look = Look::Packets { framerate: 30 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_with_viewers_of_every_kind_is_clean_and_tells_them() {
    let _machine = alone().await;
    let server = start(SMALL).await;
    let tcp = RtspReceiver::start(&server.rtsp[0], "tcp", LOOK);
    let udp = RtspReceiver::start(&server.rtsp[0], "udp", LOOK);
    let whep = WhepReceiver::join(&server.client, &server.url("whep/sim"), LOOK).await.unwrap();
    frames_come("RTSP over TCP", 10, || tcp.tally()).await;
    frames_come("RTSP over UDP", 10, || udp.tally()).await;
    frames_come("WHEP", 10, || whep.tally()).await;
    assert_eq!(server.sessions().await.len(), 3);
    let stopped = server.stop().await;
    println!("stopped in {:?}", stopped.took);
    assert_eq!(stopped.code, Some(0), "{}", stopped.log);
    assert!(stopped.took <= Duration::from_secs(5), "{:?}\n{}", stopped.took, stopped.log);
    let told = stopped.log.lines().filter(|line| line.contains("shutdown")).count();
    assert!(told >= 3, "each session's end is in the log:\n{}", stopped.log);
    for (name, receiver) in [("TCP", &tcp), ("UDP", &udp)] {
        let what = format!("RTSP over {name} sees the end");
        println!("{what}: {}", until(&what, SOON, async || receiver.error()).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_without_viewers_is_clean_too() {
    let _machine = alone().await;
    let stopped = start("").await.stop().await;
    assert_eq!(stopped.code, Some(0), "{}", stopped.log);
    assert!(stopped.took <= Duration::from_secs(5), "{:?}\n{}", stopped.took, stopped.log);
    assert!(!stopped.log.contains("ERROR"), "{}", stopped.log);
}
