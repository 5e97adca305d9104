//! The one place that knows where synchronisation comes from: std, or loom in this crate's own
//! model-checked tests (`cargo test --features loom loom_`, see `ci/loom`).
//!
//! Everything else in `distributor` imports its atomics, its `Arc`, its cell and its waker from
//! here, so that loom sees every hand-over between threads.

#[cfg(not(all(test, feature = "loom")))]
mod primitive {
    pub(in super::super) use std::sync::Arc;
    pub(in super::super) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

    pub(in super::super) use atomic_waker::AtomicWaker;

    /// [`std::cell::UnsafeCell`] behind loom's interface, which shows where an access ends.
    #[derive(Debug)]
    pub(in super::super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(in super::super) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        #[inline]
        pub(in super::super) fn with<R>(&self, access: impl FnOnce(*const T) -> R) -> R {
            access(self.0.get())
        }

        #[inline]
        pub(in super::super) fn with_mut<R>(&self, access: impl FnOnce(*mut T) -> R) -> R {
            access(self.0.get())
        }
    }
}

#[cfg(all(test, feature = "loom"))]
mod primitive {
    pub(in super::super) use loom::cell::UnsafeCell;
    pub(in super::super) use loom::sync::Arc;
    pub(in super::super) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

    use std::sync::PoisonError;
    use std::task::Waker;

    /// What `atomic_waker::AtomicWaker` promises, with a mutex that loom can see: a wake either
    /// finds the registered waker, or happens before the registration. (loom's own mock prints
    /// every operation.)
    #[derive(Debug)]
    pub(in super::super) struct AtomicWaker(loom::sync::Mutex<Option<Waker>>);

    impl AtomicWaker {
        pub(in super::super) fn new() -> Self {
            Self(loom::sync::Mutex::new(None))
        }

        pub(in super::super) fn register(&self, waker: &Waker) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
        }

        pub(in super::super) fn take(&self) -> Option<Waker> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
        }

        pub(in super::super) fn wake(&self) {
            if let Some(waker) = self.take() {
                waker.wake();
            }
        }
    }
}

pub(super) use primitive::{
    Arc, AtomicBool, AtomicU64, AtomicUsize, AtomicWaker, Ordering, UnsafeCell,
};
