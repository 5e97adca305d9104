//! What the server said, read strictly: what it says must be right whatever it was told.

use serde_json::Value;

/// One answer of HTTP or RTSP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// One WebSocket frame of the server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub opcode: u8,
    pub payload: Vec<u8>,
}

/// What one whole thing was, and how many bytes it took; `None` where more must come.
type Read<T> = Result<Option<(T, usize)>, String>;

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first answer in `bytes`. `bodyless` where it answers HEAD or CONNECT.
    pub fn read(bytes: &[u8], bodyless: bool) -> Read<Self> {
        let begin = &bytes[..bytes.len().min(5)];
        if !b"HTTP/".starts_with(begin) && !b"RTSP/".starts_with(begin) {
            return Err(format!("no answer begins like this: {}", shown(bytes)));
        }
        let Some(end) = find(bytes, b"\r\n\r\n") else {
            let endless = bytes.len() > 64 * 1024;
            return if endless { Err("a head without end".into()) } else { Ok(None) };
        };
        let head = std::str::from_utf8(&bytes[..end]).map_err(|_| "a head that is no text")?;
        let mut lines = head.split("\r\n");
        let first: Vec<&str> = lines.next().unwrap_or_default().splitn(3, ' ').collect();
        let status = match first.as_slice() {
            ["HTTP/1.1" | "HTTP/1.0" | "RTSP/1.0" | "RTSP/2.0", status, _] => status.parse().ok(),
            _ => None,
        };
        let status = status.ok_or_else(|| format!("a status line: {first:?}"))?;
        let mut reply = Self { status, headers: Vec::new(), body: Vec::new() };
        for line in lines {
            let (name, value) = line.split_once(':').ok_or_else(|| format!("a header: {line}"))?;
            if name.is_empty() || name.contains(' ') || line.contains(['\r', '\n', '\0']) {
                return Err(format!("a header: {line:?}"));
            }
            reply.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let rest = &bytes[end + 4..];
        if bodyless || matches!(status, 100..=199 | 204 | 304) {
            return Ok(Some((reply, end + 4)));
        }
        if reply.header("transfer-encoding").is_some() {
            let Some((body, used)) = chunked(rest)? else { return Ok(None) };
            reply.body = body;
            return Ok(Some((reply, end + 4 + used)));
        }
        let length = reply.header("content-length").map_or(Ok(0), str::parse::<usize>);
        let length = length.map_err(|error| format!("Content-Length: {error}"))?;
        let Some(body) = rest.get(..length) else { return Ok(None) };
        reply.body = body.to_vec();
        Ok(Some((reply, end + 4 + length)))
    }

    /// An error that we wrote ourselves says what it is and what to do.
    pub fn check_problem(&self) -> Result<(), String> {
        if self.header("content-type") != Some("application/problem+json") {
            return Ok(());
        }
        let problem: Value =
            serde_json::from_slice(&self.body).map_err(|error| format!("a problem: {error}"))?;
        let whole =
            ["type", "title", "detail", "remedy"].iter().all(|key| problem[key].is_string())
                && problem["status"] == self.status;
        if !whole {
            return Err(format!("a problem that lacks something: {problem}"));
        }
        if matches!(self.status, 429 | 503) && self.header("retry-after").is_none() {
            return Err(format!("no Retry-After: {problem}"));
        }
        Ok(())
    }
}

