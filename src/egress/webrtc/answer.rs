//! The answer: written here from what the engine decided.
//!
//! webrtcbin 1.22 writes an answer that Chromium takes and others do not: no `a=ssrc`, on which
//! pion-based clients drop what they receive, candidates they cannot use, and a CNAME of
//! user@host. So only its ICE and DTLS parameters are taken over.

use std::fmt::Write;

use super::candidate::Candidate;
use super::offer::{Echo, Offer};
use super::sdp::{Attributes, Description};

/// What an engine decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transport {
    /// ICE user name fragment.
    pub ufrag: String,
    /// ICE password.
    pub pwd: String,
    /// Hash function and digest of the certificate.
    pub fingerprint: String,
    /// `active` or `passive`.
    pub setup: String,
}

impl Transport {
    /// Takes the parameters from an engine's own answer.
    pub fn parse(sdp: &str) -> Option<Self> {
        let description = Description::parse(sdp).ok()?;
        let section: &Attributes<'_> = &description.sections.first()?.attributes;
        let get = |name| section.first(name).or_else(|| description.attributes.first(name));
        Some(Self {
            ufrag: get("ice-ufrag")?.to_owned(),
            pwd: get("ice-pwd")?.to_owned(),
            fingerprint: get("fingerprint")?.to_owned(),
            setup: get("setup")?.to_owned(),
        })
    }
}

/// What is sent, by its numbers on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Synchronisation source of the video.
    pub ssrc: u32,
    /// Synchronisation source of its retransmissions.
    pub rtx_ssrc: Option<u32>,
    /// Canonical name: random, of this session only.
    pub cname: String,
}

/// What an answer says.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// What it answers.
    pub offer: &'a Offer,
    /// The engine's side of the connection.
    pub transport: &'a Transport,
    /// What is sent.
    pub source: &'a Source,
    /// Our candidates so far.
    pub candidates: &'a [Candidate],
    /// Whether these are all.
    pub gathered: bool,
}

impl Answer<'_> {
    /// The answer as SDP.
    pub fn sdp(&self) -> String {
        let mut sdp = String::with_capacity(2048);
        // Writing to a string does not fail.
        let _ = self.write(&mut sdp);
        sdp
    }

    fn write(&self, sdp: &mut String) -> std::fmt::Result {
        let session = self.source.ssrc;
        write!(sdp, "v=0\r\no=- {session} 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n")?;
        if self.offer.bundled {
            sdp.push_str("a=group:BUNDLE");
            let kept = self.offer.sections.iter().filter(|section| section.kept.is_some());
            for mid in kept.filter_map(|section| section.mid.as_ref()).chain([&self.offer.mid]) {
                write!(sdp, " {mid}")?;
            }
            sdp.push_str("\r\n");
        }
        sdp.push_str("a=msid-semantic: WMS lensline\r\n");
        for (index, section) in self.offer.sections.iter().enumerate() {
            match &section.kept {
                _ if index == self.offer.video => self.write_video(sdp, section)?,
                Some(format) => self.write_kept(sdp, section, format)?,
                None => refuse(sdp, section)?,
            }
        }
        Ok(())
    }

    fn write_video(&self, sdp: &mut String, section: &Echo) -> std::fmt::Result {
        let offer = self.offer;
        let pt = offer.codec.payload_type;
        write!(sdp, "m=video 9 {} {pt}", section.protocol)?;
        if let Some(rtx) = offer.codec.rtx_payload_type {
            write!(sdp, " {rtx}")?;
        }
        self.write_transport(sdp)?;
        write!(sdp, "a=mid:{}\r\na=sendonly\r\na=rtcp-mux\r\n", offer.mid)?;
        if offer.rtcp_rsize {
            sdp.push_str("a=rtcp-rsize\r\n");
        }
        for (id, uri) in offer.extensions.list() {
            write!(sdp, "a=extmap:{id} {uri}\r\n")?;
        }
        self.write_codec(sdp)?;
        self.write_source(sdp)
    }

    /// A section that carries nothing but the bundle.
    fn write_kept(&self, sdp: &mut String, section: &Echo, format: &str) -> std::fmt::Result {
        let Echo { media, protocol, mid, .. } = section;
        let pt = format.split(' ').next().unwrap_or_default();
        write!(sdp, "m={media} 9 {protocol} {pt}")?;
        self.write_transport(sdp)?;
        let mid = mid.as_deref().unwrap_or_default();
        write!(sdp, "a=mid:{mid}\r\na=inactive\r\na=rtcp-mux\r\na=rtpmap:{format}\r\n")
    }

    fn write_transport(&self, sdp: &mut String) -> std::fmt::Result {
        let transport = self.transport;
        write!(sdp, "\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n")?;
        for candidate in self.candidates {
            write!(sdp, "a={candidate}\r\n")?;
        }
        if self.gathered {
            sdp.push_str("a=end-of-candidates\r\n");
        }
        write!(sdp, "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", transport.ufrag, transport.pwd)?;
        sdp.push_str("a=ice-options:trickle\r\n");
        write!(sdp, "a=fingerprint:{}\r\na=setup:{}\r\n", transport.fingerprint, transport.setup)
    }

    fn write_codec(&self, sdp: &mut String) -> std::fmt::Result {
        let codec = &self.offer.codec;
        let pt = codec.payload_type;
        write!(sdp, "a=rtpmap:{pt} H264/90000\r\na=fmtp:{pt} ")?;
        if codec.level_asymmetry {
            sdp.push_str("level-asymmetry-allowed=1;");
        }
        write!(sdp, "packetization-mode=1;profile-level-id={}\r\n", codec.profile_level_id)?;
        for feedback in &codec.feedback {
            write!(sdp, "a=rtcp-fb:{pt} {feedback}\r\n")?;
        }
        if let Some(rtx) = codec.rtx_payload_type {
            write!(sdp, "a=rtpmap:{rtx} rtx/90000\r\na=fmtp:{rtx} apt={pt}\r\n")?;
        }
        Ok(())
    }

    fn write_source(&self, sdp: &mut String) -> std::fmt::Result {
        let Source { ssrc, rtx_ssrc, cname } = self.source;
        sdp.push_str("a=msid:lensline video\r\n");
        if let Some(rtx_ssrc) = rtx_ssrc {
            write!(sdp, "a=ssrc-group:FID {ssrc} {rtx_ssrc}\r\n")?;
        }
        for ssrc in [Some(*ssrc), *rtx_ssrc].into_iter().flatten() {
            write!(sdp, "a=ssrc:{ssrc} cname:{cname}\r\na=ssrc:{ssrc} msid:lensline video\r\n")?;
        }
        Ok(())
    }
}

/// RFC 8829 section 5.3.1: a refused section is repeated with port 0.
fn refuse(sdp: &mut String, section: &Echo) -> std::fmt::Result {
    let Echo { media, protocol, formats, mid, kept: _ } = section;
    write!(sdp, "m={media} 0 {protocol} {formats}\r\nc=IN IP4 0.0.0.0\r\n")?;
    if let Some(mid) = mid {
        write!(sdp, "a=mid:{mid}\r\n")?;
    }
    sdp.push_str("a=inactive\r\n");
    Ok(())
}
