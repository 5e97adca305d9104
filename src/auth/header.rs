//! What stands in `Authorization`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::password::PASSWORD_BYTES_MAX;

/// The longest user name with password, and the longest token, in bytes.
const BYTES_MAX: usize = PASSWORD_BYTES_MAX + 128;

/// Credentials as HTTP and RTSP carry them.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// RFC 7617.
    Basic {
        /// The user's name.
        name: String,
        /// The password.
        password: String,
    },
    /// RFC 6750: `name:password`, or the password alone.
    Bearer(String),
}

impl Credentials {
    /// Reads the value of an `Authorization` header; `None` where it is neither Basic nor Bearer,
    /// or does not parse.
    pub fn parse(value: &str) -> Option<Self> {
        let (scheme, rest) = value.trim().split_once(' ')?;
        let rest = rest.trim_start();
        if rest.is_empty() || rest.len() > 2 * BYTES_MAX {
            return None;
        }
        if scheme.eq_ignore_ascii_case("basic") {
            Self::basic(rest)
        } else if scheme.eq_ignore_ascii_case("bearer") && rest.len() <= BYTES_MAX {
            Some(Self::Bearer(rest.to_owned()))
        } else {
            None
        }
    }

    /// Reads what follows `Basic`.
    pub fn basic(encoded: &str) -> Option<Self> {
        let decoded = STANDARD.decode(encoded).ok().filter(|decoded| decoded.len() <= BYTES_MAX)?;
        let text = String::from_utf8(decoded).ok()?;
        let (name, password) = text.split_once(':')?;
        Some(Self::Basic { name: name.to_owned(), password: password.to_owned() })
    }
}

impl Credentials {
    /// The password, or what stands for it.
    pub(super) fn password(&self) -> &str {
        match self {
            Self::Basic { password, .. } => password,
            Self::Bearer(token) => token,
        }
    }
}

/// Never shows the secret.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { name, .. } => write!(f, "Basic({name:?})"),
            Self::Bearer(_) => f.write_str("Bearer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_rfcs_are_read() {
        // RFC 7617, section 2 and 2.1 (UTF-8).
        let read = |value| Credentials::parse(value).unwrap();
        let basic = |name: &str, password: &str| Credentials::Basic {
            name: name.into(),
            password: password.into(),
        };
        let aladdin = read("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(aladdin, basic("Aladdin", "open sesame"));
        assert_eq!(read("basic dGVzdDoxMjPCow=="), basic("test", "123£"));
        assert_eq!(read("bEARER mF_9.B5f-4.1JqM"), Credentials::Bearer("mF_9.B5f-4.1JqM".into()));
    }

    #[test]
    fn what_is_no_credential_is_none() {
        let long = format!("Bearer {}", "x".repeat(BYTES_MAX + 1));
        for value in ["", "Basic", "Basic ", "Basic ????", "Basic YQ==", "Digest a=b", "x y", &long]
        {
            assert_eq!(Credentials::parse(value), None, "{value:?}");
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let basic = Credentials::parse("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        let bearer = Credentials::parse("Bearer sesame");
        assert_eq!(format!("{basic:?} {bearer:?}"), "Some(Basic(\"Aladdin\")) Some(Bearer)");
    }

    proptest! {
        #[test]
        fn no_text_upsets_the_reader(value in ".{0,200}", scheme in "Basic |Bearer |") {
            let _ = Credentials::parse(&format!("{scheme}{value}"));
        }
    }
}
