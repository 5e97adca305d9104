//! One viewer's task: datagrams, frames and time in, packets and news out.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::stats::MediaEgressStats;
use str0m::{Event as Said, IceConnectionState, Output, RtcError};
use tokio::sync::{mpsc, oneshot};

use super::super::candidate::Candidate;
use super::super::engine::{Accepted, Event, Listener, Opening};
use super::super::liveness::Connection as State;
use super::super::rtcp;
use super::connection::Connection;
use super::stun;
use super::udp::{Burst, Datagram, Line, Socket};
use crate::distributor::{Delivery, Subscriber};
use crate::egress::feed::FeedEnd;
use crate::egress::tally::Tally;
use crate::frame::Frame;

/// A socket that takes nothing for so long is broken.
const STALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The first byte of RTP and RTCP, beside STUN and DTLS (RFC 7983).
const RTP_FIRST: std::ops::RangeInclusive<u8> = 128..=191;

/// Where RTCP's packet types lie, in the second byte (RFC 5761 section 4).
const RTCP_TYPES: std::ops::RangeInclusive<u8> = 192..=223;

/// What a task is told.
pub enum Command {
    /// One of the viewer's candidates.
    Candidate(Candidate),
    /// What to send.
    Feed(Box<Feeding>),
    /// Say goodbye, and end.
    Close,
}

/// Frames on their way to the viewer.
pub struct Feeding {
    /// Where they come from.
    pub subscriber: Subscriber<Frame>,
    /// What they add to the figures.
    pub tally: Tally,
    /// Told why there are no more.
    pub ended: oneshot::Sender<FeedEnd>,
}

/// One viewer's connection, its sockets, and who wants to know.
pub struct Driver {
    connection: Connection,
    line: Line,
    inbox: mpsc::Receiver<Datagram>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    listener: Listener,
    feeding: Option<Box<Feeding>>,
    /// Whether DTLS has its keys.
    secured: bool,
    /// Where media goes.
    media_to: Option<SocketAddr>,
}

/// Why a task ends.
enum Over {
    /// It was told to, or nobody is left to tell it anything.
    Told,
    /// The peer is not who its offer said.
    Impostor,
    /// The connection cannot go on.
    Failed(String),
}

impl From<RtcError> for Over {
    fn from(error: RtcError) -> Self {
        match error {
            // Nothing but the fingerprint is ever compared with what the offer said: the rest of
            // it str0m never sees.
            RtcError::RemoteSdp(_) => Self::Impostor,
            error => Self::Failed(error.to_string()),
        }
    }
}

impl Driver {
    /// A task for a connection that was just answered.
    pub fn new(
        connection: Connection,
        accepted: &Accepted,
        sockets: Vec<Arc<Socket>>,
        opening: Opening,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        let (line, inbox) = Line::open(&accepted.transport.ufrag, sockets);
        let Opening { events, listener, .. } = opening;
        Self {
            connection,
            line,
            inbox,
            commands,
            events,
            listener,
            feeding: None,
            secured: false,
            media_to: None,
        }
    }

    /// Runs until told to end, or until the connection does.
    pub async fn run(mut self) {
        for (index, address) in (0..).zip(self.line.addresses()) {
            self.say(Event::Candidate(Candidate::host(address, index)));
        }
        self.say(Event::Gathered);
        match self.drive().await {
            Err(Over::Impostor) => self.say(Event::Impostor),
            Err(Over::Failed(error)) => self.say(Event::Failed(error)),
            Ok(never) => match never {},
            Err(Over::Told) => {}
        }
    }

    async fn drive(&mut self) -> Result<Infallible, Over> {
        loop {
            let wake_at = self.flush().await?;
            tokio::select! {
                biased;
                command = self.commands.recv() => self.obey(command).await?,
                // The line holds the other end: it cannot be closed.
                Some(datagram) = self.inbox.recv() => self.receive(&datagram)?,
                delivery = next(&mut self.feeding) => self.frame(delivery).await?,
                () = tokio::time::sleep_until(wake_at.into()) => self.connection.wake()?,
            }
        }
    }

    async fn obey(&mut self, command: Option<Command>) -> Result<(), Over> {
        match command {
            Some(Command::Candidate(candidate)) => self.connection.add_candidate(&candidate),
            Some(Command::Feed(feeding)) => self.feeding = Some(feeding),
            Some(Command::Close) | None => {
                self.connection.close()?;
                self.flush().await?;
                return Err(Over::Told);
            }
        }
        Ok(())
    }

