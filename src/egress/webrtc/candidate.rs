//! ICE candidates, theirs and ours: which are worth anything, and how they are written.
//!
//! Sans-IO. What a stranger wrote is read into fields and written anew, so that the ICE agent
//! never sees a stranger's text.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Longest candidate line that is looked at, in bytes; browsers stay below 300.
const LINE_BYTES_MAX: usize = 1024;

/// The component that carries RTP and, with rtcp-mux, RTCP.
const COMPONENT_RTP: u32 = 1;

/// A candidate that can be used: UDP, the RTP component, a numeric address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Groups candidates of one kind, base and server.
    pub foundation: String,
    /// The higher, the sooner it is tried.
    pub priority: u32,
    /// Where it is.
    pub address: IpAddr,
    /// Where it is.
    pub port: u16,
    /// What it is.
    pub kind: Kind,
    /// The base of a reflexive or relayed candidate, where it is told.
    pub related: Option<(IpAddr, u16)>,
}

/// What a candidate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An address of the machine itself.
    Host,
    /// An address that a STUN server saw.
    ServerReflexive,
    /// An address that the peer saw.
    PeerReflexive,
    /// An address of a TURN server.
    Relayed,
}

/// Why a candidate is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It is no candidate line.
    #[error("this is no ICE candidate (RFC 8839 section 5.1)")]
    Malformed,
    /// Correct, and of no use here: TCP, the RTCP component, a name instead of an address (mDNS:
    /// the peer is found by its own checks), or an address that nothing can be sent to.
    #[error("this candidate cannot be used here")]
    Useless,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::ServerReflexive => "srflx",
            Self::PeerReflexive => "prflx",
            Self::Relayed => "relay",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Host, Self::ServerReflexive, Self::PeerReflexive, Self::Relayed]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

impl Candidate {
    /// An address of the machine itself, the `index`th of them: each has a foundation and a priority
    /// of its own (RFC 8445 sections 5.1.1.3 and 5.1.2.1), the first the highest.
    pub fn host(address: SocketAddr, index: u16) -> Self {
        const HOST_PREFERENCE: u32 = 126;
        let local_preference = u32::from(u16::MAX - index);
        Self {
            foundation: index.to_string(),
            priority: HOST_PREFERENCE << 24 | local_preference << 8 | (256 - COMPONENT_RTP),
            address: address.ip(),
            port: address.port(),
            kind: Kind::Host,
            related: None,
        }
    }

    /// Reads a candidate, with or without `a=` in front.
    ///
    /// # Errors
    /// Where it is none, or of no use.
    pub fn parse(line: &str) -> Result<Self, Unusable> {
        if line.len() > LINE_BYTES_MAX {
            return Err(Unusable::Malformed);
        }
        let line = line.trim();
        let line = line.strip_prefix("a=").unwrap_or(line);
        let line = line.strip_prefix("candidate:").ok_or(Unusable::Malformed)?;
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [foundation, component, transport, priority, address, port, "typ", kind, rest @ ..] =
            words.as_slice()
        else {
            return Err(Unusable::Malformed);
        };
        let ice_char = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
        if foundation.len() > 32 || !foundation.bytes().all(ice_char) {
            return Err(Unusable::Malformed);
        }
        let component: u32 = component.parse().map_err(|_| Unusable::Malformed)?;
        let priority = priority.parse().map_err(|_| Unusable::Malformed)?;
        let port = port.parse().map_err(|_| Unusable::Malformed)?;
        let kind = Kind::parse(kind).ok_or(Unusable::Malformed)?;
        if !transport.eq_ignore_ascii_case("udp") || component != COMPONENT_RTP || port == 0 {
            return Err(Unusable::Useless);
        }
        let address = address.parse().map_err(|_| Unusable::Useless)?;
        if !is_sendable(address) {
            return Err(Unusable::Useless);
        }
        let foundation = (*foundation).to_owned();
        Ok(Self { foundation, priority, address, port, kind, related: related(rest) })
    }
}

/// `raddr ADDRESS rport PORT`, where it is there and reads well.
fn related(words: &[&str]) -> Option<(IpAddr, u16)> {
    match words {
        ["raddr", address, "rport", port, ..] => Some((address.parse().ok()?, port.parse().ok()?)),
        _ => None,
    }
}

