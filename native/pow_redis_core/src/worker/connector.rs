//! Connecting, with hasty attempts beside a patient one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::error::{Error, ErrorKind};
use crate::net::client::Client;
use crate::net::config::ConnectConfig;
use crate::net::fence::Fence;

/// The interval at which attempts start.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long a hasty attempt may take. The next ones start meanwhile.
const HASTE: Duration = Duration::from_secs(2);

/// Connects to Redis.
///
/// An attempt that began while the network or a proxy was out of order may hang, although a new one would
/// succeed: the system doubles its waits before it sends lost packets again. So when the patient attempt,
/// which has all the time, takes long, hasty ones start beside it. The first attempt that succeeds wins.
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
        let mut failure = ErrorKind::Timeout.into();
        self.start(false, deadline)?;
        loop {
            let next_start = Instant::now() + INTERVAL;
            while let Ok(attempt) = self.ended.recv_deadline(next_start.min(deadline)) {
                match attempt.outcome {
                    // Another may have been luckier.
                    Err(error) if attempt.is_hasty && *error.kind() == ErrorKind::Timeout => {
                        failure = error;
                    }
                    outcome => return outcome,
                }
            }
            if next_start >= deadline {
                return Err(failure);
            }
            self.start(true, deadline.min(Instant::now() + HASTE))?;
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

#[cfg(test)]
mod tests {
    use super::super::testing::hang;
    use super::*;
    use crate::net::address::Address;
    use crate::net::config::EndpointProvider;
    use crate::net::testing::FakeServer;
    use std::sync::{Arc, Mutex};

    const LONG: Duration = Duration::from_secs(20);

    /// Connects with attempts that find the endpoint like this, by their number. Returns the outcome, and
    /// until when each attempt had time.
    fn connect(
        deadline: Instant,
        find_endpoint: impl Fn(usize) -> Result<(), Error> + Send + Sync + 'static,
    ) -> (Result<Client, Error>, Vec<Instant>) {
        let server = FakeServer::start(|_| None);
        let endpoint = server.endpoint();
        let attempts: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let started = Arc::clone(&attempts);
        let answer = endpoint.clone();
        let config = ConnectConfig {
            provider: EndpointProvider::new(move |until| {
                let number = {
                    let mut attempts = started.lock().unwrap();
                    attempts.push(until);
                    attempts.len() - 1
                };
                find_endpoint(number)?;
                Ok(vec![answer.clone()])
            }),
            ..ConnectConfig::for_endpoint(endpoint, LONG)
        };
        let outcome = Connector::new(&config, &Fence::default()).connect(deadline);
        let attempts = attempts.lock().unwrap().clone();
        (outcome, attempts)
    }

    fn timeout() -> Error {
        ErrorKind::Timeout.into()
    }

    #[test]
    fn one_attempt_is_enough() {
        let deadline = Instant::now() + LONG;
        let (outcome, attempts) = connect(deadline, |_| Ok(()));
        assert!(outcome.is_ok());
        assert_eq!(attempts, [deadline]);
    }

    #[test]
    fn hasty_attempts_replace_one_that_hangs() {
        let begin = Instant::now();
        let (outcome, attempts) = connect(begin + LONG, |number| match number {
            0 => hang(),
            1 => Err(timeout()),
            _ => Ok(()),
        });
        assert!(outcome.is_ok());
        assert_eq!(attempts[0], begin + LONG);
        for (number, attempt) in (1..).zip(&attempts[1..]) {
            let started = *attempt - HASTE;
            assert!((begin + number * INTERVAL..begin + LONG).contains(&started));
        }
        assert!(attempts.len() > 2);
    }

    #[test]
    fn other_failures_and_that_of_the_patient_attempt_count() {
        let deadline = Instant::now() + LONG;
        let (outcome, attempts) = connect(deadline, |_| Err(timeout()));
        assert_eq!((outcome.err(), attempts.len()), (Some(timeout()), 1));
        let (outcome, attempts) = connect(deadline, |number| match number {
            0 => hang(),
            _ => Err(ErrorKind::Url.into()),
        });
        let invalid_url = Some(ErrorKind::Url.into());
        assert_eq!((outcome.err(), attempts.len()), (invalid_url, 2));
        let (outcome, _) = connect(deadline, |_| panic!("expected by the test"));
        assert_eq!(outcome.err(), Some(ErrorKind::WorkerPanicked.into()));
    }

    #[test]
    fn gives_up_at_the_deadline_with_the_last_failure() {
        let deadline = Instant::now() + INTERVAL * 4;
        let (outcome, attempts) = connect(deadline, |number| {
            if number == 0 {
                hang();
            }
            Err(timeout().at(Address::Unix("silent".into())))
        });
        assert!(Instant::now() >= deadline);
        assert!(attempts.len() > 1 && attempts.iter().all(|end| *end == deadline));
        let unreachable = outcome.err().map(Error::or_unreachable);
        assert_eq!(unreachable, Some(ErrorKind::Disconnected.into()));
    }
}
