//! Digest authentication (RFC 7616) for RTSP, in the form that its players speak: MD5, no `qop`.
//!
//! The server must know MD5(name:realm:password), which no argon2id hash gives: it is a key of
//! its own in the configuration. A nonce lives as long as its connection, so an answer that was
//! overheard is worth nothing on another.

use std::fmt;

use subtle::ConstantTimeEq as _;

use crate::password::{REALM, md5};

/// What a connection is challenged with.
#[derive(Clone, Debug)]
pub struct Nonce(String);

/// The parameters of an `Authorization: Digest` that matter.
#[derive(Clone, Default)]
pub struct DigestAnswer {
    /// `username`
    pub username: String,
    /// `nonce`
    pub nonce: String,
    /// `uri`
    pub uri: String,
    /// `response`, in hexadecimal.
    pub response: String,
}

impl Nonce {
    /// One that nobody can guess.
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().simple().to_string())
    }

    /// The challenge, as `WWW-Authenticate` carries it.
    pub fn challenge(&self) -> String {
        format!("Digest realm=\"{REALM}\", nonce=\"{}\", algorithm=MD5", self.0)
    }
}

impl DigestAnswer {
    /// Reads the value of an `Authorization` header; `None` where it is no Digest, or one without
    /// what it must have.
    pub fn parse(value: &str) -> Option<Self> {
        let (scheme, mut rest) = value.trim().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("digest") {
            return None;
        }
        let mut answer = Self::default();
        while let Some((name, after)) = rest.split_once('=') {
            let (text, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_at(after.find(',').unwrap_or(after.len())),
            };
            let name = name.trim_matches([' ', ',', '\t']);
            let place = match () {
                () if name.eq_ignore_ascii_case("username") => &mut answer.username,
                () if name.eq_ignore_ascii_case("nonce") => &mut answer.nonce,
                () if name.eq_ignore_ascii_case("uri") => &mut answer.uri,
                () if name.eq_ignore_ascii_case("response") => &mut answer.response,
                () => &mut String::new(),
            };
            *place = text.trim().to_owned();
            rest = after;
        }
        let all = [&answer.username, &answer.nonce, &answer.uri, &answer.response];
        all.iter().all(|text| !text.is_empty()).then_some(answer)
    }

    /// Whether it is the answer of who knows `ha1` to `nonce`, for a request of `method`.
    pub(super) fn is_right(&self, ha1: &str, method: &str, nonce: &Nonce) -> bool {
        let ha2 = md5(&[method, &self.uri]);
        let expected = md5(&[&ha1.to_ascii_lowercase(), &nonce.0, &ha2]);
        let given = self.response.to_ascii_lowercase();
        let right = expected.as_bytes().ct_eq(given.as_bytes());
        (right & self.nonce.as_bytes().ct_eq(nonce.0.as_bytes())).into()
    }
}

/// Never shows the response, from which a weak password can be guessed.
impl fmt::Debug for DigestAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({:?})", self.username)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The example of RFC 2069, section 2.4, with the response of its erratum 749.
    fn example() -> (DigestAnswer, Nonce, String) {
        let nonce = "dcd98b7102dd2f0e8b11d0f600bfb0c093";
        let answer = DigestAnswer {
            username: "Mufasa".into(),
            nonce: nonce.into(),
            uri: "/dir/index.html".into(),
            response: "1949323746fe6a43ef61f9606e7febea".into(),
        };
        let ha1 = md5(&["Mufasa", "testrealm@host.com", "CircleOfLife"]);
        (answer, Nonce(nonce.into()), ha1)
    }

    #[test]
    fn the_example_of_the_rfc_is_right() {
        let (answer, nonce, ha1) = example();
        assert!(answer.is_right(&ha1, "GET", &nonce));
    }

    #[test]
    fn what_players_write_is_read_and_what_lacks_something_is_none() {
        let value = "Digest username=\"otto\", realm=\"Lensline\",nonce=\"ab\" , algorithm=MD5, \
                     uri=\"rtsp://h/porch?a=b,c\", response=00FF";
        let answer = DigestAnswer::parse(value).unwrap();
        assert_eq!((&*answer.username, &*answer.nonce), ("otto", "ab"));
        assert_eq!((&*answer.uri, &*answer.response), ("rtsp://h/porch?a=b,c", "00FF"));
        assert!(!format!("{answer:?}").contains("00FF"));
        for value in
            ["Digest", "Digest x", "Basic a=b", "Digest username=\"o", "Digest uri=x, nonce=y"]
        {
            assert!(DigestAnswer::parse(value).is_none(), "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_text_upsets_the_reader(value in "[ ,=\"a-z]{0,200}") {
            let _ = DigestAnswer::parse(&format!("Digest {value}"));
        }
    }

    #[test]
    fn another_method_nonce_password_or_response_is_wrong() {
        let (answer, nonce, ha1) = example();
        assert!(!answer.is_right(&ha1, "POST", &nonce));
        assert!(!answer.is_right(&ha1, "GET", &Nonce::random()));
        assert!(!answer.is_right(&md5(&["Mufasa", "r", "x"]), "GET", &nonce));
        let empty = DigestAnswer { response: String::new(), ..answer };
        assert!(!empty.is_right(&ha1, "GET", &nonce));
    }
}
