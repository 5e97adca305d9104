use proptest::prelude::*;

use super::*;

const FINGERPRINT: &str = "sha-256 3D:A9:30:87:B2:A2:7C:D6:65:20:A1:65:65:77:0A:7B:DD:BC:44:D3:\
                           FA:F6:AE:B9:2A:94:3C:0B:45:40:39:12";

/// What Chromium 156 offers for a recvonly video transceiver, shortened to what matters.
const CHROMIUM: &str = "\
96 VP8/90000
97 rtx/90000 apt=96
103 H264/90000 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f
104 rtx/90000 apt=103
107 H264/90000 level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42001f
108 rtx/90000 apt=107
109 H264/90000 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f
114 rtx/90000 apt=109
117 H264/90000 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f
118 rtx/90000 apt=117
39 H264/90000 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=f4001f
123 H264/90000 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f
124 rtx/90000 apt=123";
const FIREFOX: &str = "\
120 VP8/90000 max-fs=12288;max-fr=60
126 H264/90000 profile-level-id=42e01f;level-asymmetry-allowed=1;packetization-mode=1
127 rtx/90000 apt=126
97 H264/90000 profile-level-id=42e01f;level-asymmetry-allowed=1";
const SAFARI: &str = "\
96 H264/90000 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640c34
97 rtx/90000 apt=96
98 H264/90000 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e034
99 rtx/90000 apt=98";

fn offer(codecs: &str) -> String {
    let mut formats = String::new();
    let mut lines = String::new();
    for line in codecs.lines() {
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        formats.push_str(&format!(" {}", words[0]));
        lines.push_str(&format!("a=rtpmap:{} {}\r\n", words[0], words[1]));
        lines.extend(words.get(2).map(|fmtp| format!("a=fmtp:{} {fmtp}\r\n", words[0])));
        if words[1].starts_with("H264") {
            for feedback in ["goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"] {
                lines.push_str(&format!("a=rtcp-fb:{} {feedback}\r\n", words[0]));
            }
        }
    }
    format!(
        "v=0\r\no=- 42 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=recvonly\r\n\
         a=rtpmap:111 opus/48000/2\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF{formats}\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:h4xY\r\n\
         a=ice-pwd:0123456789abcdefABCDEF+/\r\na=fingerprint:{FINGERPRINT}\r\n\
         a=setup:actpass\r\na=mid:1\r\n\
         a=extmap:1 urn:ietf:params:rtp-hdrext:toffset\r\n\
         a=extmap:2 {ABS_CAPTURE_TIME}\r\na=extmap:4/recvonly {TRANSPORT_CC}\r\n\
         a=extmap:5 {PLAYOUT_DELAY}\r\na=extmap:15 {MID}\r\na=recvonly\r\na=rtcp-mux\r\n\
         a=rtcp-rsize\r\n{lines}\
         a=candidate:1 1 udp 2113937151 4f7ba2ee.local 51000 typ host\r\n\
         a=candidate:2 1 udp 2113937151 192.0.2.9 51000 typ host generation 0\r\n"
    )
}

fn choice(codecs: &str, stream: &str) -> (u8, Option<u8>, String) {
    let codec = Offer::parse(&offer(codecs), Some(stream)).unwrap().codec;
    (codec.payload_type, codec.rtx_payload_type, codec.profile_level_id)
}

#[test]
fn each_browser_s_offer_is_matched_by_profile_and_not_by_level() {
    let (constrained_baseline, main, high) = ("42c01f", "4d0028", "640028");
    assert_eq!(choice(CHROMIUM, constrained_baseline), (109, Some(114), "42e01f".into()));
    assert_eq!(choice(CHROMIUM, main), (117, Some(118), "4d0028".into()));
    assert_eq!(choice(CHROMIUM, high), (123, Some(124), "640028".into()));
    assert_eq!(choice(FIREFOX, "42c028"), (126, Some(127), "42e028".into()));
    assert_eq!(choice(FIREFOX, high), (126, Some(127), "42e028".into()));
    assert_eq!(choice(SAFARI, constrained_baseline), (98, Some(99), "42e01f".into()));
    assert_eq!(choice(SAFARI, main), (96, Some(97), "640c28".into()));
}

#[test]
fn an_unknown_stream_counts_as_constrained_baseline() {
    let offer = Offer::parse(&offer(CHROMIUM), None).unwrap();
    assert_eq!((offer.codec.payload_type, &*offer.codec.profile_level_id), (109, "42e01f"));
}

