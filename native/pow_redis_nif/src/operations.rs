//! The functions that submit operations to an instance.
//!
//! Each takes an instance and a reference. It returns `{ok, CancelHandle}` and sends `{Reference, Result}` to
//! the caller, or returns `{error, Reason}` and sends nothing. With the atom `async` as the reference, only a
//! failure is reported, to the owner of the instance.

use pow_redis_core::cache::Cache;
use pow_redis_core::error::{Error, ErrorKind};
use pow_redis_core::keyspace::key::Key;
use pow_redis_core::keyspace::pattern::Pattern;
use pow_redis_core::keyspace::ttl::Ttl;
use pow_redis_core::operation::{
    All, Delete, Get, Operation, Ping, Prune, Put, PutNew, Reindex, ReindexMode, Reseal,
    ScanPosition,
};
use rustler::{Binary, Decoder, Encoder, Env, NifResult, ResourceArc, Term};

use crate::atoms;
use crate::error::reason;
use crate::instance::{CancelHandle, InstanceRef};
use crate::reply;

#[rustler::nif]
fn get<'a>(
    env: Env<'a>,
    instance: ResourceArc<InstanceRef>,
    reference: Term<'a>,
    key: Binary<'a>,
    near: bool,
) -> Term<'a> {
    submit_get(env, &instance, reference, &key, near)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn get_large<'a>(
    env: Env<'a>,
    instance: ResourceArc<InstanceRef>,
    reference: Term<'a>,
    key: Binary<'a>,
    near: bool,
) -> Term<'a> {
    submit_get(env, &instance, reference, &key, near)
}

fn submit_get<'a>(
    env: Env<'a>,
    instance: &InstanceRef,
    reference: Term<'a>,
    key: &[u8],
    near: bool,
) -> Term<'a> {
    submit(env, instance, reference, |cache| {
        let key = Key::from_external(key)?;
        let get = Get::new(key, cache.layout());
        Ok(Operation::Get(if near { get.near() } else { get }))
    })
}

#[rustler::nif]
fn all<'a>(
    env: Env<'a>,
    instance: ResourceArc<InstanceRef>,
    reference: Term<'a>,
    pattern: Binary<'a>,
    near: bool,
) -> Term<'a> {
    submit_all(env, &instance, reference, &pattern, near)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn all_large<'a>(
    env: Env<'a>,
    instance: ResourceArc<InstanceRef>,
    reference: Term<'a>,
    pattern: Binary<'a>,
    near: bool,
) -> Term<'a> {
    submit_all(env, &instance, reference, &pattern, near)
}

fn submit_all<'a>(
    env: Env<'a>,
    instance: &InstanceRef,
    reference: Term<'a>,
    pattern: &[u8],
    near: bool,
) -> Term<'a> {
    submit(env, instance, reference, |cache| {
        let pattern = Pattern::from_external(pattern)?;
        let all = All::new(pattern, cache.layout());
        Ok(Operation::All(Box::new(if near {
            all.near()
        } else {
            all
        })))
    })
}

#[rustler::nif]
fn put<'a>(
    env: Env<'a>,
    instance: ResourceArc<InstanceRef>,
    reference: Term<'a>,
    records: Vec<(Binary<'a>, Binary<'a>)>,
    ttl: TtlTerm,
) -> Term<'a> {
    submit_put(env, &instance, reference, records, ttl)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn put_large<'a>(
    env: Env<'a>,
    instance: ResourceArc<InstanceRef>,
    reference: Term<'a>,
    records: Vec<(Binary<'a>, Binary<'a>)>,
    ttl: TtlTerm,
) -> Term<'a> {
    submit_put(env, &instance, reference, records, ttl)
}

fn submit_put<'a>(
    env: Env<'a>,
    instance: &InstanceRef,
    reference: Term<'a>,
    records: Vec<(Binary<'a>, Binary<'a>)>,
    ttl: TtlTerm,
) -> Term<'a> {
    submit(env, instance, reference, |cache| {
        let records = records
            .iter()
            .map(|(key, value)| Ok((Key::from_external(key)?, value.to_vec())))
            .collect::<Result<_, Error>>()?;
        let put = Put::new(records, ttl.0, cache.layout())?;
        Ok(Operation::Put(match cache.now_ms() {
            Some(now_ms) => put.sealed_at(now_ms),
            None => put,
        }))
    })
}

#[rustler::nif]
fn put_new<'a>(
    env: Env<'a>,
    instance: ResourceArc<InstanceRef>,
    reference: Term<'a>,
    key: Binary<'a>,
    value: Binary<'a>,
    ttl: TtlTerm,
) -> Term<'a> {
    submit_put_new(env, &instance, reference, (&key, &value), ttl)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn put_new_large<'a>(
    env: Env<'a>,
    instance: ResourceArc<InstanceRef>,
    reference: Term<'a>,
    key: Binary<'a>,
    value: Binary<'a>,
    ttl: TtlTerm,
) -> Term<'a> {
    submit_put_new(env, &instance, reference, (&key, &value), ttl)
}

