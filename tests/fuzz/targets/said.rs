//! Messages of the WebSocket signalling.
#![no_main]

use lensline::egress::webrtc::candidate::Candidate;
use lensline::egress::webrtc::offer::Offer;
use lensline::http::sdp::OfferFacts;
use lensline::http::ws::{Description, Said};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match serde_json::from_str(text) {
        Ok(Said::Offer(Description::Object { sdp } | Description::Text(sdp))) => {
            let _ = (OfferFacts::read(&sdp), Offer::parse(&sdp, None));
        }
        Ok(Said::IceCandidate(Some(trickled))) => {
            let _ = Candidate::parse(trickled.candidate.as_deref().unwrap_or_default());
        }
        Ok(Said::IceCandidate(None) | Said::Ping(_)) | Err(_) => {}
    }
});
