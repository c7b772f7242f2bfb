//! Tests of a reseal.

use super::super::Operation;
use super::super::testing::*;
use super::*;
use crate::keyspace::index::Index;
use crate::seal::testing::{keyring, sealing};
use crate::seal::{self, Keyring, PlainValues, WriteForm};
use redis::Value;

const LEFT_MS: i64 = 60_000;

fn layout(keyring: Keyring) -> Arc<Layout> {
    let layout = Layout::standalone(Index::Patterns(Vec::new()));
    Arc::new(layout.with_keyring(keyring))
}

fn reseal(layout: &Arc<Layout>, mode: ReindexMode) -> Driver {
    let reseal = Reseal::new(ScanPosition::default(), layout, mode);
    Driver::new(Operation::Reseal(reseal))
}

/// The replies to `GET` and `PTTL`.
fn stored(value: impl AsRef<[u8]>) -> [Value; 2] {
    [bulk(value), Value::Int(LEFT_MS)]
}

fn page_of(outcome: Outcome) -> Page {
    match outcome {
        Outcome::Page(page) => page,
        _ => panic!("{outcome:?}"),
    }
}

/// Reads a page with these Redis keys.
fn scanned(driver: &mut Driver, redis_keys: &[&str]) {
    assert_eq!(driver.write(), ["SCAN 0 COUNT 512 TYPE string"]);
    driver.again(vec![page(0, redis_keys)]);
}

/// What a reseal writes over a value of the key `1`.
fn replaced(layout: &Arc<Layout>, value: &[u8]) -> Vec<u8> {
    let redis_key = format!("{N}:{ONE}");
    let mut driver = reseal(layout, ReindexMode::Write);
    scanned(&mut driver, &[&redis_key]);
    let reads = [format!("GET {redis_key}"), format!("PTTL {redis_key}")];
    assert_eq!(driver.write(), reads);
    driver.again(stored(value).to_vec());
    let [command] = <[_; 1]>::try_from(driver.write_words()).unwrap();
    let [eval, script, keys, own, old, new] = <[_; 6]>::try_from(command).unwrap();
    assert_eq!(
        (eval.as_slice(), keys.as_slice()),
        (&b"EVAL"[..], &b"1"[..])
    );
    assert_eq!((script, own), (REPLACE.into(), redis_key.into_bytes()));
    assert_eq!(old, value);
    let page = page_of(driver.done(vec![Value::Int(1)]));
    assert_eq!(
        [page.keys, page.resealed, page.changed, page.unopened],
        [1, 1, 0, 0]
    );
    new
}

fn opened(layout: &Layout, stored: &[u8]) -> Vec<u8> {
    let redis_key = key(&[INT_1]).redis_key();
    let stored = stored.to_vec();
    layout
        .keyring
        .open(|| redis_key.as_bytes(), NOW_MS, stored)
        .unwrap()
}

fn expiry(layout: &Layout, stored: &[u8]) -> i64 {
    match layout.keyring.form_of(stored) {
        Form::Sealed {
            is_current: true,
            expires_ms,
        } => expires_ms,
        form => panic!("{form:?}"),
    }
}

#[test]
fn seals_plain_values_until_they_expire() {
    let sealed = replaced(&sealed(), VALUE);
    let keyring = layout(keyring(&["a"], WriteForm::Sealed, PlainValues::Refuse));
    assert_eq!(opened(&keyring, &sealed), VALUE);
    assert_eq!(expiry(&keyring, &sealed), NOW_MS + LEFT_MS);
}

#[test]
fn seals_with_the_first_key_and_keeps_the_expiry() {
    for expires_ms in [NOW_MS + 5, seal::NEVER] {
        let layout = layout(sealing(&["b", "a"]));
        let sealed = replaced(&layout, &sealed_value(&[INT_1], expires_ms));
        assert_eq!(opened(&layout, &sealed), VALUE);
        assert_eq!(expiry(&layout, &sealed), expires_ms);
    }
}

#[test]
fn unseals_values_if_plain_ones_are_written() {
    let layout = layout(keyring(&["a"], WriteForm::Plain, PlainValues::Accept));
    assert_eq!(replaced(&layout, &sealed_value(&[INT_1], NOW_MS)), VALUE);
}

