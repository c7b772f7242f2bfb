//! All records whose keys match a pattern.

use std::collections::BTreeMap;

use super::key_scan::{KeyScan, Listing, Match};
use super::repair::StaleEntry;
use super::{Outcome, Repair, Step, WriteContext};
use crate::error::{Error, ErrorKind};
use crate::etf;
use crate::keyspace::layout::Layout;
use crate::keyspace::pattern::Pattern;
use crate::operation::records::Records;
use crate::resp::replies::Replies;

/// As many values as are read without others noticing.
const FEW: usize = 32;

/// Reads the records that match: pages of the index (or of all keys, in the plain layout), and the
/// values of what matched on the page before, in the same round.
#[derive(Debug)]
pub struct All {
    pattern: Pattern,
    layout: Layout,
    scans: Vec<KeyScan>,
    /// What matched and is to be read in the next round.
    matches: Vec<Match>,
    /// The records found, by the canonical term of their key's parts.
    found: BTreeMap<Vec<u8>, Found>,
    stale: Vec<StaleEntry>,
    invalid: usize,
}

#[derive(Debug)]
struct Found {
    value: Vec<u8>,
    legacy: bool,
}

impl All {
    /// Reads the records that match `pattern`.
    pub fn new(pattern: Pattern, layout: Layout) -> Self {
        let mut all = Self {
            pattern,
            layout,
            scans: Vec::new(),
            matches: Vec::new(),
            found: BTreeMap::new(),
            stale: Vec::new(),
            invalid: 0,
        };
        all.reset();
        all
    }