    fn receive(&mut self, datagram: &Datagram) -> Result<(), Over> {
        // From elsewhere it is no sign that what we send arrives: a viewer whose address has
        // changed reports on, and sees nothing. Answers to our checks (RFC 7675) count beside
        // reports: GStreamer's receivers report every 3 to 6 s, so that one lost report would be
        // the end of them.
        let bytes = &datagram.bytes;
        let is_report = bytes.get(1).is_some_and(|kind| RTCP_TYPES.contains(kind));
        if (is_report || stun::is_answer(bytes)) && self.media_to == Some(datagram.source) {
            (self.listener)(rtcp::Report::default());
        }
        Ok(self.connection.receive(datagram)?)
    }

    async fn frame(&mut self, delivery: Option<Delivery<Frame>>) -> Result<(), Over> {
        let Some(delivery) = delivery else {
            self.feed_ended(FeedEnd::Finished);
            return Ok(());
        };
        if let Some(feeding) = &mut self.feeding {
            feeding.tally.delivered(&delivery);
        }
        self.connection.write(&delivery.item)?;
        self.flush().await?;
        if let Some(feeding) = &self.feeding {
            feeding.tally.sent(&delivery.item);
        }
        Ok(())
    }

    fn feed_ended(&mut self, end: FeedEnd) {
        if let Some(feeding) = self.feeding.take() {
            // Where nobody waits for it, the session is ending already.
            let _ = feeding.ended.send(end);
        }
    }

    /// Sends and tells all there is, within a bound; returns when to come back.
    async fn flush(&mut self) -> Result<Instant, Over> {
        if let Ok(flushed) = tokio::time::timeout(STALL_TIMEOUT, self.drain()).await {
            return flushed;
        }
        self.feed_ended(FeedEnd::Stalled);
        Ok(Instant::now())
    }

    async fn drain(&mut self) -> Result<Instant, Over> {
        let mut burst: Option<Burst> = None;
        loop {
            match self.connection.poll()? {
                Output::Event(said) => self.hear(said),
                Output::Transmit(packet) => {
                    let (from, to) = (packet.source, packet.destination);
                    if packet.contents.first().is_some_and(|first| RTP_FIRST.contains(first)) {
                        self.media_to = Some(to);
                    }
                    if !burst.as_mut().is_some_and(|burst| burst.push(from, to, &packet.contents)) {
                        let next = Burst::new(from, to, &packet.contents);
                        self.send(burst.replace(next)).await;
                    }
                }
                Output::Timeout(at) => {
                    self.send(burst).await;
                    return if self.connection.is_alive() { Ok(at) } else { Err(Over::Told) };
                }
            }
        }
    }

    /// Packets that cannot be sent are packets lost: the way to one of the viewer's addresses may
    /// not exist, and ICE finds another.
    async fn send(&mut self, burst: Option<Burst>) {
        let Some(burst) = burst else { return };
        if let Err(error) = self.line.send(&burst).await {
            tracing::debug!(%error, "packets not sent");
        }
    }

    fn hear(&mut self, said: Said) {
        match said {
            Said::Connected => {
                self.secured = true;
                self.say(Event::Connection(State::Connected));
            }
            Said::IceConnectionStateChange(state) => {
                if let Some(state) = self.state(state) {
                    self.say(Event::Connection(state));
                }
            }
            Said::Closed => self.say(Event::Connection(State::Closed)),
            Said::KeyframeRequest(_) => {
                (self.listener)(rtcp::Report { key_frame_requests: 1, ..Default::default() });
            }
            // It comes every second, with or without a report behind it.
            Said::MediaEgressStats(stats) if stats.loss.is_some() => {
                (self.listener)(report(&stats));
            }
            _ => {}
        }
    }

    fn state(&self, ice: IceConnectionState) -> Option<State> {
        match ice {
            // Until there was a connection, the negotiation's own bound holds.
            _ if !self.secured => None,
            IceConnectionState::Disconnected => Some(State::Disconnected),
            IceConnectionState::Connected | IceConnectionState::Completed => Some(State::Connected),
            IceConnectionState::New | IceConnectionState::Checking => Some(State::Connecting),
        }
    }

    fn say(&self, event: Event) {
        if let Err(error) = self.events.try_send(event) {
            tracing::debug!(%error, "a session does not take its engine's news");
        }
    }
}

fn report(stats: &MediaEgressStats) -> rtcp::Report {
    // 24 bits with a sign, which str0m reads without: duplicates make it negative (RFC 3550 6.4.1).
    let lost = stats.remote.as_ref().map(|remote| remote.packets_lost);
    rtcp::Report {
        packets_lost: lost
            .map(|lost| u32::try_from(lost).ok().filter(|n| *n < 1 << 23).unwrap_or(0)),
        round_trip: stats.rtt,
        ..rtcp::Report::default()
    }
}

/// The next frame; never where there is nothing to feed.
async fn next(feeding: &mut Option<Box<Feeding>>) -> Option<Delivery<Frame>> {
    match feeding {
        Some(feeding) => feeding.subscriber.next().await,
        None => std::future::pending().await,
    }
}
