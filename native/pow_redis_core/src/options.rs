//! How a cache is set up.

use std::sync::Arc;
use std::time::Duration;

use crate::keyspace::index::Index;
use crate::keyspace::layout::Layout;
use crate::net::config::ConnectConfig;
use crate::net::endpoint::Endpoint;

/// How a cache is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where Redis is, and how to connect to it.
    pub connect: ConnectConfig,
    /// The number of workers, each with its own connection.
    pub pool_size: usize,
    /// How many requests may wait in each of the two queues.
    pub max_queue: usize,
    /// How many bytes the reads that have not been completed may have, and how many the writes.
    pub max_queue_bytes: usize,
    /// How long a call may take.
    pub timeout: Duration,
    /// Which keys the store keeps.
    pub layout: Arc<Layout>,
    /// How long a near value may be used although it has changed, if Redis cannot tell. `None` without near
    /// values.
    pub max_staleness: Option<Duration>,
}

impl Options {
    /// One server, two workers, five seconds.
    pub fn for_endpoint(endpoint: Endpoint) -> Self {
        let timeout = Duration::from_secs(5);
        Self {
            connect: ConnectConfig::for_endpoint(endpoint, timeout),
            pool_size: 2,
            max_queue: 10_000,
            max_queue_bytes: 64 << 20,
            timeout,
            layout: Arc::new(Layout::standalone(Index::EveryPrefix)),
            max_staleness: None,
        }
    }
}
