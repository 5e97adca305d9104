//! One hostile request as data, how it is carried out, and what may come back.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::{Instant, timeout, timeout_at};

use super::reply::{Frame, Reply, find, shown};

/// No answer, and no end of a connection, takes longer. Twice the longest time of the server's own.
const BOUND: Duration = Duration::from_secs(30);

/// What says more than it was asked for, says it within so long.
const GRACE: Duration = Duration::from_millis(20);

/// A path that is only ever asked for inside of another request's body: an answer to it is an
/// answer to a smuggled request.
pub const CANARY: &str = "/smuggled-request";

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Door {
    Http,
    WebSocket,
    Rtsp,
    Udp,
}

/// What is done, one after the other.
#[derive(Clone, PartialEq, Eq)]
pub enum Step {
    /// Bytes, with `{session}` in the place of the RTSP session heard of last.
    Say(Vec<u8>),
    /// Waits until so many answers have come in all, or the end.
    Hear(usize),
    /// Lets time go by.
    Wait(Duration),
    /// Says nothing more; the server has to end the connection.
    End,
    /// Is gone from one moment to the next.
    Reset,
}

/// One hostile request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attack {
    pub door: Door,
    /// What it tries.
    pub form: &'static str,
    pub steps: Vec<Step>,
    /// The codes that may come back; whatever the door may say where there are none.
    pub codes: Vec<u16>,
    /// Whether the answer is one to HEAD.
    pub bodyless: bool,
}

/// What became of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The codes of the answers; for a WebSocket its handshake's, and the code of its end.
    pub codes: Vec<u16>,
}

/// Everything that a door may say. Neither 500 nor 501: what we do not know is a 4xx, and what
/// fails in here is not a stranger's to cause.
const HTTP_CODES: &[u16] = &[
    101, 200, 201, 204, 400, 403, 404, 405, 406, 408, 409, 411, 412, 413, 414, 415, 416, 417, 422,
    426, 428, 429, 431, 503, 505,
];
const RTSP_CODES: &[u16] = &[
    200, 400, 401, 403, 404, 405, 406, 408, 413, 414, 415, 451, 452, 453, 454, 455, 456, 457, 458,
    459, 460, 461, 462, 501, 503, 505, 551,
];

impl Attack {
    /// Says this, hears one answer or the end, and goes.
    pub fn new(door: Door, form: &'static str, bytes: impl Into<Vec<u8>>) -> Self {
        let steps = vec![Step::Say(bytes.into()), Step::Hear(1), Step::End];
        Self { door, form, steps, codes: Vec::new(), bodyless: false }
    }

    /// Says something that is not whole: no answer need come before it hangs up.
    pub fn unfinished(door: Door, form: &'static str, bytes: impl Into<Vec<u8>>) -> Self {
        let steps = vec![Step::Say(bytes.into()), Step::Wait(GRACE), Step::End];
        Self { door, form, steps, codes: Vec::new(), bodyless: false }
    }

    pub fn steps(door: Door, form: &'static str, steps: Vec<Step>) -> Self {
        Self { door, form, steps, codes: Vec::new(), bodyless: false }
    }

    /// Only these codes may come back, or the end.
    pub fn only(mut self, codes: &[u16]) -> Self {
        self.codes = codes.to_vec();
        self
    }

    /// Carries it out against the server at `to`, from the local address `from`.
    ///
    /// # Errors
    /// What came back that may not, or did not come.
    pub async fn carry_out(&self, to: SocketAddr, from: Ipv4Addr) -> Result<Outcome, String> {
        if self.door == Door::Udp {
            return self.shoot(to, from).await;
        }
        let mut talk = Talk::begin(self, to, from).await?;
        for step in &self.steps {
            if !talk.step(step).await? {
                break;
            }
        }
        talk.judge()
    }

    async fn shoot(&self, to: SocketAddr, from: Ipv4Addr) -> Result<Outcome, String> {
        // A stranger on this machine reaches an outer address of it by that address.
        let from = if to.ip().is_loopback() { from.into() } else { to.ip() };
        let socket = UdpSocket::bind((from, 0)).await.map_err(|error| error.to_string())?;
        for step in &self.steps {
            match step {
                // A port that has been closed meanwhile says so; no matter.
                Step::Say(bytes) => drop(socket.send_to(bytes, to).await),
                Step::Wait(time) => tokio::time::sleep(*time).await,
                _ => {}
            }
        }
        Ok(Outcome::default())
    }
}

/// A connection under attack.
struct Talk<'a> {
    attack: &'a Attack,
    stream: TcpStream,
    heard: Vec<u8>,
    replies: Vec<Reply>,
    frames: Vec<Frame>,
    closed: bool,
    session: Option<String>,
}

impl<'a> Talk<'a> {
    async fn begin(attack: &'a Attack, to: SocketAddr, from: Ipv4Addr) -> Result<Self, String> {
        let socket = TcpSocket::new_v4().map_err(|error| error.to_string())?;
        socket.bind((from, 0).into()).map_err(|error| format!("bind to {from}: {error}"))?;
        let connected = timeout(BOUND, socket.connect(to)).await;
        let stream =
            connected.map_err(|_| "nobody is let in")?.map_err(|error| error.to_string())?;
        let (heard, replies, frames) = Default::default();
        Ok(Self { attack, stream, heard, replies, frames, closed: false, session: None })
    }

