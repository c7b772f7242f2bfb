//! A thread that holds a connection and serves requests on it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Select, TryRecvError};
use redis::Value;

use crate::backoff::Backoff;
use crate::commands::{Commands, Replies};
use crate::error::{Error, ErrorKind, ServerCode};
use crate::operation::{LookAfter, Operation, Outcome, Round, Step};
use crate::repairs::Repairs;
use crate::request::Request;
use crate::route::Route;
use crate::shared::Shared;
use crate::upkeep::Upkeep;

/// Most requests served together.
const MAX_REQUESTS: usize = 4_096;
/// A round takes no further request once its commands are this long.
const MAX_ROUND_BYTES: usize = 1 << 20;
/// Several requests, but fewer than these, are the first of more: processes that are about to call get
/// the processor before the round is sent.
const SHORT_ROUND: usize = 32;
/// How long a connection may be idle before the server is asked whether it is still there.
const IDLE: Duration = Duration::from_secs(5);
/// A server that is silent for half of a call's time, and for so long at the least, is given up: the
/// other half is for another connection, maybe to another master.
const MIN_PATIENCE: Duration = Duration::from_secs(1);
/// A thread that holds a connection and serves requests on it.
///
/// Invariant: `active` is in the order in which requests were taken, and so are their replies.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    /// The queue that all workers share, then those that are its alone.
    queues: Vec<Receiver<Request>>,
    /// Closed when the cache stops.
    stop: Receiver<()>,
    route: Option<Route>,
    connected_before: bool,
    backoff: Backoff,
    active: VecDeque<Active>,
    repairs: Repairs,
    upkeep: Upkeep,
    commands: Commands,
    used_at: Instant,
    /// Among `active` is a listing of many keys.
    is_listing: bool,
    /// What the other workers were told of this one.
    is_free: bool,
}

struct Active {
    request: Request,
    /// How many replies of this round are its, if it is part of it.
    replies: Option<usize>,
}

impl From<Request> for Active {
    fn from(request: Request) -> Self {
        Self {
            request,
            replies: None,
        }
    }
}

impl Worker {
    pub(crate) fn new(
        shared: Arc<Shared>,
        queues: Vec<Receiver<Request>>,
        stop: Receiver<()>,
    ) -> Self {
        // No put that was under way when a repair was found is under way after this time.
        let repairs = Repairs::new(shared.options.timeout);
        Self {
            shared,
            queues,
            stop,
            route: None,
            connected_before: false,
            backoff: Backoff::new(),
            active: VecDeque::new(),
            repairs,
            upkeep: Upkeep::default(),
            commands: Commands::new(),
            used_at: Instant::now(),
            is_listing: false,
            is_free: false,
        }
    }

