//! Why a connection failed.

use std::io;

/// Why a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectFailure {
    /// The host name has no address.
    UnknownHost,
    /// Nothing listens at the address.
    Refused,
    /// There is no route to the address.
    NoRoute,
    /// This process may not connect.
    NotPermitted,
    /// There is no such Unix socket.
    NoSuchSocket,
    /// The server closed the connection.
    Closed,
}

impl ConnectFailure {
    /// Why a connect, a read or a write failed, if it is known.
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        Some(match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Self::NoRoute,
            io::ErrorKind::PermissionDenied => Self::NotPermitted,
            io::ErrorKind::NotFound => Self::NoSuchSocket,
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Self::Closed,
            // The standard library has no kind for it.
            _ if error.to_string().starts_with("failed to lookup address") => Self::UnknownHost,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinguishes_failed_connects() {
        let lookup = "failed to lookup address information: Name or service not known";
        for (error, cause) in [
            (
                io::ErrorKind::ConnectionRefused.into(),
                Some(ConnectFailure::Refused),
            ),
            (
                io::ErrorKind::HostUnreachable.into(),
                Some(ConnectFailure::NoRoute),
            ),
            (
                io::ErrorKind::PermissionDenied.into(),
                Some(ConnectFailure::NotPermitted),
            ),
            (
                io::ErrorKind::NotFound.into(),
                Some(ConnectFailure::NoSuchSocket),
            ),
            (
                io::ErrorKind::UnexpectedEof.into(),
                Some(ConnectFailure::Closed),
            ),
            (io::Error::other(lookup), Some(ConnectFailure::UnknownHost)),
            (io::Error::other("other"), None),
            (io::ErrorKind::TimedOut.into(), None),
        ] {
            let name = format!("{error:?}");
            assert_eq!(ConnectFailure::of(&error), cause, "{name}");
        }
    }
}
