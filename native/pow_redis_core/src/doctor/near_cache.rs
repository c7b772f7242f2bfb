//! Whether a near cache works with a server.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use redis::Value;

use crate::error::Error;
use crate::near::Validity;
use crate::net::client::Client;
use crate::net::cluster::Cluster;
use crate::net::connection::Connection;
use crate::net::endpoint::Endpoint;
use crate::net::fence::Fence;
use crate::net::server_info;
use crate::net::standalone::Standalone;
use crate::net::tracking::Tracking;
use crate::resp::commands::Commands;
use crate::resp::replies::Replies;

/// How many changes are measured.
const CHANGES: usize = 9;
/// The server is asked a third of this after the last time whether it still tracks.
const MAX_STALENESS: Duration = Duration::from_secs(60);
/// How long to sleep between two looks at what has arrived.
const PAUSE: Duration = Duration::from_micros(50);
/// Should the doctor not come to delete the key, Redis does after so many milliseconds.
const KEY_TTL_MS: u64 = 60_000;

/// Whether a near cache works with a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NearCache {
    /// The median time from the sending of a write until the server has told of it over another connection.
    /// `None` if it did not in time.
    pub delay: Option<Duration>,
    /// How many keys the server tracks, if it tells.
    pub tracked_keys: Option<u64>,
    /// How many keys the server tracks at most, if it tells; 0 for any number.
    pub max_tracked_keys: Option<u64>,
}

impl NearCache {
    /// Lets a connection track `redis_key`, which must not exist, changes it over another, and deletes it again.
    /// The measurement and what follows may take until a deadline each. Fails if the server does not track.
    pub(super) fn examine(
        endpoint: &Endpoint,
        is_cluster: bool,
        redis_key: &[u8],
        deadline: impl Fn() -> Instant,
    ) -> Result<Self, Error> {
        let validity = Arc::new(Validity::new(MAX_STALENESS));
        let tracking = Tracking {
            validity: Arc::clone(&validity),
            is_cluster,
        };
        let tracked = Endpoint {
            tracking: Some(tracking),
            ..endpoint.clone()
        };
        let until = deadline();
        let mut reader = connect(&tracked, is_cluster, until)?;
        let mut writer = connect(endpoint, is_cluster, until)?;
        let delay = median_delay(&mut reader, &mut writer, &validity, redis_key, until);
        let until = deadline();
        let deleted = run(&mut writer, until, |commands| {
            commands.push("DEL", redis_key, |_| ());
        });
        let delay = delay?;
        deleted?;
        Ok(Self {
            delay,
            tracked_keys: tracked_keys(&mut writer, until)?,
            max_tracked_keys: max_tracked_keys(&mut writer, until)?,
        })
    }
}

fn connect(endpoint: &Endpoint, is_cluster: bool, deadline: Instant) -> Result<Client, Error> {
    let fence = Fence::default();
    if is_cluster {
        let nodes = std::slice::from_ref(endpoint);
        let cluster = Cluster::open(nodes, &fence, deadline)?;
        return Ok(Client::Cluster(Box::new(cluster)));
    }
    let connection = Connection::open_fenced(endpoint, &fence, deadline)?;
    let server = Standalone::new(endpoint.clone(), connection);
    Ok(Client::Standalone(Box::new(server)))
}

/// `None` if the server does not tell of a change before the deadline.
fn median_delay(
    reader: &mut Client,
    writer: &mut Client,
    validity: &Validity,
    redis_key: &[u8],
    deadline: Instant,
) -> Result<Option<Duration>, Error> {
    let mut delays = Vec::with_capacity(CHANGES);
    while delays.len() < CHANGES {
        run(reader, deadline, |commands| {
            commands.push("GET", redis_key, |_| ())
        })?;
        if let Some(refusal) = reader.tracking_refusal() {
            return Err(refusal.clone());
        }
        let told = validity.invalidations();
        let start = Instant::now();
        run(writer, deadline, |commands| {
            commands.push("SET", redis_key, |command| {
                command.arg("").arg("PX").arg(KEY_TTL_MS);
            });
        })?;
        while validity.invalidations() == told {
            if Instant::now() >= deadline {
                return Ok(None);
            }
            reader.read_pushes()?;
            thread::sleep(PAUSE);
        }
        delays.push(start.elapsed());
    }
    delays.sort_unstable();
    Ok(delays.get(CHANGES / 2).copied())
}

fn tracked_keys(client: &mut Client, deadline: Instant) -> Result<Option<u64>, Error> {
    let info = run(client, deadline, |commands| {
        commands.push_keyless("INFO", |command| {
            command.arg("stats");
        });
    });
    Ok(match permitted(info)? {
        Some(Value::BulkString(info)) => server_info::tracked_keys(&info),
        _ => None,
    })
}

fn max_tracked_keys(client: &mut Client, deadline: Instant) -> Result<Option<u64>, Error> {
    let pair = run(client, deadline, |commands| {
        commands.push_keyless("CONFIG", |command| {
            command.arg("GET").arg("tracking-table-max-keys");
        });
    });
    let Some(Value::Array(pair)) = permitted(pair)? else {
        return Ok(None);
    };
    Ok(match pair.as_slice() {
        [_, Value::BulkString(max)] => std::str::from_utf8(max)
            .ok()
            .and_then(|max| max.parse().ok()),
        _ => None,
    })
}

/// `None` if the server refuses the command.
fn permitted(reply: Result<Value, Error>) -> Result<Option<Value>, Error> {
    match reply {
        Err(error) if !error.keeps_connection() => Err(error),
        reply => Ok(reply.ok()),
    }
}

/// Runs one command.
fn run(
    client: &mut Client,
    deadline: Instant,
    write: impl FnOnce(&mut Commands),
) -> Result<Value, Error> {
    let mut commands = Commands::new();
    write(&mut commands);
    client.send(&mut commands, deadline.into())?;
    let reply = client.receive(deadline.into())?;
    Replies::new(vec![reply]).next_value()
}
