//! The doctor, on a thread of its own, and its report as terms.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use pow_redis_core::doctor::keyspace_stats::{KeyspaceStats, ScanEnd};
use pow_redis_core::doctor::{
    ConnectReport, Denied, Doctor, Latency, NearCache, Probe, Report, StepResult,
};
use pow_redis_core::error::{Error, ErrorKind};
use pow_redis_core::net::server_info::ServerInfo;
use pow_redis_core::options::Options;
use rustler::env::OwnedEnv;
use rustler::{Atom, Encoder, Env, LocalPid, NifMap, Term};

use crate::atoms;
use crate::error::reason;
use crate::reply::binary;

/// Runs the doctor, and sends `{Reference, {ok, Report}}` to the caller, or `{Reference, {error, Reason}}`
/// if it panics.
pub(crate) fn examine(
    caller: LocalPid,
    reference: Term<'_>,
    options: Options,
    probes: Vec<(String, Vec<String>)>,
    near_key: Option<String>,
    count_timeout: Duration,
) -> std::io::Result<()> {
    let mut message = OwnedEnv::new();
    let reference = message.save(reference);
    let probes: Vec<_> = probes
        .into_iter()
        .map(|(name, command)| Probe { name, command })
        .collect();
    thread::Builder::new()
        .name("pow_redis_doc".to_owned())
        .spawn(move || {
            let doctor = Doctor {
                config: &options.connect,
                layout: &options.layout,
                probes: &probes,
                near_key: near_key.as_deref(),
                count_timeout,
            };
            let report = catch_unwind(AssertUnwindSafe(|| doctor.examine()))
                .map_err(|_| Error::from(ErrorKind::WorkerPanicked));
            let _ = message.send_and_clear(&caller, |env| {
                let report = step(env, &Some(report), |report| report_map(env, report));
                (reference.load(env), report).encode(env)
            });
        })
        .map(drop)
}

#[derive(NifMap)]
struct ReportMap<'a> {
    endpoints: Term<'a>,
    unreachable: Vec<(String, Term<'a>)>,
    connect: Option<ConnectReportMap<'a>>,
    info: Term<'a>,
    latency: Term<'a>,
    clock_skew_ms: Term<'a>,
    denied: Term<'a>,
    snapshots: Term<'a>,
    primaries: Term<'a>,
    unreachable_primaries: Vec<(String, Term<'a>)>,
    near_cache: Term<'a>,
    keyspace_stats: Option<KeyspaceStatsMap<'a>>,
}

#[derive(NifMap)]
struct ConnectReportMap<'a> {
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
    appends_to_file: Option<bool>,
    saves_succeed: Option<bool>,
}

#[derive(NifMap)]
struct LatencyMap {
    pings: usize,
    median: u128,
    slowest: u128,
}

#[derive(NifMap)]
struct NearCacheMap {
    delay: Option<u128>,
    tracked_keys: Option<u64>,
    max_tracked_keys: Option<u64>,
}

#[derive(NifMap)]
struct DeniedMap<'a> {
    commands: Vec<String>,
    keys: Vec<String>,
    missing: Vec<String>,
    writes: Option<Term<'a>>,
}

#[derive(NifMap)]
struct KeyspaceStatsMap<'a> {
    end: Term<'a>,
    keys: u64,
    namespaces: Vec<(Term<'a>, u64, u64)>,
    legacy: u64,
    too_long: u64,
    sets: u64,
    unused_sets: u64,
    members: u64,
    expired: u64,
    stale: u64,
    expires_early: u64,
}

/// `nil`, `{ok, Value}` or `{error, Reason}`.
fn step<'a, T, E: Encoder>(
    env: Env<'a>,
    step: &StepResult<T>,
    value: impl FnOnce(&T) -> E,
) -> Term<'a> {
    match step {
        None => None::<Atom>.encode(env),
        Some(Ok(found)) => (atoms::ok(), value(found)).encode(env),
        Some(Err(error)) => (atoms::error(), reason(env, error)).encode(env),
    }
}

