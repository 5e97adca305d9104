//! Candidates. What is read is written in one line of ASCII, and reads the same.
#![no_main]

use lensline::egress::webrtc::candidate::{Candidate, is_sendable};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &str| {
    if let Ok(candidate) = Candidate::parse(line) {
        assert!(candidate.port > 0 && is_sendable(candidate.address));
        let written = candidate.to_string();
        assert!(written.is_ascii() && !written.contains(['\r', '\n']));
        assert_eq!(Candidate::parse(&written), Ok(candidate));
    }
});
