//! Pipelines and elements: Null before they are let go.

use std::ops::Deref;

use gst::prelude::*;

use super::{Count, Kind};

/// A pipeline that is set to Null when dropped.
///
/// Setting a pipeline to Null joins its streaming threads: never drop this on one of them, in a
/// GStreamer callback or on a tokio worker; hand it to [`super::Teardowns`].
#[derive(Debug)]
#[must_use = "a pipeline that is dropped stops at once"]
pub struct Pipeline {
    pipeline: gst::Pipeline,
    _count: Count,
}

/// A pipeline did not start.
#[derive(Debug, thiserror::Error)]
#[error("pipeline {name} did not start: {reason}")]
pub struct StartError {
    /// Name of the pipeline.
    pub name: String,
    /// What the element that refused said, or that none said anything. Where a
    /// [`super::BusWatch`] is on the pipeline, its handler got that instead.
    pub reason: String,
}

impl Pipeline {
    /// Guards `pipeline`.
    pub fn new(pipeline: gst::Pipeline) -> Self {
        Self { pipeline, _count: Count::new(Kind::Pipeline) }
    }

    /// Sets the pipeline to Playing. It may get there later; errors then come over the bus.
    ///
    /// # Errors
    /// Where an element refuses at once.
    pub fn start(&self) -> Result<(), StartError> {
        self.reach(gst::State::Playing)
    }

    /// Sets the pipeline to Ready: devices are opened and can be asked what they offer. Blocks
    /// for as long as that takes.
    ///
    /// # Errors
    /// Where a device cannot be opened.
    pub fn open(&self) -> Result<(), StartError> {
        self.reach(gst::State::Ready)
    }

    fn reach(&self, state: gst::State) -> Result<(), StartError> {
        match self.pipeline.set_state(state) {
            Ok(_) => Ok(()),
            Err(error) => Err(StartError {
                name: self.pipeline.name().into(),
                reason: self.first_error().unwrap_or_else(|| error.to_string()),
            }),
        }
    }

    /// The first error on the bus: which element refused a state change, and why. Without the
    /// debug text, in which the password of an address may stand.
    fn first_error(&self) -> Option<String> {
        let message = self.pipeline.bus()?.pop_filtered(&[gst::MessageType::Error])?;
        let gst::MessageView::Error(error) = message.view() else { return None };
        let element = message.src().map_or_else(|| "?".into(), |source| source.name());
        Some(format!("{element}: {}", error.error()))
    }
}

impl Deref for Pipeline {
    type Target = gst::Pipeline;

    fn deref(&self) -> &gst::Pipeline {
        &self.pipeline
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        // Nothing is left to be done about a refusal to stop; the element's own log tells of it.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// An element in a bin that is set to Null and taken out when dropped.
#[derive(Debug)]
#[must_use = "an element that is dropped is taken out at once"]
pub struct Element {
    bin: glib::WeakRef<gst::Bin>,
    element: gst::Element,
    _count: Count,
}

impl Element {
    /// Adds `element` to `bin`.
    ///
    /// # Errors
    /// Where the bin refuses, as it does for a name it has already.
    pub fn add(bin: &gst::Bin, element: gst::Element) -> Result<Self, glib::BoolError> {
        bin.add(&element)?;
        Ok(Self { bin: bin.downgrade(), element, _count: Count::new(Kind::Element) })
    }
}

impl Deref for Element {
    type Target = gst::Element;

    fn deref(&self) -> &gst::Element {
        &self.element
    }
}

impl Drop for Element {
    fn drop(&mut self) {
        // Taken out first: the bin then no longer syncs a state onto it.
        if let Some(bin) = self.bin.upgrade() {
            let _ = bin.remove(&self.element);
        }
        let _ = self.element.set_state(gst::State::Null);
    }
}
