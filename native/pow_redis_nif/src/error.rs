//! Errors as terms: an atom and a small map, never a sentence.

use pow_redis_core::error::{Error, ErrorKind, TlsProblem};
use pow_redis_core::etf;

use rustler::{Atom, Encoder, Env, Term};

mod atoms {
    rustler::atoms! {
        busy,
        closed,
        timeout,
        connection_lost,
        disconnected,
        server,
        protocol,
        worker_panicked,
        tls,
        no_primary,
        endpoint_unavailable,
        cluster_unsupported,
        unknown_ca,
        expired,
        wrong_host,
        certificate_file,
        handshake,
        invalid_key,
        invalid_value,
        invalid_pattern,
        invalid_url,
        unknown,
        // details
        code,
        problem,
        offset,
        not_a_list,
        variable_as_map_key,
        function,
        depth,
        malformed,
    }
}

/// `{Reason, Details}`.
pub(crate) fn reason<'a>(env: Env<'a>, error: &Error) -> Term<'a> {
    let plain = |reason: Atom| (reason, Term::map_new(env)).encode(env);
    let problem = |reason: Atom, problem: Atom| detailed(env, reason, atoms::problem(), problem);
    match error.kind() {
        ErrorKind::Busy => plain(atoms::busy()),
        ErrorKind::Closed => plain(atoms::closed()),
        ErrorKind::Timeout => plain(atoms::timeout()),
        ErrorKind::ConnectionLost => plain(atoms::connection_lost()),
        ErrorKind::Disconnected => plain(atoms::disconnected()),
        ErrorKind::Protocol => plain(atoms::protocol()),
        ErrorKind::WorkerPanicked => plain(atoms::worker_panicked()),
        ErrorKind::NoPrimary => plain(atoms::no_primary()),
        ErrorKind::EndpointUnavailable => plain(atoms::endpoint_unavailable()),
        ErrorKind::ClusterUnsupported => plain(atoms::cluster_unsupported()),
        ErrorKind::Tls(problem) => detailed(
            env,
            atoms::tls(),
            atoms::code(),
            match problem {
                TlsProblem::UnknownCa => atoms::unknown_ca(),
                TlsProblem::Expired => atoms::expired(),
                TlsProblem::WrongHost => atoms::wrong_host(),
                TlsProblem::CertificateFile => atoms::certificate_file(),
                TlsProblem::Handshake => atoms::handshake(),
            },
        ),
        ErrorKind::Url => plain(atoms::invalid_url()),
        ErrorKind::Server(code) => detailed(env, atoms::server(), atoms::code(), code.as_str()),
        ErrorKind::Key(error) => malformed(env, atoms::invalid_key(), error),
        ErrorKind::Value(error) => malformed(env, atoms::invalid_value(), error),
        ErrorKind::Pattern(error) => malformed(env, atoms::invalid_pattern(), error),
        ErrorKind::KeyShape => problem(atoms::invalid_key(), atoms::not_a_list()),
        ErrorKind::PatternMapKey => problem(atoms::invalid_pattern(), atoms::variable_as_map_key()),
        _ => plain(atoms::unknown()),
    }
}

fn detailed<'a>(env: Env<'a>, reason: Atom, key: Atom, value: impl Encoder) -> Term<'a> {
    let details = Term::map_new(env).map_put(key, value);
    (reason, details.unwrap_or_else(|_| Term::map_new(env))).encode(env)
}

fn malformed<'a>(env: Env<'a>, reason: Atom, error: &etf::Error) -> Term<'a> {
    let problem = match error.kind() {
        etf::ErrorKind::Function => atoms::function(),
        etf::ErrorKind::Depth => atoms::depth(),
        _ => atoms::malformed(),
    };
    let details = Term::map_new(env)
        .map_put(atoms::problem(), problem)
        .and_then(|details| details.map_put(atoms::offset(), error.offset()));
    (reason, details.unwrap_or_else(|_| Term::map_new(env))).encode(env)
}
