use super::*;

async fn from(site: &Site, method: &str, path: &str, origin: &str) -> Response {
    site.request(method, path).header("origin", origin).send().await.unwrap()
}

#[tokio::test]
async fn an_address_that_cannot_be_read_is_a_problem_too() {
    let site = Site::open().await;
    for path in [
        "/api/v1/cameras/%ff",
        "/whep/%ff/x",
        "/snapshot/sim.jpg?rendition=main&rendition=low",
        "/ws/sim?rendition=a&rendition=b",
    ] {
        let method = if path.starts_with("/whep") { "DELETE" } else { "GET" };
        let answer = site.request(method, path).send().await.unwrap();
        problem(answer, 400, "bad-address").await;
    }
}

#[tokio::test]
async fn pages_of_foreign_origins_are_refused_whatever_they_ask_for() {
    let site = Site::open().await;
    for (method, path) in [
        ("POST", "/whep/sim"),
        ("OPTIONS", "/whep/sim"),
        ("DELETE", "/api/v1/sessions/x"),
        ("PATCH", "/api/v1/cameras/sim"),
        ("GET", "/api/v1/status"),
    ] {
        for origin in ["https://evil.example", "null", "http://127.0.0.1:1"] {
            let response = from(&site, method, path, origin).await;
            assert!(!response.headers().contains_key("access-control-allow-origin"));
            problem(response, 403, "foreign-origin").await;
        }
    }
}

#[tokio::test]
async fn our_own_page_and_listed_origins_are_let_in() {
    let site = Site::open().await;
    let ours = format!("http://{}", site.address);
    for origin in [ours.as_str(), "https://friend.example", "https://friend.example:443"] {
        let response = from(&site, "GET", "/api/v1/status", origin).await;
        assert_eq!(response.status(), 200, "{origin}");
        assert_eq!(response.headers()["access-control-allow-origin"], origin);
        assert_eq!(response.headers()["vary"], "Origin");
        let exposed = response.headers()["access-control-expose-headers"].to_str().unwrap();
        assert!(exposed.contains("Location") && exposed.contains("ETag"));
    }
}

#[tokio::test]
async fn a_listed_origin_s_preflight_is_answered_everywhere() {
    let site = Site::open().await;
    for path in ["/whep/sim", "/api/v1/cameras/sim", "/api/v1/sessions/x"] {
        let preflight = site
            .request("OPTIONS", path)
            .header("origin", "https://friend.example")
            .header("access-control-request-method", "PATCH");
        let response = preflight.send().await.unwrap();
        assert!(response.status().is_success(), "{path}: {}", response.status());
        let header = |name: &str| response.headers()[name].to_str().unwrap();
        assert!(header("access-control-allow-methods").contains("PATCH"));
        assert!(header("access-control-allow-headers").contains("If-Match"));
    }
}

#[tokio::test]
async fn on_loopback_only_loopback_names_are_answered() {
    let site = Site::open().await;
    for host in ["evil.example", "evil.example:8080", "localhost.evil.example", "192.0.2.1"] {
        let response = site.request("GET", "/").header("host", host).send().await.unwrap();
        problem(response, 403, "wrong-host").await;
    }
    for host in ["localhost:9", "127.0.0.1", "[::1]:8080"] {
        let response = site.request("GET", "/healthz").header("host", host).send().await.unwrap();
        assert_eq!(response.status(), 200, "{host}");
    }
}

#[tokio::test]
async fn every_answer_carries_the_security_headers_and_the_page_obeys_its_policy() {
    let site = Site::open().await;
    for path in ["/", "/viewer/viewer.js", "/api/v1/status", "/nosuch"] {
        let response = site.get(path).await;
        let header = |name: &str| response.headers()[name].to_str().unwrap();
        let policy = header("content-security-policy");
        assert!(policy.contains("script-src 'self';"), "{policy}");
        assert!(policy.contains("frame-ancestors 'self' https://friend.example"), "{policy}");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
    }
    let page = site.get("/").await.text().await.unwrap();
    assert!(!page.contains("style=") && !page.contains("onclick") && !page.contains("<style"));
    for script in page.split("<script").skip(1) {
        assert!(script.contains("src=\"/viewer/"), "inline script: {script}");
    }
}

#[tokio::test]
async fn every_part_of_the_page_is_there_and_is_not_sent_twice() {
    let site = Site::open().await;
    let page = site.get("/").await.text().await.unwrap();
    let parts = page.split(['"']).filter(|part| part.starts_with("/viewer/"));
    for part in parts {
        let response = site.get(part).await;
        assert_eq!(response.status(), 200, "{part}");
        let etag = response.headers()["etag"].clone();
        let again = site.request("GET", part).header("if-none-match", etag).send().await.unwrap();
        assert_eq!(again.status(), 304, "{part}");
    }
    problem(site.get("/viewer/nosuch.js").await, 404, "not-found").await;
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_problems_too() {
    let site = Site::open().await;
    problem(site.get("/nosuch").await, 404, "not-found").await;
    problem(site.get("/telemetry/sim").await, 404, "not-found").await;
    let response = site.request("PUT", "/api/v1/status").send().await.unwrap();
    assert!(response.headers()["allow"].to_str().unwrap().contains("GET"));
    problem(response, 405, "wrong-method").await;
}
