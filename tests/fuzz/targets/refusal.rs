//! What is said to a stranger at a full RTSP door: always one whole answer, with nothing of the
//! request in it but a number.
#![no_main]

use lensline::egress::rtsp::refusal::{answer, is_complete};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|request: &[u8]| {
    let _ = is_complete(request);
    let answer = answer(request, "503 Service Unavailable", "Retry-After: 5\r\n");
    assert!(answer.starts_with("RTSP/1.0 503 ") && answer.ends_with("\r\n\r\n"));
    assert!(answer.is_ascii() && (4..=5).contains(&answer.matches("\r\n").count()));
});
