//! How a cache is set up.

use std::fmt;
use std::time::Duration;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use crate::error::{Error, ErrorKind};
use crate::operation::Layout;

/// How a cache is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where Redis is.
    pub server: Server,
    /// Number of workers, each with a connection.
    pub pool_size: usize,
    /// Most requests that wait in each of the two queues.
    pub max_queue: usize,
    /// How long a call may take.
    pub timeout: Duration,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How keys lie in Redis.
    pub layout: Layout,
}

/// Address of and login to a Redis server. `Debug` shows the address alone.
#[derive(Clone)]
pub struct Server {
    info: ConnectionInfo,
}

impl Server {
    /// Reads `redis://[[user]:password@]host[:port][/database]` or
    /// `unix:///path[?db=…&user=…&pass=…]`.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        let info = url.into_connection_info().map_err(|_| ErrorKind::Url)?;
        Ok(Self { info })
    }

    pub(crate) fn address(&self) -> &ConnectionAddr {
        self.info.addr()
    }

    pub(crate) fn username(&self) -> Option<&str> {
        self.info.redis_settings().username()
    }

    pub(crate) fn password(&self) -> Option<&str> {
        self.info.redis_settings().password()
    }

    pub(crate) fn database(&self) -> i64 {
        self.info.redis_settings().db()
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address())
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_urls_and_shows_no_login() {
        let server = Server::from_url("redis://ann:s3cret@cache.example.com:6380/2").unwrap();
        assert_eq!(server.username(), Some("ann"));
        assert_eq!(server.password(), Some("s3cret"));
        assert_eq!(server.database(), 2);
        assert_eq!(format!("{server:?}"), "Server(cache.example.com:6380)");
        let socket = Server::from_url("unix:///run/redis.sock?db=1").unwrap();
        assert_eq!(
            (socket.to_string().as_str(), socket.database()),
            ("/run/redis.sock", 1)
        );
    }

    #[test]
    fn refuses_other_urls() {
        for url in [
            "",
            "localhost:6379",
            "http://localhost",
            "redis://localhost/x",
            "rediss://localhost",
        ] {
            assert_eq!(
                Server::from_url(url).unwrap_err(),
                ErrorKind::Url.into(),
                "{url}"
            );
        }
    }
}
