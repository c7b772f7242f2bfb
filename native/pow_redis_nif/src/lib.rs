//! The NIF of `pow_redis_cache`: each function decodes its arguments, submits, and returns.
//!
//! Functions that submit an operation take the name of an instance and a reference. They return
//! `{ok, Ticket}`, and `{Reference, Result}` is sent to the caller; or `{error, Reason}`, and
//! nothing is sent. With the atom `async` for the reference, only a failure is told, to the owner.
//! `examine` needs no instance, and returns `ok` in place of the ticket.

mod error;
mod findings;
mod instance;
mod options;
mod reply;
mod term;

use std::time::Duration;

use mimalloc::MiMalloc;
use pow_redis_core::cache::Cache;
use pow_redis_core::error::{Error, ErrorKind};
use pow_redis_core::index::Life;
use pow_redis_core::key::Key;
use pow_redis_core::operation::{All, Delete, Get, Mode, Operation, Ping, Put, Reindex};
use pow_redis_core::pattern::Pattern;
use rustler::{Atom, Binary, Decoder, Encoder, Env, NifResult, ResourceArc, Term};

use crate::error::reason;
use crate::instance::{Handle, Instance, TicketHandle};
use crate::options::{AccessMap, Question, StartOptions};

mod atoms {
    rustler::atoms! {
        ok,
        error,
        infinity,
        not_started,
        start_failed,
        // replies
        r#async = "async",
        done,
        not_found,
        value,
        records,
        page,
        cursor,
        keys,
        indexed,
        renamed,
        refused,
        answered,
        // options
        safe,
        // events
        pow_redis_cache,
        connected,
        disconnected,
        lost_write,
        stopped,
        complete,
        access,
        standalone,
        sentinel,
        cluster,
        put,
        delete,
    }
}

rustler::init!("Elixir.PowRedisCache.Native");

/// Schedulers allocate what workers free, and the C library's allocator locks for that.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[rustler::nif]
fn start<'a>(env: Env<'a>, name: Atom, options: StartOptions) -> Term<'a> {
    let decoding = options.decoding();
    let instance = options
        .into_options(env.pid())
        .map(|options| Instance::start(name, env.pid(), options, decoding));
    match instance {
        Ok(Ok(handle)) => (atoms::ok(), handle).encode(env),
        Ok(Err(_)) => env.error_tuple(atoms::start_failed()),
        Err(error) => failure(env, &error),
    }
}

/// Answers a worker that asked where Redis is.
#[rustler::nif]
fn answer(question: ResourceArc<Question>, access: Option<AccessMap>) -> Atom {
    question.answer(access.map(Into::into));
    atoms::ok()
}

#[rustler::nif]
fn stop(handle: ResourceArc<Handle>) -> Atom {
    handle.stop();
    atoms::ok()
}

#[rustler::nif]
fn info<'a>(env: Env<'a>, name: Atom) -> Term<'a> {
    match Instance::find(name) {
        Some(instance) => reply::info(env, &instance.cache().info()),
        None => env.error_tuple(atoms::not_started()),
    }
}

#[rustler::nif]
fn get<'a>(env: Env<'a>, name: Atom, reference: Term<'a>, key: Binary<'a>) -> Term<'a> {
    submit(env, name, reference, |_| {
        Ok(Operation::Get(Get::new(Key::from_external(&key)?)))
    })
}

#[rustler::nif]
fn all<'a>(env: Env<'a>, name: Atom, reference: Term<'a>, pattern: Binary<'a>) -> Term<'a> {
    submit(env, name, reference, |cache| {
        let pattern = Pattern::from_external(&pattern)?;
        Ok(Operation::All(Box::new(All::new(pattern, cache.layout()))))
    })
}

#[rustler::nif]
fn put<'a>(
    env: Env<'a>,
    name: Atom,
    reference: Term<'a>,
    records: Vec<(Binary<'a>, Binary<'a>)>,
    ttl: Ttl,
) -> Term<'a> {
    submit_put(env, name, reference, records, ttl)
}

/// The same for many records: encoding them takes longer than a scheduler should be held.
#[rustler::nif(schedule = "DirtyCpu")]
fn put_many<'a>(
    env: Env<'a>,
    name: Atom,
    reference: Term<'a>,
    records: Vec<(Binary<'a>, Binary<'a>)>,
    ttl: Ttl,
) -> Term<'a> {
    submit_put(env, name, reference, records, ttl)
}

