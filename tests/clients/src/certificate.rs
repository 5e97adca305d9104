//! A certificate and its key as an administrator keeps them: two files in PEM.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

/// A certificate for `localhost` and `127.0.0.1`, signed by itself. The files go with it.
#[derive(Debug)]
pub struct Credentials {
    directory: TempDir,
    /// The certificate's file.
    pub certificate: PathBuf,
    /// The key's file.
    pub key: PathBuf,
}

impl Credentials {
    /// One that is valid for years.
    ///
    /// # Panics
    /// Where there is no room for its files.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory for the certificate");
        let [certificate, key] = ["cert.pem", "key.pem"].map(|name| directory.path().join(name));
        let new = Self { directory, certificate, key };
        new.renew(2020, 2090);
        new
    }

    /// Puts others in the place of both, valid from January of the first year to January of the
    /// last, each at once and one after the other, as certificate managers do.
    ///
    /// # Panics
    /// Where there is no room for its files.
    pub fn renew(&self, first_year: i32, last_year: i32) {
        let (certificate, key) = Self::pair(first_year, last_year);
        self.replace(&self.certificate, &certificate);
        self.replace(&self.key, &key);
    }

    /// Both in PEM: certificate and key.
    ///
    /// # Panics
    /// Where none can be made.
    pub fn pair(first_year: i32, last_year: i32) -> (String, String) {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("names that can be certified");
        params.not_before = date_time_ymd(first_year, 1, 1);
        params.not_after = date_time_ymd(last_year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// Puts `text` in the place of what a file held, at once, readable for its owner only.
    ///
    /// # Panics
    /// Where there is no room for it.
    pub fn replace(&self, path: &Path, text: &str) {
        let new = self.directory.path().join("new");
        fs::write(&new, text).expect("a file in our own directory");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).expect("our own file");
        fs::rename(&new, path).expect("a file in our own directory");
    }

    /// The line of a configuration that names them, for `[server]` or `[rtsp]`.
    pub fn toml(&self) -> String {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        format!("tls = {{ certificate = \"{certificate}\", key = \"{key}\" }}\n")
    }
}

impl Default for Credentials {
    fn default() -> Self {
        Self::new()
    }
}
