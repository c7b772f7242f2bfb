//! A Redis server: its address, and how to log in.

use std::fmt;

use super::address::Address;
use super::tls::TlsConfig;
use super::tracking::Tracking;
use crate::secret::Secret;

/// A Redis server and how to log in. `Debug` shows only the address.
#[derive(Clone)]
pub struct Endpoint {
    /// Where the server listens.
    pub address: Address,
    /// The user. Redis takes any bytes.
    pub username: Option<Vec<u8>>,
    /// The password. Redis takes any bytes.
    pub password: Option<Secret>,
    /// The number of the database.
    pub database: i64,
    /// How TLS verifies the server, if it is used.
    pub tls: Option<TlsConfig>,
    /// Whether the connection is to track what is read.
    pub tracking: Option<Tracking>,
}

impl Endpoint {
    /// The first database at an address, without a login and without TLS.
    pub const fn new(address: Address) -> Self {
        Self {
            address,
            username: None,
            password: None,
            database: 0,
            tls: None,
            tracking: None,
        }
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
    fn shows_only_its_address() {
        let address = Address::Tcp {
            host: "cache.example.com".to_owned(),
            port: 6380,
        };
        let endpoint = Endpoint {
            username: Some(b"ann".to_vec()),
            password: Some(b"s3cret"[..].into()),
            ..Endpoint::new(address)
        };
        assert_eq!(format!("{endpoint:?}"), "Endpoint(cache.example.com:6380)");
    }

    #[test]
    fn uses_tls_only_if_it_is_configured() {
        let endpoint = Endpoint::new(Address::Unix("redis.sock".into()));
        assert!(!endpoint.uses_tls());
        let endpoint = endpoint.with_tls(Some(TlsConfig::default()));
        assert!(endpoint.uses_tls());
        assert!(!endpoint.with_tls(None).uses_tls());
    }
}
