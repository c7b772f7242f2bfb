//! A Redis server for one test: on a free port, in a directory of its own, gone with the test.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Client, Cmd, Connection, FromRedisValue, cmd};

/// Until when whatever is waited for has to happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until a condition holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A Redis server.
pub struct Server {
    process: Child,
    directory: PathBuf,
    port: u16,
}

impl Server {
    pub fn start() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("pow_redis_core-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let deadline = Instant::now() + PATIENCE;
        loop {
            fs::create_dir_all(&directory).unwrap();
            let port = free_port();
            let process = spawn(&directory, port);
            let mut server = Self {
                process,
                directory: directory.clone(),
                port,
            };
            if server.wait() {
                return server;
            }
            // Somebody else took the port meanwhile.
            assert!(Instant::now() < deadline, "no redis-server starts");
        }
    }

    /// Waits until the server answers; `false` if it ended instead.
    fn wait(&mut self) -> bool {
        let mut running = true;
        eventually("redis-server answers", || {
            running = self.process.try_wait().unwrap().is_none();
            !running || self.try_connect().is_some()
        });
        running
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn socket_url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("redis.sock")
    }

    /// Over the socket: a server that listens there is this one, and listens on its port.
    fn try_connect(&self) -> Option<Connection> {
        let mut connection = Client::open(self.socket_url())
            .ok()?
            .get_connection()
            .ok()?;
        cmd("PING").query::<String>(&mut connection).ok()?;
        Some(connection)
    }

    /// Runs a command on a connection of its own.
    pub fn run<T: FromRedisValue>(&self, command: &Cmd) -> T {
        let mut connection = self.try_connect().unwrap();
        command.query(&mut connection).unwrap()
    }

    /// Runs a command, given as words, on a connection of its own.
    pub fn words<T: FromRedisValue>(&self, words: &str) -> T {
        let mut words = words.split(' ');
        self.run(cmd(words.next().unwrap()).arg(words.collect::<Vec<_>>()))
    }

    /// Lets commands that write wait, and their connections with them.
    pub fn pause_writes(&self) {
        self.words::<()>("CLIENT PAUSE 600000 WRITE");
    }

    pub fn resume(&self) {
        self.words::<()>("CLIENT UNPAUSE");
    }

    /// Closes all connections but its own.
    pub fn kill_connections(&self) {
        self.words::<u64>("CLIENT KILL TYPE normal");
    }

    pub fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts again on the same port, empty.
    pub fn start_again(&mut self) {
        self.process = spawn(&self.directory, self.port);
        assert!(self.wait(), "redis-server does not start again");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn spawn(directory: &PathBuf, port: u16) -> Child {
    let _ = fs::remove_file(directory.join("redis.sock"));
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no"])
        .args(["--unixsocket", "redis.sock", "--dir"])
        .arg(directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// A port on which nobody listens, given away once, and below those that the system gives to clients:
/// it stays free until somebody listens on it, and while its server is down.
pub fn free_port() -> u16 {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    loop {
        // Counted up from elsewhere in each process, since others may run beside it.
        let number = std::process::id() + NUMBER.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(20_000 + number % 10_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