fn chunked(bytes: &[u8]) -> Read<Vec<u8>> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let size = std::str::from_utf8(&bytes[at..at + end]).ok();
        let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.ok_or("the size of a chunk")?;
        at += end + 2;
        let Some(chunk) = bytes.get(at..at + size + 2) else { return Ok(None) };
        if !chunk.ends_with(b"\r\n") {
            return Err("the end of a chunk".into());
        }
        at += size + 2;
        if size == 0 {
            return Ok(Some((body, at)));
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

impl Frame {
    /// The first frame in `bytes`. We never send messages in pieces, nor masked.
    pub fn read(bytes: &[u8]) -> Read<Self> {
        let [first, second, ..] = *bytes else { return Ok(None) };
        let opcode = first & 0x0f;
        if first & 0xf0 != 0x80 || second & 0x80 != 0 || !matches!(opcode, 1 | 8 | 9 | 10) {
            return Err(format!("a frame: {}", shown(bytes)));
        }
        let (length, head) = match second {
            126 => match bytes.get(2..4) {
                Some(size) => (usize::from(u16::from_be_bytes([size[0], size[1]])), 4),
                None => return Ok(None),
            },
            127 => match bytes.get(2..10) {
                Some(size) => (
                    usize::try_from(u64::from_be_bytes(size.try_into().unwrap()))
                        .unwrap_or(usize::MAX),
                    10,
                ),
                None => return Ok(None),
            },
            short => (usize::from(short), 2),
        };
        if length > 256 * 1024 || opcode >= 8 && length > 125 {
            return Err(format!("a frame of {length} bytes"));
        }
        let Some(payload) = bytes.get(head..head + length) else { return Ok(None) };
        let frame = Self { opcode, payload: payload.to_vec() };
        frame.check()?;
        Ok(Some((frame, head + length)))
    }

    fn check(&self) -> Result<(), String> {
        match self.opcode {
            1 => {
                let said: Value = serde_json::from_slice(&self.payload)
                    .map_err(|error| format!("a message: {error}"))?;
                let known = ["answer", "error", "pong", "ice-candidate"];
                let kind = said["type"].as_str().unwrap_or_default();
                if !known.contains(&kind) || said["data"]["status"] == 500 {
                    return Err(format!("a message: {said}"));
                }
            }
            8 => {
                let code = self.payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
                let known = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1013];
                // Who closes without a code, or with one that he chose, gets that back.
                let echoed = code.is_none_or(|code| code >= 3000);
                if !echoed && code.is_none_or(|code| !known.contains(&code)) {
                    return Err(format!("a close with {code:?}"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Where `what` first occurs.
pub fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Bytes for people, the first few hundred of them.
pub fn shown(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 600;
    let text = bytes[..bytes.len().min(SHOWN_MAX)].escape_ascii().to_string();
    if bytes.len() > SHOWN_MAX { format!("{text}… ({} bytes)", bytes.len()) } else { text }
}

#[test]
fn answers_are_read_one_after_the_other_and_wrong_ones_are_noticed() {
    let two = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nabHTTP/1.1 404 Not Found\r\n\
        transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let (first, used) = Reply::read(two, false).unwrap().unwrap();
    assert_eq!((first.status, first.body.as_slice()), (200, &b"ab"[..]));
    let (second, rest) = Reply::read(&two[used..], false).unwrap().unwrap();
    assert_eq!((second.status, second.body.as_slice(), used + rest), (404, &b"abc"[..], two.len()));
    assert_eq!(Reply::read(&two[..20], false), Ok(None));
    for wrong in
        ["SSH-2.0\r\n\r\n", "HTTP/1.1 2x0 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nno colon\r\n\r\n"]
    {
        assert!(Reply::read(wrong.as_bytes(), false).is_err(), "{wrong}");
    }
}

#[test]
fn frames_are_read_and_wrong_ones_are_noticed() {
    let pong = br#"{"type":"pong","data":{}}"#;
    let bytes = [&[0x81, pong.len() as u8][..], pong].concat();
    assert_eq!(Frame::read(&bytes).unwrap().unwrap().1, bytes.len());
    assert_eq!(Frame::read(&bytes[..4]), Ok(None));
    assert!(Frame::read(&[0x88, 2, 0x03, 0xe8]).unwrap().is_some());
    // Masked, in pieces, an internal error, no JSON.
    for wrong in [&[0x81, 0x80][..], &[0x01, 0], &[0x88, 2, 0x03, 0xf3], &[0x81, 1, b'x']] {
        assert!(Frame::read(wrong).is_err(), "{wrong:?}");
    }
}
