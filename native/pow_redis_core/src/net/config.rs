//! How to connect to Redis.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::endpoint::Endpoint;
use super::tracking::Tracking;
use crate::error::Error;

/// How to connect to Redis.
#[derive(Clone, Debug)]
pub struct ConnectConfig {
    /// Answers with the endpoints at each connect.
    pub provider: EndpointProvider,
    /// One server, Sentinel or Cluster.
    pub topology: Topology,
    /// How long connecting may take.
    pub timeout: Duration,
    /// Whether connections are to track what is read.
    pub tracking: Option<Tracking>,
}

/// One server, Sentinel or Cluster.
#[derive(Clone, Debug)]
pub enum Topology {
    /// One server: the first endpoint.
    Standalone,
    /// The primary of a group that sentinels monitor. The first endpoint has the credentials.
    Sentinel {
        /// The sentinels.
        sentinels: Vec<Endpoint>,
        /// The group's name.
        group: String,
    },
    /// A cluster, discovered through any of the endpoints.
    Cluster,
}

/// Answers with endpoints, before a deadline.
#[derive(Clone)]
pub struct EndpointProvider(Arc<dyn Fn(Instant) -> Result<Vec<Endpoint>, Error> + Send + Sync>);

impl EndpointProvider {
    /// A provider that calls a function at each connect.
    pub fn new(
        resolve: impl Fn(Instant) -> Result<Vec<Endpoint>, Error> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(resolve))
    }

    /// A provider that always gives the same answer.
    pub fn fixed(endpoints: Vec<Endpoint>) -> Self {
        Self::new(move |_| Ok(endpoints.clone()))
    }
}

impl fmt::Debug for EndpointProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EndpointProvider")
    }
}

impl ConnectConfig {
    /// One server.
    pub fn for_endpoint(endpoint: Endpoint, timeout: Duration) -> Self {
        Self {
            provider: EndpointProvider::fixed(vec![endpoint]),
            topology: Topology::Standalone,
            timeout,
            tracking: None,
        }
    }

    /// The endpoints at present.
    pub(crate) fn endpoints(&self, deadline: Instant) -> Result<Vec<Endpoint>, Error> {
        let mut endpoints = (self.provider.0)(deadline)?;
        for endpoint in &mut endpoints {
            endpoint.tracking.clone_from(&self.tracking);
        }
        Ok(endpoints)
    }
}
