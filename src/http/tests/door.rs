//! Who is let in where, with users.

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::*;
use crate::config::{Auth as Users, Role, User};

/// Anna does everything, Otto watches `sim`, Dora watches `dead`.
fn users() -> Users {
    let user = |name: &str, cameras: Option<&str>, role| User {
        name: name.into(),
        password_hash: crate::password::hash(&format!("{name}-secret")).unwrap().into(),
        digest_ha1: None,
        cameras: cameras.map(|camera| vec![camera.into()]),
        role,
    };
    let users = vec![
        user("anna", None, Role::Operator),
        user("otto", Some("sim"), Role::Viewer),
        user("dora", Some("dead"), Role::Operator),
    ];
    Users { mode: None, users }
}

async fn site() -> Site {
    Site::open_for(&users(), LIMITS).await
}

impl Site {
    async fn ask(&self, who: &str, method: &str, path: &str) -> Response {
        let request = self.request(method, path);
        let request = match who {
            "" => request,
            who => request.basic_auth(who, Some(format!("{who}-secret"))),
        };
        request.header("content-type", "application/json").body("{}").send().await.unwrap()
    }
}

#[tokio::test]
async fn without_credentials_there_is_a_401_with_both_challenges_and_nothing_else() {
    let site = site().await;
    for (path, ..) in super::super::routes::table() {
        let path =
            path.replace("{camera}", "sim").replace("{id}", "sim").replace("{file}", "sim.jpg");
        if matches!(&*path, "/healthz" | "/readyz") {
            continue;
        }
        let response = site.get(&path).await;
        let challenges: Vec<_> = response.headers().get_all("www-authenticate").iter().collect();
        assert_eq!(
            challenges,
            ["Basic realm=\"Lensline\", charset=\"UTF-8\"", "Bearer realm=\"Lensline\""]
        );
        problem(response, 401, "no-credentials").await;
    }
    for (method, path) in
        [("POST", "/whep/sim"), ("PATCH", "/api/v1/cameras/sim"), ("DELETE", "/api/v1/sessions/x")]
    {
        problem(site.ask("", method, path).await, 401, "no-credentials").await;
    }
    for method in ["PATCH", "DELETE"] {
        problem(site.ask("", method, "/whep/sim/x").await, 401, "no-credentials").await;
    }
    assert_eq!(site.get("/healthz").await.status(), 200);
    let ready = site.get("/readyz").await;
    assert_eq!(ready.status(), 503);
    let text = ready.text().await.unwrap();
    assert!(!text.contains("sim") && !text.contains("dead"), "{text}");
}

#[tokio::test]
async fn a_viewer_without_permission_for_a_camera_gets_403_whether_it_is_there_or_not() {
    let site = site().await;
    for camera in ["dead", "nosuch"] {
        for path in ["/whep/", "/ws/", "/api/v1/cameras/", "/snapshot/"] {
            let path = format!("{path}{camera}{}", if path == "/snapshot/" { ".jpg" } else { "" });
            let method = if path.starts_with("/whep") { "POST" } else { "GET" };
            problem(site.ask("otto", method, &path).await, 403, "not-permitted").await;
        }
    }
    problem(site.ask("otto", "GET", "/metrics").await, 403, "not-permitted").await;
    let cameras: Value = site.ask("otto", "GET", "/api/v1/cameras").await.json().await.unwrap();
    assert_eq!(cameras["cameras"].as_array().unwrap().len(), 1);
    let status = site.ask("otto", "GET", "/api/v1/status").await.text().await.unwrap();
    assert!(status.contains("\"sim\"") && !status.contains("\"dead\""), "{status}");
}

#[tokio::test]
async fn viewers_look_and_operators_change() {
    let site = site().await;
    problem(site.ask("otto", "PATCH", "/api/v1/cameras/sim").await, 403, "not-permitted").await;
    problem(site.ask("otto", "DELETE", "/api/v1/sessions/x").await, 403, "not-permitted").await;
    problem(site.ask("dora", "PATCH", "/api/v1/cameras/sim").await, 403, "not-permitted").await;
    problem(site.ask("anna", "PATCH", "/api/v1/cameras/sim").await, 422, "bad-change").await;
    assert_eq!(site.ask("anna", "GET", "/metrics").await.status(), 200);
}

