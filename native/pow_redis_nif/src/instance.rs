//! The running caches, by name.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use once_cell::sync::Lazy;
use pow_redis_core::cache::Cache;
use pow_redis_core::options::Options;
use pow_redis_core::request::Ticket;
use rustler::{Atom, LocalPid, Resource, ResourceArc};

use crate::reply;
use crate::term::Decoding;

/// The NIF's only global state. An instance is held by its handle, which its owner process holds:
/// when the owner ends, however it does, the instance ends.
static INSTANCES: Lazy<RwLock<HashMap<Atom, Weak<Instance>>>> = Lazy::new(RwLock::default);

/// A cache, the process that started it, and how values become terms.
pub(crate) struct Instance {
    cache: Cache,
    owner: LocalPid,
    decoding: Decoding,
}

impl Instance {
    /// Starts a cache under a name; one that ran under it before is not found any more.
    pub(crate) fn start(
        name: Atom,
        owner: LocalPid,
        options: Options,
        decoding: Decoding,
    ) -> io::Result<ResourceArc<Handle>> {
        let cache = Cache::start(options, reply::observer(owner))?;
        let instance = Arc::new(Self {
            cache,
            owner,
            decoding,
        });
        let mut instances = INSTANCES.write().unwrap_or_else(PoisonError::into_inner);
        instances.retain(|_, instance| instance.strong_count() > 0);
        instances.insert(name, Arc::downgrade(&instance));
        Ok(ResourceArc::new(Handle(Mutex::new(Some(instance)))))
    }

    pub(crate) fn find(name: Atom) -> Option<Arc<Self>> {
        let instances = INSTANCES.read().unwrap_or_else(PoisonError::into_inner);
        instances.get(&name)?.upgrade()
    }

    pub(crate) const fn cache(&self) -> &Cache {
        &self.cache
    }

    pub(crate) const fn owner(&self) -> LocalPid {
        self.owner
    }

    pub(crate) const fn decoding(&self) -> Decoding {
        self.decoding
    }
}

/// Keeps an instance running.
pub(crate) struct Handle(Mutex<Option<Arc<Instance>>>);

impl Handle {
    /// Lets the workers finish what is queued, and end. Does not wait for it.
    pub(crate) fn stop(&self) {
        let instance = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(instance);
    }
}

#[rustler::resource_impl]
impl Resource for Handle {}

/// With it, a caller gives up waiting.
pub(crate) struct TicketHandle(Arc<Ticket>);

impl TicketHandle {
    pub(crate) fn new(ticket: Arc<Ticket>) -> ResourceArc<Self> {
        ResourceArc::new(Self(ticket))
    }

    pub(crate) fn ticket(&self) -> &Ticket {
        &self.0
    }
}

#[rustler::resource_impl]
impl Resource for TicketHandle {}
