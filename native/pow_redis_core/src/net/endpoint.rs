//! A Redis server: its address, and how to log in.

use std::fmt;

use redis::{ConnectionAddr, IntoConnectionInfo};

use super::address::Address;
use super::tls::TlsConfig;
use crate::error::{Error, ErrorKind};

/// A Redis server and how to log in. `Debug` shows only the address.
#[derive(Clone)]
pub struct Endpoint {
    pub(crate) address: Address,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) database: i64,
    pub(crate) tls: Option<TlsConfig>,
}

impl Endpoint {
    /// Parses `redis://[[user]:password@]host[:port][/database]`, the same with `rediss://` for TLS,
    /// or `unix:///path[?db=…&user=…&pass=…]`.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        let (plain, tls) = match url.strip_prefix("rediss://") {
            Some(rest) => (format!("redis://{rest}"), Some(TlsConfig::default())),
            None => (url.to_owned(), None),
        };
        let info = plain.into_connection_info().map_err(|_| ErrorKind::Url)?;
        let address = match info.addr() {
            ConnectionAddr::Tcp(host, port) => Address::Tcp {
                host: host.clone(),
                port: *port,
            },
            ConnectionAddr::Unix(path) => Address::Unix(path.clone()),
            _ => return Err(ErrorKind::Url.into()),
        };
        let settings = info.redis_settings();
        Ok(Self {
            address,
            username: settings.username().map(str::to_owned),
            password: settings.password().map(str::to_owned),
            database: settings.db(),
            tls,
        })
    }

    /// Whether to use TLS.
    pub const fn uses_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The same endpoint with or without TLS.
    #[must_use]
    pub fn with_tls(self, tls: Option<TlsConfig>) -> Self {
        Self { tls, ..self }
    }

    /// The same endpoint with another user or password, if given.
    #[must_use]
    pub fn with_credentials(self, username: Option<String>, password: Option<String>) -> Self {
        Self {
            username: username.or(self.username),
            password: password.or(self.password),
            ..self
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_urls_and_hides_credentials() {
        let server = Endpoint::from_url("redis://ann:s3cret@cache.example.com:6380/2").unwrap();
        assert_eq!(server.username.as_deref(), Some("ann"));
        assert_eq!(server.password.as_deref(), Some("s3cret"));
        assert_eq!(server.database, 2);
        assert!(server.tls.is_none());
        assert_eq!(format!("{server:?}"), "Endpoint(cache.example.com:6380)");

        let secure = Endpoint::from_url("rediss://:p@cache.example.com").unwrap();
        assert_eq!(secure.address.to_string(), "cache.example.com:6379");
        assert!(secure.tls.is_some());

        let socket = Endpoint::from_url("unix:///run/redis.sock?db=1").unwrap();
        assert_eq!(socket.address.to_string(), "/run/redis.sock");
        assert_eq!(socket.database, 1);
    }

    #[test]
    fn rejects_other_urls() {
        for url in [
            "",
            "localhost:6379",
            "http://localhost",
            "redis://localhost/x",
        ] {
            let error = Endpoint::from_url(url).unwrap_err();
            assert_eq!(error, ErrorKind::Url.into(), "{url}");
        }
    }
}
