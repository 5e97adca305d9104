//! A viewer of any kind: it comes in, is looked at now and then, and leaves.

use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::command::{Lines, aiortc};
use crate::ffmpeg::Ffmpeg;
use crate::frames::{Look, Tally};
use crate::light::{LightOffer, LightReceiver};
use crate::page::PageViewer;
use crate::process::send_signal;
use crate::recorder::{Recorder, RecorderTransport};
use crate::rtsp::RtspReceiver;
use crate::visits::Faces;
use crate::whep::{JoinError, WhepReceiver};

/// How long a viewer may take to leave.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long aiortc watches where nobody has it leave, in seconds: for ever.
const AIORTC_SECONDS: &str = "1000000000";

/// Longer than anybody looks.
const NEVER: Duration = Duration::from_secs(3600);

/// What a viewer watches with; plans of the simulator call it by the same words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Player {
    /// str0m, by WHEP.
    Light,
    /// str0m, by WebSocket signalling.
    Websocket,
    /// webrtcbin, by WHEP.
    Webrtcbin,
    /// Chromium on the viewer page.
    Chromium,
    /// aiortc, by WHEP. It always decodes.
    Aiortc,
    /// rtspsrc over TCP.
    RtspTcp,
    /// rtspsrc over UDP.
    RtspUdp,
    /// ffmpeg over TCP. It always decodes.
    FfmpegTcp,
    /// ffmpeg over UDP. It always decodes.
    FfmpegUdp,
    /// retina over TCP.
    Recorder,
}

impl Player {
    /// Whether its pictures come over WebRTC.
    pub fn is_webrtc(self) -> bool {
        matches!(
            self,
            Self::Light | Self::Websocket | Self::Webrtcbin | Self::Chromium | Self::Aiortc
        )
    }

    /// Whether its pictures come over TCP.
    pub fn is_tcp(self) -> bool {
        matches!(self, Self::RtspTcp | Self::FfmpegTcp | Self::Recorder)
    }
}

/// How a viewer is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attention {
    /// Pictures a second, by which RTP time stamps are read where nothing is decoded.
    pub framerate: u32,
    /// Whether all is done to know each picture's latency: it is decoded and its stamp read, or the
    /// server is asked to send capture times.
    pub closely: bool,
}

/// One that has come in, or that tries to: RTSP's own clients and the page say of that by pictures
/// alone. Dropping it vanishes.
pub struct Viewer(Seat);

enum Seat {
    Light(LightReceiver),
    Webrtcbin(WhepReceiver),
    Rtsp(RtspReceiver),
    Ffmpeg(Ffmpeg),
    Recorder(Box<Recorder>),
    Page(Box<PageViewer>),
    Aiortc(Lines, Box<Tally>),
}

/// One who has not come in yet.
pub struct Newcomer {
    player: Player,
    attention: Attention,
    browser: Option<Box<PageViewer>>,
}

impl Newcomer {
    /// Who will watch with `player`.
    pub fn new(player: Player, attention: Attention) -> Self {
        Self { player, attention, browser: None }
    }

    /// Starts what takes its time, a browser, so that it is no part of coming in.
    ///
    /// # Panics
    /// Where Chromium does not start.
    pub async fn prepare(&mut self) {
        if self.player == Player::Chromium {
            self.browser = Some(Box::new(PageViewer::start(self.attention.closely).await));
        }
    }

    /// Comes in.
    ///
    /// # Errors
    /// Where the server refuses, or does not answer.
    ///
    /// # Panics
    /// Where what it watches with is not installed.
    pub async fn join(self, faces: &Faces) -> Result<Viewer, JoinError> {
        let Attention { framerate, closely } = self.attention;
        let (client, whep) = (&faces.client, faces.whep_url());
        let look = if closely { Look::Stamps } else { Look::Packets { framerate } };
        let light = async || match closely {
            true => LightOffer::timed(faces.own_address()).await.map_err(failed),
            false => Ok(LightOffer::new(faces.own_address()).await),
        };
        let rtsp = |protocols| Seat::Rtsp(RtspReceiver::start(&faces.rtsp, protocols, look));
        let ffmpeg = |transport| {
            let started = Ffmpeg::start(&faces.rtsp, transport);
            started.map(Seat::Ffmpeg).map_err(failed)
        };
        Ok(Viewer(match self.player {
            Player::Light => Seat::Light(light().await?.whep(client, &whep, framerate).await?),
            Player::Websocket => {
                Seat::Light(light().await?.websocket(&faces.socket(), framerate).await?)
            }
            Player::Webrtcbin => Seat::Webrtcbin(WhepReceiver::join(client, &whep, look).await?),
            Player::Chromium => {
                let browser = match self.browser {
                    Some(browser) => browser,
                    None => Box::new(PageViewer::start(closely).await),
                };
                browser.open(&format!("{}?camera={}", faces.http, faces.camera())).await?;
                Seat::Page(browser)
            }
            Player::Aiortc => {
                let options = ["--seconds", AIORTC_SECONDS, "--stats-every", "0.2"];
                Seat::Aiortc(aiortc(&whep, &options), Box::default())
            }
            Player::RtspTcp => rtsp("tcp"),
            Player::RtspUdp => rtsp("udp"),
            Player::FfmpegTcp => ffmpeg("tcp")?,
            Player::FfmpegUdp => ffmpeg("udp")?,
            Player::Recorder => {
                let transport = RecorderTransport::Tcp;
                Seat::Recorder(Box::new(Recorder::join(&faces.rtsp, transport, framerate).await?))
            }
        }))
    }
}

