//! What every request passes first: who asks, from which page, and for how long.
//!
//! Against DNS rebinding, a server on a loopback address answers only to loopback names, and one
//! without users elsewhere only to names that no stranger can have in the public DNS; with users a
//! rebound name is worth nothing, since browsers keep credentials by name. Against pages of others,
//! a request with an `Origin` that is neither ours nor allowed is refused whatever it asks for:
//! browsers send `Origin` with everything that changes something, with every WebSocket and with
//! every cross-origin read. What they load without it, as pictures, `Sec-Fetch-Site` tells.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::{self, Problem};
use super::{DOOR, Shared};
use crate::metrics::Metrics;

/// The longest a request may take, its body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// The longest a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest body that is read.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;

/// For a year, this host is not to be spoken to unencrypted. Others below its name are not meant.
const STRICT_TRANSPORT: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// The gate's rules.
#[derive(Debug)]
pub(super) struct Gate {
    allowed_origins: Vec<String>,
    allowed_hosts: Vec<String>,
    loopback_only: bool,
    /// Whether it is spoken inside TLS, and nothing else is answered.
    tls: bool,
    content_security_policy: Option<HeaderValue>,
}

impl Gate {
    pub(super) fn new(
        allowed_origins: &[String],
        allowed_hosts: &[String],
        loopback_only: bool,
        tls: bool,
    ) -> Self {
        let allowed_origins: Vec<String> =
            allowed_origins.iter().filter_map(|origin| normal_origin(origin)).collect();
        // Who may use us may also show us in a frame.
        let ancestors =
            allowed_origins.iter().fold("'self'".to_owned(), |all, one| all + " " + one);
        let policy = format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
             media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
             frame-ancestors {ancestors}"
        );
        let content_security_policy = HeaderValue::try_from(policy).ok();
        let allowed_hosts = allowed_hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        Self { allowed_origins, allowed_hosts, loopback_only, tls, content_security_policy }
    }

    /// Whether the request may come in; with the origin to be named to the browser, if any.
    /// `open` says that no credentials are asked for.
    fn check(
        &self,
        method: &Method,
        headers: &HeaderMap,
        open: bool,
    ) -> Result<Option<HeaderValue>, Problem> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = hosts.next().and_then(|host| host.to_str().ok());
        if hosts.next().is_some() {
            return Err(two_hosts());
        }
        self.check_host(host.unwrap_or_default(), open)?;
        let Some(origin) = headers.get(header::ORIGIN) else {
            return if is_taken_by_another_page(method, headers) {
                Err(foreign_origin())
            } else {
                Ok(None)
            };
        };
        let normal = origin.to_str().ok().and_then(normal_origin);
        // A page that came unencrypted is anybody's who sits on the way.
        let trusted = |normal: &str| !self.tls || normal.starts_with("https://");
        let ours =
            |normal: &str| trusted(normal) && host.is_some_and(|host| is_same_host(normal, host));
        let listed = |normal: &String| self.allowed_origins.contains(normal);
        if normal.is_some_and(|normal| ours(&normal) || listed(&normal)) {
            return Ok(Some(origin.clone()));
        }
        Err(foreign_origin())
    }

    fn check_host(&self, host: &str, open: bool) -> Result<(), Problem> {
        let name = host_name(host).to_ascii_lowercase();
        if self.allowed_hosts.contains(&name) {
            return Ok(());
        }
        if self.loopback_only && !is_loopback(&name) {
            return Err(forbidden(
                "wrong-host",
                "This server answers only to loopback names",
                match self.tls {
                    true => {
                        "open it as https://127.0.0.1:PORT/ or https://localhost:PORT/, or add the \
                         name to server.allowed_hosts"
                    }
                    false => {
                        "open it as http://127.0.0.1:PORT/ or http://localhost:PORT/, or add the \
                         name to server.allowed_hosts"
                    }
                },
            ));
        }
        if open && is_public_name(&name) {
            return Err(forbidden(
                "wrong-host",
                "Without users, this server answers only to addresses and local names",
                "add the name to server.allowed_hosts, or users to auth.users",
            ));
        }
        Ok(())
    }

    fn decorate(&self, headers: &mut HeaderMap, origin: Option<HeaderValue>) {
        let fixed = [
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
            (
                HeaderName::from_static("permissions-policy"),
                "camera=(), microphone=(), geolocation=()",
            ),
        ];
        for (name, value) in fixed {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Some(policy) = &self.content_security_policy {
            headers.insert(header::CONTENT_SECURITY_POLICY, policy.clone());
        }
        if self.tls {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, STRICT_TRANSPORT);
        }
        let no_store = HeaderValue::from_static("no-store");
        headers.entry(header::CACHE_CONTROL).or_insert(no_store);
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(
                header::ACCESS_CONTROL_EXPOSE_HEADERS,
                HeaderValue::from_static(
                    "Location, ETag, Link, Accept-Post, Accept-Patch, Retry-After",
                ),
            );
        }
    }
}

