//! `server.tls` and `rtsp.tls`: what goes with them, and what is in their files.

use super::{Finding, Findings};
use crate::config::{Config, Rtsp, RtspTransport};
use crate::tls::{self, Flaw};

/// What is wrong with the certificates of a configuration.
#[derive(Debug, Default)]
pub(in crate::config) struct Certificates {
    /// With these it cannot be used.
    pub(in crate::config) flaws: Vec<Finding>,
    /// With these it can.
    pub(in crate::config) remarks: Vec<Finding>,
}

/// Media goes in the connection where that is encrypted; beside it, it would not be.
pub(super) fn transports(found: &mut Findings, rtsp: &Rtsp) {
    if rtsp.tls.is_none() {
        return;
    }
    if !rtsp.transports.is_empty() && !rtsp.transports.contains(&RtspTransport::Tcp) {
        found.between(
            &["rtsp.transports", "rtsp.tls"],
            "has no \"tcp\", and with TLS media travels no other way",
            "add \"tcp\"",
        );
    }
    for (index, transport) in rtsp.transports.iter().enumerate() {
        if *transport == RtspTransport::Multicast {
            found.between(
                &[&format!("rtsp.transports[{index}]"), "rtsp.tls"],
                "does not go with TLS, which a group cannot share",
                "take it out, or rtsp.tls",
            );
        }
    }
}

/// Reads the files that `config` names.
pub(in crate::config) fn certificates(config: &Config) -> Certificates {
    let mut found = Certificates::default();
    let doors = [("server.tls", &config.server.tls), ("rtsp.tls", &config.rtsp.tls)];
    for (path, tls) in doors {
        let Some(tls) = tls else { continue };
        match tls::inspect(&tls.into()) {
            Ok(remarks) => found.remarks.extend(remarks.into_iter().map(|one| place(path, one))),
            Err(flaw) => found.flaws.push(place(path, flaw)),
        }
    }
    found
}

fn place(path: &str, flaw: Flaw) -> Finding {
    let Flaw { part, message, remedy } = flaw;
    Finding { paths: vec![format!("{path}.{}", part.as_str())], message, remedy }
}
