//! Who may come in: users, their passwords, what each may see and do, and patience with guesses.
//!
//! Without users everybody may do everything, and the configuration sees to it that only this
//! machine is listened to unless the owner wrote otherwise. With users:
//!
//! - A password is checked against its argon2id hash, one at a time, and at most
//!   [`WAITING_MAX`] wait for that: guessing costs the guesser time, and the machine one core and
//!   one hash's memory. What was found right is recognised again without the hash, by a keyed
//!   digest that lives only in this process.
//! - Wrong guesses from one address slow that address down (`patience`), never one who shows
//!   credentials that were found right before.
//! - Comparisons take the same time wherever they fail; a user that is not there costs a hash too.
//!
//! Sans-IO: the time is an argument.

mod digest;
mod header;
mod patience;
mod user;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

pub use digest::{DigestAnswer, Nonce};
pub use header::Credentials;

use crate::{config, password};
use patience::Patience;
use user::User;

/// Password checks that may wait for their turn; more are told to come back.
pub const WAITING_MAX: usize = 8;

/// When to come back where too many wait.
const BUSY_FOR: Duration = Duration::from_secs(1);

/// The users and the patience with strangers. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Auth {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    users: RwLock<Arc<Users>>,
    patience: Mutex<Patience>,
    /// Held while a password is checked: one at a time.
    turn: Mutex<()>,
    waiting: AtomicUsize,
}

/// The users by name; empty where everybody may come in.
#[derive(Debug, Default)]
struct Users(HashMap<Arc<str>, Arc<User>>);

/// Somebody who was let in: a user, or anybody where there are no users.
#[derive(Clone, Debug, Default)]
pub struct Visitor(Option<Arc<User>>);

/// Why somebody was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No credentials, or none that can be read.
    #[error("no user name and password were given")]
    Missing,
    /// Wrong credentials.
    #[error("user name or password are wrong")]
    Wrong,
    /// Too many wrong ones from there.
    #[error("too many wrong passwords came from this address")]
    Slow {
        /// When the next guess is listened to.
        retry_after: Duration,
    },
    /// Too many passwords wait to be checked.
    #[error("too many passwords are being checked")]
    Busy {
        /// When it is worth another try.
        retry_after: Duration,
    },
}

impl Denied {
    /// The name used in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "no-credentials",
            Self::Wrong => "wrong-credentials",
            Self::Slow { .. } => "too-many-guesses",
            Self::Busy { .. } => "busy",
        }
    }

    /// When it is worth another try, where waiting helps.
    pub const fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Missing | Self::Wrong => None,
            Self::Slow { retry_after } | Self::Busy { retry_after } => Some(retry_after),
        }
    }
}

