//! The composition root: the only file that knows every stage.

use crate::config::Config;
use crate::error::Error;

/// Runs everything that `config` asks for until SIGINT or SIGTERM.
///
/// # Errors
/// What ended it otherwise.
pub async fn run(_config: Config) -> Result<(), Error> {
    let mut terminate =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
            .map_err(|error| Error::Internal(format!("cannot listen for signals: {error}")))?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(())
}
