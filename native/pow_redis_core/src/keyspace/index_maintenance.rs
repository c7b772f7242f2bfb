//! Maintenance of index sets: extending their TTL and purging expired members.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use super::index::write_purge;
use super::ttl::Ttl;
use crate::resp::commands::Commands;

/// A set that many puts share is maintained once in this time, in milliseconds.
const INTERVAL_MS: i64 = 1_000;
/// How long maintenance is deferred.
const DELAY: Duration = Duration::from_millis(INTERVAL_MS.unsigned_abs());
/// How many sets are remembered as maintained.
const MAX_REMEMBERED: usize = 65_536;
/// For how many sets maintenance is deferred. Beyond that, it is not.
const MAX_DEFERRED: usize = 256;

/// Decides when index sets are maintained.
///
/// Each put maintains the sets that it adds to. If many puts share a set, this happens once a second: for a
/// set that was maintained within the last second, and lives long enough for its new members, maintenance
/// is deferred until the second is over. It is not dropped: a set that another client emptied has no TTL
/// when it is created again, and Pow's example backend shortens the TTL of sets.
#[derive(Debug, Default)]
pub struct IndexMaintenance {
    /// The last maintenance of sets, by the hash of their names.
    last: HashMap<u64, Maintenance>,
    /// The sets whose maintenance is deferred, and the longest TTL of the members added meanwhile.
    deferred: HashMap<Vec<u8>, Ttl>,
    due: Option<Instant>,
}

/// The maintenance of a set.
#[derive(Clone, Copy, Debug)]
struct Maintenance {
    at_ms: i64,
    /// When the set expires.
    expires_at_ms: i64,
}

/// An index set whose maintenance was deferred.
#[derive(Debug)]
pub(crate) struct DeferredSet {
    pub(crate) name: Vec<u8>,
    /// The longest TTL of the members added meanwhile. No clock is involved: one that jumps must not shorten
    /// the life of the set.
    pub(crate) ttl: Ttl,
}

impl Maintenance {
    /// Whether it was within the last `interval_ms`, and the set lives long enough. A clock that was set back
    /// is before it.
    const fn suffices(self, now_ms: i64, interval_ms: i64, live_until_ms: i64) -> bool {
        let age_ms = now_ms.saturating_sub(self.at_ms);
        age_ms >= 0 && age_ms < interval_ms && self.expires_at_ms >= live_until_ms
    }
}

impl IndexMaintenance {
    /// Maintains a set to which members with this TTL were just added, or defers it.
    ///
    /// A set is not purged the first time, so that a sign-in sends no more commands than necessary.
    pub(crate) fn maintain_or_defer(
        &mut self,
        set: &[u8],
        ttl: Ttl,
        now_ms: i64,
        commands: &mut Commands,
    ) {
        let interval_ms = match ttl {
            Ttl::Millis(ms) => ms.min(INTERVAL_MS),
            Ttl::Persistent => INTERVAL_MS,
        };
        let live_until_ms = ttl.expires_at_ms(now_ms);
        let last = self.last.get(&hash(set));
        if last.is_some_and(|last| last.suffices(now_ms, interval_ms, live_until_ms))
            && self.deferred.len() < MAX_DEFERRED
        {
            self.defer(set, ttl);
        } else {
            if last.is_some() {
                write_purge(set, ttl, now_ms, commands);
            }
            ttl.write_pexpire(set, commands);
            self.record(set, ttl, now_ms);
        }
    }

    fn defer(&mut self, set: &[u8], ttl: Ttl) {
        match self.deferred.get_mut(set) {
            Some(known) => *known = ttl.max(*known),
            None => {
                self.deferred.insert(set.to_vec(), ttl);
                self.due.get_or_insert_with(|| Instant::now() + DELAY);
            }
        }
    }

    fn record(&mut self, set: &[u8], ttl: Ttl, now_ms: i64) {
        if self.last.len() >= MAX_REMEMBERED {
            self.last.clear();
        }
        let maintenance = Maintenance {
            at_ms: now_ms,
            expires_at_ms: ttl.set_expires_at_ms(now_ms),
        };
        self.last.insert(hash(set), maintenance);
    }

