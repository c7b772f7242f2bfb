//! The options of an instance, as Elixir passes them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pow_redis_core::error::{Error, ErrorKind};
use pow_redis_core::keyspace::index::Index;
use pow_redis_core::keyspace::index_pattern::IndexPattern;
use pow_redis_core::keyspace::layout::Layout;
use pow_redis_core::net::address::Address;
use pow_redis_core::net::config::{ConnectConfig, EndpointProvider, Topology};
use pow_redis_core::net::endpoint::Endpoint;
use pow_redis_core::net::tls::{TlsConfig, TlsVersion};
use pow_redis_core::options::Options;
use pow_redis_core::seal::{KeyId, Keyring, PlainValues, SealKey, WriteForm};
use rustler::{
    Atom, Binary, Decoder, Encoder, LocalPid, NifMap, NifResult, NifUnitEnum, NifUntaggedEnum,
    Resource, ResourceArc, Term,
};

use crate::term::Decoding;
use crate::{atoms, reply};

#[derive(NifMap)]
#[rustler(decode)]
pub(crate) struct StartOptions<'a> {
    /// `nil` if the owner is to be asked at each connect.
    endpoints: Option<Vec<EndpointMap<'a>>>,
    topology: Atom,
    sentinels: Vec<EndpointMap<'a>>,
    group: Option<String>,
    pool_size: usize,
    max_queue: usize,
    max_queue_bytes: usize,
    timeout: u64,
    connect_timeout: u64,
    index: IndexTerm,
    decode: Atom,
    /// `nil` if values are not sealed.
    seal: Option<KeyringTerm>,
}

#[derive(NifMap)]
pub(crate) struct EndpointMap<'a> {
    address: AddressTerm<'a>,
    username: Option<Binary<'a>>,
    password: Option<Binary<'a>>,
    database: i64,
    tls: Option<TlsConfigMap<'a>>,
}

/// `{Host, Port}`, or the path of a Unix socket.
#[derive(NifUntaggedEnum)]
enum AddressTerm<'a> {
    Tcp((String, u16)),
    Unix(Binary<'a>),
}

#[derive(NifMap)]
struct TlsConfigMap<'a> {
    verify: bool,
    cacertfile: Option<Binary<'a>>,
    certfile: Option<Binary<'a>>,
    keyfile: Option<Binary<'a>>,
    server_name: Option<String>,
    tls_versions: Vec<TlsVersionAtom>,
}

#[derive(NifUnitEnum)]
enum TlsVersionAtom {
    Tls12,
    Tls13,
}

impl StartOptions<'_> {
    pub(crate) fn decoding(&self) -> Decoding {
        if self.decode == atoms::safe() {
            Decoding::Safe
        } else {
            Decoding::Checked
        }
    }

    pub(crate) fn into_options(self, owner: LocalPid) -> Options {
        let topology = if self.topology == atoms::sentinel() {
            Topology::Sentinel {
                sentinels: endpoints(self.sentinels),
                group: self.group.unwrap_or_default(),
            }
        } else if self.topology == atoms::cluster() {
            Topology::Cluster
        } else {
            Topology::Standalone
        };
        let layout = Layout {
            index: self.index.0,
            is_cluster: matches!(topology, Topology::Cluster),
            keyring: Arc::new(self.seal.map(|seal| seal.0).unwrap_or_default()),
        };
        let provider = self.endpoints.map_or_else(
            || EndpointProvider::new(move |deadline| ask_owner(owner, deadline)),
            |fixed| EndpointProvider::fixed(endpoints(fixed)),
        );
        Options {
            connect: ConnectConfig {
                provider,
                topology,
                timeout: Duration::from_millis(self.connect_timeout),
            },
            pool_size: self.pool_size,
            max_queue: self.max_queue,
            max_queue_bytes: self.max_queue_bytes,
            timeout: Duration::from_millis(self.timeout),
            layout: Arc::new(layout),
        }
    }
}

/// `every_prefix`, or a list of patterns as external terms.
struct IndexTerm(Index);

impl<'a> Decoder<'a> for IndexTerm {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        if term == atoms::every_prefix().to_term(term.get_env()) {
            return Ok(Self(Index::EveryPrefix));
        }
        let patterns: Vec<Binary<'_>> = term.decode()?;
        let patterns = patterns
            .iter()
            .map(|pattern| IndexPattern::from_external(pattern))
            .collect::<Option<_>>()
            .ok_or(rustler::Error::BadArg)?;
        Ok(Self(Index::Patterns(patterns)))
    }
}

