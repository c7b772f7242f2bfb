//! Why a call failed.

use std::{fmt, io};

use rustls::CertificateError;

use crate::etf;

/// Why a call failed. Holds no key, value or password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The queue is full.
    Busy,
    /// The cache is stopping.
    Closed,
    /// The deadline passed.
    Timeout,
    /// There is no connection to Redis.
    Disconnected,
    /// Redis answered with an error.
    Server(ServerCode),
    /// What came back is not what Redis answers to the command.
    Protocol,
    /// TLS failed.
    Tls(TlsProblem),
    /// The sentinels know no master of the group.
    NoPrimary,
    /// Nobody could tell where Redis is.
    EndpointUnavailable,
    /// The operation is not for clusters.
    ClusterUnsupported,
    /// A worker panicked.
    WorkerPanicked,
    /// A key is not a term that we take.
    Key(etf::Error),
    /// A key is not a proper list that starts with the namespace.
    KeyShape,
    /// A value is not a term that we take.
    Value(etf::Error),
    /// A pattern is not a term that we take.
    Pattern(etf::Error),
    /// A pattern has a variable as key of a map.
    PatternMapKey,
    /// The URL of the server can't be used.
    Url,
}

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsProblem {
    /// Nobody whom we trust has signed it.
    UnknownCa,
    /// It has expired, or is not valid yet.
    Expired,
    /// It is another host's.
    WrongHost,
    /// A file with certificates can't be read.
    CertificateFile,
    /// Anything else.
    Handshake,
}

/// The first word of an error reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerCode(String);

impl ServerCode {
    /// Keeps a code only if it looks like one: what else a server says may hold a key.
    pub(crate) fn new(code: &str) -> Self {
        let is_code = !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_uppercase());
        Self(if is_code { code } else { "ERR" }.to_owned())
    }

    /// A server that takes no writes.
    pub(crate) fn read_only() -> Self {
        Self("READONLY".to_owned())
    }

    /// A cluster of which a part can't be reached.
    pub(crate) fn cluster_down() -> Self {
        Self("CLUSTERDOWN".to_owned())
    }

    /// The code: `OOM`, `NOAUTH`, …
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether another server, or the same one later, would take the command: looked up again like
    /// after a lost connection.
    pub(crate) fn requires_reconnect(&self) -> bool {
        matches!(
            self.as_str(),
            "LOADING" | "READONLY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN"
        )
    }
}

impl Error {
    /// What went wrong.
    pub const fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// Whether another try, over this connection or another, may succeed.
    pub(crate) fn is_retryable(&self) -> bool {
        match &self.kind {
            ErrorKind::Server(code) => code.requires_reconnect(),
            ErrorKind::Busy
            | ErrorKind::Closed
            | ErrorKind::Tls(_)
            | ErrorKind::ClusterUnsupported
            | ErrorKind::WorkerPanicked
            | ErrorKind::Key(_)
            | ErrorKind::KeyShape
            | ErrorKind::Value(_)
            | ErrorKind::Pattern(_)
            | ErrorKind::PatternMapKey
            | ErrorKind::Url => false,
            ErrorKind::Timeout
            | ErrorKind::Disconnected
            | ErrorKind::Protocol
            | ErrorKind::NoPrimary
            | ErrorKind::EndpointUnavailable => true,
        }
    }

    /// Whether the connection goes on after it, in order.
    pub(crate) const fn keeps_connection(&self) -> bool {
        matches!(self.kind, ErrorKind::Server(_))
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { kind }
    }
}

/// A failed read or write.
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

/// What went wrong in TLS, if it was TLS that failed.
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
            ErrorKind::Timeout => f.write_str("the deadline passed"),
            ErrorKind::Disconnected => f.write_str("no connection to redis"),
            ErrorKind::Server(code) => write!(f, "redis answered {}", code.as_str()),
            ErrorKind::Protocol => f.write_str("unexpected reply"),
            ErrorKind::Tls(problem) => write!(f, "tls: {problem:?}"),
            ErrorKind::NoPrimary => f.write_str("the sentinels know no master"),
            ErrorKind::EndpointUnavailable => f.write_str("nobody could tell where redis is"),
            ErrorKind::ClusterUnsupported => f.write_str("not on a cluster"),
            ErrorKind::WorkerPanicked => f.write_str("a worker panicked"),
            ErrorKind::Key(error) => write!(f, "key: {error}"),
            ErrorKind::KeyShape => f.write_str("key: expected a proper list with a namespace"),
            ErrorKind::Value(error) => write!(f, "value: {error}"),
            ErrorKind::Pattern(error) => write!(f, "pattern: {error}"),
            ErrorKind::PatternMapKey => f.write_str("pattern: a variable can't be key of a map"),
            ErrorKind::Url => f.write_str("expected the url of a redis server"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_holds_nothing_else() {
        assert_eq!(ServerCode::new("OOM").as_str(), "OOM");
        assert_eq!(ServerCode::new("key:secret").as_str(), "ERR");
        assert_eq!(ServerCode::new("").as_str(), "ERR");
    }

    #[test]
    fn distinguishes_timeouts_certificates_and_lost_connections() {
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
}
