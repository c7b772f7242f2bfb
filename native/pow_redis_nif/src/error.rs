//! Errors as terms: an atom and a small map, never a sentence.

use pow_redis_core::error::{
    ConnectFailure, Details, Error, ErrorKind, FileProblem, PemFile, TlsProblem,
};
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
        unknown_ca,
        no_authorities,
        ca_certificate,
        expired,
        not_yet_valid,
        wrong_host,
        no_names,
        old_certificate,
        wrong_purpose,
        bad_certificate,
        invalid_host,
        certificate_file,
        encrypted_key,
        key_mismatch,
        not_tls,
        tls_required,
        no_common_version,
        client_certificate_required,
        client_certificate_rejected,
        handshake,
        invalid_key,
        invalid_value,
        invalid_pattern,
        invalid_url,
        result_too_large,
        unknown,
        // details
        code,
        reply,
        address,
        announced,
        cause,
        file,
        option,
        problem,
        // causes
        unknown_host,
        refused,
        no_route,
        not_permitted,
        no_such_socket,
        connection_closed,
        // files
        cacertfile,
        certfile,
        keyfile,
        missing,
        unreadable,
        invalid,
        offset,
        not_a_list,
        variable_as_map_key,
        function,
        depth,
        too_long,
        too_large,
        too_many_atoms,
        malformed,
    }
}

/// `{Reason, Details}`.
pub(crate) fn reason<'a>(env: Env<'a>, error: &Error) -> Term<'a> {
    let mut map = known(env, error.details());
    let reason = match error.kind() {
        ErrorKind::Busy => atoms::busy(),
        ErrorKind::Closed => atoms::closed(),
        ErrorKind::Timeout => atoms::timeout(),
        ErrorKind::ConnectionLost => atoms::connection_lost(),
        ErrorKind::Disconnected => atoms::disconnected(),
        ErrorKind::Protocol => atoms::protocol(),
        ErrorKind::WorkerPanicked => atoms::worker_panicked(),
        ErrorKind::NoPrimary => atoms::no_primary(),
        ErrorKind::EndpointUnavailable => atoms::endpoint_unavailable(),
        ErrorKind::Url => atoms::invalid_url(),
        ErrorKind::Tls(problem) => {
            map = with(map, atoms::code(), tls_code(*problem));
            if let TlsProblem::File(file, problem) = problem {
                map = with(map, atoms::option(), file_option(*file));
                map = with(map, atoms::problem(), file_problem(*problem));
            }
            atoms::tls()
        }
        ErrorKind::Server(code) => {
            map = with(map, atoms::code(), code.as_str());
            atoms::server()
        }
        ErrorKind::Key(error) => {
            map = malformed(map, error);
            atoms::invalid_key()
        }
        ErrorKind::Value(error) => {
            map = malformed(map, error);
            atoms::invalid_value()
        }
        ErrorKind::Pattern(error) => {
            map = malformed(map, error);
            atoms::invalid_pattern()
        }
        ErrorKind::KeyShape => {
            map = with(map, atoms::problem(), atoms::not_a_list());
            atoms::invalid_key()
        }
        ErrorKind::PatternMapKey => {
            map = with(map, atoms::problem(), atoms::variable_as_map_key());
            atoms::invalid_pattern()
        }
        ErrorKind::ResultTooLarge => atoms::result_too_large(),
        ErrorKind::KeyTooLong => {
            map = with(map, atoms::problem(), atoms::too_long());
            atoms::invalid_key()
        }
        ErrorKind::PatternTooLong => {
            map = with(map, atoms::problem(), atoms::too_long());
            atoms::invalid_pattern()
        }
        _ => atoms::unknown(),
    };
    (reason, map).encode(env)
}

/// What is known about an error of any kind.
fn known<'a>(env: Env<'a>, details: &Details) -> Term<'a> {
    let mut map = Term::map_new(env);
    if let Some(reply) = &details.reply {
        map = with(map, atoms::reply(), reply);
    }
    if let Some(address) = &details.address {
        map = with(map, atoms::address(), address);
        map = with(map, atoms::announced(), details.is_announced);
    }
    if let Some(cause) = details.cause {
        map = with(map, atoms::cause(), connect_failure(cause));
    }
    if let Some(file) = &details.file {
        map = with(map, atoms::file(), file);
    }
    map
}

fn with<'a>(map: Term<'a>, key: Atom, value: impl Encoder) -> Term<'a> {
    map.map_put(key, value).unwrap_or(map)
}

fn connect_failure(cause: ConnectFailure) -> Atom {
    match cause {
        ConnectFailure::UnknownHost => atoms::unknown_host(),
        ConnectFailure::Refused => atoms::refused(),
        ConnectFailure::NoRoute => atoms::no_route(),
        ConnectFailure::NotPermitted => atoms::not_permitted(),
        ConnectFailure::NoSuchSocket => atoms::no_such_socket(),
        ConnectFailure::Closed => atoms::connection_closed(),
    }
}

fn tls_code(problem: TlsProblem) -> Atom {
    match problem {
        TlsProblem::UnknownCa => atoms::unknown_ca(),
        TlsProblem::NoAuthorities => atoms::no_authorities(),
        TlsProblem::CaCertificate => atoms::ca_certificate(),
        TlsProblem::Expired => atoms::expired(),
        TlsProblem::NotYetValid => atoms::not_yet_valid(),
        TlsProblem::WrongHost => atoms::wrong_host(),
        TlsProblem::NoNames => atoms::no_names(),
        TlsProblem::OldCertificate => atoms::old_certificate(),
        TlsProblem::WrongPurpose => atoms::wrong_purpose(),
        TlsProblem::BadCertificate => atoms::bad_certificate(),
        TlsProblem::InvalidHost => atoms::invalid_host(),
        TlsProblem::File(..) => atoms::certificate_file(),
        TlsProblem::EncryptedKey => atoms::encrypted_key(),
        TlsProblem::KeyMismatch => atoms::key_mismatch(),
        TlsProblem::NotTls => atoms::not_tls(),
        TlsProblem::TlsRequired => atoms::tls_required(),
        TlsProblem::NoCommonVersion => atoms::no_common_version(),
        TlsProblem::ClientCertificateRequired => atoms::client_certificate_required(),
        TlsProblem::ClientCertificateRejected => atoms::client_certificate_rejected(),
        TlsProblem::Handshake => atoms::handshake(),
    }
}

fn file_option(file: PemFile) -> Atom {
    match file {
        PemFile::Authorities => atoms::cacertfile(),
        PemFile::Certificate => atoms::certfile(),
        PemFile::Key => atoms::keyfile(),
    }
}

fn file_problem(problem: FileProblem) -> Atom {
    match problem {
        FileProblem::Missing => atoms::missing(),
        FileProblem::Unreadable => atoms::unreadable(),
        FileProblem::Invalid => atoms::invalid(),
    }
}

fn malformed<'a>(map: Term<'a>, error: &etf::Error) -> Term<'a> {
    let problem = match error.kind() {
        etf::ErrorKind::Function => atoms::function(),
        etf::ErrorKind::Depth => atoms::depth(),
        etf::ErrorKind::Length => atoms::too_long(),
        etf::ErrorKind::Memory => atoms::too_large(),
        etf::ErrorKind::Atoms => atoms::too_many_atoms(),
        _ => atoms::malformed(),
    };
    with(
        with(map, atoms::problem(), problem),
        atoms::offset(),
        error.offset(),
    )
}
