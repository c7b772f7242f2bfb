//! Scanning all keys: those of one server, or of each primary of a cluster.

use std::collections::BTreeSet;

use super::WriteContext;
use crate::error::{Error, ErrorKind};
use crate::net::cluster_view::ClusterView;
use crate::resp::commands::Commands;
use crate::resp::replies::Replies;

/// The `COUNT` of `SCAN`: low enough to hardly delay other operations in the pipeline.
const SCAN_COUNT: u64 = 512;

/// A scan of all Redis keys that match a glob, page by page.
///
/// On a cluster, slots may move meanwhile. A key that moves from a node that has not been scanned to one
/// that has is found by a second pass, which begins when the first has ended. One pass suffices if the nodes
/// report the same slots before and after it, and none on the move. A pass during which the set of
/// primaries changed is followed by another.
#[derive(Debug)]
pub(super) struct KeyspaceScan {
    glob: Vec<u8>,
    stage: ScanStage,
    passes: u32,
    /// The primaries as each reported them before the pass.
    views: Vec<ClusterView>,
    pages: Vec<NodePage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ScanStage {
    /// Reads which primaries there are.
    Primaries,
    /// Reads the slots that each primary reports, before a pass.
    Views,
    /// Reads the next page of each node.
    Pages,
    /// Reads the slots that each primary reports, after a pass.
    Check,
    Done,
}

/// The position of the scan at a node.
#[derive(Debug)]
struct NodePage {
    /// The node's id; `None` for the only server.
    node: Option<Vec<u8>>,
    /// The cursor of the next page; `None` at the end.
    cursor: Option<u64>,
}

impl KeyspaceScan {
    /// A scan from the start.
    pub(super) fn new(glob: Vec<u8>, is_cluster: bool) -> Self {
        let (stage, pages) = if is_cluster {
            (ScanStage::Primaries, Vec::new())
        } else {
            (ScanStage::Pages, vec![NodePage::new(None)])
        };
        Self {
            glob,
            stage,
            passes: 0,
            views: Vec::new(),
            pages,
        }
    }

    /// Whether there is another round.
    pub(super) fn has_more(&self) -> bool {
        self.stage != ScanStage::Done
    }

    /// Whether there is another page after the first.
    pub(super) fn is_continuing(&self) -> bool {
        let mut pages = self.pages.iter();
        pages.any(|page| page.cursor.is_some_and(|cursor| cursor > 0))
    }

    /// Appends the commands of the next round.
    pub(super) fn write(&self, context: &mut WriteContext<'_>) {
        let commands = &mut *context.commands;
        match self.stage {
            ScanStage::Primaries => ClusterView::write(None, commands),
            ScanStage::Views | ScanStage::Check => {
                for page in &self.pages {
                    ClusterView::write(page.node.as_deref(), commands);
                }
            }
            ScanStage::Pages => {
                for page in &self.pages {
                    page.write(&self.glob, commands);
                }
            }
            ScanStage::Done => {}
        }
    }

    /// Reads the replies of a round. Returns the Redis keys of the pages.
    pub(super) fn read(&mut self, replies: &mut Replies) -> Result<Vec<Vec<u8>>, Error> {
        let mut redis_keys = Vec::new();
        match self.stage {
            ScanStage::Primaries => {
                let views = [ClusterView::read(replies)?];
                self.start_pages(&views)?;
                self.stage = ScanStage::Views;
            }
            ScanStage::Views => {
                let views = self.read_views(replies)?;
                self.start_pass(views)?;
            }
            ScanStage::Pages => {
                for page in self.pages.iter_mut().filter(|page| page.cursor.is_some()) {
                    redis_keys.extend(page.read(replies)?);
                }
                if self.pages.iter().all(|page| page.cursor.is_none()) {
                    let is_cluster = self.pages.iter().any(|page| page.node.is_some());
                    self.stage = if is_cluster {
                        ScanStage::Check
                    } else {
                        ScanStage::Done
                    };
                }
            }
            ScanStage::Check => {
                let views = self.read_views(replies)?;
                if self.is_complete(&views) {
                    self.stage = ScanStage::Done;
                } else {
                    self.start_pass(views)?;
                }
            }
            ScanStage::Done => {}
        }
        Ok(redis_keys)
    }

    fn read_views(&self, replies: &mut Replies) -> Result<Vec<ClusterView>, Error> {
        let views = self.pages.iter().map(|_| ClusterView::read(replies));
        views.collect()
    }

    fn start_pass(&mut self, views: Vec<ClusterView>) -> Result<(), Error> {
        self.start_pages(&views)?;
        self.views = views;
        self.passes += 1;
        self.stage = ScanStage::Pages;
        Ok(())
    }

    fn start_pages(&mut self, views: &[ClusterView]) -> Result<(), Error> {
        let nodes = primaries(views);
        if nodes.is_empty() {
            return Err(ErrorKind::Protocol.into());
        }
        let nodes = nodes.into_iter().map(|node| Some(node.to_vec()));
        self.pages = nodes.map(NodePage::new).collect();
        Ok(())
    }

    /// Whether the pass that has ended was the last, given what the nodes report now.
    fn is_complete(&self, views: &[ClusterView]) -> bool {
        if self.passes == 1 {
            self.views == views && !views.iter().any(ClusterView::is_moving)
        } else {
            primaries(&self.views) == primaries(views)
        }
    }
}

fn primaries(views: &[ClusterView]) -> BTreeSet<&[u8]> {
    views.iter().flat_map(ClusterView::primaries).collect()
}

impl NodePage {
    const fn new(node: Option<Vec<u8>>) -> Self {
        Self {
            node,
            cursor: Some(0),
        }
    }

