//! Scanning an index set.

use std::time::Duration;

use super::WriteContext;
use crate::error::Error;
use crate::keyspace::pattern::Pattern;
use crate::keyspace::redis_key::{RedisKey, part_count};
use crate::resp::replies::Replies;

/// The least and the greatest `COUNT` of `ZSCAN`.
const MIN_ZSCAN_COUNT: u64 = 64;
const MAX_ZSCAN_COUNT: u64 = 512;
/// How long Redis takes for a member and its value, in microseconds.
const MEMBER_US: u64 = 2;

/// The `COUNT` of `ZSCAN`: as many members as Redis handles within one round-trip time. Other operations
/// are hardly delayed, and the scan does not spend most of its time on the network.
fn zscan_count(round_trip: Duration) -> u64 {
    let round_trip_us = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
    (round_trip_us / MEMBER_US).clamp(MIN_ZSCAN_COUNT, MAX_ZSCAN_COUNT)
}

/// A scan of an index set, page by page.
#[derive(Debug)]
pub(super) struct IndexScan {
    /// The parts that name the set.
    prefix: RedisKey,
    /// The cursor of the next page; `None` at the end.
    cursor: Option<u64>,
}

impl IndexScan {
    /// A scan of the set of a prefix, from the start.
    pub(super) const fn new(prefix: RedisKey) -> Self {
        Self {
            prefix,
            cursor: Some(0),
        }
    }

    /// Whether there is another page.
    pub(super) const fn has_more(&self) -> bool {
        self.cursor.is_some()
    }

    /// Whether there is another page after the first.
    pub(super) fn is_continuing(&self) -> bool {
        self.cursor.is_some_and(|cursor| cursor > 0)
    }

    /// Appends the command that reads the next page.
    pub(super) fn write(&self, context: &mut WriteContext<'_>) {
        if let Some(cursor) = self.cursor {
            let count = zscan_count(context.round_trip);
            let set = self.prefix.index_set();
            context.commands.push("ZSCAN", &set, |command| {
                command.arg(cursor).arg("COUNT").arg(count);
            });
        }
    }

    /// Reads a page. Returns the Redis keys of the members that have as many parts as `pattern`.
    pub(super) fn read(
        &mut self,
        replies: &mut Replies,
        pattern: &Pattern,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let (cursor, items) = replies.next_page()?;
        self.cursor = (cursor != 0).then_some(cursor);
        let prefix_parts = part_count(self.prefix.as_bytes());
        // Members and scores take turns.
        let members = items.iter().step_by(2);
        Ok(members
            .filter(|member| pattern.accepts_part_count(prefix_parts + part_count(member)))
            .map(|member| self.prefix.join(member).into_bytes())
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_takes_redis_as_long_as_a_round_trip() {
        for (micros, count) in [
            (0, MIN_ZSCAN_COUNT),
            (2 * MIN_ZSCAN_COUNT + 2, MIN_ZSCAN_COUNT + 1),
            (2 * MAX_ZSCAN_COUNT - 2, MAX_ZSCAN_COUNT - 1),
            (u64::MAX, MAX_ZSCAN_COUNT),
        ] {
            assert_eq!(zscan_count(Duration::from_micros(micros)), count);
        }
    }
}
