//! Connecting, with a hasty attempt beside a patient one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::error::{Error, ErrorKind};
use crate::net::client::Client;
use crate::net::config::ConnectConfig;
use crate::net::fence::Fence;

/// How long a hasty attempt may take. When connecting takes longer than this, the first one starts.
const HASTE: Duration = Duration::from_millis(500);

/// Connects to Redis.
///
/// An attempt that began while the network or a proxy was out of order may hang, although a new one would
/// succeed. So when the patient attempt, which has all the time, takes long, hasty ones run beside it, one
/// after the other. The first attempt that succeeds wins.
#[derive(Debug)]
pub(super) struct Connector<'c> {
    config: &'c ConnectConfig,
    fence: &'c Fence,
    sender: Sender<Attempt>,
    ended: Receiver<Attempt>,
}

/// An attempt that has ended.
struct Attempt {
    is_hasty: bool,
    outcome: Result<Client, Error>,
}

impl<'c> Connector<'c> {
    pub(super) fn new(config: &'c ConnectConfig, fence: &'c Fence) -> Self {
        let (sender, ended) = unbounded();
        Self {
            config,
            fence,
            sender,
            ended,
        }
    }

    /// Connects before the deadline.
    pub(super) fn connect(self, deadline: Instant) -> Result<Client, Error> {
        self.start(false, deadline)?;
        let mut next_start = Instant::now() + HASTE;
        loop {
            match self.ended.recv_deadline(next_start.min(deadline)) {
                // The next hasty attempt is about to start.
                Ok(attempt) if attempt.is_hasty && attempt.has_timed_out() => {}
                Ok(attempt) => return attempt.outcome,
                Err(_) if next_start >= deadline => return Err(ErrorKind::Timeout.into()),
                Err(_) => {
                    next_start = Instant::now() + HASTE;
                    self.start(true, next_start.min(deadline))?;
                }
            }
        }
    }

    /// Starts an attempt on a thread of its own, which ends by the deadline.
    fn start(&self, is_hasty: bool, deadline: Instant) -> Result<(), Error> {
        let (config, fence) = (self.config.clone(), self.fence.clone());
        let sender = self.sender.clone();
        thread::Builder::new()
            .name("pow_redis_connect".to_owned())
            .spawn(move || {
                let connect = || Client::connect(&config, &fence, deadline);
                let outcome = catch_unwind(AssertUnwindSafe(connect))
                    .unwrap_or_else(|_| Err(ErrorKind::WorkerPanicked.into()));
                // Without a receiver, another attempt has won.
                let _ = sender.send(Attempt { is_hasty, outcome });
            })?;
        Ok(())
    }
}

impl Attempt {
    fn has_timed_out(&self) -> bool {
        matches!(&self.outcome, Err(error) if *error.kind() == ErrorKind::Timeout)
    }
}
