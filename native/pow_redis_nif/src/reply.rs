//! Messages to processes.

use std::collections::HashMap;

use pow_redis_core::cache::{Event, Info, NearInfo, Observer, Reply};
use pow_redis_core::error::Error;
use pow_redis_core::net::config::Topology;
use pow_redis_core::operation::records::Records;
use pow_redis_core::operation::{Operation, Outcome, Page};
use pow_redis_core::seal::Unopened;
use rustler::env::OwnedEnv;
use rustler::{Atom, Encoder, Env, LocalPid, NewBinary, NifMap, Term};

use crate::atoms;
use crate::error::reason;
use crate::near;
use crate::term::Decoding;

/// Sends `{Reference, Result}` to the caller, if it is alive.
pub(crate) fn to_caller(caller: LocalPid, reference: Term<'_>, decoding: Decoding) -> Reply {
    let mut message = OwnedEnv::new();
    let reference = message.save(reference);
    Box::new(move |outcome| {
        let _ = message.send_and_clear(&caller, |env| {
            (reference.load(env), result(env, &outcome, decoding)).encode(env)
        });
    })
}

/// Tells the owner if a write fails.
pub(crate) fn to_owner(owner: LocalPid, operation: &Operation) -> Reply {
    let kind = match operation {
        Operation::Delete(_) => atoms::delete(),
        _ => atoms::put(),
    };
    Box::new(move |outcome| {
        if let Err(error) = outcome {
            send_event(owner, |env| {
                (atoms::write_failed(), kind, reason(env, &error)).encode(env)
            });
        }
    })
}

/// Sends `{pow_redis_cache, Event}` to the owner.
pub(crate) fn observer(owner: LocalPid) -> Observer {
    Box::new(move |event| send_event(owner, |env| event_term(env, &event)))
}

pub(crate) fn send_event(owner: LocalPid, event: impl for<'a> FnOnce(Env<'a>) -> Term<'a>) {
    let _ = OwnedEnv::new().send_and_clear(&owner, |env| {
        (atoms::pow_redis_cache(), event(env)).encode(env)
    });
}

fn event_term<'a>(env: Env<'a>, event: &Event) -> Term<'a> {
    match event {
        Event::Connected { version } => (atoms::connected(), version).encode(env),
        Event::UserIgnored => atoms::user_ignored().encode(env),
        Event::Disconnected(error) => (atoms::disconnected(), reason(env, error)).encode(env),
        Event::LocalClock => atoms::local_clock().encode(env),
        Event::IndexMiss(shape) => {
            let pattern = Decoding::Safe.term(env, &shape.pattern);
            (atoms::index_miss(), pattern, shape.can_be_indexed).encode(env)
        }
        Event::Invalid(number) => (atoms::invalid_values(), number).encode(env),
        Event::NearValuesEnded(reason) => {
            (atoms::near_cache_ended(), near::reason(*reason)).encode(env)
        }
        Event::TrackingRefused(error) => {
            (atoms::near_cache_refused(), reason(env, error)).encode(env)
        }
        Event::Unopened(why, number) => {
            (atoms::unopened_values(), unopened(*why), number).encode(env)
        }
        Event::Stopped => atoms::stopped().encode(env),
    }
}

fn unopened(reason: Unopened) -> Atom {
    match reason {
        Unopened::UnknownKey => atoms::unknown_key(),
        Unopened::Tampered => atoms::tampered(),
        Unopened::Expired => atoms::expired(),
        Unopened::PlainRefused => atoms::plain_refused(),
    }
}

