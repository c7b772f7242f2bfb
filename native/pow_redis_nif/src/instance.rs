//! A running cache, and the handles with which Elixir holds it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use pow_redis_core::cache::{self, Cache};
use pow_redis_core::options::Options;
use rustler::{LocalPid, Resource, ResourceArc};

use crate::near::Near;
use crate::reply;
use crate::term::Decoding;

/// A cache, the process that started it, and how values become terms.
pub(crate) struct Instance {
    cache: Cache,
    owner: LocalPid,
    decoding: Decoding,
}

/// The handle, the reference, and what near values are valid by, if there are any.
type Started = (
    ResourceArc<Handle>,
    ResourceArc<InstanceRef>,
    Option<ResourceArc<Near>>,
);

impl Instance {
    /// Starts a cache. The owner keeps the handle; callers use the reference.
    pub(crate) fn start(
        owner: LocalPid,
        options: Options,
        decoding: Decoding,
    ) -> io::Result<Started> {
        let cache = Cache::start(options, reply::observer(owner))?;
        let near = cache.validity().map(Near::new);
        let instance = Arc::new(Self {
            cache,
            owner,
            decoding,
        });
        let reference = InstanceRef(Arc::downgrade(&instance));
        let handle = Handle(Mutex::new(Some(instance)));
        Ok((ResourceArc::new(handle), ResourceArc::new(reference), near))
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
///
/// Invariant: only the owner process holds it, so the instance ends with the owner, however that ends.
pub(crate) struct Handle(Mutex<Option<Arc<Instance>>>);

impl Handle {
    /// Lets the workers serve what is queued, and end. Does not wait for that.
    pub(crate) fn stop(&self) {
        let instance = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(instance);
    }
}

#[rustler::resource_impl]
impl Resource for Handle {}

/// Refers to an instance without keeping it running.
pub(crate) struct InstanceRef(Weak<Instance>);

impl InstanceRef {
    /// The instance, if it is still running.
    pub(crate) fn get(&self) -> Option<Arc<Instance>> {
        self.0.upgrade()
    }
}

#[rustler::resource_impl]
impl Resource for InstanceRef {}

/// With it, a caller stops waiting.
pub(crate) struct CancelHandle(Arc<cache::CancelHandle>);

impl CancelHandle {
    pub(crate) fn new(handle: Arc<cache::CancelHandle>) -> ResourceArc<Self> {
        ResourceArc::new(Self(handle))
    }

    pub(crate) fn inner(&self) -> &cache::CancelHandle {
        &self.0
    }
}

#[rustler::resource_impl]
impl Resource for CancelHandle {}
