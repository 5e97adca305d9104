//! One user, and how he is recognised.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use aws_lc_rs::{hmac, rand};

use crate::config::{self, Role, Secret};
use crate::password;

/// Somebody who may come in.
pub(super) struct User {
    pub(super) name: Arc<str>,
    pub(super) role: Role,
    cameras: Option<BTreeSet<String>>,
    hash: Secret,
    digest_ha1: Option<Secret>,
    /// The password that was found right, so that it is recognised without the hash.
    recognised: Mutex<Option<hmac::Tag>>,
}

/// What [`User::recognises`] is keyed with: what it keeps is worth nothing outside this process.
/// Without randomness nobody is recognised, and everybody pays for the hash.
static KEY: LazyLock<Option<hmac::Key>> =
    LazyLock::new(|| hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new()).ok());

impl User {
    pub(super) fn new(config: &config::User) -> Self {
        Self {
            name: config.name.as_str().into(),
            role: config.role,
            cameras: config.cameras.as_ref().map(|cameras| cameras.iter().cloned().collect()),
            hash: config.password_hash.clone(),
            digest_ha1: config.digest_ha1.clone(),
            recognised: Mutex::default(),
        }
    }

    /// Whether nothing of the user has changed.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.has_password_of(other) && self.role == other.role && self.cameras == other.cameras
    }

    /// Whether the user has the same password as before.
    pub(super) fn has_password_of(&self, other: &Self) -> bool {
        self.hash == other.hash && self.digest_ha1 == other.digest_ha1
    }

    pub(super) fn may_watch(&self, camera: &str) -> bool {
        self.cameras.as_ref().is_none_or(|cameras| cameras.contains(camera))
    }

    pub(super) const fn sees_everything(&self) -> bool {
        self.cameras.is_none()
    }

    pub(super) fn digest_ha1(&self) -> Option<&str> {
        self.digest_ha1.as_ref().map(Secret::reveal)
    }

    /// Whether the password was found right before; cheap.
    pub(super) fn recognises(&self, password: &str) -> bool {
        let Some(key) = &*KEY else { return false };
        let recognised = *self.recognised.lock().unwrap_or_else(PoisonError::into_inner);
        recognised.is_some_and(|tag| hmac::verify(key, password.as_bytes(), tag.as_ref()).is_ok())
    }

    /// Whether the password is right. Takes as long as the hash asks for.
    pub(super) fn verify(&self, password: &str) -> bool {
        let right = password::verify(password, self.hash.reveal());
        if let (true, Some(key)) = (right, &*KEY) {
            let tag = hmac::sign(key, password.as_bytes());
            *self.recognised.lock().unwrap_or_else(PoisonError::into_inner) = Some(tag);
        }
        right
    }
}

/// Never shows a hash.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User({:?}, {:?})", self.name, self.role)
    }
}
