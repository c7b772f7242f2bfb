//! The error of a failed call.

mod connect_failure;
mod details;
mod reply_line;
mod server_code;
mod tls_problem;

use std::path::Path;
use std::{fmt, io};

use redis::ServerError;

pub use self::connect_failure::ConnectFailure;
pub use self::details::Details;
use self::reply_line::reply_line;
pub use self::server_code::ServerCode;
pub use self::tls_problem::{FileProblem, PemFile, TlsProblem};
use crate::etf;

/// What Redis said is left out if it has this many bytes in common with a secret.
const SHARED_BYTES: usize = 8;
/// A shorter secret occurs in words by chance.
const MIN_SECRET_BYTES: usize = 5;

/// The error of a failed call. Contains no key, value or password. Errors of the same kind are equal.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    details: Box<Details>,
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

impl Error {
    /// The error of an error reply.
    pub(crate) fn from_reply(reply: &ServerError) -> Self {
        let code = ServerCode::new(reply.code());
        let text = [reply.code(), reply.details().unwrap_or_default()].join(" ");
        let mut error = Self::from(ErrorKind::Server(code));
        error.details.reply = Some(reply_line(text.trim_end()));
        error
    }

    /// A file that TLS cannot use.
    pub(crate) fn from_file(problem: TlsProblem, path: &Path) -> Self {
        let mut error = Self::from(ErrorKind::Tls(problem));
        error.details.file = Some(printable(&path.to_string_lossy()));
        error
    }

    /// The kind of error.
    pub const fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// What else is known about it.
    pub const fn details(&self) -> &Details {
        &self.details
    }

    /// The same error, while connecting to this address.
    #[must_use]
    pub(crate) fn at(mut self, address: impl fmt::Display) -> Self {
        self.details.address = Some(printable(&address.to_string()));
        self
    }

    /// The same error, at an address that a sentinel or a node of the cluster named.
    #[must_use]
    pub(crate) fn announced(mut self) -> Self {
        self.details.is_announced = true;
        self
    }

    /// The same error. What Redis said is left out if it may contain the secret.
    #[must_use]
    pub(crate) fn without(mut self, secret: &[u8]) -> Self {
        if secret.len() >= MIN_SECRET_BYTES {
            let shared = secret.len().min(SHARED_BYTES);
            self.details.reply = self.details.reply.filter(|reply| {
                let mut windows = reply.as_bytes().windows(shared);
                !windows.any(|bytes| is_part_of(bytes, secret))
            });
        }
        self
    }