#[test]
fn what_goes_with_the_codec_is_taken_over_and_what_is_useless_left_out() {
    let offer = Offer::parse(&offer(CHROMIUM), None).unwrap();
    assert_eq!(offer.codec.feedback, ["nack", "nack pli", "ccm fir", "transport-cc"]);
    let extensions = Extensions {
        playout_delay: Some(5),
        abs_capture_time: Some(2),
        transport_cc: Some(4),
        // Identifier 15 does not fit the one-byte form.
        mid: None,
    };
    assert_eq!(offer.extensions, extensions);
    assert_eq!(offer.candidates.len(), 1);
    assert_eq!((offer.video, &*offer.mid, offer.sections.len()), (1, "1", 2));
}

#[test]
fn the_fingerprint_is_the_sha_256_one_however_it_is_written_and_wherever_it_stands() {
    let good = offer(CHROMIUM);
    let line = format!("a=fingerprint:{FINGERPRINT}");
    let other = format!("a=fingerprint:sha-1 {}", ["00"; 20].join(":"));
    for lines in [line.replace("sha-256", "SHA-256"), format!("{other}\r\n{line}")] {
        let offer = Offer::parse(&good.replace(&line, &lines), None).unwrap();
        assert_eq!(offer.transport.fingerprint, FINGERPRINT);
    }
    let refused = Offer::parse(&good.replace(&line, &other), None).unwrap_err();
    assert_eq!(refused, OfferError::Attribute("fingerprint:sha-256"));
}

#[test]
fn nack_is_promised_only_where_packets_are_sent_again() {
    let without = CHROMIUM.replace("rtx/90000", "red/90000");
    assert!(!Offer::parse(&offer(&without), None).unwrap().codec.feedback.contains(&"nack"));
    assert!(Offer::parse(&offer(CHROMIUM), None).unwrap().codec.feedback.contains(&"nack"));
}

#[test]
fn what_is_missing_is_named() {
    let good = offer(CHROMIUM);
    let without = |line: &str| Offer::parse(&good.replace(line, "a=x"), None).unwrap_err();
    assert_eq!(without("a=ice-ufrag:h4xY"), OfferError::Attribute("ice-ufrag"));
    assert_eq!(without("a=ice-pwd:0123456789abcdefABCDEF+/"), OfferError::Attribute("ice-pwd"));
    assert_eq!(without("a=setup:actpass"), OfferError::Attribute("setup"));
    assert_eq!(without(":12\r\na=setup"), OfferError::Attribute("fingerprint:sha-256"));
    assert_eq!(without("a=rtcp-mux"), OfferError::Attribute("rtcp-mux"));
    assert_eq!(without("a=mid:1"), OfferError::Attribute("mid"));
}

#[test]
fn an_offer_with_nothing_in_common_is_told_from_one_that_does_not_read() {
    let vp8 = Offer::parse(&offer("96 VP8/90000"), None).unwrap_err();
    assert_eq!((vp8.clone(), vp8.is_not_acceptable()), (OfferError::NoH264, true));
    let mode_0 = "97 H264/90000 profile-level-id=42e01f";
    assert_eq!(Offer::parse(&offer(mode_0), None), Err(OfferError::NoH264));
    let audio = offer(CHROMIUM).replace("m=video", "m=application");
    assert_eq!(Offer::parse(&audio, None), Err(OfferError::NoVideo));
    let sending = offer(CHROMIUM).replace("a=recvonly", "a=sendonly");
    assert_eq!(Offer::parse(&sending, None), Err(OfferError::NoVideo));
    let json = Offer::parse("{\"type\":\"offer\"}", None).unwrap_err();
    assert!(!json.is_not_acceptable(), "{json}");
}

#[test]
fn the_reduced_offer_has_one_section_and_reads_as_an_offer() {
    let offer = Offer::parse(&offer(CHROMIUM), None).unwrap();
    let reduced = Offer::parse(&offer.reduced(), None).unwrap();
    assert_eq!(reduced.sections.len(), 1);
    assert_eq!(reduced.transport, offer.transport);
    assert_eq!(reduced.codec.rtx_payload_type, offer.codec.rtx_payload_type);
    assert_eq!(reduced.codec.feedback, offer.codec.feedback);
}

/// A change to a text that leaves it a text.
fn mangle(text: &str, at: usize, with: &str, length: usize) -> String {
    let mut at = at % text.len();
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let end = text.char_indices().map(|(index, _)| index).find(|index| *index >= at + length);
    format!("{}{with}{}", &text[..at], &text[end.unwrap_or(text.len())..])
}

