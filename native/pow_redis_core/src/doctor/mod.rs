//! The doctor: examines a connection step by step, and what Redis holds.
//!
//! It uses connections of its own. Each step may take the connect timeout; counting keys has a timeout of its
//! own. A step that fails ends the examination. It writes nothing, unless it examines a near cache: then one
//! key of its own, which it deletes again.

mod connect_report;
pub mod keyspace_stats;
mod measure;
mod near_cache;

use std::time::{Duration, Instant};

pub use self::connect_report::ConnectReport;
use self::keyspace_stats::{KeyspaceStats, ScanEnd};
pub use self::measure::{Denied, Latency, Probe};
pub use self::near_cache::NearCache;
use crate::error::{Error, ErrorKind};
use crate::keyspace::layout::Layout;
use crate::net::address::Address;
use crate::net::client::Client;
use crate::net::cluster::Cluster;
use crate::net::config::{ConnectConfig, Topology};
use crate::net::connection::Connection;
use crate::net::endpoint::Endpoint;
use crate::net::fence::Fence;
use crate::net::sentinel;
use crate::net::server_info::ServerInfo;
use crate::net::standalone::Standalone;

/// The most unreachable primaries to look for: each may take the connect timeout.
const MAX_UNREACHABLE: usize = 5;

/// The result of a step; `None` if it was not reached.
pub type StepResult<T> = Option<Result<T, Error>>;

/// What the doctor has found.
#[derive(Debug, Default)]
pub struct Report {
    /// Whether the endpoints could be resolved.
    pub endpoints: StepResult<()>,
    /// The sentinels that do not name a primary, or the nodes of a cluster that could not be reached before
    /// this one. Each with the reason.
    pub unreachable: Vec<(String, Error)>,
    /// The connection to the server.
    pub connect: Option<ConnectReport>,
    /// The fields of `INFO`.
    pub info: StepResult<ServerInfo>,
    /// How fast the server answers.
    pub latency: StepResult<Latency>,
    /// How far the server's clock is ahead of this host's, in milliseconds.
    pub clock_skew_ms: StepResult<i64>,
    /// The commands that the server refuses.
    pub denied: StepResult<Denied>,
    /// Whether the server saves snapshots, if it tells.
    pub snapshots: StepResult<Option<bool>>,
    /// The number of primaries of a cluster.
    pub primaries: StepResult<usize>,
    /// The primaries of a cluster that cannot be reached at the addresses that it names.
    pub unreachable_primaries: Vec<(String, Error)>,
    /// Whether a near cache works, if there is one.
    pub near_cache: StepResult<NearCache>,
    /// The keys of the database, and how counting them ended.
    pub keyspace_stats: Option<(KeyspaceStats, ScanEnd)>,
}

/// Examines a connection.
#[derive(Debug)]
pub struct Doctor<'c> {
    /// How to connect.
    pub config: &'c ConnectConfig,
    /// Which keys the store keeps.
    pub layout: &'c Layout,
    /// The commands to try.
    pub probes: &'c [Probe],
    /// If there is a near cache, a key that does not exist, to see whether the server tells of its changes.
    pub near_key: Option<&'c str>,
    /// How long counting keys may take.
    pub count_timeout: Duration,
}

/// Stores the result of a step. Returns `None` if no other step can follow.
fn store<T>(step: &mut StepResult<T>, result: Result<T, Error>) -> Option<()> {
    let continues = match &result {
        Ok(_) => true,
        Err(error) => error.keeps_connection(),
    };
    *step = Some(result);
    continues.then_some(())
}

