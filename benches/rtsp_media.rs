//! What RTSP viewers cost: one media per viewer, as Lensline has it, beside a bare gst-rtsp-server
//! with one media shared by all. The same pictures, encoded beforehand, go through both.
//!
//! `cargo bench --bench rtsp_media [-- VIEWERS...]` prints a table. The server is a process of its
//! own, so that its figures in /proc are the server's alone; viewers are in a third process.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench ends where something fails, and prints its table"
)]

#[path = "rtsp_media/server.rs"]
mod server;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long each figure is measured, after the viewers have settled.
const MEASURE: Duration = Duration::from_secs(8);
const SETTLE: Duration = Duration::from_secs(3);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.first().map(String::as_str) {
        Some("serve") => server::serve(&arguments[1], &arguments[2]),
        Some("watch") => watch(&arguments[1], arguments[2].parse().unwrap()),
        _ => compare(&arguments),
    }
}

fn compare(arguments: &[String]) {
    let mut counts: Vec<usize> = arguments.iter().filter_map(|count| count.parse().ok()).collect();
    if counts.is_empty() {
        counts = vec![1, 10, 50];
    }
    let frames = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(frames.path(), server::encode()).unwrap();
    println!(
        "| server | viewers | CPU % of a core | above idle | RSS MiB | above idle | threads | fds | first frame ms p50 / p95 |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for kind in ["shared", "own"] {
        for &count in &counts {
            row(kind, count, frames.path().to_str().unwrap());
        }
    }
}

fn row(kind: &str, count: usize, frames: &str) {
    let mut server = start(&["serve", kind, frames]);
    let url = line(&mut server);
    std::thread::sleep(SETTLE);
    let idle = Figures::of(server.id(), MEASURE / 2);
    let mut viewers = start(&["watch", &url, &count.to_string()]);
    let joins = line(&mut viewers);
    std::thread::sleep(SETTLE);
    let busy = Figures::of(server.id(), MEASURE);
    println!(
        "| {kind} | {count} | {:.1} | {:.1} | {:.1} | {:.1} | {} | {} | {joins} |",
        busy.cpu,
        busy.cpu - idle.cpu,
        busy.rss,
        busy.rss - idle.rss,
        busy.threads,
        busy.fds
    );
    if std::env::var_os("THREADS").is_some() {
        println!("{:?}", thread_names(server.id()));
    }
    for mut child in [viewers, server] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

fn start(arguments: &[&str]) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    line.trim().to_string()
}

struct Figures {
    cpu: f64,
    rss: f64,
    threads: i64,
    fds: usize,
}

impl Figures {
    fn of(pid: u32, during: Duration) -> Self {
        let process = procfs::process::Process::new(pid.cast_signed()).unwrap();
        let ticks = |stat: &procfs::process::Stat| stat.utime + stat.stime;
        let (before, since) = (process.stat().unwrap(), Instant::now());
        std::thread::sleep(during);
        let after = process.stat().unwrap();
        let used = (ticks(&after) - ticks(&before)) as f64 / procfs::ticks_per_second() as f64;
        Self {
            cpu: 100.0 * used / since.elapsed().as_secs_f64(),
            rss: (after.rss * procfs::page_size()) as f64 / f64::from(1 << 20),
            threads: after.num_threads,
            fds: process.fd_count().unwrap(),
        }
    }
}

fn thread_names(pid: u32) -> std::collections::BTreeMap<String, usize> {
    let mut names = std::collections::BTreeMap::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        *names
            .entry(name.trim_end().trim_end_matches(char::is_numeric).to_string())
            .or_insert(0) += 1;
    }
    names
}

/// Joins `count` times, one after the other, says how long the first frames took, and reads on.
fn watch(url: &str, count: usize) {
    let mut waits = Vec::new();
    for _ in 0..count {
        let asked = Instant::now();
        let mut stream = join(url);
        let mut head = [0; 16];
        stream.read_exact(&mut head).unwrap();
        waits.push(asked.elapsed().as_secs_f64() * 1000.0);
        std::thread::Builder::new()
            .stack_size(128 << 10)
            .spawn(move || {
                let mut buffer = vec![0; 64 << 10];
                while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
            })
            .unwrap();
        std::thread::sleep(Duration::from_millis(37));
    }
    waits.sort_by(f64::total_cmp);
    println!("{:.0} / {:.0}", waits[count / 2], waits[(count * 95 / 100).min(count - 1)]);
    std::io::stdout().flush().unwrap();
    std::thread::sleep(Duration::from_secs(600));
}

/// DESCRIBE, SETUP, PLAY; the stream stands at the first interleaved packet.
fn join(url: &str) -> TcpStream {
    let address = url.strip_prefix("rtsp://").unwrap().split('/').next().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    ask(&mut stream, &format!("DESCRIBE {url} RTSP/1.0\r\nCSeq: 1\r\n\r\n"));
    let answer = ask(
        &mut stream,
        &format!(
            "SETUP {url}/stream=0 RTSP/1.0\r\nCSeq: 2\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n"
        ),
    );
    let session = answer.split("Session: ").nth(1).unwrap().split([';', '\r']).next().unwrap();
    ask(&mut stream, &format!("PLAY {url} RTSP/1.0\r\nCSeq: 3\r\nSession: {session}\r\n\r\n"));
    stream
}

fn ask(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("RTSP/1.0 200"), "{answer}");
    let length = answer.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    answer
}
