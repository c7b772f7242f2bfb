//! What Elixir needs to keep values near.

use std::sync::Arc;

use pow_redis_core::near::boot_clock;
use pow_redis_core::near::{EpochEnd, Stamp, Validity};
use pow_redis_core::operation::Lease;
use rustler::{Atom, Encoder, Env, Resource, ResourceArc, Term};

use crate::atoms;

/// The greatest integer that takes no memory in a table.
const MAX_SMALL: u64 = (1 << 59) - 1;

/// What near values are valid by.
pub(crate) struct Near(Arc<Validity>);

#[rustler::resource_impl]
impl Resource for Near {}

impl Near {
    pub(crate) fn new(validity: &Arc<Validity>) -> ResourceArc<Self> {
        ResourceArc::new(Self(Arc::clone(validity)))
    }

    /// Whether a value with this stamp may be used now.
    pub(crate) fn is_valid(&self, stamp: Stamp, expires_at: u64) -> bool {
        let now = boot_clock::now_us();
        now < expires_at && self.0.is_valid(stamp, now)
    }
}

/// `{Shard, Version, Epoch, ExpiresAt, OffHeap}`.
pub(crate) fn lease_term<'a>(env: Env<'a>, lease: &Lease) -> Term<'a> {
    let Stamp {
        shard,
        version,
        epoch,
    } = lease.stamp;
    let expires_at = lease.expires_at.min(MAX_SMALL);
    (shard, version, epoch, expires_at, lease.off_heap).encode(env)
}

/// Why all near values have become invalid.
pub(crate) fn reason(end: EpochEnd) -> Atom {
    match end {
        EpochEnd::ConnectionLost => atoms::connection_lost(),
        EpochEnd::Flushed => atoms::flushed(),
        EpochEnd::Demoted => atoms::demoted(),
        EpochEnd::Redirected => atoms::redirected(),
        EpochEnd::SlotsMoved => atoms::slots_moved(),
        EpochEnd::Refused => atoms::refused(),
    }
}
