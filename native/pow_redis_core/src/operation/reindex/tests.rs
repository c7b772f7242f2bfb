//! Tests of a reindex.

use super::super::Operation;
use super::super::testing::*;
use super::*;
use redis::Value;

fn first_page(layout: &Arc<Layout>, mode: ReindexMode) -> Driver {
    let reindex = Reindex::new(ScanPosition::default(), layout, mode);
    Driver::new(Operation::Reindex(reindex))
}

fn reindex(layout: &Arc<Layout>) -> Driver {
    first_page(layout, ReindexMode::Write)
}

fn dry_run(layout: &Arc<Layout>) -> Driver {
    first_page(layout, ReindexMode::DryRun)
}

fn page_of(outcome: Outcome) -> Page {
    match outcome {
        Outcome::Page(page) => page,
        _ => panic!("{outcome:?}"),
    }
}

/// The fields of a page: cursor, keys, indexed, renamed.
fn page_fields(outcome: Outcome) -> [u64; 4] {
    let page = page_of(outcome);
    let cursor = page.next.map_or(0, |next| next.cursor);
    [cursor, page.keys, page.indexed, page.renamed]
}

fn integers<const N: usize>(numbers: [i64; N]) -> Vec<Value> {
    numbers.map(Value::Int).to_vec()
}

/// The commands that add `[a, 1]` to the index.
fn index_of_a_1() -> [String; 6] {
    [
        format!("ZADD _index:{N} GT 1060000 {A}:{ONE}"),
        format!("PEXPIRE _index:{N} 120000 NX"),
        format!("PEXPIRE _index:{N} 120000 GT"),
        format!("ZADD _index:{N}:{A} GT 1060000 {ONE}"),
        format!("PEXPIRE _index:{N}:{A} 120000 NX"),
        format!("PEXPIRE _index:{N}:{A} 120000 GT"),
    ]
}

/// The commands that rename the legacy key `[a, 1]`.
fn rename_of_a_1() -> [String; 3] {
    [
        format!("RENAMENX {N}:{LEGACY_A}:{ONE} {N}:{A}:{ONE}"),
        format!("ZREM _index:{N} {LEGACY_A}:{ONE}"),
        format!("ZREM _index:{N}:{LEGACY_A} {ONE}"),
    ]
}

#[test]
fn adds_missing_index_entries() {
    let mut driver = reindex(&every_prefix());
    assert_eq!(driver.write(), ["SCAN 0 COUNT 512 TYPE string"]);
    let (first, second) = (format!("{N}:{ONE}"), format!("{N}:{TWO}"));
    driver.again(vec![page(17, &[&first, "session:7", &second, ""])]);

    assert_eq!(
        driver.write(),
        [format!("PTTL {first}"), format!("PTTL {second}")]
    );
    driver.again(integers([60_000, -1]));

    let commands = [
        format!("ZADD _index:{N} GT 1060000 {ONE}"),
        format!("PEXPIRE _index:{N} 120000 NX"),
        format!("PEXPIRE _index:{N} 120000 GT"),
        format!("ZADD _index:{N} GT +inf {TWO}"),
        format!("PEXPIRE _index:{N} 10000000000000000 NX"),
        format!("PEXPIRE _index:{N} 10000000000000000 GT"),
    ];
    assert_eq!(driver.write(), commands);
    assert_eq!(driver.write(), commands, "written again");
    // The second one already was in the index.
    let outcome = driver.done(integers([1, 1, 0, 0, 0, 0]));
    assert_eq!(page_fields(outcome), [17, 2, 1, 0]);
}

#[test]
fn renames_legacy_keys() {
    let mut driver = reindex(&every_prefix());
    let legacy = format!("{N}:{LEGACY_A}:{ONE}");
    driver.again(vec![page(0, &[&legacy])]);
    assert_eq!(driver.write(), [format!("PTTL {legacy}")]);
    driver.again(integers([60_000]));
    let commands = [&index_of_a_1()[..], &rename_of_a_1()].concat();
    assert_eq!(driver.write(), commands);
    let outcome = driver.done(integers([1, 1, 0, 1, 1, 0, 1, 1, 1]));
    assert_eq!(page_fields(outcome), [0, 1, 1, 1]);
}

