//! The scan of a database.

use std::collections::VecDeque;

use super::KeyspaceStats;
use super::index_set::{ScannedIndexSet, none_if_wrong_type, read_pttl, write_pttl};
use crate::error::Error;
use crate::keyspace::key::Key;
use crate::keyspace::layout::Layout;
use crate::keyspace::redis_key::{RedisKey, is_too_long};
use crate::resp::commands::Commands;
use crate::resp::replies::Replies;

/// The `COUNT` of `SCAN` and `ZSCAN`: low enough to hardly delay other clients.
const SCAN_COUNT: u32 = 256;
/// How many index sets a round scans.
const MAX_SETS: usize = 32;
/// After how many bytes of index entries a round has no more keys.
const BATCH_BYTES: usize = 1 << 20;
/// How many namespaces are counted. Keys of others are ignored.
const MAX_NAMESPACES: usize = 1_000;

/// The scan of a database, page by page.
///
/// Like an operation, it takes rounds: [`write`](Self::write) appends commands, and [`read`](Self::read)
/// reads exactly their replies.
#[derive(Debug)]
pub(super) struct KeyspaceScan<'l> {
    layout: &'l Layout,
    cursor: u64,
    stage: ScanStage,
    /// The keys of the page that have not been looked up in the index.
    keys: VecDeque<ScannedKey>,
    /// The index sets of the page that have not been scanned completely.
    sets: Vec<ScannedIndexSet>,
    stats: KeyspaceStats,
}

/// What the next round reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ScanStage {
    /// The next page.
    Page,
    /// Which keys of the page are in the index.
    Keys,
    /// The next members of the index sets.
    IndexSets,
    /// The TTLs of these members' values.
    Members,
    Done,
}

/// A key of the store.
#[derive(Debug)]
struct ScannedKey {
    redis_key: RedisKey,
    /// The names of the index sets that should list it, and its members.
    entries: Vec<(Vec<u8>, Vec<u8>)>,
    namespace: Vec<u8>,
    is_legacy: bool,
}

