//! Why a read or write failed.

use std::io;

use rustls::CertificateError;

use crate::error::{Error, ErrorKind, TlsProblem};

/// The error that a failed read or write is to a caller.
pub(crate) fn from_io(error: &io::Error) -> Error {
    match (tls_problem(error), error.kind()) {
        (Some(problem), _) => ErrorKind::Tls(problem).into(),
        (None, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => ErrorKind::Timeout.into(),
        (None, _) => ErrorKind::Disconnected.into(),
    }
}

/// What TLS says, if it was TLS that failed.
fn tls_problem(error: &io::Error) -> Option<TlsProblem> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => TlsProblem::Expired,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                TlsProblem::WrongHost
            }
            CertificateError::UnknownIssuer => TlsProblem::UnknownCa,
            _ => TlsProblem::Handshake,
        },
        _ => TlsProblem::Handshake,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_time_certificates_and_the_rest_apart() {
        let expired = rustls::Error::InvalidCertificate(CertificateError::Expired);
        for (error, kind) in [
            (io::ErrorKind::WouldBlock.into(), ErrorKind::Timeout),
            (io::ErrorKind::TimedOut.into(), ErrorKind::Timeout),
            (
                io::ErrorKind::ConnectionReset.into(),
                ErrorKind::Disconnected,
            ),
            (
                io::Error::other(expired),
                ErrorKind::Tls(TlsProblem::Expired),
            ),
            (io::Error::other("other"), ErrorKind::Disconnected),
        ] {
            assert_eq!(from_io(&error), kind.into(), "{error:?}");
        }
    }
}