#[test]
fn deletes_the_legacy_key_if_both_exist() {
    let mut driver = reindex(&every_prefix());
    let legacy = format!("{N}:{LEGACY_A}:{ONE}");
    driver.again(vec![page(0, &[&legacy])]);
    driver.again(integers([60_000]));
    driver.again(integers([0, 0, 0, 0, 0, 0, 0, 1, 1]));
    assert_eq!(driver.write(), [format!("DEL {legacy}")]);
    assert_eq!(page_fields(driver.done(integers([1]))), [0, 1, 0, 1]);
}

#[test]
fn only_renames_in_the_plain_layout() {
    let mut driver = reindex(&no_index());
    let legacy = format!("{N}:{LEGACY_A}:{ONE}");
    driver.again(vec![page(0, &[&format!("{N}:{ONE}"), &legacy])]);
    driver.again(integers([60_000, 60_000]));
    assert_eq!(driver.write(), rename_of_a_1());
    assert_eq!(page_fields(driver.done(integers([1, 0, 0]))), [0, 2, 0, 1]);
}

#[test]
fn a_dry_run_counts_and_writes_nothing() {
    let mut driver = dry_run(&every_prefix());
    let legacy = format!("{N}:{LEGACY_A}:{ONE}");
    let (indexed, gone) = (format!("{N}:{ONE}"), format!("{N}:{TWO}"));
    driver.again(vec![page(17, &[&legacy, &indexed, &gone])]);
    assert_eq!(
        driver.write(),
        [&legacy, &indexed, &gone].map(|redis_key| format!("PTTL {redis_key}"))
    );
    driver.again(integers([60_000, -1, -2]));
    let commands = [
        format!("ZSCORE _index:{N} {A}:{ONE}"),
        format!("ZSCORE _index:{N}:{A} {ONE}"),
        format!("ZSCORE _index:{N} {ONE}"),
    ];
    assert_eq!(driver.write(), commands);
    assert_eq!(driver.write(), commands, "written again");
    // A key that is missing from one of its two sets counts.
    let outcome = driver.done(vec![bulk("5"), Value::Nil, bulk("inf")]);
    assert_eq!(page_fields(outcome), [17, 2, 1, 1]);
}

#[test]
fn a_dry_run_of_the_plain_layout_counts_only_renames() {
    let mut driver = dry_run(&no_index());
    let legacy = format!("{N}:{LEGACY_A}:{ONE}");
    driver.again(vec![page(0, &[&format!("{N}:{ONE}"), &legacy])]);
    driver.again(integers([60_000, 60_000]));
    assert!(driver.write().is_empty());
    assert_eq!(page_fields(driver.done(Vec::new())), [0, 2, 0, 1]);
}

#[test]
fn a_dry_run_starts_over_as_a_dry_run() {
    let mut driver = dry_run(&every_prefix());
    driver.again(vec![page(5, &[&format!("{N}:{ONE}")])]);
    driver.operation.reset();
    driver.again(vec![page(5, &[&format!("{N}:{ONE}")])]);
    driver.again(integers([60_000]));
    assert_eq!(driver.write(), [format!("ZSCORE _index:{N} {ONE}")]);
    let message = driver.fails_with(vec![error("NOPERM no permission")]);
    assert_eq!(message, "redis returned NOPERM");
}

#[test]
fn ignores_keys_that_expire_meanwhile() {
    let mut driver = reindex(&every_prefix());
    let legacy = format!("{N}:{LEGACY_A}:{ONE}");
    driver.again(vec![page(5, &[&legacy])]);
    assert_eq!(page_fields(driver.done(integers([-2]))), [5, 0, 0, 0]);

    let mut driver = reindex(&every_prefix());
    driver.again(vec![page(5, &[&legacy])]);
    driver.again(integers([60_000]));
    let mut replies = integers([1, 1, 0, 1, 1, 0, 0, 1, 1]);
    replies[6] = error("ERR no such key");
    assert_eq!(page_fields(driver.done(replies)), [5, 1, 1, 0]);
}

#[test]
fn ignores_other_redis_keys() {
    let outcome = reindex(&every_prefix()).done(vec![page(9, &["session:7", "_index:x"])]);
    assert_eq!(page_fields(outcome), [9, 0, 0, 0]);
}

