//! Finding the primary that sentinels monitor.
//!
//! The protocol is described in
//! [Sentinel client spec](https://redis.io/docs/latest/develop/reference/sentinel-clients/). Unlike there, all
//! sentinels are asked: right after a failover some still name the old primary, which accepts writes when
//! it comes back, until it is told that it is a replica now. The answer with the newest configuration wins.

use std::time::{Duration, Instant};

use redis::Value;

use super::connection::Connection;
use super::deadline::share;
use super::endpoint::Endpoint;
use crate::error::{Error, ErrorKind, ServerCode};

/// How long to wait for one sentinel.
const SENTINEL_TIMEOUT: Duration = Duration::from_secs(1);

/// Connecting to the primary may take this fraction of the remaining time.
const PRIMARY_TRIES: usize = 4;

/// A sentinel's answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Primary {
    pub(crate) host: String,
    port: u16,
    /// Grows with each failover.
    config_epoch: u64,
}

/// Connects to the primary of a group, with the credentials of `template`. The server has to confirm that
/// it is a primary.
pub(crate) fn connect_to_primary(
    sentinels: &[Endpoint],
    group: &str,
    template: &Endpoint,
    deadline: Instant,
) -> Result<(Endpoint, Connection), Error> {
    let endpoint = find_primary(sentinels, group, template, deadline)?;
    // A primary that accepts and stays silent must leave time to ask again for its successor.
    let connection =
        open_primary(&endpoint, share(deadline, PRIMARY_TRIES)).map_err(Error::announced)?;
    Ok((endpoint, connection))
}

/// The primary of a group according to the sentinels, with the credentials of `template`.
pub(crate) fn find_primary(
    sentinels: &[Endpoint],
    group: &str,
    template: &Endpoint,
    deadline: Instant,
) -> Result<Endpoint, Error> {
    let mut newest: Option<Primary> = None;
    let mut failure = ErrorKind::NoPrimary.into();
    for sentinel in sentinels {
        let timeout = share(deadline, sentinels.len()).min(Instant::now() + SENTINEL_TIMEOUT);
        match ask_sentinel(sentinel, group, timeout) {
            Ok(primary)
                if newest
                    .as_ref()
                    .is_none_or(|newest| newest.config_epoch < primary.config_epoch) =>
            {
                newest = Some(primary);
            }
            Ok(_) => {}
            Err(error) => failure = error,
        }
    }
    let primary = newest.ok_or(failure)?;
    Ok(template.at(&primary.host, primary.port))
}

fn ask_sentinel(sentinel: &Endpoint, group: &str, deadline: Instant) -> Result<Primary, Error> {
    let mut connection = Connection::open(sentinel, deadline)?;
    match connection.command("SENTINEL", &["MASTER", group], deadline) {
        Ok(reply) => Primary::parse(&reply).ok_or_else(|| ErrorKind::Protocol.into()),
        // The sentinel knows no group of that name.
        Err(error) if error.is_generic() => Err(ErrorKind::NoPrimary.into()),
        Err(error) => Err(error),
    }
}

impl Primary {
    /// Parses the reply to `SENTINEL MASTER`: field names and values in turn.
    pub(crate) fn parse(reply: &Value) -> Option<Self> {
        let Value::Array(fields) = reply else {
            return None;
        };
        let field = |name: &str| {
            fields.chunks(2).find_map(|pair| match pair {
                [Value::BulkString(key), Value::BulkString(value)] if key == name.as_bytes() => {
                    std::str::from_utf8(value).ok()
                }
                _ => None,
            })
        };
        Some(Self {
            host: field("ip")?.to_owned(),
            port: field("port")?.parse().ok()?,
            config_epoch: field("config-epoch")?.parse().ok()?,
        })
    }
}

fn open_primary(endpoint: &Endpoint, deadline: Instant) -> Result<Connection, Error> {
    let mut connection = Connection::open(endpoint, deadline)?;
    let role = match connection.command("ROLE", &[], deadline)? {
        Value::Array(role) => role.into_iter().next(),
        _ => None,
    };
    match role {
        Some(Value::BulkString(role)) if role == b"master" => Ok(connection),
        Some(Value::BulkString(_)) => Err(ErrorKind::Server(ServerCode::read_only()).into()),
        _ => Err(ErrorKind::Protocol.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(fields: &[&str]) -> Value {
        let bulk = |text: &&str| Value::BulkString(text.as_bytes().to_vec());
        Value::Array(fields.iter().map(bulk).collect())
    }

    #[test]
    fn parses_the_reply_of_a_sentinel() {
        let reply = fields(&[
            "name",
            "mymaster",
            "ip",
            "10.0.0.1",
            "port",
            "6379",
            "config-epoch",
            "7",
        ]);
        let primary = Primary {
            host: "10.0.0.1".to_owned(),
            port: 6379,
            config_epoch: 7,
        };
        assert_eq!(Primary::parse(&reply), Some(primary));
        assert_eq!(Primary::parse(&fields(&["ip", "10.0.0.1"])), None);
        assert_eq!(Primary::parse(&Value::Nil), None);
    }
}
