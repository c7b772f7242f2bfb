//! A thread that holds a connection and serves requests on it.

use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redis::Value;

use crate::backoff::Backoff;
use crate::commands::{Commands, Replies};
use crate::error::{Error, ErrorKind, ServerCode};
use crate::inbox::Inbox;
use crate::operation::{LookAfter, Operation, Outcome, Step};
use crate::pace::Pace;
use crate::pipeline::Pipeline;
use crate::repairs::Repairs;
use crate::request::Request;
use crate::route::Route;
use crate::shared::Shared;
use crate::spin::Courtesy;
use crate::upkeep::Upkeep;

/// Several requests, but fewer than these, are the first of more: processes that are about to call get
/// the processor before they are sent.
const SHORT_ROUND: usize = 32;
/// With so many requests, some come while the others are on their way. One alone has nobody to wait
/// for; more leave no time.
const SPREAD: RangeInclusive<usize> = 2..=64;
/// How long a connection may be idle before the server is asked whether it is still there.
const IDLE: Duration = Duration::from_secs(5);
/// A server that is silent for half of a call's time, and for so long at the least, is given up: the
/// other half is for another connection, maybe to another master.
const MIN_PATIENCE: Duration = Duration::from_secs(1);

/// A thread that holds a connection and serves requests on it.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    inbox: Inbox,
    route: Option<Route>,
    connected_before: bool,
    backoff: Backoff,
    pipeline: Pipeline,
    /// An error reply that another server, or the same one later, would not give: nothing more is sent, and the
    /// connection goes when the other replies were read.
    refusal: Option<Error>,
    repairs: Repairs,
    upkeep: Upkeep,
    commands: Commands,
    used_at: Instant,
    courtesy: Courtesy,
    pace: Pace,
    /// Among its requests is a listing of many keys.
    is_listing: bool,
    /// What the other workers were told of this one.
    is_free: bool,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, inbox: Inbox) -> Self {
        // No put that was under way when a repair was found is under way after this time.
        let repairs = Repairs::new(shared.options.timeout);
        Self {
            shared,
            inbox,
            route: None,
            connected_before: false,
            backoff: Backoff::new(),
            pipeline: Pipeline::default(),
            refusal: None,
            repairs,
            upkeep: Upkeep::default(),
            commands: Commands::new(),
            used_at: Instant::now(),
            courtesy: Courtesy::default(),
            pace: Pace::default(),
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
                Ok(()) if self.refusal.is_none() => self.backoff.succeeded(),
                Ok(()) => {}
                Err(error) => self.lose_connection(&error),
            }
        }
        true
    }

    /// After a panic: nobody knows what was sent and read.
    fn recover(&mut self) {
        self.hang_up();
        self.backoff.failed();
        self.pipeline.repeat_all();
        self.pipeline.retain_waiting(|request| {
            let error = Err(ErrorKind::Crashed.into());
            // Should a reply be what panics, the others get theirs yet.
            let _ = catch_unwind(AssertUnwindSafe(|| request.answer(error)));
            None
        });
    }

    /// Takes what waits; when there is nothing at all to do, waits for something. `false` at the end.
    fn gather(&mut self) -> bool {
        if self.pipeline.is_empty() {
            let (skipped, until) = (self.skipped_queues(), self.next_due());
            if let Some(request) = self.inbox.wait(skipped, until, self.route.is_some()) {
                self.pipeline.push(request);
            }
        }
        self.inbox.take(self.skipped_queues(), &mut self.pipeline);
        let is_short = (2..SHORT_ROUND).contains(&self.pipeline.len());
        if is_short && !self.pipeline.has_sent() && self.courtesy.pays() {
            self.courtesy.give_way();
            self.inbox.take(self.skipped_queues(), &mut self.pipeline);
        }
        let idle =
            self.pipeline.is_empty() && self.inbox.is_empty() && self.upkeep.next_due().is_none();
        !(idle && self.inbox.is_closed())
    }

    /// While no reply can have come yet, waits for requests instead. Whether one came.
    fn gather_meanwhile(&mut self) -> bool {
        let (skipped, until) = (self.skipped_queues(), self.no_reply_until());
        let Some(request) = until.and_then(|until| self.inbox.wait(skipped, until, false)) else {
            return false;
        };
        self.pipeline.push(request);
        self.inbox.take(skipped, &mut self.pipeline);
        true
    }

    /// Until when no reply comes, if requests may.
    fn no_reply_until(&self) -> Option<Instant> {
        let has_replies = self.route.as_ref().is_none_or(Route::has_more);
        if has_replies || !SPREAD.contains(&self.pipeline.len()) {
            return None;
        }
        let until = self.pace.no_reply_until(self.pipeline.front_sent_at()?)?;
        (until > Instant::now()).then_some(until)
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
        usize::from(leave && !self.inbox.is_closed())
    }

    /// Tells the others whether this worker can serve what they leave.
    fn tell_whether_free(&mut self) {
        let mut requests = self.pipeline.requests();
        self.is_listing = requests.any(|request| request.operation.is_listing());
        let free = self.route.is_some() && !self.is_listing;
        if free != self.is_free {
            self.is_free = free;
            self.shared.worker_is_free(free);
        }
    }

    /// Until when to wait for a request, while there is nothing to do.
    fn next_due(&self) -> Instant {
        let due = [
            self.route.is_some().then(|| self.used_at + IDLE),
            self.route.is_none().then(|| self.backoff.next(false)),
            self.repairs.next_due(),
            self.upkeep.next_due(),
        ];
        let first = due.into_iter().flatten().min();
        first.unwrap_or_else(|| Instant::now() + IDLE)
    }

    fn take_due_housekeeping(&mut self) {
        while let Some(repair) = self.repairs.take_due() {
            self.keep_house(Operation::Repair(repair));
        }
        let due = self.upkeep.next_due();
        if due.is_some_and(|due| due <= Instant::now() || self.inbox.is_closed()) {
            let owed = self.upkeep.take_owed();
            self.keep_house(Operation::LookAfter(LookAfter::new(owed)));
        }
    }

    /// Adds a request for whose answer nobody waits. What fails is found again by the next call.
    fn keep_house(&mut self, operation: Operation) {
        let deadline = Instant::now() + self.shared.options.timeout;
        let request = Request::new(operation, deadline, Box::new(|_| ()));
        self.pipeline.push(request);
    }

    /// Drops requests that nobody waits for any more, and those whose time is over.
    fn drop_late(&mut self) {
        let now = Instant::now();
        let shared = &self.shared;
        self.pipeline.retain_waiting(|request| {
            if request.deadline() <= now {
                request.answer(Err(shared.too_late()));
                None
            } else {
                request.is_waiting().then_some(request)
            }
        });
    }

    /// Connects if it is time to. Otherwise waits until then, at most until a request is late.
    fn connect(&mut self) -> bool {
        let now = Instant::now();
        let next = self.backoff.next(!self.pipeline.is_empty());
        if next > now {
            if let Some(failure) = self.shared.link.failure().filter(Error::is_final) {
                self.answer_all(&failure);
            }
            if !self.pipeline.is_empty() {
                let late = self.pipeline.requests().map(Request::deadline).min();
                let until = late.unwrap_or(now).min(next);
                let wait = until.saturating_duration_since(now);
                if self.inbox.closes_within(wait) {
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
        self.pipeline.retain_waiting(|request| {
            if error.is_final() || request.deadline() <= next {
                request.answer(Err(error.clone()));
                None
            } else {
                Some(request)
            }
        });
    }

    /// Sends what waits, and reads what has come. Without any request, a sign of life.
    fn serve(&mut self) -> Result<(), Error> {
        if self.pipeline.is_empty() {
            return self.show_life();
        }
        if self.refusal.is_none() {
            self.send()?;
            while self.gather_meanwhile() {
                self.send()?;
            }
        }
        let outcome = self.read();
        self.used_at = Instant::now();
        outcome?;
        match self.refusal.take_if(|_| !self.pipeline.has_sent()) {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    fn show_life(&mut self) -> Result<(), Error> {
        match &mut self.route {
            Some(route) if self.used_at.elapsed() >= IDLE => {
                self.used_at = Instant::now();
                route.read_clock(self.used_at + self.shared.options.connect_timeout)
            }
            _ => Ok(()),
        }
    }

    /// How long a reply may take now: a server that says nothing is given up.
    fn patience(&self) -> Instant {
        let patience = Instant::now() + (self.shared.options.timeout / 2).max(MIN_PATIENCE);
        let last = self.pipeline.last_deadline();
        last.map_or(patience, |deadline| deadline.min(patience))
    }

    /// Sends the commands of what waits, as far as it may be sent now.
    fn send(&mut self) -> Result<(), Error> {
        let Some(route) = &self.route else {
            return Ok(());
        };
        let (clock, piece) = (route.clock(), route.piece());
        loop {
            self.commands.clear();
            self.pipeline
                .write(clock, piece, &mut self.upkeep, &mut self.commands);
            let deadline = self.patience();
            match &mut self.route {
                Some(route) if !self.commands.is_empty() => {
                    self.shared.stats.batches.fetch_add(1, Ordering::Relaxed);
                    route.send(&self.commands, deadline)?;
                }
                _ => return Ok(()),
            }
        }
    }

    /// Reads replies: those of one request, and then what has come already.
    fn read(&mut self) -> Result<(), Error> {
        let deadline = self.patience();
        if let Some(sent) = self.pipeline.front_sent_at() {
            self.read_front(deadline)?;
            self.pace.took(sent.elapsed());
        }
        while self.pipeline.has_sent() && self.route.as_ref().is_some_and(Route::has_more) {
            self.read_front(deadline)?;
        }
        Ok(())
    }

    /// Reads the replies of the first request that was sent, and steps it, or sends it again.
    fn read_front(&mut self, deadline: Instant) -> Result<(), Error> {
        let (Some(route), Some((request, replies))) = (&mut self.route, self.pipeline.front())
        else {
            return Ok(());
        };
        let values = (0..replies)
            .map(|_| route.receive(deadline))
            .collect::<Result<Vec<_>, _>>()?;
        let refused = match values.iter().try_for_each(reconnect_error) {
            Err(refusal) if !request.operation.is_housekeeping() => {
                self.refusal.get_or_insert(refusal);
                true
            }
            // Should it have been done, it must be done again after the one that was refused before it.
            _ => request.operation.is_write() && self.refusal.is_some(),
        };
        if refused {
            self.pipeline.repeat_front();
            Ok(())
        } else {
            self.step_front(values)
        }
    }

    /// Steps the first request that was sent.
    fn step_front(&mut self, replies: Vec<Value>) -> Result<(), Error> {
        let Some((request, _)) = self.pipeline.front() else {
            return Ok(());
        };
        // It stays in its place until it is stepped: should that panic, it is answered.
        let outcome = match request.operation.read(Replies::new(replies)) {
            Ok(Step::Again) => {
                self.pipeline.repeat_front();
                return Ok(());
            }
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
        if let Some(request) = self.pipeline.pop_front() {
            if outcome.is_err() && request.operation.looks_after() {
                self.upkeep.forget();
            }
            request.answer(outcome);
        }
        connection
    }

    /// After an error the position in the stream is in doubt. What was not answered is sent again on
    /// the next connection.
    fn lose_connection(&mut self, error: &Error) {
        self.hang_up();
        self.backoff.failed();
        let retries = u64::try_from(self.pipeline.repeat_all()).unwrap_or(u64::MAX);
        self.shared
            .stats
            .retries
            .fetch_add(retries, Ordering::Relaxed);
        self.pipeline.restart();
        self.answer_hopeless(error);
    }

    /// What was sent may be done or not.
    fn hang_up(&mut self) {
        if self.route.take().is_some() {
            self.shared.link.lost();
        }
        self.refusal = None;
        self.upkeep.forget();
    }

    fn answer_all(&mut self, error: &Error) {
        self.pipeline.retain_waiting(|request| {
            request.answer(Err(error.clone()));
            None
        });
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
