//! Offers. What is accepted reads the same once it is written anew for an engine, and an engine
//! gets no line that we did not write.
#![no_main]

use lensline::egress::webrtc::offer::Offer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for stream in [None, Some("42c01f")] {
        let Ok(offer) = Offer::parse(text, stream) else { continue };
        let reduced = offer.reduced();
        let clean = |line: &str| line.as_bytes().get(1) == Some(&b'=') && !line.contains('\r');
        assert!(reduced.ends_with("\r\n") && reduced.split_terminator("\r\n").all(clean));
        let again = Offer::parse(&reduced, stream).expect("what we write, we read");
        assert_eq!(again.reduced(), reduced);
    }
});
