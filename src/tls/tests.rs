//! What is wrong with files is told plainly, and a change of them reaches newcomers.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use lensline_clients::Credentials;

use super::material::Material;
use super::*;

/// The first of January of a year, since the Unix epoch.
fn january(year: u64) -> Duration {
    let leap_days = (year - 1969) / 4 - (year > 2100) as u64;
    Duration::from_secs(((year - 1970) * 365 + leap_days) * 86_400)
}

fn files(credentials: &Credentials) -> Files {
    Files { certificate: credentials.certificate.clone(), key: credentials.key.clone() }
}

/// With these files, exactly this part is wrong, in words that have all of `said` in them.
fn assert_flaw(files: &Files, part: Part, said: &[&str]) {
    let flaw = inspect(files).unwrap_err();
    assert_eq!(flaw.part, part, "{flaw}");
    for said in said {
        assert!(flaw.to_string().contains(said), "{flaw} lacks {said}");
    }
}

#[test]
fn files_that_are_as_they_should_be_are_taken_without_a_remark() {
    assert_eq!(inspect(&files(&Credentials::new())), Ok(vec![]));
}

#[test]
fn a_certificate_that_cannot_be_used_is_told_plainly() {
    let credentials = Credentials::new();
    let right = files(&credentials);
    let missing = PathBuf::from("/nowhere/cert.pem");
    let part = Part::Certificate;
    let named = |certificate| Files { certificate, ..right.clone() };
    assert_flaw(&named(missing), part, &["there is no file /nowhere/cert.pem", "With TLS"]);
    assert_flaw(&named("/tmp".into()), part, &["/tmp is no file"]);
    assert_flaw(&named("/dev/zero".into()), part, &["is no file"]);
    assert_flaw(&named(right.key.clone()), part, &["a private key and no certificate"]);
    let pem = std::fs::read_to_string(&right.certificate).unwrap();
    for (text, said) in [
        ("", "no BEGIN CERTIFICATE"),
        ("no PEM\n", "openssl x509 -inform der"),
        (&pem[..pem.len() / 2], "is no whole PEM"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "is no certificate"),
        (&"x".repeat((1 << 20) + 1), "larger than 1 MiB"),
    ] {
        credentials.replace(&right.certificate, text);
        assert_flaw(&right, part, &[said]);
    }
}

#[test]
fn a_key_that_cannot_be_used_is_told_plainly() {
    let credentials = Credentials::new();
    let right = files(&credentials);
    let part = Part::Key;
    let named = |key| Files { key, ..right.clone() };
    assert_flaw(&named("/nowhere/key.pem".into()), part, &["there is no file /nowhere/key.pem"]);
    assert_flaw(&named(right.certificate.clone()), part, &["a certificate and no private key"]);
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----";
    let broken = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let (_, another) = Credentials::pair(2020, 2090);
    for (text, said) in [
        ("", "no private key in PEM"),
        (locked, "openssl pkey -in"),
        (broken, "cannot be used"),
        (&another, "does not belong to the certificate"),
    ] {
        credentials.replace(&right.key, text);
        assert_flaw(&right, part, &[said]);
    }
}

#[test]
fn what_can_be_used_all_the_same_is_remarked_on() {
    let credentials = Credentials::new();
    let files = files(&credentials);
    for (first, last, said) in [
        (2020, 2021, "expired on 2021-01-01"),
        (2080, 2090, "is valid from 2080-01-01T00:00:00Z on only"),
    ] {
        credentials.renew(first, last);
        let remarks = inspect(&files).unwrap();
        assert_eq!(remarks.len(), 1, "{remarks:?}");
        assert!(remarks[0].message.contains(said), "{remarks:?}");
    }
    credentials.renew(2020, 2090);
    for (mode, remarks) in [(0o640, 0), (0o600, 0), (0o644, 1), (0o604, 1)] {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&files.key, permissions).unwrap();
        let said = inspect(&files).unwrap();
        assert_eq!(said.len(), remarks, "{mode:o}: {said:?}");
        assert!(said.iter().all(|said| said.remedy.starts_with("chmod o= ")), "{said:?}");
    }
}

#[test]
fn every_cipher_is_an_aead_with_a_key_of_its_own_for_each_connection() {
    let material = Material::read(&files(&Credentials::new()), &[b"http/1.1"]).unwrap();
    assert_eq!(material.config.alpn_protocols, [b"http/1.1"]);
    assert_eq!(material.config.max_early_data_size, 0);
    let suites = &material.config.crypto_provider().cipher_suites;
    assert!(suites.len() >= 6, "{suites:?}");
    for suite in suites {
        let name = format!("{:?}", suite.suite());
        assert!(name.starts_with("TLS13_") || name.starts_with("TLS_ECDHE_"), "{name}");
        assert!(name.contains("_GCM_") || name.contains("_CHACHA20_POLY1305_"), "{name}");
    }
}

#[test]
fn a_change_is_taken_when_it_has_settled_and_what_is_broken_is_not() {
    let credentials = Credentials::new();
    let identity = Identity::load("test", files(&credentials), &[]).unwrap();
    let look_twice = || {
        identity.look();
        let between = identity.not_after();
        identity.look();
        (between, identity.not_after())
    };
    assert_eq!(look_twice(), (january(2090), january(2090)));

    credentials.renew(2020, 2080);
    assert_eq!(look_twice(), (january(2090), january(2080)));

    // A new certificate whose key has not come yet.
    let (certificate, key) = Credentials::pair(2020, 2070);
    credentials.replace(&credentials.certificate, &certificate);
    assert_eq!(look_twice(), (january(2080), january(2080)));
    credentials.replace(&credentials.key, &key);
    assert_eq!(look_twice(), (january(2080), january(2070)));

    std::fs::remove_file(&credentials.key).unwrap();
    assert_eq!(look_twice(), (january(2070), january(2070)));
    credentials.renew(2020, 2060);
    assert_eq!(look_twice(), (january(2070), january(2060)));
}

#[test]
fn asked_to_reload_it_does_so_at_once_or_says_why_not() {
    let credentials = Credentials::new();
    let identity = Identity::load("test", files(&credentials), &[]).unwrap();
    credentials.renew(2020, 2080);
    assert_eq!(identity.reload(), Ok(()));
    assert_eq!(identity.not_after(), january(2080));
    credentials.replace(&credentials.key, "no key");
    assert_eq!(identity.clone().reload().unwrap_err().part, Part::Key);
    assert_eq!(identity.not_after(), january(2080));
}
