//! Finding the master that sentinels watch.
//!
//! The protocol is described at <https://redis.io/docs/latest/develop/reference/sentinel-clients/>.

use std::time::Instant;

use redis::Value;

use crate::connection::Connection;
use crate::deadline::share;
use crate::error::{Error, ErrorKind, ServerCode};
use crate::server::Server;

/// A connection to the master of a group, with the login of `template`. The first sentinel that
/// answers is believed; the server has to say itself that it is a master.
pub(crate) fn connect_to_master(
    sentinels: &[Server],
    group: &str,
    template: &Server,
    deadline: Instant,
) -> Result<(Server, Connection), Error> {
    let mut failure = ErrorKind::NoMaster.into();
    for sentinel in sentinels {
        let share = share(deadline, sentinels.len());
        let master = Connection::open(sentinel, share)
            .and_then(|mut connection| master_address(&mut connection, group, share));
        match master {
            Ok((host, port)) => {
                let server = template.at(&host, port);
                match open_master(&server, deadline) {
                    Ok(connection) => return Ok((server, connection)),
                    Err(error) => failure = error,
                }
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn master_address(
    sentinel: &mut Connection,
    group: &str,
    deadline: Instant,
) -> Result<(String, u16), Error> {
    let reply = sentinel.ask("SENTINEL", &["GET-MASTER-ADDR-BY-NAME", group], deadline)?;
    let text = |value: &Value| match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        _ => None,
    };
    match reply {
        Value::Array(address) => match address.as_slice() {
            [host, port] => text(host)
                .zip(text(port).and_then(|port| port.parse().ok()))
                .ok_or_else(|| ErrorKind::Protocol.into()),
            _ => Err(ErrorKind::Protocol.into()),
        },
        Value::Nil => Err(ErrorKind::NoMaster.into()),
        _ => Err(ErrorKind::Protocol.into()),
    }
}

/// Right after a failover the sentinels may still name the old master.
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