#[test]
fn what_stands_for_two_things_or_for_nothing_is_refused() {
    let good = offer(CHROMIUM);
    let with = |from: &str, to: &str| Offer::parse(&good.replace(from, to), None);
    let twice = with("a=extmap:5 ", "a=extmap:4 ");
    assert_eq!(twice, Err(OfferError::Attribute("extmap")), "one id for two extensions");
    assert_eq!(with("a=mid:0", "a=mid:1"), Err(OfferError::Attribute("mid")), "one name for two");
    assert_eq!(with("m=video 9", "m=video 0"), Err(OfferError::NoVideo), "a section not in use");
    assert!(with("m=video 9", "m=video 0").is_err());
    let bundled =
        good.replace("m=video 9", "m=video 0").replace("a=mid:1", "a=mid:1\r\na=bundle-only");
    assert!(Offer::parse(&bundled, None).is_ok());
    let itself = with("a=rtpmap:114 rtx", "a=rtpmap:109 rtx").unwrap();
    assert_eq!(itself.codec.rtx_payload_type, None, "what would retransmit itself");
    for pwd in ["0123456789abcdefABCDE", &"x".repeat(257), "0123456789abcdef ABCDEF"] {
        let refused = with("0123456789abcdefABCDEF+/", pwd);
        assert_eq!(refused, Err(OfferError::Attribute("ice-pwd")), "{pwd}");
    }
    assert!(with("0123456789abcdefABCDEF+/", &"x".repeat(256)).is_ok());
    for ufrag in ["abc", "ab\u{e9}d", &"x".repeat(257), "a:b:c"] {
        let refused = with("a=ice-ufrag:h4xY", &format!("a=ice-ufrag:{ufrag}"));
        assert_eq!(refused, Err(OfferError::Attribute("ice-ufrag")), "{ufrag}");
    }
    for role in ["holdconn", "ACTPASS", "actpass active", ""] {
        let refused = with("a=setup:actpass", &format!("a=setup:{role}"));
        assert_eq!(refused, Err(OfferError::Attribute("setup")), "{role}");
    }
    for id in ["42e01", "42e01f0", "+2e01f", "42e01g", ""] {
        let codec = format!("96 H264/90000 packetization-mode=1;profile-level-id={id}");
        assert_eq!(Offer::parse(&offer(&codec), None), Err(OfferError::NoH264), "{id}");
    }
}

#[test]
fn a_bundle_is_answered_where_one_was_offered() {
    let good = offer(CHROMIUM);
    assert!(Offer::parse(&good, None).unwrap().bundled);
    for group in ["a=group:LS 0 1", "a=group:BUNDLE 0", "a=group:BUNDLE"] {
        let other = good.replace("a=group:BUNDLE 0 1", group);
        assert!(!Offer::parse(&other, None).unwrap().bundled, "{group}");
    }
}

/// Offers that browsers and libraries have made, by file.
fn corpus() -> Vec<(String, String)> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/offers");
    let files = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
    let sdp = files.filter(|path| path.extension().is_some_and(|extension| extension == "sdp"));
    let read = sdp.map(|path| (path.display().to_string(), std::fs::read_to_string(path).unwrap()));
    let mut read: Vec<_> = read.collect();
    read.sort();
    assert!(read.len() >= 4);
    read
}

#[test]
fn every_offer_of_the_corpus_is_understood_and_handed_on_as_it_was_understood() {
    for (name, text) in corpus() {
        let offer =
            Offer::parse(&text, Some("42c01f")).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_handed_on(&offer);
        assert!(offer.bundled, "{name}");
        for (from, to) in [("a=fingerprint:sha-256", "a=fingerprint:sha-1"), ("H264", "VP8")] {
            assert!(Offer::parse(&text.replace(from, to), None).is_err(), "{name}: {to}");
        }
    }
}

/// What an engine gets is plain text that says what was understood, and no more.
fn assert_handed_on(offer: &Offer) {
    let reduced = offer.reduced();
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~' | b'\r' | b'\n');
    assert!(reduced.bytes().all(is_plain) && reduced.len() < 4_096, "{reduced}");
    let again = Offer::parse(&reduced, Some("42c01f")).unwrap();
    assert_eq!(again.transport, offer.transport);
    assert_eq!(again.codec.payload_type, offer.codec.payload_type);
    assert_eq!(again.codec.rtx_payload_type, offer.codec.rtx_payload_type);
    assert_eq!(again.sections.len(), 1);
}

/// Lines that stand where they should not.
const INTRUDERS: [&str; 12] = [
    "v=0",
    "m=video 9 UDP/TLS/RTP/SAVPF 96",
    "m=audio 0 RTP/AVP 0",
    "a=mid:0",
    "a=setup:passive",
    "a=ice-ufrag:x",
    "a=fingerprint:md5 00:11",
    "a=fmtp:96 profile-level-id=ffffff;packetization-mode=1",
    "a=rtpmap:96 H264/90000",
    "a=extmap:15 urn:ietf:params:rtp-hdrext:sdes:mid",
    "a=candidate:1 1 udp 1 127.0.0.1 22 typ host",
    "a=\0",
];

