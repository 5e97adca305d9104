//! RTSP by hand: requests over a socket one by one, interleaved media, and what is in the packets.
//! It blocks, and panics where the socket does not do as it should.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A client's connection, at whatever step of the conversation.
#[derive(Debug)]
pub struct RtspConversation {
    stream: BufReader<TcpStream>,
    url: String,
    cseq: u32,
    session: Option<String>,
}

/// An answer to a request.
#[derive(Debug)]
pub struct RtspAnswer {
    /// Its status code.
    pub status: u16,
    /// Its headers by their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: String,
}

/// An RTP packet.
#[derive(Clone, Debug)]
pub struct RtpPacket {
    /// Sequence number.
    pub seq: u16,
    /// Time stamp, 90,000 a second.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Whether it ends a picture.
    pub marker: bool,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl RtspConversation {
    /// Connects, and says nothing yet; `path` begins with a slash.
    ///
    /// # Panics
    /// Where nobody listens at `address`.
    pub fn connect(address: SocketAddr, path: &str) -> Self {
        Self::over(TcpStream::connect(address).expect("RTSP as it should be"), address, path)
    }

    fn over(stream: TcpStream, address: SocketAddr, path: &str) -> Self {
        stream.set_read_timeout(Some(TIMEOUT)).expect("a time above zero");
        let url = format!("rtsp://{address}{path}");
        Self { stream: BufReader::new(stream), url, cseq: 0, session: None }
    }

    /// The connection itself, for what is no conversation any more.
    pub fn into_stream(self) -> TcpStream {
        self.stream.into_inner()
    }

    /// Sends a request and reads its answer; media that comes in between is dropped.
    ///
    /// # Panics
    /// Where no answer comes within 5 s.
    pub fn ask(&mut self, method: &str, control: &str, headers: &[(&str, &str)]) -> RtspAnswer {
        self.send(method, control, headers);
        self.answer().expect("an answer")
    }

    /// Whether it has not been closed from the other side.
    ///
    /// # Panics
    /// Where the socket cannot be asked.
    pub fn is_open(&mut self) -> bool {
        let stream = self.stream.get_ref();
        stream.set_nonblocking(true).expect("a socket of ours");
        let seen = stream.peek(&mut [0]);
        stream.set_nonblocking(false).expect("a socket of ours");
        match seen {
            Ok(0) => false,
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }

    /// Sends a request.
    ///
    /// # Panics
    /// Where the connection is closed.
    pub fn send(&mut self, method: &str, control: &str, headers: &[(&str, &str)]) {
        self.cseq += 1;
        let mut request =
            format!("{method} {}{control} RTSP/1.0\r\nCSeq: {}\r\n", self.url, self.cseq);
        if let Some(session) = &self.session {
            request += &format!("Session: {session}\r\n");
        }
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += "\r\n";
        self.stream.get_mut().write_all(request.as_bytes()).expect("RTSP as it should be");
    }

    /// The next answer; media that comes before it is dropped. `None` where the connection is closed
    /// or says nothing for 5 s.
    ///
    /// # Panics
    /// Where it is no RTSP.
    pub fn answer(&mut self) -> Option<RtspAnswer> {
        loop {
            let mut line = String::new();
            if self.stream.fill_buf().ok()?.first()? == &b'$' {
                self.interleaved()?;
                continue;
            }
            self.stream.read_line(&mut line).ok()?;
            let status = line.split(' ').nth(1)?.parse().ok()?;
            let mut headers = BTreeMap::new();
            loop {
                let mut line = String::new();
                self.stream.read_line(&mut line).ok()?;
                let Some((name, value)) = line.trim().split_once(':') else { break };
                let value = value.trim();
                headers
                    .entry(name.to_ascii_lowercase())
                    .and_modify(|before: &mut String| *before = format!("{before}, {value}"))
                    .or_insert_with(|| value.to_string());
            }
            let length = headers
                .get("content-length")
                .map_or(0, |length| length.parse().expect("RTSP as it should be"));
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).ok()?;
            if let Some(session) = headers.get("session") {
                self.session = session.split(';').next().map(String::from);
            }
            return Some(RtspAnswer {
                status,
                headers,
                body: String::from_utf8(body).expect("RTSP as it should be"),
            });
        }
    }

    fn interleaved(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head).ok()?;
        assert_eq!(head[0], b'$');
        let mut data = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]]))];
        self.stream.read_exact(&mut data).ok()?;
        Some((head[1], data))
    }

    /// The next sender report: NTP time and RTP time.
    ///
    /// # Panics
    /// Where the connection is closed.
    pub fn sender_report(&mut self) -> (u64, u32) {
        loop {
            let (channel, data) = self.interleaved().expect("media");
            if channel == 1 && data[1] == 200 {
                let ntp = u64::from_be_bytes(data[8..16].try_into().expect("RTSP as it should be"));
                return (
                    ntp,
                    u32::from_be_bytes(data[16..20].try_into().expect("RTSP as it should be")),
                );
            }
        }
    }

    /// The next RTP packet; `None` when the connection is closed.
    pub fn packet(&mut self) -> Option<RtpPacket> {
        loop {
            let (channel, data) = self.interleaved()?;
            if channel != 0 {
                continue;
            }
            return Some(RtpPacket {
                marker: data[1] & 0x80 != 0,
                seq: u16::from_be_bytes([data[2], data[3]]),
                timestamp: u32::from_be_bytes(data[4..8].try_into().expect("RTSP as it should be")),
                ssrc: u32::from_be_bytes(data[8..12].try_into().expect("RTSP as it should be")),
                payload: data[12..].to_vec(),
            });
        }
    }

    /// The packets of the next picture, up to its marker.
    pub fn picture(&mut self) -> Option<Vec<RtpPacket>> {
        let mut packets = Vec::new();
        loop {
            packets.push(self.packet()?);
            if packets.last()?.marker {
                return Some(packets);
            }
        }
    }

    /// DESCRIBE and SETUP over TCP.
    ///
    /// # Panics
    /// Where the server refuses.
    pub fn set_up(&mut self) -> RtspAnswer {
        assert_eq!(self.ask("DESCRIBE", "", &[("Accept", "application/sdp")]).status, 200);
        let transport = ("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1");
        let answer = self.ask("SETUP", "/stream=0", &[transport]);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer
    }

    /// DESCRIBE, SETUP and PLAY; the answer to PLAY.
    ///
    /// # Panics
    /// Where the server refuses.
    pub fn play(address: SocketAddr, path: &str) -> (Self, RtspAnswer) {
        Self::connect(address, path).start()
    }

    /// The same, by a client whose kernel takes little in advance of it.
    ///
    /// # Panics
    /// Where the server refuses.
    pub fn play_with_small_buffer(address: SocketAddr, path: &str) -> (Self, RtspAnswer) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("RTSP as it should be");
        socket.set_recv_buffer_size(16 << 10).expect("RTSP as it should be");
        socket.connect(&address.into()).expect("RTSP as it should be");
        Self::over(socket.into(), address, path).start()
    }

    fn start(mut self) -> (Self, RtspAnswer) {
        self.set_up();
        let answer = self.ask("PLAY", "", &[]);
        assert_eq!(answer.status, 200, "{answer:?}");
        (self, answer)
    }
}

/// The types of the NAL units that begin in these packets (RFC 6184: single, STAP-A, FU-A).
pub fn unit_types(packets: &[RtpPacket]) -> Vec<u8> {
    let mut types = Vec::new();
    for packet in packets {
        let payload = &packet.payload;
        match payload[0] & 31 {
            24 => {
                let mut at = 1;
                while at + 2 < payload.len() {
                    types.push(payload[at + 2] & 31);
                    at += 2 + usize::from(u16::from_be_bytes([payload[at], payload[at + 1]]));
                }
            }
            28 if payload[1] & 0x80 != 0 => types.push(payload[1] & 31),
            28 => {}
            kind => types.push(kind),
        }
    }
    types
}
