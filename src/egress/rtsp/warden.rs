//! Looks at every request before gst-rtsp-server does: whether it makes sense, who asks, whether they
//! may, and whether there is something to watch now. Who is refused gets the whole answer from here,
//! with what the library could not say: how to prove oneself, and when to come back.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use glib::GString;
use gst_rtsp::{RTSPHeaderField, RTSPMethod, RTSPStatusCode};
use gst_rtsp_server::RTSPContext;
use gst_rtsp_server::prelude::*;
use gst_rtsp_server::subclass::prelude::*;

use super::address::Place;
use super::client::Client;
use super::connection::Connection;
use super::request::Request;
use super::server::Shared;
use crate::auth::{Credentials, Denied, DigestAnswer, Visitor};
use crate::clock::{Timestamp, whole_seconds};
use crate::log;
use crate::metrics;
use crate::password::REALM;

/// When to come back to a camera that does not deliver.
const AWAY_FOR: Duration = Duration::from_secs(2);

glib::wrapper! {
    /// What gst-rtsp-server asks whether a request may pass.
    pub struct Warden(ObjectSubclass<imp::Warden>) @extends gst_rtsp_server::RTSPAuth;
}

impl Warden {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        let warden: Self = glib::Object::new();
        // A new object's cell is empty.
        let _ = warden.imp().shared.set(Arc::clone(shared));
        warden
    }
}

/// Why a request does not pass, as its answer says it.
struct Refused {
    status: RTSPStatusCode,
    /// Its short name in metrics.
    kind: &'static str,
    reason: String,
    headers: Vec<(RTSPHeaderField, String)>,
}

impl Refused {
    fn new(status: RTSPStatusCode, kind: &'static str, reason: impl Into<String>) -> Self {
        Self { status, kind, reason: reason.into(), headers: Vec::new() }
    }

    /// For what passes by itself.
    fn busy(kind: &'static str, reason: impl Into<String>, retry_after: Duration) -> Self {
        let seconds = whole_seconds(retry_after).max(1);
        let retry_after = (RTSPHeaderField::RetryAfter, seconds.to_string());
        let refused = Self::new(RTSPStatusCode::ServiceUnavailable, kind, reason);
        Self { headers: vec![retry_after], ..refused }
    }

    fn denied(denied: Denied, connection: &Connection, has_digest: bool) -> Self {
        if let Some(retry_after) = denied.retry_after() {
            return Self::busy(denied.as_str(), denied.to_string(), retry_after);
        }
        let basic = format!("Basic realm=\"{REALM}\"");
        // Players take the first that they know.
        let digest = has_digest.then(|| connection.nonce().challenge());
        let challenges = digest.into_iter().chain([basic]);
        let headers = challenges.map(|one| (RTSPHeaderField::WwwAuthenticate, one)).collect();
        Self {
            headers,
            ..Self::new(RTSPStatusCode::Unauthorized, denied.as_str(), denied.to_string())
        }
    }

    fn answer(&self, ctx: &RTSPContext) {
        let (Some(client), Some(response)) = (ctx.client(), ctx.response()) else { return };
        response.init_response(self.status, ctx.request());
        for (field, value) in &self.headers {
            response.add_header(*field, value);
        }
        // One that has gone needs no answer.
        let _ = client.send_message(response, ctx.session());
    }
}

mod imp {
    use super::*;

    #[derive(Default)]
    pub struct Warden {
        pub(super) shared: OnceLock<Arc<Shared>>,
    }

    #[glib::object_subclass]
    impl ObjectSubclass for Warden {
        const NAME: &'static str = "LenslineRtspWarden";
        type Type = super::Warden;
        type ParentType = gst_rtsp_server::RTSPAuth;
    }

    impl ObjectImpl for Warden {}

    impl RTSPAuthImpl for Warden {
        fn check(&self, ctx: &RTSPContext, check: &GString) -> bool {
            match check.as_str() {
                // Asked for every request, before it is looked at otherwise.
                "auth.check.url" => self.judge(ctx),
                // Where packets go is not for the viewer to say: they go to the viewer.
                "auth.check.transport.client-settings" => false,
                // What a request means has been judged by then.
                _ => true,
            }
        }
    }

    impl Warden {
        fn judge(&self, ctx: &RTSPContext) -> bool {
            let client = ctx.client().and_then(|client| client.downcast_ref::<Client>());
            let connection = client.and_then(Client::connection);
            let (Some(connection), Some(shared)) = (connection, self.shared.get()) else {
                return false;
            };
            let Err(refused) = pass(ctx, &connection, shared) else { return true };
            shared.metrics.refused(metrics::RTSP_DOOR, refused.kind);
            // What cannot be read cannot be shown either.
            let readable = ctx.request().is_some_and(|it| Request::new(it).has_readable_address());
            let uri = ctx.uri().filter(|_| readable);
            let path = uri.map(|uri| uri.decode_path_components().join("/"));
            let (status, reason) = (refused.status, &refused.reason);
            // Every player asks without credentials first.
            if refused.kind != Denied::Missing.as_str()
                && let Some(suppressed) = log::heard()
            {
                let address = connection.address();
                tracing::info!(%address, path, ?status, reason, suppressed, "RTSP request refused");
            }
            refused.answer(ctx);
            false
        }
    }
}

