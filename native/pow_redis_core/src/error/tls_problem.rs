//! Why TLS failed.

use std::{fmt, io};

use rustls::{AlertDescription, CertificateError, InvalidMessage};

/// Why TLS failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsProblem {
    /// The certificate is signed by an unknown authority.
    UnknownCa,
    /// This host has no certificate authorities.
    NoAuthorities,
    /// The server presents the certificate of an authority as its own.
    CaCertificate,
    /// The certificate has expired.
    Expired,
    /// The certificate is not valid yet.
    NotYetValid,
    /// The certificate is for another host.
    WrongHost,
    /// The certificate names no host: it has no `subjectAltName`.
    NoNames,
    /// The certificate has X.509 version 1 or 2.
    OldCertificate,
    /// The certificate is not for servers.
    WrongPurpose,
    /// The certificate is damaged, or has an algorithm that is not supported.
    BadCertificate,
    /// The host name cannot stand in a certificate.
    InvalidHost,
    /// A file cannot be used.
    File(PemFile, FileProblem),
    /// The private key has a passphrase.
    EncryptedKey,
    /// The private key is not the one of the client certificate.
    KeyMismatch,
    /// The server does not use TLS.
    NotTls,
    /// The server uses TLS, and this connection does not.
    TlsRequired,
    /// The server supports no version or cipher suite of TLS that this package does.
    NoCommonVersion,
    /// The server requires a client certificate.
    ClientCertificateRequired,
    /// The server rejected the client certificate.
    ClientCertificateRejected,
    /// Any other failure of the handshake.
    Handshake,
}

/// A file that TLS reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PemFile {
    /// The certificate authorities.
    Authorities,
    /// The client certificate.
    Certificate,
    /// The private key of the client certificate.
    Key,
}

/// Why a file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileProblem {
    /// There is no such file.
    Missing,
    /// It cannot be read.
    Unreadable,
    /// It does not contain what it should, in PEM format.
    Invalid,
}

impl TlsProblem {
    /// The problem behind a failed read or write, if that is from TLS.
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        Some(match error {
            rustls::Error::InvalidCertificate(error) => certificate_problem(error),
            rustls::Error::NoCertificatesPresented => Self::BadCertificate,
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::NotTls,
            rustls::Error::PeerIncompatible(_) => Self::NoCommonVersion,
            rustls::Error::AlertReceived(alert) => alert_problem(*alert),
            _ => Self::Handshake,
        })
    }
}

fn certificate_problem(error: &CertificateError) -> TlsProblem {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsProblem::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            TlsProblem::NotYetValid
        }
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            TlsProblem::NoNames
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsProblem::WrongHost
        }
        CertificateError::UnknownIssuer => TlsProblem::UnknownCa,
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            TlsProblem::WrongPurpose
        }
        // These errors of webpki have no variant in rustls.
        CertificateError::Other(error) => match error.0.to_string().as_str() {
            "CaUsedAsEndEntity" => TlsProblem::CaCertificate,
            "UnsupportedCertVersion" => TlsProblem::OldCertificate,
            _ => TlsProblem::BadCertificate,
        },
        _ => TlsProblem::BadCertificate,
    }
}

fn alert_problem(alert: AlertDescription) -> TlsProblem {
    match alert {
        AlertDescription::CertificateRequired => TlsProblem::ClientCertificateRequired,
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied => TlsProblem::ClientCertificateRejected,
        AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity => {
            TlsProblem::NoCommonVersion
        }
        _ => TlsProblem::Handshake,
    }
}