    /// Whether there is more to be done.
    async fn step(&mut self, step: &Step) -> Result<bool, String> {
        match step {
            Step::Say(bytes) => self.say(bytes).await?,
            Step::Hear(count) => self.hear(*count).await?,
            Step::Wait(time) => self.listen(*time).await?,
            Step::End => {
                self.listen(GRACE).await?;
                // Where it is closed already there is nothing to shut.
                let _ = self.stream.shutdown().await;
                self.hear(usize::MAX).await?;
            }
            Step::Reset => {
                let gone = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
                gone.map_err(|error| error.to_string())?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Says it while listening: who does not listen is not listened to.
    async fn say(&mut self, bytes: &[u8]) -> Result<(), String> {
        let named = self.named(bytes);
        let end = Instant::now() + BOUND;
        let mut rest = named.as_slice();
        let mut buffer = vec![0; 16 * 1024];
        while !rest.is_empty() && !self.closed {
            let (mut reader, mut writer) = self.stream.split();
            let turn = async {
                tokio::select! {
                    read = reader.read(&mut buffer) => (Some(read), None),
                    written = writer.write(rest) => (None, Some(written)),
                }
            };
            match timeout_at(end, turn).await {
                Ok((Some(Ok(count @ 1..)), _)) => self.heard.extend_from_slice(&buffer[..count]),
                Ok((_, Some(Ok(count)))) => rest = &rest[count..],
                Ok(_) => self.closed = true,
                Err(_) => {
                    return Err(format!("it takes no more, and does not close, for {BOUND:?}"));
                }
            }
        }
        self.digest()
    }

    fn named(&self, bytes: &[u8]) -> Vec<u8> {
        match (&self.session, find(bytes, b"{session}")) {
            (session, Some(at)) => {
                let session = session.as_deref().unwrap_or("none");
                [&bytes[..at], session.as_bytes(), &self.named(&bytes[at + 9..])].concat()
            }
            (_, None) => bytes.to_vec(),
        }
    }

    /// Listens until `count` answers are there, or the end.
    async fn hear(&mut self, count: usize) -> Result<(), String> {
        let end = Instant::now() + BOUND;
        while !self.closed && self.answers() < count {
            if !self.more(end).await? {
                return Err(format!("neither an answer nor the end within {BOUND:?}"));
            }
        }
        Ok(())
    }

    async fn listen(&mut self, time: Duration) -> Result<(), String> {
        let end = Instant::now() + time;
        while !self.closed && self.more(end).await? {}
        Ok(())
    }

    /// Whether something happened before `end`.
    async fn more(&mut self, end: Instant) -> Result<bool, String> {
        let mut buffer = vec![0; 64 * 1024];
        match timeout_at(end, self.stream.read(&mut buffer)).await {
            Ok(Ok(count @ 1..)) => self.heard.extend_from_slice(&buffer[..count]),
            Ok(_) => self.closed = true,
            Err(_) => return Ok(false),
        }
        self.digest()?;
        Ok(true)
    }

    fn answers(&self) -> usize {
        // The pings with which a socket begins are no answers.
        let answers = self.frames.iter().filter(|frame| frame.opcode != 9);
        self.replies.iter().filter(|reply| reply.status != 100).count() + answers.count()
    }

    /// Takes apart what was heard.
    fn digest(&mut self) -> Result<(), String> {
        loop {
            let upgraded = self.replies.iter().any(|reply| reply.status == 101);
            let used = if self.heard.is_empty() {
                return Ok(());
            } else if upgraded {
                let Some((frame, used)) = Frame::read(&self.heard)? else { return Ok(()) };
                self.frames.push(frame);
                used
            } else if self.attack.door == Door::Rtsp && self.heard[0] == b'$' {
                let Some(&[_, _, high, low]) = self.heard.first_chunk() else { return Ok(()) };
                let used = 4 + usize::from(u16::from_be_bytes([high, low]));
                if self.heard.len() < used {
                    return Ok(());
                }
                used
            } else {
                let read = Reply::read(&self.heard, self.attack.bodyless)?;
                let Some((reply, used)) = read else { return Ok(()) };
                if let Some(session) = reply.header("session") {
                    self.session = session.split(';').next().map(str::to_owned);
                }
                self.replies.push(reply);
                used
            };
            self.heard.drain(..used);
        }
    }

    /// What may not be.
    fn judge(self) -> Result<Outcome, String> {
        let all = match self.attack.door {
            Door::Rtsp => RTSP_CODES,
            _ => HTTP_CODES,
        };
        let allowed = match self.attack.codes.as_slice() {
            [] => all,
            some => some,
        };
        for reply in &self.replies {
            let said = || format!("{} {:?} {}", reply.status, reply.headers, shown(&reply.body));
            // A machine that is too busy may take ours for a slow one.
            let always = matches!(reply.status, 100 | 408);
            if !always && !allowed.contains(&reply.status) {
                return Err(format!("not one of {allowed:?}: {}", said()));
            }
            if find(&reply.body, CANARY.as_bytes()).is_some() {
                return Err(format!("a smuggled request was answered: {}", said()));
            }
            if !self.attack.bodyless {
                reply.check_problem()?;
            }
        }
        if !self.heard.is_empty() && !self.closed {
            return Err(format!("half an answer: {}", shown(&self.heard)));
        }
        let ends = self.frames.iter().filter(|frame| frame.opcode == 8);
        let ends = ends.filter_map(|frame| frame.payload.first_chunk().copied());
        let codes = self.replies.iter().map(|reply| reply.status);
        Ok(Outcome { codes: codes.chain(ends.map(u16::from_be_bytes)).collect() })
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Say(bytes) => write!(f, "say \"{}\"", bytes.escape_ascii()),
            Self::Hear(count) => write!(f, "hear {count}"),
            Self::Wait(time) => write!(f, "wait {time:?}"),
            Self::End => write!(f, "end"),
            Self::Reset => write!(f, "reset"),
        }
    }
}
