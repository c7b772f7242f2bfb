//! Finding the primary that sentinels monitor.
//!
//! The protocol is described in
//! [Sentinel client spec](https://redis.io/docs/latest/develop/reference/sentinel-clients/). Unlike there, all
//! sentinels are asked: right after a failover some still name the old primary, which accepts writes when
//! it comes back, until it is told that it is a replica now. The answer with the newest configuration wins.

use std::time::{Duration, Instant};

use redis::Value;

use super::address::Address;
use super::connection::Connection;
use super::deadline::share;
use super::endpoint::Endpoint;
use super::fence::Fence;
use crate::error::{Error, ErrorKind, ServerCode};

/// How long to wait for one sentinel.
const SENTINEL_TIMEOUT: Duration = Duration::from_secs(1);

/// Connecting to the primary may take this fraction of the remaining time.
const PRIMARY_TRIES: usize = 4;

/// A sentinel's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Primary {
    pub(crate) address: Address,
    /// Grows with each failover.
    pub(crate) config_epoch: u64,
}

/// Connects to the primary of a group, with the credentials of `template`. The server has to confirm that
/// it is a primary. Returns the configuration epoch too.
pub(crate) fn connect_to_primary(
    sentinels: &[Endpoint],
    group: &str,
    template: &Endpoint,
    fence: &Fence,
    deadline: Instant,
) -> Result<(Endpoint, Connection, u64), Error> {
    let primary = newest_primary(sentinels, group, deadline)?;
    let endpoint = Endpoint {
        address: primary.address,
        ..template.clone()
    };
    // A primary that accepts and stays silent must leave time to ask again for its successor.
    let connection =
        open_primary(&endpoint, fence, share(deadline, PRIMARY_TRIES)).map_err(Error::announced)?;
    Ok((endpoint, connection, primary.config_epoch))
}

/// The primary of a group according to the sentinels, with the credentials of `template`.
pub(crate) fn find_primary(
    sentinels: &[Endpoint],
    group: &str,
    template: &Endpoint,
    deadline: Instant,
) -> Result<Endpoint, Error> {
    let primary = newest_primary(sentinels, group, deadline)?;
    Ok(Endpoint {
        address: primary.address,
        ..template.clone()
    })
}

/// The primary of a group according to the sentinel that knows the newest configuration.
pub(crate) fn newest_primary(
    sentinels: &[Endpoint],
    group: &str,
    deadline: Instant,
) -> Result<Primary, Error> {
    let mut newest: Option<Primary> = None;
    let mut failure = ErrorKind::NoPrimary.into();
    for (_, answer) in ask_sentinels(sentinels, group, deadline) {
        match (answer, &newest) {
            (Err(error), _) => failure = error,
            (Ok(primary), Some(newest)) if newest.config_epoch >= primary.config_epoch => {}
            (Ok(primary), _) => newest = Some(primary),
        }
    }
    newest.ok_or(failure)
}

/// What each sentinel answers. One that knows no group of that name fails with
/// [`ErrorKind::NoPrimary`].
pub(crate) fn ask_sentinels(
    sentinels: &[Endpoint],
    group: &str,
    deadline: Instant,
) -> impl Iterator<Item = (Address, Result<Primary, Error>)> {
    let left = (1..=sentinels.len()).rev();
    left.zip(sentinels).map(move |(left, sentinel)| {
        let timeout = share(deadline, left).min(Instant::now() + SENTINEL_TIMEOUT);
        let answer = ask_sentinel(sentinel, group, timeout);
        (sentinel.address.clone(), answer)
    })
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
        let config_epoch: u64 = field("config-epoch")?.parse().ok()?;
        // A sentinel that performs a failover names the old primary, already with the new epoch, until all
        // replicas follow the new one.
        let switches = field("flags").is_some_and(|flags| flags.contains("failover_in_progress"));
        Some(Self {
            address: Address::Tcp {
                host: field("ip")?.to_owned(),
                port: field("port")?.parse().ok()?,
            },
            config_epoch: config_epoch.saturating_sub(u64::from(switches)),
        })
    }
}

