//! What the doctor measures over a connection.

use std::time::{Duration, Instant};

use redis::Value;

use crate::error::{Error, ErrorKind};
use crate::net::connection::Connection;
use crate::net::server_clock::ServerClock;

/// The number of pings measured.
const PINGS: usize = 100;

/// How long pings take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// The number of pings.
    pub pings: usize,
    /// The median.
    pub median: Duration,
    /// The slowest.
    pub slowest: Duration,
}

/// A command to try, with arguments that change nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What to call it, such as `CLIENT|KILL`.
    pub name: String,
    /// The command and its arguments.
    pub command: Vec<String>,
}

/// The commands that the server refuses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Denied {
    /// Denied to the user on any key.
    pub commands: Vec<String>,
    /// Denied to the user on the keys that were tried.
    pub keys: Vec<String>,
    /// Refused for another reason; often the server does not know them.
    pub missing: Vec<String>,
    /// Why the server refuses all writes.
    pub writes: Option<Error>,
}

impl Latency {
    pub(super) fn measure(connection: &mut Connection, deadline: Instant) -> Result<Self, Error> {
        let mut times = Vec::with_capacity(PINGS);
        while times.len() < PINGS {
            let start = Instant::now();
            // A slow server is measured by fewer pings.
            if start >= deadline && !times.is_empty() {
                break;
            }
            connection.command("PING", &[], deadline)?;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        let at = |position: usize| times.get(position).copied().unwrap_or_default();
        Ok(Self {
            pings: times.len(),
            median: at(times.len() / 2),
            slowest: at(times.len().saturating_sub(1)),
        })
    }
}

/// How far the server's clock is ahead, assuming that it was read halfway through the round trip.
pub(super) fn clock_skew_ms(connection: &mut Connection, deadline: Instant) -> Result<i64, Error> {
    let start = ServerClock::local(Duration::ZERO).now_ms();
    let server = connection.time(deadline)?;
    let end = ServerClock::local(Duration::ZERO).now_ms();
    Ok(server.saturating_sub(start.midpoint(end)))
}

/// Whether the server saves snapshots, if it tells.
pub(super) fn saves_snapshots(
    connection: &mut Connection,
    deadline: Instant,
) -> Result<Option<bool>, Error> {
    match connection.command("CONFIG", &["GET", "save"], deadline) {
        Ok(Value::Array(pair)) => Ok(match pair.as_slice() {
            [_, Value::BulkString(save)] => Some(!save.is_empty()),
            _ => None,
        }),
        Err(error) if !error.keeps_connection() => Err(error),
        Ok(_) | Err(_) => Ok(None),
    }
}

impl Denied {
    /// Tries each of the commands.
    pub(super) fn probe(
        probes: &[Probe],
        connection: &mut Connection,
        deadline: Instant,
    ) -> Result<Self, Error> {
        let mut denied = Self::default();
        for probe in probes {
            let mut words = probe.command.iter().map(String::as_str);
            let Some(name) = words.next() else {
                continue;
            };
            let arguments: Vec<_> = words.collect();
            match connection.command(name, &arguments, deadline) {
                Err(error) if !error.keeps_connection() => return Err(error),
                Err(error) => denied.add(&probe.name, error),
                Ok(_) => {}
            }
        }
        Ok(denied)
    }

    fn add(&mut self, name: &str, error: Error) {
        let ErrorKind::Server(code) = error.kind() else {
            return;
        };
        let said = error.details().reply.as_deref().unwrap_or_default();
        match code.as_str() {
            // The wording differs between versions. If a key is denied, it does not mention a command.
            "NOPERM" if said.contains(" command") => self.commands.push(name.to_owned()),
            "NOPERM" => self.keys.push(name.to_owned()),
            "MISCONF" | "NOREPLICAS" => self.writes = Some(error),
            "ERR" if !is_expected(said) => self.missing.push(name.to_owned()),
            _ => {}
        }
    }
}

/// Whether it is the reply to a command that the server runs: no key is renamed, and another check tells
/// that the server is not part of a cluster.
fn is_expected(said: &str) -> bool {
    said.contains("no such key") || said.contains("cluster support disabled")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::replies::Replies;
    use crate::resp::testing;

    #[test]
    fn tells_refusals_apart() {
        let mut denied = Denied::default();
        for (name, line) in [
            (
                "SET",
                "NOPERM this user has no permissions to run the 'set' command",
            ),
            (
                "ZADD",
                "NOPERM User ann has no permissions to run the 'zadd' command",
            ),
            (
                "GET",
                "NOPERM this user has no permissions to access one of the keys used as arguments",
            ),
            (
                "DEL",
                "NOPERM User ann has no permissions to access the 'g2w' key",
            ),
            (
                "PEXPIRE",
                "ERR unknown command 'PEXPIRE', with args beginning with: 'g2w'",
            ),
            ("TIME", "ERR command is not supported by this proxy"),
            ("RENAMENX", "ERR no such key"),
            ("ASKING", "ERR This instance has cluster support disabled"),
            ("EXISTS", "MOVED 1 127.0.0.1:7000"),
        ] {
            let reply = Replies::new(vec![testing::error(line)]).next_value();
            denied.add(name, reply.unwrap_err());
        }
        let expected = Denied {
            commands: vec!["SET".to_owned(), "ZADD".to_owned()],
            keys: vec!["GET".to_owned(), "DEL".to_owned()],
            missing: vec!["PEXPIRE".to_owned(), "TIME".to_owned()],
            writes: None,
        };
        assert_eq!(denied, expected);
        let reply = testing::error("MISCONF Errors writing to the AOF file");
        let error = Replies::new(vec![reply]).next_value().unwrap_err();
        denied.add("SET", error.clone());
        assert_eq!(denied.writes, Some(error));
    }
}