/// The middleware around every route.
pub(super) async fn pass(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let preflight = is_preflight(&request);
    let (mut response, origin) =
        match shared.gate.check(request.method(), request.headers(), shared.http.auth.is_open()) {
            Err(problem) => (problem.into_response(), None),
            Ok(origin) => (timed(request, next, preflight).await, origin),
        };
    if preflight && origin.is_some() {
        allow_preflight(response.headers_mut());
    }
    shared.gate.decorate(response.headers_mut(), origin);
    count_refusal(&shared.http.metrics, &response);
    response
}

/// Counts an answer that is a refusal, under its problem's short name.
fn count_refusal(metrics: &Metrics, response: &Response) {
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        let kind = response.extensions().get::<problem::Kind>();
        metrics.refused(DOOR, kind.map_or("unreadable", |kind| kind.0));
    }
}

/// Reads a body of the one acceptable type.
///
/// # Errors
/// 415 for another type, 413 above [`BODY_BYTES_MAX`], 408 where it comes too slowly.
pub(super) async fn read_body(
    headers: &HeaderMap,
    body: Body,
    content_type: &'static str,
    accept_header: Option<HeaderName>,
) -> Result<Bytes, Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = given.and_then(|given| given.split(';').next()).map(str::trim);
    if !essence.is_some_and(|essence| essence.eq_ignore_ascii_case(content_type)) {
        let problem = Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "wrong-content-type",
            "The body is of the wrong type",
            format!("the body is {}", given.unwrap_or("of no stated type")),
            format!("send it as Content-Type: {content_type}"),
        );
        return Err(match accept_header {
            Some(name) => problem.header(name, HeaderValue::from_static(content_type)),
            None => problem,
        });
    }
    let read = axum::body::to_bytes(body, BODY_BYTES_MAX);
    match tokio::time::timeout(BODY_TIMEOUT, read).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(unreadable(&error)),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "slow-body",
            "The body came too slowly",
            format!("the body was not there after {} s", BODY_TIMEOUT.as_secs()),
            "send the whole body at once",
        )),
    }
}

/// A body that broke off, or one that is too large, which only the error's cause tells.
fn unreadable(error: &axum::Error) -> Problem {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    if cause.contains("length limit") {
        return Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body-too-large",
            "The body is too large",
            format!("the body is larger than {BODY_BYTES_MAX} bytes"),
            "send less; an offer is a few thousand bytes long",
        );
    }
    Problem::new(
        StatusCode::BAD_REQUEST,
        "broken-body",
        "The body could not be read",
        error.to_string(),
        "send the request again",
    )
}

async fn timed(request: Request, next: Next, preflight: bool) -> Response {
    // WHEP answers a preflight itself: its OPTIONS carries more than CORS.
    if preflight && !request.uri().path().starts_with("/whep/") {
        return StatusCode::NO_CONTENT.into_response();
    }
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            Problem::busy("no answer was found in time", Duration::from_secs(2)).into_response()
        }
    }
}

fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn allow_preflight(headers: &mut HeaderMap) {
    let allowed = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST, PATCH, DELETE, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, If-Match"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    for (name, value) in allowed {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// RFC 9112 section 3.2: who stands in front of us may have looked at the other one.
fn two_hosts() -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "two-hosts",
        "Which host is meant?",
        "the request has more than one Host header",
        "send one Host header",
    )
}

fn forbidden(kind: &'static str, detail: &'static str, remedy: &'static str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, kind, "Not from there", detail, remedy)
}

/// `scheme://host[:port]` in lower case and without the scheme's own port.
fn normal_origin(origin: &str) -> Option<String> {
    let origin = origin.trim().trim_end_matches('/').to_ascii_lowercase();
    let (scheme, authority) = origin.split_once("://")?;
    if authority.is_empty() || authority.contains(['/', ' ', ';', ',']) {
        return None;
    }
    Some(format!("{scheme}://{}", without_port(authority, scheme)))
}

/// Whether `origin` (normal) is the host that the request was sent to. The scheme may differ: a
/// proxy in front may speak TLS.
fn is_same_host(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    without_port(&host.to_ascii_lowercase(), scheme) == authority
}

fn without_port<'a>(authority: &'a str, scheme: &str) -> &'a str {
    let port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return authority,
    };
    authority.strip_suffix(port).unwrap_or(authority)
}