fn open_primary(
    endpoint: &Endpoint,
    fence: &Fence,
    deadline: Instant,
) -> Result<Connection, Error> {
    let mut connection = Connection::open_fenced(endpoint, fence, deadline)?;
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
    use super::super::testing::{FakeServer, array, soon};
    use super::*;
    use std::net::TcpListener;

    fn fields(fields: &[&str]) -> Value {
        redis::parse_redis_value(array(fields).as_bytes()).unwrap()
    }

    fn primary(port: u16, config_epoch: u64) -> Primary {
        Primary {
            address: Address::Tcp {
                host: "127.0.0.1".to_owned(),
                port,
            },
            config_epoch,
        }
    }

    /// A sentinel that names a primary of the group `mymaster`.
    fn sentinel(port: u16, epoch: u64) -> FakeServer {
        FakeServer::start(move |words| {
            Some(if words[2] == "mymaster" {
                let (port, epoch) = (port.to_string(), epoch.to_string());
                array(&["ip", "127.0.0.1", "port", &port, "config-epoch", &epoch])
            } else {
                "-ERR No such master with that name\r\n".to_owned()
            })
        })
    }

    fn server(role: &'static str) -> FakeServer {
        FakeServer::start(move |_| Some(array(&[role])))
    }

    fn refusing() -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Endpoint::new(primary(listener.local_addr().unwrap().port(), 0).address)
    }

    fn silent() -> FakeServer {
        FakeServer::start(|_| None)
    }

    #[test]
    fn parses_the_reply_of_a_sentinel() {
        let reply = [
            "name",
            "mymaster",
            "ip",
            "127.0.0.1",
            "port",
            "6379",
            "flags",
            "master",
            "config-epoch",
            "7",
        ];
        assert_eq!(Primary::parse(&fields(&reply)), Some(primary(6379, 7)));
        let switching = reply.map(|word| match word {
            "master" => "master,failover_in_progress",
            word => word,
        });
        assert_eq!(Primary::parse(&fields(&switching)), Some(primary(6379, 6)));
        for incomplete in [
            &["ip", "127.0.0.1"][..],
            &["ip", "127.0.0.1", "port", "6379"],
            &["ip", "127.0.0.1", "port", "x", "config-epoch", "1"],
            &["port", "6379", "config-epoch", "1"],
        ] {
            assert_eq!(Primary::parse(&fields(incomplete)), None, "{incomplete:?}");
        }
        assert_eq!(Primary::parse(&Value::Nil), None);
    }

    #[test]
    fn the_newest_configuration_wins() {
        let sentinels = [
            sentinel(1, 4),
            sentinel(2, 6),
            sentinel(3, 6),
            sentinel(4, 5),
        ];
        let mut endpoints: Vec<_> = sentinels.iter().map(FakeServer::endpoint).collect();
        endpoints.insert(0, refusing());
        endpoints.push(refusing());
        let newest = newest_primary(&endpoints, "mymaster", soon());
        assert_eq!(newest, Ok(primary(2, 6)));
    }

    #[test]
    fn each_sentinel_has_its_own_answer() {
        let (known, silent) = (sentinel(1, 4), silent());
        let endpoints = [known.endpoint(), refusing(), silent.endpoint()];
        let answers: Vec<_> = ask_sentinels(&endpoints, "mymaster", soon()).collect();
        let expected = [
            Ok(primary(1, 4)),
            Err(ErrorKind::Disconnected.into()),
            Err(ErrorKind::Timeout.into()),
        ];
        for ((answer, endpoint), expected) in answers.into_iter().zip(&endpoints).zip(expected) {
            assert_eq!(answer, (endpoint.address.clone(), expected));
        }
        let unknown = newest_primary(&endpoints[..1], "other", soon());
        assert_eq!(unknown, Err(ErrorKind::NoPrimary.into()));
        let nobody = newest_primary(&[], "mymaster", soon());
        assert_eq!(nobody, Err(ErrorKind::NoPrimary.into()));
    }

    #[test]
    fn silent_sentinels_leave_time_for_the_others() {
        let (silent, known) = (silent(), sentinel(1, 4));
        let endpoints = [silent.endpoint(), silent.endpoint(), known.endpoint()];
        let begin = Instant::now();
        let newest = newest_primary(&endpoints, "mymaster", begin + Duration::from_secs(3));
        assert_eq!(newest, Ok(primary(1, 4)));
    }

    #[test]
    fn the_server_has_to_be_a_primary() {
        let template = Endpoint::new(primary(1, 0).address);
        let connect = |server: &FakeServer| {
            let sentinel = sentinel(server.port, 4);
            connect_to_primary(
                &[sentinel.endpoint()],
                "mymaster",
                &template,
                &Fence::default(),
                soon(),
            )
            .map(|(endpoint, _, epoch)| (endpoint.address, epoch))
        };
        let master = server("master");
        assert_eq!(connect(&master), Ok((primary(master.port, 4).address, 4)));
        let read_only = ErrorKind::Server(ServerCode::read_only()).into();
        assert_eq!(connect(&server("slave")), Err(read_only));
        let odd = FakeServer::start(|_| Some(":1\r\n".to_owned()));
        assert_eq!(connect(&odd), Err(ErrorKind::Protocol.into()));
    }

    #[test]
    fn the_primary_has_the_credentials_of_the_template() {
        let template = Endpoint {
            username: Some(b"ann".to_vec()),
            ..Endpoint::new(primary(1, 0).address)
        };
        let sentinel = sentinel(7, 1);
        let endpoint = find_primary(&[sentinel.endpoint()], "mymaster", &template, soon()).unwrap();
        assert_eq!(endpoint.address, primary(7, 1).address);
        assert_eq!(endpoint.username.as_deref(), Some(&b"ann"[..]));
    }
}
