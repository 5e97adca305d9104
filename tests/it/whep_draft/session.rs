//! What the draft asks of a session, and of the answer that opens it: `/whep/{camera}/{session}`.

use std::time::Duration;

use super::endpoint::{attribute, challenged, is, preflight};
use super::stage::{DORA, FRAGMENT, OFFER, OTTO, Stage, THREE, Verdict};
use super::{Row, row};

/// A candidate, and the end of them, for the offer's section.
const CANDIDATE: &str = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n\
    a=candidate:7 1 UDP 2130706431 127.0.0.1 9 typ host\r\na=end-of-candidates\r\n";

/// What nobody here can reach: TCP, a name of mDNS, a name that is none; and one that is well.
const USELESS: &str = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n\
    a=candidate:1 1 tcp 1518280447 127.0.0.1 9 typ host tcptype active\r\n\
    a=candidate:2 1 udp 2122260223 4f7ba2ee-1d05-4a6c-9d4b-2c1b0d9f7a31.local 5000 typ host\r\n\
    a=candidate:3 1 udp 2122260223 viewer.invalid 5000 typ host\r\n\
    a=candidate:4 1 sctp 2122260223 127.0.0.1 5000 typ host\r\n\
    a=candidate:5 1 UDP 2130706431 127.0.0.1 9 typ host\r\n";

const RESTART: &str = "a=ice-ufrag:ysXw\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\n";

