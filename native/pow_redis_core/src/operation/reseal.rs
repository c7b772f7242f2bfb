//! Writing values again in the form in which they are written today.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use super::reindex::ReindexMode;
use super::scan_page::{Page, PageScan, ScanPosition, count_too_long};
use super::{Outcome, Step, WriteContext};
use crate::error::Error;
use crate::etf;
use crate::keyspace::key::Key;
use crate::keyspace::layout::Layout;
use crate::keyspace::redis_key::RedisKey;
use crate::keyspace::ttl::Ttl;
use crate::resp::replies::Replies;
use crate::seal::Form;

/// How many values a round reads: few enough to hardly delay other operations, and to fit into memory.
const BATCH: usize = 32;

/// Replaces a value unless it was changed or deleted. Its TTL is kept.
const REPLACE: &str = "if redis.call('GET',KEYS[1])==ARGV[1] then \
    redis.call('SET',KEYS[1],ARGV[2],'KEEPTTL') return 1 end return 0";

/// Writes the values on one page of all keys again: those that are not in the form in which they are
/// written today, and open. A value that is put or deleted meanwhile is left as it is.
#[derive(Debug)]
pub struct Reseal {
    position: ScanPosition,
    layout: Arc<Layout>,
    mode: ReindexMode,
    scan: PageScan,
    stage: ResealStage,
    /// The Redis keys of the rounds after this one.
    waiting: VecDeque<Stored>,
    /// The time at which the round was written.
    now_ms: i64,
    numbers: Page,
}

#[derive(Debug)]
enum ResealStage {
    Scan,
    /// Reads values and their TTLs.
    Read(Vec<Stored>),
    Write(Vec<Outdated>),
}

/// A Redis key under which a value is stored, canonical or legacy.
#[derive(Debug)]
struct Stored {
    redis_key: Vec<u8>,
    canonical: RedisKey,
}

/// A value to be written in another form.
#[derive(Debug)]
struct Outdated {
    key: Stored,
    stored: Vec<u8>,
    value: Vec<u8>,
    expires_ms: i64,
}

impl Reseal {
    /// Reseals the page at `position`.
    pub fn new(position: ScanPosition, layout: &Arc<Layout>, mode: ReindexMode) -> Self {
        Self {
            scan: PageScan::new(position.clone(), "string", layout.is_cluster),
            position,
            layout: Arc::clone(layout),
            mode,
            stage: ResealStage::Scan,
            waiting: VecDeque::new(),
            now_ms: 0,
            numbers: Page::default(),
        }
    }

    pub(super) fn reset(&mut self) {
        *self = Self::new(self.position.clone(), &self.layout, self.mode);
    }

    pub(super) fn write(&mut self, context: &mut WriteContext<'_>) {
        self.now_ms = context.now_ms;
        match &self.stage {
            ResealStage::Scan => self.scan.write(context),
            ResealStage::Read(keys) => {
                for key in keys {
                    context.commands.push("GET", &key.redis_key, |_| ());
                    context.commands.push("PTTL", &key.redis_key, |_| ());
                }
            }
            ResealStage::Write(values) => {
                for outdated in values {
                    outdated.write(&self.layout, context);
                }
            }
        }
    }

    pub(super) fn read(&mut self, mut replies: Replies) -> Result<Step, Error> {
        match std::mem::replace(&mut self.stage, ResealStage::Scan) {
            ResealStage::Scan => {
                let Some(redis_keys) = self.scan.read(&mut replies)? else {
                    return Ok(Step::Again);
                };
                self.numbers.skipped = count_too_long(&redis_keys);
                self.waiting = redis_keys.into_iter().filter_map(Stored::new).collect();
                Ok(self.next_batch())
            }
            ResealStage::Read(keys) => {
                let mut outdated = Vec::new();
                for key in keys {
                    let stored = replies.next_bytes();
                    let ttl = Ttl::from_pttl(replies.next_integer()?);
                    outdated.extend(self.read_value(key, stored, ttl)?);
                }
                Ok(self.after_read(outdated))
            }
            ResealStage::Write(values) => {
                for _ in values {
                    self.numbers.changed += u64::from(replies.next_integer()? == 0);
                }
                Ok(self.next_batch())
            }
        }
    }

    /// Counts a value. Returns it if it is to be written in another form.
    fn read_value(
        &mut self,
        key: Stored,
        stored: Result<Option<Vec<u8>>, Error>,
        ttl: Option<Ttl>,
    ) -> Result<Option<Outdated>, Error> {
        let stored = match stored {
            // Something else has been written there meanwhile.
            Err(error) if error.is_wrong_type() => None,
            stored => stored?,
        };
        // Without a value or a TTL, the key no longer exists.
        let Some((stored, ttl)) = stored.zip(ttl) else {
            return Ok(None);
        };
        let keyring = &self.layout.keyring;
        let form = keyring.form_of(&stored);
        let canonical = key.canonical.as_bytes();
        self.numbers.keys += 1;
        self.numbers.plain += u64::from(form == Form::Plain);
        let Ok(value) = keyring.open(|| canonical, self.now_ms, stored.clone()) else {
            self.numbers.unopened += 1;
            return Ok(None);
        };
        if !keyring.is_outdated(form) || etf::check(&value).is_err() {
            return Ok(None);
        }
        self.numbers.resealed += 1;
        Ok(Some(Outdated {
            expires_ms: match form {
                Form::Plain => ttl.expires_ms(self.now_ms),
                Form::Sealed { expires_ms, .. } => expires_ms,
            },
            key,
            stored,
            value,
        }))
    }

    fn after_read(&mut self, outdated: Vec<Outdated>) -> Step {
        if outdated.is_empty() || self.mode == ReindexMode::DryRun {
            return self.next_batch();
        }
        self.stage = ResealStage::Write(outdated);
        Step::Again
    }

    /// Takes the keys of the next round. Without any, the page is done.
    fn next_batch(&mut self) -> Step {
        let batch: Vec<_> = self
            .waiting
            .drain(..BATCH.min(self.waiting.len()))
            .collect();
        if batch.is_empty() {
            return Step::Done(self.outcome());
        }
        self.stage = ResealStage::Read(batch);
        Step::Again
    }

    fn outcome(&self) -> Outcome {
        let scanned = self.scan.page();
        Outcome::Page(Page {
            next: scanned.next,
            fraction: scanned.fraction,
            slots: scanned.slots,
            ..self.numbers.clone()
        })
    }
}

impl Stored {
    /// Returns `None` for Redis keys that are not of the store.
    fn new(redis_key: Vec<u8>) -> Option<Self> {
        let canonical = Key::from_redis_key(&redis_key)?.redis_key();
        Some(Self {
            redis_key,
            canonical,
        })
    }
}

impl Outdated {
    fn write(&self, layout: &Layout, context: &mut WriteContext<'_>) {
        let canonical = self.key.canonical.as_bytes();
        let sealed = layout.keyring.seal(canonical, self.expires_ms, &self.value);
        let redis_key = &self.key.redis_key;
        context.commands.push_script(REPLACE, redis_key, |command| {
            command.arg(&self.stored).arg(&*sealed);
        });
    }
}
