//! A page of all keys, for operations that a caller continues page by page.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::WriteContext;
use crate::error::Error;
use crate::keyspace::redis_key::is_too_long;
use crate::net::cluster_view::ClusterView;
use crate::resp::replies::Replies;

/// The `COUNT` of `SCAN`: about how many keys a page has.
const SCAN_COUNT: u32 = 512;

/// Where a scan of all keys continues.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanPosition {
    /// The id of the node; `None` on a single server, and at the start.
    pub node: Option<Vec<u8>>,
    /// The cursor of that node.
    pub cursor: u64,
}

/// A page that was scanned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The position of the next page; `None` at the end.
    pub next: Option<ScanPosition>,
    /// Which part of all keys has been scanned, from 0 to 1.
    pub fraction: f64,
    /// Changes when slots of a cluster move: a scan may then miss keys.
    pub slots: u64,
    /// The number of keys of the store on the page.
    pub keys: u64,
    /// How many of them were missing from the index.
    pub indexed: u64,
    /// How many of them were legacy keys.
    pub renamed: u64,
    /// How many Redis keys on the page are longer than those of the store, and were skipped.
    pub skipped: u64,
    /// How many index sets were not of the index.
    pub pruned: u64,
    /// How many values were in another form than they are written in today.
    pub resealed: u64,
    /// How many of these were changed meanwhile, and left as they are.
    pub changed: u64,
    /// How many values are not sealed, or were not before.
    pub plain: u64,
    /// How many values do not open.
    pub unopened: u64,
}

/// How many Redis keys are longer than those of the store.
pub(super) fn count_too_long(redis_keys: &[Vec<u8>]) -> u64 {
    let too_long = redis_keys.iter().filter(|redis_key| is_too_long(redis_key));
    u64::try_from(too_long.count()).unwrap_or(u64::MAX)
}

/// The scan of a page. The primaries of a cluster are scanned in the order of their ids.
#[derive(Debug)]
pub(super) struct PageScan {
    position: ScanPosition,
    /// The type of the keys to scan.
    kind: &'static str,
    /// The primaries; on a cluster, read before the page.
    primaries: Option<BTreeSet<Vec<u8>>>,
    slots: u64,
    next_cursor: u64,
}

impl PageScan {
    pub(super) const fn new(position: ScanPosition, kind: &'static str, is_cluster: bool) -> Self {
        Self {
            position,
            kind,
            primaries: if is_cluster {
                None
            } else {
                Some(BTreeSet::new())
            },
            slots: 0,
            next_cursor: 0,
        }
    }

    pub(super) fn write(&self, context: &mut WriteContext<'_>) {
        if self.primaries.is_none() {
            return ClusterView::write(None, context.commands);
        }
        let node = self.position.node.as_deref();
        context.commands.push_at(node, "SCAN", |command| {
            command.arg(self.position.cursor);
            command.arg("COUNT").arg(SCAN_COUNT);
            command.arg("TYPE").arg(self.kind);
        });
    }

    /// Reads the replies of a round. Returns the Redis keys of the page, in the last round.
    pub(super) fn read(&mut self, replies: &mut Replies) -> Result<Option<Vec<Vec<u8>>>, Error> {
        if self.primaries.is_some() {
            let (next_cursor, redis_keys) = replies.next_page()?;
            self.next_cursor = next_cursor;
            return Ok(Some(redis_keys));
        }
        let view = ClusterView::read(replies)?;
        let mut hasher = DefaultHasher::new();
        view.hash(&mut hasher);
        self.slots = hasher.finish();
        let primaries: BTreeSet<_> = view.primaries().map(<[u8]>::to_vec).collect();
        self.start_at_primary(&primaries);
        self.primaries = Some(primaries);
        Ok(None)
    }

    /// Starts at the first primary, or after one that is none any more.
    fn start_at_primary(&mut self, primaries: &BTreeSet<Vec<u8>>) {
        let node = self.position.node.take();
        let is_known = node.as_ref().is_some_and(|node| primaries.contains(node));
        if is_known {
            self.position.node = node;
        } else {
            let after = node.unwrap_or_default();
            self.position = ScanPosition {
                node: primaries.range(after..).next().cloned(),
                cursor: 0,
            };
        }
    }

    /// The page, without what was found on it.
    pub(super) fn page(&self) -> Page {
        let next = self.next();
        Page {
            fraction: next.as_ref().map_or(1.0, |next| self.fraction(next)),
            next,
            slots: self.slots,
            ..Page::default()
        }
    }