    /// When deferred maintenance is due.
    pub(crate) const fn next_due(&self) -> Option<Instant> {
        self.due
    }

    /// Takes the sets whose maintenance was deferred.
    pub(crate) fn take_deferred(&mut self) -> Vec<DeferredSet> {
        self.due = None;
        std::mem::take(&mut self.deferred)
            .into_iter()
            .map(|(name, ttl)| DeferredSet { name, ttl })
            .collect()
    }

    /// Maintains a set whose maintenance was deferred.
    pub(crate) fn maintain(&mut self, set: &DeferredSet, now_ms: i64, commands: &mut Commands) {
        write_purge(&set.name, set.ttl, now_ms, commands);
        set.ttl.write_pexpire(&set.name, commands);
        self.record(&set.name, set.ttl, now_ms);
    }

    /// Forgets which sets were maintained: after a failure, the server may not have run the commands.
    pub(crate) fn forget(&mut self) {
        self.last.clear();
    }
}

fn hash(set: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    set.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::testing::lines;

    const MINUTE: Ttl = Ttl::Millis(60_000);
    const HOUR: Ttl = Ttl::Millis(3_600_000);
    const DAY_MS: i64 = 86_400_000;

    fn add_member(
        maintenance: &mut IndexMaintenance,
        set: &str,
        ttl: Ttl,
        now_ms: i64,
    ) -> Vec<String> {
        let mut commands = Commands::new();
        maintenance.maintain_or_defer(set.as_bytes(), ttl, now_ms, &mut commands);
        lines(commands.as_bytes())
    }

    fn run_deferred(maintenance: &mut IndexMaintenance, now_ms: i64) -> Vec<String> {
        let mut commands = Commands::new();
        for set in maintenance.take_deferred() {
            maintenance.maintain(&set, now_ms, &mut commands);
        }
        lines(commands.as_bytes())
    }

    fn pexpire(set: &str, ms: i64) -> [String; 2] {
        ["NX", "GT"].map(|condition| format!("PEXPIRE {set} {ms} {condition}"))
    }

    fn purge(set: &str, until_ms: i64) -> String {
        format!("ZREMRANGEBYSCORE {set} -inf {until_ms}")
    }

    #[test]
    fn does_not_purge_a_set_the_first_time() {
        let mut maintenance = IndexMaintenance::default();
        assert_eq!(
            add_member(&mut maintenance, "s", MINUTE, 0),
            pexpire("s", 120_000)
        );
        let again = add_member(&mut maintenance, "s", MINUTE, 1_000);
        let [nx, gt] = pexpire("s", 120_000);
        assert_eq!(again, [purge("s", 1_000 - DAY_MS), nx, gt]);
        assert_eq!(add_member(&mut maintenance, "t", MINUTE, 1_000).len(), 2);
        assert_eq!(maintenance.next_due(), None);
    }

    #[test]
    fn maintains_a_shared_set_once_a_second() {
        let mut maintenance = IndexMaintenance::default();
        let before = Instant::now();
        add_member(&mut maintenance, "s", MINUTE, 0);
        for now in [0, 500, 999] {
            assert!(add_member(&mut maintenance, "s", MINUTE, now).is_empty());
        }
        let due = maintenance.next_due().unwrap();
        assert!(due >= before + DELAY && due <= Instant::now() + DELAY);
        // Long enough for the last member.
        let [nx, gt] = pexpire("s", 120_000);
        assert_eq!(
            run_deferred(&mut maintenance, 1_000),
            [purge("s", 1_000 - DAY_MS), nx, gt]
        );
        assert_eq!(maintenance.next_due(), None);
        assert!(run_deferred(&mut maintenance, 1_000).is_empty());
        // Deferred maintenance counts as well.
        assert!(add_member(&mut maintenance, "s", MINUTE, 1_999).is_empty());
    }

    #[test]
    fn a_set_never_expires_before_a_member() {
        for (first, second) in [(MINUTE, HOUR), (HOUR, Ttl::Persistent)] {
            let mut maintenance = IndexMaintenance::default();
            add_member(&mut maintenance, "s", first, 0);
            assert_eq!(add_member(&mut maintenance, "s", second, 1).len(), 3);
            // The longest TTL wins, in any order.
            assert!(add_member(&mut maintenance, "s", second, 2).is_empty());
            assert!(add_member(&mut maintenance, "s", first, 3).is_empty());
            let mut commands = Commands::new();
            second.write_pexpire(b"s", &mut commands);
            assert_eq!(
                run_deferred(&mut maintenance, 2)[1..],
                lines(commands.as_bytes())
            );
        }
    }

    #[test]
    fn purges_short_lived_members_more_often() {
        let mut maintenance = IndexMaintenance::default();
        let short = Ttl::Millis(50);
        assert_eq!(add_member(&mut maintenance, "s", short, 0).len(), 2);
        assert!(add_member(&mut maintenance, "s", short, 49).is_empty());
        assert_eq!(add_member(&mut maintenance, "s", short, 50).len(), 3);
        let [nx, gt] = pexpire("s", 60_050);
        assert_eq!(
            run_deferred(&mut maintenance, 5_000),
            [purge("s", 5_000 - DAY_MS), nx, gt]
        );
    }

    /// The clock is the server's as far as it is known: it jumps when it is read again.
    #[test]
    fn a_clock_that_jumps_does_not_shorten_the_life_of_a_set() {
        const JUMP_MS: i64 = 3_600_000;
        let [nx, gt] = pexpire("s", 120_000);
        for jump_ms in [JUMP_MS, -JUMP_MS] {
            let now_ms = 2 * JUMP_MS;
            let mut maintenance = IndexMaintenance::default();
            add_member(&mut maintenance, "s", MINUTE, now_ms);
            assert!(add_member(&mut maintenance, "s", MINUTE, now_ms).is_empty());
            // Between deferring and running it.
            let jumped_ms = now_ms + jump_ms;
            let until_ms = jumped_ms - DAY_MS;
            assert_eq!(
                run_deferred(&mut maintenance, jumped_ms),
                [purge("s", until_ms), nx.clone(), gt.clone()]
            );
            // Between maintenance and the next member.
            let again_ms = jumped_ms + jump_ms;
            assert_eq!(
                add_member(&mut maintenance, "s", MINUTE, again_ms),
                [purge("s", again_ms - DAY_MS), nx.clone(), gt.clone()]
            );
        }
    }

    #[test]
    fn defers_nothing_after_a_failure() {
        let mut maintenance = IndexMaintenance::default();
        add_member(&mut maintenance, "s", MINUTE, 0);
        add_member(&mut maintenance, "s", MINUTE, 1);
        maintenance.forget();
        assert_eq!(add_member(&mut maintenance, "s", MINUTE, 2).len(), 2);
        assert_eq!(run_deferred(&mut maintenance, 2).len(), 3);
    }

    #[test]
    fn remembers_each_set() {
        let mut maintenance = IndexMaintenance::default();
        for set in ["s", "t"] {
            assert_eq!(add_member(&mut maintenance, set, MINUTE, 0).len(), 2);
        }
        for set in ["s", "t"] {
            assert!(add_member(&mut maintenance, set, MINUTE, 1).is_empty());
        }
    }

    #[test]
    fn remembers_a_bounded_number_of_sets() {
        let mut maintenance = IndexMaintenance::default();
        let mut commands = Commands::new();
        for number in 0..70_000 {
            let set = number.to_string();
            // The second time, maintenance is deferred, unless too much is.
            for _ in 0..2 {
                maintenance.maintain_or_defer(set.as_bytes(), MINUTE, 0, &mut commands);
            }
            commands.clear();
        }
        assert!(maintenance.last.len() <= MAX_REMEMBERED);
        assert_eq!(maintenance.deferred.len(), MAX_DEFERRED);
        assert_eq!(add_member(&mut maintenance, "69999", MINUTE, 0).len(), 3);
    }
}
