//! Tests of reading all records that match.

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
    let Outcome::Records {
        records, invalid, ..
    } = outcome
    else {
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

#[test]
fn opens_sealed_values_and_counts_those_that_do_not_open() {
    let mut driver = all(&[ATOM_A, ANY], &sealed());
    let redis_keys = [
        format!("{N}:{A}:{ONE}"),
        format!("{N}:{A}:{TWO}"),
        format!("{N}:{LEGACY_A}:{TWO}"),
        format!("{N}:{A}:g2ED"),
        format!("{N}:{LEGACY_A}:g2EE"),
    ];
    driver.write();
    driver.again(vec![page(0, &redis_keys.each_ref().map(String::as_str))]);
    driver.write();
    let outcome = driver.done(vec![
        bulk(sealed_value(&[ATOM_A, INT_1], NOW_MS)),
        // Moved.
        bulk(sealed_value(&[ATOM_A, INT_1], NOW_MS)),
        // Under a legacy key.
        bulk(sealed_value(&[ATOM_A, INT_2], NOW_MS)),
        // Cut.
        bulk([0xAE]),
        // Expired.
        bulk(sealed_value(&[ATOM_A, &[97, 4]], 0)),
    ]);
    let Outcome::Records { unopened, .. } = &outcome else {
        panic!("{outcome:?}");
    };
    let expected = [(Unopened::Tampered, 2), (Unopened::Expired, 1)];
    assert_eq!(*unopened, BTreeMap::from(expected));
    let (records, invalid) = records(outcome);
    let expected = [INT_1, INT_2].map(|part| record(&[ATOM_A, part], VALUE));
    assert_eq!((records, invalid), (expected.to_vec(), 0));
}