fn submit_put_new<'a>(
    env: Env<'a>,
    instance: &InstanceRef,
    reference: Term<'a>,
    (key, value): (&[u8], &[u8]),
    ttl: TtlTerm,
) -> Term<'a> {
    submit(env, instance, reference, |cache| {
        let key = Key::from_external(key)?;
        let put_new = PutNew::new(&key, value.to_vec(), ttl.0, cache.layout())?;
        Ok(Operation::PutNew(put_new))
    })
}

#[rustler::nif]
fn delete<'a>(
    env: Env<'a>,
    instance: ResourceArc<InstanceRef>,
    reference: Term<'a>,
    key: Binary<'a>,
) -> Term<'a> {
    submit_delete(env, &instance, reference, &key)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn delete_large<'a>(
    env: Env<'a>,
    instance: ResourceArc<InstanceRef>,
    reference: Term<'a>,
    key: Binary<'a>,
) -> Term<'a> {
    submit_delete(env, &instance, reference, &key)
}

fn submit_delete<'a>(
    env: Env<'a>,
    instance: &InstanceRef,
    reference: Term<'a>,
    key: &[u8],
) -> Term<'a> {
    submit(env, instance, reference, |cache| {
        let key = Key::from_external(key)?;
        Ok(Operation::Delete(Delete::new(&key, cache.layout())))
    })
}

#[rustler::nif]
fn ping<'a>(env: Env<'a>, instance: ResourceArc<InstanceRef>, reference: Term<'a>) -> Term<'a> {
    submit(env, &instance, reference, |_| Ok(Operation::Ping(Ping)))
}

#[rustler::nif]
fn reindex<'a>(
    env: Env<'a>,
    instance: ResourceArc<InstanceRef>,
    reference: Term<'a>,
    position: PositionTerm<'a>,
    dry_run: bool,
) -> Term<'a> {
    submit(env, &instance, reference, |cache| {
        let reindex = Reindex::new(scan_position(position), cache.layout(), mode(dry_run));
        Ok(Operation::Reindex(reindex))
    })
}

#[rustler::nif]
fn prune<'a>(
    env: Env<'a>,
    instance: ResourceArc<InstanceRef>,
    reference: Term<'a>,
    position: PositionTerm<'a>,
    dry_run: bool,
) -> Term<'a> {
    submit(env, &instance, reference, |cache| {
        let prune = Prune::new(scan_position(position), cache.layout(), mode(dry_run));
        Ok(Operation::Prune(prune))
    })
}

#[rustler::nif]
fn reseal<'a>(
    env: Env<'a>,
    instance: ResourceArc<InstanceRef>,
    reference: Term<'a>,
    position: PositionTerm<'a>,
    dry_run: bool,
) -> Term<'a> {
    submit(env, &instance, reference, |cache| {
        let reseal = Reseal::new(scan_position(position), cache.layout(), mode(dry_run));
        Ok(Operation::Reseal(reseal))
    })
}

/// `{Node, Cursor}` of a page; `{nil, 0}` is the first.
type PositionTerm<'a> = (Option<Binary<'a>>, u64);

fn scan_position((node, cursor): PositionTerm<'_>) -> ScanPosition {
    ScanPosition {
        node: node.map(|id| id.to_vec()),
        cursor,
    }
}

const fn mode(dry_run: bool) -> ReindexMode {
    if dry_run {
        ReindexMode::DryRun
    } else {
        ReindexMode::Write
    }
}

/// Stops waiting. Returns why the call has timed out, or `completed` if the outcome has been sent or is
/// being sent.
#[rustler::nif]
fn cancel<'a>(
    env: Env<'a>,
    instance: ResourceArc<InstanceRef>,
    handle: ResourceArc<CancelHandle>,
) -> Term<'a> {
    let error = match instance.get() {
        Some(instance) => instance.cache().cancel(handle.inner()),
        None => handle.inner().cancel().then(|| ErrorKind::Closed.into()),
    };
    error.map_or_else(
        || atoms::completed().to_term(env),
        |error| failure(env, &error),
    )
}

fn submit<'a>(
    env: Env<'a>,
    instance: &InstanceRef,
    reference: Term<'a>,
    operation: impl FnOnce(&Cache) -> Result<Operation, Error>,
) -> Term<'a> {
    let Some(instance) = instance.get() else {
        return env.error_tuple(atoms::not_started());
    };
    let handle = operation(instance.cache()).and_then(|operation| {
        let reply = if reference == atoms::r#async().to_term(env) {
            reply::to_owner(instance.owner(), &operation)
        } else {
            reply::to_caller(env.pid(), reference, instance.decoding())
        };
        instance.cache().submit(operation, reply)
    });
    match handle {
        Ok(handle) => (atoms::ok(), CancelHandle::new(handle)).encode(env),
        Err(error) => failure(env, &error),
    }
}

fn failure<'a>(env: Env<'a>, error: &Error) -> Term<'a> {
    (atoms::error(), reason(env, error)).encode(env)
}

/// Milliseconds, or `infinity`.
struct TtlTerm(Ttl);

impl<'a> Decoder<'a> for TtlTerm {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        if term == atoms::infinity().to_term(term.get_env()) {
            return Ok(Self(Ttl::Persistent));
        }
        term.decode().map(Ttl::Millis).map(Self)
    }
}