impl<'l> KeyspaceScan<'l> {
    pub(super) fn new(layout: &'l Layout) -> Self {
        Self {
            layout,
            cursor: 0,
            stage: ScanStage::Page,
            keys: VecDeque::new(),
            sets: Vec::new(),
            stats: KeyspaceStats::default(),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.stage == ScanStage::Done
    }

    pub(super) fn into_stats(self) -> KeyspaceStats {
        self.stats
    }

    pub(super) fn write(&self, commands: &mut Commands) {
        match self.stage {
            ScanStage::Page => commands.push_keyless("SCAN", |command| {
                command.arg(self.cursor).arg("COUNT").arg(SCAN_COUNT);
            }),
            ScanStage::Keys => {
                for key in self.keys.range(..self.batch()) {
                    for (set, member) in &key.entries {
                        commands.push("ZSCORE", set, |command| {
                            command.arg(member);
                        });
                    }
                    // Last: a key that exists then was in the index before, if it is indexed at all.
                    write_pttl(key.redis_key.as_bytes(), commands);
                }
            }
            ScanStage::IndexSets => {
                for set in self.sets.iter().take(MAX_SETS) {
                    write_pttl(&set.name, commands);
                    commands.push("ZSCAN", &set.name, |command| {
                        command.arg(set.cursor.unwrap_or(0));
                        command.arg("COUNT").arg(SCAN_COUNT);
                    });
                }
            }
            ScanStage::Members => {
                let sets = self.sets.iter().take(MAX_SETS);
                for member in sets.flat_map(|set| &set.members) {
                    write_pttl(member.redis_key.as_bytes(), commands);
                }
            }
            ScanStage::Done => {}
        }
    }

    pub(super) fn read(&mut self, mut replies: Replies, now_ms: i64) -> Result<(), Error> {
        match self.stage {
            ScanStage::Page => self.read_page(&mut replies)?,
            ScanStage::Keys => {
                for key in self.keys.drain(..self.batch()).collect::<Vec<_>>() {
                    self.read_key(key, &mut replies)?;
                }
            }
            ScanStage::IndexSets => {
                for set in self.sets.iter_mut().take(MAX_SETS) {
                    self.stats.too_long += set.read(&mut replies, now_ms)?;
                }
                self.count_complete_sets();
            }
            ScanStage::Members => {
                for set in self.sets.iter_mut().take(MAX_SETS) {
                    set.read_members(&mut self.stats, &mut replies)?;
                }
                self.count_complete_sets();
            }
            ScanStage::Done => {}
        }
        self.stage = self.next_stage();
        Ok(())
    }

    /// How many keys the next round looks up.
    fn batch(&self) -> usize {
        let mut bytes = 0;
        let lengths = self.keys.iter().map(ScannedKey::entries_len);
        lengths
            .take_while(|length| {
                let has_room = bytes < BATCH_BYTES;
                bytes += length;
                has_room
            })
            .count()
    }

    fn next_stage(&self) -> ScanStage {
        let has_members = || self.sets.iter().any(|set| !set.members.is_empty());
        match self.stage {
            ScanStage::IndexSets if has_members() => ScanStage::Members,
            ScanStage::Page | ScanStage::Keys if !self.keys.is_empty() => ScanStage::Keys,
            _ if !self.sets.is_empty() => ScanStage::IndexSets,
            _ if self.cursor == 0 => ScanStage::Done,
            _ => ScanStage::Page,
        }
    }

    fn read_page(&mut self, replies: &mut Replies) -> Result<(), Error> {
        let (cursor, names) = replies.next_page()?;
        self.cursor = cursor;
        for name in names {
            self.stats.keys += 1;
            if is_too_long(&name) {
                self.stats.too_long += 1;
            } else if self.layout.is_unused_set(&name) {
                self.stats.unused_sets += 1;
            } else if let Some(set) = ScannedIndexSet::from_name(&name) {
                self.sets.push(set);
            } else if let Some(key) = ScannedKey::from_redis_key(&name, self.layout) {
                self.keys.push_back(key);
            }
        }
        Ok(())
    }

    fn read_key(&mut self, key: ScannedKey, replies: &mut Replies) -> Result<(), Error> {
        let mut is_indexed = true;
        for _ in &key.entries {
            let score = none_if_wrong_type(replies.next_bytes())?.flatten();
            is_indexed &= score.is_some();
        }
        if read_pttl(replies)?.is_none() {
            return Ok(());
        }
        let namespaces = &mut self.stats.namespaces;
        if namespaces.len() >= MAX_NAMESPACES && !namespaces.contains_key(&key.namespace) {
            return Ok(());
        }
        let namespace = namespaces.entry(key.namespace).or_default();
        if is_indexed {
            namespace.indexed += 1;
        } else {
            namespace.plain += 1;
        }
        self.stats.legacy += u64::from(key.is_legacy);
        Ok(())
    }

    /// Counts and drops the sets that have been scanned completely.
    fn count_complete_sets(&mut self) {
        let stats = &mut self.stats;
        self.sets.retain(|set| {
            let is_complete = set.is_complete();
            if is_complete && set.ttl.is_some() {
                stats.sets += 1;
                stats.expires_early += u64::from(set.expires_early);
            }
            !is_complete
        });
    }
}

impl ScannedKey {
    /// Returns `None` for Redis keys that are not of the store.
    fn from_redis_key(redis_key: &[u8], layout: &Layout) -> Option<Self> {
        let key = Key::from_redis_key(redis_key)?;
        let is_legacy = key.redis_key().as_bytes() != redis_key;
        let redis_key = RedisKey::from_bytes(redis_key);
        let entries = layout.index.entries(&key, &redis_key);
        Some(Self {
            namespace: key.namespace()?.to_vec(),
            is_legacy,
            entries: entries
                .map(|entry| (entry.set, entry.member.to_vec()))
                .collect(),
            redis_key,
        })
    }

    fn entries_len(&self) -> usize {
        let lengths = self
            .entries
            .iter()
            .map(|(set, member)| set.len() + member.len());
        lengths.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::NamespaceStats;
    use super::*;
    use crate::keyspace::index::Index;
    use crate::keyspace::testing::*;
    use crate::resp::testing::*;
    use redis::Value;
    use std::collections::HashMap;
    use std::sync::LazyLock;

    /// The time on the server's clock.
    const NOW_MS: i64 = 1_000_000;

    /// An index set for each prefix.
    fn layout() -> &'static Layout {
        static LAYOUT: LazyLock<Layout> = LazyLock::new(|| Layout::standalone(Index::EveryPrefix));
        &LAYOUT
    }

    /// Runs a scan round by round.
    struct ScanDriver {
        scan: KeyspaceScan<'static>,
        /// The commands of the next round.
        commands: Vec<String>,
    }

