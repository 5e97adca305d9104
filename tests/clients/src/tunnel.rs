//! TLS for clients that have none: a port of the loopback whose connections go on inside TLS.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

/// A way into `target`. Dropping it closes the port; connections end by themselves.
#[derive(Debug)]
pub struct Tunnel {
    /// Where to connect without TLS.
    pub address: SocketAddr,
    verifier: Arc<Anyone>,
    listener: JoinHandle<()>,
}

impl Tunnel {
    /// Opens one; each connection shakes hands anew and takes every certificate.
    ///
    /// # Panics
    /// Where the system has no port.
    pub async fn open(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Arc::new(Anyone { provider: provider.clone(), seen: Mutex::default() });
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        let connector = TlsConnector::from(Arc::new(config));
        let listener = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(carry(stream, target, connector.clone()));
            }
        });
        Self { address, verifier, listener }
    }

    /// The certificate that the last connection was shown, as DER.
    pub fn certificate(&self) -> Option<Vec<u8>> {
        self.verifier.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// Ends when both sides have.
async fn carry(mut stream: TcpStream, target: SocketAddr, connector: TlsConnector) {
    let Ok(outside) = TcpStream::connect(target).await else { return };
    // A refused handshake shows as a connection that is closed.
    if let Ok(mut outside) = connector.connect(target.ip().into(), outside).await {
        let _ = copy_bidirectional(&mut stream, &mut outside).await;
    }
}

/// Believes every certificate, and remembers the last.
#[derive(Debug)]
struct Anyone {
    provider: Arc<CryptoProvider>,
    seen: Mutex<Option<Vec<u8>>>,
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.to_vec());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