fn result<'a>(env: Env<'a>, outcome: &Result<Outcome, Error>, decoding: Decoding) -> Term<'a> {
    match outcome {
        Ok(Outcome::Done) => atoms::ok().encode(env),
        Ok(Outcome::Written(is_written)) => is_written.encode(env),
        // Values that are invalid or do not open are reported to the owner; the caller gets none.
        Ok(Outcome::NotFound | Outcome::Invalid(_) | Outcome::Unopened(_)) => {
            atoms::not_found().encode(env)
        }
        Ok(Outcome::Value(value)) => match decoding.term(env, value) {
            Some(value) => (atoms::value(), value).encode(env),
            None => atoms::invalid().encode(env),
        },
        Ok(Outcome::NearValue(value, lease)) => match decoding.term(env, value) {
            Some(value) => (atoms::value(), value, near::lease_term(env, lease)).encode(env),
            None => atoms::invalid().encode(env),
        },
        Ok(Outcome::Records { records, .. }) => {
            let (list, invalid) = list(env, records, decoding);
            (atoms::records(), list, invalid).encode(env)
        }
        Ok(Outcome::Page(page)) => (atoms::page(), page_map(env, page)).encode(env),
        Err(error) => (atoms::error(), reason(env, error)).encode(env),
    }
}

/// A list of `{Parts, Value}`, and the number of records that the VM could not decode.
fn list<'a>(env: Env<'a>, records: &Records, decoding: Decoding) -> (Term<'a>, usize) {
    let mut list = Term::list_new_empty(env);
    let mut invalid = 0;
    for (key, value) in records.iter().rev() {
        match (decoding.term(env, key), decoding.term(env, value)) {
            (Some(key), Some(value)) => list = list.list_prepend((key, value).encode(env)),
            _ => invalid += 1,
        }
    }
    (list, invalid)
}

pub(crate) fn binary<'a>(env: Env<'a>, bytes: &[u8]) -> Term<'a> {
    let mut binary = NewBinary::new(env, bytes.len());
    binary.as_mut_slice().copy_from_slice(bytes);
    binary.into()
}

#[derive(NifMap)]
struct PageMap<'a> {
    next: Option<(Term<'a>, u64)>,
    fraction: f64,
    slots: u64,
    keys: u64,
    indexed: u64,
    renamed: u64,
    skipped: u64,
    pruned: u64,
    resealed: u64,
    changed: u64,
    plain: u64,
    unopened: u64,
}

fn page_map<'a>(env: Env<'a>, page: &Page) -> PageMap<'a> {
    let next = page.next.as_ref().map(|next| {
        let node = next.node.as_deref().map(|id| binary(env, id));
        (node.encode(env), next.cursor)
    });
    PageMap {
        next,
        fraction: page.fraction,
        slots: page.slots,
        keys: page.keys,
        indexed: page.indexed,
        renamed: page.renamed,
        skipped: page.skipped,
        pruned: page.pruned,
        resealed: page.resealed,
        changed: page.changed,
        plain: page.plain,
        unopened: page.unopened,
    }
}

/// The cache in numbers, as a map.
pub(crate) fn info<'a>(env: Env<'a>, info: &Info) -> Term<'a> {
    #[derive(NifMap)]
    struct InfoMap {
        connected: bool,
        server: Option<String>,
        version: Option<String>,
        workers: usize,
        topology: Atom,
        queue: usize,
        queue_bytes: usize,
        calls: u64,
        batches: u64,
        reconnects: u64,
        retries: u64,
        near_cache: Option<NearMap>,
        unopened: u64,
    }
    #[derive(NifMap)]
    struct NearMap {
        tracking: bool,
        hits: u64,
        invalidations: u64,
        ends: HashMap<Atom, u64>,
    }
    let near_map = |near: &NearInfo| NearMap {
        tracking: near.tracking,
        hits: near.hits,
        invalidations: near.invalidations,
        ends: near
            .ends
            .iter()
            .map(|(reason, ends)| (near::reason(*reason), *ends))
            .collect(),
    };
    InfoMap {
        connected: info.connected,
        server: info.server.clone(),
        version: info.version.clone(),
        workers: info.workers,
        topology: match info.topology {
            Topology::Standalone => atoms::standalone(),
            Topology::Sentinel { .. } => atoms::sentinel(),
            Topology::Cluster => atoms::cluster(),
        },
        queue: info.queue,
        queue_bytes: info.queue_bytes,
        calls: info.calls,
        batches: info.batches,
        reconnects: info.reconnects,
        retries: info.retries,
        near_cache: info.near.as_ref().map(near_map),
        unopened: info.unopened,
    }
    .encode(env)
}
