//! Test support: clusters whose nodes redirect as told.

#![cfg(test)]

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::super::fence::Fence;
use super::super::slot_map::slot;
use super::super::testing::{FakeServer, soon};
use super::Cluster;

/// What a node does with a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Run,
    Moved(usize),
    Ask(usize),
    TryAgain,
    Down,
    Silent,
}

/// The commands that were run: the node, whether `ASKING` came before it, and its words after the name.
type Log = Vec<(usize, bool, String)>;

/// A cluster in which a function decides what each node does. The first node has all slots.
pub(super) struct FakeCluster {
    pub(super) nodes: Vec<FakeServer>,
    log: Arc<Mutex<Log>>,
}

impl FakeCluster {
    pub(super) fn start(
        number: usize,
        decide: impl FnMut(usize, &str) -> Act + Send + 'static,
    ) -> Self {
        // Known when all nodes have started.
        let ports = Arc::<OnceLock<Vec<u16>>>::default();
        let (log, decide) = (Arc::<Mutex<Log>>::default(), Arc::new(Mutex::new(decide)));
        let nodes = (0..number).map(|node| {
            let (log, decide, ports) = (Arc::clone(&log), Arc::clone(&decide), Arc::clone(&ports));
            let mut asked = false;
            FakeServer::start(move |words| {
                let ports = ports.get().map_or(&[][..], Vec::as_slice);
                let asking = std::mem::take(&mut asked);
                match words[0].as_str() {
                    "CLUSTER" => {
                        let port = ports[0];
                        let slots = "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$0\r\n\r\n";
                        return Some(format!("{slots}:{port}\r\n"));
                    }
                    "ASKING" => {
                        asked = true;
                        return Some("+OK\r\n".to_owned());
                    }
                    _ => {}
                }
                let rest = words[1..].join(" ");
                let slot = slot(words.get(1).map_or(b"", |key| key.as_bytes()));
                match locked(&decide)(node, &rest) {
                    Act::Run => {
                        let mut log = locked(&log);
                        log.push((node, asking, rest));
                        Some(format!(":{}\r\n", log.len()))
                    }
                    Act::Moved(to) => Some(format!("-MOVED {slot} :{}\r\n", ports[to])),
                    Act::Ask(to) => Some(format!("-ASK {slot} :{}\r\n", ports[to])),
                    Act::TryAgain => Some("-TRYAGAIN Multiple keys\r\n".to_owned()),
                    Act::Down => Some("-CLUSTERDOWN The cluster is down\r\n".to_owned()),
                    Act::Silent => None,
                }
            })
        });
        let nodes: Vec<_> = nodes.collect();
        ports.get_or_init(|| nodes.iter().map(|node| node.port).collect());
        Self { nodes, log }
    }

    pub(super) fn connect(&self) -> Cluster {
        Cluster::open(&[self.nodes[0].endpoint()], &Fence::default(), soon())
            .unwrap_or_else(|error| panic!("expected to connect to the first node, got: {error}"))
    }

    pub(super) fn log(&self) -> Log {
        locked(&self.log).clone()
    }
}

/// Locks, also after another thread has panicked: its test has failed already.
fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
