//! The error of a failed call.

use std::{fmt, io};

use rustls::CertificateError;

use crate::etf;

/// The error of a failed call. Contains no key, value or password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
}

/// The kind of an [`Error`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The queue is full.
    Busy,
    /// The cache is stopping.
    Closed,
    /// The call timed out.
    Timeout,
    /// Redis cannot be reached.
    Disconnected,
    /// Two connections in a row were lost while the request was under way.
    ConnectionLost,
    /// Redis returned an error.
    Server(ServerCode),
    /// The reply is not one that Redis sends to the command.
    Protocol,
    /// The TLS handshake failed.
    Tls(TlsProblem),
    /// The sentinels know no primary of the group.
    NoPrimary,
    /// The endpoint of Redis could not be resolved.
    EndpointUnavailable,
    /// The operation is not supported on clusters.
    ClusterUnsupported,
    /// A worker panicked.
    WorkerPanicked,
    /// A key is not a valid term.
    Key(etf::Error),
    /// A key is not a proper list that starts with a namespace.
    KeyShape,
    /// A key has too many parts, or its Redis key is too long.
    KeyTooLong,
    /// A value is not a valid term.
    Value(etf::Error),
    /// A pattern is not a valid term.
    Pattern(etf::Error),
    /// A pattern has a variable as a map key.
    PatternMapKey,
    /// A pattern is longer than any key.
    PatternTooLong,
    /// The result would take too much memory.
    ResultTooLarge,
    /// The URL of the server is invalid.
    Url,
}

/// The reason why TLS failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsProblem {
    /// The certificate is signed by an unknown authority.
    UnknownCa,
    /// The certificate has expired or is not valid yet.
    Expired,
    /// The certificate is for another host.
    WrongHost,
    /// A certificate file cannot be read.
    CertificateFile,
    /// Any other failure of the handshake.
    Handshake,
}

/// The code of an error reply: its first word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerCode(String);

impl ServerCode {
    /// Any text that does not look like a code becomes `ERR`: it may contain a key.
    pub(crate) fn new(code: &str) -> Self {
        let is_code = !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_uppercase());
        Self(if is_code { code } else { "ERR" }.to_owned())
    }

    /// The code of a server that accepts no writes.
    pub(crate) fn read_only() -> Self {
        Self("READONLY".to_owned())
    }

    /// The code of a cluster with unreachable slots.
    pub(crate) fn cluster_down() -> Self {
        Self("CLUSTERDOWN".to_owned())
    }

    /// The code, such as `OOM` or `NOAUTH`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether another server, or the same one later, may accept the command. Connecting again finds it.
    pub(crate) fn requires_reconnect(&self) -> bool {
        matches!(
            self.as_str(),
            "LOADING"
                | "BUSY"
                | "READONLY"
                | "NOREPLICAS"
                | "MASTERDOWN"
                | "CLUSTERDOWN"
                | "TRYAGAIN"
        )
    }
}

impl Error {
    /// The kind of error.
    pub const fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// Whether a retry over this or another connection may succeed.
    pub(crate) fn is_retryable(&self) -> bool {
        match &self.kind {
            ErrorKind::Server(code) => code.requires_reconnect(),
            ErrorKind::Busy
            | ErrorKind::Closed
            | ErrorKind::ConnectionLost
            | ErrorKind::Tls(_)
            | ErrorKind::ClusterUnsupported
            | ErrorKind::WorkerPanicked
            | ErrorKind::Key(_)
            | ErrorKind::KeyShape
            | ErrorKind::KeyTooLong
            | ErrorKind::Value(_)
            | ErrorKind::Pattern(_)
            | ErrorKind::PatternMapKey
            | ErrorKind::PatternTooLong
            | ErrorKind::ResultTooLarge
            | ErrorKind::Url => false,
            ErrorKind::Timeout
            | ErrorKind::Disconnected
            | ErrorKind::Protocol
            | ErrorKind::NoPrimary
            | ErrorKind::EndpointUnavailable => true,
        }
    }

    /// Whether the connection can still be used after it.
    pub(crate) const fn keeps_connection(&self) -> bool {
        matches!(self.kind, ErrorKind::Server(_) | ErrorKind::ResultTooLarge)
    }

    /// Whether the command is for another type of Redis key.
    pub(crate) fn is_wrong_type(&self) -> bool {
        self.has_code("WRONGTYPE")
    }