fn foreign_origin() -> Problem {
    forbidden(
        "foreign-origin",
        "Pages of this origin may not use this server",
        "add the page's origin to server.allowed_origins",
    )
}

/// Whether another site's page loads this as a part of itself: everything but following a link. The
/// header is of the browser's making, no page can set it (Fetch Metadata).
fn is_taken_by_another_page(method: &Method, headers: &HeaderMap) -> bool {
    let said = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let from_elsewhere = matches!(said("sec-fetch-site"), Some(b"cross-site") | Some(b"same-site"));
    let follows_a_link = *method == Method::GET && said("sec-fetch-mode") == Some(b"navigate");
    from_elsewhere && !follows_a_link
}

/// `Host` without the port.
fn host_name(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(name, _)| name),
        None => host.split(':').next().unwrap_or_default(),
    }
}

/// Whether a name is this machine's loopback.
fn is_loopback(name: &str) -> bool {
    name == "localhost"
        || name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Ends of names that nobody can register: RFC 6761, 6762, 8375, and those of home routers.
const LOCAL_ENDS: [&str; 8] = [
    ".local",
    ".localhost",
    ".home.arpa",
    ".internal",
    ".lan",
    ".home",
    ".localdomain",
    ".fritz.box",
];

/// Whether a stranger could have the name, and point it at us. No `Host` at all is no browser.
fn is_public_name(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name.contains('.')
        && name.parse::<IpAddr>().is_err()
        && !LOCAL_ENDS.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_names_are_told_from_names_that_only_look_like_it() {
        let gate = Gate::new(&[], &["cam.example".into()], true, false);
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.9.9.9:1", "[::1]:8080"] {
            assert!(gate.check_host(host, true).is_ok(), "{host}");
        }
        for host in ["localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.1", "", "[::2]"] {
            assert!(gate.check_host(host, true).is_err(), "{host}");
        }
        assert!(gate.check_host("CAM.example:8080", true).is_ok(), "written out");
    }

    #[test]
    fn without_users_no_name_of_the_public_dns_is_answered() {
        let gate = Gate::new(&[], &[], false, false);
        for host in ["192.0.2.1:80", "[2001:db8::1]", "pi", "pi.local:8080", "pi.fritz.box", ""] {
            assert!(gate.check_host(host, true).is_ok(), "{host}");
        }
        for host in ["evil.example", "192.0.2.1.evil.example:80", "local.evil.", "box.fritz.box.x"]
        {
            assert!(gate.check_host(host, true).is_err(), "{host}");
            assert!(gate.check_host(host, false).is_ok(), "with users: {host}");
        }
    }

    #[test]
    fn what_another_page_loads_into_itself_is_told_from_a_link_that_is_followed() {
        let taken = |method: Method, site: &'static str, mode: &'static str| {
            let headers = [("sec-fetch-site", site), ("sec-fetch-mode", mode)];
            let headers = headers.map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            });
            is_taken_by_another_page(&method, &headers.into_iter().collect())
        };
        assert!(taken(Method::GET, "cross-site", "no-cors"));
        assert!(taken(Method::GET, "same-site", "no-cors"));
        assert!(taken(Method::POST, "cross-site", "navigate"));
        assert!(!taken(Method::GET, "cross-site", "navigate"));
        assert!(!taken(Method::GET, "same-origin", "no-cors"));
        assert!(!taken(Method::GET, "none", "navigate"));
    }

    #[test]
    fn a_request_for_two_hosts_is_for_none() {
        let gate = Gate::new(&[], &[], true, false);
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("localhost"));
        assert!(gate.check(&Method::GET, &headers, true).is_ok());
        headers.append(header::HOST, HeaderValue::from_static("evil.example"));
        assert_eq!(
            gate.check(&Method::GET, &headers, true).unwrap_err().status(),
            StatusCode::BAD_REQUEST
        );
    }

    #[test]
    fn an_origin_is_ours_with_and_without_its_default_port_and_through_a_tls_proxy() {
        for (origin, host) in [
            ("http://cam:8080", "cam:8080"),
            ("http://cam", "cam:80"),
            ("https://Cam", "cam"),
            ("https://cam:443", "cam"),
        ] {
            assert!(is_same_host(&normal_origin(origin).unwrap(), host), "{origin} {host}");
        }
        for (origin, host) in [("http://cam:8081", "cam:8080"), ("http://evil", "cam")] {
            assert!(!is_same_host(&normal_origin(origin).unwrap(), host), "{origin} {host}");
        }
        assert_eq!(normal_origin("null"), None);
    }
}
