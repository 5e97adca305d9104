//! The answer to who cannot come in: a proper `503`, written before any GStreamer object exists.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use socket2::Socket;

/// How much of a request is read before it is answered; a longer one is answered all the same.
const REQUEST_BYTES_MAX: usize = 4096;

/// How long one who is refused may take to send a request and to take the answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// The same where a TLS handshake comes first.
pub(super) const PATIENCE_TLS: Duration = Duration::from_secs(3);

/// A connection that is being refused. Never blocks: the socket is set to non-blocking.
#[derive(Debug)]
pub(super) struct Refusal {
    stream: Socket,
    retry_after: Duration,
    request: Vec<u8>,
    answered: bool,
    deadline: Instant,
}

impl Refusal {
    /// Refuses `stream`, asking it to come back after `retry_after`.
    pub(super) fn new(stream: OwnedFd, retry_after: Duration, patience: Duration) -> Self {
        let deadline = Instant::now() + patience;
        Self { stream: stream.into(), retry_after, request: Vec::new(), answered: false, deadline }
    }

    /// The socket, to be waited on.
    pub(super) const fn stream(&self) -> &Socket {
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
            let seconds = self.retry_after.as_secs().max(1);
            let retry_after = format!("Retry-After: {seconds}\r\n");
            let answer = answer(&self.request, "503 Service Unavailable", &retry_after);
            // Closed for writing only: data that arrives at a closed socket resets the connection,
            // and the reset overtakes the answer.
            return self.stream.write_all(answer.as_bytes()).is_ok()
                && self.stream.shutdown(Shutdown::Write).is_ok();
        }
        true
    }
}

/// Whether it is all there, or as much as is looked at.
pub fn is_complete(request: &[u8]) -> bool {
    request.len() >= REQUEST_BYTES_MAX || request.windows(4).any(|end| end == b"\r\n\r\n")
}

/// The whole response to `request`, with its CSeq where it has one; `headers` are lines of their
/// own.
pub fn answer(request: &[u8], status: &str, headers: &str) -> String {
    let mut answer = format!("RTSP/1.0 {status}\r\n");
    let text = String::from_utf8_lossy(request);
    let cseq = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("cseq").then(|| value.trim().parse::<u32>().ok())?
    });
    // Writing to a string cannot fail.
    if let Some(cseq) = cseq {
        let _ = write!(answer, "CSeq: {cseq}\r\n");
    }
    answer + headers + "Connection: close\r\n\r\n"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_answer_carries_the_sequence_number_and_when_to_come_back() {
        let request = b"DESCRIBE rtsp://h/cam RTSP/1.0\r\nAccept: a/b\r\ncseq:  7\r\n\r\n";
        assert_eq!(
            answer(request, "503 Service Unavailable", "Retry-After: 5\r\n"),
            "RTSP/1.0 503 Service Unavailable\r\nCSeq: 7\r\nRetry-After: 5\r\n\
             Connection: close\r\n\r\n"
        );
    }

    #[test]
    fn what_is_no_request_is_refused_all_the_same() {
        for request in [&b"\r\n\r\n"[..], b"CSeq: -1\r\n\r\n", b"CSeq\r\n\r\n", &[0xff; 5000]] {
            assert!(is_complete(request));
            let answer = answer(request, "503 Service Unavailable", "");
            assert_eq!(answer, "RTSP/1.0 503 Service Unavailable\r\nConnection: close\r\n\r\n");
        }
        assert!(!is_complete(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n"));
    }

    proptest! {
        #[test]
        fn whatever_is_asked_the_answer_is_whole_and_has_nothing_of_it_but_a_number(
            request in "(OPTIONS \\* RTSP/1.0\r\n)?(c?[Ss]eq: ?[0-9]{0,12}\r?\n?|\\PC|\r\n){0,40}",
        ) {
            let answer = answer(request.as_bytes(), "503 Service Unavailable", "");
            prop_assert!(answer.starts_with("RTSP/1.0 503 ") && answer.ends_with("\r\n\r\n"));
            prop_assert!(answer.is_ascii() && answer.matches("\r\n").count() <= 4, "{}", answer);
        }
    }
}
