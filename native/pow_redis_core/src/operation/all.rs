//! Reading all records whose keys match a pattern.

use std::collections::BTreeMap;

use super::key_scan::{KeyScan, Match, ScanTarget};
use super::records::Records;
use super::repair::StaleEntry;
use super::{Outcome, Repair, Step, WriteContext};
use crate::error::{Error, ErrorKind};
use crate::etf;
use crate::keyspace::layout::Layout;
use crate::keyspace::pattern::Pattern;
use crate::resp::replies::{MAX_RESULT_MEMORY, Replies};

/// Reading this many values hardly delays other operations.
const SHORT: usize = 32;
/// What a record takes in addition to its key and value: a tuple, an element of a list, and a node here.
const RECORD_MEMORY: usize = 200;

/// Reads all records whose keys match a pattern. Each round reads a page of the index (or of all keys, in
/// the plain layout), and the values of the matches on the page before.
#[derive(Debug)]
pub struct All {
    pattern: Pattern,
    layout: Layout,
    scans: Vec<KeyScan>,
    /// The matches whose values the next round reads.
    matches: Vec<Match>,
    /// The records read so far, by the list of their parts.
    records: BTreeMap<Vec<u8>, Record>,
    stale: Vec<StaleEntry>,
    invalid: usize,
    /// What the records take, here and in the VM.
    memory: usize,
}

#[derive(Debug)]
struct Record {
    value: Vec<u8>,
    is_legacy: bool,
}

impl All {
    /// Reads the records whose keys match `pattern`.
    pub fn new(pattern: Pattern, layout: Layout) -> Self {
        let mut all = Self {
            pattern,
            layout,
            scans: Vec::new(),
            matches: Vec::new(),
            records: BTreeMap::new(),
            stale: Vec::new(),
            invalid: 0,
            memory: 0,
        };
        all.reset();
        all
    }

    /// Starts over: cursors are meaningless to another server.
    pub(super) fn reset(&mut self) {
        let prefix = self.pattern.prefix();
        // The legacy prefix first: a key that is renamed meanwhile is then found under the canonical one.
        let redis_keys = [
            prefix.legacy_redis_key().map(|redis_key| (redis_key, true)),
            Some((prefix.redis_key(), false)),
        ];
        let redis_keys = || redis_keys.iter().flatten();
        let parts_term = prefix.parts_term();
        self.matches = if self.pattern.matches(&parts_term) {
            redis_keys()
                .map(|(redis_key, is_legacy)| Match {
                    redis_key: redis_key.as_bytes().to_vec(),
                    parts_term: parts_term.clone(),
                    is_legacy: *is_legacy,
                    index_entry: None,
                })
                .collect()
        } else {
            Vec::new()
        };
        self.scans = match self.layout {
            _ if self.pattern.is_exact() => Vec::new(),
            Layout::Plain => {
                let glob = self.pattern.glob();
                vec![KeyScan::new(ScanTarget::AllKeys { glob })]
            }
            Layout::Indexed => redis_keys()
                .map(|(redis_key, _)| {
                    let set = redis_key.index_set().into();
                    let prefix = redis_key.clone();
                    KeyScan::new(ScanTarget::IndexSet { set, prefix })
                })
                .collect(),
        };
        self.records.clear();
        self.stale.clear();
        self.invalid = 0;
        self.memory = 0;
    }

    pub(super) fn byte_len(&self) -> usize {
        self.pattern.prefix().redis_key().as_bytes().len()
    }

    /// Whether the next round is long.
    pub(super) fn is_long(&self) -> bool {
        self.matches.len() > SHORT || self.scans.iter().any(KeyScan::is_continuing)
    }

    pub(super) fn write(&self, context: &mut WriteContext<'_>) {
        for matched in &self.matches {
            context.commands.push("GET", &matched.redis_key, |_| ());
        }
        for scan in &self.scans {
            scan.write(context);
        }
    }

