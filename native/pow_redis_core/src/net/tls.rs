//! TLS connections.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use once_cell::sync::{Lazy, OnceCell};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    StreamOwned, SupportedProtocolVersion,
};

use super::socket::Socket;
use crate::error::{Error, ErrorKind, FileProblem, PemFile, TlsProblem};

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
    /// The host name or IP address that the server's certificate has to name, if not that of its address.
    pub server_name: Option<String>,
    /// The versions of TLS to offer.
    pub versions: Vec<TlsVersion>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl TlsVersion {
    const fn supported(self) -> &'static SupportedProtocolVersion {
        match self {
            Self::Tls12 => &TLS12,
            Self::Tls13 => &TLS13,
        }
    }
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            verify: true,
            cacertfile: None,
            client: None,
            server_name: None,
            versions: vec![TlsVersion::Tls12, TlsVersion::Tls13],
        }
    }
}

pub(crate) type TlsStream = StreamOwned<ClientConnection, Socket>;

impl TlsConfig {
    /// The same, but accepts any server certificate and presents none.
    pub(crate) fn unverified(&self) -> Self {
        Self {
            verify: false,
            cacertfile: None,
            client: None,
            ..self.clone()
        }
    }

    /// Performs the handshake. Reads the files again, so that renewed certificates are used.
    pub(crate) fn connect(&self, host: &str, mut socket: Socket) -> Result<TlsStream, Error> {
        let name = self.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| ErrorKind::Tls(TlsProblem::InvalidHost))?;
        let config = Arc::new(self.config()?);
        let mut connection = ClientConnection::new(config, name).map_err(|_| handshake_failed())?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(StreamOwned::new(connection, socket))
    }

    fn config(&self) -> Result<ClientConfig, Error> {
        let versions: Vec<_> = self
            .versions
            .iter()
            .map(|version| version.supported())
            .collect();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
            .with_protocol_versions(&versions)
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
                let chain = read_certificates(PemFile::Certificate, certificate)?;
                let der = read_key(key)?;
                builder.with_client_auth_cert(chain, der).map_err(|error| {
                    let problem = match error {
                        rustls::Error::InconsistentKeys(_) => TlsProblem::KeyMismatch,
                        _ => TlsProblem::File(PemFile::Key, FileProblem::Invalid),
                    };
                    Error::from_file(problem, key)
                })
            }
        }
    }

    /// The trusted authorities.
    fn roots(&self) -> Result<Arc<RootCertStore>, Error> {
        match &self.cacertfile {
            Some(file) => {
                let roots = root_store(read_certificates(PemFile::Authorities, file)?);
                if roots.is_empty() {
                    return Err(invalid_file(PemFile::Authorities, file));
                }
                Ok(Arc::new(roots))
            }
            None => system_roots(),
        }
    }
}

/// The system's authorities. If there are none, the next connect tries again.
fn system_roots() -> Result<Arc<RootCertStore>, Error> {
    let loaded = SYSTEM_ROOTS.get_or_try_init(|| {
        let roots = root_store(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            Err(ErrorKind::Tls(TlsProblem::NoAuthorities))
        } else {
            Ok(Arc::new(roots))
        }
    });
    Ok(Arc::clone(loaded?))
}

fn root_store(certificates: Vec<CertificateDer<'static>>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    roots
}

fn handshake_failed() -> Error {
    ErrorKind::Tls(TlsProblem::Handshake).into()
}

fn invalid_file(file: PemFile, path: &Path) -> Error {
    Error::from_file(TlsProblem::File(file, FileProblem::Invalid), path)
}

fn read_file(file: PemFile, path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| {
        let problem = match error.kind() {
            io::ErrorKind::NotFound => FileProblem::Missing,
            _ => FileProblem::Unreadable,
        };
        Error::from_file(TlsProblem::File(file, problem), path)
    })
}

fn read_certificates(file: PemFile, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = read_file(file, path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    certificates
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| invalid_file(file, path))
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let pem = read_file(PemFile::Key, path)?;
    if is_encrypted(&pem) {
        return Err(Error::from_file(TlsProblem::EncryptedKey, path));
    }
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| invalid_file(PemFile::Key, path))
}

