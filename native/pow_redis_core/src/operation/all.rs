//! Reading all records whose keys match a pattern.

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

    pub(super) fn write(&self, context: &mut WriteContext<'_>) {
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
            Ok(Some(value)) => match etf::measure(&value) {
                Ok(memory) => self.add(matched, value, memory)?,
                Err(_) => self.invalid += 1,
            },
            Ok(None) => self.matches.extend(matched.renamed()),
            Err(error) if error.is_wrong_type() => self.invalid += 1,
            Err(error) => return Err(error),
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
    /// The canonical key of a legacy one, which a reindex may just have renamed.
    fn renamed(&self) -> Option<Self> {
        let key = Key::from_redis_key(&self.redis_key).filter(|_| self.is_legacy)?;
        Some(Self {
            redis_key: key.redis_key().into_bytes(),
            parts_term: self.parts_term.clone(),
            is_legacy: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Operation;
    use super::super::testing::*;
    use super::*;
    use crate::keyspace::index::Index;
    use redis::Value;
    use std::time::Duration;

    const OTHER: &[u8] = &[131, 97, 8];

    fn all(parts: &[&[u8]], layout: &Arc<Layout>) -> Driver {
        Driver::new(Operation::All(Box::new(All::new(pattern(parts), layout))))
    }

    fn indexed(parts: &[&[u8]]) -> Driver {
        all(parts, &every_prefix())
    }

    /// The key without the namespace, and the value.
    type KeyValue = (Key, Vec<u8>);

    /// The records, sorted by their Redis keys, and the number of invalid values.
    fn records(outcome: Outcome) -> (Vec<KeyValue>, usize) {
        let Outcome::Records { records, invalid } = outcome else {
            panic!("{outcome:?}");
        };
        let mut records: Vec<_> = records
            .iter()
            .map(|(key, value)| (Key::from_external(key).unwrap(), value.to_vec()))
            .collect();
        records.sort_by_key(|(key, _)| key.redis_key().as_bytes().to_vec());
        (records, invalid)
    }

    /// A record as returned: the key has no namespace.
    fn record(parts: &[&[u8]], value: &[u8]) -> KeyValue {
        let count = u32::try_from(parts.len()).unwrap().to_be_bytes();
        let list = [&[131, 108], &count[..], &parts.concat(), &[106]].concat();
        (Key::from_external(&list).unwrap(), value.to_vec())
    }

    #[test]
    fn an_exact_pattern_reads_only_its_key() {
        for layout in [every_prefix(), no_index()] {
            let mut driver = all(&[ATOM_A, INT_1], &layout);
            assert_eq!(
                driver.write(),
                [
                    format!("GET {N}:{LEGACY_A}:{ONE}"),
                    format!("GET {N}:{A}:{ONE}")
                ]
            );
            let outcome = driver.done(vec![bulk(OTHER), bulk(VALUE)]);
            let (records, invalid) = records(outcome);
            assert_eq!(records, [record(&[ATOM_A, INT_1], VALUE)]);
            assert!(invalid == 0);
        }
    }

    #[test]
    fn finds_a_key_that_is_renamed_before_it_is_read() {
        let mut driver = indexed(&[ATOM_A, ANY]);
        driver.again(vec![page(0, &[ONE, "5"]), page(0, &[])]);
        assert_eq!(driver.write(), [format!("GET {N}:{LEGACY_A}:{ONE}")]);
        driver.again(vec![Value::Nil]);
        assert_eq!(driver.write(), [format!("GET {N}:{A}:{ONE}")]);
        let (records, _) = records(driver.done(vec![bulk(VALUE)]));
        assert_eq!(records, [record(&[ATOM_A, INT_1], VALUE)]);
    }

    #[test]
    fn an_exact_pattern_without_atoms_has_no_legacy_key() {
        let mut driver = indexed(&[INT_1]);
        assert_eq!(driver.write(), [format!("GET {N}:{ONE}")]);
        let (records, invalid) = records(driver.done(vec![Value::Nil]));
        assert!(records.is_empty() && invalid == 0);
    }

    #[test]
    fn reads_values_together_with_the_next_page() {
        let mut driver = indexed(&[ANY]);
        let scan = |cursor| format!("ZSCAN _index:{N} {cursor} COUNT 500");
        assert_eq!(driver.write(), [scan(0)]);
        // Members of two parts do not match.
        let two_parts = format!("{ONE}:{TWO}");
        driver.again(vec![page(17, &[ONE, "5", &two_parts, "6"])]);

        let second = [format!("GET {N}:{ONE}"), scan(17)];
        assert_eq!(driver.write(), second);
        assert_eq!(driver.write(), second, "written again");
        driver.again(vec![bulk(VALUE), page(0, &[TWO, "6", "no key", "7"])]);

        assert_eq!(driver.write(), [format!("GET {N}:{TWO}")]);
        let (records, invalid) = records(driver.done(vec![bulk(OTHER)]));
        let both = [record(&[INT_1], VALUE), record(&[INT_2], OTHER)];
        assert_eq!(records, both);
        assert!(invalid == 0);
    }

    #[test]
    fn the_page_size_follows_the_round_trip_time() {
        for (round_trip_us, count) in [(0, 64), (60, 64), (400, 200), (1_000, 500), (90_000, 512)] {
            let mut driver = indexed(&[ANY]);
            driver.round_trip = Duration::from_micros(round_trip_us);
            assert_eq!(
                driver.write(),
                [format!("ZSCAN _index:{N} 0 COUNT {count}")]
            );
        }
    }

    #[test]
    fn a_prefix_with_atoms_is_scanned_in_both_forms() {
        let mut driver = indexed(&[ATOM_A, ANY]);
        let scan = |atom: &str| format!("ZSCAN _index:{N}:{atom} 0 COUNT 500");
        assert_eq!(driver.write(), [scan(LEGACY_A), scan(A)]);
        driver.again(vec![page(3, &[ONE, "5", TWO, "5"]), page(0, &[ONE, "5"])]);
        assert_eq!(
            driver.write(),
            [
                format!("GET {N}:{LEGACY_A}:{ONE}"),
                format!("GET {N}:{LEGACY_A}:{TWO}"),
                format!("GET {N}:{A}:{ONE}"),
                format!("ZSCAN _index:{N}:{LEGACY_A} 3 COUNT 500"),
            ]
        );
        let values = [bulk(OTHER), bulk(OTHER), bulk(VALUE)];
        let outcome = driver.done([&values[..], &[page(0, &[])]].concat());
        let canonical = record(&[ATOM_A, INT_1], VALUE);
        let legacy = record(&[ATOM_A, INT_2], OTHER);
        assert_eq!(records(outcome).0, [canonical, legacy]);
    }

    /// If the atom is not part of the prefix, both forms of a key are in the same index set.
    #[test]
    fn the_canonical_key_overrides_the_legacy_one_in_any_order() {
        for layout in [every_prefix(), no_index()] {
            for canonical_first in [true, false] {
                let forms = if canonical_first {
                    [A, LEGACY_A]
                } else {
                    [LEGACY_A, A]
                };
                let redis_keys = forms.map(|form| format!("{N}:{form}"));
                let items: Vec<&str> = if layout.index.is_empty() {
                    redis_keys.iter().map(String::as_str).collect()
                } else {
                    vec![forms[0], "5", forms[1], "5"]
                };
                let mut driver = all(&[ANY], &layout);
                driver.again(vec![page(0, &items)]);
                assert_eq!(
                    driver.write(),
                    redis_keys.map(|redis_key| format!("GET {redis_key}"))
                );
                let values = if canonical_first {
                    [bulk(VALUE), bulk(OTHER)]
                } else {
                    [bulk(OTHER), bulk(VALUE)]
                };
                let (records, _) = records(driver.done(values.to_vec()));
                let expected = [record(&[ATOM_A], VALUE)];
                assert_eq!(records, expected, "{canonical_first}");
            }
        }
    }

    #[test]
    fn the_plain_layout_scans_all_keys() {
        let mut driver = all(&[INT_1, ANY], &no_index());
        let scan = |cursor| format!("SCAN {cursor} MATCH {N}:{ONE}:* COUNT 512 TYPE string");
        assert_eq!(driver.write(), [scan(0)]);
        let redis_key = format!("{N}:{ONE}:{TWO}");
        let longer = format!("{redis_key}:{TWO}");
        driver.again(vec![page(9, &[&redis_key, &longer])]);
        assert_eq!(driver.write(), [format!("GET {redis_key}"), scan(9)]);
        // A key may be deleted after it was listed.
        driver.again(vec![Value::Nil, page(0, &[&redis_key])]);
        let (records, invalid) = records(driver.done(vec![bulk(VALUE)]));
        assert_eq!(records, [record(&[INT_1, INT_2], VALUE)]);
        assert!(invalid == 0);
    }

    #[test]
    fn ignores_members_without_a_value() {
        let mut driver = indexed(&[ANY]);
        driver.again(vec![page(0, &[ONE, "5", TWO, "inf"])]);
        let (records, invalid) = records(driver.done(vec![Value::Nil, bulk(VALUE)]));
        assert_eq!(records, [record(&[INT_2], VALUE)]);
        assert_eq!(invalid, 0);
    }

    #[test]
    fn reads_the_nodes_of_a_cluster_one_after_the_other() {
        let layout = Arc::new(Layout::cluster(Index::EveryPrefix));
        let mut driver = all(&[ATOM_A, ANY], &layout);
        let scan = |atom: &str| format!("ZSCAN _index:{N}:{atom} 0 COUNT 500");
        assert_eq!(driver.write(), [scan(LEGACY_A)]);
        driver.again(vec![page(0, &[])]);
        assert_eq!(driver.write(), [scan(A)]);
        driver.again(vec![page(0, &[ONE, "5"])]);
        let (records, _) = records(driver.done(vec![bulk(VALUE)]));
        assert_eq!(records, [record(&[ATOM_A, INT_1], VALUE)]);
    }

    #[test]
    fn reads_the_smallest_set_that_lists_all_matches() {
        let index = Index::Patterns(vec![index_pattern(&[ANY, ATOM_A, ANY])]);
        let layout = Arc::new(Layout::standalone(index));
        let mut driver = all(&[INT_1, ATOM_A, ANY], &layout);
        assert_eq!(
            driver.write(),
            [
                format!("ZSCAN _index:{N}:{ONE}:{LEGACY_A} 0 COUNT 500"),
                format!("ZSCAN _index:{N}:{ONE}:{A} 0 COUNT 500"),
            ]
        );
        assert_eq!(driver.operation.take_index_miss(), None);
    }

    #[test]
    fn scans_all_keys_and_says_so_if_no_set_lists_all_matches() {
        let index = Index::Patterns(vec![index_pattern(&[ANY, ATOM_A, ANY])]);
        let layout = Arc::new(Layout::standalone(index));
        let mut driver = all(&[INT_1, ANY], &layout);
        let scan = format!("SCAN 0 MATCH {N}:{ONE}:* COUNT 512 TYPE string");
        assert_eq!(driver.write(), [scan]);
        let shape = driver.operation.take_index_miss().unwrap();
        assert!(shape.can_be_indexed);
        assert_eq!(driver.operation.take_index_miss(), None, "once");
        let mut exact = all(&[INT_1], &layout);
        assert_eq!(
            exact.operation.take_index_miss(),
            None,
            "a key needs no set"
        );
    }

    #[test]
    fn counts_and_ignores_invalid_values() {
        let mut driver = indexed(&[ANY]);
        driver.again(vec![page(0, &[ONE, "5", TWO, "6", A, "7"])]);
        let wrong_type = error("WRONGTYPE Operation against a key");
        let outcome = driver.done(vec![bulk(FUNCTION), wrong_type, bulk(VALUE)]);
        let (records, invalid) = records(outcome);
        assert_eq!(records, [record(&[ATOM_A], VALUE)]);
        assert!(invalid == 2);
    }

    /// A binary of this length as a value.
    fn binary(length: usize) -> Value {
        let size = u32::try_from(length).unwrap().to_be_bytes();
        bulk([&[131, 109], &size[..], &vec![0; length]].concat())
    }

    #[test]
    fn fails_if_the_records_take_too_much_memory() {
        // Counted twice: as bytes here, and in the VM.
        const LENGTH: usize = 60_000_000;
        let fits = MAX_RESULT_MEMORY / (2 * LENGTH);
        for (values, fails) in [(fits, false), (fits + 1, true)] {
            let mut driver = indexed(&[ANY]);
            let redis_parts = [ONE, TWO, A, N, "g2ED"];
            let items: Vec<_> = redis_parts[..values]
                .iter()
                .flat_map(|part| [*part, "5"])
                .collect();
            driver.again(vec![page(0, &items)]);
            let outcome = driver.read(vec![binary(LENGTH); values]);
            assert_eq!(outcome.is_err(), fails, "{values}");
            if let Err(error) = outcome {
                assert_eq!(error, ErrorKind::ResultTooLarge.into());
                assert!(error.keeps_connection() && !error.is_retryable());
            }
        }
    }

    #[test]
    fn starts_over_on_another_connection() {
        let mut driver = indexed(&[ANY]);
        let first = driver.write();
        driver.again(vec![page(17, &[ONE, "5", TWO, "5", A, "5"])]);
        // One record, one entry without a value, one invalid value, and one match to be read.
        let values = [bulk(VALUE), Value::Nil, bulk(FUNCTION)];
        driver.again([&values[..], &[page(18, &[ONE, "5"])]].concat());
        driver.operation.reset();
        assert_eq!(driver.write(), first);
        let (records, invalid) = records(driver.done(vec![page(0, &[])]));
        assert!(records.is_empty() && invalid == 0);
    }

    #[test]
    fn fails_on_other_replies() {
        for (reply, message) in [
            (error("WRONGTYPE not a set"), "redis returned WRONGTYPE"),
            (error("NOPERM no permission"), "redis returned NOPERM"),
            (Value::Nil, "unexpected reply"),
            (
                Value::Array(vec![bulk("x"), Value::Array(vec![])]),
                "unexpected reply",
            ),
            (
                Value::Array(vec![bulk("0"), Value::Array(vec![Value::Nil])]),
                "unexpected reply",
            ),
        ] {
            assert_eq!(indexed(&[ANY]).fails_with(vec![reply]), message);
        }
        let mut exact = indexed(&[INT_1]);
        assert_eq!(
            exact.fails_with(vec![error("OOM no")]),
            "redis returned OOM"
        );
    }
}
