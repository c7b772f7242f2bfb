//! Finding the master that sentinels watch.
//!
//! The protocol is described at <https://redis.io/docs/latest/develop/reference/sentinel-clients/>.
//! Beyond it, all sentinels are asked: right after a failover some still name the old master, which, once
//! it is back, takes writes until it is told that it is a replica now. Who has the newest configuration
//! is believed.

use std::time::{Duration, Instant};

use redis::Value;

use crate::connection::Connection;
use crate::deadline::share;
use crate::error::{Error, ErrorKind, ServerCode};
use crate::server::Server;

/// A sentinel that is silent for so long is passed over.
const PATIENCE: Duration = Duration::from_secs(1);

/// Connecting to the master may take this part of the time that is left.
const MASTER_TRIES: usize = 4;

/// What a sentinel knows of the master.
#[derive(Debug, PartialEq, Eq)]
struct Master {
    host: String,
    port: u16,
    /// Higher with each failover.
    epoch: u64,
}

/// A connection to the master of a group, with the login of `template`. The server has to say itself
/// that it is a master.
pub(crate) fn connect_to_master(
    sentinels: &[Server],
    group: &str,
    template: &Server,
    deadline: Instant,
) -> Result<(Server, Connection), Error> {
    let server = find_master(sentinels, group, template, deadline)?;
    // A master that accepts and says nothing must leave time to ask again for its successor.
    let connection = open_master(&server, share(deadline, MASTER_TRIES))?;
    Ok((server, connection))
}

/// The master of a group, as the sentinels say, with the login of `template`.
pub(crate) fn find_master(
    sentinels: &[Server],
    group: &str,
    template: &Server,
    deadline: Instant,
) -> Result<Server, Error> {
    let mut newest: Option<Master> = None;
    let mut failure = ErrorKind::NoMaster.into();
    for sentinel in sentinels {
        let patience = share(deadline, sentinels.len()).min(Instant::now() + PATIENCE);
        match ask(sentinel, group, patience) {
            Ok(master) if newest.as_ref().is_none_or(|n| n.epoch < master.epoch) => {
                newest = Some(master);
            }
            Ok(_) => {}
            Err(error) => failure = error,
        }
    }
    let master = newest.ok_or(failure)?;
    Ok(template.at(&master.host, master.port))
}

fn ask(sentinel: &Server, group: &str, deadline: Instant) -> Result<Master, Error> {
    let mut connection = Connection::open(sentinel, deadline)?;
    match connection.ask("SENTINEL", &["MASTER", group], deadline) {
        Ok(reply) => read_master(&reply).ok_or_else(|| ErrorKind::Protocol.into()),
        // No master of that name.
        Err(error) if matches!(error.kind(), ErrorKind::Server(code) if code.as_str() == "ERR") => {
            Err(ErrorKind::NoMaster.into())
        }
        Err(error) => Err(error),
    }
}

/// Names and values in turn.
fn read_master(reply: &Value) -> Option<Master> {
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
    Some(Master {
        host: field("ip")?.to_owned(),
        port: field("port")?.parse().ok()?,
        epoch: field("config-epoch")?.parse().ok()?,
    })
}

fn open_master(server: &Server, deadline: Instant) -> Result<Connection, Error> {
    let mut connection = Connection::open(server, deadline)?;
    let role = match connection.ask("ROLE", &[], deadline)? {
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
    fn reads_what_a_sentinel_knows() {
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
        let master = Master {
            host: "10.0.0.1".to_owned(),
            port: 6379,
            epoch: 7,
        };
        assert_eq!(read_master(&reply), Some(master));
        assert_eq!(read_master(&fields(&["ip", "10.0.0.1"])), None);
        assert_eq!(read_master(&Value::Nil), None);
    }
}
