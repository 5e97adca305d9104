use super::*;

const FRAGMENT: &str = "a=ice-ufrag:abcd\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n\
    a=candidate:7 1 UDP 1 192.0.2.9 4000 typ host\r\na=end-of-candidates\r\n";

/// A joined viewer: its session's path and ETag.
async fn join(site: &Site) -> (String, String) {
    let response = site.offer("/whep/sim", OFFER).await;
    assert_eq!(response.status(), 201);
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    (header("location"), header("etag"))
}

fn patch(site: &Site, path: &str) -> RequestBuilder {
    let request = site.request("PATCH", path);
    request.header("content-type", "application/trickle-ice-sdpfrag")
}

#[tokio::test]
async fn an_offer_is_answered_with_everything_that_whep_asks_for() {
    let site = Site::open().await;
    let response = site.offer("/whep/sim?rendition=low", OFFER).await;
    assert_eq!(response.status(), 201);
    let headers = response.headers().clone();
    let header = |name: &str| headers[name].to_str().unwrap();
    assert_eq!(header("content-type"), "application/sdp");
    assert_eq!(header("accept-patch"), "application/trickle-ice-sdpfrag");
    assert!(header("etag").starts_with('"') && header("etag").ends_with('"'));
    assert_eq!(
        header("link"),
        "<turn:turn.example:3478?transport=udp>; rel=\"ice-server\"; username=\"me\"; \
         credential=\"pass\\\"word\"; credential-type=\"password\""
    );
    assert_eq!(response.text().await.unwrap(), ANSWER);
    let sessions = site.registry.list();
    assert_eq!(header("location"), format!("/whep/sim/{}", sessions[0].id));
    assert_eq!(&*sessions[0].rendition.name, "low");
    assert_eq!(sessions[0].address.ip(), site.address.ip());
}

#[tokio::test]
async fn offers_that_cannot_be_served_are_told_why() {
    let site = Site::open().await;
    for (path, offer, status, kind) in [
        ("/whep/nosuch", OFFER, 404, "unknown-camera"),
        ("/whep/sim?rendition=nosuch", OFFER, 404, "unknown-rendition"),
        ("/whep/sim", "bad offer", 422, "bad-offer"),
        ("/whep/sim", "vp8 only", 406, "no-h264"),
        ("/whep/sim", "full house", 503, "busy"),
        ("/whep/sim", "slow engine", 503, "busy"),
        ("/whep/sim", "broken engine", 500, "internal"),
        ("/whep/dead", OFFER, 409, "camera-away"),
    ] {
        problem(site.offer(path, offer).await, status, kind).await;
    }
    problem(site.offer("/whep/sim", vec![0xff, 0xfe]).await, 422, "not-utf8").await;
    let wrong = site.request("POST", "/whep/sim").json(&1).send().await.unwrap();
    assert_eq!(wrong.headers()["accept-post"], "application/sdp");
    problem(wrong, 415, "wrong-content-type").await;
    let untyped = site.request("POST", "/whep/sim").body(OFFER).send().await.unwrap();
    problem(untyped, 415, "wrong-content-type").await;
    assert!(site.registry.list().is_empty());
}

#[tokio::test]
async fn an_offer_of_64_kib_is_read_and_one_byte_more_is_not() {
    let site = Site::open().await;
    let response = site.offer("/whep/sim", "a".repeat(64 * 1024)).await;
    assert_eq!(response.status(), 201);
    let response = site.offer("/whep/sim", "a".repeat(64 * 1024 + 1)).await;
    problem(response, 413, "body-too-large").await;
}

#[tokio::test]
async fn the_last_seat_is_given_and_the_next_viewer_is_asked_to_come_again() {
    let site = Site::open().await;
    let mut first = None;
    for _ in 0..LIMITS.webrtc_sessions_max {
        first = Some(join(&site).await.0);
    }
    let refused = problem(site.offer("/whep/sim", OFFER).await, 503, "limit-reached").await;
    assert!(refused["remedy"].as_str().unwrap().contains("limits.webrtc_sessions_max"));
    let left = site.request("DELETE", &first.unwrap()).send().await.unwrap();
    assert_eq!(left.status(), 200);
    site.sessions(LIMITS.webrtc_sessions_max - 1).await;
    join(&site).await;
    let metrics = site.get("/metrics").await.text().await.unwrap();
    let line = "lensline_sessions_refused_total{reason=\"sessions_max\",transport=\"webrtc\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn who_joins_too_often_is_slowed_down() {
    let site = Site::open_with(Limits { joins_per_second_max: 1, ..LIMITS }).await;
    join(&site).await;
    problem(site.offer("/whep/sim", OFFER).await, 429, "limit-reached").await;
}

