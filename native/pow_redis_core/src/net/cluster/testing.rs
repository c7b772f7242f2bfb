//! Test support: clusters whose nodes redirect as told.

#![cfg(test)]

use std::net::TcpListener;
use std::sync::{Arc, Mutex};

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
        let listeners: Vec<_> = (0..number)
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"))
            .collect();
        let ports: Vec<_> = listeners
            .iter()
            .map(|listener| listener.local_addr().expect("a bound listener").port())
            .collect();
        let (log, decide) = (Arc::<Mutex<Log>>::default(), Arc::new(Mutex::new(decide)));
        let nodes = listeners.into_iter().enumerate().map(|(node, listener)| {
            let (log, decide, ports) = (Arc::clone(&log), Arc::clone(&decide), ports.clone());
            let mut asked = false;
            FakeServer::serve(listener, move |words| {
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
                match decide.lock().expect("no panic of another thread")(node, &rest) {
                    Act::Run => {
                        let mut log = log.lock().expect("no panic of another thread");
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
        Self {
            nodes: nodes.collect(),
            log,
        }
    }

    pub(super) fn connect(&self) -> Cluster {
        Cluster::open(&[self.nodes[0].endpoint()], &Fence::default(), soon())
            .expect("a connected cluster")
    }

    pub(super) fn log(&self) -> Log {
        self.log.lock().expect("no panic of another thread").clone()
    }
}
