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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn reply(line: &str) -> Result<Value, Error> {
        match redis::parse_redis_value(format!("{line}\r\n").as_bytes()).unwrap() {
            Value::ServerError(error) => Err(Error::from_reply(&error)),
            value => Ok(value),
        }
    }

    #[test]
    fn a_command_may_be_refused_but_not_fail() {
        assert_eq!(optional(reply(":1")), Ok(Some(Value::Int(1))));
        for denied in ["-NOPERM x", "-ERR unknown command 'TIME'"] {
            assert_eq!(optional(reply(denied)), Ok(None), "{denied}");
        }
        for failed in ["-NOAUTH x", "-LOADING x"] {
            let failed = optional(reply(failed)).unwrap_err();
            assert!(matches!(failed.kind(), ErrorKind::Server(_)));
        }
    }

    #[test]
    fn a_reply_of_another_type_has_no_bytes() {
        assert_eq!(optional_bytes(reply("$1\r\na")), Ok(Some(b"a".to_vec())));
        assert_eq!(optional_bytes(reply(":1")), Ok(None));
        assert_eq!(optional_bytes(reply("-NOPERM x")), Ok(None));
    }
}
