//! When index sets are looked after: made to live long enough, and rid of members that expired.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use crate::keyspace::index::write_purge;
use crate::keyspace::ttl::Ttl;
use crate::resp::commands::Commands;

/// A set is looked after at most this often, in milliseconds.
const INTERVAL_MS: i64 = 1_000;
/// For how long what is deferred may wait.
const DELAY: Duration = Duration::from_millis(INTERVAL_MS.unsigned_abs());
/// How many sets are remembered.
const MAX_REMEMBERED: usize = 65_536;
/// How many sets are deferred something at most; others are looked after at once.
const MAX_DEFERRED: usize = 256;

/// Which index sets were looked after, and which are deferred it.
///
/// Each put looks after the sets it adds to. Where many puts share a set, this happens once a second: one
/// that was looked after a moment ago, and lives long enough for the members that come, is deferred it until
/// the second is over. It may need it: emptied by somebody else, a set is made again without expiry, and
/// the module in Pow's guide shortens the lives of sets.
#[derive(Debug, Default)]
pub struct IndexMaintenance {
    done: HashMap<u64, Done>,
    /// Until when each set has to live.
    deferred: HashMap<Vec<u8>, i64>,
    due: Option<Instant>,
}

/// A set that was looked after.
#[derive(Clone, Copy, Debug)]
struct Done {
    at_ms: i64,
    /// It lives until then.
    until_ms: i64,
}

impl Done {
    /// Whether that is not longer ago, and the set lives long enough.
    const fn is_enough(self, since_ms: i64, until_ms: i64) -> bool {
        self.at_ms > since_ms && self.until_ms >= until_ms
    }
}

impl IndexMaintenance {
    /// Looks after a set to which members with this ttl were just added, or owes it.
    ///
    /// One that is met for the first time is not purged, so that a sign-in costs no command more than
    /// it needs.
    pub(crate) fn write(&mut self, set: &[u8], ttl: Ttl, now_ms: i64, commands: &mut Commands) {
        let interval_ms = match ttl {
            Ttl::Millis(ms) => ms.min(INTERVAL_MS),
            Ttl::Persistent => INTERVAL_MS,
        };
        let until_ms = ttl.expires_at_ms(now_ms);
        let known = self.done.get(&hash(set));
        if known.is_some_and(|done| done.is_enough(now_ms - interval_ms, until_ms))
            && self.deferred.len() < MAX_DEFERRED
        {
            self.defer(set, until_ms);
        } else {
            if known.is_some() {
                write_purge(set, now_ms, commands);
            }
            ttl.write_pexpire(set, commands);
            self.note(set, ttl, now_ms);
        }
    }

    fn defer(&mut self, set: &[u8], until: i64) {
        match self.deferred.get_mut(set) {
            Some(known) => *known = until.max(*known),
            None => {
                self.deferred.insert(set.to_vec(), until);
                self.due.get_or_insert_with(|| Instant::now() + DELAY);
            }
        }
    }

    fn note(&mut self, set: &[u8], ttl: Ttl, now_ms: i64) {
        if self.done.len() >= MAX_REMEMBERED {
            self.done.clear();
        }
        let done = Done {
            at_ms: now_ms,
            until_ms: ttl.set_expires_at_ms(now_ms),
        };
        self.done.insert(hash(set), done);
    }

    /// When what is deferred is due.
    pub(crate) const fn next_due(&self) -> Option<Instant> {
        self.due
    }

    /// Takes what is deferred: sets, and until when each has to live.
    pub(crate) fn take_deferred(&mut self) -> Vec<(Vec<u8>, i64)> {
        self.due = None;
        std::mem::take(&mut self.deferred).into_iter().collect()
    }

    /// Gives a set what it is deferred.
    pub(crate) fn write_deferred(
        &mut self,
        set: &[u8],
        until_ms: i64,
        now_ms: i64,
        commands: &mut Commands,
    ) {
        let ttl = Ttl::until_ms(until_ms, now_ms);
        write_purge(set, now_ms, commands);
        ttl.write_pexpire(set, commands);
        self.note(set, ttl, now_ms);
    }

