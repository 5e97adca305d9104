//! Signal handlers.

use glib::prelude::*;

use super::{Count, Kind};

/// A signal handler that is disconnected when dropped.
#[derive(Debug)]
#[must_use = "a handler that is dropped is disconnected at once"]
pub struct Signal {
    object: glib::WeakRef<glib::Object>,
    id: Option<glib::SignalHandlerId>,
    _count: Count,
}

impl Signal {
    /// Guards the handler `id` that was connected to `object`.
    pub fn new(object: &impl IsA<glib::Object>, id: glib::SignalHandlerId) -> Self {
        let object = object.upcast_ref::<glib::Object>().downgrade();
        Self { object, id: Some(id), _count: Count::new(Kind::Signal) }
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        if let (Some(object), Some(id)) = (self.object.upgrade(), self.id.take()) {
            object.disconnect(id);
        }
    }
}