fn pass(ctx: &RTSPContext, connection: &Connection, shared: &Shared) -> Result<(), Refused> {
    connection.touch();
    let unknown = || Refused::new(RTSPStatusCode::BadRequest, "bad-request", "this is no request");
    let request = Request::new(ctx.request().ok_or_else(unknown)?);
    let method = request.method().ok_or_else(unknown)?;
    if !request.has_readable_address() {
        let reason = "the address is no text";
        return Err(Refused::new(RTSPStatusCode::BadRequest, "bad-request", reason));
    }
    request.check().map_err(|(status, reason)| Refused::new(status, "not-live", reason))?;
    match method {
        // What may be asked for is no secret.
        RTSPMethod::OPTIONS => return Ok(()),
        RTSPMethod::ANNOUNCE | RTSPMethod::RECORD => {
            let reason = "nothing is recorded here";
            return Err(Refused::new(RTSPStatusCode::MethodNotAllowed, "wrong-method", reason));
        }
        _ => {}
    }
    let visitor = visitor(request, method, connection, shared)?;
    let path = ctx.uri().map(|uri| uri.decode_path_components()).unwrap_or_default();
    let path = || path.iter().map(GString::as_str);
    let camera = path().find(|component| !component.is_empty());
    if camera.is_some_and(|camera| !visitor.may_watch(camera)) {
        let reason = "these credentials are not for this camera";
        return Err(Refused::new(RTSPStatusCode::Forbidden, "not-permitted", reason));
    }
    if let Some(user) = visitor.name() {
        let admitted = connection.admit(&shared.admission, user);
        admitted.map_err(|refusal| {
            let labels = ["rtsp", refusal.as_str()];
            shared.metrics.sessions_refused.with_label_values(&labels).inc();
            Refused::busy(refusal.as_str(), refusal.to_string(), refusal.retry_after())
        })?;
    }
    let place = Place::find(&shared.catalog, path());
    if matches!(method, RTSPMethod::DESCRIBE | RTSPMethod::SETUP | RTSPMethod::PLAY) {
        let nowhere = || {
            Refused::new(RTSPStatusCode::NotFound, "unknown-camera", "no such camera or rendition")
        };
        // Answered at once, so that nobody waits for a camera that does not deliver.
        if let Some(reason) = place.ok_or_else(nowhere)?.unready_reason(Timestamp::now()) {
            return Err(Refused::busy("camera-away", reason, AWAY_FOR));
        }
    }
    // Who has a session for a media asks on for it, and gets no other.
    let begins =
        matches!(method, RTSPMethod::DESCRIBE | RTSPMethod::SETUP) && ctx.session().is_none();
    if begins && connection.is_full() {
        let reason = "the connection has as many medias as it may have";
        return Err(Refused::busy("medias-per-connection", reason, AWAY_FOR));
    }
    Ok(())
}

/// Who asks: as the request says, or as an earlier one on this connection did.
fn visitor(
    request: Request<'_>,
    method: RTSPMethod,
    connection: &Connection,
    shared: &Shared,
) -> Result<Visitor, Refused> {
    let auth = &shared.auth;
    if auth.is_open() {
        return Ok(Visitor::default());
    }
    let clock = || Timestamp::now().since_boot();
    let address: IpAddr = connection.address().ip();
    let given = request.header(RTSPHeaderField::Authorization);
    let found = match &given {
        None => {
            connection.visitor().filter(|visitor| auth.is_current(visitor)).ok_or(Denied::Missing)
        }
        Some(given) => match (Credentials::parse(given), DigestAnswer::parse(given)) {
            (Some(credentials), _) => auth.authenticate(address, &credentials, clock),
            (None, Some(answer)) => {
                let nonce = connection.nonce();
                auth.authenticate_digest(address, &answer, name(method), nonce, clock())
            }
            (None, None) => Err(Denied::Missing),
        },
    };
    match found {
        // What the connection plays, and what is counted and ended with it, is one user's.
        Ok(visitor) if connection.user().is_some_and(|user| Some(user) != visitor.name()) => {
            let reason = "the connection is another user's";
            Err(Refused::new(RTSPStatusCode::Forbidden, "not-permitted", reason))
        }
        Ok(visitor) => {
            connection.set_visitor(&visitor);
            Ok(visitor)
        }
        Err(denied) => Err(Refused::denied(denied, connection, auth.has_digest())),
    }
}

/// The method as it stands in the request, which Digest signs.
fn name(method: RTSPMethod) -> &'static str {
    match method {
        RTSPMethod::DESCRIBE => "DESCRIBE",
        RTSPMethod::SETUP => "SETUP",
        RTSPMethod::PLAY => "PLAY",
        RTSPMethod::PAUSE => "PAUSE",
        RTSPMethod::TEARDOWN => "TEARDOWN",
        RTSPMethod::GET_PARAMETER => "GET_PARAMETER",
        RTSPMethod::SET_PARAMETER => "SET_PARAMETER",
        _ => "",
    }
}
