//! A Lensline that leaks on purpose, to show that the verdict notices: the same application, and a
//! thread beside it that watches the joins and keeps something for each of them.
//!
//! `LEAK_BYTES_PER_JOIN`, `LEAK_DESCRIPTORS_PER_JOIN` and `LEAK_THREADS_PER_JOIN` say what. The
//! arguments are those of `lensline run`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool talks to whoever runs it")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use lensline::cli::{self, Arguments, Command};
use lensline::error::Error;
use lensline_clients::Exposition;

/// How often the joins are counted.
const LOOK_EVERY: Duration = Duration::from_millis(250);

fn main() -> ExitCode {
    match stream() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            error.exit_code()
        }
    }
}

fn stream() -> Result<(), Error> {
    lensline::memory::use_one_arena();
    let Command::Run(arguments) = Arguments::parse().command else {
        return Err(Error::Internal("leaky knows `run` only".into()));
    };
    let loaded = arguments.config()?;
    let _log = lensline::log::init(&loaded.config.log)?;
    gst::init().map_err(|error| Error::Internal(error.to_string()))?;
    let config = cli::with_camera(loaded.config)?;
    let listen = config.server.listen;
    std::thread::spawn(move || leak(listen));
    let runtime = tokio::runtime::Runtime::new();
    let runtime = runtime.map_err(|error| Error::Internal(error.to_string()))?;
    runtime.block_on(lensline::app::run(config, loaded.file))
}

/// Keeps something for each join, for ever.
fn leak(listen: SocketAddr) {
    let each = |name: &str| std::env::var(name).ok()?.parse::<usize>().ok();
    let (mut bytes, mut files) = (Vec::new(), Vec::new());
    let mut joins = 0;
    loop {
        std::thread::sleep(LOOK_EVERY);
        let now = count(listen).unwrap_or(joins);
        for _ in joins..now {
            // Written to, so that it is resident; in small pieces, as real leaks are.
            let size = each("LEAK_BYTES_PER_JOIN").unwrap_or(0);
            bytes.extend((0..size / 512).map(|_| vec![1u8; 512].into_boxed_slice()));
            let count = each("LEAK_DESCRIPTORS_PER_JOIN").unwrap_or(0);
            files.extend((0..count).filter_map(|_| File::open("/dev/null").ok()));
            for _ in 0..each("LEAK_THREADS_PER_JOIN").unwrap_or(0) {
                std::thread::spawn(|| {
                    loop {
                        std::thread::park()
                    }
                });
            }
        }
        joins = now;
    }
}

/// Sessions that there are and were.
fn count(listen: SocketAddr) -> Option<u64> {
    let mut stream = TcpStream::connect(listen).ok()?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {listen}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let metrics = Exposition::parse(&answer);
    let sessions = ["lensline_sessions", "lensline_sessions_total"];
    Some(sessions.map(|name| metrics.sum(name, &[])).iter().sum::<f64>() as u64)
}