    pub(super) fn read(&mut self, mut replies: Replies) -> Result<Step, Error> {
        for matched in std::mem::take(&mut self.matches) {
            let value = replies.next_bytes();
            self.read_value(matched, value)?;
        }
        for scan in self.scans.iter_mut().filter(|scan| scan.has_more()) {
            let matches = scan.read(&mut replies, &self.pattern)?;
            self.matches.extend(matches);
        }
        let is_done = self.matches.is_empty() && !self.scans.iter().any(KeyScan::has_more);
        Ok(if is_done {
            Step::Done(self.outcome())
        } else {
            Step::Again
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
            Ok(None) => {
                self.matches.extend(matched.renamed());
                self.stale.extend(matched.into_stale_entry());
            }
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
            repair: Repair::new(std::mem::take(&mut self.stale)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Operation;
    use super::super::testing::*;
    use super::*;
    use crate::keyspace::key::Key;
    use redis::Value;
    use std::time::Duration;

    const OTHER: &[u8] = &[131, 97, 8];

    fn all(parts: &[&[u8]], layout: Layout) -> Driver {
        Driver::new(Operation::All(Box::new(All::new(pattern(parts), layout))))
    }

    fn indexed(parts: &[&[u8]]) -> Driver {
        all(parts, Layout::Indexed)
    }

    /// The key without the namespace, and the value.
    type KeyValue = (Key, Vec<u8>);

    /// The records, sorted by their Redis keys, the number of invalid values, and the repair.
    fn records(outcome: Outcome) -> (Vec<KeyValue>, usize, Option<Repair>) {
        let Outcome::Records {
            records,
            invalid,
            repair,
        } = outcome
        else {
            panic!("{outcome:?}");
        };
        let mut records: Vec<_> = records
            .iter()
            .map(|(key, value)| (Key::from_external(key).unwrap(), value.to_vec()))
            .collect();
        records.sort_by_key(|(key, _)| key.redis_key().as_bytes().to_vec());
        (records, invalid, repair)
    }

    /// A record as returned: the key has no namespace.
    fn record(parts: &[&[u8]], value: &[u8]) -> KeyValue {
        let count = u32::try_from(parts.len()).unwrap().to_be_bytes();
        let list = [&[131, 108], &count[..], &parts.concat(), &[106]].concat();
        (Key::from_external(&list).unwrap(), value.to_vec())
    }

    #[test]
    fn an_exact_pattern_reads_only_its_key() {
        for layout in [Layout::Indexed, Layout::Plain] {
            let mut driver = all(&[ATOM_A, INT_1], layout);
            assert_eq!(
                driver.write(),
                [
                    format!("GET {N}:{LEGACY_A}:{ONE}"),
                    format!("GET {N}:{A}:{ONE}")
                ]
            );
            let outcome = driver.done(vec![bulk(OTHER), bulk(VALUE)]);
            let (records, invalid, repair) = records(outcome);
            assert_eq!(records, [record(&[ATOM_A, INT_1], VALUE)]);
            assert!(invalid == 0 && repair.is_none());
        }
    }

    #[test]
    fn finds_a_key_that_is_renamed_before_it_is_read() {
        let mut driver = indexed(&[ATOM_A, ANY]);
        driver.again(vec![page(0, &[ONE, "5"]), page(0, &[])]);
        assert_eq!(driver.write(), [format!("GET {N}:{LEGACY_A}:{ONE}")]);
        driver.again(vec![Value::Nil]);
        assert_eq!(driver.write(), [format!("GET {N}:{A}:{ONE}")]);
        let (records, _, _) = records(driver.done(vec![bulk(VALUE)]));
        assert_eq!(records, [record(&[ATOM_A, INT_1], VALUE)]);
    }

    #[test]
    fn an_exact_pattern_without_atoms_has_no_legacy_key() {
        let mut driver = indexed(&[INT_1]);
        assert_eq!(driver.write(), [format!("GET {N}:{ONE}")]);
        let (records, invalid, repair) = records(driver.done(vec![Value::Nil]));
        assert!(records.is_empty() && invalid == 0 && repair.is_none());
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
        let (records, invalid, repair) = records(driver.done(vec![bulk(OTHER)]));
        let both = [record(&[INT_1], VALUE), record(&[INT_2], OTHER)];
        assert_eq!(records, both);
        assert!(invalid == 0 && repair.is_none());
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
        for layout in [Layout::Indexed, Layout::Plain] {
            for canonical_first in [true, false] {
                let forms = if canonical_first {
                    [A, LEGACY_A]
                } else {
                    [LEGACY_A, A]
                };
                let redis_keys = forms.map(|form| format!("{N}:{form}"));
                let items: Vec<&str> = match layout {
                    Layout::Indexed => vec![forms[0], "5", forms[1], "5"],
                    Layout::Plain => redis_keys.iter().map(String::as_str).collect(),
                };
                let mut driver = all(&[ANY], layout);
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
                let (records, ..) = records(driver.done(values.to_vec()));
                let expected = [record(&[ATOM_A], VALUE)];
                assert_eq!(records, expected, "{layout:?} {canonical_first}");
            }
        }
    }

    #[test]
    fn the_plain_layout_scans_all_keys() {
        let mut driver = all(&[INT_1, ANY], Layout::Plain);
        let scan = |cursor| format!("SCAN {cursor} MATCH {N}:{ONE}:* COUNT 512 TYPE string");
        assert_eq!(driver.write(), [scan(0)]);
        let redis_key = format!("{N}:{ONE}:{TWO}");
        let longer = format!("{redis_key}:{TWO}");
        driver.again(vec![page(9, &[&redis_key, &longer])]);
        assert_eq!(driver.write(), [format!("GET {redis_key}"), scan(9)]);
        // A key may be deleted after it was listed.
        driver.again(vec![Value::Nil, page(0, &[&redis_key])]);
        let (records, invalid, repair) = records(driver.done(vec![bulk(VALUE)]));
        assert_eq!(records, [record(&[INT_1, INT_2], VALUE)]);
        assert!(invalid == 0 && repair.is_none());
    }

    #[test]
    fn hands_members_without_a_value_to_the_repair() {
        let mut driver = indexed(&[ANY]);
        driver.again(vec![page(0, &[ONE, "5", TWO, "inf"])]);
        let (records, invalid, repair) = records(driver.done(vec![Value::Nil, bulk(VALUE)]));
        assert_eq!(records, [record(&[INT_2], VALUE)]);
        assert_eq!(invalid, 0);
        let mut repair = Driver::new(Operation::Repair(repair.unwrap()));
        let check = [
            format!("ZSCORE _index:{N} {ONE}"),
            format!("EXISTS {N}:{ONE}"),
        ];
        assert_eq!(repair.write(), check);
    }

    #[test]
    fn counts_and_ignores_invalid_values() {
        let mut driver = indexed(&[ANY]);
        driver.again(vec![page(0, &[ONE, "5", TWO, "6", A, "7"])]);
        let wrong_type = error("WRONGTYPE Operation against a key");
        let outcome = driver.done(vec![bulk(FUNCTION), wrong_type, bulk(VALUE)]);
        let (records, invalid, repair) = records(outcome);
        assert_eq!(records, [record(&[ATOM_A], VALUE)]);
        assert!(invalid == 2 && repair.is_none());
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
        // One record, one stale entry, one invalid value, and one match to be read.
        let values = [bulk(VALUE), Value::Nil, bulk(FUNCTION)];
        driver.again([&values[..], &[page(18, &[ONE, "5"])]].concat());
        driver.operation.reset();
        assert_eq!(driver.write(), first);
        let (records, invalid, repair) = records(driver.done(vec![page(0, &[])]));
        assert!(records.is_empty() && invalid == 0 && repair.is_none());
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