impl Viewer {
    /// What came so far, as [`Tally::take`] gives it, after about `wait`.
    ///
    /// # Errors
    /// Where its stream has ended, or it was refused after all; at once then.
    ///
    /// # Panics
    /// Where a browser does not answer.
    pub async fn look(&mut self, wait: Duration) -> Result<Tally, JoinError> {
        let until = Instant::now() + wait;
        match &mut self.0 {
            Seat::Recorder(viewer) => {
                // That the time is over is no end of the stream.
                while let Ok(frame) = timeout_at(until, viewer.next()).await {
                    frame.map_err(JoinError::Failed)?;
                }
                return Ok(viewer.tally.take());
            }
            Seat::Aiortc(lines, tally) => {
                while let Ok(line) = timeout_at(until, lines.next(NEVER)).await {
                    let ended = || JoinError::Failed("aiortc has ended".into());
                    note_aiortc(tally, &line.ok_or_else(ended)?)?;
                }
                return Ok(tally.take());
            }
            _ => sleep_until(until).await,
        }
        self.now().await
    }

    async fn now(&mut self) -> Result<Tally, JoinError> {
        let ended = match &mut self.0 {
            Seat::Rtsp(viewer) => viewer.error().map(rtspsrc_said),
            Seat::Ffmpeg(viewer) => viewer.ended(),
            _ => None,
        };
        match (&mut self.0, ended) {
            (_, Some(ended)) => Err(ended),
            (Seat::Light(viewer), _) => Ok(viewer.take()),
            (Seat::Webrtcbin(viewer), _) => Ok(viewer.take()),
            (Seat::Rtsp(viewer), _) => Ok(viewer.take()),
            (Seat::Ffmpeg(viewer), _) => Ok(viewer.take()),
            (Seat::Page(viewer), _) => Ok(viewer.take().await),
            (Seat::Recorder(viewer), _) => Ok(viewer.tally.take()),
            (Seat::Aiortc(_, tally), _) => Ok(tally.take()),
        }
    }

    /// Goes on from another port, and does not know; only str0m's viewers can.
    pub fn rebind(&self) {
        if let Seat::Light(viewer) = &self.0 {
            viewer.rebind();
        }
    }

    /// The browser's tab goes to sleep; others have none.
    ///
    /// # Panics
    /// Where the browser refuses.
    pub async fn sleep(&mut self) {
        if let Seat::Page(viewer) = &mut self.0 {
            viewer.sleep().await;
        }
    }

    /// The browser's tab wakes.
    ///
    /// # Panics
    /// Where the browser refuses.
    pub async fn wake(&mut self) {
        if let Seat::Page(viewer) = &mut self.0 {
            viewer.wake().await;
        }
    }

    /// Leaves politely: with DELETE or TEARDOWN, or by closing what it watches with.
    ///
    /// # Errors
    /// Where the server does not take it.
    pub async fn leave(self, faces: &Faces) -> Result<(), JoinError> {
        match self.0 {
            Seat::Light(viewer) => viewer.leave(&faces.client).await,
            Seat::Webrtcbin(viewer) => viewer.leave(&faces.client).await.map(drop),
            Seat::Rtsp(viewer) => {
                // To stop blocks until the server has answered.
                let left = tokio::task::spawn_blocking(move || drop(viewer)).await;
                left.map_err(failed)
            }
            Seat::Ffmpeg(viewer) => viewer.leave().await,
            Seat::Recorder(viewer) => viewer.leave().await,
            Seat::Page(viewer) => {
                viewer.leave().await;
                Ok(())
            }
            Seat::Aiortc(mut lines, _) => {
                if let Some(pid) = lines.pid() {
                    send_signal(pid, Signal::TERM);
                }
                lines.end(LEAVE_TIMEOUT).await;
                Ok(())
            }
        }
    }
}

fn failed(error: impl ToString) -> JoinError {
    JoinError::Failed(error.to_string())
}

/// What a line of aiortc says of the pictures.
fn note_aiortc(tally: &mut Tally, line: &Value) -> Result<(), JoinError> {
    match line["event"].as_str() {
        Some("frame") => {
            match line["number"].as_u64() {
                // The stamp has 16 bits for it.
                Some(number) => tally.saw_number(number as u16, std::time::Instant::now()),
                None => tally.unreadable += 1,
            }
            line["latency_ms"].as_f64().into_iter().for_each(|ms| tally.saw_latency(ms));
        }
        Some("stats") => {
            tally.bytes = line["bytes"].as_u64().unwrap_or(tally.bytes);
            tally.packets_lost = line["lost"].as_u64().unwrap_or(tally.packets_lost);
        }
        Some("failed") => {
            let body = line["why"].as_str().unwrap_or_default().to_owned();
            let status = line["status"].as_u64().and_then(|status| status.try_into().ok());
            let retry_after = line["retry_after"].as_str().and_then(|text| text.parse().ok());
            return Err(match status {
                Some(status) => JoinError::Refused { status, retry_after, body },
                None => JoinError::Failed(body),
            });
        }
        _ => {}
    }
    Ok(())
}

/// What rtspsrc said at its end; a refusal's status is in brackets, as in "... (503)".
fn rtspsrc_said(why: String) -> JoinError {
    let bracketed = why.split('(').filter_map(|part| part.split_once(')')?.0.parse().ok());
    match bracketed.into_iter().find(|status| (400..600).contains(status)) {
        Some(status) => JoinError::Refused { status, retry_after: None, body: why },
        None => JoinError::Failed(why),
    }
}