    impl ScanDriver {
        fn new() -> Self {
            let scan = KeyspaceScan::new(layout());
            let commands = written(&scan);
            Self { scan, commands }
        }

        /// Checks the commands of the round, and reads their replies.
        fn round(&mut self, exchange: Vec<(String, Value)>) -> &mut Self {
            let (expected, replies): (Vec<_>, Vec<_>) = exchange.into_iter().unzip();
            assert_eq!(self.commands, expected);
            let replies = Replies::new(replies);
            self.scan.read(replies, NOW_MS).unwrap();
            self.commands = written(&self.scan);
            self
        }

        fn stats(&self) -> &KeyspaceStats {
            assert!(self.scan.is_done() && self.commands.is_empty());
            &self.scan.stats
        }
    }

    fn written(scan: &KeyspaceScan<'_>) -> Vec<String> {
        let mut commands = Commands::new();
        scan.write(&mut commands);
        lines(commands.as_bytes())
    }

    fn scan_page(cursor: u64, next: u64, names: &[&str]) -> (String, Value) {
        (format!("SCAN {cursor} COUNT 256"), page(next, names))
    }

    fn pttl(key: &str, ms: i64) -> (String, Value) {
        (format!("PTTL {key}"), Value::Int(ms))
    }

    fn zscore(set: &str, member: &str, score: Value) -> (String, Value) {
        (format!("ZSCORE {set} {member}"), score)
    }

    fn zscan(set: &str, cursor: u64, next: u64, items: &[&str]) -> (String, Value) {
        let command = format!("ZSCAN {set} {cursor} COUNT 256");
        (command, page(next, items))
    }

    fn namespace(indexed: u64, plain: u64) -> HashMap<Vec<u8>, NamespaceStats> {
        let namespace = vec![131, 109, 0, 0, 0, 1, b'n'];
        HashMap::from([(namespace, NamespaceStats { indexed, plain })])
    }

    #[test]
    fn counts_keys_in_the_index_and_others() {
        let (first, second, legacy) = (
            format!("{N}:{ONE}"),
            format!("{N}:{TWO}"),
            format!("{N}:{LEGACY_A}:{ONE}"),
        );
        let set = format!("_index:{N}");
        let mut driver = ScanDriver::new();
        // Neither key is of the store: the second is a namespace without parts.
        driver.round(vec![scan_page(0, 7, &["session:7", N])]);
        driver.round(vec![scan_page(7, 0, &[&first, &second, &legacy])]);
        driver.round(vec![
            zscore(&set, ONE, bulk("1")),
            pttl(&first, 5_000),
            zscore(&set, TWO, Value::Nil),
            pttl(&second, 5_000),
            // A key in one of its two index sets does not count as indexed.
            zscore(&set, &format!("{LEGACY_A}:{ONE}"), bulk("1")),
            zscore(&format!("{set}:{LEGACY_A}"), ONE, Value::Nil),
            pttl(&legacy, -1),
        ]);
        let expected = KeyspaceStats {
            keys: 5,
            namespaces: namespace(1, 2),
            legacy: 1,
            ..KeyspaceStats::default()
        };
        assert_eq!(driver.stats(), &expected);
    }

    #[test]
    fn ignores_keys_that_expire_meanwhile() {
        let key = format!("{N}:{ONE}");
        let mut driver = ScanDriver::new();
        driver.round(vec![scan_page(0, 0, &[&key])]);
        driver.round(vec![
            zscore(&format!("_index:{N}"), ONE, Value::Nil),
            pttl(&key, -2),
        ]);
        assert_eq!(driver.stats().namespaces, HashMap::new());
    }

    #[test]
    fn counts_members_without_a_value() {
        let set = format!("_index:{N}");
        let mut driver = ScanDriver::new();
        driver.round(vec![scan_page(0, 0, &[&set, "_index:session"])]);
        let (past, future) = (NOW_MS.to_string(), (NOW_MS + 1).to_string());
        let items = [ONE, &past, TWO, &future, A, "inf", LEGACY_A, &future];
        driver.round(vec![pttl(&set, 90_000), zscan(&set, 0, 0, &items)]);
        driver.round(vec![
            pttl(&format!("{N}:{ONE}"), -2),
            pttl(&format!("{N}:{TWO}"), -2),
            pttl(&format!("{N}:{A}"), -2),
            pttl(&format!("{N}:{LEGACY_A}"), 80_000),
        ]);
        let expected = KeyspaceStats {
            keys: 2,
            sets: 1,
            members: 4,
            expired: 1,
            stale: 2,
            ..KeyspaceStats::default()
        };
        assert_eq!(driver.stats(), &expected);
    }

