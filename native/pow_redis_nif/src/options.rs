//! How an instance is set up, as Elixir says it.

use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pow_redis_core::error::{Error, ErrorKind};
use pow_redis_core::operation::Layout;
use pow_redis_core::options::{Access, Options, Source, Topology};
use pow_redis_core::server::Server;
use pow_redis_core::tls::Tls;
use rustler::{Atom, LocalPid, NifMap, Resource, ResourceArc};

use crate::term::Decoding;
use crate::{atoms, reply};

#[derive(NifMap)]
pub(crate) struct StartOptions {
    /// Nothing where the owner is to be asked at each connect.
    access: Option<AccessMap>,
    topology: Atom,
    sentinels: Vec<SentinelMap>,
    group: Option<String>,
    database: Option<i64>,
    tls: Option<bool>,
    certificates: CertificatesMap,
    pool_size: usize,
    max_queue: usize,
    timeout: u64,
    connect_timeout: u64,
    index: bool,
    decode: Atom,
}

#[derive(NifMap)]
pub(crate) struct AccessMap {
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
    certificates: CertificatesMap,
}

#[derive(NifMap)]
struct CertificatesMap {
    insecure: bool,
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
                    .map(SentinelMap::into_server)
                    .collect::<Result<_, _>>()?,
                group: self.group.unwrap_or_default(),
            }
        } else if self.topology == atoms::cluster() {
            Topology::Cluster
        } else {
            Topology::Standalone
        };
        let source = match self.access {
            Some(access) => {
                let access = Access::from(access);
                for url in &access.urls {
                    Server::from_url(url)?;
                }
                Source::fixed(access)
            }
            None => Source::new(move |deadline| ask(owner, deadline)),
        };
        Ok(Options {
            source,
            topology,
            database: self.database,
            use_tls: self.tls,
            tls: self.certificates.into(),
            pool_size: self.pool_size,
            max_queue: self.max_queue,
            timeout: Duration::from_millis(self.timeout),
            connect_timeout: Duration::from_millis(self.connect_timeout),
            layout: if self.index {
                Layout::Indexed
            } else {
                Layout::Plain
            },
        })
    }
}

impl SentinelMap {
    fn into_server(self) -> Result<Server, Error> {
        let server = Server::from_url(&self.url)?;
        let by_url = server.uses_tls();
        Ok(server
            .with_login(self.username, self.password)
            .with_tls(self.tls.unwrap_or(by_url).then(|| self.certificates.into())))
    }
}

impl From<CertificatesMap> for Tls {
    fn from(map: CertificatesMap) -> Self {
        Self {
            insecure: map.insecure,
            cacertfile: map.cacertfile.map(PathBuf::from),
            client: map
                .certfile
                .zip(map.keyfile)
                .map(|(certificate, key)| (certificate.into(), key.into())),
        }
    }
}

impl From<AccessMap> for Access {
    fn from(map: AccessMap) -> Self {
        Self {
            urls: map.urls,
            username: map.username,
            password: map.password,
        }
    }
}

/// A worker's question to the owner, where Redis is. When it is dropped unanswered, the worker
/// learns that too.
pub(crate) struct Question(Mutex<Option<Sender<Option<Access>>>>);

impl Question {
    pub(crate) fn answer(&self, access: Option<Access>) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // A worker that waits no longer is no error.
            let _ = sender.send(access);
        }
    }
}

#[rustler::resource_impl]
impl Resource for Question {}

fn ask(owner: LocalPid, deadline: Instant) -> Result<Access, Error> {
    let (sender, receiver) = channel();
    let question = ResourceArc::new(Question(Mutex::new(Some(sender))));
    reply::send_event(owner, |env| {
        rustler::Encoder::encode(&(atoms::access(), question), env)
    });
    let left = deadline.saturating_duration_since(Instant::now());
    match receiver.recv_timeout(left) {
        Ok(Some(access)) => Ok(access),
        _ => Err(ErrorKind::Unresolved.into()),
    }
}
