//! `[auth]`: who may come in.

use super::Findings;
use crate::config::{Auth, AuthMode, Camera, User};
use crate::password;

/// The longest name; it stands in logs, in metrics and in the API.
const NAME_BYTES_MAX: usize = 64;

/// Users that a bare bearer token is compared with: each costs a hash.
const USERS_MAX: usize = 100;

pub(super) fn check(found: &mut Findings, auth: &Auth, cameras: &[Camera]) {
    match auth.mode {
        Some(AuthMode::None) if !auth.users.is_empty() => found.between(
            &["auth.mode", "auth.users"],
            "is \"none\", so everybody may come in, whoever the users are",
            "leave auth.mode out, or take the users out",
        ),
        Some(AuthMode::Users) if auth.users.is_empty() => found.between(
            &["auth.mode", "auth.users"],
            "is \"users\", and there are none, so nobody could come in",
            "add [[auth.users]] with name and password_hash",
        ),
        _ => {}
    }
    if auth.users.len() > USERS_MAX {
        found.add(
            "auth.users",
            format!("there are more than {USERS_MAX}"),
            "let some share a name",
        );
    }
    for (index, user) in auth.users.iter().enumerate() {
        let path = |key: &str| format!("auth.users[{index}].{key}");
        name(found, &path("name"), user, &auth.users[..index]);
        secrets(found, &path, user);
        for (place, camera) in user.cameras.iter().flatten().enumerate() {
            // Without a configured camera the first that is found is taken, under its own id.
            if !cameras.is_empty() && !cameras.iter().any(|known| known.id == *camera) {
                let ids: Vec<&str> = cameras.iter().map(|camera| &*camera.id).collect();
                found.add(
                    &format!("auth.users[{index}].cameras[{place}]"),
                    format!("no camera is called `{camera}`"),
                    format!("choose from {}", ids.join(", ")),
                );
            }
        }
    }
}

fn name(found: &mut Findings, path: &str, user: &User, before: &[User]) {
    let name = &user.name;
    // RFC 7617 has no colon in a name; a quote would have to be escaped in Digest.
    let wrong = |c: char| c.is_control() || c.is_whitespace() || matches!(c, ':' | '"' | '\\');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(wrong) {
        found.add(
            path,
            format!("cannot be {name:?}"),
            format!("choose 1 to {NAME_BYTES_MAX} letters, digits, dots or dashes"),
        );
    }
    if before.iter().any(|other| other.name == *name) {
        found.add(path, format!("`{name}` is there twice"), "give each user a name of his own");
    }
}

/// Secrets are not repeated in what is said about them.
fn secrets(found: &mut Findings, path: &dyn Fn(&str) -> String, user: &User) {
    if let Err(why) = password::check(user.password_hash.reveal()) {
        found.add(
            &path("password_hash"),
            why,
            "write what `lensline hash-password` prints for the password",
        );
    }
    let is_md5 = |text: &str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if user.digest_ha1.as_ref().is_some_and(|ha1| !is_md5(ha1.reveal())) {
        found.add(
            &path("digest_ha1"),
            "is not 32 hexadecimal digits",
            format!("write what `lensline hash-password --digest {}` prints", user.name),
        );
    }
}