    /// Serves until the queues are closed and empty.
    pub(crate) fn run(mut self) {
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.turn())) {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => self.recover(),
            }
        }
        self.hang_up();
        self.tell_whether_free();
    }

    /// Takes what waits, and serves it. `false` at the end.
    fn turn(&mut self) -> bool {
        self.tell_whether_free();
        if !self.gather() {
            return false;
        }
        self.take_due_housekeeping();
        self.drop_late();
        if self.route.is_some() || self.connect() {
            match self.serve() {
                Ok(()) => self.backoff.succeeded(),
                Err(error) => self.lose_connection(&error),
            }
        }
        true
    }

    /// After a panic: nobody knows what was sent and read.
    fn recover(&mut self) {
        self.hang_up();
        self.backoff.failed();
        while let Some(active) = self.active.pop_front() {
            let error = Err(ErrorKind::Crashed.into());
            // Should a reply be what panics, the others get theirs yet.
            let _ = catch_unwind(AssertUnwindSafe(|| active.request.answer(error)));
        }
    }

    /// Takes what waits; when there is nothing at all to do, waits for something. `false` at the end.
    fn gather(&mut self) -> bool {
        let first = if self.active.is_empty() {
            self.wait()
        } else {
            0
        };
        self.take(first);
        if (2..SHORT_ROUND).contains(&self.active.len()) {
            thread::yield_now();
            self.take(0);
        }
        let idle = self.active.is_empty()
            && self.queues.iter().all(Receiver::is_empty)
            && self.upkeep.next_due().is_none();
        !(idle && self.is_stopping())
    }

    /// Takes what waits, beginning with the queue of this number.
    fn take(&mut self, first: usize) {
        let skipped = self.skipped_queues();
        let queues = self.queues.len() - skipped;
        let mut empty = 0;
        // One of each queue in turn, so that neither holds up the other.
        for queue in self.queues.iter().skip(skipped).cycle().skip(first) {
            if empty >= queues || self.active.len() >= MAX_REQUESTS {
                break;
            }
            match queue.try_recv() {
                Ok(request) => {
                    empty = 0;
                    self.active.push_back(Active::from(request));
                }
                Err(_) => empty += 1,
            }
        }
    }

    /// The queue that all share is left to other workers where these can serve it better: without a
    /// connection, and while listing, where others are free. If none is connected, requests are taken
    /// to be told why.
    fn skipped_queues(&self) -> usize {
        let leave = if self.route.is_none() {
            self.shared.link.is_up()
        } else {
            self.is_listing && self.shared.free_workers() > 0
        };
        usize::from(leave && !self.is_stopping())
    }

    /// Tells the others whether this worker can serve what they leave.
    fn tell_whether_free(&mut self) {
        let mut requests = self.active.iter().map(|active| &active.request);
        self.is_listing = requests.any(|request| request.operation.is_listing());
        let free = self.route.is_some() && !self.is_listing;
        if free != self.is_free {
            self.is_free = free;
            self.shared.worker_is_free(free);
        }
    }

    fn is_stopping(&self) -> bool {
        self.stop.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// Waits for a request, until there is something else to do. Which queue's turn is next.
    ///
    /// A request wakes one worker: to wait for readiness alone would wake them all.
    fn wait(&mut self) -> usize {
        let due = [
            self.route.is_some().then(|| self.used_at + IDLE),
            self.route.is_none().then(|| self.backoff.next(false)),
            self.repairs.next_due(),
            self.upkeep.next_due(),
        ];
        let until = due.into_iter().flatten().min();
        let until = until.unwrap_or_else(|| Instant::now() + IDLE);
        let queues = self.queues.get(self.skipped_queues()..).unwrap_or_default();
        let mut select = Select::new();
        for queue in queues {
            select.recv(queue);
        }
        select.recv(&self.stop);
        let Ok(ready) = select.select_deadline(until) else {
            return 0;
        };
        let number = ready.index();
        match queues.get(number) {
            // Closed when the cache stops.
            Some(queue) => self.active.extend(ready.recv(queue).map(Active::from)),
            None => drop(ready.recv(&self.stop)),
        }
        number + 1
    }

    fn take_due_housekeeping(&mut self) {
        while let Some(repair) = self.repairs.take_due() {
            self.keep_house(Operation::Repair(repair));
        }
        let due = self.upkeep.next_due();
        if due.is_some_and(|due| due <= Instant::now() || self.is_stopping()) {
            let owed = self.upkeep.take_owed();
            self.keep_house(Operation::LookAfter(LookAfter::new(owed)));
        }
    }

    /// Adds a request for whose answer nobody waits. What fails is found again by the next call.
    fn keep_house(&mut self, operation: Operation) {
        let deadline = Instant::now() + self.shared.options.timeout;
        let request = Request::new(operation, deadline, Box::new(|_| ()));
        self.active.push_back(Active::from(request));
    }

    /// Drops requests that nobody waits for any more, and those whose time is over.
    fn drop_late(&mut self) {
        let now = Instant::now();
        for _ in 0..self.active.len() {
            if let Some(active) = self.active.pop_front() {
                if active.request.deadline() <= now {
                    active.request.answer(Err(self.shared.too_late()));
                } else if active.request.is_waiting() {
                    self.active.push_back(active);
                }
            }
        }
    }

    /// Connects if it is time to. Otherwise waits until then, at most until a request is late.
    fn connect(&mut self) -> bool {
        let now = Instant::now();
        let next = self.backoff.next(!self.active.is_empty());
        if next > now {
            if let Some(failure) = self.shared.link.failure().filter(Error::is_final) {
                self.answer_all(&failure);
            }
            if !self.active.is_empty() {
                let late = self.active.iter().map(|a| a.request.deadline()).min();
                let until = late.unwrap_or(now).min(next);
                let wait = self.stop.recv_timeout(until.saturating_duration_since(now));
                if wait == Err(RecvTimeoutError::Disconnected) {
                    self.answer_all(&ErrorKind::Closed.into());
                }
            }
            return false;
        }
        let options = &self.shared.options;
        match Route::open(options, now + options.connect_timeout) {
            Ok(connection) => {
                self.shared.connected(&connection, self.connected_before);
                self.route = Some(connection);
                self.connected_before = true;
                self.used_at = Instant::now();
                true
            }
            Err(error) => {
                self.backoff.failed();
                self.shared.failed(&error);
                self.answer_hopeless(&error);
                false
            }
        }
    }

    /// Answers those for whom another try comes too late, or cannot help.
    fn answer_hopeless(&mut self, error: &Error) {
        let next = self.backoff.next(true);
        for _ in 0..self.active.len() {
            if let Some(active) = self.active.pop_front() {
                if error.is_final() || active.request.deadline() <= next {
                    active.request.answer(Err(error.clone()));
                } else {
                    self.active.push_back(active);
                }
            }
        }
    }

    /// One round: everything that is active in one pipeline. Without any request, a sign of life.
    fn serve(&mut self) -> Result<(), Error> {
        let Some(route) = &mut self.route else {
            return Ok(());
        };
        if self.active.is_empty() {
            if self.used_at.elapsed() >= IDLE {
                self.used_at = Instant::now();
                return route.read_clock(self.used_at + self.shared.options.connect_timeout);
            }
            return Ok(());
        }
        let patience = Instant::now() + (self.shared.options.timeout / 2).max(MIN_PATIENCE);
        let deadline = self.write_round().min(patience);
        let Some(route) = &mut self.route else {
            return Ok(());
        };
        self.shared.stats.batches.fetch_add(1, Ordering::Relaxed);
        route.send(&self.commands, deadline)?;
        let outcome = self.read_round(deadline);
        self.used_at = Instant::now();
        outcome
    }

    /// Writes the commands of all requests that are part of this round; the last of their deadlines.
    fn write_round(&mut self) -> Instant {
        self.commands.clear();
        let mut deadline = Instant::now();
        let Some(clock) = self.route.as_ref().map(Route::clock) else {
            return deadline;
        };
        let now_ms = clock.now_ms();
        let mut writes_wait = false;
        for active in &mut self.active {
            let operation = &mut active.request.operation;
            active.replies = None;
            if self.commands.as_bytes().len() >= MAX_ROUND_BYTES {
                writes_wait = true;
                continue;
            }
            if operation.is_write() && writes_wait {
                continue;
            }
            // A write of several rounds holds up those behind it, so that they keep their order.
            writes_wait |= operation.is_long_write();
            let before = self.commands.len();
            operation.write(&mut Round {
                commands: &mut self.commands,
                now_ms,
                round_trip: clock.round_trip(),
                upkeep: &mut self.upkeep,
            });
            active.replies = Some(self.commands.len() - before);
            deadline = deadline.max(active.request.deadline());
        }
        deadline
    }

    /// Reads the replies of the round and steps each request. Those that are not done stay, in their
    /// order.
    fn read_round(&mut self, deadline: Instant) -> Result<(), Error> {
        let mut kept = 0;
        let mut outcome = Ok(());
        for _ in 0..self.active.len() {
            let (stays, read) = self.read_front(deadline);
            if stays {
                self.active.rotate_left(1);
                kept += 1;
            }
            if let Err(error) = read {
                let in_order = error.leaves_stream_in_order();
                outcome = Err(error);
                if !in_order {
                    break;
                }
            }
        }
        // Those that were read stand behind those that were not.
        self.active.rotate_right(kept);
        outcome
    }

    /// Reads the replies of the first request and steps it. Whether it stays, and whether the
    /// connection does.
    fn read_front(&mut self, deadline: Instant) -> (bool, Result<(), Error>) {
        let (Some(route), Some(active)) = (&mut self.route, self.active.front_mut()) else {
            return (true, Ok(()));
        };
        let Some(replies) = active.replies else {
            return (true, Ok(()));
        };
        let values = (0..replies)
            .map(|_| route.receive(deadline))
            .collect::<Result<Vec<_>, _>>()
            .and_then(|values| {
                if !active.request.operation.is_housekeeping() {
                    values.iter().try_for_each(reconnect_error)?;
                }
                Ok(values)
            });
        let values = match values {
            Ok(values) => values,
            Err(error) => return (true, Err(error)),
        };
        // The request stays in its place until it is stepped: should that panic, it is answered.
        let outcome = match active.request.operation.read(Replies::new(values)) {
            Ok(Step::Again) => return (true, Ok(())),
            Ok(Step::Done(mut outcome)) => {
                if let Outcome::Records { repair, .. } = &mut outcome {
                    self.repairs.keep(repair.take());
                }
                self.shared.report_refused(&outcome);
                Ok(outcome)
            }
            Err(error) => Err(error),
        };
        let in_doubt = outcome
            .as_ref()
            .err()
            .filter(|error| !error.leaves_stream_in_order());
        let connection = in_doubt.map_or(Ok(()), |error| Err(error.clone()));
        if let Some(active) = self.active.pop_front() {
            if outcome.is_err() && active.request.operation.looks_after() {
                self.upkeep.forget();
            }
            active.request.answer(outcome);
        }
        (false, connection)
    }

    /// After an error the position in the stream is in doubt. What was not answered is sent again on
    /// the next connection.
    fn lose_connection(&mut self, error: &Error) {
        self.hang_up();
        self.backoff.failed();
        let retries = u64::try_from(self.active.len()).unwrap_or(u64::MAX);
        self.shared
            .stats
            .retries
            .fetch_add(retries, Ordering::Relaxed);
        for active in &mut self.active {
            active.request.operation.restart();
        }
        self.answer_hopeless(error);
    }

    /// What was sent may be done or not.
    fn hang_up(&mut self) {
        if self.route.take().is_some() {
            self.shared.link.lost();
        }
        self.upkeep.forget();
    }

    fn answer_all(&mut self, error: &Error) {
        for active in self.active.drain(..) {
            active.request.answer(Err(error.clone()));
        }
    }
}

/// An error reply that another server, or the same one later, would not give.
fn reconnect_error(value: &Value) -> Result<(), Error> {
    match value {
        Value::ServerError(error) => {
            let code = ServerCode::new(error.code());
            if code.calls_for_reconnect() {
                return Err(ErrorKind::Server(code).into());
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