    /// Whether the user may not run the command, or the server does not know it.
    pub(crate) fn is_denied(&self) -> bool {
        self.has_code("NOPERM") || self.is_generic()
    }

    /// Whether Redis returned the generic code `ERR`.
    pub(crate) fn is_generic(&self) -> bool {
        self.has_code("ERR")
    }

    fn has_code(&self, code: &str) -> bool {
        matches!(&self.kind, ErrorKind::Server(server) if server.as_str() == code)
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { kind }
    }
}

/// The error of a failed read or write.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match (tls_problem(&error), error.kind()) {
            (Some(problem), _) => ErrorKind::Tls(problem),
            (None, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => ErrorKind::Timeout,
            (None, _) => ErrorKind::Disconnected,
        }
        .into()
    }
}

/// The reason why TLS failed, if the error is from TLS.
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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ErrorKind::Busy => f.write_str("the queue is full"),
            ErrorKind::Closed => f.write_str("the cache is stopping"),
            ErrorKind::Timeout => f.write_str("timed out"),
            ErrorKind::Disconnected => f.write_str("not connected to redis"),
            ErrorKind::ConnectionLost => {
                f.write_str("two connections in a row were lost while the request was under way")
            }
            ErrorKind::Server(code) => write!(f, "redis returned {}", code.as_str()),
            ErrorKind::Protocol => f.write_str("unexpected reply"),
            ErrorKind::Tls(problem) => write!(f, "tls failed: {problem}"),
            ErrorKind::NoPrimary => f.write_str("the sentinels know no primary"),
            ErrorKind::EndpointUnavailable => {
                f.write_str("the endpoint of redis could not be resolved")
            }
            ErrorKind::ClusterUnsupported => f.write_str("not supported on a cluster"),
            ErrorKind::WorkerPanicked => f.write_str("a worker panicked"),
            ErrorKind::Key(error) => write!(f, "invalid key: {error}"),
            ErrorKind::KeyShape => {
                f.write_str("invalid key: expected a proper list that starts with a namespace")
            }
            ErrorKind::KeyTooLong => f.write_str("invalid key: too long"),
            ErrorKind::Value(error) => write!(f, "invalid value: {error}"),
            ErrorKind::Pattern(error) => write!(f, "invalid pattern: {error}"),
            ErrorKind::PatternMapKey => {
                f.write_str("invalid pattern: a variable cannot be a map key")
            }
            ErrorKind::PatternTooLong => f.write_str("invalid pattern: too long"),
            ErrorKind::ResultTooLarge => f.write_str("the result is too large"),
            ErrorKind::Url => f.write_str("invalid redis url"),
        }
    }
}

impl fmt::Display for TlsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownCa => "the certificate is signed by an unknown authority",
            Self::Expired => "the certificate has expired or is not valid yet",
            Self::WrongHost => "the certificate is for another host",
            Self::CertificateFile => "a certificate file cannot be read",
            Self::Handshake => "the handshake failed",
        })
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_only_codes_of_error_replies() {
        assert_eq!(ServerCode::new("OOM").as_str(), "OOM");
        assert_eq!(ServerCode::new("key:secret").as_str(), "ERR");
        assert_eq!(ServerCode::new("").as_str(), "ERR");
    }

    #[test]
    fn distinguishes_timeouts_bad_certificates_and_lost_connections() {
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
            let name = format!("{error:?}");
            assert_eq!(Error::from(error), kind.into(), "{name}");
        }
    }

    #[test]
    fn distinguishes_codes() {
        let error = |code| Error::from(ErrorKind::Server(ServerCode::new(code)));
        assert!(error("WRONGTYPE").is_wrong_type() && !error("WRONGTYPE").is_generic());
        assert!(error("ERR").is_generic() && !error("ERR").is_wrong_type());
        assert!(!Error::from(ErrorKind::Protocol).is_generic());
    }

    #[test]
    fn displays_the_problem() {
        for (kind, text) in [
            (
                ErrorKind::Server(ServerCode::read_only()),
                "redis returned READONLY",
            ),
            (
                ErrorKind::Tls(TlsProblem::WrongHost),
                "tls failed: the certificate is for another host",
            ),
            (ErrorKind::Url, "invalid redis url"),
        ] {
            assert_eq!(Error::from(kind).to_string(), text);
        }
    }
}