    fn next(&self) -> Option<ScanPosition> {
        if self.next_cursor != 0 {
            return Some(ScanPosition {
                node: self.position.node.clone(),
                cursor: self.next_cursor,
            });
        }
        let node = self.position.node.as_ref()?;
        let mut later = self
            .primaries
            .iter()
            .flatten()
            .filter(|later| *later > node);
        later.next().map(|later| ScanPosition {
            node: Some(later.clone()),
            cursor: 0,
        })
    }

    /// `SCAN` increments its cursor from the highest bit, so that the cursor stays valid while the hash table
    /// grows. Reversed, its bits are the scanned part of the table. The cursors of a cluster's nodes are made
    /// in other ways, so only complete nodes count there.
    #[expect(
        clippy::cast_precision_loss,
        clippy::as_conversions,
        reason = "a fraction is shown as a percentage"
    )]
    fn fraction(&self, next: &ScanPosition) -> f64 {
        let Some(node) = &next.node else {
            return next.cursor.reverse_bits() as f64 / u64::MAX as f64;
        };
        let primaries = || self.primaries.iter().flatten();
        let done = primaries().filter(|primary| *primary < node).count();
        done as f64 / primaries().count() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use redis::Value;

    fn position(node: &str, cursor: u64) -> ScanPosition {
        ScanPosition {
            node: Some(node.as_bytes().to_vec()),
            cursor,
        }
    }

    fn view(primaries: &[&str]) -> Value {
        let lines = primaries
            .iter()
            .map(|id| format!("{id} 127.0.0.1:1@2 master - 0 0 1 connected 0-9\n"));
        bulk(lines.collect::<String>())
    }

    fn written(scan: &PageScan) -> Vec<String> {
        commands_of(|context| scan.write(context))
    }

    /// The position of the page after the one at `position`, whose cursor the node returns, and the fraction.
    fn next(
        position: ScanPosition,
        primaries: &[&str],
        cursor: u64,
    ) -> (Option<ScanPosition>, f64) {
        let mut scan = PageScan::new(position, "string", true);
        assert_eq!(written(&scan), ["CLUSTER NODES"]);
        let mut replies = Replies::new(vec![view(primaries)]);
        assert_eq!(scan.read(&mut replies), Ok(None));
        let mut replies = Replies::new(vec![page(cursor, &["key"])]);
        assert_eq!(scan.read(&mut replies), Ok(Some(vec![b"key".to_vec()])));
        let page = scan.page();
        (page.next, page.fraction)
    }

    #[test]
    fn goes_from_primary_to_primary() {
        let primaries = ["a", "b", "c", "d"];
        let start = ScanPosition::default();
        assert_eq!(
            next(start.clone(), &primaries, 5),
            (Some(position("a", 5)), 0.0)
        );
        assert_eq!(next(start, &primaries, 0), (Some(position("b", 0)), 0.25));
        assert_eq!(
            next(position("c", 7), &primaries, 8),
            (Some(position("c", 8)), 0.5)
        );
        assert_eq!(next(position("d", 7), &primaries, 0), (None, 1.0));
        // A primary that is none any more.
        assert_eq!(
            next(position("bb", 7), &primaries, 0),
            (Some(position("d", 0)), 0.75)
        );
    }

    #[test]
    fn the_slots_are_told_apart() {
        let slots = |view: Value| {
            let mut scan = PageScan::new(ScanPosition::default(), "string", true);
            scan.read(&mut Replies::new(vec![view])).unwrap();
            scan.page().slots
        };
        assert_eq!(slots(view(&["a"])), slots(view(&["a"])));
        assert_ne!(slots(view(&["a"])), slots(view(&["b"])));
    }

    #[test]
    fn the_cursor_shows_the_progress_on_one_server() {
        for (cursor, fraction) in [(1 << 63, 0.0), (1, 0.5), (2, 0.25), (3, 0.75), (0, 1.0)] {
            let mut scan = PageScan::new(ScanPosition::default(), "zset", false);
            assert_eq!(written(&scan), ["SCAN 0 COUNT 512 TYPE zset"]);
            scan.read(&mut Replies::new(vec![page(cursor, &[])]))
                .unwrap();
            let found = scan.page().fraction;
            assert!((found - fraction).abs() < 1e-6, "{cursor}: {found}");
        }
    }
}