/// `#{keys, write, plain}`: pairs of an id and 32 bytes, and the atoms of the options.
struct KeyringTerm(Keyring);

#[derive(NifMap)]
#[rustler(decode)]
struct KeyringMap<'a> {
    keys: Vec<(Binary<'a>, Binary<'a>)>,
    write: Atom,
    plain: Atom,
}

impl<'a> Decoder<'a> for KeyringTerm {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let map: KeyringMap<'_> = term.decode()?;
        let keys = map
            .keys
            .iter()
            .map(|(id, key)| SealKey::new(KeyId::new(id)?, key))
            .collect::<Option<_>>();
        let writes = if map.write == atoms::seal() {
            WriteForm::Sealed
        } else {
            WriteForm::Plain
        };
        let plain = if map.plain == atoms::refuse() {
            PlainValues::Refuse
        } else {
            PlainValues::Accept
        };
        keys.and_then(|keys| Keyring::new(keys, writes, plain))
            .map(Self)
            .ok_or(rustler::Error::BadArg)
    }
}

fn endpoints(maps: Vec<EndpointMap<'_>>) -> Vec<Endpoint> {
    maps.into_iter().map(Into::into).collect()
}

impl From<EndpointMap<'_>> for Endpoint {
    fn from(map: EndpointMap<'_>) -> Self {
        Self {
            username: map.username.map(|name| name.to_vec()),
            password: map.password.map(|password| password.as_slice().into()),
            database: map.database,
            tls: map.tls.map(Into::into),
            ..Self::new(map.address.into())
        }
    }
}

impl From<AddressTerm<'_>> for Address {
    fn from(term: AddressTerm<'_>) -> Self {
        match term {
            AddressTerm::Tcp((host, port)) => Self::Tcp { host, port },
            AddressTerm::Unix(path) => Self::Unix(file(path)),
        }
    }
}

/// A file name is bytes, of any encoding.
fn file(name: Binary<'_>) -> PathBuf {
    OsString::from_vec(name.to_vec()).into()
}

impl From<TlsConfigMap<'_>> for TlsConfig {
    fn from(map: TlsConfigMap<'_>) -> Self {
        Self {
            verify: map.verify,
            cacertfile: map.cacertfile.map(file),
            client: map
                .certfile
                .zip(map.keyfile)
                .map(|(certificate, key)| (file(certificate), file(key))),
            server_name: map.server_name,
            versions: map.tls_versions.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<TlsVersionAtom> for TlsVersion {
    fn from(atom: TlsVersionAtom) -> Self {
        match atom {
            TlsVersionAtom::Tls12 => Self::Tls12,
            TlsVersionAtom::Tls13 => Self::Tls13,
        }
    }
}

/// A worker asks the owner for the endpoints. If the request is dropped unanswered, connecting fails.
pub(crate) struct EndpointRequest(Mutex<Option<Sender<Answer>>>);

type Answer = Result<Vec<Endpoint>, Error>;

impl EndpointRequest {
    /// Answers the request: a list of endpoints, or the atom of the reason why there are none. Only the
    /// first answer counts.
    pub(crate) fn resolve(&self, answer: Term<'_>) {
        let answer = match answer.decode() {
            Ok(maps) => Ok(endpoints(maps)),
            Err(_) if answer == atoms::invalid_url().to_term(answer.get_env()) => {
                Err(ErrorKind::Url.into())
            }
            Err(_) => Err(ErrorKind::EndpointUnavailable.into()),
        };
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // After the deadline there is no receiver.
            let _ = sender.send(answer);
        }
    }
}

#[rustler::resource_impl]
impl Resource for EndpointRequest {}

fn ask_owner(owner: LocalPid, deadline: Instant) -> Answer {
    let (sender, receiver) = channel();
    let request = ResourceArc::new(EndpointRequest(Mutex::new(Some(sender))));
    reply::send_event(owner, |env| (atoms::resolve(), request).encode(env));
    let left = deadline.saturating_duration_since(Instant::now());
    let unavailable = |_| Err(ErrorKind::EndpointUnavailable.into());
    receiver.recv_timeout(left).unwrap_or_else(unavailable)
}
