//! Access units and the RTP payloads made of them: each short enough, none empty.
#![no_main]

use lensline::nal;
use lensline::packets::{PAYLOAD_BYTES_MAX, Packets};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = nal::inspect(bytes);
    let body = nal::without_delimiter(bytes);
    assert!(bytes.ends_with(body));
    let total: usize = nal::units(bytes).map(<[u8]>::len).sum();
    assert!(total <= bytes.len());
    let packets = Packets::default();
    for payload in packets.get_or_make(|| Some(bytes)) {
        assert!((1..=PAYLOAD_BYTES_MAX).contains(&payload.len()));
    }
});
