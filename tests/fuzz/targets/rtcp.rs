//! RTCP as a viewer sends it, decrypted.
#![no_main]

use std::time::Duration;

use lensline::egress::webrtc::rtcp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|packet: &[u8]| {
    let report = rtcp::read(packet, 7, Duration::new(1_700_000_000, 500_000_000));
    // Each of them takes twelve bytes, if its lengths are true.
    assert!(report.key_frame_requests as usize <= packet.len() / 4);
    assert!(report.packets_lost.is_none_or(|lost| lost < 1 << 23));
});