    /// Whether a retry over this or another connection may succeed.
    pub(crate) fn is_retryable(&self) -> bool {
        match &self.kind {
            ErrorKind::Server(code) => code.requires_reconnect() || self.is_closing_for_now(),
            ErrorKind::Busy
            | ErrorKind::Closed
            | ErrorKind::ConnectionLost
            | ErrorKind::Tls(_)
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
    pub(crate) fn keeps_connection(&self) -> bool {
        let is_kept = matches!(self.kind, ErrorKind::Server(_) | ErrorKind::ResultTooLarge);
        is_kept && !self.ends_connection()
    }

    /// Whether Redis closes the connection after this reply.
    pub(crate) fn ends_connection(&self) -> bool {
        self.has_code("DENIED") || self.said("ERR Protocol error") || self.is_closing_for_now()
    }

    /// Whether it says why the server closed the connection.
    pub(crate) fn explains_close(&self) -> bool {
        self.ends_connection() || matches!(self.kind, ErrorKind::Tls(_))
    }

    /// Whether Redis closes the connection, but may accept another one.
    fn is_closing_for_now(&self) -> bool {
        self.said("ERR max number of clients") || self.said("ERR Protocol error: invalid")
    }

    /// Whether the reply starts with these words.
    fn said(&self, words: &str) -> bool {
        let reply = self.details.reply.as_deref();
        reply.is_some_and(|reply| reply.starts_with(words))
    }

    /// The error to report while no server can be reached: a server that does not answer is unreachable.
    #[must_use]
    pub(crate) fn or_unreachable(mut self) -> Self {
        if self.kind == ErrorKind::Timeout && self.details.address.is_some() {
            self.kind = ErrorKind::Disconnected;
        }
        self
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

impl PartialEq for Error {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

impl Eq for Error {}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self {
            kind,
            details: Box::default(),
        }
    }
}

/// The error of a failed lookup, connect, read or write.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        let kind = match (TlsProblem::of(&error), error.kind()) {
            (Some(problem), _) => ErrorKind::Tls(problem),
            (None, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => ErrorKind::Timeout,
            (None, _) => ErrorKind::Disconnected,
        };
        let mut disconnected = Self::from(kind);
        disconnected.details.cause = ConnectFailure::of(&error);
        disconnected
    }
}

/// Replaces characters that are not printable.
pub(crate) fn printable(text: &str) -> String {
    let replace = |character: char| {
        if character.is_control() {
            '?'
        } else {
            character
        }
    };
    text.chars().map(replace).collect()
}

/// Whether the bytes occur in the secret.
fn is_part_of(bytes: &[u8], secret: &[u8]) -> bool {
    secret.windows(bytes.len()).any(|window| window == bytes)
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

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    use rustls::CertificateError;

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

    fn reply(line: &str) -> Error {
        match redis::parse_redis_value(format!("-{line}\r\n").as_bytes()) {
            Ok(redis::Value::ServerError(error)) => Error::from_reply(&error),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn keeps_what_redis_said() {
        for (line, code, said) in [
            (
                "LOADING Redis is loading",
                "LOADING",
                "LOADING Redis is loading",
            ),
            (
                "ERR unknown command 'g2w'",
                "ERR",
                "ERR unknown command ...",
            ),
            ("upstream failure", "ERR", "upstream failure"),
            ("NOAUTH", "NOAUTH", "NOAUTH"),
        ] {
            let error = reply(line);
            assert!(error.has_code(code), "{line}");
            assert_eq!(error.details().reply.as_deref(), Some(said));
        }
    }

    #[test]
    fn leaves_out_what_may_contain_a_secret() {
        let said = |secret: &str| {
            reply("ERR no tomorrow for us")
                .without(secret.as_bytes())
                .details
                .reply
        };
        for secret in ["tomorrow", "no tomorrow", "xx tomorrow xx", "w for"] {
            assert_eq!(said(secret), None, "{secret}");
        }
        for secret in ["", "us", "tomorow", "yesterday", "no tomo-row"] {
            assert!(said(secret).is_some(), "{secret}");
        }
    }

    #[test]
    fn knows_which_replies_to_wait_for() {
        for (line, is_retryable, keeps_connection) in [
            ("BUSY Redis is busy running a script", true, true),
            ("NOREPLICAS Not enough good replicas to write.", true, true),
            ("ERR max number of clients reached", true, false),
            ("ERR Protocol error: invalid bulk length", true, false),
            (
                "ERR Protocol error: unauthenticated bulk length",
                false,
                false,
            ),
            ("DENIED Redis is running in protected mode", false, false),
            ("MISCONF Errors writing to the AOF file", false, true),
            ("NOPERM No permissions", false, true),
            ("OOM command not allowed", false, true),
            ("ERR DB index is out of range", false, true),
        ] {
            let error = reply(line);
            assert_eq!(error.is_retryable(), is_retryable, "{line}");
            assert_eq!(error.keeps_connection(), keeps_connection, "{line}");
        }
    }

    #[test]
    fn a_silent_server_is_unreachable() {
        let timeout = || Error::from(ErrorKind::Timeout);
        let silent = timeout().at("10.0.0.1:6379").or_unreachable();
        assert_eq!(silent, ErrorKind::Disconnected.into());
        assert_eq!(silent.details().address.as_deref(), Some("10.0.0.1:6379"));
        assert_eq!(timeout().or_unreachable(), timeout());
    }

    #[test]
    fn shows_no_control_characters() {
        assert_eq!(printable("8\u{1b}[2Jä\n"), "8?[2Jä?");
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
