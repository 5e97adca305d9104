//! Passwords as hashes: argon2id for everything, and the digest that RTSP's Digest needs.

use argon2::password_hash::phc::{Output, PasswordHash};
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params};
use md5::{Digest as _, Md5};

use crate::error::Error;

/// The realm of every challenge, and of [`rtsp_digest`].
pub const REALM: &str = "Lensline";

/// The longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 512;

/// The most that checking one password may cost: memory in KiB, and passes over it. More would
/// let a visitor keep a small machine busy.
const MEMORY_KIB_MAX: u32 = 256 << 10;
const PASSES_MAX: u32 = 16;

/// The argon2id hash of a password as a PHC string, with a random salt and the costs that OWASP
/// gives (19 MiB, 2 passes).
///
/// # Errors
/// Where the system has no randomness.
pub fn hash(password: &str) -> Result<String, Error> {
    let hash = Argon2::default().hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string())
        .map_err(|error| Error::Internal(format!("the password cannot be hashed: {error}")))
}

/// Whether `password` is the one of this PHC string. Takes as long as the hash asks for.
pub fn verify(password: &str, phc: &str) -> bool {
    let hash = PasswordHash::new(phc);
    hash.is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

/// Takes as long as [`verify`] with a hash of ours, for who names a user that is not there.
pub fn pretend(password: &str) {
    let mut out = [0; Params::DEFAULT_OUTPUT_LEN];
    // What comes out is nobody's.
    let _ = Argon2::default().hash_password_into(password.as_bytes(), b"nobody's salt", &mut out);
}

/// Whether a PHC string is an argon2id hash at a cost that a server can bear.
///
/// # Errors
/// Why not, in words.
pub fn check(phc: &str) -> Result<(), &'static str> {
    let hash = PasswordHash::new(phc).map_err(|_| "is no PHC string")?;
    if hash.algorithm.as_str() != Algorithm::Argon2id.as_str() {
        return Err("is not argon2id");
    }
    let params = Params::try_from(&hash).map_err(|_| "has parameters that argon2 does not have")?;
    if params.m_cost() > MEMORY_KIB_MAX || params.t_cost() > PASSES_MAX {
        return Err("costs more than 256 MiB or 16 passes for every visitor");
    }
    if hash.salt.is_none() || hash.hash.as_ref().is_none_or(|hash| hash.len() < Output::MIN_LENGTH)
    {
        return Err("has no salt or no hash");
    }
    Ok(())
}

/// What `digest_ha1` must be for RTSP's Digest (RFC 7616): MD5(name:realm:password), in
/// hexadecimal.
pub fn rtsp_digest(name: &str, password: &str) -> String {
    md5(&[name, REALM, password])
}

/// MD5 of the parts with colons between them, in hexadecimal.
pub fn md5(parts: &[&str]) -> String {
    let hash = Md5::digest(parts.join(":"));
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_argon2id_with_a_salt_of_its_own_and_knows_its_password() {
        let one = hash("secret").unwrap();
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
        assert_ne!(one, hash("secret").unwrap());
        assert!(verify("secret", &one));
        assert!(!verify("Secret", &one) && !verify("", &one) && !verify("secret", "secret"));
    }

    #[test]
    fn only_argon2id_at_a_bearable_cost_is_taken() {
        let own = hash("x").unwrap();
        assert_eq!(check(&own), Ok(()));
        for (phc, why) in [
            ("secret", "PHC"),
            (&*own.replace("argon2id", "argon2i"), "argon2id"),
            (&*own.replace("m=19456", "m=9999999"), "costs"),
            ("$argon2id$v=19$m=19456,t=2,p=1", "salt"),
        ] {
            assert!(check(phc).unwrap_err().contains(why), "{phc}");
        }
    }

    #[test]
    fn the_digest_is_that_of_htdigest() {
        // printf 'anna:Lensline:secret' | md5sum
        assert_eq!(rtsp_digest("anna", "secret"), "2297feb3069b83940bc449873da8d952");
    }
}
