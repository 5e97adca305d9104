//! What an RTSP address means: `/{camera}` and `/{camera}/{rendition}`.

use std::sync::Arc;

use crate::catalog::{Camera, Catalog, Health, Rendition};
use crate::clock::Timestamp;

/// What gst-rtsp-server appends to an address for each stream of a media.
const CONTROL_PREFIX: &str = "stream=";

/// A camera and the rendition of it that an address names.
#[derive(Clone, Debug)]
pub(super) struct Place {
    camera: Arc<Camera>,
    pub(super) rendition: Arc<Rendition>,
}

impl Place {
    /// The place that the components of a path name; a control at its end is passed over.
    pub(super) fn find<'a>(
        catalog: &Catalog,
        path: impl IntoIterator<Item = &'a str>,
    ) -> Option<Self> {
        let mut path = path.into_iter().filter(|component| !component.is_empty()).peekable();
        let camera = Arc::clone(catalog.camera(path.next()?)?);
        let name = path.next_if(|component| !component.starts_with(CONTROL_PREFIX));
        let rendition = Arc::clone(camera.rendition(name)?);
        let _control = path.next_if(|component| component.starts_with(CONTROL_PREFIX));
        path.next().is_none().then_some(Self { camera, rendition })
    }

    /// Every place there is, with its addresses.
    pub(super) fn all(catalog: &Catalog) -> Vec<(Self, Vec<String>)> {
        let mut places = Vec::new();
        for camera in catalog.cameras() {
            for (index, rendition) in camera.renditions.iter().enumerate() {
                let mut paths = vec![format!("/{}/{}", camera.id, rendition.name)];
                if index == 0 {
                    paths.push(format!("/{}", camera.id));
                }
                let place = Self { camera: Arc::clone(camera), rendition: Arc::clone(rendition) };
                places.push((place, paths));
            }
        }
        places
    }

    /// Why nothing can be watched there now, in words; `None` where frames flow.
    pub(super) fn unready_reason(&self, now: Timestamp) -> Option<String> {
        if let Health::Lost { reason } = self.camera.status().health {
            return Some(reason);
        }
        if self.rendition.format().is_none() {
            return Some("no key frame has come yet".into());
        }
        let idle = now.since(self.rendition.last_frame()?);
        (idle > self.camera.watchdog_timeout)
            .then(|| format!("no frame has come for {} ms", idle.as_millis()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::catalog::Format;
    use crate::distributor::{self, Limits};

    const WATCHDOG: Duration = Duration::from_secs(2);

    fn catalog() -> Catalog {
        let limits =
            Limits { ring_frames: 8, subscribers_max: 2, lag_frames_max: 4, join_frames_max: 2 };
        let renditions = ["main", "low"].map(|name| {
            let (_publisher, hub) = distributor::channel(limits).unwrap();
            Rendition::new("cam".into(), name.into(), hub)
        });
        let (camera, _) =
            Camera::new("cam".into(), renditions.into(), "simulated".into(), WATCHDOG);
        Catalog::new(vec![camera])
    }

    fn found(path: &str) -> Option<String> {
        let place = Place::find(&catalog(), path.split('/'))?;
        Some(place.rendition.name.to_string())
    }

    #[test]
    fn an_address_names_a_rendition_with_or_without_a_control() {
        for path in ["/cam", "/cam/", "/cam/main", "/cam/stream=0", "/cam/main/stream=0"] {
            assert_eq!(found(path).as_deref(), Some("main"), "{path}");
        }
        assert_eq!(found("/cam/low/stream=0").as_deref(), Some("low"));
        for path in ["", "/", "/other", "/cam/other", "/cam/low/more", "/cam/stream=0/low"] {
            assert_eq!(found(path), None, "{path}");
        }
    }

    #[test]
    fn a_place_is_ready_while_frames_flow_and_says_why_when_they_do_not() {
        let place = Place::find(&catalog(), ["cam"]).unwrap();
        let now = Timestamp::now();
        assert!(place.unready_reason(now).unwrap().contains("key frame"));
        let (sps, pps) = (vec![0x67, 0x42, 0xc0, 0x1f], vec![0x68]);
        let format = Format { width: 1280, height: 720, framerate: (30, 1), sps, pps };
        place.rendition.set_format(format);
        place.rendition.saw_frame(now);
        assert_eq!(place.unready_reason(now.plus(WATCHDOG)), None);
        let later = now.plus(WATCHDOG + Duration::from_millis(1));
        assert_eq!(place.unready_reason(later).unwrap(), "no frame has come for 2001 ms");
        let lost = Health::Lost { reason: "unplugged".into() };
        place.camera.update_status(|status| status.health = lost);
        assert_eq!(place.unready_reason(now).unwrap(), "unplugged");
    }
}
