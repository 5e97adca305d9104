//! Trickle fragments and what is kept of offers, as PATCH and POST bodies bring them.
#![no_main]

use lensline::http::sdp::{Fragment, OfferFacts};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let facts = OfferFacts::read(text);
    if let Ok(fragment) = Fragment::parse(text) {
        assert!(fragment.candidates.len() <= 64);
        for (line, mid) in fragment.candidates {
            assert!(line.is_empty() || line.starts_with("candidate:"));
            let _ = facts.locate(line, mid, None);
        }
        let _ = fragment.ice_ufrag.is_some_and(|ufrag| facts.is_restart(&ufrag));
    }
});