/// Whether a packet can be sent to an address without more being known, as a zone would be.
pub fn is_sendable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_unspecified() && !v4.is_multicast() && !v4.is_broadcast(),
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast() && !v6.is_unicast_link_local(),
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { foundation, priority, address, port, kind, related } = self;
        let kind = kind.as_str();
        write!(f, "candidate:{foundation} 1 UDP {priority} {address} {port} typ {kind}")?;
        match related {
            Some((address, port)) => write!(f, " raddr {address} rport {port}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_browser_s_candidates_are_read_and_written_anew() {
        let line = "a=candidate:842163049 1 udp 1677729535 203.0.113.7 46154 typ srflx \
                    raddr 192.0.2.2 rport 46154 generation 0 ufrag h4xY network-id 1";
        let candidate = Candidate::parse(line).unwrap();
        assert_eq!(
            candidate.to_string(),
            "candidate:842163049 1 UDP 1677729535 203.0.113.7 46154 typ srflx \
             raddr 192.0.2.2 rport 46154"
        );
        assert_eq!(Candidate::parse(&candidate.to_string()), Ok(candidate));
    }

    #[test]
    fn our_own_addresses_come_in_order_and_read_as_any_other() {
        let address = "192.0.2.2:5000".parse().unwrap();
        let (first, second) = (Candidate::host(address, 0), Candidate::host(address, 1));
        assert_eq!(first.priority, 2_130_706_431);
        assert!(first.priority > second.priority && first.foundation != second.foundation);
        assert_eq!(Candidate::parse(&first.to_string()), Ok(first));
    }

    #[test]
    fn what_leads_nowhere_is_useless_and_not_an_error_of_the_peer() {
        for line in [
            "candidate:1 1 udp 2113937151 4f7ba2ee-1d.local 51000 typ host",
            "candidate:1 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active",
            "candidate:1 2 udp 2113937150 192.0.2.1 51001 typ host",
            "candidate:1 1 udp 2113937151 fe80::1 51000 typ host",
            "candidate:1 1 udp 2113937151 0.0.0.0 51000 typ host",
            "candidate:1 1 udp 2113937151 224.0.0.1 51000 typ host",
        ] {
            assert_eq!(Candidate::parse(line), Err(Unusable::Useless), "{line}");
        }
    }

    #[test]
    fn what_is_no_candidate_is_malformed() {
        for line in [
            "",
            "candidate:",
            "candidate:1 1 udp 2113937151 192.0.2.1 51000",
            "candidate:1 1 udp x 192.0.2.1 51000 typ host",
            "candidate:1 1 udp 1 192.0.2.1 65536 typ host",
            "candidate:1 1 udp 1 192.0.2.1 5 typ ghost",
            "candidate:a\u{e9} 1 udp 1 192.0.2.1 5 typ host",
        ] {
            assert_eq!(Candidate::parse(line), Err(Unusable::Malformed), "{line}");
        }
        let long = format!("candidate:1 1 udp 1 192.0.2.1 5 typ host {}", "x".repeat(2000));
        assert_eq!(Candidate::parse(&long), Err(Unusable::Malformed));
    }

    #[test]
    fn the_corpus_is_sorted_as_its_files_say() {
        let usable = include_str!("../../../tests/corpus/candidates/usable");
        let useless = include_str!("../../../tests/corpus/candidates/useless");
        let malformed = include_str!("../../../tests/corpus/candidates/malformed");
        for line in usable.lines() {
            let candidate = Candidate::parse(line).unwrap_or_else(|why| panic!("{line}: {why}"));
            assert_eq!(Candidate::parse(&candidate.to_string()), Ok(candidate));
        }
        for line in useless.lines() {
            assert_eq!(Candidate::parse(line), Err(Unusable::Useless), "{line}");
        }
        for line in malformed.lines() {
            assert_eq!(Candidate::parse(line), Err(Unusable::Malformed), "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_text_upsets_the_reader(
            line in "(a=)?(candidate:)?[ -~]{0,40} ?(typ )?(host|relay)?\\PC{0,20}"
        ) {
            if let Ok(candidate) = Candidate::parse(&line) {
                let written = candidate.to_string();
                prop_assert!(written.is_ascii() && !written.contains(['\r', '\n']));
                prop_assert_eq!(Candidate::parse(&written), Ok(candidate));
            }
        }
    }
}
