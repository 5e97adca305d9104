//! What the draft asks of an endpoint: `/whep/{camera}`.

use super::stage::{DORA, FRIEND, OFFER, OTTO, SDP, STRANGER, Stage, THREE, Verdict};
use super::{Row, raw, row};

pub const ROWS: &[Row] = &[
    row("4.1", "MUST", "GET on the endpoint: 2xx without content", |stage| {
        let answer = stage.wants(200, "GET", "/whep/sim", &[OTTO], "")?;
        answer.body.is_empty().then(|| "200".into()).ok_or(answer.body)
    }),
    row("4.1", "SHOULD", "HEAD on the endpoint: 200, application/sdp", |stage| {
        let answer = stage.wants(200, "HEAD", "/whep/sim", &[OTTO], "")?;
        is(answer.one("content-type")?, "application/sdp")
    }),
    row("4.1", "MAY", "a refusal says why, as a problem (RFC 9457)", |stage| {
        let answer = stage.wants(404, "POST", "/whep/nosuch", &[OTTO, SDP], OFFER)?;
        let json: serde_json::Value =
            serde_json::from_str(&answer.body).map_err(|error| error.to_string())?;
        is(answer.one("content-type")?, "application/problem+json")?;
        Ok(format!("404 {}", json["type"]))
    }),
    row("4.1", "MUST", "other methods: 405 with Allow (RFC 9110, 15.5.6)", |stage| {
        for method in ["PUT", "PATCH", "DELETE"] {
            let answer = stage.wants(405, method, "/whep/sim", &[OTTO], "")?;
            ["POST", "GET", "OPTIONS"].iter().try_for_each(|one| answer.lists("allow", one))?;
        }
        Ok("405 to PUT, PATCH and DELETE".into())
    }),
    row("4.2.1", "MUST", "an offer: 201, application/sdp, the answer as the body", |stage| {
        let joined = stage.join(OFFER)?;
        is(joined.answer.one("content-type")?, "application/sdp")?;
        joined.answer.body.starts_with("v=0\r\n").then(|| "201".into()).ok_or("no SDP".into())
    }),
    row("4.2.1", "MUST", "Location points to a new session", |stage| {
        let (one, other) = (stage.join(OFFER)?, stage.join(OFFER)?);
        stage.wants(204, "GET", &one.path, &[OTTO], "")?;
        match one.path == other.path {
            true => Err(one.path.clone()),
            false => Ok("each its own".into()),
        }
    }),
    row("4.2.1", "MUST", "the answer has the offer's sections, in its order (RFC 9429)", |stage| {
        let joined = stage.join(THREE)?;
        let kinds = |sdp: &str| -> Vec<String> {
            let lines = sdp.lines().filter_map(|line| line.strip_prefix("m="));
            lines.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
        };
        let (offered, answered) = (kinds(THREE), kinds(&joined.answer.body));
        joined.video()?;
        match offered == answered {
            true => Ok(answered.join(", ")),
            false => Err(format!("{answered:?} to {offered:?}")),
        }
    }),
    row("4.2.1", "MUST", "a=setup of the answer is active or passive (RFC 8842)", |stage| {
        let joined = stage.join(OFFER)?;
        match attribute(joined.video()?, "a=setup:")? {
            setup @ ("active" | "passive") => Ok(setup.into()),
            other => Err(other.into()),
        }
    }),
    row("4.2.2", "MAY", "an offer of nothing we send: 406", |stage| {
        let answer = stage.offer(&OFFER.replace("H264/", "H999/"))?;
        is(&answer.status.to_string(), "406")
    }),
    row("4.2.2", "MUST", "a 406 carries a counter-offer and Location", |stage| {
        let answer = stage.offer(&OFFER.replace("H264/", "H999/"))?;
        answer.one("location")?;
        is(answer.one("content-type")?, "application/sdp")
    })
    .missing("only H.264 is sent: a counter-offer would be what the viewer cannot take"),
    row("4.2.4", "MUST", "a POST of another type: 4xx", |stage| {
        let wrong = ("Content-Type", "application/json");
        let answer = stage.wants(415, "POST", "/whep/sim", &[OTTO, wrong], OFFER)?;
        is(answer.one("accept-post")?, "application/sdp")?;
        stage.wants(415, "POST", "/whep/sim", &[OTTO], OFFER)?;
        Ok("415 with Accept-Post, also without a type".into())
    }),
    row("4.2.4", "MUST", "a POST of malformed SDP: 4xx", |stage| {
        let no_pwd = OFFER.replace("a=ice-pwd:", "a=ice-pw:");
        let no_fingerprint = OFFER.replace("a=fingerprint:", "a=finger:");
        for offer in ["", "hello", "v=0\r\n\0", &no_pwd, &no_fingerprint] {
            let answer = stage.offer(offer)?;
            if answer.status != 422 {
                return Err(format!("{} to {offer:?}", answer.status));
            }
        }
        Ok("422 to five".into())
    }),
    row("4.2.5", "MUST", "the answer is sendonly, to recvonly and to sendrecv", |stage| {
        for offer in [OFFER, &OFFER.replace("a=recvonly", "a=sendrecv")] {
            let joined = stage.join(offer)?;
            if !joined.video()?.contains("\r\na=sendonly\r\n") {
                return Err(joined.answer.body.clone());
            }
        }
        Ok("sendonly".into())
    }),
    row("4.2.5", "MUST NOT", "an offer that is sendonly or inactive is not answered", |stage| {
        let mut seen = Vec::new();
        for direction in ["a=sendonly", "a=inactive"] {
            let answer = stage.offer(&OFFER.replace("a=recvonly", direction))?;
            if !(400..500).contains(&answer.status) {
                return Err(format!("{} to {direction}", answer.status));
            }
            seen.push(answer.status.to_string());
        }
        Ok(seen.join(", "))
    }),
    row("4.2.8", "SHALL", "nothing is live: 409 with Retry-After in seconds", |stage| {
        stage.soon(|| {
            let answer = stage.wants(409, "POST", "/whep/away", &[OTTO, SDP], OFFER)?;
            seconds(answer.one("retry-after")?)
        })
    }),
    row("4.3", "MUST", "OPTIONS for CORS, without credentials, from a listed page: 200", |stage| {
        preflight(stage, "/whep/sim", "POST")
    }),
    row("4.3", "SHOULD", "OPTIONS: Accept-Post: application/sdp", |stage| {
        let answer = stage.wants(200, "OPTIONS", "/whep/sim", &[], "")?;
        is(answer.one("accept-post")?, "application/sdp")
    }),
    row("4.3", "MUST", "CORS: the listed page may read Location, ETag and Link", |stage| {
        let headers = [OTTO, SDP, FRIEND];
        let answer = stage.wants(201, "POST", "/whep/sim", &headers, OFFER)?;
        stage.wants(200, "DELETE", answer.one("location")?, &[OTTO], "")?;
        is(answer.one("access-control-allow-origin")?, FRIEND.1)?;
        for header in ["Location", "ETag", "Link"] {
            answer.lists("access-control-expose-headers", header)?;
        }
        Ok("Access-Control-Expose-Headers".into())
    }),
    row("4.3", "MUST", "CORS: a page that is not listed is refused, and told nothing", |stage| {
        let preflight = [STRANGER, ("Access-Control-Request-Method", "POST")];
        let asked = stage.wants(403, "OPTIONS", "/whep/sim", &preflight, "")?;
        let sent = stage.wants(403, "POST", "/whep/sim", &[OTTO, SDP, STRANGER], OFFER)?;
        let told = [asked, sent].map(|one| one.all("access-control-allow-origin").len());
        (told == [0, 0]).then(|| "403".into()).ok_or("it is allowed".into())
    }),
    row("4.6", "MAY", "overload: 503 with Retry-After in seconds", |stage| {
        let mut inside = Vec::new();
        let full = loop {
            let answer = stage.ask("POST", "/whep/sim", &[DORA, SDP], OFFER)?;
            match answer.status {
                201 if inside.len() < 20 => inside.push(answer.one("location")?.to_owned()),
                _ => break answer,
            }
        };
        for location in &inside {
            stage.wants(200, "DELETE", location, &[DORA], "")?;
        }
        is(&full.status.to_string(), "503")?;
        Ok(format!("{} after {} sessions", seconds(full.one("retry-after")?)?, inside.len()))
    }),
    row("4.7", "MAY", "201 has a Link for each STUN and TURN server (RFC 9725, 4.6)", |stage| {
        let answer = raw::ask(stage.with_ice_servers, "POST", "/whep/sim", &[SDP], OFFER)?;
        let links = answer.all("link");
        let expected = [
            "<stun:127.0.0.1:9>; rel=\"ice-server\"",
            "<turn:127.0.0.1:9?transport=udp>; rel=\"ice-server\"; username=\"al\\\"ice\"; \
             credential=\"pa\\\\ss\"; credential-type=\"password\"",
        ];
        (links == expected).then(|| "both, quoted".into()).ok_or(format!("{links:?}"))
    }),
    row(
        "4.8",
        "MUST",
        "HTTP authentication: without credentials 401, a challenge, no Link",
        |stage| {
            let answer = stage.wants(401, "POST", "/whep/sim", &[SDP], OFFER)?;
            challenged(&answer.all("www-authenticate"))?;
            answer
                .all("link")
                .is_empty()
                .then(|| "401, Basic and Bearer".into())
                .ok_or("Link".into())
        },
    ),
    row("4.8.1", "MUST", "a Bearer token is taken; a wrong one: 401 and a challenge", |stage| {
        stage.join(OFFER)?;
        let wrong = ("Authorization", "Bearer wrong");
        let answer = stage.wants(401, "POST", "/whep/sim", &[wrong, SDP], OFFER)?;
        challenged(&answer.all("www-authenticate"))?;
        Ok("201; 401".into())
    }),
    row("4.9", "MUST", "every extension is advertised in the 201; there is none", |stage| {
        let joined = stage.join(OFFER)?;
        let links = joined.answer.all("link").join("\n");
        match links.contains("urn:ietf:params:whep:ext") {
            true => Err(links),
            false => Ok("none".into()),
        }
    }),
];