    /// Cursors mean nothing to another server.
    pub(super) fn reset(&mut self) {
        let prefix = self.pattern.prefix();
        // The old form first: what is renamed between the two is found in the second.
        let redis_keys = [
            prefix.legacy_redis_key().map(|redis_key| (redis_key, true)),
            Some((prefix.redis_key(), false)),
        ];
        let redis_keys = || redis_keys.iter().flatten();
        let parts = prefix.parts_term();
        self.matches = if self.pattern.matches(&parts) {
            redis_keys()
                .map(|(redis_key, legacy)| Match {
                    redis_key: redis_key.as_bytes().to_vec(),
                    key: parts.clone(),
                    legacy: *legacy,
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
                vec![KeyScan::new(Listing::Scan { glob })]
            }
            Layout::Indexed => redis_keys()
                .map(|(redis_key, _)| {
                    let set = redis_key.index_set().into();
                    let prefix = redis_key.clone();
                    KeyScan::new(Listing::Index { set, prefix })
                })
                .collect(),
        };
        self.found.clear();
        self.stale.clear();
        self.invalid = 0;
    }

    /// Whether its next round is long.
    pub(super) fn is_long(&self) -> bool {
        self.matches.len() > FEW || self.scans.iter().any(KeyScan::is_continuing)
    }

    pub(super) fn write(&self, context: &mut WriteContext<'_>) {
        for found in &self.matches {
            context.commands.push("GET", &found.redis_key, |_| ());
        }
        for scan in &self.scans {
            scan.write(context);
        }
    }

    pub(super) fn read(&mut self, mut replies: Replies) -> Result<Step, Error> {
        for found in std::mem::take(&mut self.matches) {
            let value = replies.next_bytes();
            self.take_value(found, value)?;
        }
        for scan in self.scans.iter_mut().filter(|scan| scan.has_more()) {
            let matches = scan.read(&mut replies, &self.pattern)?;
            self.matches.extend(matches);
        }
        let finished = self.matches.is_empty() && !self.scans.iter().any(KeyScan::has_more);
        Ok(if finished {
            Step::Done(self.outcome())
        } else {
            Step::Again
        })
    }

    fn take_value(
        &mut self,
        found: Match,
        value: Result<Option<Vec<u8>>, Error>,
    ) -> Result<(), Error> {
        match value {
            Ok(Some(value)) if etf::check(&value).is_ok() => {
                let known = self.found.get(&found.key);
                if known.is_none_or(|known| known.legacy) {
                    let legacy = found.legacy;
                    self.found.insert(found.key, Found { value, legacy });
                }
            }
            Ok(Some(_)) => self.invalid += 1,
            Ok(None) => {
                self.matches.extend(found.renamed());
                self.stale.extend(found.stale());
            }
            // Something of another kind lies there: it is no record.
            Err(error) if is_wrong_type(&error) => self.invalid += 1,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn outcome(&mut self) -> Outcome {
        let mut records = Records::default();
        for (key, found) in std::mem::take(&mut self.found) {
            records.push(&key, found.value);
        }
        Outcome::Records {
            records,
            invalid: self.invalid,
            repair: Repair::new(std::mem::take(&mut self.stale)),
        }
    }
}

fn is_wrong_type(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Server(code) if code.as_str() == "WRONGTYPE")
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

    fn all(parts: &[&[u8]], layout: Layout) -> Script {
        Script::new(Operation::All(Box::new(All::new(pattern(parts), layout))))
    }

    fn indexed(parts: &[&[u8]]) -> Script {
        all(parts, Layout::Indexed)
    }

    /// A key without the namespace, and its value.
    type Record = (Key, Vec<u8>);

    /// Records in the order of their redis_keys, how many were invalid, and the repair.
    fn records(outcome: Outcome) -> (Vec<Record>, usize, Option<Repair>) {
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

    /// A record as it is answered: its key without the namespace.
    fn record(parts: &[&[u8]], value: &[u8]) -> Record {
        let number = u32::try_from(parts.len()).unwrap().to_be_bytes();
        let list = [&[131, 108], &number[..], &parts.concat(), &[106]].concat();
        (Key::from_external(&list).unwrap(), value.to_vec())
    }

    #[test]
    fn an_exact_pattern_reads_the_key_alone() {
        for layout in [Layout::Indexed, Layout::Plain] {
            let mut script = all(&[ATOM_A, INT_1], layout);
            assert_eq!(
                script.write(),
                [
                    format!("GET {N}:{OLD_A}:{ONE}"),
                    format!("GET {N}:{A}:{ONE}")
                ]
            );
            let outcome = script.done(vec![bulk(OTHER), bulk(VALUE)]);
            let (records, invalid, repair) = records(outcome);
            assert_eq!(records, [record(&[ATOM_A, INT_1], VALUE)]);
            assert!(invalid == 0 && repair.is_none());
        }
    }

    #[test]
    fn a_key_that_is_renamed_while_it_is_read_is_found() {
        let mut script = indexed(&[ATOM_A, ANY]);
        script.again(vec![page(0, &[ONE, "5"]), page(0, &[])]);
        assert_eq!(script.write(), [format!("GET {N}:{OLD_A}:{ONE}")]);
        script.again(vec![Value::Nil]);
        assert_eq!(script.write(), [format!("GET {N}:{A}:{ONE}")]);
        let (records, _, _) = records(script.done(vec![bulk(VALUE)]));
        assert_eq!(records, [record(&[ATOM_A, INT_1], VALUE)]);
    }

    #[test]
    fn an_exact_pattern_without_atoms_has_one_form() {
        let mut script = indexed(&[INT_1]);
        assert_eq!(script.write(), [format!("GET {N}:{ONE}")]);
        let (records, invalid, repair) = records(script.done(vec![Value::Nil]));
        assert!(records.is_empty() && invalid == 0 && repair.is_none());
    }

    #[test]
    fn values_are_read_with_the_next_page() {
        let mut script = indexed(&[ANY]);
        let scan = |cursor| format!("ZSCAN _index:{N} {cursor} COUNT 500");
        assert_eq!(script.write(), [scan(0)]);
        // Members of two parts do not match.
        let two_parts = format!("{ONE}:{TWO}");
        script.again(vec![page(17, &[ONE, "5", &two_parts, "6"])]);

        let second = [format!("GET {N}:{ONE}"), scan(17)];
        assert_eq!(script.write(), second);
        assert_eq!(script.write(), second, "written again");
        script.again(vec![bulk(VALUE), page(0, &[TWO, "6", "no redis_key", "7"])]);

        assert_eq!(script.write(), [format!("GET {N}:{TWO}")]);
        let (records, invalid, repair) = records(script.done(vec![bulk(OTHER)]));
        let both = [record(&[INT_1], VALUE), record(&[INT_2], OTHER)];
        assert_eq!(records, both);
        assert!(invalid == 0 && repair.is_none());
    }

    #[test]
    fn a_page_takes_as_long_as_the_way() {
        for (round_trip_us, page) in [(0, 64), (60, 64), (400, 200), (1_000, 500), (90_000, 512)] {
            let mut script = indexed(&[ANY]);
            script.round_trip = Duration::from_micros(round_trip_us);
            assert_eq!(script.write(), [format!("ZSCAN _index:{N} 0 COUNT {page}")]);
        }
    }

    #[test]
    fn a_prefix_with_atoms_is_listed_in_both_forms() {
        let mut script = indexed(&[ATOM_A, ANY]);
        let scan = |form: &str| format!("ZSCAN _index:{N}:{form} 0 COUNT 500");
        assert_eq!(script.write(), [scan(OLD_A), scan(A)]);
        script.again(vec![page(3, &[ONE, "5", TWO, "5"]), page(0, &[ONE, "5"])]);
        assert_eq!(
            script.write(),
            [
                format!("GET {N}:{OLD_A}:{ONE}"),
                format!("GET {N}:{OLD_A}:{TWO}"),
                format!("GET {N}:{A}:{ONE}"),
                format!("ZSCAN _index:{N}:{OLD_A} 3 COUNT 500"),
            ]
        );
        let values = [bulk(OTHER), bulk(OTHER), bulk(VALUE)];
        let outcome = script.done([&values[..], &[page(0, &[])]].concat());
        let canonical = record(&[ATOM_A, INT_1], VALUE);
        let legacy = record(&[ATOM_A, INT_2], OTHER);
        assert_eq!(records(outcome).0, [canonical, legacy]);
    }

    /// Both forms of a key stand in one list where the atom is behind the prefix.
    #[test]
    fn the_canonical_form_wins_whichever_comes_first() {
        for layout in [Layout::Indexed, Layout::Plain] {
            for canonical_first in [true, false] {
                let forms = if canonical_first {
                    [A, OLD_A]
                } else {
                    [OLD_A, A]
                };
                let redis_keys = forms.map(|form| format!("{N}:{form}"));
                let items: Vec<&str> = match layout {
                    Layout::Indexed => vec![forms[0], "5", forms[1], "5"],
                    Layout::Plain => redis_keys.iter().map(String::as_str).collect(),
                };
                let mut script = all(&[ANY], layout);
                script.again(vec![page(0, &items)]);
                assert_eq!(
                    script.write(),
                    redis_keys.map(|redis_key| format!("GET {redis_key}"))
                );
                let values = if canonical_first {
                    [bulk(VALUE), bulk(OTHER)]
                } else {
                    [bulk(OTHER), bulk(VALUE)]
                };
                let (records, ..) = records(script.done(values.to_vec()));
                let expected = [record(&[ATOM_A], VALUE)];
                assert_eq!(records, expected, "{layout:?} {canonical_first}");
            }
        }
    }

    #[test]
    fn the_plain_layout_scans_all_keys() {
        let mut script = all(&[INT_1, ANY], Layout::Plain);
        let scan = |cursor| format!("SCAN {cursor} MATCH {N}:{ONE}:* COUNT 512 TYPE string");
        assert_eq!(script.write(), [scan(0)]);
        let redis_key = format!("{N}:{ONE}:{TWO}");
        let longer = format!("{redis_key}:{TWO}");
        script.again(vec![page(9, &[&redis_key, &longer])]);
        assert_eq!(script.write(), [format!("GET {redis_key}"), scan(9)]);
        // A key that vanished after it was listed is no error, and stands in no index.
        script.again(vec![Value::Nil, page(0, &[&redis_key])]);
        let (records, invalid, repair) = records(script.done(vec![bulk(VALUE)]));
        assert_eq!(records, [record(&[INT_1, INT_2], VALUE)]);
        assert!(invalid == 0 && repair.is_none());
    }

    #[test]
    fn members_without_a_value_are_for_the_repair() {
        let mut script = indexed(&[ANY]);
        script.again(vec![page(0, &[ONE, "5", TWO, "inf"])]);
        let (records, invalid, repair) = records(script.done(vec![Value::Nil, bulk(VALUE)]));
        assert_eq!(records, [record(&[INT_2], VALUE)]);
        assert_eq!(invalid, 0);
        let mut repair = Script::new(Operation::Repair(repair.unwrap()));
        let look = [
            format!("ZSCORE _index:{N} {ONE}"),
            format!("EXISTS {N}:{ONE}"),
        ];
        assert_eq!(repair.write(), look);
    }

    #[test]
    fn what_is_no_record_is_counted_and_left_out() {
        let mut script = indexed(&[ANY]);
        script.again(vec![page(0, &[ONE, "5", TWO, "6", A, "7"])]);
        let wrong_type = error("WRONGTYPE Operation against a key");
        let outcome = script.done(vec![bulk(FUNCTION), wrong_type, bulk(VALUE)]);
        let (records, invalid, repair) = records(outcome);
        assert_eq!(records, [record(&[ATOM_A], VALUE)]);
        assert!(invalid == 2 && repair.is_none());
    }

    #[test]
    fn starts_again_on_another_connection() {
        let mut script = indexed(&[ANY]);
        let first = script.write();
        script.again(vec![page(17, &[ONE, "5", TWO, "5", A, "5"])]);
        // One found, one stale, one invalid, one that is to be read.
        let values = [bulk(VALUE), Value::Nil, bulk(FUNCTION)];
        script.again([&values[..], &[page(18, &[ONE, "5"])]].concat());
        script.operation.reset();
        assert_eq!(script.write(), first);
        let (records, invalid, repair) = records(script.done(vec![page(0, &[])]));
        assert!(records.is_empty() && invalid == 0 && repair.is_none());
    }

    #[test]
    fn other_replies_are_errors() {
        for (reply, message) in [
            (error("WRONGTYPE not a set"), "redis answered WRONGTYPE"),
            (error("NOPERM no permission"), "redis answered NOPERM"),
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
            assert_eq!(indexed(&[ANY]).refused(vec![reply]), message);
        }
        let mut exact = indexed(&[INT_1]);
        assert_eq!(exact.refused(vec![error("OOM no")]), "redis answered OOM");
    }
}
