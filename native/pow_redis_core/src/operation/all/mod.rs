//! Reading all records whose keys match a pattern.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::index_scan::IndexScan;
use super::keyspace_scan::KeyspaceScan;
use super::records::Records;
use super::{Outcome, Step, WriteContext};
use crate::error::{Error, ErrorKind};
use crate::etf;
use crate::keyspace::key::{DecodedKey, Key};
use crate::keyspace::layout::Layout;
use crate::keyspace::pattern::{Pattern, Shape};
use crate::keyspace::redis_key::RedisKey;
use crate::resp::replies::{MAX_RESULT_MEMORY, Replies};
use crate::seal::Unopened;

/// Reading this many values hardly delays other operations.
const SHORT: usize = 32;
/// What a record takes in addition to its key and value: a tuple, an element of a list, and a node here.
const RECORD_MEMORY: usize = 200;

/// Reads all records whose keys match a pattern. Each round reads a page of an index set, or of all keys
/// where no set lists all that match, and the values of the matches on the page before.
#[derive(Debug)]
pub struct All {
    pattern: Pattern,
    layout: Arc<Layout>,
    scan: Scan,
    /// What to report: no index set lists all keys that match.
    miss: Option<Shape>,
    /// The matches whose values the next round reads.
    matches: Vec<Match>,
    /// The records read so far, by the list of their parts.
    records: BTreeMap<Vec<u8>, Record>,
    invalid: usize,
    unopened: BTreeMap<Unopened, usize>,
    /// The time at which the round was written.
    now_ms: i64,
    /// What the records take, here and in the VM.
    memory: usize,
}

/// Where the keys are found.
#[derive(Debug)]
enum Scan {
    /// In index sets, legacy ones first: a key that a reindex renames meanwhile is then found under the
    /// canonical one.
    Index(Vec<IndexScan>),
    Keyspace(KeyspaceScan),
}

/// A key that matches. Its value is read next.
#[derive(Debug)]
struct Match {
    redis_key: Vec<u8>,
    /// The list of the key's parts after the namespace, in canonical form.
    parts_term: Vec<u8>,
    is_legacy: bool,
}

#[derive(Debug)]
struct Record {
    value: Vec<u8>,
    is_legacy: bool,
}

impl All {
    /// Reads the records whose keys match `pattern`.
    pub fn new(pattern: Pattern, layout: &Arc<Layout>) -> Self {
        let mut all = Self {
            pattern,
            layout: Arc::clone(layout),
            scan: Scan::Index(Vec::new()),
            miss: None,
            matches: Vec::new(),
            records: BTreeMap::new(),
            invalid: 0,
            unopened: BTreeMap::new(),
            now_ms: 0,
            memory: 0,
        };
        all.reset();
        if let Scan::Keyspace(_) = all.scan {
            all.miss = Some(all.pattern.shape());
        }
        all
    }

    /// Starts over: cursors are meaningless to another server.
    pub(super) fn reset(&mut self) {
        let prefix = self.pattern.prefix();
        let parts_term = prefix.parts_term();
        self.matches = if self.pattern.matches(&parts_term) {
            forms(prefix)
                .map(|(redis_key, is_legacy)| Match {
                    redis_key: redis_key.into_bytes(),
                    parts_term: parts_term.clone(),
                    is_legacy,
                })
                .collect()
        } else {
            Vec::new()
        };
        self.scan = self.first_scan();
        self.records.clear();
        self.invalid = 0;
        self.unopened.clear();
        self.memory = 0;
    }

    fn first_scan(&self) -> Scan {
        if self.pattern.is_exact() {
            return Scan::Index(Vec::new());
        }
        match self.layout.index.prefix_for(&self.pattern) {
            Some(prefix) => {
                let scans = forms(&prefix).map(|(redis_key, _)| IndexScan::new(redis_key));
                Scan::Index(scans.collect())
            }
            None => Scan::Keyspace(KeyspaceScan::new(
                self.pattern.glob(),
                self.layout.is_cluster,
            )),
        }
    }

    pub(super) fn byte_len(&self) -> usize {
        self.pattern.prefix().redis_key().as_bytes().len()
    }

    /// Whether the next round is long.
    pub(super) fn is_long(&self) -> bool {
        self.matches.len() > SHORT || self.scan.is_continuing()
    }

    /// Takes the shape of a pattern for which no index set lists all keys that match.
    pub(super) const fn take_miss(&mut self) -> Option<Shape> {
        self.miss.take()
    }

    pub(super) fn write(&mut self, context: &mut WriteContext<'_>) {
        self.now_ms = context.now_ms;
        for matched in &self.matches {
            context.commands.push("GET", &matched.redis_key, |_| ());
        }
        match &self.scan {
            Scan::Index(scans) => {
                for scan in scans.iter().take(self.parallel_scans()) {
                    scan.write(context);
                }
            }
            Scan::Keyspace(scan) => scan.write(context),
        }
    }

    /// How many index sets a round reads. The nodes of a cluster do not read theirs in order.
    fn parallel_scans(&self) -> usize {
        if self.layout.is_cluster {
            1
        } else {
            usize::MAX
        }
    }