pub const ROWS: &[Row] = &[
    row("4.1", "MUST", "GET on the session: 2xx without content", |stage| {
        let joined = stage.join(OFFER)?;
        let answer = stage.wants(204, "GET", &joined.path, &[OTTO], "")?;
        answer.body.is_empty().then(|| "204".into()).ok_or(answer.body)
    }),
    row("4.1", "MUST", "other methods on the session: 405 with Allow", |stage| {
        let joined = stage.join(OFFER)?;
        for method in ["POST", "PUT"] {
            let answer = stage.wants(405, method, &joined.path, &[OTTO], "")?;
            ["PATCH", "DELETE"].iter().try_for_each(|one| answer.lists("allow", one))?;
        }
        Ok("405 to POST and PUT".into())
    }),
    row("4.2.8", "SHALL", "consent (RFC 7675): who has gone without a word is let go", |stage| {
        let (viewer, path) = stage.watch()?;
        drop(viewer);
        stage.soon(|| stage.wants(404, "GET", &path, &[OTTO], "").map(|_| "404 soon".into()))
    }),
    row("4.3", "MUST", "DELETE: 200, the session is removed", |stage| {
        let joined = stage.join(OFFER)?;
        stage.wants(200, "DELETE", &joined.path, &[OTTO], "")?;
        stage.wants(404, "DELETE", &joined.path, &[OTTO], "")?;
        let late = joined.trickle(CANDIDATE)?.status;
        is(&late.to_string(), "404")?;
        Ok("200, then 404".into())
    }),
    row("4.3", "MUST", "DELETE ends the media at once (RFC 7675, 5.2)", media_ends),
    row("4.3", "MUST", "OPTIONS for CORS on the session: 200", |stage| {
        let joined = stage.join(OFFER)?;
        preflight(stage, &joined.path, "PATCH")?;
        preflight(stage, &joined.path, "DELETE")
    }),
    row("4.4.1", "MUST", "a PATCH of another type: 4xx", |stage| {
        let joined = stage.join(OFFER)?;
        let headers =
            [OTTO, ("If-Match", joined.etag.as_str()), ("Content-Type", "application/json")];
        stage.wants(415, "PATCH", &joined.path, &headers, CANDIDATE)?;
        stage.wants(415, "PATCH", &joined.path, &headers[..2], CANDIDATE)?;
        Ok("415".into())
    }),
    row("4.4.1", "MUST", "a PATCH of a malformed fragment: 4xx", |stage| {
        let joined = stage.join(OFFER)?;
        for fragment in ["", "hello", "a=candidate:1 1 UDP", "a=candidate:x\r\n\0"] {
            let answer = joined.trickle(fragment)?;
            if answer.status != 422 {
                return Err(format!("{} to {fragment:?}", answer.status));
            }
        }
        Ok("422 to four".into())
    }),
    row("4.4.1", "MUST", "trickle and no restarts: 422 to a restart", |stage| {
        let joined = stage.join(OFFER)?;
        is(&joined.patch(Some("*"), RESTART)?.status.to_string(), "422")
    }),
    row("4.4.1", "MUST", "201 has a strong ETag, the session's own", |stage| {
        let (one, other) = (stage.join(OFFER)?, stage.join(OFFER)?);
        let strong = |tag: &str| tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"');
        let well = strong(&one.etag) && strong(&other.etag) && one.etag != other.etag;
        well.then(|| "strong, unique".into()).ok_or(one.etag.clone())
    }),
    row("4.4.1", "MUST", "DELETE ignores an entity-tag", |stage| {
        let joined = stage.join(OFFER)?;
        let headers = [OTTO, ("If-Match", "\"another\"")];
        stage.wants(200, "DELETE", &joined.path, &headers, "").map(|_| "200".into())
    }),
    row("4.4.1", "MUST", "a PATCH without If-Match: 428", |stage| {
        is(&stage.join(OFFER)?.patch(None, CANDIDATE)?.status.to_string(), "428")
    }),
    row("4.4.1", "MUST", "a PATCH with another ETag, or a weak one: 412", |stage| {
        let joined = stage.join(OFFER)?;
        for tag in ["\"another\"", &format!("W/{}", joined.etag), joined.etag.trim_matches('"')] {
            let answer = joined.patch(Some(tag), CANDIDATE)?;
            if answer.status != 412 {
                return Err(format!("{} to If-Match: {tag}", answer.status));
            }
        }
        Ok("412".into())
    }),
    row("4.4.2", "SHALL", "the answer has all of the server's candidates", |stage| {
        let joined = stage.join(OFFER)?;
        let video = joined.video()?;
        let candidates = video.matches("\r\na=candidate:").count();
        let whole = candidates > 0 && video.contains("\r\na=end-of-candidates\r\n");
        whole.then(|| format!("{candidates}, and their end")).ok_or(video.to_owned())
    }),
    row("4.4.2", "MAY", "an offer without candidates is answered", |stage| {
        is(if OFFER.contains("a=candidate") { "some" } else { "none" }, "none")?;
        stage.join(OFFER).map(|_| "201".into())
    }),
    row("4.4.2", "MUST", "a PATCH of candidates: 204 without a body and without ETag", |stage| {
        let joined = stage.join(OFFER)?;
        for tag in [joined.etag.as_str(), "*"] {
            let answer = joined.patch(Some(tag), CANDIDATE)?;
            is(&answer.status.to_string(), "204")?;
            if !answer.body.is_empty() || !answer.all("etag").is_empty() {
                return Err(format!("{answer:?}"));
            }
        }
        Ok("204".into())
    }),
    row("4.4.2", "MUST", "candidates of no use here are discarded silently", |stage| {
        let answer = stage.join(OFFER)?.trickle(USELESS)?;
        is(&answer.status.to_string(), "204").map_err(|_| answer.body)
    }),
    row("4.4.2", "MUST", "a fragment for the bundle's first section counts for all", |stage| {
        let first = THREE.lines().find_map(|line| line.strip_prefix("a=mid:")).unwrap_or("0");
        let fragment = CANDIDATE.replace("a=mid:0", &format!("a=mid:{first}"));
        is(&stage.join(THREE)?.trickle(&fragment)?.status.to_string(), "204")
    }),
    row("4.4.3", "MUST NOT", "a restart that is refused does not end the session", |stage| {
        let (viewer, path) = stage.watch()?;
        let headers = [OTTO, FRAGMENT, ("If-Match", "*")];
        stage.wants(422, "PATCH", &path, &headers, RESTART)?;
        let before = viewer.tally().frames;
        let verdict = stage.soon(|| {
            let more = viewer.tally().frames > before + 30;
            more.then(|| "422, pictures go on".into()).ok_or("no pictures come".into())
        });
        stage.wants(200, "DELETE", &path, &[OTTO], "")?;
        verdict
    }),
    row("4.5.1", "SHALL", "the answer bundles, and multiplexes RTCP", |stage| {
        let joined = stage.join(THREE)?;
        let mid = attribute(joined.video()?, "a=mid:")?;
        let group = attribute(&joined.answer.body, "a=group:BUNDLE ")?;
        let muxed = joined.video()?.contains("\r\na=rtcp-mux\r\n");
        (group == mid && muxed).then(|| "BUNDLE, rtcp-mux".into()).ok_or(joined.answer.body.clone())
    }),
    row("4.5.1", "MUST", "rtcp-mux-only in each section", |stage| {
        let joined = stage.join(OFFER)?;
        let found = joined.video()?.contains("\r\na=rtcp-mux-only\r\n");
        found.then(|| "it is there".into()).ok_or("it is not there".into())
    })
    .missing("RFC 8858 forbids it in an answer; the draft is at odds with what it cites"),
    row("4.5.2", "MUST", "a single MediaStream: each section has its msid", |stage| {
        let joined = stage.join(OFFER)?;
        attribute(joined.video()?, "a=msid:").map(str::to_owned)
    }),
    row("4.5.3", "SHOULD", "full ICE", |stage| {
        let joined = stage.join(OFFER)?;
        match joined.answer.body.contains("a=ice-lite") {
            true => Err("ice-lite".into()),
            false => Ok("no ice-lite".into()),
        }
    }),
    row("4.8", "MUST", "HTTP authentication on the session too, for its user alone", |stage| {
        let joined = stage.join(OFFER)?;
        for method in ["PATCH", "DELETE"] {
            let answer = stage.wants(401, method, &joined.path, &[FRAGMENT], CANDIDATE)?;
            challenged(&answer.all("www-authenticate"))?;
            stage.wants(404, method, &joined.path, &[FRAGMENT, DORA], CANDIDATE)?;
        }
        Ok("401; 404 to another user".into())
    }),
    row("5", "SHOULD", "a session's URL cannot be guessed", |stage| {
        let joined = stage.join(OFFER)?;
        let id = joined.path.rsplit('/').next().unwrap_or_default();
        let digits = id.chars().filter(char::is_ascii_hexdigit).count();
        // A random UUID has 122 bits of chance in 32 digits.
        (digits >= 32).then(|| format!("{digits} digits")).ok_or(id.to_owned())
    }),
];

fn media_ends(stage: &Stage) -> Verdict {
    let (viewer, path) = stage.watch()?;
    stage.wants(200, "DELETE", &path, &[OTTO], "")?;
    // What is on its way.
    std::thread::sleep(Duration::from_millis(500));
    let before = viewer.tally();
    std::thread::sleep(Duration::from_secs(2));
    let after = viewer.tally();
    match before.bytes == after.bytes {
        true => Ok(format!("{} pictures, then none", after.frames)),
        false => Err(format!("{} pictures more", after.frames - before.frames)),
    }
}