impl Doctor<'_> {
    /// Examines the connection. This takes as long as the steps do.
    pub fn examine(&self) -> Report {
        let mut report = Report::default();
        if let Some((endpoint, mut connection)) = self.find_server(&mut report)
            && self.measure(&mut connection, &mut report).is_some()
        {
            report.near_cache = self.examine_near_cache(&endpoint);
            report.keyspace_stats = self.count_keys(endpoint, connection, &mut report);
        }
        report
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.config.timeout
    }

    /// Connects to the first server that can be reached, and logs in.
    fn find_server(&self, report: &mut Report) -> Option<(Endpoint, Connection)> {
        let endpoints = match self.resolve(report) {
            Ok(endpoints) => endpoints,
            Err(error) => {
                report.endpoints = Some(Err(error));
                return None;
            }
        };
        report.endpoints = Some(Ok(()));
        for endpoint in endpoints {
            let mut connect = ConnectReport::new(&endpoint);
            let connection = connect.connect(&endpoint, || self.deadline());
            if let Some(failed) = report.connect.replace(connect) {
                let error = failed.failure().unwrap_or(ErrorKind::Disconnected.into());
                report.unreachable.push((failed.address.to_string(), error));
            }
            if let Some(connection) = connection {
                return Some((endpoint, connection));
            }
        }
        None
    }

    /// The servers to try, in turn.
    fn resolve(&self, report: &mut Report) -> Result<Vec<Endpoint>, Error> {
        let mut endpoints = self.config.endpoints(self.deadline())?;
        match &self.config.topology {
            Topology::Cluster => {}
            Topology::Standalone => endpoints.truncate(1),
            Topology::Sentinel { sentinels, group } => {
                let template = endpoints.first().ok_or(ErrorKind::Url)?;
                report.unreachable = self.silent_sentinels(sentinels, group, template);
                endpoints = vec![sentinel::find_primary(
                    sentinels,
                    group,
                    template,
                    self.deadline(),
                )?];
            }
        }
        Ok(endpoints)
    }

    /// The sentinels that do not name a primary.
    fn silent_sentinels(
        &self,
        sentinels: &[Endpoint],
        group: &str,
        template: &Endpoint,
    ) -> Vec<(String, Error)> {
        let ask = |endpoint: &Endpoint| {
            let only = std::slice::from_ref(endpoint);
            let error = sentinel::find_primary(only, group, template, self.deadline()).err()?;
            Some((endpoint.address.to_string(), error))
        };
        sentinels.iter().filter_map(ask).collect()
    }

    /// Takes the steps that need no keys.
    fn measure(&self, connection: &mut Connection, report: &mut Report) -> Option<()> {
        let info = connection.info(self.deadline());
        store(&mut report.info, info)?;
        let latency = Latency::measure(connection, self.deadline());
        store(&mut report.latency, latency)?;
        let skew = measure::clock_skew_ms(connection, self.deadline());
        store(&mut report.clock_skew_ms, skew)?;
        let denied = Denied::probe(self.probes, connection, self.deadline());
        store(&mut report.denied, denied)?;
        let snapshots = measure::saves_snapshots(connection, self.deadline());
        store(&mut report.snapshots, snapshots)
    }

    fn examine_near_cache(&self, endpoint: &Endpoint) -> StepResult<NearCache> {
        let key = self.near_key?.as_bytes();
        let is_cluster = self.layout.is_cluster;
        Some(NearCache::examine(endpoint, is_cluster, key, || {
            self.deadline()
        }))
    }

    fn count_keys(
        &self,
        endpoint: Endpoint,
        connection: Connection,
        report: &mut Report,
    ) -> Option<(KeyspaceStats, ScanEnd)> {
        let mut client = if matches!(self.config.topology, Topology::Cluster) {
            // The index sets of one node's keys may be on another.
            drop(connection);
            let cluster = Cluster::open(
                std::slice::from_ref(&endpoint),
                &Fence::default(),
                self.deadline(),
            );
            let primaries = cluster.as_ref().map(|cluster| cluster.primaries().len());
            report.primaries = Some(primaries.map_err(Clone::clone));
            let cluster = cluster.ok()?;
            report.unreachable_primaries = self.unreachable_primaries(&cluster, &endpoint);
            if !report.unreachable_primaries.is_empty() {
                return None;
            }
            Client::Cluster(Box::new(cluster))
        } else {
            Client::Standalone(Box::new(Standalone::new(endpoint, connection)))
        };
        let deadline = Instant::now() + self.count_timeout;
        Some(keyspace_stats::scan(
            &mut client,
            self.layout,
            self.config.timeout,
            deadline,
        ))
    }

    /// The primaries that cannot be reached at the addresses that the cluster names.
    fn unreachable_primaries(
        &self,
        cluster: &Cluster,
        template: &Endpoint,
    ) -> Vec<(String, Error)> {
        let connect = |address: &Address| {
            let endpoint = Endpoint {
                address: address.clone(),
                ..template.clone()
            };
            let error = Connection::open(&endpoint, self.deadline()).err()?;
            Some((address.to_string(), error.announced()))
        };
        cluster
            .primaries()
            .into_iter()
            .filter_map(connect)
            .take(MAX_UNREACHABLE)
            .collect()
    }
}
