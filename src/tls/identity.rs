//! What a door shows of itself, as long as it is open.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::material::{Files, Flaw, Material};
use crate::shutdown::Stopping;

/// How long a peer may take for its handshake, from the connection on.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Bytes that may wait inside TLS for a peer that does not read: one record.
const WAITING_BYTES_MAX: usize = 16 << 10;

/// The first byte of every TLS connection: a record with a handshake in it.
const HANDSHAKE: u8 = 0x16;

/// One door's certificate and key. Cheap to clone; clones change together.
#[derive(Clone, Debug)]
pub struct Identity {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    door: &'static str,
    files: Files,
    protocols: &'static [&'static [u8]],
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    config: Arc<ServerConfig>,
    not_after: Duration,
    /// The files as they were when they were last read, whether they were of use or not.
    read: Stamps,
    /// The files as they were when they were last looked at.
    seen: Stamps,
}

/// Why nobody came in.
#[derive(Debug, thiserror::Error)]
pub enum Unmet {
    /// The peer does not begin with TLS.
    #[error("what came is not TLS")]
    Plain(TcpStream),
    /// It took too long.
    #[error("no TLS handshake within {} s", HANDSHAKE_TIMEOUT.as_secs())]
    Slow,
    /// It went wrong, or the peer left.
    #[error("{0}")]
    Failed(#[from] std::io::Error),
}

impl Unmet {
    /// The name used in metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Plain(_) => "plain",
            Self::Slow => "slow",
            Self::Failed(_) => "failed",
        }
    }
}

impl Identity {
    /// Reads the files of `door`, a name for the log and the metrics; `protocols` are those that it
    /// speaks inside TLS (ALPN), any where empty.
    ///
    /// # Errors
    /// Why the files cannot be used.
    pub fn load(
        door: &'static str,
        files: Files,
        protocols: &'static [&'static [u8]],
    ) -> Result<Self, Flaw> {
        let read = stamps(&files);
        let Material { config, not_after, remarks } = Material::read(&files, protocols)?;
        for remark in remarks {
            tracing::warn!(door, "TLS: {remark}");
        }
        let state = Mutex::new(State { config, not_after, read, seen: read });
        Ok(Self { inner: Arc::new(Inner { door, files, protocols, state }) })
    }

    /// The door's name.
    pub fn door(&self) -> &'static str {
        self.inner.door
    }

    /// When the certificate in use expires, since the Unix epoch.
    pub fn not_after(&self) -> Duration {
        self.state().not_after
    }

    /// Reads the files again, whether they have changed or not. What cannot be used is logged, and
    /// what was there before stays. Nobody who is in notices; sessions of TLS are not resumed.
    ///
    /// # Errors
    /// Why the files cannot be used.
    pub fn reload(&self) -> Result<(), Flaw> {
        let Inner { door, files, protocols, .. } = &*self.inner;
        // Taken before they are read: what changes meanwhile is seen at the next look.
        self.state().read = stamps(files);
        match Material::read(files, protocols) {
            Ok(Material { config, not_after, remarks }) => {
                for remark in remarks {
                    tracing::warn!(door, "TLS: {remark}");
                }
                let mut state = self.state();
                (state.config, state.not_after) = (config, not_after);
                tracing::info!(
                    door,
                    certificate = %files.certificate.display(),
                    "the certificate was read anew"
                );
                Ok(())
            }
            Err(flaw) => {
                tracing::error!(door, "TLS: the certificate from before stays in use: {flaw}");
                Err(flaw)
            }
        }
    }

    /// Shakes hands with a peer, within [`HANDSHAKE_TIMEOUT`]; TLS goes over what `wrap` makes of
    /// its socket.
    ///
    /// # Errors
    /// Why nobody came in.
    pub async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: TcpStream,
        wrap: impl FnOnce(TcpStream) -> S,
    ) -> Result<TlsStream<S>, Unmet> {
        let greeted = timeout(HANDSHAKE_TIMEOUT, async {
            let mut first = [0];
            if stream.peek(&mut first).await? > 0 && first[0] != HANDSHAKE {
                return Err(Unmet::Plain(stream));
            }
            let config = Arc::clone(&self.state().config);
            let bounded = |session: &mut rustls::ServerConnection| {
                session.set_buffer_limit(Some(WAITING_BYTES_MAX));
            };
            Ok(TlsAcceptor::from(config).accept_with(wrap(stream), bounded).await?)
        });
        greeted.await.map_err(|_| Unmet::Slow)?
    }

    /// Reads the files again if they have changed. A change is taken when two looks in a row have
    /// seen it: what is being written may not be whole, or lack its other half.
    pub(super) fn look(&self) {
        let now = stamps(&self.inner.files);
        let mut state = self.state();
        let settled = state.seen == now;
        state.seen = now;
        if settled && state.read != now {
            drop(state);
            // It has logged what is wrong, and says it once for what it is.
            let _ = self.reload();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the files of `identities` again as they change, until `stopping`.
pub async fn watch(identities: Vec<Identity>, mut stopping: Stopping) {
    if identities.is_empty() {
        return stopping.wait().await;
    }
    let mut turn = interval(LOOK_EVERY);
    loop {
        tokio::select! {
            () = stopping.wait() => return,
            _ = turn.tick() => {}
        }
        let identities = identities.clone();
        let looked = tokio::task::spawn_blocking(move || {
            identities.iter().for_each(Identity::look);
        });
        if let Err(error) = looked.await {
            tracing::error!(%error, "the certificates were not looked at");
        }
    }
}

/// What tells one state of certificate and key from another; `None` where there is no such file.
type Stamps = [Option<Stamp>; 2];

/// What of a file changes with it. The time is that of the last change of any kind, also of its
/// owner and mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    bytes: u64,
    changed: (i64, i64),
}

fn stamps(files: &Files) -> Stamps {
    let stamp = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Stamp {
            file: (metadata.dev(), metadata.ino()),
            bytes: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    };
    [stamp(&files.certificate), stamp(&files.key)]
}
