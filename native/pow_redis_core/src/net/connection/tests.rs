use super::super::address::Address;
use super::super::testing::{CLOSE, FakeServer, bulk, greeting, soon};
use super::*;
use crate::error::ConnectFailure;
use std::io::Read;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

/// Accepts one connection and writes `script` slowly.
fn serve(script: &'static [u8], pause: Duration) -> (Endpoint, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Tcp {
        host: "127.0.0.1".to_owned(),
        port: listener.local_addr().unwrap().port(),
    };
    let handle = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for byte in script {
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
            thread::sleep(pause);
        }
        // Keeps the connection until the client closes it.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    (Endpoint::new(address), handle)
}

const GREETING: &[u8] = b"$22\r\nredis_version:7.0.15\r\n\r\n*2\r\n$4\r\n1700\r\n$6\r\n500000\r\n";

#[test]
fn reads_version_and_clock() {
    let (endpoint, handle) = serve(GREETING, Duration::ZERO);
    let connection = Connection::open(&endpoint, soon()).unwrap();
    assert_eq!(connection.version(), Some("Redis 7.0.15"));
    assert!((1_700_500..1_760_500).contains(&connection.clock().now_ms()));
    drop(connection);
    handle.join().unwrap();
}

#[test]
fn many_small_reads_share_one_deadline() {
    // The client times out before the script ends, so the thread is not joined.
    let (endpoint, _handle) = serve(GREETING, Duration::from_millis(20));
    let begin = Instant::now();
    let outcome = Connection::open(&endpoint, begin + Duration::from_millis(200));
    assert_eq!(outcome.err(), Some(ErrorKind::Timeout.into()));
    assert!(begin.elapsed() >= Duration::from_millis(200));
}

/// Accepts one connection, reads its first bytes, writes `words` and closes.
fn serve_and_close(words: &'static [u8]) -> (Endpoint, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Tcp {
        host: "127.0.0.1".to_owned(),
        port: listener.local_addr().unwrap().port(),
    };
    let handle = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(stream.read(&mut [0; 16]).unwrap() > 0);
        stream.write_all(words).unwrap();
    });
    (Endpoint::new(address), handle)
}

#[test]
fn keeps_what_the_server_said_before_it_closed_the_connection() {
    for words in [
        "ERR max number of clients reached",
        "DENIED Redis is running in protected mode.",
    ] {
        let line = format!("-{words}\r\n").leak().as_bytes();
        let (endpoint, handle) = serve_and_close(line);
        let error = Connection::open(&endpoint, soon()).err().unwrap();
        assert_eq!(error.details().reply.as_deref(), Some(words));
        let address = endpoint.address.to_string();
        assert_eq!(error.details().address, Some(address));
        assert!(!error.keeps_connection());
        handle.join().unwrap();
    }
}

#[test]
fn keeps_what_the_server_said_while_a_write_failed() {
    let (endpoint, handle) =
        serve_and_close(b"+OK\r\n-ERR Protocol error: invalid bulk length\r\n");
    let mut connection = Connection::over(Stream::open(&endpoint, soon()).unwrap());
    let mut commands = Commands::new();
    commands.push("SET", b"key", |command| {
        command.arg(vec![b'x'; 64 << 20]);
    });
    let sent = connection.send(&mut commands, soon());
    let error = sent.unwrap_err();
    assert_eq!(
        error.details().reply.as_deref(),
        Some("ERR Protocol error: invalid bulk length")
    );
    handle.join().unwrap();
}

#[test]
fn a_failed_write_without_words_is_a_lost_connection() {
    for words in [
        &b"-OOM command not allowed\r\n+OK\r\n"[..],
        b"HTTP/1.1 400 Bad Request\r\n",
    ] {
        let (endpoint, handle) = serve_and_close(words);
        let mut connection = Connection::over(Stream::open(&endpoint, soon()).unwrap());
        let mut commands = Commands::new();
        commands.push("SET", b"key", |command| {
            command.arg(vec![b'x'; 64 << 20]);
        });
        let error = connection.send(&mut commands, soon()).unwrap_err();
        assert_eq!(error, ErrorKind::Disconnected.into());
        assert_eq!(error.details().cause, Some(ConnectFailure::Closed));
        handle.join().unwrap();
    }
}

