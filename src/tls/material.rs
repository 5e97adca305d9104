//! The two files: read, understood, and told plainly what is wrong with them.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{InconsistentKeys, ServerConfig, version};
use x509_cert::der::Decode as _;
use x509_cert::time::Time;

/// A file that is larger is neither certificate nor key.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where a door's certificate and key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate, then those that signed it, as PEM.
    pub certificate: PathBuf,
    /// Its private key, as PEM.
    pub key: PathBuf,
}

/// Which of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The certificate.
    Certificate,
    /// The private key.
    Key,
}

impl Part {
    /// Its key in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Key => "key",
        }
    }
}

/// Why the files cannot be used, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {remedy}")]
pub struct Flaw {
    /// The file it is about.
    pub part: Part,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// What is not as it should be with files that can be used all the same. A server goes on with
/// them: one that a recorder relies on must come up again after a power cut, and a machine without
/// a battery for its clock does not know yet what day it is.
pub type Remark = Flaw;

/// What a door works with.
pub(super) struct Material {
    pub(super) config: Arc<ServerConfig>,
    /// When the certificate expires, since the Unix epoch.
    pub(super) not_after: Duration,
    pub(super) remarks: Vec<Remark>,
}

/// Looks at the files as [`super::Identity::load`] does.
///
/// # Errors
/// Why they cannot be used.
pub fn inspect(files: &Files) -> Result<Vec<Remark>, Flaw> {
    Ok(Material::read(files, &[])?.remarks)
}

impl Material {
    /// Reads both; `protocols` are those that the door speaks inside TLS (ALPN), any where empty.
    pub(super) fn read(files: &Files, protocols: &[&[u8]]) -> Result<Self, Flaw> {
        let (pem, _) = contents(&files.certificate, Part::Certificate)?;
        let chain = chain(&files.certificate, &pem)?;
        let (pem, mode) = contents(&files.key, Part::Key)?;
        let key = key(&files.key, &pem)?;
        let validity = Validity::of(&files.certificate, &chain)?;
        // Not the one clock of the program, which does not follow one that is set later.
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let mut remarks: Vec<_> = validity.remark(&files.certificate, now).into_iter().collect();
        remarks.extend((mode & 0o004 != 0).then(|| public(&files.key)));
        let mut config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| unfit(files, &error))?;
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let not_after = validity.not_after.to_unix_duration();
        Ok(Self { config: Arc::new(config), not_after, remarks })
    }
}

/// What the file holds, and its mode.
fn contents(path: &Path, part: Part) -> Result<(Vec<u8>, u32), Flaw> {
    let name = path.display();
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Flaw {
            part,
            message: format!("there is no file {name}"),
            remedy: "name a file in PEM; README.md, \"With TLS\", shows how to make one".into(),
        },
        _ => Flaw {
            part,
            message: format!("{name} cannot be read: {error}"),
            remedy: "let the user that runs Lensline read it, by its group for example".into(),
        },
    };
    let no_file = |message| Flaw { part, message, remedy: "name a file in PEM".into() };
    // Before it is opened: to open a pipe is to wait for its writer.
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(no_file(format!("{name} is no file")));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(no_file(format!("{name} is larger than 1 MiB")));
    }
    Ok((bytes, metadata.mode()))
}

fn chain(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Flaw> {
    let name = path.display();
    let flaw = |message: String, remedy: &str| Flaw {
        part: Part::Certificate,
        message,
        remedy: remedy.into(),
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| flaw(format!("{name} is no whole PEM: {error}"), "copy it anew"))?;
    if chain.is_empty() {
        return Err(match PrivateKeyDer::from_pem_slice(pem) {
            Ok(_) => flaw(
                format!("{name} holds a private key and no certificate"),
                "name the certificate here, and the key as `key`",
            ),
            Err(_) => flaw(
                format!("{name} holds no certificate in PEM (no BEGIN CERTIFICATE)"),
                "where it is DER: openssl x509 -inform der -in FILE -out FILE.pem",
            ),
        });
    }
    Ok(chain)
}

fn key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, Flaw> {
    let name = path.display();
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        let text = String::from_utf8_lossy(pem);
        let (message, remedy) = if text.contains("ENCRYPTED") {
            (
                format!("{name} is locked with a passphrase"),
                "unlock it: openssl pkey -in FILE -out OPEN.pem; chmod 600 OPEN.pem",
            )
        } else if text.contains("BEGIN CERTIFICATE") {
            (
                format!("{name} holds a certificate and no private key"),
                "name the key that belongs to the certificate",
            )
        } else {
            (
                format!("{name} holds no private key in PEM: {error}"),
                "where it is DER: openssl pkey -inform der -in FILE -out FILE.pem",
            )
        };
        Flaw { part: Part::Key, message, remedy: remedy.into() }
    })
}

fn public(path: &Path) -> Remark {
    let name = path.display();
    Flaw {
        part: Part::Key,
        message: format!("everybody on this machine can read the private key {name}"),
        remedy: format!("chmod o= {name}"),
    }
}

/// What rustls has against them.
fn unfit(files: &Files, error: &rustls::Error) -> Flaw {
    let (certificate, key) = (files.certificate.display(), files.key.display());
    match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Flaw {
            part: Part::Key,
            message: format!("{key} does not belong to the certificate {certificate}"),
            remedy: "name the two that were made together; the certificate itself comes first in \
                     its file, before those that signed it"
                .into(),
        },
        rustls::Error::InvalidCertificate(_) => Flaw {
            part: Part::Certificate,
            message: format!("{certificate} cannot be used: {error}"),
            remedy: "make one of X.509 version 3".into(),
        },
        _ => Flaw {
            part: Part::Key,
            message: format!("{key} cannot be used: {error}"),
            remedy: "make an ECDSA key (P-256), or an RSA key of 2048 bits or more".into(),
        },
    }
}

struct Validity {
    not_before: Time,
    not_after: Time,
}

impl Validity {
    fn of(path: &Path, chain: &[CertificateDer<'_>]) -> Result<Self, Flaw> {
        let first = chain.first().map(AsRef::as_ref).unwrap_or_default();
        let parsed = x509_cert::Certificate::from_der(first).map_err(|error| Flaw {
            part: Part::Certificate,
            message: format!("{} is no certificate: {error}", path.display()),
            remedy: "copy it anew, or make another".into(),
        })?;
        let validity = parsed.tbs_certificate.validity;
        Ok(Self { not_before: validity.not_before, not_after: validity.not_after })
    }

    /// What is wrong with it `now`, the time since the Unix epoch.
    fn remark(&self, path: &Path, now: Duration) -> Option<Remark> {
        let name = path.display();
        let (message, remedy) = if now > self.not_after.to_unix_duration() {
            (
                format!("{name} expired on {}", self.not_after.to_date_time()),
                "renew it; it is taken as soon as the file changes",
            )
        } else if now < self.not_before.to_unix_duration() {
            (
                format!("{name} is valid from {} on only", self.not_before.to_date_time()),
                "set this machine's clock, or wait",
            )
        } else {
            return None;
        };
        Some(Flaw { part: Part::Certificate, message, remedy: remedy.into() })
    }
}
