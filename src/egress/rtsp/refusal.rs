//! The answer to who cannot come in: a proper `503`, written before any GStreamer object exists.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// How much of a request is read before it is answered; a longer one is answered all the same.
const REQUEST_BYTES_MAX: usize = 4096;

/// How long one who is refused may take to send a request and to take the answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// A connection that is being refused. Never blocks: the socket is set to non-blocking.
#[derive(Debug)]
pub(super) struct Refusal {
    stream: TcpStream,
    retry_after: Duration,
    request: Vec<u8>,
    answered: bool,
    deadline: Instant,
}

impl Refusal {
    /// Refuses `stream`, asking it to come back after `retry_after`.
    pub(super) fn new(stream: TcpStream, retry_after: Duration) -> Self {
        let deadline = Instant::now() + PATIENCE;
        Self { stream, retry_after, request: Vec::new(), answered: false, deadline }
    }

    /// The socket, to be waited on.
    pub(super) const fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Reads and answers what there is; false when the connection can be dropped.
    pub(super) fn proceed(&mut self) -> bool {
        if Instant::now() > self.deadline {
            return false;
        }
        let mut chunk = [0; 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => return false,
            Ok(count) if !self.answered => {
                let room = REQUEST_BYTES_MAX.saturating_sub(self.request.len());
                self.request.extend(chunk.iter().take(count.min(room)));
            }
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
        if !self.answered && is_complete(&self.request) {
            self.answered = true;
            let answer = answer(&self.request, self.retry_after);
            // Closed for writing only: data that arrives at a closed socket resets the connection,
            // and the reset overtakes the answer.
            return self.stream.write_all(answer.as_bytes()).is_ok()
                && self.stream.shutdown(Shutdown::Write).is_ok();
        }
        true
    }
}

fn is_complete(request: &[u8]) -> bool {
    request.len() >= REQUEST_BYTES_MAX || request.windows(4).any(|end| end == b"\r\n\r\n")
}

/// The whole response to `request`, with its CSeq where it has one.
fn answer(request: &[u8], retry_after: Duration) -> String {
    let mut answer = String::from("RTSP/1.0 503 Service Unavailable\r\n");
    let text = String::from_utf8_lossy(request);
    let cseq = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("cseq").then(|| value.trim().parse::<u32>().ok())?
    });
    // Writing to a string cannot fail.
    if let Some(cseq) = cseq {
        let _ = write!(answer, "CSeq: {cseq}\r\n");
    }
    let seconds = retry_after.as_secs().max(1);
    let _ = write!(answer, "Retry-After: {seconds}\r\nConnection: close\r\n\r\n");
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_carries_the_sequence_number_and_when_to_come_back() {
        let request = b"DESCRIBE rtsp://h/cam RTSP/1.0\r\nAccept: a/b\r\ncseq:  7\r\n\r\n";
        assert_eq!(
            answer(request, Duration::from_secs(5)),
            "RTSP/1.0 503 Service Unavailable\r\nCSeq: 7\r\nRetry-After: 5\r\n\
             Connection: close\r\n\r\n"
        );
    }

    #[test]
    fn what_is_no_request_is_refused_all_the_same() {
        for request in [&b"\r\n\r\n"[..], b"CSeq: -1\r\n\r\n", b"CSeq\r\n\r\n", &[0xff; 5000]] {
            assert!(is_complete(request));
            let answer = answer(request, Duration::ZERO);
            assert!(answer.starts_with("RTSP/1.0 503") && answer.contains("Retry-After: 1"));
            assert!(!answer.contains("CSeq"));
        }
        assert!(!is_complete(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n"));
    }
}
