//! An examination, on a thread of its own, and what it found as terms.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use pow_redis_core::census::{Counts, End};
use pow_redis_core::error::{Error, ErrorKind};
use pow_redis_core::examination::{Findings, Latency, Refusals, Step, Way, examine};
use pow_redis_core::options::Options;
use pow_redis_core::server_info::ServerInfo;
use rustler::env::OwnedEnv;
use rustler::{Atom, Encoder, Env, LocalPid, NifMap, Term};

use crate::atoms;
use crate::error::reason;
use crate::reply::binary;

/// Examines, and sends `{Reference, {ok, Findings}}`, or `{Reference, {error, Reason}}` where that
/// went wrong. A caller that is gone is no error.
pub(crate) fn send(
    caller: LocalPid,
    reference: Term<'_>,
    options: Options,
    probes: Vec<Vec<String>>,
    counting: Duration,
) -> std::io::Result<()> {
    let mut message = OwnedEnv::new();
    let reference = message.save(reference);
    thread::Builder::new()
        .name("pow_redis_exam".to_owned())
        .spawn(move || {
            let found = catch_unwind(AssertUnwindSafe(|| examine(&options, &probes, counting)))
                .map_err(|_| Error::from(ErrorKind::Crashed));
            let _ = message.send_and_clear(&caller, |env| {
                let findings = step(env, &Some(found), |findings| findings_term(env, findings));
                (reference.load(env), findings).encode(env)
            });
        })
        .map(drop)
}

#[derive(NifMap)]
struct FindingsMap<'a> {
    location: Term<'a>,
    passed_over: Vec<String>,
    way: Option<WayMap<'a>>,
    info: Term<'a>,
    latency: Term<'a>,
    skew_ms: Term<'a>,
    refusals: Term<'a>,
    masters: Term<'a>,
    census: Option<CensusMap<'a>>,
}

#[derive(NifMap)]
struct WayMap<'a> {
    address: String,
    resolution: Term<'a>,
    connect: Term<'a>,
    uses_tls: bool,
    handshake: Term<'a>,
    certificate: Option<Term<'a>>,
    login: Term<'a>,
    database_refused: bool,
    user: String,
}

#[derive(NifMap)]
struct ResolutionMap {
    addresses: Vec<String>,
    microseconds: u128,
}

#[derive(NifMap)]
struct InfoMap {
    version: Option<String>,
    mode: Option<String>,
    role: Option<String>,
    used_memory: Option<u64>,
    maxmemory: Option<u64>,
    eviction_policy: Option<String>,
    connected_clients: Option<u64>,
    maxclients: Option<u64>,
}

#[derive(NifMap)]
struct LatencyMap {
    pings: usize,
    median: u128,
    slowest: u128,
}

#[derive(NifMap)]
struct RefusalsMap {
    commands: Vec<String>,
    keys: Vec<String>,
}

#[derive(NifMap)]
struct CensusMap<'a> {
    end: Term<'a>,
    keys: u64,
    namespaces: Vec<(Term<'a>, u64, u64)>,
    old_atoms: u64,
    sets: u64,
    members: u64,
    expired: u64,
    stale: u64,
    undershooting: u64,
}

/// `nil`, `{ok, Found}` or `{error, Reason}`.
fn step<'a, T, E: Encoder>(env: Env<'a>, step: &Step<T>, found: impl FnOnce(&T) -> E) -> Term<'a> {
    match step {
        None => None::<Atom>.encode(env),
        Some(Ok(value)) => (atoms::ok(), found(value)).encode(env),
        Some(Err(error)) => (atoms::error(), reason(env, error)).encode(env),
    }
}

fn findings_term<'a>(env: Env<'a>, findings: &Findings) -> Term<'a> {
    let done = |(): &()| atoms::ok();
    FindingsMap {
        location: step(env, &findings.location, done),
        passed_over: findings.passed_over.clone(),
        way: findings.way.as_ref().map(|way| way_map(env, way)),
        info: step(env, &findings.info, info_map),
        latency: step(env, &findings.latency, latency_map),
        skew_ms: step(env, &findings.skew_ms, |skew| *skew),
        refusals: step(env, &findings.refusals, refusals_map),
        masters: step(env, &findings.masters, |masters| *masters),
        census: findings
            .census
            .as_ref()
            .map(|(counts, end)| census_map(env, counts, end)),
    }
    .encode(env)
}

fn way_map<'a>(env: Env<'a>, way: &Way) -> WayMap<'a> {
    let done = |(): &()| atoms::ok();
    WayMap {
        address: way.address.to_string(),
        resolution: step(env, &way.resolution, |(addresses, took)| ResolutionMap {
            addresses: addresses.iter().map(ToString::to_string).collect(),
            microseconds: took.as_micros(),
        }),
        connect: step(env, &way.connect, Duration::as_micros),
        uses_tls: way.uses_tls,
        handshake: step(env, &way.handshake, done),
        certificate: way.certificate.as_deref().map(|der| binary(env, der)),
        login: step(env, &way.login, done),
        database_refused: way.database_refused,
        user: way.user.clone(),
    }
}

fn info_map(info: &ServerInfo) -> InfoMap {
    InfoMap {
        version: info.version.clone(),
        mode: info.mode.clone(),
        role: info.role.clone(),
        used_memory: info.used_memory,
        maxmemory: info.maxmemory,
        eviction_policy: info.eviction_policy.clone(),
        connected_clients: info.connected_clients,
        maxclients: info.maxclients,
    }
}

fn latency_map(latency: &Latency) -> LatencyMap {
    LatencyMap {
        pings: latency.pings,
        median: latency.median.as_micros(),
        slowest: latency.slowest.as_micros(),
    }
}

fn refusals_map(refusals: &Refusals) -> RefusalsMap {
    RefusalsMap {
        commands: refusals.commands.clone(),
        keys: refusals.keys.clone(),
    }
}

fn census_map<'a>(env: Env<'a>, counts: &Counts, end: &End) -> CensusMap<'a> {
    let end = match end {
        End::Complete => atoms::complete().encode(env),
        End::Stopped => atoms::stopped().encode(env),
        End::Failed(error) => (atoms::error(), reason(env, error)).encode(env),
    };
    let namespaces = counts.namespaces.iter().map(|(namespace, keys)| {
        let namespace = binary(env, namespace);
        (namespace, keys.indexed, keys.plain)
    });
    CensusMap {
        end,
        keys: counts.keys,
        namespaces: namespaces.collect(),
        old_atoms: counts.old_atoms,
        sets: counts.sets,
        members: counts.members,
        expired: counts.expired,
        stale: counts.stale,
        undershooting: counts.undershooting,
    }
}