    #[test]
    fn counts_a_set_that_expires_early_once() {
        let set = format!("_index:{N}");
        let mut driver = ScanDriver::new();
        driver.round(vec![scan_page(0, 0, &[&set])]);
        for (cursor, next, member, ms) in [(0, 9, ONE, 20_000), (9, 3, A, -1), (3, 0, TWO, 5_000)] {
            driver.round(vec![
                pttl(&set, 10_000),
                zscan(&set, cursor, next, &[member, "inf"]),
            ]);
            driver.round(vec![pttl(&format!("{N}:{member}"), ms)]);
        }
        assert_eq!((driver.stats().sets, driver.stats().expires_early), (1, 1));
        assert_eq!(driver.stats().members, 3);
    }

    #[test]
    fn scans_the_index_sets_of_a_page_in_batches() {
        let names: Vec<_> = (0..70)
            .map(|number| format!("_index:{}", redis_key_of(number)))
            .collect();
        let page: Vec<_> = names.iter().map(String::as_str).collect();
        let mut driver = ScanDriver::new();
        driver.round(vec![scan_page(0, 5, &page)]);
        for batch in page.chunks(MAX_SETS) {
            // They no longer exist, or have another type, and do not count.
            let replies = batch.iter().flat_map(|set| {
                let (command, _) = zscan(set, 0, 0, &[]);
                let wrong_type = (command, error("WRONGTYPE Operation against a key"));
                [pttl(set, -2), wrong_type]
            });
            driver.round(replies.collect());
        }
        driver.round(vec![scan_page(5, 0, &[])]);
        assert_eq!((driver.stats().keys, driver.stats().sets), (70, 0));
    }

    fn redis_key_of(number: u8) -> String {
        let redis_key = RedisKey::from_parts([&[131, 97, number][..]]);
        String::from_utf8(redis_key.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn skips_and_counts_keys_and_members_that_are_too_long() {
        let set = format!("_index:{N}");
        let ones = |parts| vec![ONE; parts].join(":");
        let (longest, too_long) = (ones(64), ones(65));
        let mut driver = ScanDriver::new();
        driver.round(vec![scan_page(0, 0, &[&set, &format!("{N}:{too_long}")])]);
        let items = [&longest, "inf", &too_long, "inf"];
        driver.round(vec![pttl(&set, -1), zscan(&set, 0, 0, &items)]);
        driver.round(vec![pttl(&format!("{N}:{longest}"), -1)]);
        let stats = driver.stats();
        assert_eq!((stats.keys, stats.members, stats.too_long), (2, 1, 2));
    }

    #[test]
    fn looks_up_a_limited_number_of_long_keys_at_once() {
        let part = "g20AAACu".to_owned() + &"A".repeat(232);
        let parts = vec![part.as_str(); 63].join(":");
        let keys = [ONE, TWO, A].map(|last| format!("{N}:{parts}:{last}"));
        let mut scan = KeyspaceScan::new(layout());
        let page = page(0, &[&keys[0], &keys[1], &keys[2]]);
        scan.read(Replies::new(vec![page]), NOW_MS).unwrap();
        let lookups = 64 + 1;
        for number in [2 * lookups, lookups] {
            assert_eq!(written(&scan).len(), number);
            let replies_to_one = || {
                let scores = std::iter::repeat_n(Value::Nil, lookups - 1);
                scores.chain([Value::Int(-1)])
            };
            let replies = (0..number / lookups)
                .flat_map(|_| replies_to_one())
                .collect();
            scan.read(Replies::new(replies), NOW_MS).unwrap();
        }
        assert!(scan.is_done());
        assert_eq!(scan.into_stats().namespaces, namespace(0, 3));
    }

    #[test]
    fn fails_on_an_error_reply() {
        let mut scan = KeyspaceScan::new(layout());
        let replies = Replies::new(vec![error("NOPERM no")]);
        let outcome = scan.read(replies, NOW_MS);
        assert_eq!(outcome.unwrap_err().to_string(), "redis returned NOPERM");
    }
}