#[tokio::test]
async fn a_session_is_its_user_s_and_an_operator_of_the_camera_may_end_it() {
    let site = site().await;
    let offer = |who: &str| {
        let request = site.request("POST", "/whep/sim").bearer_auth(format!("{who}-secret"));
        request.header("content-type", "application/sdp").body(OFFER).send()
    };
    let response = offer("otto").await.unwrap();
    assert_eq!(response.status(), 201);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    problem(site.ask("anna", "DELETE", &location).await, 404, "unknown-session").await;
    problem(site.ask("dora", "DELETE", &location).await, 403, "not-permitted").await;
    problem(site.ask("", "DELETE", &location).await, 401, "no-credentials").await;
    let id = location.rsplit('/').next().unwrap();
    let api = format!("/api/v1/sessions/{id}");
    problem(site.ask("dora", "DELETE", &api).await, 404, "unknown-session").await;
    let session: Value = site.ask("otto", "GET", &api).await.json().await.unwrap();
    assert_eq!(session["user"], "otto");
    assert_eq!(site.ask("anna", "DELETE", &api).await.status(), 204);
    site.sessions(0).await;
    let again = offer("otto").await.unwrap();
    let location = again.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(site.ask("otto", "DELETE", &location).await.status(), 200);
    site.sessions(0).await;
}

#[tokio::test]
async fn who_is_no_user_any_more_does_not_join_by_what_was_opened_before() {
    let mut others = users();
    let site = Site::open_for(&others, LIMITS).await;
    let mut request = format!("ws://{}/ws/sim", site.address).into_client_request().unwrap();
    let token = "Bearer otto-secret".parse().unwrap();
    request.headers_mut().insert("authorization", token);
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    others.users.retain(|user| user.name != "otto");
    assert_eq!(site.auth.reload(&others), ["otto".into()]);
    let offer = serde_json::json!({ "type": "offer", "data": OFFER }).to_string();
    socket.send(Message::text(offer)).await.unwrap();
    let answer = loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Text(text) => break text.to_string(),
            _ => continue,
        }
    };
    assert!(answer.contains("wrong-credentials"), "{answer}");
    site.sessions(0).await;
}

#[tokio::test]
async fn wrong_passwords_are_slowed_down_and_say_when_to_come_back() {
    let site = site().await;
    let guess = |password: &'static str| {
        site.request("GET", "/api/v1/status").basic_auth("anna", Some(password)).send()
    };
    assert_eq!(guess("anna-secret").await.unwrap().status(), 200);
    for password in ["a", "b", "c", "d", "e"] {
        problem(guess(password).await.unwrap(), 401, "wrong-credentials").await;
    }
    problem(guess("f").await.unwrap(), 429, "too-many-guesses").await;
    assert_eq!(guess("anna-secret").await.unwrap().status(), 200, "who is known is not locked out");
}

#[tokio::test]
async fn one_user_may_have_so_many_sessions_and_no_more() {
    let limits = Limits { sessions_per_user_max: 2, ..LIMITS };
    let site = Site::open_for(&users(), limits).await;
    let offer = || {
        let request = site.request("POST", "/whep/sim").basic_auth("otto", Some("otto-secret"));
        request.header("content-type", "application/sdp").body(OFFER).send()
    };
    for _ in 0..2 {
        assert_eq!(offer().await.unwrap().status(), 201);
    }
    let json = problem(offer().await.unwrap(), 503, "limit-reached").await;
    assert!(json["remedy"].as_str().unwrap().contains("limits.sessions_per_user_max"), "{json}");
}

#[tokio::test]
async fn strangers_learn_nothing_from_options() {
    let site = site().await;
    for path in ["/whep/sim", "/whep/nosuch"] {
        let response = site.ask("", "OPTIONS", path).await;
        assert_eq!(response.status(), 200, "{path}");
        assert!(!response.headers().contains_key("link"), "TURN passwords are not for strangers");
    }
    assert!(site.ask("otto", "OPTIONS", "/whep/sim").await.headers().contains_key("link"));
}
