//! Elements as plain values: decided by pure functions, compared in tests, built in one place.

use std::fmt;

use glib::prelude::*;
use gst::prelude::*;

/// One element to be made: its factory, and properties in the words of `gst-launch-1.0`.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Spec {
    pub factory: &'static str,
    properties: Vec<(&'static str, String)>,
}

/// An element could not be made.
#[derive(Debug, thiserror::Error)]
#[error("element {element}: {reason}")]
pub(super) struct SpecError {
    pub element: &'static str,
    pub reason: String,
}

impl Spec {
    /// An element of `factory` with its properties as they are by default.
    pub(super) const fn new(factory: &'static str) -> Self {
        Self { factory, properties: Vec::new() }
    }

    /// A filter that lets only `caps` through.
    pub(super) fn caps(caps: impl ToString) -> Self {
        Self::new("capsfilter").with("caps", caps)
    }

    /// A queue of one buffer that drops the older one: a hand-over to another thread that never
    /// makes the source wait.
    pub(super) fn hand_over() -> Self {
        Self::new("queue")
            .with("leaky", "downstream")
            .with("max-size-buffers", 1)
            .with("max-size-bytes", 0)
            .with("max-size-time", 0)
    }

    /// The same with one more property set.
    pub(super) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.properties.push((name, value.to_string()));
        self
    }

    /// The value of a property as it was set.
    #[cfg(test)]
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
    }

    /// Makes the element.
    ///
    /// # Errors
    /// Where GStreamer has no such element, or it no such property or value.
    pub(super) fn build(&self) -> Result<gst::Element, SpecError> {
        let fail = |reason: String| SpecError { element: self.factory, reason };
        let element = gst::ElementFactory::make(self.factory)
            .build()
            .map_err(|error| fail(error.to_string()))?;
        for (name, value) in &self.properties {
            let pspec = element
                .find_property(name)
                .ok_or_else(|| fail(format!("it has no property `{name}`")))?;
            let value = glib::Value::deserialize_with_pspec(value, &pspec)
                .map_err(|_| fail(format!("property `{name}` refuses its value")))?;
            element.set_property_from_value(name, &value);
        }
        Ok(element)
    }
}

/// As in `gst-launch-1.0`, without the passwords.
impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.factory)?;
        for (name, value) in &self.properties {
            let shown = if *name == "user-pw" { "***" } else { value };
            write!(f, " {name}={shown}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_of_every_kind_are_set_and_wrong_ones_are_errors_not_panics() {
        gst::init().unwrap();
        let queue = Spec::hand_over().build().unwrap();
        assert_eq!(queue.property::<u32>("max-size-buffers"), 1);
        let filter = Spec::caps("video/x-raw,width=4,framerate=30/1").build().unwrap();
        let caps = filter.property::<gst::Caps>("caps");
        assert_eq!(caps.structure(0).unwrap().get::<i32>("width"), Ok(4));
        for wrong in [
            Spec::new("no-such-element"),
            Spec::new("queue").with("no-such-property", 1),
            Spec::new("queue").with("max-size-buffers", "many"),
        ] {
            assert!(wrong.build().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let spec = Spec::new("rtspsrc").with("user-id", "me").with("user-pw", "secret");
        assert_eq!(format!("{spec:?}"), "rtspsrc user-id=me user-pw=***");
    }
}
