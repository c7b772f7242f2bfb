//! Replies to commands that a server may refuse.

use redis::Value;

use crate::error::Error;

/// The reply to a command that the user may lack permission for, or that the server may not know. Without
/// any login, all commands fail.
pub(super) fn optional<T>(reply: Result<T, Error>) -> Result<Option<T>, Error> {
    match reply {
        Ok(reply) => Ok(Some(reply)),
        Err(error) if error.is_denied() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The bulk string that such a command returns. A proxy may reply in another way.
pub(super) fn optional_bytes(reply: Result<Value, Error>) -> Result<Option<Vec<u8>>, Error> {
    Ok(match optional(reply)? {
        Some(Value::BulkString(bytes)) => Some(bytes),
        _ => None,
    })
}
