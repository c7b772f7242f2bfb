//! TLS connections.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use once_cell::sync::{Lazy, OnceCell};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    StreamOwned,
};

use super::socket::Socket;
use crate::error::{Error, ErrorKind, TlsProblem};

/// The cryptography, set up once.
static PROVIDER: Lazy<Arc<CryptoProvider>> = Lazy::new(|| Arc::new(ring::default_provider()));

/// The system's certificate authorities. Loading them takes milliseconds, and they change with the system's
/// packages, not while an app runs.
static SYSTEM_ROOTS: OnceCell<Arc<RootCertStore>> = OnceCell::new();

/// How TLS verifies the server, and the certificate to present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// Whether to verify the server's certificate.
    pub verify: bool,
    /// The certificate authorities to trust, a PEM file; by default the system's.
    pub cacertfile: Option<PathBuf>,
    /// The client certificate and its key, PEM files.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            verify: true,
            cacertfile: None,
            client: None,
        }
    }
}

pub(crate) type TlsStream = StreamOwned<ClientConnection, Socket>;

impl TlsConfig {
    /// Accepts any server certificate and presents none.
    pub(crate) fn unverified() -> Self {
        Self {
            verify: false,
            ..Self::default()
        }
    }

    /// Performs the handshake. Reads the files again, so that renewed certificates are used.
    pub(crate) fn connect(&self, host: &str, mut socket: Socket) -> Result<TlsStream, Error> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| handshake_failed())?;
        let config = Arc::new(self.config()?);
        let mut connection = ClientConnection::new(config, name).map_err(|_| handshake_failed())?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(StreamOwned::new(connection, socket))
    }

    fn config(&self) -> Result<ClientConfig, Error> {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
            .with_safe_default_protocol_versions()
            .map_err(|_| handshake_failed())?;
        let builder = if self.verify {
            builder.with_root_certificates(self.roots()?)
        } else {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AcceptAnyServerCert))
        };
        match &self.client {
            None => Ok(builder.with_no_client_auth()),
            Some((certificate, key)) => {
                let chain = read_certificates(certificate)?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|_| certificate_file())?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|_| certificate_file())
            }
        }
    }

    /// The trusted authorities.
    fn roots(&self) -> Result<Arc<RootCertStore>, Error> {
        match &self.cacertfile {
            Some(file) => Ok(Arc::new(root_store(read_certificates(file)?))),
            None => Ok(system_roots()),
        }
    }
}

/// The system's authorities. If there are none, the next connect tries again.
fn system_roots() -> Arc<RootCertStore> {
    let loaded = SYSTEM_ROOTS.get_or_try_init(|| {
        let roots = Arc::new(root_store(rustls_native_certs::load_native_certs().certs));
        if roots.is_empty() {
            Err(roots)
        } else {
            Ok(roots)
        }
    });
    loaded.cloned().unwrap_or_else(|empty| empty)
}

fn root_store(certificates: Vec<CertificateDer<'static>>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    roots
}

fn handshake_failed() -> Error {
    ErrorKind::Tls(TlsProblem::Handshake).into()
}

fn certificate_file() -> Error {
    ErrorKind::Tls(TlsProblem::CertificateFile).into()
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|_| certificate_file())?;
    if certificates.is_empty() {
        return Err(certificate_file());
    }
    Ok(certificates)
}

/// Accepts any certificate, as long as the server has its key.
#[derive(Debug)]
struct AcceptAnyServerCert;

impl ServerCertVerifier for AcceptAnyServerCert {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &PROVIDER.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &PROVIDER.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER
            .signature_verification_algorithms
            .supported_schemes()
    }
}
