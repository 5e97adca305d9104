//! Whether a peer is who its offer said: the certificate that came over the wire against the
//! fingerprint that came by signalling (RFC 8122, RFC 8827 section 6.5). Sans-IO.
//!
//! Without it, whoever gets between the two could shake hands in the viewer's place and be given
//! the keys to the pictures. str0m compares for itself; webrtcbin before 1.28 does not.

use glib::ChecksumType;

/// What stands around a certificate in PEM.
const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const PEM_END: &str = "-----END CERTIFICATE-----";

/// Whether `pem`, the certificate of a peer, has this `fingerprint`, written as in SDP: the hash
/// function, which must be `sha-256`, a space, and the digest in hexadecimal with colons.
pub fn matches(fingerprint: &str, pem: &str) -> bool {
    let promised = fingerprint.split_once(' ').filter(|(hash, _)| *hash == "sha-256");
    let promised = promised.map(|(_, digest)| digest.replace(':', "").to_ascii_lowercase());
    promised.is_some() && promised == sha256(pem)
}

/// The SHA-256 of the certificate itself (DER), in lower-case hexadecimal; of the first where
/// there are several, as that is the peer's own.
fn sha256(pem: &str) -> Option<String> {
    let (_, rest) = pem.split_once(PEM_BEGIN)?;
    let (base64, _) = rest.split_once(PEM_END)?;
    let der = glib::base64_decode(base64);
    let digest = glib::compute_checksum_for_data(ChecksumType::Sha256, &der)?;
    (!der.is_empty()).then(|| digest.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with `openssl req -x509`; the digest is what `openssl x509 -fingerprint -sha256` says.
    const PEM: &str = include_str!("fingerprint/peer.pem");
    const FINGERPRINT: &str = include_str!("fingerprint/peer.sha256");

    #[test]
    fn a_certificate_is_known_by_its_digest_however_that_is_spelt() {
        let fingerprint = FINGERPRINT.trim();
        assert!(matches(fingerprint, PEM));
        let (hash, digest) = fingerprint.split_once(' ').unwrap();
        assert!(matches(&format!("{hash} {}", digest.to_ascii_lowercase()), PEM));
        assert!(matches(fingerprint, &format!("{PEM}{PEM}")));
    }

    #[test]
    fn one_digit_off_is_another_peer_and_so_is_none() {
        let fingerprint = FINGERPRINT.trim();
        let digits = fingerprint.char_indices().skip("sha-256 ".len());
        for (at, digit) in digits.filter(|(_, digit)| digit.is_ascii_hexdigit()) {
            let other = if digit == '0' { "1" } else { "0" };
            let mut lie = fingerprint.to_owned();
            lie.replace_range(at..=at, other);
            assert!(!matches(&lie, PEM), "{lie}");
        }
        for (fingerprint, pem) in [
            (fingerprint, ""),
            (fingerprint, "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"),
            ("", PEM),
            ("sha-256", PEM),
            ("sha-256 ", PEM),
            ("sha-256 ", ""),
            (&fingerprint.replace("sha-256", "sha-1"), PEM),
            (&fingerprint[..fingerprint.len() - 3], PEM),
        ] {
            assert!(!matches(fingerprint, pem), "{fingerprint} {pem}");
        }
    }
}