impl fmt::Display for TlsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownCa => "the certificate is signed by an unknown authority",
            Self::NoAuthorities => "this host has no certificate authorities",
            Self::CaCertificate => "the server presents the certificate of an authority",
            Self::Expired => "the certificate has expired",
            Self::NotYetValid => "the certificate is not valid yet",
            Self::WrongHost => "the certificate is for another host",
            Self::NoNames => "the certificate names no host",
            Self::OldCertificate => "the certificate has an old version of X.509",
            Self::WrongPurpose => "the certificate is not for servers",
            Self::BadCertificate => "the certificate is damaged or not supported",
            Self::InvalidHost => "the host name cannot stand in a certificate",
            Self::File(_, FileProblem::Missing) => "a certificate file is missing",
            Self::File(_, FileProblem::Unreadable) => "a certificate file cannot be read",
            Self::File(_, FileProblem::Invalid) => "a certificate file is invalid",
            Self::EncryptedKey => "the private key has a passphrase",
            Self::KeyMismatch => "the private key is not the one of the certificate",
            Self::NotTls => "the server does not use TLS",
            Self::TlsRequired => "the server uses TLS",
            Self::NoCommonVersion => "no common version or cipher suite",
            Self::ClientCertificateRequired => "the server requires a client certificate",
            Self::ClientCertificateRejected => "the server rejected the client certificate",
            Self::Handshake => "the handshake failed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use rustls::pki_types::ServerName;
    use rustls::{OtherError, PeerIncompatible};

    fn problem(error: impl Into<rustls::Error>) -> Option<TlsProblem> {
        TlsProblem::of(&io::Error::other(error.into()))
    }

    fn not_valid_for(presented: &[&str]) -> CertificateError {
        CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("redis.example").unwrap(),
            presented: presented.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn tells_problems_of_certificates_apart() {
        let other = |text: &str| {
            let error = Box::<dyn std::error::Error + Send + Sync>::from(text);
            CertificateError::Other(OtherError(Arc::from(error)))
        };
        for (error, expected) in [
            (CertificateError::Expired, TlsProblem::Expired),
            (CertificateError::NotValidYet, TlsProblem::NotYetValid),
            (not_valid_for(&["DnsName(\"a\")"]), TlsProblem::WrongHost),
            (not_valid_for(&[]), TlsProblem::NoNames),
            (CertificateError::NotValidForName, TlsProblem::WrongHost),
            (CertificateError::UnknownIssuer, TlsProblem::UnknownCa),
            (CertificateError::InvalidPurpose, TlsProblem::WrongPurpose),
            (CertificateError::BadSignature, TlsProblem::BadCertificate),
            (other("CaUsedAsEndEntity"), TlsProblem::CaCertificate),
            (other("UnsupportedCertVersion"), TlsProblem::OldCertificate),
            (other("BadDer"), TlsProblem::BadCertificate),
        ] {
            let name = format!("{error:?}");
            assert_eq!(problem(error), Some(expected), "{name}");
        }
    }

    #[test]
    fn tells_problems_of_handshakes_apart() {
        use AlertDescription as Alert;
        use rustls::Error::{AlertReceived, InvalidMessage as Message};
        for (error, expected) in [
            (
                Message(InvalidMessage::InvalidContentType),
                TlsProblem::NotTls,
            ),
            (
                Message(InvalidMessage::MessageTooLarge),
                TlsProblem::Handshake,
            ),
            (
                PeerIncompatible::NoCipherSuitesInCommon.into(),
                TlsProblem::NoCommonVersion,
            ),
            (
                AlertReceived(Alert::ProtocolVersion),
                TlsProblem::NoCommonVersion,
            ),
            (
                AlertReceived(Alert::CertificateRequired),
                TlsProblem::ClientCertificateRequired,
            ),
            (
                AlertReceived(Alert::UnknownCA),
                TlsProblem::ClientCertificateRejected,
            ),
            (
                AlertReceived(Alert::HandshakeFailure),
                TlsProblem::Handshake,
            ),
            (
                rustls::Error::NoCertificatesPresented,
                TlsProblem::BadCertificate,
            ),
        ] {
            let name = format!("{error:?}");
            assert_eq!(problem(error), Some(expected), "{name}");
        }
        assert_eq!(TlsProblem::of(&io::Error::other("other")), None);
    }
}
