//! Network cameras: their H.264 is pulled over RTSP and passed through without encoding.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gst::prelude::*;

use super::lost::{Cause, Lost};
use super::plan::{Feed, Media, Pads, is_shaped};
use super::spec::Spec;
use crate::config;
use crate::error::Error;
use crate::guard::Signal;

/// How long the camera may take for an answer, and to send.
const TCP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a goodbye to the camera may take.
const TEARDOWN_TIMEOUT: Duration = Duration::from_millis(200);

/// Where a network camera is, with what it takes to get in.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Address {
    location: String,
    user: Option<(String, String)>,
}

impl Address {
    /// Takes an address apart, so that its password is in one place only.
    ///
    /// # Errors
    /// Where it is no RTSP address.
    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        let wrong = || {
            Error::Config(
                "camera.source.url is no RTSP address; write it like \
                 \"rtsp://user:password@camera.local:554/stream\""
                    .into(),
            )
        };
        let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
        if !["rtsp", "rtsps", "rtspt", "rtspu"].contains(&scheme) {
            return Err(wrong());
        }
        let path_at = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(path_at);
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        if host.is_empty() {
            return Err(wrong());
        }
        let decode =
            |text: &str| glib::Uri::unescape_string(text, None).map(String::from).ok_or_else(wrong);
        let user = match user.map(|user| user.split_once(':').unwrap_or((user, ""))) {
            Some((name, password)) => Some((decode(name)?, decode(password)?)),
            None => None,
        };
        Ok(Self { location: format!("{scheme}://{host}{path}"), user })
    }

    /// The host, as `rtsp://host[:port]`: many a camera wants its password in path or query.
    pub(super) fn host(&self) -> &str {
        let scheme = self.location.find("://").map_or(0, |at| at + 3);
        let end =
            self.location[scheme..].find(['/', '?']).map_or(self.location.len(), |at| scheme + at);
        &self.location[..end]
    }
}

/// Without the password.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.host())
    }
}

/// Refuses what cannot be done without decoding.
///
/// # Errors
/// Where flip, crop or further renditions are asked for.
pub(super) fn check(config: &config::Camera) -> Result<(), Error> {
    if is_shaped(config) {
        return Err(Error::Config(format!(
            "camera {}: the H.264 of an rtsp source is passed through as it is; \
             remove flip, crop and [[camera.rendition]]",
            config.id
        )));
    }
    Ok(())
}

/// By which elements the camera at `address` is read: over TCP, without a jitter buffer's delay,
/// and with a bound on every wait.
pub(super) fn feed(address: &Address) -> Feed {
    let mut source = Spec::new("rtspsrc")
        .with("location", &address.location)
        .with("protocols", "tcp+tls")
        .with("latency", 0)
        .with("drop-on-latency", true)
        .with("tcp-timeout", TCP_TIMEOUT.as_micros())
        .with("timeout", TCP_TIMEOUT.as_micros())
        .with("teardown-timeout", TEARDOWN_TIMEOUT.as_nanos());
    if let Some((user, password)) = &address.user {
        source = source.with("user-id", user).with("user-pw", password);
    }
    let whole = Spec::caps("video/x-h264,stream-format=byte-stream,alignment=au");
    Feed {
        elements: vec![source, Spec::new("rtph264depay"), whole],
        media: Media::H264,
        pads: Pads::OnConnect,
    }
}

/// Takes the first H.264 stream that `source` (an rtspsrc) announces to `depayloader`, and nothing
/// else. A camera without one is reported.
pub(super) fn connect(
    source: &gst::Element,
    depayloader: &gst::Element,
    report: impl Fn(Lost) + Clone + Send + Sync + 'static,
) -> Vec<Signal> {
    let taken = Arc::new(AtomicBool::new(false));
    let tell = report.clone();
    let select = source.connect("select-stream", false, move |values| {
        let caps = values.get(2).and_then(|value| value.get::<gst::Caps>().ok());
        let wanted = match caps.as_ref().map_or(Stream::Other, stream) {
            Stream::H264 => !taken.swap(true, Ordering::Relaxed),
            Stream::Video(encoding) => {
                tell(unusable(&encoding));
                false
            }
            Stream::Other => false,
        };
        Some(wanted.to_value())
    });
    let depayloader = depayloader.downgrade();
    let added = source.connect_pad_added(move |_, pad| {
        let Some(sink) = depayloader.upgrade().and_then(|element| element.static_pad("sink"))
        else {
            return;
        };
        if sink.is_linked() {
            return;
        }
        if let Err(error) = pad.link(&sink) {
            report(Lost::new(Cause::Error, format!("the camera's stream does not fit: {error}")));
        }
    });
    vec![Signal::new(source, select), Signal::new(source, added)]
}

#[derive(Debug, PartialEq, Eq)]
enum Stream {
    H264,
    Video(String),
    Other,
}

/// What kind of stream the camera announces.
fn stream(caps: &gst::Caps) -> Stream {
    let Some(structure) = caps.structure(0) else { return Stream::Other };
    if structure.get::<&str>("media") != Ok("video") {
        return Stream::Other;
    }
    match structure.get::<&str>("encoding-name") {
        Ok("H264") => Stream::H264,
        Ok(other) => Stream::Video(other.into()),
        Err(_) => Stream::Other,
    }
}

fn unusable(encoding: &str) -> Lost {
    Lost::new(
        Cause::Error,
        format!(
            "the camera sends {encoding}, and only H.264 can be passed through; \
             set its codec to H.264, or use another of its streams"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_taken_out_of_the_address() {
        let address = Address::parse("rtsp://me:s%40cret@10.0.0.7:8554/a?b=c@d").unwrap();
        assert_eq!(address.location, "rtsp://10.0.0.7:8554/a?b=c@d");
        assert_eq!(address.user, Some(("me".into(), "s@cret".into())));
        let shown = format!("{address:?} {:?}", feed(&address));
        assert!(!shown.contains("cret"), "{shown}");
        assert_eq!(address.host(), "rtsp://10.0.0.7:8554");
        assert_eq!(Address::parse("rtsp://host?password=x").unwrap().host(), "rtsp://host");
        assert_eq!(Address::parse("rtsp://host").unwrap().user, None);
    }

    #[test]
    fn what_is_no_rtsp_address_is_refused() {
        for url in ["", "host/stream", "http://host/", "rtsp:///stream", "rtsp://user@/x"] {
            assert!(Address::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn only_h264_is_taken_and_h265_is_named() {
        gst::init().unwrap();
        let caps = |media: &str, encoding: &str| {
            gst::Caps::builder("application/x-rtp")
                .field("media", media)
                .field("encoding-name", encoding)
                .build()
        };
        assert_eq!(stream(&caps("video", "H264")), Stream::H264);
        assert_eq!(stream(&caps("video", "H265")), Stream::Video("H265".into()));
        assert_eq!(stream(&caps("audio", "MPEG4-GENERIC")), Stream::Other);
        assert!(unusable("H265").reason.contains("sends H265"));
    }

    #[test]
    fn what_needs_a_decoder_is_refused() {
        let turned = config::Camera { flip: config::Flip::Rotate180, ..config::Camera::default() };
        assert!(check(&turned).is_err());
        assert!(check(&config::Camera::default()).is_ok());
    }
}