#[test]
fn garbage_is_a_protocol_error() {
    let (endpoint, handle) = serve(b"HTTP/1.1 400 Bad Request\r\n\r\n", Duration::ZERO);
    let outcome = Connection::open(&endpoint, soon());
    assert_eq!(outcome.err(), Some(ErrorKind::Protocol.into()));
    handle.join().unwrap();
}

/// The reply of a server that tells its process and its connections.
fn fenced(words: &[String]) -> Option<String> {
    match words.join(" ").as_str() {
        "INFO" | "INFO server" => Some(bulk("redis_version:7.0.15\r\nrun_id:abc\r\n")),
        "CLIENT INFO" => Some(bulk("id=7 addr=10.0.0.9:50000")),
        "PING" => Some("+PONG\r\n".to_owned()),
        "HANG" => None,
        command if command.starts_with("CLIENT KILL") => Some(":1\r\n".to_owned()),
        _ => greeting(words),
    }
}

/// A server that replies so to commands of one name, and else as a server of today.
fn replying(name: &'static str, reply: &'static str) -> FakeServer {
    FakeServer::scripted(move |words| {
        if words[0] == name {
            return Some(reply.to_owned());
        }
        fenced(words)
    })
}

fn open_fenced(server: &FakeServer, fence: &Fence) -> Result<Connection, Error> {
    Connection::open_fenced(&server.endpoint(), fence, soon())
}

fn ping(connection: &mut Connection) -> Result<Value, Error> {
    connection.command("PING", &[], soon())
}

fn send(connection: &mut Connection, name: &str) {
    let mut commands = Commands::new();
    push_keyless(&mut commands, name, &[]);
    connection.send(&mut commands, soon()).unwrap();
}

fn pong() -> Value {
    Value::SimpleString("PONG".to_owned())
}

#[test]
fn lost_connections_are_ended_before_anything_is_sent() {
    const KILL: &str = "CLIENT KILL ID 7 ADDR 10.0.0.9:50000";
    let server = FakeServer::scripted(fenced);
    let fence = Fence::default();
    let mut lost = open_fenced(&server, &fence).unwrap();
    send(&mut lost, "HANG");
    drop(lost);
    let mut connection = open_fenced(&server, &fence).unwrap();
    assert_eq!(
        server.commands("CLIENT"),
        ["CLIENT INFO", "CLIENT INFO", KILL]
    );
    // One on which nothing is under way is not lost.
    assert_eq!(ping(&mut connection), Ok(pong()));
    drop(connection);
    let mut connection = open_fenced(&server, &fence).unwrap();
    assert_eq!(server.received("CLIENT"), 4);
    send(&mut connection, "HANG");
    connection.receive_round(Instant::now()).unwrap_err();
    assert!(connection.is_unfinished());
    drop(connection);
    open_fenced(&server, &fence).unwrap();
    assert_eq!(server.commands("CLIENT")[4..], ["CLIENT INFO", KILL]);
}

#[test]
fn a_fence_is_supported_by_a_server_that_tells_one_of_both() {
    for (name, denied) in [("CLIENT", "-NOPERM x\r\n"), ("ECHO", "-NOPERM x\r\n")] {
        let (server, fence) = (replying(name, denied), Fence::default());
        let mut connection = open_fenced(&server, &fence).unwrap();
        assert!(fence.is_supported(), "{name}");
        assert_eq!(ping(&mut connection), Ok(pong()));
        // Without permission, rounds have no nonce.
        assert_eq!(server.received("ECHO"), if name == "ECHO" { 1 } else { 2 });
    }
}

#[test]
fn a_proxy_that_knows_no_fence_gets_none() {
    let (server, fence) = (replying("CLIENT", CLOSE), Fence::default());
    let mut connection = open_fenced(&server, &fence).unwrap();
    assert_eq!(ping(&mut connection), Ok(pong()));
    assert_eq!(server.received("CLIENT"), FENCE_TRIES);
    assert_eq!(server.received("INFO"), FENCE_TRIES + 1);

    // Where a server has supported it, it is no proxy.
    fence.support();
    let error = open_fenced(&server, &fence).err().unwrap();
    assert!(is_unknown_command(&error));
    let address = server.endpoint().address.to_string();
    assert_eq!(error.details().address, Some(address));
}

#[test]
fn a_wrong_echo_is_an_error() {
    for reply in ["+OK\r\n", "$4\r\necho\r\n"] {
        let server = replying("ECHO", reply);
        let error = open_fenced(&server, &Fence::default()).err().unwrap();
        assert_eq!(error.kind(), &ErrorKind::Protocol);
        assert_eq!(server.received("ECHO"), 1);
    }
}

