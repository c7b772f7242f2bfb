//! The NIF of `pow_redis_cache`: each function decodes its arguments, submits an operation, and returns.
//!
//! Those that submit to an instance are in `operations.rs`. `doctor` needs no instance: it returns `ok`, and
//! sends `{Reference, Result}` to the caller.
//!
//! Invariant: no function holds a normal scheduler for more than a millisecond. Those whose time depends on
//! their arguments exist twice. The caller decides by the arguments' bytes, and takes the one that ends in
//! `_large`, which runs on a dirty scheduler, for all but small ones.

mod doctor;
mod error;
mod instance;
mod near;
mod operations;
mod options;
mod reply;
mod term;

use std::time::Duration;

use mimalloc::MiMalloc;
use pow_redis_core::near::{Shard, Stamp, Version};
use rustler::{Atom, Encoder, Env, ResourceArc, Term};

use crate::instance::{Handle, Instance, InstanceRef};
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