    fn write(&self, glob: &[u8], commands: &mut Commands) {
        if let Some(cursor) = self.cursor {
            commands.push_at(self.node.as_deref(), "SCAN", |command| {
                command.arg(cursor).arg("MATCH").arg(glob);
                command.arg("COUNT").arg(SCAN_COUNT);
                command.arg("TYPE").arg("string");
            });
        }
    }

    fn read(&mut self, replies: &mut Replies) -> Result<Vec<Vec<u8>>, Error> {
        let (cursor, redis_keys) = replies.next_page()?;
        self.cursor = (cursor != 0).then_some(cursor);
        Ok(redis_keys)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use redis::Value;

    /// What a node reports: primaries, each with its slots.
    fn view(primaries: &[(&str, &str)]) -> Value {
        let lines = primaries
            .iter()
            .map(|(id, slots)| format!("{id} 127.0.0.1:1@2 master - 0 0 1 connected {slots}\n"));
        bulk(lines.collect::<String>())
    }

    const SETTLED: [(&str, &str); 2] = [("a", "0-9"), ("b", "10-19")];
    const MOVING: [(&str, &str); 2] = [("a", "0-9 [5->-b]"), ("b", "10-19")];
    const MOVED: [(&str, &str); 2] = [("a", "0-4 6-9"), ("b", "5 10-19")];
    const REPLACED: [(&str, &str); 2] = [("a", "0-9"), ("c", "10-19")];

    fn written(scan: &KeyspaceScan) -> Vec<String> {
        commands_of(|context| scan.write(context))
    }

    fn read(scan: &mut KeyspaceScan, replies: Vec<Value>) -> Vec<Vec<u8>> {
        scan.read(&mut Replies::new(replies)).unwrap()
    }

    fn page_at(cursor: u64) -> String {
        format!("SCAN {cursor} MATCH n:* COUNT 512 TYPE string")
    }

    /// A cluster's scan before its first pass.
    fn on_cluster(primaries: &[(&str, &str)]) -> KeyspaceScan {
        let mut scan = KeyspaceScan::new(b"n:*".to_vec(), true);
        assert_eq!(written(&scan), ["CLUSTER NODES"]);
        read(&mut scan, vec![view(primaries)]);
        assert_eq!(written(&scan), ["CLUSTER NODES"; 2]);
        scan
    }

    /// Runs a pass of one page a node, then checks it. Both nodes report the same.
    fn pass(scan: &mut KeyspaceScan, after: &[(&str, &str)]) {
        assert_eq!(written(scan), [page_at(0), page_at(0)]);
        read(scan, vec![page(0, &[]), page(0, &[])]);
        assert_eq!(written(scan), ["CLUSTER NODES"; 2]);
        read(scan, vec![view(after), view(after)]);
    }

    #[test]
    fn scans_one_server_without_asking_for_nodes() {
        let mut scan = KeyspaceScan::new(b"n:*".to_vec(), false);
        assert_eq!(written(&scan), [page_at(0)]);
        assert!(scan.has_more() && !scan.is_continuing());
        assert_eq!(read(&mut scan, vec![page(7, &["n:1"])]), [b"n:1"]);
        assert!(scan.is_continuing());
        assert_eq!(written(&scan), [page_at(7)]);
        assert_eq!(read(&mut scan, vec![page(0, &["n:2"])]), [b"n:2"]);
        assert!(!scan.has_more() && written(&scan).is_empty());
    }

    #[test]
    fn scans_the_primaries_side_by_side() {
        let mut scan = on_cluster(&SETTLED);
        read(&mut scan, vec![view(&SETTLED), view(&SETTLED)]);
        assert_eq!(written(&scan), [page_at(0), page_at(0)]);
        let keys = read(&mut scan, vec![page(3, &["n:1"]), page(0, &["n:2"])]);
        assert_eq!(keys, [b"n:1", b"n:2"]);
        assert_eq!(written(&scan), [page_at(3)], "of the first node");
        read(&mut scan, vec![page(0, &[])]);
        assert_eq!(written(&scan), ["CLUSTER NODES"; 2]);
        read(&mut scan, vec![view(&SETTLED), view(&SETTLED)]);
        assert!(!scan.has_more());
    }

    #[test]
    fn a_second_pass_follows_if_slots_move() {
        for (before, after, passes) in [
            (SETTLED, SETTLED, 1),
            (MOVING, MOVING, 2),
            (SETTLED, MOVING, 2),
            (SETTLED, MOVED, 2),
            (MOVING, MOVED, 2),
        ] {
            let mut scan = on_cluster(&before);
            read(&mut scan, vec![view(&before), view(&before)]);
            for number in 1..=passes {
                assert!(scan.has_more(), "{before:?} {after:?} {number}");
                pass(&mut scan, &after);
            }
            assert!(!scan.has_more(), "{before:?} {after:?}");
        }
    }

    #[test]
    fn another_pass_follows_if_a_primary_was_replaced() {
        let mut scan = on_cluster(&SETTLED);
        read(&mut scan, vec![view(&SETTLED), view(&SETTLED)]);
        pass(&mut scan, &MOVED);
        pass(&mut scan, &REPLACED);
        pass(&mut scan, &REPLACED);
        assert!(!scan.has_more());
    }

    #[test]
    fn a_cluster_without_primaries_is_an_error() {
        let mut scan = KeyspaceScan::new(b"n:*".to_vec(), true);
        assert!(scan.read(&mut Replies::new(vec![view(&[])])).is_err());
    }
}