#[test]
fn a_server_that_cannot_be_used_now_is_no_proxy() {
    let server = replying("ECHO", "-BUSY Redis is busy running a script\r\n");
    let error = open_fenced(&server, &Fence::default()).err().unwrap();
    assert!(matches!(error.kind(), ErrorKind::Server(code) if code.as_str() == "BUSY"));
    assert_eq!(server.received("ECHO"), 1);
}

#[test]
fn a_round_with_a_reply_too_many_has_no_replies() {
    let server = replying("PING", "$4\r\nPONG\r\n$4\r\nPONG\r\n");
    let mut connection = open_fenced(&server, &Fence::default()).unwrap();
    assert_eq!(ping(&mut connection), Err(ErrorKind::Protocol.into()));
}

#[test]
fn a_round_whose_end_is_refused_fails_with_the_refusal() {
    let mut echoes = 0;
    let server = FakeServer::scripted(move |words| {
        echoes += usize::from(words[0] == "ECHO");
        if echoes > 1 {
            return Some("-BUSY Redis is busy running a script\r\n".to_owned());
        }
        fenced(words)
    });
    let mut connection = open_fenced(&server, &Fence::default()).unwrap();
    let error = ping(&mut connection).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Server(code) if code.as_str() == "BUSY"));
}

#[test]
fn nothing_is_sent_after_bytes_that_no_command_asked_for() {
    // Without a nonce, the second reply is not noticed at once.
    let server = replying("PING", "+PONG\r\n+PONG\r\n");
    let mut connection = Connection::open(&server.endpoint(), soon()).unwrap();
    assert!(!connection.has_buffered());
    assert_eq!(ping(&mut connection), Ok(pong()));
    assert!(connection.has_buffered());
    assert_eq!(ping(&mut connection), Err(ErrorKind::Protocol.into()));
    assert_eq!(server.received("PING"), 1);
}

#[test]
fn an_alert_of_tls_tells_of_tls_only_before_the_login() {
    const ALERT: &str = "\x15\x03\x03";
    let server = replying("INFO", ALERT);
    let error = Connection::open(&server.endpoint(), soon()).err().unwrap();
    assert_eq!(error.kind(), &ErrorKind::Tls(TlsProblem::TlsRequired));
    let server = replying("PING", ALERT);
    let mut connection = Connection::open(&server.endpoint(), soon()).unwrap();
    assert_eq!(ping(&mut connection), Err(ErrorKind::Protocol.into()));
}

#[test]
fn the_clock_is_read_again_when_it_is_old() {
    let server = FakeServer::scripted(fenced);
    let mut connection = Connection::open(&server.endpoint(), soon()).unwrap();
    ping(&mut connection).unwrap();
    assert_eq!(server.received("TIME"), 1);
    connection.clock = connection.clock.asked_before(CLOCK_INTERVAL);
    for _ in 0..2 {
        ping(&mut connection).unwrap();
        assert_eq!(server.received("TIME"), 2);
    }
}

#[test]
fn a_clock_that_cannot_be_read_again_goes_on() {
    for (second, expected) in [
        ("-NOPERM x\r\n", Ok(())),
        ("+OK\r\n", Err(ErrorKind::Protocol.into())),
    ] {
        let mut reads = 0;
        let server = FakeServer::scripted(move |words| {
            reads += usize::from(words[0] == "TIME");
            if words[0] == "TIME" && reads == 2 {
                return Some(second.to_owned());
            }
            fenced(words)
        });
        let mut connection = Connection::open(&server.endpoint(), soon()).unwrap();
        assert_eq!(connection.read_clock(soon()), expected);
        assert!((1_700_500..1_760_500).contains(&connection.clock().now_ms()));
    }
}

#[test]
fn info_and_time_are_commands_too() {
    let server = FakeServer::scripted(fenced);
    let mut connection = Connection::open(&server.endpoint(), soon()).unwrap();
    let info = connection.info(soon()).unwrap();
    assert_eq!(info.version.as_deref(), Some("Redis 7.0.15"));
    assert_eq!(connection.time(soon()), Ok(1_700_500));
    let server = replying("INFO", ":1\r\n");
    let mut connection = Connection::open(&server.endpoint(), soon()).unwrap();
    let outcome = connection.info(soon());
    assert_eq!(outcome, Err(ErrorKind::Protocol.into()));
}
