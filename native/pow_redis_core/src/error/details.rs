//! The details of an error.

use super::ConnectFailure;

/// What else is known about an error.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Details {
    /// What Redis said: printable ASCII, one line, without arguments of commands.
    pub reply: Option<String>,
    /// The address of the server, if connecting to it or logging in failed.
    pub address: Option<String>,
    /// Whether a sentinel or a node of the cluster named that address.
    pub is_announced: bool,
    /// Why the connection failed.
    pub cause: Option<ConnectFailure>,
    /// The file that cannot be used.
    pub file: Option<String>,
}