    pub(super) fn read(&mut self, mut replies: Replies) -> Result<Step, Error> {
        for matched in std::mem::take(&mut self.matches) {
            let value = replies.next_bytes();
            self.read_value(matched, value)?;
        }
        let redis_keys = self.read_page(&mut replies)?;
        for redis_key in redis_keys {
            self.matches.extend(self.match_key(redis_key));
        }
        Ok(if self.matches.is_empty() && !self.scan.has_more() {
            Step::Done(self.outcome())
        } else {
            Step::Again
        })
    }

    fn read_page(&mut self, replies: &mut Replies) -> Result<Vec<Vec<u8>>, Error> {
        let parallel = self.parallel_scans();
        match &mut self.scan {
            Scan::Index(scans) => {
                let mut redis_keys = Vec::new();
                for scan in scans.iter_mut().take(parallel) {
                    redis_keys.extend(scan.read(replies, &self.pattern)?);
                }
                scans.retain(IndexScan::has_more);
                Ok(redis_keys)
            }
            Scan::Keyspace(scan) => scan.read(replies),
        }
    }

    fn match_key(&self, redis_key: Vec<u8>) -> Option<Match> {
        let key = DecodedKey::from_redis_key(&redis_key)?;
        self.pattern.matches(&key.parts_term).then_some(Match {
            redis_key,
            parts_term: key.parts_term,
            is_legacy: key.is_legacy,
        })
    }

    fn read_value(
        &mut self,
        matched: Match,
        value: Result<Option<Vec<u8>>, Error>,
    ) -> Result<(), Error> {
        match value {
            Ok(Some(stored)) => self.open(matched, stored)?,
            Ok(None) => self.matches.extend(matched.renamed()),
            Err(error) if error.is_wrong_type() => self.invalid += 1,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Opens the value of a record, and adds it.
    fn open(&mut self, matched: Match, stored: Vec<u8>) -> Result<(), Error> {
        let keyring = &self.layout.keyring;
        match keyring.open(|| matched.canonical(), self.now_ms, stored) {
            Ok(value) => match etf::measure(&value) {
                Ok(memory) => self.add(matched, value, memory)?,
                Err(_) => self.invalid += 1,
            },
            Err(reason) => *self.unopened.entry(reason).or_default() += 1,
        }
        Ok(())
    }

    /// Adds a record, whose value takes this much memory in the VM.
    fn add(&mut self, matched: Match, value: Vec<u8>, memory: usize) -> Result<(), Error> {
        let known = self.records.get(&matched.parts_term);
        if known.is_some_and(|known| !known.is_legacy) {
            return Ok(());
        }
        let key = &matched.parts_term;
        let key_memory = etf::term_memory(&mut etf::Cursor::new(key)).unwrap_or_default();
        self.memory += key.len() + value.len() + key_memory + memory + RECORD_MEMORY;
        if self.memory > MAX_RESULT_MEMORY {
            return Err(ErrorKind::ResultTooLarge.into());
        }
        let is_legacy = matched.is_legacy;
        self.records
            .insert(matched.parts_term, Record { value, is_legacy });
        Ok(())
    }

    fn outcome(&mut self) -> Outcome {
        let mut records = Records::default();
        for (parts_term, record) in std::mem::take(&mut self.records) {
            records.push(&parts_term, record.value);
        }
        Outcome::Records {
            records,
            invalid: self.invalid,
            unopened: std::mem::take(&mut self.unopened),
        }
    }
}

/// The legacy Redis key, if it differs, and the canonical one.
fn forms(key: &Key) -> impl Iterator<Item = (RedisKey, bool)> {
    let legacy = key.legacy_redis_key().map(|redis_key| (redis_key, true));
    legacy.into_iter().chain([(key.redis_key(), false)])
}

impl Scan {
    fn has_more(&self) -> bool {
        match self {
            Self::Index(scans) => !scans.is_empty(),
            Self::Keyspace(scan) => scan.has_more(),
        }
    }

    /// Whether there is another page after the first.
    fn is_continuing(&self) -> bool {
        match self {
            Self::Index(scans) => scans.iter().any(IndexScan::is_continuing),
            Self::Keyspace(scan) => scan.is_continuing(),
        }
    }
}

impl Match {
    /// The canonical Redis key.
    fn canonical(&self) -> Cow<'_, [u8]> {
        self.canonical_of_legacy()
            .map_or(Cow::Borrowed(&self.redis_key), Cow::Owned)
    }

    /// The canonical Redis key, if this one is legacy.
    fn canonical_of_legacy(&self) -> Option<Vec<u8>> {
        let key = self.is_legacy.then(|| Key::from_redis_key(&self.redis_key));
        key.flatten().map(|key| key.redis_key().into_bytes())
    }

    /// The canonical key of a legacy one, which a reindex may just have renamed.
    fn renamed(&self) -> Option<Self> {
        Some(Self {
            redis_key: self.canonical_of_legacy()?,
            parts_term: self.parts_term.clone(),
            is_legacy: false,
        })
    }
}
