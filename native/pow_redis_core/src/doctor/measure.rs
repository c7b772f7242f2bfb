//! What the doctor measures over a connection.

use std::time::{Duration, Instant};

use redis::Value;

use crate::error::Error;
use crate::net::connection::Connection;
use crate::net::server_clock::ServerClock;
use crate::resp::commands::Commands;

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

/// The commands that the server denied to the user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Denied {
    /// Denied on any key.
    pub commands: Vec<String>,
    /// Denied on the keys that were tried.
    pub keys: Vec<String>,
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

impl Denied {
    /// Tries each of the commands.
    pub(super) fn probe(
        probes: &[Vec<String>],
        connection: &mut Connection,
        deadline: Instant,
    ) -> Result<Self, Error> {
        let mut commands = Commands::new();
        for (name, arguments) in probes.iter().filter_map(|probe| probe.split_first()) {
            commands.push_keyless(name, |command| {
                command.arg(arguments);
            });
        }
        connection.send(&mut commands, deadline)?;
        let replies = connection.receive_round(deadline)?;
        let mut denied = Self::default();
        let names = probes.iter().filter_map(|probe| probe.first());
        for (name, reply) in names.zip(replies) {
            if let Value::ServerError(error) = reply
                && error.code() == "NOPERM"
            {
                // The wording differs between versions. If a key is denied, it does not mention a command.
                let names_command = error
                    .details()
                    .is_some_and(|text| text.contains(" command"));
                if names_command {
                    denied.commands.push(name.clone());
                } else {
                    denied.keys.push(name.clone());
                }
            }
        }
        Ok(denied)
    }
}