#[test]
fn seals_legacy_keys_for_the_canonical_one() {
    let mut driver = reseal(&sealed(), ReindexMode::Write);
    let legacy = format!("{N}:{LEGACY_A}");
    scanned(&mut driver, &[&legacy]);
    driver.write();
    driver.again(stored(VALUE).to_vec());
    let command = driver.write_words().remove(0);
    assert_eq!(command[3], legacy.into_bytes());
    let canonical = key(&[ATOM_A]).redis_key();
    let redis_key = || canonical.as_bytes();
    let opened = sealed().keyring.open(redis_key, NOW_MS, command[5].clone());
    assert_eq!(opened, Ok(VALUE.to_vec()));
}

#[test]
fn leaves_values_that_are_current_gone_or_not_its_own() {
    let mut driver = reseal(&sealed(), ReindexMode::Write);
    let redis_keys = [ONE, TWO, "g2ED", "g2EE"].map(|part| format!("{N}:{part}"));
    let [first, second, third, fourth] = redis_keys.each_ref().map(String::as_str);
    scanned(&mut driver, &[first, "session:7", second, third, fourth]);
    assert_eq!(driver.write().len(), 8);
    let page = page_of(
        driver.done(
            [
                stored(sealed_value(&[INT_1], NOW_MS)),
                [Value::Nil, Value::Int(-2)],
                [error("WRONGTYPE not a string"), Value::Int(-1)],
                stored("text"),
            ]
            .concat(),
        ),
    );
    assert_eq!([page.keys, page.resealed, page.unopened], [2, 0, 0]);
}

#[test]
fn leaves_and_counts_values_that_do_not_open() {
    let refusing = keyring(&["a"], WriteForm::Sealed, PlainValues::Refuse);
    let mut driver = reseal(&layout(refusing), ReindexMode::Write);
    scanned(&mut driver, &[&format!("{N}:{ONE}"), &format!("{N}:{TWO}")]);
    driver.write();
    // One is not sealed, one was moved.
    let replies = [stored(VALUE), stored(sealed_value(&[INT_1], NOW_MS))].concat();
    let page = page_of(driver.done(replies));
    assert_eq!(
        [page.keys, page.resealed, page.unopened, page.plain],
        [2, 0, 2, 1]
    );
}

#[test]
fn counts_values_that_are_put_or_deleted_meanwhile() {
    let mut driver = reseal(&sealed(), ReindexMode::Write);
    scanned(&mut driver, &[&format!("{N}:{ONE}")]);
    driver.write();
    driver.again(stored(VALUE).to_vec());
    driver.write();
    let page = page_of(driver.done(vec![Value::Int(0)]));
    assert_eq!([page.resealed, page.changed], [1, 1]);
}

#[test]
fn a_dry_run_writes_nothing() {
    let mut driver = reseal(&sealed(), ReindexMode::DryRun);
    scanned(&mut driver, &[&format!("{N}:{ONE}")]);
    driver.write();
    let page = page_of(driver.done(stored(VALUE).to_vec()));
    assert_eq!([page.keys, page.resealed, page.plain], [1, 1, 1]);
}

#[test]
fn reads_a_page_in_batches_and_starts_over_on_another_connection() {
    let redis_keys: Vec<_> = (0..BATCH + 1)
        .map(|number| key(&[&[97, u8::try_from(number).unwrap()]]).redis_key())
        .map(|redis_key| String::from_utf8(redis_key.into_bytes()).unwrap())
        .collect();
    let redis_keys: Vec<_> = redis_keys.iter().map(String::as_str).collect();
    let mut driver = reseal(&sealed(), ReindexMode::DryRun);
    for _ in 0..2 {
        scanned(&mut driver, &redis_keys);
        assert_eq!(driver.write().len(), 2 * BATCH);
        driver.again((0..BATCH).flat_map(|_| stored(VALUE)).collect());
        driver.operation.reset();
    }
    scanned(&mut driver, &redis_keys);
    driver.again((0..BATCH).flat_map(|_| stored(VALUE)).collect());
    assert_eq!(driver.write().len(), 2);
    let page = page_of(driver.done(stored(VALUE).to_vec()));
    assert_eq!(page.keys, u64::try_from(BATCH + 1).unwrap());
    assert!(driver.operation.is_listing() && !driver.operation.is_write());
}

#[test]
fn counts_keys_that_are_too_long() {
    let mut driver = reseal(&sealed(), ReindexMode::Write);
    driver.write();
    let long = vec![ONE; 66].join(":");
    let page = page_of(driver.done(vec![page(0, &[&long])]));
    assert_eq!([page.skipped, page.keys], [1, 0]);
}
