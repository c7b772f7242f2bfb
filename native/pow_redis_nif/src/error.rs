//! Errors as terms: an atom and a small map, never a sentence.

use pow_redis_core::error::{Error, ErrorKind};
use pow_redis_core::etf;
use rustler::{Atom, Encoder, Env, Term};

mod atoms {
    rustler::atoms! {
        busy,
        closed,
        timeout,
        disconnected,
        server,
        protocol,
        crashed,
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
    let problem = |reason: Atom, problem: Atom| {
        let details = Term::map_new(env).map_put(atoms::problem(), problem);
        (reason, details.unwrap_or_else(|_| Term::map_new(env))).encode(env)
    };
    match error.kind() {
        ErrorKind::Busy => plain(atoms::busy()),
        ErrorKind::Closed => plain(atoms::closed()),
        ErrorKind::Timeout => plain(atoms::timeout()),
        ErrorKind::Disconnected => plain(atoms::disconnected()),
        ErrorKind::Protocol => plain(atoms::protocol()),
        ErrorKind::Crashed => plain(atoms::crashed()),
        ErrorKind::Url => plain(atoms::invalid_url()),
        ErrorKind::Server(code) => {
            let details = Term::map_new(env).map_put(atoms::code(), code.as_str());
            let details = details.unwrap_or_else(|_| Term::map_new(env));
            (atoms::server(), details).encode(env)
        }
        ErrorKind::Key(error) => malformed(env, atoms::invalid_key(), error),
        ErrorKind::Value(error) => malformed(env, atoms::invalid_value(), error),
        ErrorKind::Pattern(error) => malformed(env, atoms::invalid_pattern(), error),
        ErrorKind::KeyShape => problem(atoms::invalid_key(), atoms::not_a_list()),
        ErrorKind::PatternMapKey => problem(atoms::invalid_pattern(), atoms::variable_as_map_key()),
        _ => plain(atoms::unknown()),
    }
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
