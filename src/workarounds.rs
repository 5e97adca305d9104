//! What we do because of a bug elsewhere: one table, with the version that no longer needs it.
//!
//! GStreamer 1.22 (bookworm) and 1.26 (trixie) are both supported. `lensline probe` and
//! `/api/v1/status` show which rows are active. Debian adds fixes of security bugs to its old
//! versions without changing these numbers: a row that is active without need costs little.

use std::fmt;

use serde::{Serialize, Serializer};

/// A version of GStreamer: major, minor, micro.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

/// One thing we do because of a bug elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Workaround {
    /// Its name, as the code that does it refers to it.
    pub id: &'static str,
    /// The commit, issue or CVE.
    pub bug: &'static str,
    /// What is wrong, and what we do instead.
    pub what: &'static str,
    /// The first version of GStreamer without the bug; none where there is none yet.
    pub fixed_in: Option<Version>,
}

/// Every workaround there is.
pub const ALL: &[Workaround] = &[
    Workaround {
        id: "v4l2-force-key-frame",
        bug: "gstreamer c8416a3b5c",
        what: "v4l2h264enc ignores force-key-unit events; key frames are forced through \
               extra-controls",
        fixed_in: Some(Version(1, 22, 4)),
    },
    Workaround {
        id: "v4l2-bitrate-by-controls",
        bug: "gst-plugins-rs 4f9246234",
        what: "v4l2h264enc has no bitrate property; the bitrate is set through extra-controls",
        fixed_in: Some(Version(1, 30, 0)),
    },
    Workaround {
        id: "v4l2-level-in-caps",
        bug: "raspberrypi/linux#3974",
        what: "v4l2h264enc takes level 1.0 where none is given; the level is put into the caps",
        fixed_in: Some(Version(1, 30, 0)),
    },
    Workaround {
        id: "appsrc-leaky-upstream",
        bug: "gstreamer a89f33c86c",
        what: "a leaky=upstream appsrc answers with end-of-stream; frames are dropped before it",
        fixed_in: Some(Version(1, 22, 8)),
    },
    Workaround {
        id: "webrtcbin-close-barrier",
        bug: "gstreamer 0a23782aea, d59cc622f2",
        what: "webrtcbin leaks or hangs when stopped with operations under way; a round of \
               get-stats is waited for first",
        fixed_in: Some(Version(1, 30, 0)),
    },
    Workaround {
        id: "webrtcbin-mdns-candidates",
        bug: "gstreamer d3ca0fe267, c6fd2c9372, c4c79b7275",
        what: "a name that is still being resolved when webrtcbin stops leaks a context; .local \
               candidates that cannot be resolved are dropped before it",
        fixed_in: Some(Version(1, 30, 0)),
    },
    Workaround {
        id: "webrtcbin-aux-sender-floating",
        bug: "gstreamer c9af1d486a",
        what: "webrtcbin leaks an aux sender that is not floating; ours is handed over floating",
        fixed_in: Some(Version(1, 26, 0)),
    },
    Workaround {
        id: "dtls-fingerprint",
        bug: "gstreamer cae6e210f6",
        what: "webrtcbin does not compare the peer's DTLS certificate with the fingerprint in its \
               SDP; we do, before the first frame",
        fixed_in: Some(Version(1, 30, 0)),
    },
    Workaround {
        id: "nice-upnp-off",
        bug: "meetecho/simple-whip-client#21",
        what: "libnice asks routers for ports, which costs descriptors and fails after hours; \
               UPnP is switched off",
        fixed_in: None,
    },
    Workaround {
        id: "nice-consent-freshness",
        bug: "libnice f456747e",
        what: "a viewer that vanished is not noticed by ICE; RTCP silence ends the session",
        fixed_in: None,
    },
    Workaround {
        id: "rtsp-shared-restart",
        bug: "gst-rtsp-server 50033d03d3",
        what: "shared and reusable media cannot start again; media are never reused",
        fixed_in: Some(Version(1, 22, 11)),
    },
    Workaround {
        id: "rtsp-rates-assertion",
        bug: "CVE-2024-44331, gst-rtsp-server f3e707c71c",
        what: "invalid Scale and Speed headers hit an assertion; such requests are refused first",
        fixed_in: Some(Version(1, 24, 9)),
    },
];

impl Version {
    /// The version of GStreamer that is running.
    pub fn running() -> Self {
        let (major, minor, micro, _) = gst::version();
        Self(major, minor, micro)
    }
}

impl Workaround {
    /// Whether `version` needs it.
    pub fn is_active(&self, version: Version) -> bool {
        self.fixed_in.is_none_or(|fixed_in| version < fixed_in)
    }
}

/// The workarounds that `version` needs.
pub fn active(version: Version) -> impl Iterator<Item = &'static Workaround> {
    ALL.iter().filter(move |workaround| workaround.is_active(version))
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(version: Version) -> Vec<&'static str> {
        active(version).map(|workaround| workaround.id).collect()
    }

    #[test]
    fn bookworm_needs_them_all_and_trixie_fewer() {
        assert_eq!(ids(Version(1, 22, 0)).len(), ALL.len());
        let trixie = ids(Version(1, 26, 2));
        assert!(!trixie.contains(&"v4l2-force-key-frame"));
        assert!(!trixie.contains(&"rtsp-rates-assertion"));
        assert!(trixie.contains(&"webrtcbin-close-barrier"));
    }

    #[test]
    fn a_workaround_ends_with_the_version_that_has_the_fix() {
        assert!(ids(Version(1, 22, 3)).contains(&"v4l2-force-key-frame"));
        assert!(!ids(Version(1, 22, 4)).contains(&"v4l2-force-key-frame"));
        assert!(ids(Version(99, 0, 0)).contains(&"nice-upnp-off"), "not fixed anywhere");
    }

    #[test]
    fn names_are_unique() {
        let mut ids: Vec<_> = ALL.iter().map(|workaround| workaround.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), ALL.len());
    }
}
