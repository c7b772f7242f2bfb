//! How to connect to Redis.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::endpoint::Endpoint;
use super::tls::TlsConfig;
use crate::error::Error;

/// How to connect to Redis.
#[derive(Clone, Debug)]
pub struct ConnectConfig {
    /// Answers with URLs and credentials at each connect.
    pub provider: EndpointProvider,
    /// One server, Sentinel or Cluster.
    pub topology: Topology,
    /// The database; overrides the URL's.
    pub database: Option<i64>,
    /// Whether to use TLS; overrides the URL's scheme.
    pub tls: Option<bool>,
    /// How TLS verifies the server, and the certificate to present.
    pub tls_config: TlsConfig,
    /// How long connecting may take.
    pub timeout: Duration,
}

/// One server, Sentinel or Cluster.
#[derive(Clone, Debug)]
pub enum Topology {
    /// One server: the first URL.
    Standalone,
    /// The primary of a group that sentinels monitor.
    Sentinel {
        /// The sentinels.
        sentinels: Vec<Endpoint>,
        /// The group's name.
        group: String,
    },
    /// A cluster, discovered through any of the URLs.
    Cluster,
}

/// What may change from one connect to the next. Without `Debug`: it may hold a password.
#[derive(Clone, Default)]
pub struct Credentials {
    /// Where Redis is.
    pub urls: Vec<String>,
    /// The user; overrides the URL's.
    pub username: Option<String>,
    /// The password; overrides the URL's.
    pub password: Option<String>,
}

/// Answers with URLs and credentials, before a deadline.
#[derive(Clone)]
pub struct EndpointProvider(Arc<dyn Fn(Instant) -> Result<Credentials, Error> + Send + Sync>);

impl EndpointProvider {
    /// A provider that calls a function at each connect.
    pub fn new(
        resolve: impl Fn(Instant) -> Result<Credentials, Error> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(resolve))
    }

    /// A provider that always gives the same answer.
    pub fn fixed(credentials: Credentials) -> Self {
        Self::new(move |_| Ok(credentials.clone()))
    }
}

impl fmt::Debug for EndpointProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EndpointProvider")
    }
}

impl ConnectConfig {
    /// The server of a URL.
    pub fn for_url(url: &str, timeout: Duration) -> Self {
        Self {
            provider: EndpointProvider::fixed(Credentials {
                urls: vec![url.to_owned()],
                ..Credentials::default()
            }),
            topology: Topology::Standalone,
            database: None,
            tls: None,
            tls_config: TlsConfig::default(),
            timeout,
        }
    }

    /// The endpoints that the URLs name now.
    pub(crate) fn endpoints(&self, deadline: Instant) -> Result<Vec<Endpoint>, Error> {
        let credentials = (self.provider.0)(deadline)?;
        credentials
            .urls
            .iter()
            .map(|url| {
                let endpoint = Endpoint::from_url(url)?;
                let tls = self.tls.unwrap_or(endpoint.uses_tls());
                let database = self.database.unwrap_or(endpoint.database);
                let endpoint = endpoint
                    .with_credentials(credentials.username.clone(), credentials.password.clone())
                    .with_tls(tls.then(|| self.tls_config.clone()));
                Ok(Endpoint {
                    database,
                    ..endpoint
                })
            })
            .collect()
    }
}