#[tokio::test]
async fn candidates_trickle_in_under_the_session_s_etag_only() {
    let site = Site::open().await;
    let (path, etag) = join(&site).await;
    let send = async |tag: &str, body: &'static str| {
        patch(&site, &path).header("if-match", tag).body(body).send().await.unwrap()
    };
    assert_eq!(send(&etag, FRAGMENT).await.status(), 204);
    assert_eq!(send(&format!("\"other\", {etag}"), FRAGMENT).await.status(), 204);
    assert_eq!(site.heard.lock().unwrap().len(), 4);
    let first = site.heard.lock().unwrap()[0].clone();
    assert_eq!(first.candidate, "candidate:7 1 UDP 1 192.0.2.9 4000 typ host");
    assert_eq!((first.mid.as_deref(), first.mline_index), (Some("0"), 0));

    let missing = patch(&site, &path).body(FRAGMENT).send().await.unwrap();
    problem(missing, 428, "if-match-required").await;
    problem(send("\"other\"", FRAGMENT).await, 412, "if-match-failed").await;
    let restart = "a=ice-ufrag:wxyz\r\na=ice-pwd:0123456789012345678901\r\n";
    problem(send(&etag, restart).await, 422, "no-ice-restart").await;
    problem(send(&etag, "no fragment").await, 422, "bad-fragment").await;
    problem(send(&etag, "a=candidate:nonsense").await, 422, "bad-fragment").await;
    let wrong = site.request("PATCH", &path).header("if-match", &etag).body("").send().await;
    problem(wrong.unwrap(), 415, "wrong-content-type").await;
    assert_eq!(site.heard.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn leaving_frees_the_session_whatever_if_match_says_and_only_once() {
    let site = Site::open().await;
    let (path, etag) = join(&site).await;
    let elsewhere = path.replace("/sim/", "/dead/");
    problem(site.request("DELETE", &elsewhere).send().await.unwrap(), 404, "unknown-session").await;
    let left = site.request("DELETE", &path).header("if-match", "\"other\"").send().await.unwrap();
    assert_eq!(left.status(), 200);
    site.sessions(0).await;
    problem(site.request("DELETE", &path).send().await.unwrap(), 404, "unknown-session").await;
    let late = patch(&site, &path).header("if-match", etag).body(FRAGMENT).send().await.unwrap();
    problem(late, 404, "unknown-session").await;
    let metrics = site.get("/metrics").await.text().await.unwrap();
    let line = "lensline_sessions_total{camera=\"sim\",end=\"left\",transport=\"webrtc\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn options_and_head_say_what_may_be_sent() {
    let site = Site::open().await;
    let options = site.request("OPTIONS", "/whep/sim").send().await.unwrap();
    assert_eq!(options.status(), 200);
    assert_eq!(options.headers()["accept-post"], "application/sdp");
    assert!(options.headers().contains_key("link"));
    let head = site.request("HEAD", "/whep/sim").send().await.unwrap();
    assert_eq!(
        (head.status().as_u16(), &head.headers()["content-type"] == "application/sdp"),
        (200, true)
    );
    let get = site.get("/whep/sim").await;
    assert_eq!(get.status(), 200);
    assert_eq!(get.text().await.unwrap(), "", "there is nothing to show");
    let put = site.request("PUT", "/whep/sim").send().await.unwrap();
    assert!(put.headers()["allow"].to_str().unwrap().contains("POST"));
    problem(put, 405, "wrong-method").await;
    let (path, _) = join(&site).await;
    assert_eq!(site.get(&path).await.status(), 204);
    let options = site.request("OPTIONS", &path).send().await.unwrap();
    assert_eq!(options.headers()["accept-patch"], "application/trickle-ice-sdpfrag");
}

/// What `/metrics` has counted as refused for this reason.
async fn refused(site: &Site, reason: &str) -> u64 {
    let metrics = site.get("/metrics").await.text().await.unwrap();
    let line = format!("lensline_requests_refused_total{{door=\"http\",reason=\"{reason}\"}} ");
    metrics.lines().find_map(|one| one.strip_prefix(&line)?.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn a_session_may_be_changed_so_often_a_second_and_then_not_for_a_moment() {
    let site = Site::open().await;
    let ((path, etag), (other, other_etag)) = (join(&site).await, join(&site).await);
    let send = async |path: &str, etag: &str| {
        patch(&site, path).header("if-match", etag).body(FRAGMENT).send().await.unwrap()
    };
    let limit = u64::from(crate::admission::SessionLimits::default().messages_per_second_max);
    let began = std::time::Instant::now();
    let mut passed = 0;
    let answer = loop {
        let answer = send(&path, &etag).await;
        if answer.status() != 204 {
            break answer;
        }
        passed += 1;
    };
    // What comes back while they are sent.
    let earned = 1 + limit * (1 + began.elapsed().as_secs());
    assert!((limit..=limit + earned).contains(&passed), "{passed}");
    assert_eq!(answer.headers()["retry-after"], "1");
    problem(answer, 429, "too-many-patches").await;
    assert_eq!(refused(&site, "too-many-patches").await, 1);
    assert_eq!(send(&other, &other_etag).await.status(), 204, "another's are not counted with it");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(send(&path, &etag).await.status(), 204);
}

#[tokio::test]
async fn a_candidate_too_many_is_told_as_that() {
    let site = Site::open().await;
    let (path, etag) = join(&site).await;
    let patch = patch(&site, &path).header("if-match", &etag);
    let answer = patch.body("a=candidate:one-too-many\r\n").send().await.unwrap();
    problem(answer, 422, "too-many-candidates").await;
    assert_eq!(site.registry.list().len(), 1, "the session goes on");
}

#[tokio::test]
async fn what_is_refused_is_counted_by_its_short_name_and_never_by_a_stranger_s_words() {
    let site = Site::open().await;
    let foreign = site.request("GET", "/").header("origin", "https://evil.example");
    let refusals = [
        (
            site.request("PUT", "/whep/secret-name").send().await.unwrap().status(),
            405,
            "wrong-method",
        ),
        (site.offer("/whep/secret-name", OFFER).await.status(), 404, "unknown-camera"),
        (site.offer("/whep/sim", "bad offer").await.status(), 422, "bad-offer"),
        (site.get("/secret-name").await.status(), 404, "not-found"),
        (foreign.send().await.unwrap().status(), 403, "foreign-origin"),
        (site.get("/snapshot/sim.gif").await.status(), 404, "not-found"),
    ];
    for (status, expected, reason) in refusals {
        assert_eq!(status, expected, "{reason}");
        assert!(refused(&site, reason).await >= 1, "{reason}");
    }
    let metrics = site.get("/metrics").await.text().await.unwrap();
    assert!(!metrics.contains("secret-name"), "{metrics}");
}
