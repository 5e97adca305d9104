//! The running server that the rows ask, and a viewer's first steps.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use lensline_clients::{LightReceiver, Tally};
use serde_json::Value;
use tokio::runtime::Handle;

use super::raw::{self, Answer};
use crate::common::SOON;

/// What a row has seen, or what is wrong.
pub type Verdict = Result<String, String>;

/// Chromium's offers of a video, and of a video with audio and data.
pub const OFFER: &str = include_str!("../../corpus/offers/chromium-156-video.sdp");
pub const THREE: &str = include_str!("../../corpus/offers/chromium-156-video-audio-data.sdp");

pub const SDP: (&str, &str) = ("Content-Type", "application/sdp");
pub const FRAGMENT: (&str, &str) = ("Content-Type", "application/trickle-ice-sdpfrag");
pub const OTTO: (&str, &str) = ("Authorization", "Bearer otto-secret");
pub const DORA: (&str, &str) = ("Authorization", "Bearer dora-secret");
/// A page that may use the server, and one that may not.
pub const FRIEND: (&str, &str) = ("Origin", "https://friend.example");
pub const STRANGER: (&str, &str) = ("Origin", "https://evil.example");

/// A server with users, a camera `sim` that runs and a camera `away` that does not.
pub struct Stage {
    pub address: SocketAddr,
    /// Another server, without users, that tells of a STUN and a TURN server.
    pub with_ice_servers: SocketAddr,
    pub client: reqwest::Client,
    pub runtime: Handle,
    /// Every status that was answered.
    pub statuses: Mutex<BTreeSet<u16>>,
}

/// A joined viewer who never connects. Dropping it leaves.
pub struct Joined<'a> {
    stage: &'a Stage,
    pub path: String,
    pub etag: String,
    pub answer: Answer,
}

impl Stage {
    pub fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Answer, String> {
        let answer = raw::ask(self.address, method, path, headers, body)?;
        self.statuses.lock().unwrap().insert(answer.status);
        Ok(answer)
    }

    /// Asks, and wants this status.
    pub fn wants(
        &self,
        status: u16,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Answer, String> {
        let answer = self.ask(method, path, headers, body)?;
        match answer.status == status {
            true => Ok(answer),
            false => Err(format!("{method} {path}: {} {}", answer.status, answer.body)),
        }
    }

    pub fn offer(&self, offer: &str) -> Result<Answer, String> {
        self.ask("POST", "/whep/sim", &[OTTO, SDP], offer)
    }

    pub fn join(&self, offer: &str) -> Result<Joined<'_>, String> {
        let answer = self.wants(201, "POST", "/whep/sim", &[OTTO, SDP], offer)?;
        let location = answer.one("location")?;
        let base = reqwest::Url::parse(&format!("http://{}/whep/sim", self.address)).unwrap();
        let path = base.join(location).map_err(|error| error.to_string())?.path().to_owned();
        let etag = answer.one("etag")?.to_owned();
        Ok(Joined { stage: self, path, etag, answer })
    }

    /// A viewer that sees pictures, and the path of its session.
    pub fn watch(&self) -> Result<(LightReceiver, String), String> {
        self.runtime.block_on(async {
            let url = format!("http://{}/", self.address);
            let (whep, from) = (format!("{url}whep/sim"), self.address.ip());
            let viewer = LightReceiver::join(&self.client, &whep, from, 30);
            let viewer = viewer.await.map_err(|error| format!("{error:?}"))?;
            let seen = |tally: &Tally| tally.frames >= 10;
            let since = Instant::now();
            while !seen(&viewer.tally()) && since.elapsed() < SOON {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            if !seen(&viewer.tally()) {
                return Err(format!("no pictures come: {:?}", viewer.tally()));
            }
            let sessions = self.client.get(format!("{url}api/v1/sessions")).send().await;
            let sessions: Value = sessions.unwrap().json().await.unwrap();
            let list = sessions.as_array().or_else(|| sessions["sessions"].as_array()).unwrap();
            let frames = |session: &&Value| session["frames"].as_u64().unwrap_or(0);
            let session = list.iter().max_by_key(frames).ok_or("no session is listed")?;
            Ok((viewer, format!("/whep/sim/{}", session["id"].as_str().unwrap_or_default())))
        })
    }

    /// Tries until it succeeds, for as long as a scenario waits.
    pub fn soon(&self, mut attempt: impl FnMut() -> Verdict) -> Verdict {
        let since = Instant::now();
        loop {
            match attempt() {
                Err(_) if since.elapsed() < 2 * SOON => {}
                verdict => return verdict,
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Joined<'_> {
    /// Sends a fragment; with this `If-Match`, where given.
    pub fn patch(&self, if_match: Option<&str>, fragment: &str) -> Result<Answer, String> {
        let mut headers = vec![OTTO, FRAGMENT];
        headers.extend(if_match.map(|tag| ("If-Match", tag)));
        self.stage.ask("PATCH", &self.path, &headers, fragment)
    }

    pub fn trickle(&self, fragment: &str) -> Result<Answer, String> {
        self.patch(Some(&self.etag), fragment)
    }

    /// The answer's sections, each from its `m=` line on.
    pub fn sections(&self) -> Vec<&str> {
        let body = &self.answer.body;
        let starts: Vec<usize> = body.match_indices("\r\nm=").map(|(at, _)| at + 2).collect();
        let ends = starts.iter().skip(1).copied().chain([body.len()]);
        starts.iter().zip(ends).map(|(start, end)| &body[*start..end]).collect()
    }

    /// The one section that was not refused, which would have port 0.
    pub fn video(&self) -> Result<&str, String> {
        let mut taken = self.sections();
        taken.retain(|section| section.split(' ').nth(1) != Some("0"));
        match taken[..] {
            [one] => Ok(one),
            _ => Err(format!("{} sections were accepted", taken.len())),
        }
    }
}

impl Drop for Joined<'_> {
    fn drop(&mut self) {
        // One that the row itself has ended is gone.
        let _ = self.stage.ask("DELETE", &self.path, &[OTTO], "");
    }
}
