//! Anything else that must be undone, and guards that depend on each other.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use super::{Count, Kind};

/// Runs an action once, when dropped.
#[must_use = "a cleanup that is dropped runs at once"]
pub struct Cleanup {
    action: Option<Box<dyn FnOnce() + Send + Sync>>,
    _count: Count,
}

impl Cleanup {
    /// Undoes by `action` what was just done.
    pub fn new(action: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self { action: Some(Box::new(action)), _count: Count::new(Kind::Cleanup) }
    }

    /// Gives the duty up: what was done stays done.
    pub fn dismiss(mut self) {
        self.action = None;
    }

    /// Makes the duty one that several share: the last to go runs it.
    pub fn share(self) -> Shared {
        Shared { _cleanup: Arc::new(self) }
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        if let Some(action) = self.action.take() {
            action();
        }
    }
}

impl fmt::Debug for Cleanup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cleanup").field("pending", &self.action.is_some()).finish()
    }
}

/// A [`Cleanup`] with several owners.
#[derive(Clone, Debug)]
#[must_use = "the cleanup runs when the last owner is dropped"]
pub struct Shared {
    _cleanup: Arc<Cleanup>,
}

/// Guards that are dropped last-in first-out, whatever order their owner declares them in.
#[derive(Default)]
pub struct Stack {
    guards: Vec<Box<dyn Any + Send + Sync>>,
}

impl Stack {
    /// A stack with nothing on it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a guard on top: it goes before everything that is on the stack now.
    pub fn push(&mut self, guard: impl Any + Send + Sync) {
        self.guards.push(Box::new(guard));
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Some(top) = self.guards.pop() {
            // In a stack of their own, the rest go next also where dropping the top panics.
            let _rest = Self { guards: std::mem::take(&mut self.guards) };
            drop(top);
        }
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack").field("guards", &self.guards.len()).finish()
    }
}