impl Auth {
    /// The users of the configuration.
    pub fn new(config: &config::Auth) -> Self {
        let shared = Shared {
            users: RwLock::new(Arc::new(Users::new(config))),
            patience: Mutex::default(),
            turn: Mutex::default(),
            waiting: AtomicUsize::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Puts other users in force; gives the names of those who are gone or have another password.
    pub fn reload(&self, config: &config::Auth) -> Vec<Arc<str>> {
        let mut users = self.shared.users.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *users);
        let mut after = Users::new(config);
        let mut gone = Vec::new();
        for (name, old) in &before.0 {
            match after.0.get_mut(name) {
                // Who is the same is known by what he showed before.
                Some(new) if new.is_like(old) => *new = Arc::clone(old),
                Some(new) if new.has_password_of(old) => {}
                _ => gone.push(Arc::clone(name)),
            }
        }
        *users = Arc::new(after);
        gone
    }

    /// Whether everybody may come in.
    pub fn is_open(&self) -> bool {
        self.users().0.is_empty()
    }

    /// Whether every user can prove himself by Digest (RFC 7616), which no argon2id hash allows.
    pub fn has_digest(&self) -> bool {
        let users = self.users();
        !users.0.is_empty() && users.0.values().all(|user| user.digest_ha1().is_some())
    }

    /// Whether somebody called `name` may watch `camera` by the users that are in force now.
    pub fn is_valid(&self, name: Option<&str>, camera: &str) -> bool {
        let users = self.users();
        match name {
            None => users.0.is_empty(),
            Some(name) => users.0.get(name).is_some_and(|user| user.may_watch(camera)),
        }
    }

    /// Whether somebody who was let in would be let in still, as the same.
    pub fn is_current(&self, visitor: &Visitor) -> bool {
        let users = self.users();
        match &visitor.0 {
            None => users.0.is_empty(),
            Some(user) => users.0.get(&user.name).is_some_and(|now| Arc::ptr_eq(now, user)),
        }
    }

    /// Who shows what was found right before; cheap.
    pub fn recognise(&self, credentials: &Credentials) -> Option<Visitor> {
        let users = self.users();
        if users.0.is_empty() {
            return Some(Visitor::default());
        }
        let mut candidates = users.candidates(credentials);
        let found = candidates.find(|(user, password)| user.recognises(password));
        found.map(|(user, _)| Visitor(Some(Arc::clone(user))))
    }

    /// Checks credentials; `clock` is any that never goes back. Blocks for as long as
    /// hashes of at most [`WAITING_MAX`] visitors take: not for an asynchronous task.
    ///
    /// # Errors
    /// Why they are not let in.
    pub fn authenticate(
        &self,
        address: IpAddr,
        credentials: &Credentials,
        clock: impl Fn() -> Duration,
    ) -> Result<Visitor, Denied> {
        if let Some(visitor) = self.recognise(credentials) {
            return Ok(visitor);
        }
        let _place = Place::take(&self.shared.waiting)?;
        let _turn = self.shared.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // Who waited may have been found right meanwhile, in another request.
        if let Some(visitor) = self.recognise(credentials) {
            return Ok(visitor);
        }
        self.patience().check(address, clock())?;
        match self.users().verify(credentials) {
            Ok(user) => Ok(Visitor(Some(user))),
            Err(hashes) => {
                self.patience().count(address, hashes, clock());
                Err(Denied::Wrong)
            }
        }
    }

    /// Checks a Digest answer to `nonce`; cheap.
    ///
    /// # Errors
    /// Why they are not let in.
    pub fn authenticate_digest(
        &self,
        address: IpAddr,
        answer: &DigestAnswer,
        method: &str,
        nonce: &Nonce,
        now: Duration,
    ) -> Result<Visitor, Denied> {
        let is_right = |user: &&Arc<User>| {
            user.digest_ha1().is_some_and(|ha1| answer.is_right(ha1, method, nonce))
        };
        // A right answer costs nothing to tell, so a neighbour's guesses do not stand in its way.
        if let Some(user) = self.users().0.get(answer.username.as_str()).filter(is_right) {
            return Ok(Visitor(Some(Arc::clone(user))));
        }
        let mut patience = self.patience();
        patience.check(address, now)?;
        patience.count(address, 1, now);
        Err(Denied::Wrong)
    }

    fn patience(&self) -> MutexGuard<'_, Patience> {
        self.shared.patience.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn users(&self) -> Arc<Users> {
        Arc::clone(&self.shared.users.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Visitor {
    /// The user's name.
    pub fn name(&self) -> Option<&Arc<str>> {
        self.0.as_ref().map(|user| &user.name)
    }

    /// Whether they may watch `camera`.
    pub fn may_watch(&self, camera: &str) -> bool {
        self.0.as_ref().is_none_or(|user| user.may_watch(camera))
    }

    /// Whether there is no camera that they may not watch.
    pub fn sees_everything(&self) -> bool {
        self.0.as_ref().is_none_or(|user| user.sees_everything())
    }

    /// Whether they may change things.
    pub fn may_operate(&self) -> bool {
        self.0.as_ref().is_none_or(|user| user.role == config::Role::Operator)
    }
}

impl Users {
    fn new(config: &config::Auth) -> Self {
        let users = config.users.iter().map(User::new).map(|user| (Arc::clone(&user.name), user));
        Self(users.map(|(name, user)| (name, Arc::new(user))).collect())
    }

    /// Whom `credentials` can mean, each with the password it would be. A bearer token is
    /// `name:password`, or the password alone, which can be anybody's.
    fn candidates<'a>(
        &'a self,
        credentials: &'a Credentials,
    ) -> impl Iterator<Item = (&'a Arc<User>, &'a str)> {
        let (named, bare) = match credentials {
            Credentials::Basic { name, password } => {
                (Some((name.as_str(), password.as_str())), None)
            }
            Credentials::Bearer(token) => (token.split_once(':'), Some(token.as_str())),
        };
        let named = named.and_then(|(name, password)| Some((self.0.get(name)?, password)));
        let bare = bare.filter(|_| named.is_none());
        let anybody =
            bare.into_iter().flat_map(|bare| self.0.values().map(move |user| (user, bare)));
        named.into_iter().chain(anybody)
    }

    /// The user whose password it is, or how many hashes it took to find none: at least one, also
    /// where there is no such user.
    fn verify(&self, credentials: &Credentials) -> Result<Arc<User>, u32> {
        let mut hashes = 0;
        for (user, password) in self.candidates(credentials) {
            if user.verify(password) {
                return Ok(Arc::clone(user));
            }
            hashes += 1;
        }
        if hashes == 0 {
            password::pretend(credentials.password());
        }
        Err(hashes.max(1))
    }
}

/// A place among those who wait for their password to be checked.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Result<Self, Denied> {
        let place = Self(waiting);
        // The place is given back where it is one too many.
        match waiting.fetch_add(1, Ordering::Relaxed) {
            before if before < WAITING_MAX => Ok(place),
            _ => Err(Denied::Busy { retry_after: BUSY_FOR }),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