pub fn is(given: &str, wanted: &str) -> Verdict {
    match given == wanted {
        true => Ok(given.to_owned()),
        false => Err(format!("{given:?}, not {wanted:?}")),
    }
}

/// The value of an attribute that a section has once.
pub fn attribute<'a>(section: &'a str, prefix: &str) -> Result<&'a str, String> {
    let mut found = section.lines().filter_map(|line| line.strip_prefix(prefix));
    match (found.next(), found.next()) {
        (Some(value), None) => Ok(value),
        _ => Err(format!("not one {prefix} in {section}")),
    }
}

pub fn preflight(stage: &Stage, path: &str, method: &str) -> Verdict {
    let asked = [
        FRIEND,
        ("Access-Control-Request-Method", method),
        ("Access-Control-Request-Headers", "authorization,content-type,if-match"),
    ];
    let answer = stage.wants(200, "OPTIONS", path, &asked, "")?;
    is(answer.one("access-control-allow-origin")?, FRIEND.1)?;
    answer.lists("access-control-allow-methods", method)?;
    for header in ["Authorization", "Content-Type", "If-Match"] {
        answer.lists("access-control-allow-headers", header)?;
    }
    Ok("200, origin, methods, headers".into())
}

pub fn challenged(challenges: &[&str]) -> Result<(), String> {
    let bearer = challenges.iter().any(|one| one.starts_with("Bearer "));
    bearer.then_some(()).ok_or_else(|| format!("{challenges:?}"))
}

fn seconds(retry_after: &str) -> Verdict {
    match retry_after.parse() {
        Ok(1u32..) => Ok(format!("Retry-After: {retry_after}")),
        _ => Err(retry_after.to_owned()),
    }
}
