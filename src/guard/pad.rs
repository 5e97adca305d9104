//! Request pads and probes.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gst::prelude::*;

use super::{Count, Kind};

/// A request pad that is unlinked and released when dropped.
#[derive(Debug)]
#[must_use = "a pad that is dropped is released at once"]
pub struct RequestPad {
    element: glib::WeakRef<gst::Element>,
    pad: gst::Pad,
    _count: Count,
}

impl RequestPad {
    /// Requests the pad called `name` from `element`; `None` where it has none to give.
    pub fn request(element: &gst::Element, name: &str) -> Option<Self> {
        let pad = element.request_pad_simple(name)?;
        Some(Self { element: element.downgrade(), pad, _count: Count::new(Kind::RequestPad) })
    }
}

impl Deref for RequestPad {
    type Target = gst::Pad;

    fn deref(&self) -> &gst::Pad {
        &self.pad
    }
}

impl Drop for RequestPad {
    fn drop(&mut self) {
        if let Some(peer) = self.pad.peer() {
            let _ = match self.pad.direction() {
                gst::PadDirection::Src => self.pad.unlink(&peer),
                _ => peer.unlink(&self.pad),
            };
        }
        // An element may have taken the pad off itself by now; giving it back twice is a critical.
        let element = self.element.upgrade();
        if let Some(element) =
            element.filter(|element| self.pad.parent().as_ref() == Some(element.upcast_ref()))
        {
            element.release_request_pad(&self.pad);
        }
    }
}

/// A probe that is removed when dropped.
#[derive(Debug)]
#[must_use = "a probe that is dropped is removed at once"]
pub struct Probe {
    pad: glib::WeakRef<gst::Pad>,
    id: Option<gst::PadProbeId>,
    /// Whether the probe has asked to be removed: its id means nothing any more.
    removed: Arc<AtomicBool>,
    _count: Count,
}

impl Probe {
    /// Puts a probe on `pad`. `None` where an idle probe ran at once and is gone already.
    pub fn add<F>(pad: &gst::Pad, mask: gst::PadProbeType, probe: F) -> Option<Self>
    where
        F: Fn(&gst::Pad, &mut gst::PadProbeInfo) -> gst::PadProbeReturn + Send + Sync + 'static,
    {
        let removed = Arc::new(AtomicBool::new(false));
        let noted = Arc::clone(&removed);
        let id = pad.add_probe(mask, move |pad, info| {
            let result = probe(pad, info);
            if result == gst::PadProbeReturn::Remove {
                noted.store(true, Ordering::Release);
            }
            result
        })?;
        Some(Self { pad: pad.downgrade(), id: Some(id), removed, _count: Count::new(Kind::Probe) })
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // Removing one that is gone is a warning of GStreamer's.
        if self.removed.load(Ordering::Acquire) {
            return;
        }
        if let (Some(pad), Some(id)) = (self.pad.upgrade(), self.id.take()) {
            pad.remove_probe(id);
        }
    }
}
