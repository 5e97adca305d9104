//! What TLS at the doors counts.

use prometheus::{IntCounterVec, IntGaugeVec};

use super::Family;

/// The figures of TLS, by door: `http` or `rtsp`.
#[derive(Debug)]
pub struct Tls {
    /// `lensline_tls_handshakes_total{door,outcome}`
    pub handshakes: IntCounterVec,
    /// `lensline_tls_certificate_expires_seconds{door}`: when, since the Unix epoch.
    pub certificate_expires: IntGaugeVec,
}

impl Tls {
    pub(super) fn new(family: &Family<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            handshakes: family.counter(
                "lensline_tls_handshakes_total",
                "TLS handshakes, by how they ended: done, failed, slow, or plain where none began",
                &["door", "outcome"],
            )?,
            certificate_expires: family.gauge(
                "lensline_tls_certificate_expires_seconds",
                "When the certificate in use expires, in seconds since the Unix epoch",
                &["door"],
            )?,
        })
    }
}
