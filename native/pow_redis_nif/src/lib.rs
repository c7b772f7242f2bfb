//! The NIF of `pow_redis_cache`: each function decodes its arguments, submits an operation, and returns.
//!
//! A function that submits takes an instance and a reference. It returns `{ok, CancelHandle}` and sends
//! `{Reference, Result}` to the caller, or returns `{error, Reason}` and sends nothing. With the atom
//! `async` as the reference, only a failure is reported, to the owner of the instance. `doctor` needs no
//! instance, and returns `ok` instead of the handle.
//!
//! Invariant: no function holds a normal scheduler for more than a millisecond. Those whose time depends on
//! their arguments exist twice. The caller decides by the arguments' bytes, and takes the one that ends in
//! `_large`, which runs on a dirty scheduler, for all but small ones.

mod doctor;
mod error;
mod instance;
mod near;
mod options;
mod reply;
mod term;

use std::time::Duration;

use mimalloc::MiMalloc;
use pow_redis_core::cache::Cache;
use pow_redis_core::error::{Error, ErrorKind};
use pow_redis_core::keyspace::key::Key;
use pow_redis_core::keyspace::pattern::Pattern;
use pow_redis_core::keyspace::ttl::Ttl;
use pow_redis_core::near::{Shard, Stamp, Version};
use pow_redis_core::operation::{
    All, Delete, Get, Operation, Ping, Prune, Put, PutNew, Reindex, ReindexMode, Reseal,
    ScanPosition,
};
use rustler::{Atom, Binary, Decoder, Encoder, Env, NifResult, ResourceArc, Term};

use crate::error::reason;
use crate::instance::{CancelHandle, Handle, Instance, InstanceRef};
use crate::near::Near;
use crate::options::{EndpointRequest, StartOptions};

mod atoms {
    rustler::atoms! {
        ok,
        error,
        infinity,
        not_started,
        start_failed,
        // replies
        r#async = "async",
        not_found,
        value,
        records,
        page,
        invalid,
        completed,
        // options
        safe,
        every_prefix,
        invalid_url,
        seal,
        refuse,
        // events
        pow_redis_cache,
        connected,
        user_ignored,
        disconnected,
        invalid_values,
        unopened_values,
        unknown_key,
        tampered,
        expired,
        plain_refused,
        local_clock,
        index_miss,
        write_failed,
        near_cache_ended,
        near_cache_refused,
        stopped,
        resolve,
        // why near values have become invalid
        connection_lost,
        flushed,
        demoted,
        redirected,
        slots_moved,
        refused,
        // the doctor
        complete,
        standalone,
        sentinel,
        cluster,
        put,
        delete,
    }
}

rustler::init!("Elixir.PowRedisCache.Native");

/// Schedulers allocate what workers free. The C library's allocator takes a lock for that.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Starts threads, which takes longer than a normal scheduler may be held.
#[rustler::nif(schedule = "DirtyIo")]
fn start<'a>(env: Env<'a>, options: Term<'a>) -> Term<'a> {
    let Some(options) = start_options(options) else {
        return env.error_tuple(atoms::start_failed());
    };
    let decoding = options.decoding();
    match Instance::start(env.pid(), options.into_options(env.pid()), decoding) {
        Ok((handle, instance, near)) => (atoms::ok(), handle, instance, near).encode(env),
        Err(_) => env.error_tuple(atoms::start_failed()),
    }
}

/// Decodes options. Elixir has validated them, but not even a fault there may show a password: if rustler
/// decoded the argument, its `badarg` would put the argument into the stack trace.
fn start_options(options: Term<'_>) -> Option<StartOptions<'_>> {
    options.decode().ok()
}

/// Answers an endpoint request of a worker.
#[rustler::nif]
fn resolve<'a>(request: ResourceArc<EndpointRequest>, answer: Term<'a>) -> Atom {
    request.resolve(answer);
    atoms::ok()
}

#[rustler::nif]
fn stop(handle: ResourceArc<Handle>) -> Atom {
    handle.stop();
    atoms::ok()
}

#[rustler::nif]
fn info<'a>(env: Env<'a>, instance: ResourceArc<InstanceRef>) -> Term<'a> {
    match instance.get() {
        Some(instance) => reply::info(env, &instance.cache().info()),
        None => env.error_tuple(atoms::not_started()),
    }
}

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

/// Whether a near value may be used now.
#[rustler::nif]
fn near_valid(near: &Near, shard: Shard, version: Version, epoch: u64, expires_at: u64) -> bool {
    let stamp = Stamp {
        shard,
        version,
        epoch,
    };
    near.is_valid(stamp, expires_at)
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

/// Runs the doctor on a thread of its own.
#[rustler::nif(name = "doctor", schedule = "DirtyIo")]
fn run_doctor<'a>(
    env: Env<'a>,
    options: Term<'a>,
    probes: Vec<(String, Vec<String>)>,
    near_key: Option<String>,
    count_timeout: u64,
    reference: Term<'a>,
) -> Term<'a> {
    let count_timeout = Duration::from_millis(count_timeout);
    let started = start_options(options).is_some_and(|options| {
        let options = options.into_options(env.pid());
        let caller = env.pid();
        doctor::examine(caller, reference, options, probes, near_key, count_timeout).is_ok()
    });
    if started {
        atoms::ok().encode(env)
    } else {
        env.error_tuple((atoms::start_failed(), Term::map_new(env)))
    }
}

/// The version and target of this library.
#[rustler::nif]
fn built() -> (&'static str, String) {
    let system = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let target = match c_library() {
        "" => system,
        environment => format!("{system}-{environment}"),
    };
    (env!("CARGO_PKG_VERSION"), target)
}

/// The C library that the target needs, where there are several.
const fn c_library() -> &'static str {
    if cfg!(target_env = "gnu") {
        "gnu"
    } else if cfg!(target_env = "musl") {
        "musl"
    } else {
        ""
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
