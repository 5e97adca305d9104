//! SIGHUP: reads the configuration again, and puts in force what can change under viewers: limits,
//! users, bitrates. What cannot is named in the log, and stays as it was.

use std::sync::Arc;

use crate::admission::Admission;
use crate::auth::Auth;
use crate::catalog::{Camera, Catalog, Control};
use crate::clock::Timestamp;
use crate::config::{self, Config};
use crate::descriptors;
use crate::egress::session::{End, Registry};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::tls::Identity;

/// Reads the configuration again, from where it was read first.
pub type Load = Box<dyn Fn() -> Result<Config, Error> + Send + Sync>;

/// What a reload works on.
pub(super) struct Reload {
    pub(super) load: Load,
    /// What is in force.
    pub(super) running: Config,
    /// Places that were made for sessions at the start; there are no more.
    pub(super) places: usize,
    pub(super) admission: Admission,
    pub(super) auth: Auth,
    /// The certificates of the doors that have one.
    pub(super) identities: Vec<Identity>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) registry: Registry,
}

impl Reload {
    /// Reads and applies. A configuration with anything wrong in it changes nothing.
    pub(super) async fn reload(&mut self) {
        for identity in &self.identities {
            // It has logged what is wrong.
            let _ = identity.reload();
        }
        let mut new = match (self.load)() {
            Ok(new) => new,
            Err(error) => {
                tracing::error!("not reloaded, everything stays as it was: {error}");
                self.metrics.reload.outcomes.with_label_values(&["refused"]).inc();
                return;
            }
        };
        // Without a camera in the configuration, the one that was found at the start stays.
        if new.camera.is_empty() {
            new.camera.clone_from(&self.running.camera);
        }
        let mut applied = Vec::new();
        if new.limits != self.running.limits {
            self.limits(new.limits.clone());
            applied.push("limits".to_owned());
        }
        if new.auth != self.running.auth && self.may_take(&new.auth) {
            self.users(new.auth.clone());
            applied.push("auth".to_owned());
        }
        applied.extend(self.bitrates(&new).await);
        let left = differences(&self.running, &new);
        for path in &left {
            tracing::warn!("{path} has changed; it stays as it was until a restart");
        }
        self.metrics.reload.outcomes.with_label_values(&["applied"]).inc();
        let now = Timestamp::now().to_unix().as_secs();
        self.metrics.reload.applied.set(i64::try_from(now).unwrap_or(i64::MAX));
        tracing::info!(applied = applied.join(", "), left = left.join(", "), "reloaded");
    }

    fn limits(&mut self, limits: config::Limits) {
        let asked = limits.webrtc_sessions_max + limits.rtsp_sessions_max;
        if asked > self.places {
            tracing::warn!(
                "limits.webrtc_sessions_max and limits.rtsp_sessions_max are {asked} together; a \
                 camera has {} places until a restart",
                self.places
            );
        }
        self.admission.set_limits(super::limits(&limits));
        self.admission.set_session_limits(super::session_limits(&limits));
        descriptors::keep(limits.descriptors_reserve);
        self.running.limits = limits;
    }

    /// Whether the door may stand as open as these users leave it, at the addresses that are
    /// listened to now: the new configuration was judged by its own.
    fn may_take(&self, auth: &config::Auth) -> bool {
        let may = auth.lets_listen_on(self.running.server.listen)
            && auth.lets_listen_on(self.running.rtsp.listen);
        if !may {
            tracing::error!(
                "auth stays as it was: without users, everybody who reaches {} or {} would be let \
                 in; restart to listen elsewhere",
                self.running.server.listen,
                self.running.rtsp.listen
            );
        }
        may
    }

    /// Who is no user any more, has another password, or may not watch his camera any more, is shown
    /// out.
    fn users(&mut self, auth: config::Auth) {
        let gone = self.auth.reload(&auth);
        for session in self.registry.list() {
            let stays = self.auth.is_valid(session.user.as_deref(), &session.rendition.camera);
            if !stays || session.user.as_ref().is_some_and(|user| gone.contains(user)) {
                session.end(End::Operator);
            }
        }
        self.running.auth = auth;
    }

    /// Changes the bitrates that differ; their paths.
    async fn bitrates(&mut self, new: &Config) -> Vec<String> {
        let mut applied = Vec::new();
        for (index, running) in self.running.camera.iter_mut().enumerate() {
            let Some(new) = new.camera.iter().find(|new| new.id == running.id) else { continue };
            let Some(camera) = self.catalog.camera(&running.id) else { continue };
            let main = (&mut running.encoder.bitrate_kbps, new.encoder.bitrate_kbps);
            let main = ("main", format!("camera[{index}].encoder.bitrate_kbps"), main);
            let others = running.rendition.iter_mut().enumerate().filter_map(|(place, old)| {
                let new = new.rendition.iter().find(|new| new.name == old.name)?;
                let path = format!("camera[{index}].rendition[{place}].bitrate_kbps");
                Some((&*new.name, path, (&mut old.bitrate_kbps, new.bitrate_kbps)))
            });
            for (name, path, (old, new)) in std::iter::once(main).chain(others) {
                if *old != new && bitrate(camera, name, new, &path).await {
                    *old = new;
                    applied.push(path);
                }
            }
        }
        applied
    }
}

/// Whether the camera took it; it says so in the log where not.
async fn bitrate(camera: &Camera, rendition: &str, bitrate_kbps: u32, path: &str) -> bool {
    let rendition = rendition.into();
    let control = Control::Bitrate { rendition, bitrate_bps: bitrate_kbps.saturating_mul(1000) };
    let taken = camera.control(control).await;
    if let Err(error) = &taken {
        tracing::warn!("{path} was not changed: {error}");
    }
    taken.is_ok()
}

/// The parts of the configuration that still differ from what runs.
fn differences(running: &Config, new: &Config) -> Vec<String> {
    let sections = [
        ("auth", running.auth != new.auth),
        ("server", running.server != new.server),
        ("rtsp", running.rtsp != new.rtsp),
        ("webrtc", running.webrtc != new.webrtc),
        ("log", running.log != new.log),
    ];
    let mut left: Vec<String> =
        sections.into_iter().filter(|(_, differs)| *differs).map(|(path, _)| path.into()).collect();
    for (index, old) in running.camera.iter().enumerate() {
        if new.camera.iter().find(|new| new.id == old.id) != Some(old) {
            left.push(format!("camera[{index}] ({})", old.id));
        }
    }
    let known = |id: &str| running.camera.iter().any(|camera| camera.id == id);
    let more = new.camera.iter().filter(|camera| !known(&camera.id));
    left.extend(more.map(|camera| format!("camera ({})", camera.id)));
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_restart_is_named() {
        let camera = |id: &str| config::Camera { id: id.into(), ..config::Camera::default() };
        let running = Config { camera: vec![camera("a"), camera("b")], ..Config::default() };
        assert!(differences(&running, &running).is_empty());
        let mut new = running.clone();
        new.rtsp.listen.set_port(1);
        new.camera[0].framerate = 15;
        new.camera[1].id = "c".into();
        let left = differences(&running, &new);
        assert_eq!(left, ["rtsp", "camera[0] (a)", "camera[1] (b)", "camera (c)"]);
    }
}
