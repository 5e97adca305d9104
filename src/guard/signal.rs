//! Signal handlers.

use std::fmt;

use glib::prelude::*;

use super::{Count, Kind};

/// A signal handler that is disconnected when dropped, on whatever thread that is.
#[must_use = "a handler that is dropped is disconnected at once"]
pub struct Signal {
    disconnect: Option<Box<dyn FnOnce() + Send + Sync>>,
    _count: Count,
}

impl Signal {
    /// Guards the handler `id` that was connected to `object`.
    pub fn new<T>(object: &T, id: glib::SignalHandlerId) -> Self
    where
        T: IsA<glib::Object> + Send + Sync,
    {
        let object = object.downgrade();
        let disconnect = move || {
            if let Some(object) = object.upgrade() {
                object.disconnect(id);
            }
        };
        Self { disconnect: Some(Box::new(disconnect)), _count: Count::new(Kind::Signal) }
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        if let Some(disconnect) = self.disconnect.take() {
            disconnect();
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signal").finish_non_exhaustive()
    }
}
