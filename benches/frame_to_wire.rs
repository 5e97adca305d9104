//! How long a frame takes from the tap to the socket: from its hand-over to the publisher until the
//! last of its packets is in the kernel, by way of the ring, the viewers' tasks and the engine, with
//! 1, 10 and 50 viewers. The promise: p99 at most 2 ms with 1 viewer, 8 ms with 50. Reported, never
//! gated.
//!
//! `cargo bench --bench frame_to_wire`; about 15 s for each line of the table. No criterion: it
//! takes the mean of a loop that runs as fast as it can, and what counts here is the distribution at
//! the rate of a camera, where every frame finds the tasks asleep.
//!
//! The server's side of the library runs in this process, and the viewers in another, which is this
//! program again and gives way to it (`nice`): real ones are on other machines. Each frame carries
//! the time of its hand-over in its last bytes. Over WebRTC the other end is the time at which the
//! kernel took in the datagram with those bytes, which on loopback is within the sender's system
//! call, so that the viewers' own turn does not count. Over RTSP (TCP) it is the time at which the
//! client has the whole frame, which does count it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a measuring tool ends where it cannot measure, and prints what it measured"
)]

use std::time::Duration;

use clap::Parser;
use lensline::config::WebrtcEngine;
use lensline_clients::load_average;

#[path = "frame_to_wire/crowd.rs"]
mod crowd;
#[path = "frame_to_wire/mark.rs"]
mod mark;
#[path = "frame_to_wire/stage.rs"]
mod stage;

use crowd::{Crowd, Watched};
use stage::Stage;

/// Viewers at most.
const VIEWERS_MAX: usize = 64;

#[derive(Debug, Parser)]
struct Options {
    /// How long each number of viewers is measured.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// The numbers of viewers.
    #[arg(long, value_delimiter = ',', default_value = "1,10,50")]
    viewers: Vec<usize>,
    /// What carries the frames: str0m, webrtcbin, rtsp.
    #[arg(long, value_delimiter = ',', default_value = "str0m,webrtcbin,rtsp")]
    carriers: Vec<String>,
    /// For itself: be this many viewers, of `rtsp` or of whoever answers the offers.
    #[arg(long, hide = true)]
    watch: Option<usize>,
    /// For itself: the address to watch.
    #[arg(long, hide = true)]
    rtsp: Option<String>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

// As many workers as the program has.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let options = Options::parse();
    if let Some(viewers) = options.watch {
        return crowd::watch(viewers, options.rtsp.as_deref()).await;
    }
    gst::init().unwrap();
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get());
    println!("{}, {cores} cores, load average before {}", stage::PICTURES, load_average());
    println!("rtsp: until the client has the frame; the others: until the kernel has its packets");
    println!(
        "carrier    viewers  p50 ms  p90 ms  p99 ms  p99.9 ms   max ms   frames  missed  load average"
    );
    for carrier in &options.carriers {
        for &viewers in &options.viewers {
            let watched = measure(carrier, viewers, Duration::from_secs(options.seconds)).await;
            print_line(carrier, viewers, &watched);
        }
    }
}

async fn measure(carrier: &str, viewers: usize, length: Duration) -> Watched {
    assert!(viewers <= VIEWERS_MAX, "{VIEWERS_MAX} viewers at most");
    let stage = Stage::open();
    let mut crowd = match carrier {
        "rtsp" => Crowd::over_rtsp(viewers, &stage.rtsp_url()).await,
        "str0m" => Crowd::over_webrtc(viewers, &stage.webrtc(WebrtcEngine::Str0m).await).await,
        "webrtcbin" => {
            Crowd::over_webrtc(viewers, &stage.webrtc(WebrtcEngine::Webrtcbin).await).await
        }
        other => panic!("nothing is called {other}"),
    };
    let watched = crowd.watch_for(length).await;
    drop(crowd);
    stage.close().await;
    watched
}

fn print_line(carrier: &str, viewers: usize, watched: &Watched) {
    let [p50, p90, p99, p999, max] = watched.quantiles_ms;
    println!(
        "{carrier:<10} {viewers:7}  {p50:6.2}  {p90:6.2}  {p99:6.2}  {p999:8.2}  {max:7.2}  {:7}  {:6}  {}",
        watched.frames,
        watched.missed,
        load_average(),
    );
}
