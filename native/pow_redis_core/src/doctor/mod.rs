//! The doctor: examines a connection step by step, and what Redis holds.
//!
//! It uses connections of its own and writes nothing. Each step may take the connect timeout; counting
//! keys has a timeout of its own. A step that fails ends the examination.

mod connect_report;
pub mod keyspace_stats;
mod measure;

use std::time::{Duration, Instant};

pub use self::connect_report::ConnectReport;
use self::keyspace_stats::{KeyspaceStats, ScanEnd};
pub use self::measure::{Denied, Latency};
use crate::error::{Error, ErrorKind};
use crate::net::client::Client;
use crate::net::cluster::Cluster;
use crate::net::config::{ConnectConfig, Topology};
use crate::net::connection::Connection;
use crate::net::endpoint::Endpoint;
use crate::net::fence::Fence;
use crate::net::sentinel;
use crate::net::server_info::ServerInfo;
use crate::net::standalone::Standalone;

/// The result of a step; `None` if it was not reached.
pub type StepResult<T> = Option<Result<T, Error>>;

/// What the doctor has found.
#[derive(Debug, Default)]
pub struct Report {
    /// Whether the endpoints could be resolved.
    pub endpoints: StepResult<()>,
    /// The nodes of a cluster that could not be reached before this one.
    pub unreachable: Vec<String>,
    /// The connection to the server.
    pub connect: Option<ConnectReport>,
    /// The fields of `INFO`.
    pub info: StepResult<ServerInfo>,
    /// How fast the server answers.
    pub latency: StepResult<Latency>,
    /// How far the server's clock is ahead of this host's, in milliseconds.
    pub clock_skew_ms: StepResult<i64>,
    /// The commands that the user may not run.
    pub denied: StepResult<Denied>,
    /// The number of primaries of a cluster.
    pub primaries: StepResult<usize>,
    /// The keys of the database, and how counting them ended.
    pub keyspace_stats: Option<(KeyspaceStats, ScanEnd)>,
}

/// Examines a connection.
#[derive(Debug)]
pub struct Doctor<'c> {
    /// How to connect.
    pub config: &'c ConnectConfig,
    /// The commands to try: a name, and arguments that change nothing.
    pub probes: &'c [Vec<String>],
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
            report.keyspace_stats = self.count_keys(endpoint, connection, &mut report);
        }
        report
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.config.timeout
    }

    /// Connects to the first server that can be reached, and logs in.
    fn find_server(&self, report: &mut Report) -> Option<(Endpoint, Connection)> {
        let endpoints = match self.resolve() {
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
                report.unreachable.push(failed.address.to_string());
            }
            if let Some(connection) = connection {
                return Some((endpoint, connection));
            }
        }
        None
    }

    /// The servers to try, in turn.
    fn resolve(&self) -> Result<Vec<Endpoint>, Error> {
        let mut endpoints = self.config.endpoints(self.deadline())?;
        match &self.config.topology {
            Topology::Cluster => {}
            Topology::Standalone => endpoints.truncate(1),
            Topology::Sentinel { sentinels, group } => {
                let template = endpoints.first().ok_or(ErrorKind::Url)?;
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

    /// Takes the steps that need no keys.
    fn measure(&self, connection: &mut Connection, report: &mut Report) -> Option<()> {
        let info = connection.info(self.deadline());
        store(&mut report.info, info)?;
        let latency = Latency::measure(connection, self.deadline());
        store(&mut report.latency, latency)?;
        let skew = measure::clock_skew_ms(connection, self.deadline());
        store(&mut report.clock_skew_ms, skew)?;
        let denied = Denied::probe(self.probes, connection, self.deadline());
        store(&mut report.denied, denied)
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
            let cluster = Cluster::open(&[endpoint], &Fence::default(), self.deadline());
            let primaries = cluster.as_ref().map(Cluster::primaries);
            report.primaries = Some(primaries.map_err(Clone::clone));
            Client::Cluster(Box::new(cluster.ok()?))
        } else {
            Client::Standalone(Box::new(Standalone::new(endpoint, connection)))
        };
        let deadline = Instant::now() + self.count_timeout;
        Some(keyspace_stats::scan(
            &mut client,
            self.config.timeout,
            deadline,
        ))
    }
}
