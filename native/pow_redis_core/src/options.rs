//! How a cache is set up.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::operation::Layout;
use crate::server::Server;
use crate::tls::Tls;

/// How a cache is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Tells where Redis is; asked anew at each connect.
    pub source: Source,
    /// What Redis is made of.
    pub topology: Topology,
    /// The database, in place of the URL's.
    pub database: Option<i64>,
    /// Whether to use TLS, in place of what the URL says.
    pub use_tls: Option<bool>,
    /// Certificates, where TLS is used.
    pub tls: Tls,
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

/// What Redis is made of.
#[derive(Clone, Debug)]
pub enum Topology {
    /// One server: the first URL.
    Standalone,
    /// Whichever server the sentinels name as master of a group.
    Sentinel {
        /// The sentinels.
        sentinels: Vec<Server>,
        /// The group's name.
        group: String,
    },
    /// A cluster, found through any URL.
    Cluster,
}

/// What may change from one connect to the next. Without `Debug`: it may hold a password.
#[derive(Clone, Default)]
pub struct Access {
    /// Servers.
    pub urls: Vec<String>,
    /// The user, in place of the URL's.
    pub username: Option<String>,
    /// The password, in place of the URL's.
    pub password: Option<String>,
}

/// Tells where Redis is, by a deadline.
#[derive(Clone)]
pub struct Source(Arc<dyn Fn(Instant) -> Result<Access, Error> + Send + Sync>);

impl Source {
    /// A source that asks a function.
    pub fn new(ask: impl Fn(Instant) -> Result<Access, Error> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    /// A source that always says the same.
    pub fn fixed(access: Access) -> Self {
        Self::new(move |_| Ok(access.clone()))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

impl Options {
    /// One server, two workers, five seconds.
    pub fn for_url(url: &str) -> Self {
        let timeout = Duration::from_secs(5);
        Self {
            source: Source::fixed(Access {
                urls: vec![url.to_owned()],
                ..Access::default()
            }),
            topology: Topology::Standalone,
            database: None,
            use_tls: None,
            tls: Tls::default(),
            pool_size: 2,
            max_queue: 10_000,
            timeout,
            connect_timeout: timeout,
            layout: Layout::Indexed,
        }
    }

    /// The servers that the URLs name now, each with all that is needed to log in.
    pub(crate) fn servers(&self, deadline: Instant) -> Result<Vec<Server>, Error> {
        let access = (self.source.0)(deadline)?;
        access
            .urls
            .iter()
            .map(|url| {
                let server = Server::from_url(url)?;
                let use_tls = self.use_tls.unwrap_or(server.uses_tls());
                let database = self.database.unwrap_or(server.database);
                let server = server
                    .with_login(access.username.clone(), access.password.clone())
                    .with_tls(use_tls.then(|| self.tls.clone()));
                Ok(Server { database, ..server })
            })
            .collect()
    }
}