proptest! {
    #[test]
    fn no_offer_of_the_corpus_with_lines_moved_about_upsets_the_reader(
        file in any::<prop::sample::Index>(),
        moves in prop::collection::vec((0u8..5, any::<usize>(), any::<usize>()), 1..12),
        end in prop::sample::select(vec!["\r\n", "\n"]),
    ) {
        let corpus = corpus();
        let mut lines: Vec<&str> = file.get(&corpus).1.lines().collect();
        for (kind, one, other) in moves {
            let (one, other) = (one % lines.len(), other % lines.len());
            match kind {
                0 if lines.len() > 2 => drop(lines.remove(one)),
                1 => lines.swap(one, other),
                2 => lines.insert(one, lines[other]),
                3 => lines.insert(one, INTRUDERS[other % INTRUDERS.len()]),
                _ => lines.truncate(one.max(2)),
            }
        }
        if let Ok(offer) = Offer::parse(&lines.join(end), Some("42c01f")) {
            assert_handed_on(&offer);
        }
    }

    #[test]
    fn no_offer_of_the_corpus_with_bytes_changed_upsets_the_reader(
        file in any::<prop::sample::Index>(),
        changes in prop::collection::vec(
            (any::<usize>(), "\\PC{0,6}|\r\n|\0|:|=| |[0-9]{1,20}", 0usize..40), 1..6),
    ) {
        let corpus = corpus();
        let mut text = file.get(&corpus).1.clone();
        for (at, with, length) in changes {
            text = mangle(&text, at, &with, length);
        }
        if let Ok(offer) = Offer::parse(&text, Some("42c01f")) {
            assert_handed_on(&offer);
        }
    }

    #[test]
    fn no_mangled_offer_upsets_the_reader_or_reaches_an_engine_unread(
        changes in prop::collection::vec((any::<usize>(), "\\PC{0,6}|\r\n|\0|:|=| ", 0usize..40), 1..6)
    ) {
        let mut text = offer(CHROMIUM);
        for (at, with, length) in changes {
            text = mangle(&text, at, &with, length);
        }
        if let Ok(offer) = Offer::parse(&text, Some("42c01f")) {
            let reduced = offer.reduced();
            prop_assert!(reduced.is_ascii() && !reduced.contains('\0'), "{}", reduced);
            let again = Offer::parse(&reduced, Some("42c01f")).unwrap();
            prop_assert_eq!(again.transport, offer.transport);
            prop_assert_eq!(again.codec.payload_type, offer.codec.payload_type);
        }
    }

    #[test]
    fn no_text_at_all_upsets_the_reader(text in "(v=0\r\n)?(m=video 9 UDP/TLS/RTP/SAVPF 96\r\n)?(\\PC|\r\n){0,200}") {
        let _ = Offer::parse(&text, None);
    }
}

/// Found by a WHEP player that puts sound first: Chromium took no answer that refused the section
/// whose transport the video shares ("Failed to setup RTCP mux").
#[test]
fn the_section_whose_transport_the_video_shares_is_kept_and_no_other() {
    let apart = offer(CHROMIUM);
    let kept = |text: &str| Offer::parse(text, None).unwrap().sections.remove(0).kept;
    assert_eq!(kept(&apart), None);
    let audio = "a=mid:0\r\na=recvonly\r\n";
    let shared = apart.replace(audio, &format!("{audio}a=rtcp-mux\r\na=ice-ufrag:h4xY\r\n"));
    assert_eq!(kept(&shared).as_deref(), Some("111 opus/48000/2"));
    let candidate = "a=candidate:3 1 udp 2113937151 192.0.2.10 51000 typ host\r\n";
    let theirs =
        shared.replace("a=candidate:", "a=x:").replace(audio, &(audio.to_owned() + candidate));
    assert_eq!(Offer::parse(&theirs, None).unwrap().candidates.len(), 1, "its candidates are too");
    let said = apart.replace(audio, &format!("{audio}a=rtcp-mux\r\n"));
    assert_eq!(kept(&said), None);
    let said = said.replace("a=mid:1\r\n", "a=mid:1\r\na=bundle-only\r\n");
    assert_eq!(kept(&said).as_deref(), Some("111 opus/48000/2"));
    for (was, is) in [
        ("BUNDLE 0 1", "BUNDLE 1 0"),
        ("BUNDLE 0 1", "BUNDLE 1"),
        ("m=audio 9", "m=audio 0"),
        ("111 opus/48000/2", "111 opus/48000/2 x"),
        ("m=audio 9 UDP/TLS/RTP/SAVPF", "m=audio 9 UDP/DTLS/SCTP"),
    ] {
        assert_eq!(kept(&shared.replace(was, is)), None, "{is}");
    }
}
