//! Promises with a bound: webrtcbin may answer with nothing, with an error, or never.

use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::EngineError;

/// Asks webrtcbin by `emit` and waits, at most `bound`, for what it promises.
///
/// # Errors
/// Where the answer is an error, or none comes in time.
pub async fn ask(
    step: &'static str,
    bound: Duration,
    emit: impl FnOnce(&gst::Promise),
) -> Result<Option<gst::Structure>, EngineError> {
    let (sender, receiver) = oneshot::channel();
    let promise = gst::Promise::with_change_func(move |reply| {
        // Nobody waits any more where the bound has passed.
        let _ = sender.send(reply.map(|reply| reply.map(ToOwned::to_owned)));
    });
    emit(&promise);
    drop(promise);
    let reply = tokio::time::timeout(bound, receiver).await;
    let reply = reply.map_err(|_| EngineError::Timeout { step, bound })?;
    let refused = |why: &dyn std::fmt::Display| {
        EngineError::Failed(format!("the WebRTC engine did not {step}: {why}"))
    };
    let reply = match reply {
        Ok(Ok(reply)) => reply,
        Ok(Err(error)) => return Err(refused(&format_args!("{error:?}"))),
        Err(_) => return Err(refused(&"it dropped the promise")),
    };
    match reply.as_ref().and_then(|reply| reply.get::<glib::Error>("error").ok()) {
        Some(error) => Err(refused(&error)),
        None => Ok(reply),
    }
}

/// Asks like [`ask`], but blocks, at most for `bound`; whether there was an answer of any kind.
pub fn answered(bound: Duration, emit: impl FnOnce(&gst::Promise)) -> bool {
    let (sender, receiver) = mpsc::sync_channel(1);
    let promise = gst::Promise::with_change_func(move |_| {
        let _ = sender.try_send(());
    });
    emit(&promise);
    drop(promise);
    receiver.recv_timeout(bound).is_ok()
}