/// Whether the key has a passphrase, in the format of PKCS #8 or in the older one.
fn is_encrypted(pem: &[u8]) -> bool {
    let contains = |text: &[u8]| pem.windows(text.len()).any(|bytes| bytes == text);
    contains(b"BEGIN ENCRYPTED PRIVATE KEY") || contains(b"Proc-Type: 4,ENCRYPTED")
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

pub(super) mod testing;

#[cfg(test)]
mod tests {
    use super::super::stream::Stream;
    use super::testing::{CERTIFICATE, KEY, OTHER_KEY, TemporaryFile, connect};
    use super::*;
    use rustls::ProtocolVersion;

    /// What is wrong with the files of this configuration.
    fn problem(config: &TlsConfig) -> TlsProblem {
        match config.config().unwrap_err().kind() {
            ErrorKind::Tls(problem) => *problem,
            other => panic!("{other:?}"),
        }
    }

    fn with_authorities(file: &TemporaryFile) -> TlsConfig {
        TlsConfig {
            cacertfile: Some(file.0.clone()),
            ..TlsConfig::default()
        }
    }

    #[test]
    fn a_certificate_is_verified() {
        let authorities = TemporaryFile::with(CERTIFICATE);
        let (stream, peer) = connect(with_authorities(&authorities));
        assert!(matches!(stream.unwrap(), Stream::Tls(_)));
        peer.unwrap();
    }

    #[test]
    fn any_certificate_is_accepted_without_verification() {
        let (stream, peer) = connect(TlsConfig::default().unverified());
        assert!(matches!(stream.unwrap(), Stream::Tls(_)));
        peer.unwrap();
    }

    #[test]
    fn the_server_name_replaces_the_host() {
        let authorities = TemporaryFile::with(CERTIFICATE);
        let named = |name: &str| {
            let tls = TlsConfig {
                server_name: Some(name.to_owned()),
                ..with_authorities(&authorities)
            };
            connect(tls).0.map(drop)
        };
        assert_eq!(named("localhost"), Ok(()));
        for (name, problem) in [
            ("redis.example", TlsProblem::WrongHost),
            ("127.0.0.2", TlsProblem::WrongHost),
            ("no host", TlsProblem::InvalidHost),
        ] {
            assert_eq!(named(name), Err(ErrorKind::Tls(problem).into()), "{name}");
        }
    }

    #[test]
    fn only_the_versions_that_are_listed_are_used() {
        for (version, expected) in [
            (TlsVersion::Tls12, ProtocolVersion::TLSv1_2),
            (TlsVersion::Tls13, ProtocolVersion::TLSv1_3),
        ] {
            let (stream, _peer) = connect(TlsConfig {
                versions: vec![version],
                ..TlsConfig::default().unverified()
            });
            let Stream::Tls(stream) = stream.unwrap() else {
                panic!("no TLS");
            };
            assert_eq!(stream.conn.protocol_version(), Some(expected));
        }
    }

    #[test]
    fn authorities_that_cannot_be_read_are_told_apart() {
        let file = |problem| TlsProblem::File(PemFile::Authorities, problem);
        let removed = with_authorities(&TemporaryFile::with(CERTIFICATE));
        assert_eq!(problem(&removed), file(FileProblem::Missing));
        let empty = TemporaryFile::with("");
        let authorities = with_authorities(&empty);
        assert_eq!(problem(&authorities), file(FileProblem::Invalid));
        let folder = TlsConfig {
            cacertfile: Some(std::env::temp_dir()),
            ..TlsConfig::default()
        };
        assert_eq!(problem(&folder), file(FileProblem::Unreadable));
    }

    #[test]
    fn client_certificates_that_cannot_be_used_are_told_apart() {
        let certificate = TemporaryFile::with(CERTIFICATE);
        let client = |key: &TemporaryFile| TlsConfig {
            client: Some((certificate.0.clone(), key.0.clone())),
            ..TlsConfig::default().unverified()
        };
        let key = TemporaryFile::with(KEY);
        assert!(client(&key).config().is_ok());
        let pkcs8 = KEY.replace("PRIVATE", "ENCRYPTED PRIVATE");
        let pkcs1 = KEY.replace("KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\n");
        for (key, expected) in [
            (OTHER_KEY, TlsProblem::KeyMismatch),
            (&pkcs8, TlsProblem::EncryptedKey),
            (&pkcs1, TlsProblem::EncryptedKey),
            ("", TlsProblem::File(PemFile::Key, FileProblem::Invalid)),
        ] {
            let key = TemporaryFile::with(key);
            assert_eq!(problem(&client(&key)), expected);
        }
    }
}
