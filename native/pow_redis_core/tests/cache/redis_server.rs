//! A Redis server for one test, on a free port and in a directory of its own. It stops with the test.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Client, Cmd, Connection, FromRedisValue, cmd};

/// How long tests wait for anything.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until a condition holds. Fails after [`DEADLINE`].
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A Redis server.
pub struct RedisServer {
    process: Child,
    directory: PathBuf,
    port: u16,
}

impl RedisServer {
    pub fn start() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("pow_redis_core-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let deadline = Instant::now() + DEADLINE;
        loop {
            fs::create_dir_all(&directory).unwrap();
            let port = free_port();
            let process = spawn(&directory, port);
            let mut server = Self {
                process,
                directory: directory.clone(),
                port,
            };
            if server.wait_until_ready() {
                return server;
            }
            // Another process has taken the port meanwhile.
            assert!(Instant::now() < deadline, "redis-server does not start");
        }
    }

    /// Waits until the server is ready. Returns `false` if it has ended.
    fn wait_until_ready(&mut self) -> bool {
        let mut running = true;
        wait_until("redis-server is ready", || {
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

    pub fn socket(&self) -> PathBuf {
        self.directory.join("redis.sock")
    }

    /// Connects over the Unix socket, which only this server can listen on.
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

    /// Runs a command, given as text, on a connection of its own.
    pub fn command<T: FromRedisValue>(&self, words: &str) -> T {
        let mut words = words.split(' ');
        self.run(cmd(words.next().unwrap()).arg(words.collect::<Vec<_>>()))
    }

    /// Blocks connections at their first write command.
    pub fn pause_writes(&self) {
        self.command::<()>("CLIENT PAUSE 600000 WRITE");
    }

    pub fn resume(&self) {
        self.command::<()>("CLIENT UNPAUSE");
    }

    /// Closes the connections of all other clients.
    pub fn kill_connections(&self) {
        self.command::<u64>("CLIENT KILL TYPE normal");
    }

    /// The server hangs until [`RedisServer::wake`].
    pub fn suspend(&self) {
        self.signal("-STOP");
    }

    pub fn wake(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let process = self.process.id().to_string();
        let status = Command::new("kill").args([signal, &process]).status();
        assert!(status.unwrap().success());
    }

    pub fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts the server again on the same port, without data.
    pub fn restart(&mut self) {
        self.process = spawn(&self.directory, self.port);
        assert!(self.wait_until_ready(), "redis-server does not restart");
    }
}

impl Drop for RedisServer {
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

/// A free port that no other test gets. It is below the ports that the system gives to clients, and so
/// stays free while no server listens on it.
pub fn free_port() -> u16 {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    loop {
        // Several test processes may run at the same time.
        let number = std::process::id() + NUMBER.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(20_000 + number % 10_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