#[test]
fn starts_its_page_over_on_another_connection() {
    let position = ScanPosition {
        node: None,
        cursor: 40,
    };
    let reindex = Reindex::new(position, &every_prefix(), ReindexMode::Write);
    let mut driver = Driver::new(Operation::Reindex(reindex));
    let first = driver.write();
    assert_eq!(first, ["SCAN 40 COUNT 512 TYPE string"]);
    driver.again(vec![page(41, &[&format!("{N}:{ONE}")])]);
    driver.again(integers([60_000]));
    driver.operation.reset();
    assert_eq!(driver.write(), first);
    assert_eq!(page_fields(driver.done(vec![page(0, &[])])), [0, 0, 0, 0]);
}

#[test]
fn fails_on_an_error_reply_at_each_stage() {
    let out_of_memory = || error("OOM command not allowed");
    let mut driver = reindex(&every_prefix());
    assert_eq!(
        driver.fails_with(vec![out_of_memory()]),
        "redis returned OOM"
    );
    let legacy = format!("{N}:{LEGACY_A}:{ONE}");
    driver.again(vec![page(0, &[&legacy])]);
    assert_eq!(
        driver.fails_with(vec![out_of_memory()]),
        "redis returned OOM"
    );

    for position in 0..9 {
        let mut driver = reindex(&every_prefix());
        driver.again(vec![page(0, &[&legacy])]);
        driver.again(integers([60_000]));
        let mut replies = integers([1; 9]);
        replies[position] = out_of_memory();
        assert_eq!(driver.fails_with(replies), "redis returned OOM");
    }
}

/// `[1, 1, …]` as a Redis key, with this many parts after the namespace.
fn long_redis_key(parts: usize) -> String {
    let ones = vec![ONE; parts].join(":");
    format!("{N}:{ones}")
}

#[test]
fn skips_and_counts_redis_keys_that_are_too_long() {
    let (longest, too_long) = (long_redis_key(64), long_redis_key(65));
    let huge = "A".repeat(16_385);
    let mut driver = dry_run(&no_index());
    driver.again(vec![page(0, &[&too_long, &longest, &huge])]);
    assert_eq!(driver.write(), [format!("PTTL {longest}")]);
    driver.again(integers([-1]));
    let page = page_of(driver.done(vec![]));
    assert_eq!((page.keys, page.skipped), (1, 2));
}

/// The index entries of a long key take many times its bytes.
#[test]
fn a_round_has_a_limited_number_of_long_keys() {
    const PART_LEN: usize = 240;
    const KEYS: usize = 8;
    let part = "g20AAACu".to_owned() + &"A".repeat(PART_LEN - 8);
    let redis_keys: Vec<_> = (0..KEYS)
        .map(|number| {
            let parts = vec![part.as_str(); 63].join(":");
            format!(
                "{N}:{parts}:g2E{}",
                ["A", "B", "C", "D", "E", "F", "G", "H"][number]
            )
        })
        .collect();
    let items: Vec<_> = redis_keys.iter().map(String::as_str).collect();
    for mode in [ReindexMode::Write, ReindexMode::DryRun] {
        let mut driver = first_page(&every_prefix(), mode);
        driver.again(vec![page(0, &items)]);
        driver.again(integers([-1; KEYS]));
        let mut rounds = Vec::new();
        let outcome = loop {
            let commands = driver.write();
            rounds.push(commands.len());
            let bytes: usize = commands.iter().map(String::len).sum();
            assert!(bytes < 8 * BATCH_BYTES, "{bytes}");
            let replies = commands.iter().map(|command| match mode {
                ReindexMode::Write if command.starts_with("ZADD") => Value::Int(1),
                ReindexMode::Write => Value::Int(1),
                ReindexMode::DryRun => Value::Nil,
            });
            match driver.read(replies.collect()).unwrap() {
                Step::Again => {}
                Step::Done(outcome) => break outcome,
            }
        };
        let commands = match mode {
            ReindexMode::Write => 64 * 3,
            ReindexMode::DryRun => 64,
        };
        assert_eq!(
            rounds,
            [2; KEYS / 2].map(|keys| keys * commands),
            "{mode:?}"
        );
        let keys = u64::try_from(KEYS).unwrap();
        assert_eq!(page_fields(outcome), [0, keys, keys, 0]);
    }
}