fn report_map<'a>(env: Env<'a>, report: &Report) -> Term<'a> {
    let done = |(): &()| atoms::ok();
    let connect = report.connect.as_ref();
    let keyspace_stats = report.keyspace_stats.as_ref();
    ReportMap {
        endpoints: step(env, &report.endpoints, done),
        unreachable: failures(env, &report.unreachable),
        connect: connect.map(|connect| connect_map(env, connect)),
        info: step(env, &report.info, info_map),
        latency: step(env, &report.latency, latency_map),
        clock_skew_ms: step(env, &report.clock_skew_ms, |skew| *skew),
        denied: step(env, &report.denied, |denied| denied_map(env, denied)),
        snapshots: step(env, &report.snapshots, |snapshots| *snapshots),
        primaries: step(env, &report.primaries, |primaries| *primaries),
        unreachable_primaries: failures(env, &report.unreachable_primaries),
        near_cache: step(env, &report.near_cache, near_cache_map),
        keyspace_stats: keyspace_stats.map(|(stats, end)| keyspace_stats_map(env, stats, end)),
    }
    .encode(env)
}

fn connect_map<'a>(env: Env<'a>, connect: &ConnectReport) -> ConnectReportMap<'a> {
    let done = |(): &()| atoms::ok();
    ConnectReportMap {
        address: connect.address.to_string(),
        resolution: step(env, &connect.resolution, |(addresses, took)| {
            ResolutionMap {
                addresses: addresses.iter().map(ToString::to_string).collect(),
                microseconds: took.as_micros(),
            }
        }),
        connect: step(env, &connect.connect, Duration::as_micros),
        uses_tls: connect.uses_tls,
        handshake: step(env, &connect.handshake, done),
        certificate: connect.certificate.as_deref().map(|der| binary(env, der)),
        login: step(env, &connect.login, done),
        database_refused: connect.database_refused,
        user: connect.user.clone(),
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
        appends_to_file: info.appends_to_file,
        saves_succeed: info.saves_succeed,
    }
}

fn latency_map(latency: &Latency) -> LatencyMap {
    LatencyMap {
        pings: latency.pings,
        median: latency.median.as_micros(),
        slowest: latency.slowest.as_micros(),
    }
}

fn near_cache_map(near: &NearCache) -> NearCacheMap {
    NearCacheMap {
        delay: near.delay.as_ref().map(Duration::as_micros),
        tracked_keys: near.tracked_keys,
        max_tracked_keys: near.max_tracked_keys,
    }
}

/// Addresses, each with the reason why it cannot be used.
fn failures<'a>(env: Env<'a>, failures: &[(String, Error)]) -> Vec<(String, Term<'a>)> {
    failures
        .iter()
        .map(|(address, error)| (address.clone(), reason(env, error)))
        .collect()
}

fn denied_map<'a>(env: Env<'a>, denied: &Denied) -> DeniedMap<'a> {
    DeniedMap {
        commands: denied.commands.clone(),
        keys: denied.keys.clone(),
        missing: denied.missing.clone(),
        writes: denied.writes.as_ref().map(|error| reason(env, error)),
    }
}

fn keyspace_stats_map<'a>(
    env: Env<'a>,
    stats: &KeyspaceStats,
    end: &ScanEnd,
) -> KeyspaceStatsMap<'a> {
    let end = match end {
        ScanEnd::Complete => atoms::complete().encode(env),
        ScanEnd::Stopped => atoms::stopped().encode(env),
        ScanEnd::Failed(error) => (atoms::error(), reason(env, error)).encode(env),
    };
    let namespaces = stats.namespaces.iter().map(|(namespace, keys)| {
        let namespace = binary(env, namespace);
        (namespace, keys.indexed, keys.plain)
    });
    KeyspaceStatsMap {
        end,
        keys: stats.keys,
        namespaces: namespaces.collect(),
        legacy: stats.legacy,
        too_long: stats.too_long,
        sets: stats.sets,
        unused_sets: stats.unused_sets,
        members: stats.members,
        expired: stats.expired,
        stale: stats.stale,
        expires_early: stats.expires_early,
    }
}