    /// Nobody knows whether what was sent was done.
    pub(crate) fn forget(&mut self) {
        self.done.clear();
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

    fn write(maintenance: &mut IndexMaintenance, set: &str, ttl: Ttl, now_ms: i64) -> Vec<String> {
        let mut commands = Commands::new();
        maintenance.write(set.as_bytes(), ttl, now_ms, &mut commands);
        lines(commands.as_bytes())
    }

    fn deferred(maintenance: &mut IndexMaintenance, now_ms: i64) -> Vec<String> {
        let mut commands = Commands::new();
        for (set, until) in maintenance.take_deferred() {
            maintenance.write_deferred(&set, until, now_ms, &mut commands);
        }
        lines(commands.as_bytes())
    }

    fn ttl(set: &str, ms: i64) -> [String; 2] {
        ["NX", "GT"].map(|condition| format!("PEXPIRE {set} {ms} {condition}"))
    }

    fn purge(set: &str, until: i64) -> String {
        format!("ZREMRANGEBYSCORE {set} -inf {until}")
    }

    #[test]
    fn a_set_that_is_met_first_is_not_purged() {
        let mut maintenance = IndexMaintenance::default();
        assert_eq!(write(&mut maintenance, "s", MINUTE, 0), ttl("s", 120_000));
        let again = write(&mut maintenance, "s", MINUTE, 1_000);
        let [nx, gt] = ttl("s", 120_000);
        assert_eq!(again, [purge("s", -4_000), nx, gt]);
        assert_eq!(write(&mut maintenance, "t", MINUTE, 1_000).len(), 2);
        assert_eq!(maintenance.next_due(), None);
    }

    #[test]
    fn what_many_puts_share_is_looked_after_once_a_second() {
        let mut maintenance = IndexMaintenance::default();
        let before = Instant::now();
        write(&mut maintenance, "s", MINUTE, 0);
        for now in [0, 500, 999] {
            assert!(write(&mut maintenance, "s", MINUTE, now).is_empty());
        }
        let due = maintenance.next_due().unwrap();
        assert!(due >= before + DELAY && due <= Instant::now() + DELAY);
        // As long as the last member needs.
        let [nx, gt] = ttl("s", 119_999);
        assert_eq!(
            deferred(&mut maintenance, 1_000),
            [purge("s", -4_000), nx, gt]
        );
        assert_eq!(maintenance.next_due(), None);
        assert!(deferred(&mut maintenance, 1_000).is_empty());
        // That, too, counts.
        assert!(write(&mut maintenance, "s", MINUTE, 1_999).is_empty());
    }

    #[test]
    fn a_set_never_ends_before_a_member() {
        for (first, then) in [(MINUTE, HOUR), (HOUR, Ttl::Persistent)] {
            let mut maintenance = IndexMaintenance::default();
            write(&mut maintenance, "s", first, 0);
            assert_eq!(write(&mut maintenance, "s", then, 1).len(), 3);
            // The longest ttl is deferred, whichever comes last.
            assert!(write(&mut maintenance, "s", then, 2).is_empty());
            assert!(write(&mut maintenance, "s", first, 3).is_empty());
            let mut commands = Commands::new();
            then.write_pexpire(b"s", &mut commands);
            assert_eq!(
                deferred(&mut maintenance, 2)[1..],
                lines(commands.as_bytes())
            );
        }
    }

    #[test]
    fn members_that_hardly_live_are_purged_more_often() {
        let mut maintenance = IndexMaintenance::default();
        let short = Ttl::Millis(50);
        assert_eq!(write(&mut maintenance, "s", short, 0).len(), 2);
        assert!(write(&mut maintenance, "s", short, 49).is_empty());
        assert_eq!(write(&mut maintenance, "s", short, 50).len(), 3);
        // What is over by the time it is given.
        let [nx, gt] = ttl("s", 60_000);
        assert_eq!(deferred(&mut maintenance, 5_000), [purge("s", 0), nx, gt]);
    }

    #[test]
    fn nothing_is_owed_on_the_word_of_what_may_be_lost() {
        let mut maintenance = IndexMaintenance::default();
        write(&mut maintenance, "s", MINUTE, 0);
        write(&mut maintenance, "s", MINUTE, 1);
        maintenance.forget();
        assert_eq!(write(&mut maintenance, "s", MINUTE, 2).len(), 2);
        assert_eq!(deferred(&mut maintenance, 2).len(), 3);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut maintenance = IndexMaintenance::default();
        for number in 0..70_000 {
            let set = number.to_string();
            write(&mut maintenance, &set, MINUTE, 0);
            write(&mut maintenance, &set, MINUTE, 0);
        }
        assert!(maintenance.done.len() <= MAX_REMEMBERED);
        assert_eq!(maintenance.deferred.len(), MAX_DEFERRED);
        assert_eq!(write(&mut maintenance, "69999", MINUTE, 0).len(), 3);
    }
}