fn submit_put<'a>(
    env: Env<'a>,
    name: Atom,
    reference: Term<'a>,
    records: Vec<(Binary<'a>, Binary<'a>)>,
    ttl: Ttl,
) -> Term<'a> {
    submit(env, name, reference, |cache| {
        let records = records
            .iter()
            .map(|(key, value)| Ok((Key::from_external(key)?, value.to_vec())))
            .collect::<Result<_, Error>>()?;
        Ok(Operation::Put(Put::new(records, ttl.0, cache.layout())?))
    })
}

#[rustler::nif]
fn delete<'a>(env: Env<'a>, name: Atom, reference: Term<'a>, key: Binary<'a>) -> Term<'a> {
    submit(env, name, reference, |cache| {
        let key = Key::from_external(&key)?;
        Ok(Operation::Delete(Delete::new(&key, cache.layout())))
    })
}

#[rustler::nif]
fn ping<'a>(env: Env<'a>, name: Atom, reference: Term<'a>) -> Term<'a> {
    submit(env, name, reference, |_| Ok(Operation::Ping(Ping)))
}

#[rustler::nif]
fn reindex<'a>(
    env: Env<'a>,
    name: Atom,
    reference: Term<'a>,
    cursor: u64,
    dry_run: bool,
) -> Term<'a> {
    submit(env, name, reference, |cache| {
        if cache.is_cluster() {
            return Err(ErrorKind::NotOnCluster.into());
        }
        let mode = if dry_run { Mode::DryRun } else { Mode::Write };
        Ok(Operation::Reindex(Reindex::new(
            cursor,
            cache.layout(),
            mode,
        )))
    })
}

/// Looks at what the options name, step by step, on a thread of its own.
#[rustler::nif]
fn examine<'a>(
    env: Env<'a>,
    options: StartOptions,
    probes: Vec<Vec<String>>,
    counting: u64,
    reference: Term<'a>,
) -> Term<'a> {
    let counting = Duration::from_millis(counting);
    let started = options
        .into_options(env.pid())
        .map(|options| findings::send(env.pid(), reference, options, probes, counting));
    match started {
        Ok(Ok(())) => atoms::ok().encode(env),
        Ok(Err(_)) => env.error_tuple((atoms::start_failed(), Term::map_new(env))),
        Err(error) => failure(env, &error),
    }
}

/// Version and target of this library.
#[rustler::nif]
fn built() -> (&'static str, String) {
    let system = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let target = match c_library() {
        "" => system,
        environment => format!("{system}-{environment}"),
    };
    (env!("CARGO_PKG_VERSION"), target)
}

/// The C library that it needs, where there are several.
const fn c_library() -> &'static str {
    if cfg!(target_env = "gnu") {
        "gnu"
    } else if cfg!(target_env = "musl") {
        "musl"
    } else {
        ""
    }
}

/// Gives up waiting: why, or that the answer was sent or is just being sent.
#[rustler::nif]
fn cancel<'a>(env: Env<'a>, name: Atom, ticket: ResourceArc<TicketHandle>) -> Term<'a> {
    let error = match Instance::find(name) {
        Some(instance) => instance.cache().cancel(ticket.ticket()),
        None => ticket.ticket().cancel().then(|| ErrorKind::Closed.into()),
    };
    error.map_or_else(
        || atoms::answered().to_term(env),
        |error| failure(env, &error),
    )
}

fn submit<'a>(
    env: Env<'a>,
    name: Atom,
    reference: Term<'a>,
    operation: impl FnOnce(&Cache) -> Result<Operation, Error>,
) -> Term<'a> {
    let Some(instance) = Instance::find(name) else {
        return env.error_tuple(atoms::not_started());
    };
    let ticket = operation(instance.cache()).and_then(|operation| {
        let reply = if reference == atoms::r#async().to_term(env) {
            reply::to_owner(instance.owner(), &operation)
        } else {
            reply::to_caller(env.pid(), reference, instance.decoding())
        };
        instance.cache().submit(operation, reply)
    });
    match ticket {
        Ok(ticket) => (atoms::ok(), TicketHandle::new(ticket)).encode(env),
        Err(error) => failure(env, &error),
    }
}

fn failure<'a>(env: Env<'a>, error: &Error) -> Term<'a> {
    (atoms::error(), reason(env, error)).encode(env)
}

/// Milliseconds, or `infinity`.
struct Ttl(Life);

impl<'a> Decoder<'a> for Ttl {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        if term == atoms::infinity().to_term(term.get_env()) {
            return Ok(Self(Life::Infinite));
        }
        term.decode().map(Life::Milliseconds).map(Self)
    }
}
