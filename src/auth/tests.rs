use super::*;
use crate::config::{Role, User as UserConfig};
use crate::password::{md5, rtsp_digest};

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

fn config() -> config::Auth {
    let user = |name: &str, cameras: Option<&str>, role| UserConfig {
        name: name.into(),
        // The least that argon2 takes: these tests check many.
        password_hash: weak_hash(&format!("{name}'s secret")).into(),
        digest_ha1: Some(rtsp_digest(name, &format!("{name}'s secret")).into()),
        cameras: cameras.map(|camera| vec![camera.into()]),
        role,
    };
    let users = vec![user("anna", None, Role::Operator), user("otto", Some("porch"), Role::Viewer)];
    config::Auth { mode: None, users }
}

fn weak_hash(password: &str) -> String {
    use argon2::password_hash::PasswordHasher as _;
    let params = argon2::Params::new(argon2::Params::MIN_M_COST, 1, 1, None).unwrap();
    let argon2 = argon2::Argon2::new(Default::default(), Default::default(), params);
    argon2.hash_password(password.as_bytes()).unwrap().to_string()
}

fn basic(name: &str, password: &str) -> Credentials {
    Credentials::Basic { name: name.into(), password: password.into() }
}

fn come(auth: &Auth, credentials: &Credentials) -> Result<Visitor, Denied> {
    auth.authenticate(HERE, credentials, || Duration::ZERO)
}

#[test]
fn without_users_everybody_may_do_everything() {
    let auth = Auth::new(&config::Auth::default());
    let visitor = come(&auth, &basic("who", "ever")).unwrap();
    assert!(auth.is_open() && visitor.name().is_none());
    assert!(visitor.may_watch("any") && visitor.may_operate() && visitor.sees_everything());
}

#[test]
fn a_user_sees_and_does_what_the_configuration_says() {
    let auth = Auth::new(&config());
    let anna = come(&auth, &basic("anna", "anna's secret")).unwrap();
    assert!(anna.may_watch("porch") && anna.may_watch("cellar"));
    assert!(anna.sees_everything() && anna.may_operate());
    let otto = come(&auth, &basic("otto", "otto's secret")).unwrap();
    assert!(otto.may_watch("porch") && !otto.may_watch("cellar"));
    assert!(!otto.sees_everything() && !otto.may_operate());
    assert_eq!(otto.name().unwrap().as_ref(), "otto");
}

#[test]
fn a_bearer_token_is_name_and_password_or_the_password_alone() {
    let auth = Auth::new(&config());
    for token in ["otto:otto's secret", "otto's secret"] {
        let visitor = come(&auth, &Credentials::Bearer(token.into())).unwrap();
        assert_eq!(visitor.name().unwrap().as_ref(), "otto", "{token}");
    }
    let others = Credentials::Bearer("anna:otto's secret".into());
    assert_eq!(come(&auth, &others).unwrap_err(), Denied::Wrong);
    // A bare guess is one at everybody's password.
    for _ in 0..2 {
        assert_eq!(come(&auth, &Credentials::Bearer("x".into())).unwrap_err(), Denied::Wrong);
    }
    assert!(matches!(come(&auth, &Credentials::Bearer("x".into())), Err(Denied::Slow { .. })));
}

#[test]
fn wrong_guesses_slow_their_address_down_but_nobody_who_is_known() {
    let auth = Auth::new(&config());
    let right = basic("anna", "anna's secret");
    come(&auth, &right).unwrap();
    let guess = |n: u32| come(&auth, &basic("anna", &n.to_string())).unwrap_err();
    let denied: Vec<Denied> = (0..7).map(guess).collect();
    assert!(denied[..5].iter().all(|denied| *denied == Denied::Wrong), "{denied:?}");
    assert_eq!(denied[5], Denied::Slow { retry_after: Duration::from_secs(1) });
    assert!(come(&auth, &right).is_ok(), "known before: a neighbour's guesses do not lock out");
    // Not listened to, although right.
    let otto = basic("otto", "otto's secret");
    assert!(matches!(come(&auth, &otto), Err(Denied::Slow { .. })));
    assert!(auth.authenticate(THERE, &otto, || Duration::ZERO).is_ok());
    assert!(auth.authenticate(HERE, &otto, || Duration::ZERO).is_ok(), "known from elsewhere now");
}

#[test]
fn a_digest_answer_counts_like_a_password() {
    let auth = Auth::new(&config());
    assert!(auth.has_digest());
    let nonce = Nonce::random();
    let challenge = nonce.challenge();
    let value = challenge.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let ha1 = rtsp_digest("otto", "otto's secret");
    let ha2 = md5(&["DESCRIBE", "rtsp://h/porch"]);
    let answer = DigestAnswer {
        username: "otto".into(),
        uri: "rtsp://h/porch".into(),
        response: md5(&[&ha1, &value, &ha2]),
        nonce: value,
    };
    let come = |method: &str| {
        let now = Duration::ZERO;
        auth.authenticate_digest(HERE, &answer, method, &nonce, now)
            .map(|visitor| visitor.may_watch("porch"))
    };
    assert_eq!(come("DESCRIBE"), Ok(true));
    for _ in 0..5 {
        assert_eq!(come("PLAY"), Err(Denied::Wrong));
    }
    assert!(matches!(come("PLAY"), Err(Denied::Slow { .. })));
    assert_eq!(come("DESCRIBE"), Ok(true), "guesses do not stand in the way of who is right");
    assert!(matches!(come("PLAY"), Err(Denied::Slow { .. })), "and are not forgiven for it");
}

#[test]
fn other_users_are_in_force_after_a_reload() {
    let mut changed = config();
    let auth = Auth::new(&changed);
    let otto = basic("otto", "otto's secret");
    come(&auth, &otto).unwrap();
    assert!(auth.is_valid(Some("otto"), "porch") && !auth.is_valid(Some("otto"), "cellar"));
    assert!(!auth.is_valid(None, "porch"), "nobody is let in without a name");
    changed.users.pop();
    changed.users[0].cameras = Some(vec!["porch".into()]);
    let gone = auth.reload(&changed);
    assert_eq!(gone, ["otto".into()], "anna may watch less, but is who she was");
    changed.users[0].password_hash = weak_hash("another").into();
    assert_eq!(auth.reload(&changed), ["anna".into()]);
    assert_eq!(come(&auth, &otto).unwrap_err(), Denied::Wrong);
    assert!(!auth.is_valid(Some("otto"), "porch"));
}

#[test]
fn only_so_many_wait_for_their_turn() {
    let waiting = AtomicUsize::new(0);
    let places: Vec<_> = (0..WAITING_MAX).map(|_| Place::take(&waiting).unwrap()).collect();
    assert_eq!(Place::take(&waiting).err(), Some(Denied::Busy { retry_after: BUSY_FOR }));
    drop(places);
    assert_eq!(waiting.load(Ordering::Relaxed), 0);
}
