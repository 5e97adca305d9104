//! An address that is taken: exit 4, and a message that says which and what to do.

use std::net::TcpListener;

use lensline_clients::{Finished, free_port, run};
use tokio::process::Command;

use crate::common::{BINARY, SOON, beside_others};

async fn run_on(listen: u16, rtsp_listen: u16) -> Finished {
    let addresses = [listen, rtsp_listen].map(|port| format!("127.0.0.1:{port}"));
    let mut command = Command::new(BINARY);
    command.args(["run", "--simulate", "--listen", &addresses[0], "--rtsp-listen", &addresses[1]]);
    run(&mut command, SOON).await
}

fn assert_says_so(finished: &Finished, port: u16) {
    assert_eq!(finished.code, Some(4), "{finished:?}");
    let says = |text: &str| finished.stderr.contains(text);
    assert!(says(&format!("127.0.0.1:{port}")), "{}", finished.stderr);
    assert!(!finished.stdout.contains("ready"), "{}", finished.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_http_address_ends_it_with_4_and_names_the_option() {
    let _machine = beside_others().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let finished = run_on(port, free_port()).await;
    assert_says_so(&finished, port);
    assert!(finished.stderr.contains("--listen"), "{}", finished.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_rtsp_address_ends_it_with_4_and_names_the_option() {
    let _machine = beside_others().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let finished = run_on(free_port(), port).await;
    assert_says_so(&finished, port);
    assert!(finished.stderr.contains("--rtsp-listen"), "{}", finished.stderr);
}
