//! The options of an instance, as Elixir passes them.

use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pow_redis_core::error::{Error, ErrorKind};
use pow_redis_core::keyspace::layout::Layout;
use pow_redis_core::net::config::{ConnectConfig, Credentials, EndpointProvider, Topology};
use pow_redis_core::net::endpoint::Endpoint;
use pow_redis_core::net::tls::TlsConfig;
use pow_redis_core::options::Options;
use rustler::{Atom, Encoder, LocalPid, NifMap, Resource, ResourceArc};

use crate::term::Decoding;
use crate::{atoms, reply};

#[derive(NifMap)]
pub(crate) struct StartOptions {
    /// `nil` if the owner is to be asked at each connect.
    credentials: Option<CredentialsMap>,
    topology: Atom,
    sentinels: Vec<SentinelMap>,
    group: Option<String>,
    database: Option<i64>,
    tls: Option<bool>,
    tls_config: TlsConfigMap,
    pool_size: usize,
    max_queue: usize,
    max_queue_bytes: usize,
    timeout: u64,
    connect_timeout: u64,
    index: bool,
    decode: Atom,
}

#[derive(NifMap)]
pub(crate) struct CredentialsMap {
    urls: Vec<String>,
    username: Option<String>,
    password: Option<String>,
}

#[derive(NifMap)]
struct SentinelMap {
    url: String,
    username: Option<String>,
    password: Option<String>,
    tls: Option<bool>,
    tls_config: TlsConfigMap,
}

#[derive(NifMap)]
struct TlsConfigMap {
    verify: bool,
    cacertfile: Option<String>,
    certfile: Option<String>,
    keyfile: Option<String>,
}

impl StartOptions {
    pub(crate) fn decoding(&self) -> Decoding {
        if self.decode == atoms::safe() {
            Decoding::Safe
        } else {
            Decoding::Checked
        }
    }

    pub(crate) fn into_options(self, owner: LocalPid) -> Result<Options, Error> {
        let topology = if self.topology == atoms::sentinel() {
            Topology::Sentinel {
                sentinels: self
                    .sentinels
                    .into_iter()
                    .map(SentinelMap::into_endpoint)
                    .collect::<Result<_, _>>()?,
                group: self.group.unwrap_or_default(),
            }
        } else if self.topology == atoms::cluster() {
            Topology::Cluster
        } else {
            Topology::Standalone
        };
        let provider = match self.credentials {
            Some(credentials) => {
                let credentials = Credentials::from(credentials);
                for url in &credentials.urls {
                    Endpoint::from_url(url)?;
                }
                EndpointProvider::fixed(credentials)
            }
            None => EndpointProvider::new(move |deadline| ask_owner(owner, deadline)),
        };
        Ok(Options {
            connect: ConnectConfig {
                provider,
                topology,
                database: self.database,
                tls: self.tls,
                tls_config: self.tls_config.into(),
                timeout: Duration::from_millis(self.connect_timeout),
            },
            pool_size: self.pool_size,
            max_queue: self.max_queue,
            max_queue_bytes: self.max_queue_bytes,
            timeout: Duration::from_millis(self.timeout),
            layout: if self.index {
                Layout::Indexed
            } else {
                Layout::Plain
            },
        })
    }
}

impl SentinelMap {
    fn into_endpoint(self) -> Result<Endpoint, Error> {
        let endpoint = Endpoint::from_url(&self.url)?;
        let tls = self.tls.unwrap_or(endpoint.uses_tls());
        Ok(endpoint
            .with_credentials(self.username, self.password)
            .with_tls(tls.then(|| self.tls_config.into())))
    }
}

impl From<TlsConfigMap> for TlsConfig {
    fn from(map: TlsConfigMap) -> Self {
        Self {
            verify: map.verify,
            cacertfile: map.cacertfile.map(PathBuf::from),
            client: map
                .certfile
                .zip(map.keyfile)
                .map(|(certificate, key)| (certificate.into(), key.into())),
        }
    }
}

impl From<CredentialsMap> for Credentials {
    fn from(map: CredentialsMap) -> Self {
        Self {
            urls: map.urls,
            username: map.username,
            password: map.password,
        }
    }
}

/// A worker asks the owner for URLs and credentials. If the request is dropped unanswered, connecting
/// fails.
pub(crate) struct EndpointRequest(Mutex<Option<Sender<Option<Credentials>>>>);

impl EndpointRequest {
    /// Answers the request. Only the first answer counts.
    pub(crate) fn resolve(&self, credentials: Option<Credentials>) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // After the deadline there is no receiver.
            let _ = sender.send(credentials);
        }
    }
}

#[rustler::resource_impl]
impl Resource for EndpointRequest {}

fn ask_owner(owner: LocalPid, deadline: Instant) -> Result<Credentials, Error> {
    let (sender, receiver) = channel();
    let request = ResourceArc::new(EndpointRequest(Mutex::new(Some(sender))));
    reply::send_event(owner, |env| (atoms::resolve(), request).encode(env));
    let left = deadline.saturating_duration_since(Instant::now());
    match receiver.recv_timeout(left) {
        Ok(Some(credentials)) => Ok(credentials),
        _ => Err(ErrorKind::EndpointUnavailable.into()),
    }
}
